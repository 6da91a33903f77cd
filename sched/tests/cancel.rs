//! `JoinHandle::cancel`: where it takes effect, where not, and what it leaves behind.

mod common;

use std::any::Any;
use std::hint::{black_box, spin_loop};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use futures_lite::future;
use morestack::channel::{self, Receiver, Sender, bounded, select, unbounded};
use morestack::sync::{Barrier, Condvar, Mutex, OnceLock, RwLock, Semaphore, WaitGroup};
use morestack::{
    Cancelled, JoinHandle, Runtime, block_on, blocking, checkpoint, park, park_timeout, scope, sleep, spawn,
    without_preemption, yield_now,
};

const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(5);

/// Both kinds of green threads.
fn start<T: Send + 'static>(rt: &Runtime, tied: bool, f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    // SAFETY: the tests' closures lend nothing of their stacks to anybody but channels, and touch no thread-local.
    if tied { rt.spawn(f) } else { unsafe { rt.go(f) } }
}

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().unwrap()
}

fn is_cancelled<T>(result: &Result<T, Box<dyn Any + Send>>) -> bool {
    result.as_ref().is_err_and(|payload| payload.is::<Cancelled>())
}

/// `wait` is cancelled before it begins, while it waits, and after a catch: it ends, and destructors run.
fn ends<W>(wait: impl Fn() -> W)
where
    W: Fn() + Send + 'static,
{
    struct Dropped(Arc<AtomicUsize>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    for (workers, tied) in [(1, true), (1, false), (2, true), (2, false)] {
        let rt = runtime(workers);
        for delay in [None, Some(Duration::ZERO), Some(SHORT)] {
            let dropped = Arc::new(AtomicUsize::new(0));
            let (began, has_begun) = mpsc::channel();
            let handle = {
                let (wait, local) = (wait(), Dropped(dropped.clone()));
                start(&rt, tied, move || {
                    let _local = local;
                    began.send(()).unwrap();
                    let first = catch_unwind(AssertUnwindSafe(&wait));
                    assert!(first.is_err_and(|payload| payload.is::<Cancelled>()));
                    wait();
                })
            };
            if let Some(delay) = delay {
                has_begun.recv().unwrap();
                std::thread::sleep(delay);
            }
            handle.cancel();
            handle.cancel();
            assert!(is_cancelled(&handle.join()));
            assert_eq!(dropped.load(SeqCst), 1);
        }
    }
}

#[test]
fn parks() {
    ends(|| {
        || loop {
            park()
        }
    });
    ends(|| {
        || loop {
            park_timeout(LONG)
        }
    });
}

#[test]
fn sleeps() {
    ends(|| || sleep(LONG));
    ends(|| || sleep(Duration::MAX));
    // Shorter than any freezes, and over at once: the next is not begun.
    ends(|| {
        || loop {
            sleep(Duration::from_micros(50))
        }
    });
}

#[test]
fn joins() {
    ends(|| {
        || {
            let child = spawn(|| sleep(LONG));
            yield_now();
            child.join().unwrap();
        }
    });
    // It is run directly.
    ends(|| || spawn(|| sleep(LONG)).join().unwrap());
    ends(|| || spawn(|| spawn(|| spawn(park).join()).join()).join().map(drop).unwrap());
}

/// Both ends, so that it never disconnects.
fn both<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    bounded(capacity)
}

#[test]
fn receives_and_sends() {
    for capacity in [0, 1] {
        ends(move || {
            let (_sender, receiver) = both::<String>(capacity);
            move || {
                let _ = &_sender;
                drop(receiver.recv());
            }
        });
        ends(move || {
            let (sender, receiver) = both(capacity);
            move || {
                let _ = &receiver;
                (0..=capacity).for_each(|_| sender.send(String::from("value")).unwrap());
                unreachable!("there was room");
            }
        });
        ends(move || {
            let (_sender, receiver) = both::<String>(capacity);
            move || {
                let _ = &_sender;
                drop(receiver.recv_timeout(LONG));
            }
        });
    }
    ends(|| {
        let (_sender, receiver) = unbounded::<u8>();
        move || {
            let _ = &_sender;
            assert_eq!(receiver.iter().count(), usize::MAX);
        }
    });
}

