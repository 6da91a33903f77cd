//! Channels: crossbeam-channel's behaviours, for green threads on both kinds of stack and for OS threads.

mod common;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use morestack::channel::{
    Receiver, RecvError, RecvTimeoutError, SendError, SendTimeoutError, Sender, TryRecvError, TrySendError, after, at,
    bounded, never, select, tick, unbounded,
};
use morestack::{Runtime, prologue};

const MS: Duration = Duration::from_millis(1);

/// Longer than any pause of the machine.
const LONG: Duration = Duration::from_secs(60);

/// Kinds of threads.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Spawn,
    Go,
    Os,
}

const KINDS: [Kind; 3] = [Kind::Spawn, Kind::Go, Kind::Os];

enum Handle<T> {
    Green(morestack::JoinHandle<T>),
    Os(std::thread::JoinHandle<T>),
}

impl<T> Handle<T> {
    #[track_caller]
    fn join(self) -> T {
        match self {
            Handle::Green(handle) => handle.join(),
            Handle::Os(handle) => handle.join(),
        }
        .unwrap_or_else(|payload| resume_unwind(payload))
    }
}

impl Kind {
    fn start<T: Send + 'static>(self, rt: &Runtime, f: impl FnOnce() -> T + Send + 'static) -> Handle<T> {
        match self {
            Kind::Spawn => Handle::Green(rt.spawn(f)),
            // SAFETY: the tests' closures keep no address of a local anywhere but on the stack, across a safepoint.
            Kind::Go => Handle::Green(unsafe { rt.go(f) }),
            Kind::Os => Handle::Os(std::thread::spawn(f)),
        }
    }
}

/// Two workers that freeze what waits for a millisecond.
fn runtime() -> Runtime {
    Runtime::builder().workers(2).freeze_after(Some(MS)).build().unwrap()
}

/// Each test runs with each kind of thread; with two, each of them with each.
fn on_each(test: impl Fn(&Runtime, Kind)) {
    let rt = runtime();
    KINDS.into_iter().for_each(|kind| test(&rt, kind));
}

fn on_pairs(test: impl Fn(&Runtime, Kind, Kind)) {
    on_each(|rt, first| KINDS.into_iter().for_each(|second| test(rt, first, second)));
}

