//! Futures: `block_on` and `JoinHandle`s, from green threads of both kinds, OS threads, tokio and smol.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use morestack::channel::bounded;
use morestack::{JoinHandle, Runtime, RuntimeStopped, block_on, spawn, spawn_future};

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().unwrap()
}

/// Runs `f` on an OS thread, and on green threads of both kinds.
fn everywhere(f: impl Fn() + Clone + Send + 'static) {
    f();
    let rt = runtime(2);
    rt.run(f.clone());
    // SAFETY: what these tests keep of their stacks in the heap is kept by futures that are in the heap too, or by other
    // green threads whose stacks are their own.
    unsafe { rt.go(f) }.join().unwrap();
}

/// A waker that counts, and what it is polled with.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

fn count() -> (Arc<Count>, Waker) {
    let count = Arc::new(Count::default());
    (count.clone(), count.into())
}

fn poll<T>(handle: &mut JoinHandle<T>, waker: &Waker) -> Poll<Result<T, Box<dyn std::any::Any + Send>>> {
    Pin::new(handle).poll(&mut Context::from_waker(waker))
}

/// A green thread that waits until the returned function is called.
fn held<T: Send + 'static>(rt: &Runtime, value: T) -> (JoinHandle<T>, impl FnOnce() + use<T>) {
    let (release, released) = bounded::<()>(0);
    let handle = rt.spawn(move || {
        let _ = released.recv();
        value
    });
    (handle, move || drop(release))
}

#[test]
fn block_on_polls_again_when_woken_and_only_then() {
    everywhere(|| {
        let wakes = Arc::new(AtomicUsize::new(0));
        let mut polls = 0;
        block_on(poll_fn(|cx| {
            assert!(polls <= wakes.load(SeqCst), "polled for a token that is not the waker's");
            polls += 1;
            if polls == 4 {
                return Poll::Ready(());
            }
            morestack::current().unpark();
            let (waker, wakes) = (cx.waker().clone(), wakes.clone());
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(2));
                wakes.fetch_add(1, SeqCst);
                waker.wake();
            });
            Poll::Pending
        }));
    });
}

#[test]
fn a_wake_up_during_a_poll_that_parks_is_not_lost() {
    everywhere(|| {
        let mut polls = 0;
        block_on(poll_fn(|cx| {
            polls += 1;
            if polls == 2 {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            // Uses up the token that the waker has left.
            morestack::park();
            Poll::Pending
        }));
        assert_eq!(polls, 2);
    });
}

#[test]
fn block_on_nests_and_the_outer_wake_up_is_not_lost() {
    everywhere(|| {
        let mut polls = 0;
        block_on(poll_fn(|cx| {
            polls += 1;
            if polls > 1 {
                return Poll::Ready(());
            }
            let (outer, mut inner_polls) = (cx.waker().clone(), 0);
            block_on(poll_fn(|cx| {
                inner_polls += 1;
                outer.wake_by_ref();
                cx.waker().wake_by_ref();
                if inner_polls == 3 { Poll::Ready(()) } else { Poll::Pending }
            }));
            Poll::Pending
        }));
        assert!(polls > 1);
    });
}

#[test]
fn a_green_thread_that_blocks_on_a_future_leaves_its_worker_to_others() {
    let rt = runtime(1);
    rt.run(|| {
        let (send, receive) = async_channel::bounded(1);
        let waits = spawn_future(async move { receive.recv().await.unwrap() });
        let sends = spawn(move || send.try_send(7).unwrap());
        assert_eq!(waits.join().unwrap(), 7);
        sends.join().unwrap();
    });
}

#[test]
fn a_panic_of_the_future_comes_out_of_block_on() {
    everywhere(|| {
        let payload = catch_unwind(|| block_on(async { panic_any(3_u8) })).unwrap_err();
        assert_eq!(payload.downcast_ref(), Some(&3_u8));
        block_on(async {});
    });
    assert_eq!(spawn_future(async { panic_any(4_u8) }).join().unwrap_err().downcast_ref(), Some(&4_u8));
}

#[test]
fn a_waker_may_outlive_its_thread() {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keep = kept.clone();
    everywhere(move || {
        let keep = keep.clone();
        block_on(poll_fn(move |cx| {
            keep.lock().unwrap().push(cx.waker().clone());
            Poll::Ready(())
        }));
    });
    let wakers = std::mem::take(&mut *kept.lock().unwrap());
    assert_eq!(wakers.len(), 3);
    for waker in wakers {
        let same = waker.clone();
        assert!(same.will_wake(&waker));
        waker.wake();
        same.wake_by_ref();
    }
}

#[test]
fn handles_are_awaited_from_anywhere() {
    everywhere(|| {
        let rt = runtime(1);
        let handles: Vec<_> = (0..100_u64).map(|i| rt.spawn(move || i * i)).collect();
        let sum = block_on(async {
            let mut sum = 0;
            for handle in handles {
                sum += handle.await.unwrap();
            }
            sum
        });
        assert_eq!(sum, 328_350);
    });
}

#[test]
fn handles_are_awaited_from_tokio() {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    let rt = Arc::new(runtime(2));
    tokio.block_on(async {
        let tasks: Vec<_> = (0..200_u64)
            .map(|i| {
                let rt = rt.clone();
                tokio::spawn(async move {
                    let handle = rt.spawn(move || {
                        morestack::sleep(Duration::from_micros(i * 10));
                        i
                    });
                    handle.await.unwrap()
                })
            })
            .collect();
        let mut sum = 0;
        for task in tasks {
            sum += task.await.unwrap();
        }
        assert_eq!(sum, 199 * 100);
        let failed = rt.spawn(|| panic_any("no")).await;
        assert_eq!(failed.unwrap_err().downcast_ref(), Some(&"no"));
    });
}

#[test]
fn tokio_futures_are_awaited_from_green_threads() {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    let rt = runtime(1);
    rt.run(|| {
        let task = tokio.spawn(async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            5
        });
        assert_eq!(block_on(task).unwrap(), 5);
    });
}

