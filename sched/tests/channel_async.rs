//! Channels from async code: tokio, smol and `block_on`, beside green threads of both kinds and OS threads.

mod common;

use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use futures_lite::{FutureExt, StreamExt, future};
use morestack::channel::{
    Receiver, RecvError, RecvFuture, SendError, SendFuture, Sender, TryRecvError, TrySendError, after, at, bounded,
    never, select, tick, unbounded,
};
use morestack::sync::Mutex;
use morestack::{Cancelled, Runtime, block_on};

const MS: Duration = Duration::from_millis(1);

/// Longer than any pause of the machine.
const LONG: Duration = Duration::from_secs(60);

/// What runs the code: executors, and threads that block.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Tokio,
    TokioOneThread,
    Smol,
    BlockOnSpawn,
    BlockOnGo,
    BlockOnOs,
    Spawn,
    Go,
    Os,
}

const ASYNC: [Kind; 6] =
    [Kind::Tokio, Kind::TokioOneThread, Kind::Smol, Kind::BlockOnSpawn, Kind::BlockOnGo, Kind::BlockOnOs];
const ALL: [Kind; 9] = [
    Kind::Tokio,
    Kind::TokioOneThread,
    Kind::Smol,
    Kind::BlockOnSpawn,
    Kind::BlockOnGo,
    Kind::BlockOnOs,
    Kind::Spawn,
    Kind::Go,
    Kind::Os,
];

/// Two workers that freeze what waits for a millisecond, and tokio's.
struct Runtimes {
    rt: Runtime,
    tokio: tokio::runtime::Runtime,
}

impl Runtimes {
    fn new() -> Runtimes {
        Runtimes {
            rt: Runtime::builder().workers(2).freeze_after(Some(MS)).build().unwrap(),
            tokio: tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap(),
        }
    }

    /// Starts `task` there; or `thread`, if it is a thread that blocks.
    fn start<T: Send + 'static>(
        &self,
        kind: Kind,
        task: impl Future<Output = T> + Send + 'static,
        thread: impl FnOnce() -> T + Send + 'static,
    ) -> Box<dyn FnOnce() -> T> {
        let green = |handle: morestack::JoinHandle<T>| {
            Box::new(move || handle.join().unwrap_or_else(|payload| resume_unwind(payload))) as Box<dyn FnOnce() -> T>
        };
        let os = |handle: std::thread::JoinHandle<T>| {
            Box::new(move || handle.join().unwrap_or_else(|payload| resume_unwind(payload))) as Box<dyn FnOnce() -> T>
        };
        match kind {
            Kind::Tokio => {
                let handle = self.tokio.spawn(task);
                Box::new(move || future::block_on(handle).unwrap())
            }
            Kind::TokioOneThread => os(std::thread::spawn(|| {
                tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(task)
            })),
            Kind::Smol => os(std::thread::spawn(|| {
                let executor = async_executor::Executor::new();
                let task = executor.spawn(task);
                future::block_on(executor.run(task))
            })),
            Kind::BlockOnSpawn => green(self.rt.spawn(|| block_on(task))),
            // SAFETY: the tests' closures keep no address of a local anywhere but on the stack, across a safepoint.
            Kind::BlockOnGo => green(unsafe { self.rt.go(|| block_on(task)) }),
            Kind::BlockOnOs => os(std::thread::spawn(|| block_on(task))),
            Kind::Spawn => green(self.rt.spawn(thread)),
            // SAFETY: as above.
            Kind::Go => green(unsafe { self.rt.go(thread) }),
            Kind::Os => os(std::thread::spawn(thread)),
        }
    }

    /// Receives so many values. Those that came.
    fn receive<T: Send + 'static>(&self, kind: Kind, r: Receiver<T>, n: usize) -> Box<dyn FnOnce() -> Vec<T>> {
        let also = r.clone();
        let task = async move {
            let mut got = Vec::new();
            while got.len() < n
                && let Ok(value) = r.recv_async().await
            {
                got.push(value);
            }
            got
        };
        self.start(kind, task, move || also.iter().take(n).collect())
    }

    /// Sends them. How many went.
    fn send<T: Clone + Send + 'static>(&self, kind: Kind, s: Sender<T>, values: Vec<T>) -> Box<dyn FnOnce() -> usize> {
        let (also, same) = (s.clone(), values.clone());
        let task = async move {
            let mut sent = 0;
            for value in values {
                if s.send_async(value).await.is_err() {
                    break;
                }
                sent += 1;
            }
            sent
        };
        self.start(kind, task, move || same.into_iter().take_while(|value| also.send(value.clone()).is_ok()).count())
    }
}