/// A pause, by the kind of thread that is in it.
fn pause(duration: Duration) {
    morestack::sleep(duration);
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
fn what_it_says_of_itself() {
    let (s, r) = bounded(2);
    assert_eq!((s.len(), r.len(), s.capacity(), r.capacity()), (0, 0, Some(2), Some(2)));
    assert!(s.is_empty() && r.is_empty() && !s.is_full() && !r.is_full());
    s.send(1).unwrap();
    assert!(!s.is_empty() && !r.is_empty() && !s.is_full() && !r.is_full());
    s.send(2).unwrap();
    assert!(s.is_full() && r.is_full() && s.len() == 2 && r.len() == 2);
    r.recv().unwrap();
    assert!(!s.is_full() && r.len() == 1);

    let (s0, r0) = bounded::<i32>(0);
    assert!(s0.is_full() && s0.is_empty() && r0.is_full() && r0.is_empty() && s0.capacity() == Some(0));

    let (su, ru) = unbounded::<i32>();
    assert!(!su.is_full() && !ru.is_full() && su.capacity().is_none() && ru.is_empty());

    assert!(s.same_channel(&s.clone()) && r.same_channel(&r.clone()));
    assert!(!s0.same_channel(&su) && !r0.same_channel(&ru) && !s.same_channel(&s0));
}

#[test]
fn errors_say_what_happened_and_give_the_value_back() {
    assert_eq!(SendError(1).into_inner(), 1);
    assert!(TrySendError::Full(2).is_full() && TrySendError::Disconnected(2).is_disconnected());
    assert_eq!(TrySendError::from(SendError(3)).into_inner(), 3);
    assert!(SendTimeoutError::from(SendError(3)).is_disconnected() && SendTimeoutError::Timeout(4).is_timeout());
    assert_eq!(SendTimeoutError::Timeout(4).into_inner(), 4);
    assert!(TryRecvError::Empty.is_empty() && TryRecvError::from(RecvError).is_disconnected());
    assert!(RecvTimeoutError::Timeout.is_timeout() && RecvTimeoutError::from(RecvError).is_disconnected());
    // Not of the value, which may have none.
    struct Dull;
    assert_eq!(format!("{:?}", SendTimeoutError::Timeout(Dull)), "Timeout(..)");
    assert!(!format!("{} {}", SendTimeoutError::Timeout(Dull), RecvTimeoutError::Timeout).is_empty());
}

#[test]
fn a_rendezvous_needs_both() {
    on_pairs(|rt, a, b| {
        let (s, r) = bounded(0);
        assert_eq!(s.try_send(1), Err(TrySendError::Full(1)));
        assert_eq!(r.try_recv(), Err(TryRecvError::Empty));
        let arrived = Arc::new(AtomicUsize::new(0));
        let seen = arrived.clone();
        let sender = a.start(rt, move || {
            for n in 0..50 {
                s.send(n).unwrap();
                // Whoever has received it arrived before.
                assert!(seen.load(SeqCst) > n);
            }
        });
        let receiver = b.start(rt, move || {
            for n in 0..50 {
                arrived.store(n + 1, SeqCst);
                assert_eq!(r.recv(), Ok(n));
            }
            r.recv()
        });
        sender.join();
        assert_eq!(receiver.join(), Err(RecvError));
    });
}

#[test]
fn receivers_take_what_is_left_after_the_last_sender() {
    on_each(|rt, kind| {
        let (s, r) = unbounded();
        (0..3).for_each(|n| s.send(n).unwrap());
        drop(s);
        let got = kind.start(rt, move || (r.iter().collect::<Vec<i32>>(), r.recv(), r.try_recv(), r.recv_timeout(MS)));
        let disconnected = (Err(TryRecvError::Disconnected), Err(RecvTimeoutError::Disconnected));
        assert_eq!(got.join(), (vec![0, 1, 2], Err(RecvError), disconnected.0, disconnected.1));
    });
}

#[test]
fn a_disconnect_wakes_all_who_wait_with_and_without_a_deadline() {
    on_each(|rt, kind| {
        let (s, r) = bounded::<i32>(0);
        let receivers: Vec<_> = (0..6)
            .map(|i| {
                let r = r.clone();
                kind.start(rt, move || match i % 3 {
                    0 => r.recv().is_err(),
                    1 => r.recv_timeout(LONG) == Err(RecvTimeoutError::Disconnected),
                    _ => select! { recv(r) -> v => v.is_err(), recv(never::<()>()) -> _ => false },
                })
            })
            .collect();
        pause(5 * MS);
        drop(s);
        assert!(receivers.into_iter().all(Handle::join));

        let (s, r) = bounded(0);
        let senders: Vec<_> = (0..6)
            .map(|i| {
                let s = s.clone();
                kind.start(rt, move || match i % 3 {
                    0 => s.send(i) == Err(SendError(i)),
                    1 => s.send_timeout(i, LONG) == Err(SendTimeoutError::Disconnected(i)),
                    _ => select! { send(s, i) -> v => v == Err(SendError(i)), recv(never::<()>()) -> _ => false },
                })
            })
            .collect();
        pause(5 * MS);
        drop(r);
        assert!(senders.into_iter().all(Handle::join));
    });
}

#[test]
fn timeouts_are_not_early_and_values_in_time_are_taken() {
    on_pairs(|rt, a, b| {
        let (s, r) = bounded(0);
        let (begin, begun) = bounded(1);
        let receiver = a.start(rt, move || {
            let start = Instant::now();
            assert_eq!(r.recv_timeout(3 * MS), Err(RecvTimeoutError::Timeout));
            assert!(start.elapsed() >= 3 * MS);
            assert_eq!(r.recv_deadline(Instant::now()), Err(RecvTimeoutError::Timeout));
            assert_eq!(r.recv_deadline(start), Err(RecvTimeoutError::Timeout));
            begin.send(()).unwrap();
            let first = r.recv_timeout(LONG);
            // No clock reaches so far.
            let second = r.recv_timeout(Duration::MAX);
            assert!(start.elapsed() < LONG);
            (first, second)
        });
        let sender = b.start(rt, move || {
            begun.recv().unwrap();
            pause(5 * MS);
            (s.send_timeout(7, LONG), s.send_timeout(8, Duration::MAX))
        });
        assert_eq!((receiver.join(), sender.join()), ((Ok(7), Ok(8)), (Ok(()), Ok(()))));
    });
}

#[test]
fn a_sender_that_gives_up_has_its_value_back_and_leaves_the_queue() {
    on_each(|rt, kind| {
        let drops = Drops::default();
        let (s, r) = bounded(1);
        s.send(drops.token()).unwrap_or_else(|_| panic!());
        let (sender, token) = (s.clone(), drops.token());
        let gives_up = kind.start(rt, move || {
            let start = Instant::now();
            let error = sender.send_timeout(token, 3 * MS).unwrap_err();
            assert!(error.is_timeout() && start.elapsed() >= 3 * MS);
            error.into_inner()
        });
        let token = gives_up.join();
        assert_eq!(drops.count(), 0);
        drop(r.recv().unwrap());
        assert!(r.try_recv().is_err_and(|e| e.is_empty()), "nobody waits any more");
        assert_eq!(drops.count(), 1);
        drop(token);
        assert_eq!(drops.count(), 2);
    });
}

/// Deadlines that pass while values come: each value is received once or given back, and both sides agree on it.
#[test]
fn a_deadline_and_an_operation_at_the_same_time() {
    const ROUNDS: usize = 400;
    on_pairs(|rt, a, b| {
        let drops = Drops::default();
        let (s, r) = bounded(0);
        let counted = drops.clone();
        let sender = a.start(rt, move || {
            let sent = (0..ROUNDS).filter(|n| {
                let timeout = Duration::from_micros(20 + (n * 37 % 100) as u64);
                s.send_timeout(counted.token(), timeout).is_ok()
            });
            sent.count()
        });
        let receiver = b.start(rt, move || {
            let mut received = 0;
            for n in 0.. {
                match r.recv_timeout(Duration::from_micros(20 + (n * 53 % 100))) {
                    Ok(_) => received += 1,
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            }
            received
        });
        assert_eq!(sender.join(), receiver.join());
        assert_eq!(drops.count(), ROUNDS);
    });
}

#[test]
fn each_message_is_dropped_exactly_once() {
    on_pairs(|rt, a, b| {
        for capacity in [Some(0), Some(1), Some(5), None] {
            let drops = Drops::default();
            let (s, r) = capacity.map_or_else(unbounded, bounded);
            let senders: Vec<_> = (0..3)
                .map(|_| {
                    let (s, drops) = (s.clone(), drops.clone());
                    a.start(rt, move || (0..100).filter(|_| s.send(drops.token()).is_ok()).count())
                })
                .collect();
            drop(s);
            let counted = drops.clone();
            let receiver = b.start(rt, move || {
                r.iter().take(150).for_each(drop);
                assert!(counted.count() >= 150);
                // The rest goes with the channel, or comes back to its sender.
            });
            receiver.join();
            let sent: usize = senders.into_iter().map(Handle::join).sum();
            assert!((150..=300).contains(&sent));
            assert_eq!(drops.count(), 300, "{capacity:?}");
        }
    });
}

#[test]
fn what_is_in_the_channel_goes_with_it() {
    let drops = Drops::default();
    let (s, r) = unbounded();
    (0..10).for_each(|_| assert!(s.send(drops.token()).is_ok()));
    drop(r);
    assert_eq!(drops.count(), 10, "when nobody can receive it");
    assert!(s.send(drops.token()).is_err());
    assert_eq!(drops.count(), 11);
    let (s, r) = bounded(4);
    s.send(drops.token()).unwrap_or_else(|_| panic!());
    drop(s);
    assert_eq!((drops.count(), r.len()), (11, 1));
    drop(r);
    assert_eq!(drops.count(), 12);
}

/// A sender that panics is gone like any other.
#[test]
fn a_panic_in_a_sender_disconnects() {
    on_each(|rt, kind| {
        let (s, r) = bounded(0);
        let sender = kind.start(rt, move || {
            let panics = move || {
                s.send(1).unwrap();
                resume_unwind(Box::new("no more"));
            };
            catch_unwind(AssertUnwindSafe(panics)).is_err()
        });
        assert_eq!(r.iter().collect::<Vec<i32>>(), [1]);
        assert!(sender.join());
    });
}

/// In a destructor during a panic: it blocks its worker, and works.
#[test]
fn a_destructor_during_a_panic_may_wait() {
    struct Last(Sender<i32>, Receiver<i32>, Sender<()>);
    impl Drop for Last {
        fn drop(&mut self) {
            assert_eq!(self.0.send_timeout(1, MS), Err(SendTimeoutError::Timeout(1)));
            self.2.send(()).unwrap();
            select! {
                send(self.0, 2) -> sent => sent.unwrap(),
                recv(never::<()>()) -> _ => unreachable!(),
            }
            assert_eq!(self.1.recv_timeout(LONG), Ok(3));
        }
    }
    on_each(|rt, kind| {
        let ((s, r), (back, answer)) = (bounded(0), bounded(0));
        let (begin, begun) = bounded(1);
        let last = Last(s, answer, begin);
        let panics = kind.start(rt, move || {
            catch_unwind(AssertUnwindSafe(move || {
                let _last = last;
                resume_unwind(Box::new(()));
            }))
            .is_err()
        });
        begun.recv().unwrap();
        std::thread::sleep(5 * MS);
        assert_eq!(r.recv(), Ok(2));
        back.send(3).unwrap();
        assert!(panics.join());
    });
}

#[test]
fn iterators() {
    on_each(|rt, kind| {
        let (s, r) = bounded(1);
        let sender = kind.start(rt, move || (0..100).for_each(|n| s.send(n).unwrap()));
        let mut sum: i32 = (&r).into_iter().take(10).sum();
        sum += r.iter().take(40).sum::<i32>();
        sum += r.into_iter().sum::<i32>();
        assert_eq!(sum, 4950);
        sender.join();
    });
    let (s, r) = unbounded();
    (0..3).for_each(|n| s.send(n).unwrap());
    assert_eq!(r.try_iter().collect::<Vec<i32>>(), [0, 1, 2]);
    assert_eq!(r.try_iter().next(), None);
}

#[test]
fn select_takes_what_is_there() {
    let (s1, r1) = unbounded();
    let (s2, r2) = bounded::<&str>(1);
    s1.send(1).unwrap();
    let by_reference = &r1;
    select! {
        recv(by_reference) -> v => assert_eq!(v, Ok(1)),
        recv(r2) -> _ => unreachable!(),
    }
    select! {
        recv(r1) -> _ => unreachable!(),
        send(s2, "two") -> sent => sent.unwrap(),
    }
    assert_eq!(r2.recv(), Ok("two"));
    drop(s1);
    let word = select! {
        recv(r1) -> v => { assert_eq!(v, Err(RecvError)); "gone" }
        default => "nothing",
    };
    assert_eq!(word, "gone");
    drop(r2);
    let error = select!(send(s2, "three") -> sent => sent.unwrap_err());
    assert_eq!(error.into_inner(), "three");
}

#[test]
fn select_by_default() {
    on_each(|rt, kind| {
        kind.start(rt, || {
            let (s, r) = bounded::<i32>(0);
            assert!(select! { recv(r) -> _ => false, send(s, 1) -> _ => false, default => true });
            let start = Instant::now();
            assert!(select! { recv(r) -> _ => false, default(3 * MS) => true, });
            assert!(start.elapsed() >= 3 * MS);
            assert!(select! { default => true });
            assert!(select! { default(MS) => { true } });
            // With and without a comma after a block.
            assert!(select! { recv(r) -> _ => { false }, send(s, 1) -> _ => { false } default => { true }, });
            // The first that can be wins over a default that is far.
            let (s, r) = bounded(1);
            s.send(5).unwrap();
            assert_eq!(select! { recv(r) -> v => v, default(LONG) => unreachable!() }, Ok(5));
        })
        .join();
    });
}

/// Bodies are part of the function that they stand in.
#[test]
fn control_flow_in_select() {
    fn first_error(r: &Receiver<Result<u32, String>>, stop: &Receiver<()>) -> Result<u32, String> {
        let mut sum = 0;
        loop {
            select! {
                recv(r) -> value => match value {
                    Ok(value) => sum += value?,
                    Err(RecvError) => break,
                },
                recv(stop) -> _ => return Ok(0),
            }
        }
        Ok(sum)
    }
    let (s, r) = unbounded();
    let (_stop, stopped) = bounded(0);
    (1..4).for_each(|n| s.send(Ok(n)).unwrap());
    s.send(Err("four".to_owned())).unwrap();
    assert_eq!(first_error(&r, &stopped), Err("four".to_owned()));
    s.send(Ok(5)).unwrap();
    drop(s);
    assert_eq!(first_error(&r, &stopped), Ok(5));
}

/// The receivers are borrowed by the choice, and not by what follows.
#[test]
fn bodies_may_change_what_the_arms_refer_to() {
    struct Server {
        requests: Receiver<u32>,
        sum: u32,
    }
    impl Server {
        fn add(&mut self, n: u32) {
            self.sum += n;
        }
    }
    let (s, requests) = unbounded();
    let mut server = Server { requests, sum: 0 };
    s.send(3).unwrap();
    select! {
        recv(server.requests) -> n => server.add(n.unwrap()),
        default => unreachable!(),
    }
    assert_eq!(server.sum, 3);
}

#[test]
fn select_waits_for_whichever_comes() {
    on_pairs(|rt, a, b| {
        let ((s1, r1), (s2, r2), (s3, r3)) = (bounded(0), bounded(1), bounded::<i32>(0));
        let (done, all) = bounded(1);
        let chooser = a.start(rt, move || {
            let mut counts = [0; 3];
            while counts != [50, 50, 50] {
                select! {
                    recv(r1) -> n => { assert_eq!(n, Ok(counts[0])); counts[0] += 1 }
                    recv(r2) -> n => { assert_eq!(n, Ok(counts[1])); counts[1] += 1 }
                    send(s3, counts[2]) -> sent => { sent.unwrap(); counts[2] += 1; }
                }
            }
            done.send(()).unwrap();
            select! { recv(r1) -> n => n, recv(r2) -> n => n }
        });
        // A disconnect would be an arm to choose.
        let keep = (s1.clone(), s2.clone(), r3.clone());
        let others = [
            b.start(rt, move || (0..50).for_each(|n| s1.send(n).unwrap())),
            b.start(rt, move || {
                (0..50).for_each(|n| {
                    s2.send(n).unwrap();
                    pause(Duration::from_micros(n as u64 % 3 * 50));
                });
            }),
            b.start(rt, move || (0..50).for_each(|n| assert_eq!(r3.recv_timeout(LONG), Ok(n)))),
        ];
        others.into_iter().for_each(Handle::join);
        all.recv().unwrap();
        drop(keep);
        assert_eq!(chooser.join(), Err(RecvError));
    });
}

/// Both ends of a rendezvous are chosen by selects that have other arms, too: never half of one.
#[test]
fn selects_meet_selects() {
    const VALUES: u64 = 300;
    on_pairs(|rt, a, b| {
        let ((s1, r1), (s2, r2)) = (bounded(0), bounded(0));
        let senders: Vec<_> = (0..3)
            .map(|_| {
                let (s1, s2) = (s1.clone(), s2.clone());
                a.start(rt, move || {
                    for n in 0..VALUES {
                        select! { send(s1, n) -> sent => sent.unwrap(), send(s2, n) -> sent => sent.unwrap() }
                    }
                })
            })
            .collect();
        drop((s1, s2));
        let receivers: Vec<_> = (0..2)
            .map(|_| {
                let (r1, r2) = (r1.clone(), r2.clone());
                b.start(rt, move || {
                    let (mut sum, mut count) = (0, 0);
                    loop {
                        let n = select! { recv(r2) -> n => n, recv(r1) -> n => n };
                        let Ok(n) = n else { break (sum, count) };
                        (sum, count) = (sum + n, count + 1);
                    }
                })
            })
            .collect();
        senders.into_iter().for_each(Handle::join);
        let got = receivers.into_iter().map(Handle::join).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        assert_eq!(got, (3 * VALUES * (VALUES - 1) / 2, 3 * VALUES));
    });
}

/// One that could send to itself does not.
#[test]
fn a_select_does_not_meet_itself() {
    on_each(|rt, kind| {
        kind.start(rt, || {
            let (s, r) = bounded(0);
            for _ in 0..20 {
                let chosen = select! { send(s, 1) -> _ => 1, recv(r) -> _ => 2, default(MS / 4) => 0 };
                assert_eq!(chosen, 0);
            }
        })
        .join();
        // Two of them do meet.
        let (s, r) = bounded(0);
        let both: Vec<_> = (0..2)
            .map(|me| {
                let (s, r) = (s.clone(), r.clone());
                kind.start(
                    rt,
                    move || select! { send(s, me) -> sent => { sent.unwrap(); None } recv(r) -> n => n.ok() },
                )
            })
            .collect();
        let mut got: Vec<_> = both.into_iter().map(Handle::join).collect();
        got.sort_unstable();
        assert!(got == [None, Some(0)] || got == [None, Some(1)], "{got:?}");
    });
}

#[test]
fn select_is_fair() {
    const ROUNDS: usize = 10_000;
    on_each(|rt, kind| {
        let counts = kind.start(rt, || {
            let (s1, r1) = bounded(ROUNDS);
            let (s2, r2) = bounded(ROUNDS);
            let (s3, _r3) = bounded(ROUNDS);
            (0..ROUNDS).for_each(|_| [&s1, &s2].into_iter().for_each(|s| s.send(()).unwrap()));
            let mut counts = [0; 3];
            for _ in 0..ROUNDS {
                select! {
                    recv(r1) -> _ => counts[0] += 1,
                    recv(r2) -> _ => counts[1] += 1,
                    send(s3, ()) -> _ => counts[2] += 1,
                }
            }
            counts
        });
        let counts = counts.join();
        assert!(counts.iter().all(|count| (ROUNDS / 4..ROUNDS / 2).contains(count)), "{counts:?}");
    });
}

/// Those who wait are served in the order in which they came, also where some of them give up. That they come in this order is
/// a matter of pauses, which a busy machine may stretch: then again.
#[test]
fn first_come_first_served_but_for_those_that_left() {
    on_each(|rt, kind| {
        let in_order = || {
            let (s, r) = bounded(0);
            let wait = |i| {
                let r = r.clone();
                let f = move || if i % 3 == 1 { r.recv_timeout(60 * MS).ok() } else { r.recv().ok() };
                let waiter = kind.start(rt, f);
                std::thread::sleep(5 * MS);
                waiter
            };
            let waiters: Vec<_> = (0..9).map(wait).collect();
            std::thread::sleep(100 * MS);
            (0..6).for_each(|n| s.send(n).unwrap());
            // Who has got nothing, as another came too late to leave, is not to wait for ever.
            drop(s);
            let got: Vec<_> = waiters.into_iter().map(Handle::join).collect();
            got == [Some(0), None, Some(1), Some(2), None, Some(3), Some(4), None, Some(5)]
        };
        assert!((0..5).any(|_| in_order()));
    });
}

#[test]
fn channels_of_the_clock() {
    on_each(|rt, kind| {
        kind.start(rt, || {
            let start = Instant::now();
            let r = after(5 * MS);
            assert_eq!((r.try_recv(), r.len(), r.capacity()), (Err(TryRecvError::Empty), 0, Some(1)));
            let fired = r.recv().unwrap();
            assert!(fired >= start + 5 * MS && Instant::now() >= fired);
            assert_eq!(r.recv_timeout(MS), Err(RecvTimeoutError::Timeout), "once");

            let r = at(start);
            assert!(r.len() == 1 && r.is_full());
            assert_eq!(r.clone().try_recv(), Ok(start));
            assert!(r.is_empty(), "clones are one channel");

            assert!(select! { recv(after(MS)) -> _ => true, recv(after(LONG)) -> _ => false, default(LONG) => false });
            assert!(!select! { recv(after(LONG)) -> _ => true, default(MS) => false });
            assert!(!select! { recv(never::<i32>()) -> _ => true, default(MS) => false });

            let (start, ticks) = (Instant::now(), tick(3 * MS));
            let times: Vec<_> = ticks.iter().take(5).collect();
            assert!(start.elapsed() >= 15 * MS);
            times.windows(2).for_each(|pair| {
                let apart = (pair[1] - pair[0]).as_nanos();
                assert!(apart > 0 && apart % (3 * MS).as_nanos() == 0, "in phase");
            });
            pause(10 * MS);
            assert!(ticks.try_recv().is_ok() && ticks.try_recv().is_err(), "they do not add up");
        })
        .join();
    });
}

/// A value of the clock goes to one of those who wait.
#[test]
fn one_of_many_gets_the_time() {
    on_each(|rt, kind| {
        let r = after(10 * MS);
        let waiters: Vec<_> = (0..4)
            .map(|_| {
                let r = r.clone();
                kind.start(rt, move || usize::from(r.recv_timeout(30 * MS).is_ok()))
            })
            .collect();
        assert_eq!(waiters.into_iter().map(Handle::join).sum::<usize>(), 1);
    });
}

/// Frames with references up the stack around a wait that moves or freezes it.
#[prologue]
fn frames(n: u64, above: &mut u64, wait: &dyn Fn() -> u64) -> u64 {
    let mut mine = n;
    *above += n;
    let below = if n == 0 { wait() } else { frames(n - 1, &mut mine, wait) };
    below + mine
}

/// The frames of an operation are as large as its values, and there is room made for them.
#[test]
fn large_values_on_copying_stacks() {
    const BYTES: usize = 40_000;
    type Large = [u8; BYTES];
    // Room for the values here, and for the copies that an unoptimised build makes.
    #[prologue(frame = 16 * BYTES)]
    fn with_room<T>(f: impl FnOnce() -> T) -> T {
        f()
    }
    let rt = runtime();
    for capacity in [0, 1] {
        let (s, r) = bounded::<Large>(capacity);
        let senders: [fn(&Sender<Large>); 4] = [
            |s| with_room(|| s.send([1; BYTES]).unwrap()),
            |s| with_room(|| s.send_timeout([1; BYTES], LONG).unwrap()),
            |s| with_room(|| select! { send(s, [1; BYTES]) -> sent => sent.unwrap(), default(LONG) => unreachable!() }),
            |s| while with_room(|| s.try_send([1; BYTES]).is_err()) {},
        ];
        // The last of each do not wait: a rendezvous they would miss.
        let kinds = 3 + capacity;
        let start = |send: fn(&Sender<Large>)| {
            let s = s.clone();
            Kind::Go.start(&rt, move || send(&s))
        };
        let senders: Vec<_> = senders.into_iter().take(kinds).map(start).collect();
        let receivers: [fn(&Receiver<Large>) -> u8; 4] = [
            |r| with_room(|| r.recv().unwrap()[BYTES - 1]),
            |r| with_room(|| r.recv_timeout(LONG).unwrap()[BYTES - 1]),
            |r| with_room(|| select! { recv(r) -> v => v.unwrap()[BYTES - 1], default(LONG) => unreachable!() }),
            |r| loop {
                if let Some(byte) = with_room(|| r.try_recv().ok().map(|v| v[BYTES - 1])) {
                    break byte;
                }
            },
        ];
        let start = |receive: fn(&Receiver<Large>) -> u8| {
            let r = r.clone();
            Kind::Go.start(&rt, move || receive(&r))
        };
        let receivers: Vec<_> = receivers.into_iter().take(kinds).map(start).collect();
        senders.into_iter().for_each(Handle::join);
        assert_eq!(receivers.into_iter().map(Handle::join).sum::<u8>(), kinds as u8);
    }
}

/// Stacks are frozen and thawed in the middle of contested waits: what comes then comes to the right place.
#[test]
fn s16_contested_waits_while_stacks_freeze() {
    let rt = runtime();
    let (s, r) = bounded::<[u64; 5]>(0);
    let (stop, stopped) = bounded::<()>(0);
    let waiters: Vec<_> = (0..60_u64)
        .map(|i| {
            let (r, stopped) = (r.clone(), stopped.clone());
            Kind::Go.start(&rt, move || {
                let mut got = 0;
                loop {
                    let mut top = 0;
                    let value = frames(i % 5, &mut top, &|| {
                        let pause = Duration::from_micros(1500 + i * 100);
                        select! {
                            recv(r) -> v => v.unwrap().iter().sum(),
                            recv(stopped) -> _ => u64::MAX >> 1,
                            default(pause) => 0,
                        }
                    });
                    assert_eq!(top, i % 5);
                    // What the frames add.
                    let added: u64 = (0..=i % 5).sum::<u64>() + (0..i % 5).sum::<u64>();
                    match value - added {
                        0 => {}
                        15 => got += 1,
                        _ => break got,
                    }
                }
            })
        })
        .collect();
    for n in 0..2000 {
        s.send([1, 2, 3, 4, 5]).unwrap();
        if n % 100 == 0 {
            std::thread::sleep(2 * MS);
        }
    }
    drop(stop);
    assert_eq!(waiters.into_iter().map(Handle::join).sum::<u64>(), 2000);
    assert!(rt.metrics().freezes > 0, "{:?}", rt.metrics());
}

/// Requests with long timeouts that are all answered early.
#[test]
fn early_answers_leave_nothing_behind() {
    on_each(|rt, kind| {
        let drops = Drops::default();
        let (s, r) = bounded(0);
        let counted = drops.clone();
        let client = kind.start(rt, move || (0..20_000).for_each(|_| drop(r.recv_timeout(LONG).unwrap())));
        let server = kind.start(rt, move || (0..20_000).for_each(|_| assert!(s.send(counted.token()).is_ok())));
        client.join();
        server.join();
        assert_eq!(drops.count(), 20_000);
    });
}

#[test]
fn park_timeout_ends_by_either() {
    on_each(|rt, kind| {
        let (s, r) = bounded(1);
        let parker = kind.start(rt, move || {
            let start = Instant::now();
            while start.elapsed() < 3 * MS {
                morestack::park_timeout(3 * MS);
            }
            s.send(morestack::current()).unwrap();
            morestack::park_timeout(LONG);
            morestack::park_timeout(Duration::MAX);
            assert!(start.elapsed() < LONG);
            morestack::park_timeout(Duration::ZERO);
        });
        let thread = r.recv().unwrap();
        for _ in 0..2 {
            pause(5 * MS);
            thread.unpark();
        }
        // One more where the two came as one.
        pause(5 * MS);
        thread.unpark();
        parker.join();
    });
}

/// Deadlines and unparks at the same time: no unpark is lost, and none is made up that keeps the next park from waiting.
#[test]
fn park_timeout_and_unpark_at_the_same_time() {
    const ROUNDS: usize = 3_000;
    for kind in [Kind::Spawn, Kind::Go] {
        let rt = runtime();
        let turn = Arc::new(AtomicUsize::new(0));
        let mine = turn.clone();
        let (s, r) = bounded(1);
        let parker = kind.start(&rt, move || {
            s.send(morestack::current()).unwrap();
            let mut timeouts = 0;
            for n in 1..=ROUNDS {
                while mine.load(SeqCst) < n {
                    morestack::park_timeout(Duration::from_micros((n % 50) as u64));
                    timeouts += usize::from(mine.load(SeqCst) < n);
                }
            }
            timeouts
        });
        let thread = r.recv().unwrap();
        for n in 1..=ROUNDS {
            turn.store(n, SeqCst);
            thread.unpark();
            (0..n % 40 * 20).for_each(|_| std::hint::spin_loop());
        }
        parker.join();
    }
}

/// Many selects on few channels, of all kinds, with deadlines: every value arrives once.
#[test]
fn a_crowd() {
    const EACH: usize = 200;
    let rt = Runtime::builder().workers(3).freeze_after(Some(MS)).time_slice(Some(Duration::from_micros(100))).build();
    let rt = rt.unwrap();
    let (senders, receivers): (Vec<_>, Vec<_>) = [0, 1, 4].into_iter().map(bounded::<usize>).unzip();
    let [s0, s1, s2]: [Sender<usize>; 3] = senders.try_into().unwrap();
    let [r0, r1, r2]: [Receiver<usize>; 3] = receivers.try_into().unwrap();
    let producers: Vec<_> = (0..12)
        .map(|me| {
            let (s0, s1, s2) = (s0.clone(), s1.clone(), s2.clone());
            KINDS[me % 3].start(&rt, move || {
                let mut n = 0;
                while n < EACH {
                    let value = me * EACH + n;
                    let sent = select! {
                        send(s0, value) -> sent => sent.is_ok(),
                        send(s1, value) -> sent => sent.is_ok(),
                        send(s2, value) -> sent => sent.is_ok(),
                        default(Duration::from_micros(50)) => false,
                    };
                    n += usize::from(sent);
                }
            })
        })
        .collect();
    drop((s0, s1, s2));
    let consumers: Vec<_> = (0..6)
        .map(|me| {
            let (r0, r1, r2) = (r0.clone(), r1.clone(), r2.clone());
            KINDS[me % 3].start(&rt, move || {
                let mut got = Vec::new();
                loop {
                    let value = select! {
                        recv(r0) -> value => value,
                        recv(r1) -> value => value,
                        recv(r2) -> value => value,
                        default(Duration::from_micros(70)) => continue,
                    };
                    match value {
                        Ok(value) => got.push(value),
                        // All end at once; what is left in the others is taken.
                        Err(RecvError) => {
                            [&r0, &r1, &r2].into_iter().for_each(|r| got.extend(r.iter()));
                            break got;
                        }
                    }
                }
            })
        })
        .collect();
    producers.into_iter().for_each(Handle::join);
    let mut times = HashMap::new();
    consumers.into_iter().flat_map(Handle::join).for_each(|value| *times.entry(value).or_insert(0) += 1);
    assert_eq!(times.len(), 12 * EACH);
    assert!(times.values().all(|&n| n == 1));
}

#[test]
fn under_stress() {
    common::under_stress("");
}
