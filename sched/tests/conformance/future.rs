//! Async code: the API in a future that a green thread, an OS thread, tokio or smol drives. `tests/futures.rs` and
//! `channel_async.rs` have more.

use std::sync::atomic::AtomicBool;

use futures_lite::{StreamExt, future, stream};
use morestack::channel::{RecvError, SendError, TryRecvError, TrySendError, after, bounded, select, tick, unbounded};
use morestack::sync::{Barrier, Condvar, LazyLock, Mutex, OnceLock, RwLock, Semaphore, WaitGroup};
use morestack::{Builder, Cancelled, blocking, checkpoint, current, scope, sleep, spawn_future, without_preemption};

use super::*;

behaviours! {
    fn channels(context) {
        for capacity in [Some(0), Some(1), Some(100), None] {
            let (s, r) = channel::open::<u64>(capacity);
            let senders: Vec<_> = (0..4)
                .map(|i| {
                    let s = s.clone();
                    context.start_future(async move {
                        for n in 0..100 {
                            s.send_async(100 * i + n).await.unwrap();
                        }
                    })
                })
                .collect();
            drop(s);
            let by_recv = context.start_future({
                let r = r.clone();
                async move {
                    let mut sum = 0;
                    while let Ok(n) = r.recv_async().await {
                        sum += n;
                    }
                    assert_eq!(r.recv_async().await, Err(RecvError));
                    sum
                }
            });
            let by_stream = context.start_future({
                let r = r.clone();
                async move { r.stream().fold(0, |sum, n| sum + n).await }
            });
            let by_into_stream = context.start_future(async move { r.into_stream().fold(0, |sum, n| sum + n).await });
            senders.into_iter().for_each(Handle::join);
            let sums = [by_recv, by_stream, by_into_stream].map(Handle::join);
            assert_eq!(sums.into_iter().sum::<u64>(), (0..400).sum::<u64>());
        }
    }

    /// The one that comes second in a race is dropped, and what it was given goes to another.
    fn races(context) {
        let (s, r) = bounded::<u32>(0);
        let racer = context.start_future({
            let r = r.clone();
            async move {
                let mut got = Vec::new();
                loop {
                    let value = async { Some(r.recv_async().await) };
                    let pause = async {
                        after(MS / 50).recv_async().await.unwrap();
                        None
                    };
                    match future::or(value, pause).await {
                        Some(Ok(n)) => got.push(n),
                        Some(Err(RecvError)) => return got,
                        None => {}
                    }
                }
            }
        });
        let plain = context.start(move || r.iter().collect::<Vec<_>>());
        let sends = context.start_future(async move {
            for n in 0..1000 {
                s.send_async(n).await.unwrap();
                if n % 10 == 0 {
                    after(MS / 100).recv_async().await.unwrap();
                }
            }
        });
        sends.join();
        let mut all = racer.join();
        all.extend(plain.join());
        all.sort_unstable();
        assert!(all.into_iter().eq(0..1000));
    }

    fn clocks(context) {
        let begins = Instant::now();
        context.start_future(async {
            let due = after(2 * MS).recv_async().await.unwrap();
            assert!(due <= Instant::now());
            let ticks = tick(MS);
            assert_eq!(ticks.stream().take(3).count().await, 3);
        }).join();
        assert!(begins.elapsed() >= 5 * MS);
    }

    fn handles(context) {
        context.start_future(async {
            assert_eq!(morestack::spawn(|| 1).await.unwrap() + spawn_future(async { 2 }).await.unwrap(), 3);
            let handles: Vec<_> = (0..20_u64).map(|n| morestack::spawn(move || n * n)).collect();
            let sum = stream::iter(handles).then(|handle| async { handle.await.unwrap() }).fold(0, |sum, n| sum + n).await;
            assert_eq!(sum, (0..20).map(|n| n * n).sum::<u64>());
            let panics = morestack::spawn(|| silent_panic()).await;
            assert_eq!(panics.unwrap_err().downcast_ref(), Some(&"on purpose"));
            // Given up, and awaited again.
            let (s, r) = bounded::<()>(0);
            let mut waits = morestack::spawn(move || r.recv());
            let early = future::or(async { Some((&mut waits).await) }, async {
                after(MS).recv_async().await.unwrap();
                None
            });
            assert!(early.await.is_none());
            drop(s);
            assert_eq!(waits.await.unwrap(), Err(RecvError));
            let sleeps = morestack::spawn(|| sleep(LONG));
            sleeps.cancel();
            assert!(sleeps.await.unwrap_err().is::<Cancelled>());
        }).join();
    }

    /// What does not wait may be called in a poll.
    fn without_waiting(context) {
        morestack::task_local!(static LOCAL: std::cell::Cell<u32> = const { std::cell::Cell::new(1) });
        static LAZY: LazyLock<u32> = LazyLock::new(|| 7);
        context.start_future(async {
            let (s, r) = bounded(1);
            assert_eq!(r.try_recv(), Err(TryRecvError::Empty));
            s.try_send(1).unwrap();
            assert!(matches!(s.try_send(2), Err(TrySendError::Full(2))));
            assert_eq!((s.len(), r.is_full(), s.capacity(), r.is_disconnected()), (1, true, Some(1), false));
            select! {
                send(s, 3) -> _ => unreachable!(),
                default => {}
            }
            select! {
                recv(r) -> value => assert_eq!(value, Ok(1)),
                default => unreachable!(),
            }
            drop(r);
            assert!(s.is_disconnected());
            assert_eq!(s.send(4), Err(SendError(4)));
            let (s, r) = unbounded();
            s.send(1).unwrap();
            drop(s);
            assert_eq!(r.try_iter().count(), 1);

            let (mutex, lock, semaphore) = (Mutex::new(0), RwLock::new(0), Semaphore::new(2));
            *mutex.lock() += 1;
            *lock.write() += 1;
            assert_eq!(*mutex.try_lock_for(LONG).unwrap() + *lock.read() + *lock.read_recursive(), 3);
            {
                let _one = semaphore.acquire();
                assert!(semaphore.try_acquire().is_some() && semaphore.try_acquire_many(2).is_none());
            }
            assert!(!Condvar::new().notify_one());
            assert!(Barrier::new(1).wait().is_leader());
            WaitGroup::new().wait();
            let cell = OnceLock::new();
            assert_eq!((cell.get_or_init(|| 5), cell.wait(), *LAZY), (&5, &5, 7));

            current().unpark();
            morestack::park();
            morestack::yield_now();
            checkpoint();
            assert_eq!(without_preemption(|| blocking(|| 3)), 3);
            LOCAL.set(2);
            assert_eq!(LOCAL.get(), 2);
            let named = Builder::new().name("named").spawn(|| current().name().map(str::to_owned)).unwrap();
            assert_eq!(named.await.unwrap().as_deref(), Some("named"));
        }).join();
    }

    /// What waits may be called, too: it blocks the executor's thread, or parks the green thread.
    fn with_waiting(context) {
        let flag = Arc::new(AtomicBool::new(false));
        context.start_future({
            let flag = flag.clone();
            async move {
                let mut n = 1;
                scope(|s| s.spawn(|| n += 1).join().unwrap());
                assert_eq!(block_on(async { n }), 2);
                let (s, r) = bounded(0);
                let sends = morestack::spawn(move || s.send(7));
                assert_eq!(r.recv(), Ok(7));
                sends.join().unwrap().unwrap();
                sleep(MS / 10);
                flag.store(true, SeqCst);
            }
        }).join();
        assert!(flag.load(SeqCst));
    }
}