/// A waker that counts.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

impl Count {
    fn get(&self) -> usize {
        self.0.load(SeqCst)
    }
}

fn count() -> (Arc<Count>, Waker) {
    let count = Arc::new(Count::default());
    (count.clone(), count.into())
}

fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_with(future, Waker::noop())
}

fn poll_with<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(waker))
}

/// One that waits.
fn receiving<T>(r: &Receiver<T>) -> RecvFuture<'_, T> {
    let mut future = r.recv_async();
    assert!(poll(&mut future).is_pending());
    future
}

fn sending<T>(s: &Sender<T>, value: T) -> SendFuture<'_, T> {
    let mut future = s.send_async(value);
    assert!(poll(&mut future).is_pending());
    future
}

/// Counts how often each of them is dropped.
#[derive(Clone, Default)]
struct Drops(Arc<AtomicUsize>);

struct Token(Drops);

impl Drops {
    fn token(&self) -> Token {
        Token(self.clone())
    }

    fn count(&self) -> usize {
        self.0.load(SeqCst)
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, SeqCst);
    }
}

#[test]
fn futures_are_send_where_values_are() {
    fn is_send_and_sync<T: Send + Sync>(_: &T) {}
    let (s, r) = bounded::<std::cell::Cell<i32>>(1);
    is_send_and_sync(&r.recv_async());
    is_send_and_sync(&r.stream());
    is_send_and_sync(&s.send_async(std::cell::Cell::new(1)).poll_or_wait());
    is_send_and_sync(&r.into_stream());
}

/// For the test above: a future that holds the value that it sends is as `Sync` as that; one that owns none is.
trait PollOrWait: Sized {
    fn poll_or_wait(self) -> impl Send + Sync;
}

impl<F: Future + Unpin + Send> PollOrWait for F {
    fn poll_or_wait(mut self) -> impl Send + Sync {
        assert!(poll(&mut self).is_ready());
    }
}

#[test]
fn all_kinds_send_to_all() {
    let on = Runtimes::new();
    for capacity in [0, 1, 3] {
        for from in ALL {
            for to in ALL {
                let (s, r) = bounded(capacity);
                let got = on.receive(to, r, 1000);
                let sent = on.send(from, s, (0..50).collect());
                assert_eq!((sent(), got()), (50, (0..50).collect()), "{capacity} {from:?} {to:?}");
            }
        }
    }
}

#[test]
fn both_ends_learn_that_the_other_is_gone() {
    let on = Runtimes::new();
    for kind in ASYNC {
        let (s, r) = bounded::<i32>(0);
        let waits = on.receive(kind, r, 1);
        std::thread::sleep(MS);
        drop(s);
        assert_eq!(waits(), [], "{kind:?}");

        let (s, r) = bounded(0);
        let waits = on.send(kind, s, vec![1]);
        std::thread::sleep(MS);
        drop(r);
        assert_eq!(waits(), 0, "{kind:?}");
    }

    let ((s, r), (counted, waker)) = (bounded(1), count());
    let mut receives = r.recv_async();
    assert!(poll_with(&mut receives, &waker).is_pending());
    drop(s);
    assert_eq!(counted.get(), 1);
    assert_eq!(poll(&mut receives), Poll::Ready(Err(RecvError)));
    assert_eq!(poll(&mut r.recv_async()), Poll::Ready(Err::<i32, _>(RecvError)));

    let ((s, r), (counted, waker)) = (bounded(1), count());
    s.send(1).unwrap();
    let mut sends = s.send_async(2);
    assert!(poll_with(&mut sends, &waker).is_pending());
    drop(r);
    assert_eq!(counted.get(), 1);
    assert_eq!(poll(&mut sends), Poll::Ready(Err(SendError(2))));
    assert_eq!(poll(&mut s.send_async(3)), Poll::Ready(Err(SendError(3))));
}

