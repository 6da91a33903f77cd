//! Green threads that block their OS thread, announced and not; and runtimes whose number of workers changes.

mod common;

use std::cell::Cell;
use std::collections::HashSet;
use std::panic::{panic_any, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use common::alone;
use morestack::{Runtime, blocking, channel, checkpoint, park, sleep, spawn, yield_now};

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().unwrap()
}

fn os_thread() -> ThreadId {
    std::thread::current().id()
}

#[test]
fn another_thread_takes_over_for_an_announced_call() {
    let rt = runtime(1);
    let (send, recv) = mpsc::channel();
    let blocked = rt.spawn(move || (os_thread(), blocking(|| recv.recv().unwrap()), os_thread()));
    // Would wait for ever behind it.
    let sender = rt.spawn(move || {
        send.send(42).unwrap();
        os_thread()
    });
    let (before, value, after) = blocked.join().unwrap();
    assert_eq!(value, 42);
    assert_eq!(before, after, "it is tied");
    assert_ne!(sender.join().unwrap(), after);
    assert!(rt.metrics().handoffs >= 1);
}

#[test]
fn another_thread_takes_over_for_a_call_that_nobody_announced() {
    let rt = runtime(1);
    let (send, recv) = mpsc::channel();
    let blocked = rt.spawn(move || recv.recv().unwrap());
    let sender = rt.spawn(move || send.send(42).unwrap());
    sender.join().unwrap();
    assert_eq!(blocked.join().unwrap(), 42);
}

/// The one that lost its P comes back in the middle of its function, and uses the runtime.
#[test]
fn who_lost_its_worker_waits_for_one_and_goes_on() {
    let rt = runtime(1);
    let sum = Arc::new(AtomicU64::new(0));
    let blocked: Vec<_> = (0..4)
        .map(|i| {
            let sum = sum.clone();
            rt.spawn(move || {
                std::thread::sleep(Duration::from_millis(40));
                let children: Vec<_> = (0..10).map(|j| spawn(move || i * 10 + j)).collect();
                yield_now();
                sleep(Duration::from_millis(1));
                children.into_iter().for_each(|child| {
                    sum.fetch_add(child.join().unwrap(), SeqCst);
                });
            })
        })
        .collect();
    blocked.into_iter().for_each(|b| b.join().unwrap());
    assert_eq!(sum.load(SeqCst), (0..40).sum());
}

#[test]
fn calls_overlap_and_their_threads_are_used_again() {
    let rt = runtime(2);
    let start = Instant::now();
    for round in 0..3 {
        let calls: Vec<_> =
            (0..20).map(|_| rt.spawn(|| blocking(|| std::thread::sleep(Duration::from_millis(50))))).collect();
        calls.into_iter().for_each(|call| call.join().unwrap());
        let threads = rt.metrics().threads;
        // One may have come too late to be of use.
        assert!(threads <= 2 + 20 + 1, "{threads} threads in round {round}");
    }
    assert!(start.elapsed() < Duration::from_millis(60 * 50 / 4), "one after another: {:?}", start.elapsed());
}

#[test]
fn there_are_no_more_threads_than_allowed() {
    let rt = Runtime::builder().workers(1).max_threads(3).build().unwrap();
    let inside = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let calls: Vec<_> = (0..12)
        .map(|_| {
            let (inside, most) = (inside.clone(), most.clone());
            rt.spawn(move || {
                blocking(|| {
                    most.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
                    std::thread::sleep(Duration::from_millis(10));
                    inside.fetch_sub(1, SeqCst);
                });
            })
        })
        .collect();
    calls.into_iter().for_each(|call| call.join().unwrap());
    assert!((2..=3).contains(&most.load(SeqCst)), "{most:?} at a time");
    assert_eq!(rt.metrics().threads, 3);
    let error = Runtime::builder().workers(4).max_threads(3).build().unwrap_err();
    assert_eq!(error.to_string(), "max_threads=3: allowed: a whole number from 4, the number of workers, to 32768");
}

#[test]
fn short_calls_keep_their_worker() {
    thread_local!(static CALLS: Cell<u64> = const { Cell::new(0) });
    let rt = runtime(1);
    let calls = rt.run(|| {
        for _ in 0..100_000 {
            blocking(|| CALLS.set(CALLS.get() + 1));
        }
        CALLS.get()
    });
    assert_eq!(calls, 100_000, "each ran on the OS thread itself");
    // A thread that the system takes its CPU from may look as if it blocked.
    assert!(rt.metrics().handoffs < 100);
}