#[test]
fn selects() {
    ends(|| {
        let ((s, r), other) = (both::<u8>(0), both::<String>(0));
        move || {
            let mut select = channel::Select::new();
            select.recv(&other.1);
            select.send(&other.0, "unsent".to_owned());
            // Not to itself.
            select.send(&s, 1);
            let _ = (select.select().index(), &r);
        }
    });
    ends(|| {
        let ((s, r), (to, from)) = (both::<String>(0), both::<String>(0));
        move || {
            let _ = (&s, &from);
            select! {
                recv(r) -> _ => unreachable!(),
                send(to, String::from("value")) -> _ => unreachable!(),
            }
        }
    });
    ends(|| || assert_eq!(channel::never::<u8>().recv(), Ok(0)));
    ends(|| || assert!(channel::after(LONG).recv().is_err()));
    ends(|| || channel::tick(Duration::from_micros(100)).iter().for_each(drop));
}

#[test]
fn futures() {
    ends(|| || block_on(std::future::pending()));
    ends(|| || block_on(spawn(park)).unwrap());
}

/// It waits for nothing, with slices and without.
#[test]
fn computes() {
    fn hog() {
        loop {
            checkpoint();
        }
    }
    ends(|| hog);
    ends(|| {
        || loop {
            yield_now()
        }
    });
    let rt = Runtime::builder().workers(1).time_slice(None).build().unwrap();
    for tied in [true, false] {
        let (began, has_begun) = mpsc::channel();
        let handle = start(&rt, tied, move || {
            began.send(()).unwrap();
            hog()
        });
        has_begun.recv().unwrap();
        handle.cancel();
        assert!(is_cancelled(&handle.join()));
    }
}

#[test]
fn what_has_not_started_does_not_run() {
    let rt = runtime(1);
    rt.run(|| {
        let dropped = Arc::new(());
        let handle = spawn({
            let dropped = dropped.clone();
            move || {
                let _dropped = dropped;
                unreachable!("it was cancelled");
            }
        });
        handle.cancel();
        assert!(is_cancelled(&handle.join()));
        assert_eq!(Arc::strong_count(&dropped), 1);
    });
}

#[test]
fn what_has_finished_stays_so() {
    let handle = spawn(|| 42);
    while !handle.is_finished() {
        std::thread::yield_now();
    }
    handle.cancel();
    assert_eq!(handle.join().unwrap(), 42);
}

/// What a cancelled one has left behind is as if it had not been there.
#[test]
fn the_queue_is_left() {
    for tied in [true, false] {
        let rt = runtime(2);
        let (sender, receiver) = bounded(0);
        let receivers: Vec<_> = (0..10)
            .map(|_| {
                let receiver = receiver.clone();
                start(&rt, tied, move || receiver.recv().unwrap())
            })
            .collect();
        std::thread::sleep(SHORT);
        let mut left = Vec::new();
        for (i, handle) in receivers.into_iter().enumerate() {
            if i % 2 == 0 {
                handle.cancel();
                assert!(is_cancelled(&handle.join()));
            } else {
                left.push(handle);
            }
        }
        (0..5).for_each(|n| sender.send(n).unwrap());
        let mut got: Vec<i32> = left.into_iter().map(|handle| handle.join().unwrap()).collect();
        got.sort_unstable();
        assert_eq!(got, [0, 1, 2, 3, 4]);
        assert_eq!(sender.try_send(9).unwrap_err().into_inner(), 9);

        // Senders: what they had to send is dropped, and is not received.
        let values = Arc::new(());
        let mut senders: Vec<_> = (0..4)
            .map(|n| {
                let (sender, value) = (sender.clone(), values.clone());
                start(&rt, tied, move || {
                    let _ = value;
                    sender.send(n).unwrap();
                })
            })
            .collect();
        std::thread::sleep(SHORT);
        for n in [2, 1] {
            let handle = senders.remove(n);
            handle.cancel();
            assert!(is_cancelled(&handle.join()));
        }
        let mut received = [receiver.recv().unwrap(), receiver.recv().unwrap()];
        received.sort_unstable();
        assert_eq!(received, [0, 3]);
        assert!(receiver.try_recv().is_err());
        senders.into_iter().for_each(|handle| handle.join().unwrap());
        assert_eq!(Arc::strong_count(&values), 1);
    }
}