/// Futures, a green thread and an OS thread in one queue.
#[test]
fn first_come_first_served() {
    let on = Runtimes::new();
    for capacity in [0, 2] {
        for blocks in [Kind::Spawn, Kind::Go, Kind::Os] {
            let ((s, r), (began, begun)) = (bounded(capacity), bounded(1));
            let thread = |began: &Sender<()>, work: Box<dyn FnOnce() -> Option<i32> + Send>| {
                let began = began.clone();
                let handle = on.start(blocks, async { unreachable!() }, move || {
                    began.send(()).unwrap();
                    work()
                });
                begun.recv().unwrap();
                std::thread::sleep(20 * MS);
                handle
            };
            let mut first = receiving(&r);
            let also = r.clone();
            let second = thread(&began, Box::new(move || also.recv().ok()));
            let mut third = receiving(&r);
            (1..=3).for_each(|n| s.send(n).unwrap());
            assert_eq!(
                (poll(&mut first), second(), poll(&mut third)),
                (Poll::Ready(Ok(1)), Some(2), Poll::Ready(Ok(3)))
            );

            (0..capacity as i32).for_each(|n| s.send(n).unwrap());
            let mut first = sending(&s, 11);
            let also = s.clone();
            let second = thread(&began, Box::new(move || also.send(12).ok().map(|()| 0)));
            let mut third = sending(&s, 13);
            assert_eq!(r.iter().take(capacity).collect::<Vec<_>>(), (0..capacity as i32).collect::<Vec<_>>());
            assert_eq!(r.iter().take(3).collect::<Vec<_>>(), [11, 12, 13]);
            assert_eq!(
                (poll(&mut first), second(), poll(&mut third)),
                (Poll::Ready(Ok(())), Some(0), Poll::Ready(Ok(())))
            );
        }
    }
}

#[test]
fn nothing_happens_before_the_first_poll() {
    let (s, r) = bounded(1);
    let (first, second) = (s.send_async(1), r.recv_async());
    assert_eq!(r.try_recv(), Err(TryRecvError::Empty));
    s.send(2).unwrap();
    drop((first, second));
    assert_eq!(r.recv(), Ok(2));
}

#[test]
fn dropped_while_it_waits_it_was_never_there() {
    let drops = Drops::default();
    let ((s, r), (counted, waker)) = (bounded(0), count());
    let mut gone = r.recv_async();
    assert!(poll_with(&mut gone, &waker).is_pending());
    let mut stays = receiving(&r);
    drop(gone);
    assert_eq!((counted.get(), Arc::strong_count(&counted)), (0, 2));
    s.send(drops.token()).unwrap();
    assert!(poll(&mut stays).is_ready());
    assert_eq!(drops.count(), 1);
    assert!(s.try_send(drops.token()).is_err_and(|error| error.is_full()));
    assert_eq!(drops.count(), 2);

    let mut gone = s.send_async(drops.token());
    assert!(poll_with(&mut gone, &waker).is_pending());
    let stays = sending(&s, drops.token());
    drop(gone);
    assert_eq!((counted.get(), Arc::strong_count(&counted), drops.count()), (0, 2, 3));
    assert!(r.try_recv().is_ok());
    assert!(r.try_recv().is_err_and(|error| error.is_empty()));
    drop(stays);
    assert_eq!(drops.count(), 4);
}

#[test]
fn what_was_sent_by_a_dropped_future_is_sent() {
    let drops = Drops::default();
    let (s, r) = bounded(0);
    let sends = sending(&s, drops.token());
    let got = r.recv().unwrap();
    drop(sends);
    assert_eq!(drops.count(), 0);
    drop(got);
    assert_eq!(drops.count(), 1);
}

#[test]
fn what_was_not_sent_is_dropped_once_when_the_channel_was_disconnected() {
    let drops = Drops::default();
    let (s, r) = bounded(0);
    let sends = sending(&s, drops.token());
    drop(r);
    assert_eq!(drops.count(), 0);
    drop(sends);
    assert_eq!(drops.count(), 1);
}