#[test]
fn what_it_runs_is_as_good_as_on_an_os_thread() {
    let rt = runtime(1);
    rt.run(|| {
        let (send, recv) = channel::bounded(0);
        let receiver = spawn(move || recv.into_iter().sum::<u64>());
        let me = morestack::current().id();
        let sum = blocking(|| {
            assert_ne!(morestack::current().id(), me, "it is the OS thread");
            (1..=10).for_each(|i| send.send(i).unwrap());
            drop(send);
            sleep(Duration::from_millis(1));
            let inner = spawn(|| blocking(|| blocking(|| 5)));
            morestack::current().unpark();
            park();
            inner.join().unwrap()
        });
        assert_eq!(sum, 5);
        assert_eq!(receiver.join().unwrap(), 55);
    });
}

#[test]
fn it_lends_and_returns_and_panics() {
    let rt = runtime(1);
    rt.run(|| {
        let mut local = vec![1, 2, 3];
        assert_eq!(blocking(|| std::mem::take(&mut local)), [1, 2, 3]);
        let panicked = std::panic::catch_unwind(|| blocking(|| -> u32 { resume_unwind(Box::new("out")) }));
        assert_eq!(panicked.unwrap_err().downcast_ref(), Some(&"out"));
        struct Blocks<'a>(&'a AtomicBool);
        impl Drop for Blocks<'_> {
            fn drop(&mut self) {
                blocking(|| self.0.store(true, SeqCst));
            }
        }
        let ran = AtomicBool::new(false);
        let panicked = std::panic::catch_unwind(|| {
            let _blocks = Blocks(&ran);
            panic_any(7);
        });
        assert_eq!(panicked.unwrap_err().downcast_ref(), Some(&7));
        assert!(ran.load(SeqCst));
    });
    assert_eq!(blocking(|| 5), 5, "outside of green threads it only calls");
}

/// On stacks that move, by those that may change their worker.
#[test]
fn copying_ones_may_block_too() {
    let rt = runtime(2);
    let blocked: Vec<_> = (0..50_u64)
        .map(|i| {
            // SAFETY: `blocking` has returned when the stack may move again.
            unsafe {
                rt.go(move || {
                    let local = i;
                    checkpoint();
                    let seen = blocking(|| {
                        std::thread::sleep(Duration::from_micros(i * 20));
                        local
                    });
                    checkpoint();
                    seen
                })
            }
        })
        .collect();
    assert_eq!(blocked.into_iter().map(|b| b.join().unwrap()).sum::<u64>(), (0..50).sum());
}

#[test]
fn the_end_waits_for_calls_and_abandons_their_green_threads() {
    let rt = runtime(1);
    let (inside, is_inside) = mpsc::channel();
    let returned = Arc::new(AtomicBool::new(false));
    let handle = {
        let returned = returned.clone();
        rt.spawn(move || {
            blocking(|| {
                inside.send(()).unwrap();
                std::thread::sleep(Duration::from_millis(50));
                returned.store(true, SeqCst);
            });
            loop {
                yield_now();
            }
        })
    };
    // Another one, which loses its worker unannounced.
    let stuck = rt.spawn(|| {
        std::thread::sleep(Duration::from_millis(50));
        loop {
            yield_now();
        }
    });
    is_inside.recv().unwrap();
    drop(rt);
    assert!(returned.load(SeqCst));
    assert!(handle.join().unwrap_err().is::<morestack::RuntimeStopped>());
    assert!(stuck.join().unwrap_err().is::<morestack::RuntimeStopped>());
}

#[test]
fn a_runtime_may_be_dropped_in_a_call_by_itself() {
    let rt = Arc::new(Mutex::new(Some(runtime(2))));
    let (done, is_done) = mpsc::channel();
    let dropper = {
        let rt = rt.clone();
        rt.clone().lock().unwrap().as_ref().unwrap().spawn(move || {
            blocking(|| drop(rt.lock().unwrap().take()));
            done.send(()).unwrap();
        })
    };
    // It stops when it comes back from the call, or may go on to its end.
    let ended = dropper.join();
    assert_eq!(ended.is_ok(), is_done.recv().is_ok());
}

fn threads_at_work(rt: &Runtime) -> usize {
    let seen = Arc::new(Mutex::new(HashSet::new()));
    let busy: Vec<_> = (0..16)
        .map(|_| {
            let seen = seen.clone();
            rt.spawn(move || {
                seen.lock().unwrap().insert(os_thread());
                let start = Instant::now();
                while start.elapsed() < Duration::from_millis(10) {
                    std::hint::spin_loop();
                }
            })
        })
        .collect();
    busy.into_iter().for_each(|b| b.join().unwrap());
    seen.lock().unwrap().len()
}