#[test]
fn handles_are_awaited_from_smol() {
    let executor = async_executor::Executor::new();
    let rt = Arc::new(runtime(2));
    let tasks: Vec<_> = (0..200_u64)
        .map(|i| {
            let rt = rt.clone();
            executor.spawn(async move {
                rt.spawn(move || {
                    morestack::sleep(Duration::from_micros(i * 10));
                    i
                })
                .await
                .unwrap()
            })
        })
        .collect();
    futures_lite::future::block_on(executor.run(async {
        let mut sum = 0;
        for task in tasks {
            sum += task.await;
        }
        assert_eq!(sum, 199 * 100);
    }));
}

#[test]
fn a_dropped_await_loses_nothing() {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let rt = runtime(1);
    let (mut handle, release) = held(&rt, 9);
    tokio.block_on(async {
        for _ in 0..3 {
            assert!(tokio::time::timeout(Duration::from_millis(2), &mut handle).await.is_err());
        }
        release();
        assert_eq!(handle.await.unwrap(), 9);
    });
}

#[test]
fn the_last_waker_is_woken_and_no_waker_is_kept() {
    let rt = runtime(1);
    let (mut handle, release) = held(&rt, 1);
    let ((first, first_waker), (last, last_waker)) = (count(), count());
    assert!(poll(&mut handle, &first_waker).is_pending());
    assert!(poll(&mut handle, &last_waker).is_pending());
    assert_eq!(Arc::strong_count(&first), 2, "the first waker was replaced");
    release();
    while last.0.load(SeqCst) == 0 {
        std::thread::yield_now();
    }
    assert_eq!((first.0.load(SeqCst), last.0.load(SeqCst)), (0, 1));
    assert!(matches!(poll(&mut handle, &first_waker), Poll::Ready(Ok(1))));
    assert!(handle.is_finished());
    let again = catch_unwind(AssertUnwindSafe(|| poll(&mut handle, &first_waker).is_ready()));
    assert!(again.unwrap_err().downcast_ref::<&str>().unwrap().contains("taken before"));
    assert!(catch_unwind(AssertUnwindSafe(|| handle.join())).is_err());
    drop(rt);
    assert_eq!((Arc::strong_count(&first), Arc::strong_count(&last)), (2, 2));
}