#[test]
fn what_was_handed_over_comes_back_and_comes_first() {
    for capacity in [Some(0), Some(1), Some(2), None] {
        let (s, r) = capacity.map_or_else(unbounded, bounded);
        let futures: VecDeque<_> = (0..3).map(|_| receiving(&r)).collect();
        (0..3).for_each(|n| s.send(n).unwrap());
        let room = (3..).take_while(|&n| n < 10 && s.try_send(n).is_ok()).count();
        assert_eq!((r.len(), room), (room, capacity.unwrap_or(7)));
        // In this order, and in the other.
        let mut futures = futures;
        drop(futures.pop_front());
        assert_eq!((r.len(), r.is_full()), (room + 1, capacity.is_some()));
        if capacity.is_some() {
            assert_eq!(s.try_send(99), Err(TrySendError::Full(99)));
        }
        drop(futures.pop_back());
        drop(futures.pop_back());
        assert_eq!(r.len(), room + 3);
        let waits = capacity.map(|_| sending(&s, 3 + room));
        let expected: Vec<_> = (0..3 + room + usize::from(waits.is_some())).collect();
        assert_eq!(r.try_iter().collect::<Vec<_>>(), expected, "{capacity:?}");
        assert!(waits.is_none_or(|mut waits| poll(&mut waits).is_ready()));
        assert!(r.is_empty());
        // Its capacity is as before.
        let room = (0..).take_while(|&n| n < 10 && s.try_send(n).is_ok()).count();
        assert_eq!(room, capacity.unwrap_or(10));
    }
}

/// Whoever waits first gets it at once: a future, a thread, or a `select!`.
#[test]
fn what_comes_back_goes_to_who_waits() {
    let on = Runtimes::new();
    for capacity in [0, 1] {
        let (s, r) = bounded(capacity);
        let (first, (counted, waker)) = (receiving(&r), count());
        s.send(1).unwrap();
        let mut second = r.recv_async();
        assert!(poll_with(&mut second, &waker).is_pending());
        drop(first);
        assert_eq!((counted.get(), poll(&mut second)), (1, Poll::Ready(Ok(1))));

        for kind in ALL {
            let first = receiving(&r);
            s.send(2).unwrap();
            let got = on.receive(kind, r.clone(), 1);
            std::thread::sleep(5 * MS);
            drop(first);
            assert_eq!(got(), [2], "{kind:?}");

            let first = receiving(&r);
            s.send(3).unwrap();
            let also = r.clone();
            let task = {
                let r = r.clone();
                async move { future::or(r.recv_async(), future::pending()).await.unwrap() }
            };
            let got = on.start(kind, task, move || {
                select! { recv(also) -> value => value.unwrap(), recv(never::<i32>()) -> _ => unreachable!() }
            });
            std::thread::sleep(5 * MS);
            drop(first);
            assert_eq!(got(), 3, "{kind:?}");
        }
    }
}

#[test]
fn what_came_back_is_dropped_with_the_channel_once() {
    for capacity in [0, 2] {
        let drops = Drops::default();
        let (s, r) = bounded(capacity);
        let futures = [receiving(&r), receiving(&r), receiving(&r)];
        (0..3).for_each(|_| s.send(drops.token()).unwrap());
        drop(futures);
        drop(r.recv().unwrap());
        assert_eq!((drops.count(), r.len()), (1, 2));
        drop(r);
        assert_eq!(drops.count(), 3);
        assert!(s.send(drops.token()).is_err());
        assert_eq!(drops.count(), 4);

        // And outlives its senders.
        let (s, r) = bounded(capacity);
        let future = receiving(&r);
        s.send(drops.token()).unwrap();
        drop(s);
        drop(future);
        assert!(r.recv().is_ok());
        assert!(r.recv().is_err());
        assert_eq!(drops.count(), 5);
    }
}

