//! `select!` and the channels of the clock: crossbeam-channel's `select`, `select_macro`, `after`, `tick`, `never`,
//! `same_channel`, and Go's tests of `select`.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicBool;

use morestack::channel::{
    Receiver, RecvError, RecvTimeoutError, Select, SendError, Sender, TryRecvError, TrySendError, after, at, bounded,
    never, select, tick, unbounded,
};

use super::*;

behaviours! {
    /// An arm whose other side is gone is one that can be chosen, before `default` and any deadline.
    fn the_disconnected_are_ready(context) {
        let (s, r) = bounded::<u8>(1);
        let (s2, r2) = bounded::<u8>(0);
        s.send(1).unwrap();
        drop((s, r2));
        // What is left in it comes first.
        assert_eq!(select! { recv(r) -> v => v, default => unreachable!() }, Ok(1));
        for _ in 0..10 {
            assert_eq!(select! { recv(r) -> v => v, default => unreachable!() }, Err(RecvError));
            assert_eq!(select! { recv(r) -> v => v, default(LONG) => unreachable!() }, Err(RecvError));
            assert_eq!(select! { send(s2, 2) -> sent => sent, default => unreachable!() }, Err(SendError(2)));
            assert_eq!(
                select! { send(s2, 2) -> sent => sent, recv(never::<()>()) -> _ => unreachable!() },
                Err(SendError(2))
            );
        }
    }

    /// `try_send` and `try_recv` see one that waits in a `select!`, of any of its channels, and the rest is undone.
    fn who_selects_is_there_for_the_others(context) {
        let ((s1, r1), (s2, r2)) = (bounded(0), bounded(0));
        let (s3, r3) = bounded(0);
        let selects = context.start(move || {
            let mut log = Vec::new();
            while log.len() < 30 {
                select! {
                    recv(r1) -> v => log.push(v.unwrap()),
                    send(s3, "taken") -> sent => { sent.unwrap(); log.push(3) },
                    recv(r2) -> v => log.push(v.unwrap()),
                }
            }
            log
        });
        for _ in 0..10 {
            until(|| s1.try_send(1).is_ok());
            until(|| s2.try_send(2).is_ok());
            until(|| r3.try_recv() == Ok("taken"));
        }
        assert_eq!(selects.join(), [1, 2, 3].repeat(10));
        assert_eq!(s1.try_send(1), Err(TrySendError::Disconnected(1)));
        assert_eq!(r3.try_recv(), Err(TryRecvError::Disconnected));
    }

    /// Clones that go while one waits end nothing.
    fn clones_come_and_go_while_one_waits(context) {
        let ((s1, r1), (s2, r2)) = (bounded::<u8>(0), bounded(0));
        let (_s3, r3) = bounded::<u8>(0);
        let (waits, waiting) = bounded(1);
        let other = context.start({
            let (s1, r2) = (s1.clone(), r2.clone());
            move || {
                waiting.recv().unwrap();
                for _ in 0..50 {
                    drop((s1.clone(), r2.clone()));
                    morestack::yield_now();
                }
                drop((s1, r2));
            }
        });
        let selects = context.start(move || {
            waits.send(()).unwrap();
            select! { recv(r1) -> v => v, send(s2, 1) -> _ => unreachable!(), recv(r3) -> _ => unreachable!() }
        });
        other.join();
        s1.send(9).unwrap();
        assert_eq!(selects.join(), Ok(9));
        assert_eq!(r2.try_recv(), Err(TryRecvError::Disconnected));
    }

    /// One channel in several arms: whichever arm it is, a value comes once; all of them have their turn.
    fn one_channel_in_several_arms(context) {
        const VALUES: usize = 900;
        for capacity in [0, 10] {
            let (s, r) = bounded(capacity);
            let sender = context.start(move || {
                let mut by = [0; 3];
                for n in 0..VALUES {
                    select! {
                        send(s, n) -> sent => { sent.unwrap(); by[0] += 1 }
                        send(s, n) -> sent => { sent.unwrap(); by[1] += 1 }
                        send(s, n) -> sent => { sent.unwrap(); by[2] += 1 }
                    }
                }
                by
            });
            for n in 0..VALUES {
                let got = select! { recv(r) -> v => v, recv(r) -> v => v, recv(&r) -> v => v, default(LONG) => unreachable!() };
                assert_eq!(got, Ok(n));
            }
            let by = sender.join();
            assert_eq!(by.iter().sum::<usize>(), VALUES);
            assert_eq!(select! { recv(r) -> v => v, recv(r) -> v => v }, Err(RecvError));
        }
        // Without anybody else there it is a matter of chance alone.
        let (s, r) = unbounded();
        (0..VALUES).for_each(|n| s.send(n).unwrap());
        let mut by = [0; 3];
        for _ in 0..VALUES {
            select! { recv(r) -> _ => by[0] += 1, recv(r) -> _ => by[1] += 1, recv(r) -> _ => by[2] += 1 }
        }
        assert!(by.iter().all(|n| (VALUES / 5..VALUES / 2).contains(n)), "{by:?}");
    }

    /// Threads that offer and ask at once pair up; of an odd number one is left, for whom another comes.
    fn all_find_a_partner(context) {
        for threads in [8, 9] {
            let (s, r) = bounded(0);
            let all = context.start_all(threads, |me| {
                let (s, r) = (s.clone(), r.clone());
                move || select! {
                    send(s, me) -> sent => { sent.unwrap(); None }
                    recv(r) -> other => { assert_ne!(other, Ok(me)); other.ok() }
                }
            });
            if threads == 9 {
                // It is one of both kinds.
                select! { send(s, 100) -> sent => sent.unwrap(), recv(r) -> v => assert!(v.unwrap() < 9) }
            }
            let got: Vec<_> = all.into_iter().filter_map(Handle::join).collect();
            assert!(got.len() == threads / 2 || got.len() == threads.div_ceil(2), "{got:?}");
        }
    }

    /// Go's `TestSelfSelect`: nobody receives what it has sent itself, with no room, and nobody is stuck, with room.
    fn both_ends_in_one_select(context) {
        for capacity in [0, 10] {
            let (s, r) = bounded(capacity);
            let both = context.start_all(2, |me| {
                let (s, r) = (s.clone(), r.clone());
                move || for n in 0..500 {
                    let got = if n % 2 == 0 {
                        select! { send(s, me) -> sent => { sent.unwrap(); None }, recv(r) -> v => v.ok() }
                    } else {
                        select! { recv(r) -> v => v.ok(), send(s, me) -> sent => { sent.unwrap(); None } }
                    };
                    assert!(capacity > 0 || got != Some(me));
                }
            });
            // The last one of them needs somebody.
            let (stop, stopped) = bounded::<()>(0);
            let helper = context.start(move || if capacity == 0 {
                loop {
                    select! {
                        recv(stopped) -> _ => break,
                        recv(r) -> other => assert_ne!(other, Ok(2)),
                        send(s, 2) -> sent => sent.unwrap(),
                    }
                }
            });
            both.into_iter().for_each(Handle::join);
            drop(stop);
            helper.join();
        }
    }

    /// At every moment one of two channels has a value: then `default` is never chosen.
    fn default_sees_all_channels_at_one_moment(context) {
        for capacity in [Some(1), None] {
            let open = || capacity.map_or_else(unbounded, bounded);
            let ((s1, r1), (s2, r2)) = (open(), open());
            let (begin, begun) = bounded(0);
            let (end, ended) = bounded(0);
            let other = context.start({
                let (r1, s2) = (r1.clone(), s2.clone());
                move || {
                    for () in begun {
                        s2.send(2).unwrap();
                        let _ = r1.try_recv();
                        end.send(()).unwrap();
                    }
                }
            });
            for n in 0..5_000 {
                s1.send(1).unwrap();
                begin.send(()).unwrap();
                match n % 3 {
                    0 => select! { recv(r1) -> _ => {}, recv(r2) -> _ => {}, default => panic!("nothing, {n}") },
                    1 => select! {
                        recv(r1) -> _ => {},
                        recv(r2) -> _ => {},
                        default(Duration::ZERO) => panic!("nothing in no time, {n}"),
                    },
                    _ => select! {
                        recv(r1) -> _ => {},
                        recv(r2) -> _ => {},
                        default(Duration::from_nanos(1)) => panic!("nothing in time, {n}"),
                    },
                }
                ended.recv().unwrap();
                r1.try_iter().for_each(drop);
                r2.try_iter().for_each(drop);
            }
            drop(begin);
            other.join();
        }
    }

    /// Channels of every capacity, each with somebody who keeps it busy: none is left out.
    fn none_is_left_out(context) {
        let ((s0, r0), (s1, r1), (su, ru)) = (bounded(0), bounded(1), unbounded());
        let stop = Arc::new(AtomicBool::new(false));
        let feeders: Vec<_> = [s0, s1, su]
            .into_iter()
            .map(|s: Sender<()>| {
                let stop = stop.clone();
                context.start(move || while !stop.load(SeqCst) {
                    if s.len() < 10 {
                        let _ = s.send_timeout((), MS);
                    }
                    morestack::yield_now();
                })
            })
            .collect();
        let mut counts = [0; 3];
        let start = Instant::now();
        while counts.iter().any(|count| *count < 50) {
            select! {
                recv(r0) -> _ => counts[0] += 1,
                recv(r1) -> _ => counts[1] += 1,
                recv(ru) -> _ => counts[2] += 1,
            }
            assert!(start.elapsed() < LONG, "{counts:?}");
        }
        stop.store(true, SeqCst);
        feeders.into_iter().for_each(Handle::join);
    }

    /// Through a `select!` values of one channel keep their order.
    fn in_order_by_channel(context) {
        let ((s1, r1), (s2, r2)) = (bounded(0), bounded(2));
        let senders = [s1, s2].map(|s| context.start(move || (0..300).for_each(|n| s.send(n).unwrap())));
        let mut next = [0; 2];
        while next != [300; 2] {
            let (i, n) = select! {
                recv(if next[0] < 300 { &r1 } else { &r2 }) -> n => (usize::from(next[0] >= 300), n),
                recv(if next[1] < 300 { &r2 } else { &r1 }) -> n => (usize::from(next[1] < 300), n),
            };
            assert_eq!(n, Ok(next[i]));
            next[i] += 1;
        }
        senders.into_iter().for_each(Handle::join);
    }

    /// In the body of a choice, and in what its arms are made of.
    fn selects_in_selects(context) {
        let (s, r) = bounded(0);
        let echo = context.start(move || (0..4).for_each(|n| s.send(n).unwrap()));
        let sum = select! {
            recv(r) -> a => a.unwrap() + select! {
                recv(r) -> b => b.unwrap() * 10 + select! { recv(r) -> c => c.unwrap() * 100 },
            },
        };
        assert_eq!(sum, 210);
        // The value that it sends is received where it stands.
        let (s2, r2) = bounded(1);
        select! {
            send(s2, r.recv().unwrap()) -> sent => sent.unwrap(),
            recv(r2) -> _ => unreachable!(),
        }
        assert_eq!(r2.recv(), Ok(3));
        echo.join();
    }

    /// Each expression once, in the order of the arms, whichever is chosen; a value that is not sent is dropped.
    fn what_is_evaluated_and_when(context) {
        let drops = Drops::default();
        let ((s1, r1), (s2, r2)) = (bounded::<Token>(0), bounded::<u8>(1));
        let order = Cell::new(0);
        let step = |n| {
            assert_eq!(order.replace(n + 1), n);
        };
        select! {
            send({ step(0); &s1 }, { step(1); drops.token() }) -> _ => unreachable!(),
            recv({ step(2); &r2 }) -> _ => unreachable!(),
            send({ step(3); &s2 }, { step(4); 7 }) -> sent => sent.unwrap(),
            recv({ step(5); never::<()>() }) -> _ => unreachable!(),
            default({ step(6); LONG }) => unreachable!(),
        }
        assert_eq!((order.get(), drops.count(), r2.len()), (7, 1, 1));
        // A panic in between: nobody is left in a queue, and nothing is kept.
        let result = catch_unwind(AssertUnwindSafe(|| {
            select! {
                send(s1, drops.token()) -> _ => {},
                recv({ if drops.count() == 1 { silent_panic() } &r2 }) -> _ => {},
            }
        }));
        assert!(result.is_err());
        assert_eq!((drops.count(), r2.len()), (2, 1));
        assert!(r1.try_recv().is_err_and(|error| error.is_empty()));
    }

    /// What stands for an end, and in which form arms may be written.
    fn arms_in_every_form(context) {
        struct Ends(Box<Receiver<u8>>, Vec<Sender<u8>>);
        let (s, r) = unbounded();
        let ends = Ends(Box::new(r.clone()), vec![s.clone()]);
        let by_fn = || &ends.1[0];
        for n in 0..9 {
            select! { send(by_fn(), n) -> sent => sent.unwrap() };
        }
        // Patterns, and no comma after blocks.
        select! {
            recv(*ends.0) -> value => { assert_eq!(value, Ok(0)) }
            send(ends.1[0], 9) -> _sent => {}
            default() => {}
        }
        select!(recv(r,) -> (Ok::<u8, _>(_) | Err(_)) => (),);
        select! { recv(r.clone()) -> _ => (), default => unreachable!(), }
        select! { default => unreachable!(), recv(&&r) -> _ => {} }
        // One name in several arms, and a type that is known later.
        let (s2, r2) = bounded(1);
        let value = select! { recv(r2) -> value => value, default(MS) => Ok("late") };
        assert_eq!(value, Ok("late"));
        s2.send("sent").unwrap();
        // What an arm's body moves, the other's may move, too.
        let moved = vec![1];
        let got = select! {
            recv(r2) -> _ => moved,
            recv(never::<()>()) -> _ => { let mut moved = moved; moved.push(2); moved }
        };
        assert_eq!(got, [1]);
        // What was received may be what is chosen from next.
        let (s3, r3) = bounded(1);
        s3.send(r.clone()).unwrap();
        let inner = select! { recv(r3) -> inner => inner.unwrap() };
        assert!(inner.same_channel(&r) && select! { recv(inner) -> v => v.is_ok() });
    }

    /// As many as there are names for, here: all are looked at.
    fn many_arms(context) {
        let ends: Vec<_> = (0..12).map(|_| bounded(1)).collect();
        for i in 0..12 {
            ends[i].0.send(i).unwrap();
            let got = select! {
                recv(ends[0].1) -> v => v, recv(ends[1].1) -> v => v, recv(ends[2].1) -> v => v,
                recv(ends[3].1) -> v => v, recv(ends[4].1) -> v => v, recv(ends[5].1) -> v => v,
                recv(ends[6].1) -> v => v, recv(ends[7].1) -> v => v, recv(ends[8].1) -> v => v,
                recv(ends[9].1) -> v => v, recv(ends[10].1) -> v => v, recv(ends[11].1) -> v => v,
            };
            assert_eq!(got, Ok(i));
        }
    }

    /// What crossbeam's say of themselves.
    fn channels_of_the_clock_as_channels(context) {
        let never = never::<u8>();
        assert_eq!((never.len(), never.capacity(), never.is_empty(), never.is_full()), (0, Some(0), true, true));
        let start = Instant::now();
        assert_eq!(never.recv_timeout(2 * MS), Err(RecvTimeoutError::Timeout));
        assert!(start.elapsed() >= 2 * MS);
        let (after, tick, late) = (after(LONG), tick(LONG), at(start + LONG));
        for r in [&after, &tick, &late] {
            assert_eq!((r.len(), r.capacity(), r.is_empty(), r.is_full()), (0, Some(1), true, false));
            assert_eq!(r.try_iter().count(), 0);
            assert!(r.same_channel(&r.clone()));
        }
        assert!(!after.same_channel(&tick) && !tick.same_channel(&late) && !after.same_channel(&at(start)));
    }

    /// Several who wait for ticks share them; none comes early.
    fn ticks_are_shared(context) {
        let start = Instant::now();
        let ticks = tick(2 * MS);
        let takers = context.start_all(3, |_| {
            let ticks = ticks.clone();
            move || (0..3).map(|_| ticks.recv().unwrap()).collect::<Vec<_>>()
        });
        let mut all: Vec<_> = takers.into_iter().flat_map(Handle::join).collect();
        assert!(start.elapsed() >= 9 * 2 * MS);
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 9, "each goes to one");
    }

    /// A time limit for many operations, one for each of them, and work at intervals, together.
    fn limits_and_intervals_together(context) {
        let (s, r) = bounded(0);
        let worker = context.start(move || while s.send(()).is_ok() {
            morestack::sleep(MS / 2);
        });
        let (start, limit, ticks) = (Instant::now(), after(100 * MS), tick(3 * MS));
        let (mut values, mut beats) = (0, 0);
        loop {
            select! {
                recv(r) -> v => { v.unwrap(); values += 1 }
                recv(ticks) -> at => { assert!(at.unwrap() >= start + 3 * MS); beats += 1 }
                recv(limit) -> at => {
                    assert!(at.unwrap() >= start + 100 * MS);
                    break;
                }
                default(LONG) => unreachable!(),
            }
        }
        let most = start.elapsed().as_millis() / 3;
        assert!(start.elapsed() >= 100 * MS && values > 0 && (1..=most).contains(&beats), "{values} {beats}");
        drop(r);
        worker.join();
    }

    /// Every value of many channels, of several types, whose senders go one after another.
    fn lists(context) {
        let (numbers, texts) = ([0, 1, 2].map(bounded::<u64>), [0, 1].map(bounded::<String>));
        let mut senders = Vec::new();
        for (i, (s, _)) in (0..).zip(&numbers) {
            let s = s.clone();
            senders.push(context.start(move || (0..20 * (i + 1)).for_each(|n| s.send(n).unwrap())));
        }
        for (s, _) in &texts {
            let s = s.clone();
            senders.push(context.start(move || (0..30).for_each(|n| s.send(format!("{n}")).unwrap())));
        }
        let (numbers, texts) = (numbers.map(|(_, r)| r), texts.map(|(_, r)| r));
        let mut select = Select::new();
        numbers.iter().for_each(|r| _ = select.recv(r));
        texts.iter().for_each(|r| _ = select.recv(r));
        let (mut sum, mut open) = (0, 5);
        while open > 0 {
            let chosen = select.select();
            let index = chosen.index();
            let value = match index {
                0..3 => chosen.recv(&numbers[index]),
                _ => chosen.recv(&texts[index - 3]).map(|text| text.parse().unwrap()),
            };
            match value {
                Ok(n) => sum += n,
                Err(RecvError) => {
                    select.remove(index);
                    open -= 1;
                }
            }
        }
        assert_eq!(sum, [20, 40, 60, 30, 30].map(|n: u64| n * (n - 1) / 2).iter().sum());
        senders.into_iter().for_each(Handle::join);
        assert!(catch_unwind(AssertUnwindSafe(|| _ = select.select())).is_err(), "the list is empty");
    }

    fn lists_that_send(context) {
        let drops = Drops::default();
        let (a, b, other) = (bounded::<Token>(0), bounded::<Token>(1), bounded::<Token>(0));
        let (s, r) = bounded::<Token>(0);
        let mut select = Select::new();
        assert_eq!((select.send(&a.0, drops.token()), select.recv(&a.1), select.send(&b.0, drops.token())), (0, 1, 2));
        assert!(format!("{select:?}").contains('3'));
        // Not to itself.
        let chosen = select.select_timeout(LONG).unwrap();
        assert_eq!(chosen.index(), 2);
        assert!(chosen.send(&b.0).is_ok());
        assert!(select.try_select().is_none() && select.select_timeout(MS).is_none());
        assert!(select.select_deadline(Instant::now()).is_none());
        let receives = context.start({
            let r = a.1.clone();
            move || r.recv().is_ok()
        });
        let chosen = select.select();
        assert_eq!(chosen.index(), 0);
        assert!(chosen.send(&a.0).is_ok() && receives.join());
        // It is gone with its value; the rest is there.
        assert!(catch_unwind(AssertUnwindSafe(|| select.remove(0))).is_err());
        assert_eq!(drops.count(), 1);
        let sends = context.start({
            let (s, token) = (a.0.clone(), drops.token());
            move || s.send(token).is_ok()
        });
        assert_eq!(select.select().recv(&a.1).map(drop), Ok(()));
        assert!(sends.join());
        // One that is gone is ready, and gives the value back.
        drop(b.1.recv());
        let sends = select.send(&other.0, drops.token());
        let unsent = select.send(&a.0, drops.token());
        assert!(select.try_select().is_none());
        drop(r);
        let refused = select.send(&s, drops.token());
        let chosen = select.select();
        assert_eq!(chosen.index(), refused);
        assert!(chosen.send(&s).is_err());
        assert_eq!(drops.count(), 4);
        select.remove(unsent);
        drop(select);
        assert_eq!((drops.count(), sends < refused), (6, true));
    }

    /// An operation is asked for by its own channel, and by what it does.
    fn lists_that_are_misread(context) {
        let (a, b) = (unbounded::<u64>(), unbounded::<String>());
        let mut select = Select::new();
        select.recv(&a.1);
        for misread in 0..3 {
            a.0.send(7).unwrap();
            let chosen = select.select();
            let panics = catch_unwind(AssertUnwindSafe(|| match misread {
                0 => _ = chosen.recv(&b.1),
                1 => _ = chosen.send(&a.0),
                _ => _ = chosen.recv(&unbounded::<u64>().1),
            }));
            assert!(panics.is_err());
        }
        // Nor is it asked for again.
        assert!(select.try_select().is_none());
        a.0.send(8).unwrap();
        assert_eq!(select.select().recv(&a.1), Ok(8));
    }
}