/// Receivers and senders that are cancelled at any moment lose nothing and double nothing.
#[test]
fn values_survive_a_race() {
    let rounds = if cfg!(debug_assertions) { 300 } else { 2000 };
    for (capacity, tied) in [(0, true), (0, false), (1, true), (1, false)] {
        let rt = runtime(2);
        let (sent, received) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (sender, receiver) = bounded::<Box<usize>>(capacity);
        for round in 0..rounds {
            let peers: [JoinHandle<()>; 2] = [
                start(&rt, tied, {
                    let (sender, sent) = (sender.clone(), sent.clone());
                    move || {
                        for n in 1.. {
                            sender.send(Box::new(n)).unwrap();
                            // No point between the two.
                            sent.fetch_add(n, SeqCst);
                        }
                    }
                }),
                start(&rt, tied, {
                    let (receiver, received) = (receiver.clone(), received.clone());
                    move || {
                        loop {
                            let n = *receiver.recv().unwrap();
                            received.fetch_add(n, SeqCst);
                        }
                    }
                }),
            ];
            (0..round % 64).for_each(|_| spin_loop());
            if round % 3 == 0 {
                std::thread::yield_now();
            }
            let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
            order.iter().for_each(|&i| peers[i].cancel());
            peers.into_iter().for_each(|peer| assert!(is_cancelled(&peer.join())));
            while let Ok(n) = receiver.try_recv() {
                received.fetch_add(*n, SeqCst);
            }
            assert_eq!(sent.load(SeqCst), received.load(SeqCst));
        }
    }
}

/// What became of each value.
#[derive(Default)]
struct Log(Vec<[AtomicBool; 4]>);

const MADE: usize = 0;
const SENT: usize = 1;
const RECEIVED: usize = 2;
const DROPPED: usize = 3;

impl Log {
    fn note(&self, id: usize, what: usize) {
        assert!(!self.0[id][what].swap(true, SeqCst), "value {id} twice: {what}");
    }

    fn has(&self, id: usize, what: usize) -> bool {
        self.0[id][what].load(SeqCst)
    }
}

struct Logged(usize, Arc<Log>);

impl Logged {
    fn new(id: usize, log: &Arc<Log>) -> Logged {
        log.note(id, MADE);
        Logged(id, log.clone())
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        self.1.note(self.0, DROPPED);
    }
}

/// Sends by each of its ways, until it is cancelled.
fn send_for_ever(to: &Sender<Logged>, other: &Sender<Logged>, ids: &AtomicUsize, log: &Arc<Log>) {
    let tick = Duration::from_micros(30);
    for way in ids.load(SeqCst).. {
        let id = ids.fetch_add(2, SeqCst);
        if id >= log.0.len() {
            return;
        }
        let value = Logged::new(id, log);
        // No point between a success and the note of it.
        let sent = match way % 6 {
            0 => to.send(value).is_ok(),
            1 => to.send_timeout(value, tick).is_ok(),
            2 => block_on(to.send_async(value)).is_ok(),
            3 => block_on(future::or(async { to.send_async(value).await.is_ok() }, async {
                channel::after(tick).recv_async().await.unwrap();
                false
            })),
            4 => select! {
                send(to, value) -> sent => sent.is_ok(),
                default(tick) => false,
            },
            _ => {
                let other_value = Logged::new(id + 1, log);
                select! {
                    send(to, value) -> sent => sent.is_ok(),
                    send(other, other_value) -> sent => {
                        if sent.is_ok() {
                            log.note(id + 1, SENT);
                        }
                        false
                    }
                }
            }
        };
        if sent {
            log.note(id, SENT);
        }
    }
}