/// Against a model: random sends, receives, polls and drops of futures, with each value and its place foretold.
#[test]
fn every_order_of_drops_keeps_the_order_of_values() {
    let mut seed = 0x2545_F491_4F6C_DD1D_u64;
    let mut random = move |n: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed as usize % n
    };
    for round in 0..300 {
        let capacity = [Some(0), Some(1), Some(3), None][round % 4];
        let (s, r) = capacity.map_or_else(unbounded, bounded);
        // What the channel has, ascending; how many are of the buffer; each future with what it has.
        let (mut there, mut buffered, mut next) = (VecDeque::<u64>::new(), 0, 0_u64);
        let mut futures: Vec<(RecvFuture<'_, u64>, Option<u64>)> = Vec::new();
        for _ in 0..200 {
            let first_waits = futures.iter().position(|(_, has)| has.is_none());
            match random(6) {
                0 | 1 => {
                    let sent = s.try_send(next);
                    if let Some(i) = first_waits {
                        futures[i].1 = Some(next);
                    } else if capacity.is_none_or(|capacity| buffered < capacity) {
                        there.push_back(next);
                        buffered += 1;
                    } else {
                        assert_eq!(sent, Err(TrySendError::Full(next)));
                        continue;
                    }
                    assert_eq!(sent, Ok(()));
                    next += 1;
                }
                2 => {
                    let expected = there.pop_front();
                    buffered = buffered.min(there.len());
                    assert_eq!(r.try_recv().ok(), expected);
                }
                3 => {
                    let mut future = r.recv_async();
                    match poll(&mut future) {
                        Poll::Ready(value) => {
                            assert_eq!(value.ok(), there.pop_front());
                            buffered = buffered.min(there.len());
                        }
                        Poll::Pending => {
                            assert!(there.is_empty());
                            futures.push((future, None));
                        }
                    }
                }
                4 if !futures.is_empty() => {
                    let i = random(futures.len());
                    match poll(&mut futures[i].0) {
                        Poll::Ready(value) => assert_eq!(value.ok(), futures.remove(i).1),
                        Poll::Pending => assert!(futures[i].1.is_none()),
                    }
                }
                5 if !futures.is_empty() => {
                    let (future, has) = futures.remove(random(futures.len()));
                    drop(future);
                    let first_waits = futures.iter().position(|(_, has)| has.is_none());
                    if let Some(value) = has {
                        if let Some(i) = first_waits {
                            futures[i].1 = Some(value);
                        } else {
                            let at = there.partition_point(|&other| other < value);
                            there.insert(at, value);
                        }
                    }
                }
                _ => {}
            }
            assert_eq!(r.len(), there.len());
        }
    }
}

#[test]
fn the_waker_of_the_last_poll_is_woken_once_and_none_is_kept() {
    let (s, r) = bounded(0);
    let ((first, first_waker), (last, last_waker)) = (count(), count());
    let mut receives = r.recv_async();
    assert!(poll_with(&mut receives, &first_waker).is_pending());
    assert!(poll_with(&mut receives, &first_waker).is_pending());
    assert!(poll_with(&mut receives, &last_waker).is_pending());
    assert_eq!((Arc::strong_count(&first), Arc::strong_count(&last)), (2, 3));
    s.send(1).unwrap();
    assert_eq!((first.get(), last.get(), Arc::strong_count(&last)), (0, 1, 2));
    assert_eq!(poll_with(&mut receives, &first_waker), Poll::Ready(Ok(1)));

    let mut sends = s.send_async(2);
    assert!(poll_with(&mut sends, &first_waker).is_pending());
    assert!(poll_with(&mut sends, &last_waker).is_pending());
    assert_eq!(r.recv(), Ok(2));
    assert_eq!((first.get(), last.get()), (0, 2));
    assert!(poll(&mut sends).is_ready());
    assert_eq!((Arc::strong_count(&first), Arc::strong_count(&last)), (2, 2));
}

#[test]
fn polled_after_it_was_ready_it_panics() {
    let (s, r) = bounded(1);
    let (mut sends, mut receives) = (s.send_async(1), r.recv_async());
    assert!(poll(&mut sends).is_ready() && poll(&mut receives).is_ready());
    for again in [
        catch_unwind(AssertUnwindSafe(|| poll(&mut sends).is_ready())),
        catch_unwind(AssertUnwindSafe(|| poll(&mut receives).is_ready())),
    ] {
        let payload = again.unwrap_err();
        let said = payload.downcast_ref::<&str>().map(|s| s.to_string()).or(payload.downcast_ref::<String>().cloned());
        assert!(said.unwrap().contains("after it was ready"));
    }
    s.send(2).unwrap();
    assert_eq!(r.recv(), Ok(2));
}