#[test]
fn a_dropped_handle_gives_its_waker_back_and_its_result() {
    let rt = runtime(1);
    let dropped = Arc::new(());
    let (mut handle, release) = held(&rt, dropped.clone());
    let (counted, waker) = count();
    assert!(poll(&mut handle, &waker).is_pending());
    assert_eq!(Arc::strong_count(&counted), 3);
    drop(handle);
    assert_eq!(Arc::strong_count(&counted), 2);
    release();
    rt.shutdown(Duration::from_secs(20)).unwrap();
    assert_eq!((counted.0.load(SeqCst), Arc::strong_count(&dropped)), (0, 1));
}

#[test]
fn a_result_that_was_awaited_is_dropped_once() {
    struct Once<'a>(&'a AtomicUsize);
    impl Drop for Once<'_> {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    static DROPS: AtomicUsize = AtomicUsize::new(0);
    let rt = runtime(1);
    block_on(rt.spawn(|| Once(&DROPS))).unwrap();
    assert_eq!(DROPS.load(SeqCst), 1);
}

#[test]
fn polled_and_then_joined() {
    everywhere(|| {
        let rt = Arc::new(runtime(1));
        // From outside, and from inside: with the child running, and not yet started.
        let (counted, waker) = count();
        let (mut handle, release) = held(&rt, 1);
        assert!(poll(&mut handle, &waker).is_pending());
        let releaser = rt.spawn(release);
        assert_eq!(handle.join().unwrap(), 1);
        releaser.join().unwrap();
        let inner = waker.clone();
        let shared = rt.clone();
        let sum: i32 = rt.run(move || {
            let (mut handle, release) = held(&shared, 2);
            morestack::yield_now();
            assert!(poll(&mut handle, &inner).is_pending());
            let mut unstarted = spawn(|| 3);
            let unstarted = match poll(&mut unstarted, &inner) {
                Poll::Pending => unstarted.join().unwrap(),
                Poll::Ready(result) => result.unwrap(),
            };
            let releaser = spawn(release);
            let sum = unstarted + handle.join().unwrap();
            releaser.join().unwrap();
            sum
        });
        assert_eq!(sum, 5);
        drop(rt);
        assert_eq!(Arc::strong_count(&counted), 2);
    });
}

#[test]
fn a_runtime_that_stops_wakes_who_awaits() {
    let rt = runtime(1);
    // Keeps its channel's other end: it never ends.
    let (mut handle, release) = held(&rt, ());
    std::mem::forget(release);
    let stopper = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(10));
        drop(rt);
    });
    assert!(block_on(&mut handle).unwrap_err().is::<RuntimeStopped>());
    stopper.join().unwrap();
    // Never started, and polled by another kind of executor.
    let rt = runtime(1);
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    rt.spawn(move || {
        while !stopped.load(SeqCst) {
            std::thread::yield_now();
        }
    });
    let handle = rt.spawn(|| ());
    let stopper = std::thread::spawn(move || {
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(10));
            stop.store(true, SeqCst);
        });
        drop(rt);
    });
    assert!(futures_lite::future::block_on(handle).unwrap_err().is::<RuntimeStopped>());
    stopper.join().unwrap();
}

#[test]
fn a_waker_that_panics_harms_nobody() {
    struct Bad;
    impl Wake for Bad {
        fn wake(self: Arc<Self>) {
            panic!("a bad waker");
        }
    }
    let rt = runtime(1);
    let (mut handle, release) = held(&rt, 1);
    assert!(poll(&mut handle, &Arc::new(Bad).into()).is_pending());
    release();
    assert_eq!(rt.run(|| 2), 2);
    assert_eq!(handle.join().unwrap(), 1);
}

/// Many ends and polls at once: every order, with re-polls, drops and joins in between.
#[test]
fn polls_meet_ends() {
    let rt = Arc::new(runtime(2));
    everywhere(move || {
        for i in 0..2000_u32 {
            let mut handle = rt.spawn(move || i);
            let (_, waker) = count();
            let first = poll(&mut handle, &waker);
            match i % 4 {
                _ if first.is_ready() => {}
                0 => assert_eq!(block_on(handle).unwrap(), i),
                1 => drop(handle),
                2 => assert_eq!(handle.join().unwrap(), i),
                _ => {
                    let mut handle = pin!(handle);
                    assert_eq!(block_on(poll_fn(|cx| handle.as_mut().poll(cx))).unwrap(), i);
                }
            }
        }
    });
}