/// The same of receiving.
fn receive_for_ever(from: &Receiver<Logged>, other: &Receiver<Logged>, log: &Log) {
    let tick = Duration::from_micros(30);
    for way in 0.. {
        let value = match way % 6 {
            0 => from.recv().ok(),
            1 => from.recv_timeout(tick).ok(),
            2 => block_on(from.recv_async()).ok(),
            3 => block_on(future::or(async { from.recv_async().await.ok() }, async {
                channel::after(tick).recv_async().await.unwrap();
                None
            })),
            4 => select! {
                recv(from) -> value => value.ok(),
                recv(other) -> value => value.ok(),
            },
            _ => select! {
                recv(other) -> value => value.ok(),
                default(tick) => None,
            },
        };
        if let Some(value) = value {
            log.note(value.0, RECEIVED);
        }
    }
}

/// The same of each way of waiting in channels, while stacks freeze, and with OS threads in between.
#[test]
fn values_survive_every_way_of_waiting() {
    let rounds = if cfg!(debug_assertions) { 30 } else { 150 };
    for (workers, tied) in [(1, true), (1, false), (2, true), (2, false)] {
        let freeze = Some(Duration::from_millis(1));
        let rt = Runtime::builder().workers(workers).freeze_after(freeze).build().unwrap();
        for round in 0..rounds {
            let log = Arc::new(Log((0..20_000).map(|_| Default::default()).collect()));
            let ids = Arc::new(AtomicUsize::new(0));
            let channels = [0, round as usize % 3].map(bounded::<Logged>);
            let crowd: Vec<JoinHandle<()>> = (0..8)
                .map(|n| {
                    let (mut channels, log, ids) = (channels.clone(), log.clone(), ids.clone());
                    if n % 4 > 1 {
                        channels.reverse();
                    }
                    start(&rt, tied, move || {
                        let [(s, r), (s2, r2)] = channels;
                        if n % 2 == 0 { send_for_ever(&s, &s2, &ids, &log) } else { receive_for_ever(&r, &r2, &log) }
                    })
                })
                .collect();
            let outside = std::thread::spawn({
                let (r, log) = (channels[0].1.clone(), log.clone());
                move || {
                    while let Ok(value) = r.recv_timeout(SHORT) {
                        log.note(value.0, RECEIVED);
                    }
                }
            });
            std::thread::sleep(Duration::from_micros(100 * (round % 20)));
            for n in 0..crowd.len() {
                crowd[(n * 3 + round as usize) % 8].cancel();
                (0..round % 64).for_each(|_| spin_loop());
            }
            crowd.into_iter().for_each(|handle| _ = handle.join());
            outside.join().unwrap();
            for (_, r) in &channels {
                r.try_iter().for_each(|value| log.note(value.0, RECEIVED));
            }
            drop(channels);
            for id in 0..log.0.len() {
                assert_eq!(log.has(id, MADE), log.has(id, DROPPED), "{id} was lost");
                assert!(log.has(id, RECEIVED) || !log.has(id, SENT), "{id} was sent, and received by nobody");
            }
        }
    }
}