/// Wakers run, and are dropped, with no lock held; and may panic.
#[test]
fn a_waker_may_do_anything() {
    struct Bad(Sender<i32>, Receiver<i32>);
    impl Wake for Bad {
        fn wake(self: Arc<Self>) {
            assert!(self.1.is_empty());
            self.0.try_send(7).unwrap();
            panic!("a bad waker");
        }
    }
    impl Drop for Bad {
        fn drop(&mut self) {
            assert!(self.0.len() <= 1);
        }
    }
    let (s, r) = bounded(1);
    let bad = || Waker::from(Arc::new(Bad(s.clone(), r.clone())));
    let mut receives = r.recv_async();
    for _ in 0..3 {
        assert!(poll_with(&mut receives, &bad()).is_pending());
    }
    s.send(1).unwrap();
    assert_eq!((poll(&mut receives), r.recv()), (Poll::Ready(Ok(1)), Ok(7)));
    let mut dropped = r.recv_async();
    assert!(poll_with(&mut dropped, &bad()).is_pending());
    drop(dropped);
    assert_eq!(r.try_recv(), Err(TryRecvError::Empty));
}

/// Who has completed the operation of a task, and is cancelled while it wakes that, has woken it.
#[test]
fn a_cancelled_sender_wakes_whom_it_has_served() {
    #[derive(Default)]
    struct Queue {
        lock: Mutex<()>,
        begun: AtomicUsize,
        done: AtomicUsize,
    }
    impl Wake for Queue {
        fn wake(self: Arc<Self>) {
            self.begun.fetch_add(1, SeqCst);
            let _locked = self.lock.lock();
            self.done.fetch_add(1, SeqCst);
        }
    }
    let rt = Runtime::builder().workers(2).build().unwrap();
    for tied in [true, false] {
        let (s, r) = bounded(0);
        let queue = Arc::new(Queue::default());
        let mut receives = r.recv_async();
        assert!(poll_with(&mut receives, &queue.clone().into()).is_pending());
        let locked = queue.lock.lock();
        let sends = move || {
            s.send(1).unwrap();
            morestack::park();
        };
        // SAFETY: it lends its stack to nobody but the channel.
        let sender = if tied { rt.spawn(sends) } else { unsafe { rt.go(sends) } };
        while queue.begun.load(SeqCst) == 0 {
            std::thread::sleep(MS);
        }
        sender.cancel();
        std::thread::sleep(2 * MS);
        drop(locked);
        assert!(sender.join().unwrap_err().is::<Cancelled>());
        assert_eq!((queue.done.load(SeqCst), poll(&mut receives)), (1, Poll::Ready(Ok(1))));
    }
}

#[test]
fn a_forgotten_future_harms_nobody() {
    let (s, r) = bounded(0);
    std::mem::forget(receiving(&r));
    s.send(1).unwrap();
    std::mem::forget(receiving(&r));
    std::mem::forget(receiving(&r));
    drop(r);
    assert!(s.send(2).is_err());
    drop(s);
    let (s, r) = bounded(0);
    std::mem::forget(sending(&s, 3));
    assert_eq!(r.recv(), Ok(3));
    std::mem::forget(sending(&s, 4));
    drop((s, r));
}

#[test]
fn streams() {
    let on = Runtimes::new();
    for kind in ASYNC {
        let (s, r) = bounded(1);
        let also = r.clone();
        let task = async move {
            let mut all: Vec<i32> = also.stream().take(2).collect().await;
            drop(also);
            let mut rest = r.into_stream();
            while let Some(value) = rest.next().await {
                all.push(value);
            }
            assert_eq!(rest.next().await, None);
            all
        };
        let got = on.start(kind, task, || unreachable!());
        (1..=5).for_each(|n| s.send(n).unwrap());
        drop(s);
        assert_eq!(got(), [1, 2, 3, 4, 5], "{kind:?}");
    }
    // Dropped with a value that was its own.
    let (s, r) = bounded(0);
    let mut stream = r.stream();
    assert!(poll(&mut stream.next()).is_pending());
    s.send(1).unwrap();
    drop(stream);
    let mut stream = r.clone().into_stream();
    assert_eq!(poll(&mut stream.next()), Poll::Ready(Some(1)));
    assert!(poll(&mut stream.next()).is_pending());
    s.send(2).unwrap();
    drop(stream);
    assert_eq!(r.recv(), Ok(2));
}