#[test]
fn the_number_of_workers_changes() {
    let rt = runtime(1);
    assert_eq!(threads_at_work(&rt), 1);
    rt.set_workers(4).unwrap();
    assert_eq!(rt.metrics().workers, 4);
    assert_eq!(threads_at_work(&rt), 4);
    // Tied to all of them, waiting in every way.
    let (send, recv) = channel::bounded::<u64>(0);
    let waiting: Vec<_> = (0..64_u64)
        .map(|i| {
            let recv = recv.clone();
            rt.spawn(move || {
                sleep(Duration::from_millis(i % 40));
                let got = recv.recv().unwrap();
                for _ in 0..1000 {
                    checkpoint();
                    yield_now();
                }
                got
            })
        })
        .collect();
    std::thread::sleep(Duration::from_millis(10));
    rt.set_workers(1).unwrap();
    (0..64).for_each(|i| send.send(i).unwrap());
    assert_eq!(waiting.into_iter().map(|w| w.join().unwrap()).sum::<u64>(), (0..64).sum());
    assert_eq!(threads_at_work(&rt), 1);
    rt.set_workers(3).unwrap();
    assert_eq!(threads_at_work(&rt), 3);
    assert_eq!(rt.set_workers(0).unwrap_err().to_string(), "workers=0: allowed: a whole number from 1 to 1024");
}

/// All at once: short and long calls, announced and not, sleeps, hand-overs, and a number of workers that changes.
#[test]
fn everything_at_once() {
    let rt = Runtime::builder().workers(2).time_slice(Some(Duration::from_micros(100))).build().unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in [1, 4, 2, 3].into_iter().cycle() {
                if done.load(SeqCst) {
                    break;
                }
                rt.set_workers(n).unwrap();
                std::thread::sleep(Duration::from_millis(3));
            }
        });
        let sum = rt.run(|| {
            let (send, recv) = channel::bounded(3);
            let body = |i: u64| {
                let send = send.clone();
                move || {
                    for j in 0..20_u64 {
                        match (i + j) % 6 {
                            0 => blocking(|| std::thread::sleep(Duration::from_micros(i * 3))),
                            1 => sleep(Duration::from_micros(100 + i)),
                            2 => blocking(|| ()),
                            3 => (0..1000).for_each(|_| checkpoint()),
                            4 if j == 7 => std::thread::sleep(Duration::from_millis(25)),
                            _ => yield_now(),
                        }
                    }
                    send.send(i).unwrap();
                }
            };
            for i in 0..200 {
                if i % 2 == 0 {
                    spawn(body(i));
                } else {
                    // SAFETY: nothing outside points to its stack but in `blocking`.
                    drop(unsafe { morestack::go(body(i)) });
                }
            }
            drop(send);
            recv.into_iter().sum::<u64>()
        });
        done.store(true, SeqCst);
        assert_eq!(sum, (0..200).sum());
    });
}

/// Three tied green threads, of which the first holds a lock while it waits, and the second wants it.
#[test]
fn a_worker_that_is_stuck_is_reported_once_with_names() {
    let said = alone("a_worker_that_is_stuck_is_reported_once_with_names", || {
        static LOCK: Mutex<()> = Mutex::new(());
        let rt = Runtime::builder().workers(1).thread_name("shop").build().unwrap();
        rt.spawn(|| {
            spawn(|| {
                let _held = LOCK.lock().unwrap();
                sleep(Duration::from_millis(30));
            });
            spawn(|| sleep(Duration::from_millis(30)));
            let till = morestack::Builder::new().name("till");
            till.spawn(|| {
                sleep(Duration::from_millis(5));
                drop(LOCK.lock().unwrap());
            })
            .unwrap();
        });
        std::thread::sleep(Duration::from_millis(200));
        // The others go on, in another thread.
        assert_eq!(rt.spawn(|| 5).join().unwrap(), 5);
        std::thread::sleep(Duration::from_millis(100));
        std::process::exit(0);
    });
    let line = said.lines().find(|line| line.contains("blocks its worker")).unwrap_or_else(|| panic!("{said}"));
    assert!(line.contains("green thread 'till' (id "), "{said}");
    assert!(line.contains("'shop-0' in a lock of its OS thread (futex), and 2 green threads"), "{said}");
    assert_eq!(said.matches("blocks its worker").count(), 1, "{said}");
}