/// One that is frozen thaws before it has left the queue: what is handed to it meanwhile finds its slot.
#[test]
fn what_is_frozen_keeps_its_slot() {
    let rt = Runtime::builder().workers(2).freeze_after(Some(Duration::from_millis(1))).build().unwrap();
    let freezes = |n| {
        let began = Instant::now();
        while rt.metrics().freezes < n {
            assert!(began.elapsed() < LONG);
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    // It may not be unwound, and so stays in the queue, with another stack than it had.
    for round in 1..=20 {
        let (sender, receiver) = bounded::<[u64; 4]>(0);
        let frozen = rt.metrics().freezes;
        let handle = start(&rt, false, move || without_preemption(|| receiver.recv()));
        freezes(frozen + 1);
        handle.cancel();
        std::thread::sleep(Duration::from_micros(100 * (round % 4)));
        sender.send([round; 4]).unwrap();
        assert_eq!(handle.join().unwrap(), Ok([round; 4]));
    }
    // These leave it, while values come and go.
    for round in 1..=50 {
        let frozen = rt.metrics().freezes;
        let (sender, receiver) = bounded::<Arc<u64>>(0);
        let value = Arc::new(round);
        let waiters: Vec<_> = (0..4)
            .map(|_| {
                let receiver = receiver.clone();
                start(&rt, false, move || *receiver.recv().unwrap())
            })
            .collect();
        freezes(frozen + 4);
        waiters.iter().for_each(JoinHandle::cancel);
        let sent = (0..4).filter(|_| sender.try_send(value.clone()).is_ok()).count();
        let got =
            waiters.into_iter().filter_map(|waiter| waiter.join().ok()).inspect(|n| assert_eq!(*n, round)).count();
        assert_eq!(got, sent);
        assert_eq!(Arc::strong_count(&value), 1);
    }
}

/// Two that wake each other are cancelled while others are: no wake-up of a wait that was left ends another.
#[test]
fn a_late_wake_up_ends_nothing_else() {
    let rt = runtime(2);
    for round in 0..500_u32 {
        let (a, b) = (bounded::<u32>(0), bounded::<u32>(0));
        let echo = rt.spawn(move || a.1.iter().try_for_each(|n| b.0.send(n)));
        let client = rt.spawn(move || {
            let mut n = 0;
            let caught = catch_unwind(AssertUnwindSafe(|| {
                loop {
                    a.0.send(n).unwrap();
                    assert_eq!(b.1.recv(), Ok(n));
                    n += 1;
                }
            }));
            assert!(caught.unwrap_err().is::<Cancelled>());
            // It waits where it may not be interrupted: only for what it waits for.
            without_preemption(|| {
                let (sender, receiver) = bounded(1);
                spawn(move || sender.send(7).unwrap());
                assert_eq!(receiver.recv(), Ok(7));
                let began = Instant::now();
                sleep(Duration::from_micros(20));
                assert!(began.elapsed() >= Duration::from_micros(20));
                assert!(spawn(|| 1).join().is_ok_and(|n| n == 1));
            });
            park();
            unreachable!("it was cancelled");
        });
        (0..round % 50).for_each(|_| spin_loop());
        client.cancel();
        assert!(is_cancelled(&client.join()), "round {round}");
        let _ = echo.join();
    }
}

#[test]
fn not_without_preemption() {
    for tied in [true, false] {
        let rt = runtime(2);
        let (sender, receiver) = bounded(0);
        let reached = Arc::new(AtomicU32::new(0));
        let (began, has_begun) = mpsc::channel();
        let handle = start(&rt, tied, {
            let reached = reached.clone();
            move || {
                without_preemption(|| {
                    began.send(()).unwrap();
                    without_preemption(|| assert_eq!(receiver.recv(), Ok(1)));
                    reached.store(1, SeqCst);
                    sleep(SHORT);
                    let timeout = receiver.recv_timeout(SHORT);
                    assert!(timeout.is_err_and(|e| e.is_timeout()));
                    (0..1000).for_each(|_| checkpoint());
                    reached.store(2, SeqCst);
                });
                // A value is there, but this is a safepoint; or else it would wait.
                checkpoint();
                park();
                reached.store(3, SeqCst);
            }
        });
        has_begun.recv().unwrap();
        std::thread::sleep(SHORT);
        handle.cancel();
        std::thread::sleep(SHORT);
        sender.send(1).unwrap();
        assert!(is_cancelled(&handle.join()));
        assert_eq!(reached.load(SeqCst), 2);
    }
}

/// In destructors during any panic nothing is raised; what they wait for they get.
#[test]
fn not_while_unwinding() {
    struct Waits(Receiver<u32>, Arc<AtomicU32>);
    impl Drop for Waits {
        fn drop(&mut self) {
            checkpoint();
            self.1.store(self.0.recv().unwrap(), SeqCst);
            sleep(Duration::from_micros(10));
        }
    }
    for panics in [false, true] {
        let rt = runtime(2);
        let (sender, receiver) = bounded(0);
        let got = Arc::new(AtomicU32::new(0));
        let (began, has_begun) = mpsc::channel();
        let handle = rt.spawn({
            let waits = Waits(receiver, got.clone());
            move || {
                let _waits = waits;
                began.send(()).unwrap();
                if panics {
                    std::panic::resume_unwind(Box::new("panic"));
                }
                park();
            }
        });
        has_begun.recv().unwrap();
        std::thread::sleep(SHORT);
        handle.cancel();
        std::thread::sleep(SHORT);
        sender.send(5).unwrap();
        let error = handle.join().unwrap_err();
        assert_eq!((error.is::<Cancelled>(), error.is::<&str>()), (!panics, panics));
        assert_eq!(got.load(SeqCst), 5);
    }
}

/// What is left to do after the closure has returned is done.
#[test]
fn not_after_the_end() {
    struct Slow(Arc<AtomicBool>);
    impl Drop for Slow {
        fn drop(&mut self) {
            (0..20).for_each(|_| sleep(Duration::from_millis(1)));
            self.0.store(true, SeqCst);
        }
    }
    morestack::task_local! {
        static LAST: std::cell::RefCell<Option<Slow>> = const { std::cell::RefCell::new(None) };
    }
    let rt = runtime(1);
    let (began, ended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let handle = rt.spawn({
        let (began, ended) = (began.clone(), ended.clone());
        move || {
            LAST.set(Some(Slow(ended)));
            began.store(true, SeqCst);
            42
        }
    });
    while !began.load(SeqCst) {
        std::thread::yield_now();
    }
    std::thread::sleep(SHORT);
    handle.cancel();
    assert_eq!(handle.join().unwrap(), 42);
    assert!(ended.load(SeqCst));
}

#[test]
fn not_in_blocking() {
    let rt = runtime(2);
    let reached = Arc::new(AtomicU32::new(0));
    let (began, has_begun) = mpsc::channel();
    let handle = rt.spawn({
        let reached = reached.clone();
        move || {
            blocking(|| {
                began.send(()).unwrap();
                sleep(SHORT * 4);
                checkpoint();
                reached.store(1, SeqCst);
            });
            park();
            reached.store(2, SeqCst);
        }
    });
    has_begun.recv().unwrap();
    handle.cancel();
    assert!(is_cancelled(&handle.join()));
    assert_eq!(reached.load(SeqCst), 1);
}

/// A scope is left when its children have ended, with what they have done.
#[test]
fn a_scope_waits_for_its_children() {
    for tied in [true, false] {
        let rt = runtime(2);
        let seen = Arc::new(AtomicU32::new(0));
        let (began, has_begun) = mpsc::channel();
        let handle = start(&rt, tied, {
            let seen = seen.clone();
            move || {
                let mut local = 0;
                let caught = catch_unwind(AssertUnwindSafe(|| {
                    scope(|s| {
                        s.spawn(|| {
                            began.send(()).unwrap();
                            sleep(SHORT * 4);
                            local = 7;
                        });
                    });
                    park();
                }));
                seen.store(black_box(local), SeqCst);
                std::panic::resume_unwind(caught.unwrap_err());
            }
        });
        has_begun.recv().unwrap();
        handle.cancel();
        assert!(is_cancelled(&handle.join()));
        assert_eq!(seen.load(SeqCst), 7);
    }
}

#[test]
fn children_of_a_scope_are_cancelled() {
    runtime(2).run(|| {
        let ended = AtomicU32::new(0);
        struct Ended<'a>(&'a AtomicU32);
        impl Drop for Ended<'_> {
            fn drop(&mut self) {
                self.0.fetch_add(1, Relaxed);
            }
        }
        // Neither those that are joined nor the others make it panic.
        scope(|s| {
            let children: Vec<_> = (0..10)
                .map(|_| {
                    s.spawn(|| {
                        let _ended = Ended(&ended);
                        sleep(LONG);
                    })
                })
                .collect();
            yield_now();
            children.iter().for_each(|child| child.cancel());
            for (i, child) in children.into_iter().enumerate() {
                if i % 2 == 0 {
                    assert!(is_cancelled(&child.join()));
                }
            }
        });
        assert!(ended.into_inner() <= 10);
    });
}

/// `Runtime::run` borrows: its caller waits, and unwinds afterwards.
#[test]
fn run_is_not_left() {
    let (rt, inner) = (runtime(1), runtime(1));
    let ran = Arc::new(AtomicBool::new(false));
    let (began, has_begun) = mpsc::channel();
    let handle = rt.spawn({
        let ran = ran.clone();
        move || {
            inner.run(|| {
                began.send(()).unwrap();
                sleep(SHORT * 4);
                ran.store(true, SeqCst);
            });
            park();
        }
    });
    has_begun.recv().unwrap();
    handle.cancel();
    assert!(is_cancelled(&handle.join()));
    assert!(ran.load(SeqCst));
}

/// By a green thread of the same worker, by others, and by itself, a crowd at a time, in every state.
#[test]
fn crowds() {
    for (workers, tied) in [(1, true), (1, false), (2, true), (2, false)] {
        let rt = runtime(workers);
        for round in 0..20 {
            let crowd: Vec<JoinHandle<()>> = (0..200)
                .map(|n| {
                    start(&rt, tied, move || match (n + round) % 6 {
                        0 => loop {
                            park()
                        },
                        1 => sleep(LONG),
                        2 => loop {
                            yield_now()
                        },
                        3 => loop {
                            checkpoint()
                        },
                        4 => drop(channel::never::<u8>().recv()),
                        _ => spawn(|| sleep(Duration::from_millis(2))).join().unwrap(),
                    })
                })
                .collect();
            let canceller = rt.spawn(move || {
                crowd.iter().for_each(|handle| handle.cancel());
                crowd.into_iter().map(JoinHandle::join).filter(|r| !is_cancelled(r)).count()
            });
            // Those that wait for a child may have ended before.
            assert!(canceller.join().unwrap() <= 200 / 6 + 1);
        }
        assert_eq!(rt.shutdown(Duration::from_secs(10)), Ok(()));
    }
}

#[test]
fn lock() {
    ends(|| {
        let mutex = Arc::new(Mutex::new(()));
        std::mem::forget(mutex.lock());
        move || drop(mutex.lock())
    });
    ends(|| {
        let mutex = Mutex::new(());
        std::mem::forget(mutex.lock());
        move || assert!(mutex.try_lock_for(LONG).is_some())
    });
    // Never contended.
    ends(|| {
        let mutex = Mutex::new(0_u64);
        move || loop {
            *mutex.lock() += 1;
        }
    });
    ends(|| {
        let lock = RwLock::new(());
        std::mem::forget(lock.write());
        move || drop(lock.read())
    });
    ends(|| {
        let lock = RwLock::new(());
        std::mem::forget(lock.read());
        move || drop(lock.write())
    });
    ends(|| {
        let lock = RwLock::new(());
        std::mem::forget(lock.write());
        move || assert!(lock.try_write_until(Instant::now() + LONG).is_some())
    });
    ends(|| {
        let semaphore = Semaphore::new(1);
        move || drop(semaphore.acquire_many(2))
    });
    ends(|| {
        let semaphore = Semaphore::new(1);
        move || assert!(semaphore.try_acquire_many_for(2, LONG).is_some())
    });
    ends(|| {
        let barrier = Barrier::new(2);
        move || assert!(barrier.wait().is_leader())
    });
    ends(|| {
        let group = WaitGroup::new();
        move || group.clone().wait()
    });
}

#[test]
fn condvars() {
    for timed in [false, true] {
        ends(move || {
            let pair = Arc::new((Mutex::new(0), Condvar::new()));
            move || {
                let mut guard = pair.0.lock();
                let unwound = catch_unwind(AssertUnwindSafe(|| {
                    if timed { _ = pair.1.wait_for(&mut guard, LONG) } else { pair.1.wait(&mut guard) }
                }));
                // It unwinds with the mutex locked.
                assert!(pair.0.is_locked());
                *guard += 1;
                std::panic::resume_unwind(unwound.unwrap_err());
            }
        });
    }
}

/// The one that initialises it is not disturbed by those who gave up waiting, and the cell works.
#[test]
fn once_locks() {
    let rt = runtime(2);
    let cell = Arc::new(OnceLock::new());
    let (let_go, wait) = bounded(0);
    let get = |f: Box<dyn FnOnce() -> u32 + Send>| {
        let cell = cell.clone();
        rt.spawn(move || *cell.get_or_init(f))
    };
    let first = get(Box::new(move || wait.recv().unwrap()));
    std::thread::sleep(SHORT);
    let others: Vec<_> = (0..4).map(|_| get(Box::new(|| unreachable!("it is being initialised")))).collect();
    std::thread::sleep(SHORT);
    others[..2].iter().for_each(JoinHandle::cancel);
    std::thread::sleep(SHORT);
    let_go.send(7).unwrap();
    assert_eq!(first.join().unwrap(), 7);
    let results: Vec<_> = others.into_iter().map(JoinHandle::join).collect();
    assert_eq!(results.iter().filter(|result| is_cancelled(result)).count(), 2);
    assert!(results.into_iter().flatten().all(|value| value == 7));
}

/// Whoever leaves leaves the lock as if it had not been there, whatever happens to it at that moment.
#[test]
fn locks_survive_a_race() {
    let rounds = if cfg!(debug_assertions) { 60 } else { 300 };
    for (workers, tied) in [(1, true), (2, true), (2, false)] {
        let rt = runtime(workers);
        let shared = Arc::new((Mutex::new(0_u64), RwLock::new(0_u64), Semaphore::new(2), Condvar::new()));
        for round in 0..rounds {
            let crowd: Vec<JoinHandle<()>> = (0..12)
                .map(|n| {
                    let shared = shared.clone();
                    start(&rt, tied, move || {
                        let (mutex, lock, semaphore, condvar) = &*shared;
                        for step in 0_u64.. {
                            match (n + step) % 6 {
                                0 => {
                                    let mut guard = mutex.lock();
                                    yield_now();
                                    *guard += 1;
                                }
                                1 => drop(mutex.try_lock_for(Duration::from_micros(50))),
                                2 => {
                                    let mut guard = lock.write();
                                    yield_now();
                                    *guard += 1;
                                }
                                3 => {
                                    let _reading = lock.read();
                                    yield_now();
                                }
                                4 => {
                                    let _permits = semaphore.acquire_many(1 + (n as usize & 1));
                                    yield_now();
                                }
                                _ => {
                                    let mut guard = mutex.lock();
                                    condvar.notify_all();
                                    condvar.wait_for(&mut guard, Duration::from_micros(30));
                                }
                            }
                        }
                    })
                })
                .collect();
            std::thread::sleep(Duration::from_micros(50 * (round % 8)));
            crowd.iter().for_each(JoinHandle::cancel);
            crowd.into_iter().for_each(|handle| assert!(is_cancelled(&handle.join())));
            let (mutex, lock, semaphore, _) = &*shared;
            assert!(mutex.try_lock().is_some());
            assert!(lock.try_write().is_some());
            assert_eq!(semaphore.available_permits(), 2);
            assert!(semaphore.try_acquire_many(2).is_some());
        }
    }
}

#[test]
fn under_stress() {
    common::under_stress("");
}