#[test]
fn clocks_are_awaited() {
    let on = Runtimes::new();
    for kind in ASYNC {
        let task = async {
            let start = Instant::now();
            let (once, when) = (after(10 * MS), at(start + 5 * MS));
            assert_eq!(when.recv_async().await, Ok(start + 5 * MS));
            assert!(start.elapsed() >= 5 * MS);
            once.recv_async().await.unwrap();
            assert!(start.elapsed() >= 10 * MS);
            let ticks = tick(2 * MS);
            let times: Vec<_> = ticks.stream().take(5).collect().await;
            assert!(times.windows(2).all(|two| two[1] - two[0] >= 2 * MS));
            assert!(Instant::now() >= times[4]);
            let nothing = async { never::<Instant>().recv_async().await.ok() };
            let no_more = async { once.recv_async().await.ok() };
            let soon = async { after(5 * MS).recv_async().await.map(|_| None).unwrap() };
            assert_eq!(nothing.or(no_more).or(soon).await, None);
        };
        on.start(kind, task, || unreachable!())();
    }
}

#[test]
fn a_clock_wakes_the_last_waker() {
    let r = after(20 * MS);
    let ((first, first_waker), (last, last_waker)) = (count(), count());
    let mut receives = r.recv_async();
    assert!(poll_with(&mut receives, &first_waker).is_pending());
    assert!(poll_with(&mut receives, &last_waker).is_pending());
    while last.get() == 0 {
        std::thread::yield_now();
    }
    assert_eq!(first.get(), 0);
    assert!(poll(&mut receives).is_ready());
}

/// Each tick goes to one of them, and the others wait for the next.
#[test]
fn many_await_one_clock() {
    let on = Runtimes::new();
    let ticks = tick(MS);
    let all: Vec<_> = ALL.into_iter().map(|kind| on.receive(kind, ticks.clone(), 5)).collect();
    let mut times: Vec<_> = all.into_iter().flat_map(|got| got()).collect();
    times.sort_unstable();
    times.dedup();
    assert_eq!(times.len(), 5 * ALL.len());
}

#[test]
fn a_clock_that_is_no_longer_awaited_leaves_nothing_behind() {
    let rt = Runtime::builder().workers(1).build().unwrap();
    rt.run(|| {
        let r = after(LONG);
        for _ in 0..100 {
            assert!(poll(&mut r.recv_async()).is_pending());
        }
    });
    let start = Instant::now();
    rt.shutdown(LONG).unwrap();
    assert!(start.elapsed() < LONG / 2);
}

/// Polled on a green thread first, and awaited elsewhere when the runtime of that is gone.
#[test]
fn a_clock_does_not_stop_with_a_runtime() {
    let r = after(50 * MS);
    let mut receives = r.recv_async();
    let rt = Runtime::builder().workers(1).build().unwrap();
    assert!(rt.run(|| poll(&mut receives).is_pending()));
    drop(rt);
    future::block_on(receives).unwrap();
}

/// Receivers that change their minds all the time, beside those that do not: each value is received once.
#[test]
fn values_survive_futures_that_are_dropped() {
    const EACH: u64 = 300;
    let on = Runtimes::new();
    for capacity in [0, 1, 4] {
        let (s, r) = bounded::<u64>(capacity);
        let sent: Vec<_> = ALL.into_iter().map(|kind| on.send(kind, s.clone(), (1..=EACH).collect())).collect();
        drop(s);
        let got: Vec<_> = ALL.into_iter().map(|kind| on.receive(kind, r.clone(), usize::MAX)).collect();
        let fickle: Vec<_> = ASYNC
            .into_iter()
            .map(|kind| {
                let r = r.clone();
                let task = async move {
                    let mut sum = 0;
                    loop {
                        // Polled once or twice, and then dropped.
                        let later = async {
                            future::yield_now().await;
                            None
                        };
                        match async { Some(r.recv_async().await) }.or(later).await {
                            Some(Ok(value)) => sum += value,
                            Some(Err(RecvError)) => return sum,
                            None => future::yield_now().await,
                        }
                    }
                };
                on.start(kind, task, || unreachable!())
            })
            .collect();
        assert_eq!(sent.into_iter().map(|sent| sent()).sum::<usize>(), ALL.len() * EACH as usize);
        let sum = got.into_iter().map(|got| got().into_iter().sum::<u64>()).sum::<u64>()
            + fickle.into_iter().map(|sum| sum()).sum::<u64>();
        // What came back after the others were told that there is no more.
        let left: u64 = r.try_iter().sum();
        assert_eq!(sum + left, ALL.len() as u64 * EACH * (EACH + 1) / 2);
    }
}

#[test]
fn under_stress() {
    common::under_stress("");
}
