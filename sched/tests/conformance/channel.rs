//! Channels of every capacity: crossbeam-channel's `array`, `list`, `zero`, `iter`, `mpsc`, `golang`, `thread_locals`, and
//! std's `mpsc`. `tests/channels.rs` has what is ours.

use std::any::Any;
use std::cell::RefCell;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicBool;

use morestack::channel::{
    Receiver, RecvError, RecvTimeoutError, SendError, SendTimeoutError, Sender, TryRecvError, TrySendError, bounded,
    unbounded,
};

use super::*;

/// With and without room, and with room for all.
const CAPACITIES: [Option<usize>; 5] = [Some(0), Some(1), Some(3), Some(100), None];

pub(super) fn open<T>(capacity: Option<usize>) -> (Sender<T>, Receiver<T>) {
    capacity.map_or_else(unbounded, bounded)
}

behaviours! {
    fn one_to_one_in_order(context) {
        for capacity in CAPACITIES {
            let (s, r) = open(capacity);
            let sender = context.start(move || (0..500).for_each(|n| s.send(n).unwrap()));
            (0..500).for_each(|n| assert_eq!(r.recv(), Ok(n)));
            assert_eq!(r.recv(), Err(RecvError));
            sender.join();
        }
    }

    /// Each value comes once, and those of one sender to one receiver come in order.
    fn many_to_many(context) {
        const EACH: usize = 200;
        for capacity in CAPACITIES {
            let (s, r) = open(capacity);
            let senders = context.start_all(4, |me| {
                let s = s.clone();
                move || (0..EACH).for_each(|n| s.send((me, n)).unwrap())
            });
            drop(s);
            let receivers = context.start_all(4, |_| {
                let r = r.clone();
                move || r.iter().collect::<Vec<_>>()
            });
            senders.into_iter().for_each(Handle::join);
            let mut seen = HashSet::new();
            for receiver in receivers {
                let got = receiver.join();
                let mut last = [None; 4];
                for (me, n) in got {
                    assert!(last[me].is_none_or(|last| last < n), "{me}: {n} after {:?}", last[me]);
                    last[me] = Some(n);
                    assert!(seen.insert((me, n)));
                }
            }
            assert_eq!(seen.len(), 4 * EACH);
        }
    }

    /// `len` never says more than there may be, and is exact when nobody is at it.
    fn len_while_others_are_at_it(context) {
        for capacity in [1, 3, 100] {
            let (s, r) = bounded(capacity);
            let stop = Arc::new(AtomicBool::new(false));
            let others = [{
                let (s, stop) = (s.clone(), stop.clone());
                context.start(move || while !stop.load(SeqCst) {
                    let _ = s.send_timeout(0, MS);
                    assert!(s.len() <= capacity);
                })
            }, {
                let (r, stop) = (r.clone(), stop.clone());
                context.start(move || while !stop.load(SeqCst) {
                    let _ = r.recv_timeout(MS);
                    assert!(r.len() <= capacity);
                })
            }];
            for _ in 0..500 {
                assert!(s.len() <= capacity && r.len() <= capacity);
                morestack::yield_now();
            }
            stop.store(true, SeqCst);
            others.into_iter().for_each(Handle::join);
            r.try_iter().for_each(drop);
            for n in 1..=capacity {
                s.try_send(n).unwrap();
                assert_eq!((s.len(), r.len(), s.is_full(), r.is_empty()), (n, n, n == capacity, false));
            }
            for n in (0..capacity).rev() {
                r.try_recv().unwrap();
                assert_eq!((s.len(), r.len(), r.is_full(), s.is_empty()), (n, n, false, n == 0));
            }
        }
    }

    /// What can be done at once is done, however little time is given; what cannot, for want of the other side, ends with
    /// that, and not with the time.
    fn the_possible_comes_before_the_deadline(context) {
        let past = Instant::now();
        let (s, r) = bounded(1);
        s.send_timeout(1, Duration::ZERO).unwrap();
        assert_eq!(s.send_timeout(2, Duration::ZERO), Err(SendTimeoutError::Timeout(2)));
        assert_eq!(r.recv_timeout(Duration::ZERO), Ok(1));
        assert_eq!(r.recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Timeout));
        s.send_deadline(3, past).unwrap();
        assert_eq!(s.send_deadline(4, past), Err(SendTimeoutError::Timeout(4)));
        let other = r.clone();
        drop(r);
        assert_eq!(other.recv_deadline(past), Ok(3));
        s.send(5).unwrap();
        drop(other);
        // It is full as well.
        assert_eq!(s.send_deadline(6, past), Err(SendTimeoutError::Disconnected(6)));
        let (s, r) = unbounded::<u8>();
        drop(s);
        assert_eq!(r.recv_deadline(past), Err(RecvTimeoutError::Disconnected));
    }

    fn nothing_is_sent_after_the_last_receiver(context) {
        for capacity in CAPACITIES {
            let (s, r) = open(capacity);
            let other = r.clone();
            drop(r);
            context.start(move || drop(other)).join();
            for _ in 0..3 {
                assert_eq!(s.send(1), Err(SendError(1)));
                assert_eq!(s.try_send(2), Err(TrySendError::Disconnected(2)));
                assert_eq!(s.send_timeout(3, LONG), Err(SendTimeoutError::Disconnected(3)));
                assert_eq!(s.clone().send(4), Err(SendError(4)));
            }
        }
    }

    /// One sender and one receiver are enough, whichever clones they are.
    fn the_last_clone_counts(context) {
        for capacity in CAPACITIES {
            let (s, r) = open::<usize>(capacity);
            let senders = context.start_all(5, |i| {
                let s = s.clone();
                move || if i == 3 { Some(s) } else { None }
            });
            drop(s);
            let mut left: Vec<_> = senders.into_iter().filter_map(Handle::join).collect();
            assert_eq!(r.try_recv(), Err(TryRecvError::Empty));
            let s = left.pop().unwrap();
            let sends = context.start(move || s.send(7));
            assert_eq!(r.recv(), Ok(7));
            sends.join().unwrap();
            assert_eq!(r.try_recv(), Err(TryRecvError::Disconnected));
        }
    }

    /// With room for one value, `send` returns for the second only after the first was received.
    fn a_sender_waits_for_room(context) {
        let (s, r) = bounded(1);
        let sent = Arc::new(AtomicUsize::new(0));
        let mine = sent.clone();
        let sender = context.start(move || for n in 0..20 {
            s.send(n).unwrap();
            mine.store(n + 1, SeqCst);
        });
        for n in 0..20 {
            // This one, and the next one where the channel has room for it meanwhile.
            until(|| sent.load(SeqCst) > n);
            assert_eq!(sent.load(SeqCst), n + 1);
            assert_eq!(r.recv(), Ok(n));
        }
        sender.join();
    }

    /// A receiver that waits makes `try_send` possible where there is no room, and a sender `try_recv`.
    fn the_other_side_waits(context) {
        let (s, r) = bounded(0);
        let receiver = context.start(move || [r.recv().unwrap(), r.recv_timeout(LONG).unwrap()]);
        for n in 0..2 {
            until(|| s.try_send(n).is_ok());
        }
        assert_eq!(receiver.join(), [0, 1]);
        let (s, r) = bounded(0);
        let sender = context.start(move || {
            s.send(0).unwrap();
            s.send_timeout(1, LONG).unwrap();
        });
        for n in 0..2 {
            let mut got = r.try_recv();
            while got == Err(TryRecvError::Empty) {
                morestack::sleep(MS / 10);
                got = r.try_recv();
            }
            assert_eq!(got, Ok(n));
        }
        sender.join();
    }

    /// Both ends of channels for one value go at the same time as it is sent and received.
    fn ends_meet_ends(context) {
        for round in 0..200 {
            let drops = Drops::default();
            let (s, r) = open::<Token>(CAPACITIES[round % 5]);
            let token = drops.token();
            let sender = context.start(move || match round % 3 {
                0 => drop(s),
                _ => drop(s.send(token)),
            });
            let receiver = context.start(move || match round % 4 {
                0 => drop(r),
                1 => drop(r.try_recv()),
                2 => drop(r.recv_timeout(MS)),
                _ => drop(r.recv()),
            });
            sender.join();
            receiver.join();
            assert_eq!(drops.count(), 1, "{round}");
        }
    }

    fn values_of_all_sizes(context) {
        fn pass<T: Send + Clone + PartialEq + 'static>(context: Context, value: T) {
            for capacity in CAPACITIES {
                let (s, r) = open(capacity);
                let mine = value.clone();
                let sender = context.start(move || (0..20).for_each(|_| assert!(s.send(mine.clone()).is_ok())));
                assert!((0..20).all(|_| r.recv().is_ok_and(|got| got == value)));
                sender.join();
                assert!(r.recv().is_err());
            }
        }
        pass(context, ());
        pass(context, 1_u8);
        pass(context, [u64::MAX; 33]);
        pass(context, "text".to_owned());
        pass(context, vec![Some(Box::new(3))]);
    }

    /// Each message is the next channel.
    fn channels_through_channels(context) {
        const LINKS: usize = 100;
        for capacity in CAPACITIES {
            let (s, r) = open::<Box<dyn Any + Send>>(capacity);
            let sender = context.start(move || {
                let mut s = s;
                for _ in 0..LINKS {
                    let (next, receiver) = open::<Box<dyn Any + Send>>(capacity);
                    s.send(Box::new(receiver)).unwrap();
                    s = next;
                }
            });
            let mut r = r;
            for _ in 0..LINKS {
                r = *r.recv().unwrap().downcast::<Receiver<Box<dyn Any + Send>>>().unwrap();
            }
            assert!(r.recv().is_err());
            sender.join();
        }
    }

    /// A message whose destructor panics takes none of the others with it.
    fn a_message_that_panics_when_dropped(context) {
        struct Bad;
        impl Drop for Bad {
            fn drop(&mut self) {
                silent_panic();
            }
        }
        for capacity in [Some(8), None] {
            let (drops, (s, r)) = (Drops::default(), open::<(Token, Option<Bad>)>(capacity));
            for i in 0..6 {
                assert!(s.send((drops.token(), (i == 2).then(|| Bad))).is_ok());
            }
            assert!(catch_unwind(AssertUnwindSafe(|| drop(r))).is_err());
            assert_eq!(drops.count(), 6);
            assert!(s.send((drops.token(), None)).is_err());
            drop(s);
            assert_eq!(drops.count(), 7);
        }
    }

    /// Messages that hold the channel they are in, and use it when they are dropped.
    fn a_message_that_uses_its_own_channel(context) {
        struct Uses(Sender<Uses>, Arc<AtomicUsize>);
        impl Drop for Uses {
            fn drop(&mut self) {
                let (again, refused) = (Uses(self.0.clone(), self.1.clone()), self.0.len());
                // It comes back, and must not be dropped in its turn.
                if let Err(error) = self.0.try_send(again) {
                    std::mem::forget(error);
                    self.1.fetch_add(1 + refused, SeqCst);
                }
            }
        }
        for capacity in [Some(4), None] {
            let (refused, (s, r)) = (Arc::new(AtomicUsize::new(0)), open(capacity));
            for _ in 0..3 {
                assert!(s.send(Uses(s.clone(), refused.clone())).is_ok());
            }
            drop((s, r));
            assert_eq!(refused.load(SeqCst), 3);
        }
    }

    /// Who has put something in takes something out: there is always one for it.
    fn as_many_out_as_in(context) {
        for capacity in [Some(4), None] {
            let (s, r) = open(capacity);
            let threads = context.start_all(4, |_| {
                let (s, r) = (s.clone(), r.clone());
                move || for n in 0..500 {
                    s.try_send(n).expect("room for each thread");
                    r.try_recv().expect("one for each thread");
                }
            });
            threads.into_iter().for_each(Handle::join);
            assert!(r.is_empty());
        }
    }

    fn iterators_by_all_their_ways(context) {
        let (s, r) = bounded(2);
        let (counts, count) = bounded(1);
        // One that stops at a value goes on with the next one; one within another takes its share.
        let counter = context.start(move || {
            let mut seen = Vec::new();
            for n in &r {
                seen.push(n);
                if n == 2 {
                    break;
                }
            }
            for n in r.iter() {
                seen.push(n);
                seen.extend(r.iter().take(2));
            }
            let mut ended = r.iter();
            assert!((0..3).all(|_| ended.next().is_none()));
            assert_eq!(r.try_iter().next(), None);
            counts.send(seen).unwrap();
            r.into_iter().count()
        });
        (0..9).for_each(|n| s.send(n).unwrap());
        drop(s);
        assert_eq!(count.recv().unwrap(), (0..9).collect::<Vec<_>>());
        assert_eq!(counter.join(), 0);
        // Requests and answers: those that do not wait end in between.
        let (ask, asked) = bounded(0);
        let (answer, answers) = bounded(0);
        assert_eq!(asked.try_iter().count(), 0);
        let client = context.start(move || {
            let mut sum = 0;
            while sum < 20 {
                ask.send(()).unwrap();
                sum += answers.recv().unwrap();
            }
            sum
        });
        for () in asked {
            answer.send(6).unwrap();
        }
        assert_eq!(client.join(), 24);
    }

    /// The others go on, and the channel ends with the last of them.
    fn one_of_the_senders_panics(context) {
        for capacity in CAPACITIES {
            let (s, r) = open(capacity);
            let senders = context.start_all(4, |i| {
                let s = s.clone();
                move || {
                    let _mine = &s;
                    for n in 0..10 {
                        if i == 2 && n == 5 {
                            silent_panic();
                        }
                        s.send(i * 10 + n).unwrap();
                    }
                }
            });
            drop(s);
            let mut got: Vec<_> = r.iter().collect();
            got.sort_unstable();
            assert_eq!(got, (0..25).chain(30..40).collect::<Vec<_>>());
            let failed: Vec<_> = senders.into_iter().map(|sender| sender.result().is_err()).collect();
            assert_eq!(failed, [false, false, true, false]);
        }
    }

    /// Who waits to send to one that panics gets its value back; with another receiver there, that one gets it.
    fn one_of_the_receivers_panics(context) {
        for other_too in [false, true] {
            let (drops, (s, r)) = (Drops::default(), bounded(0));
            let mut others = Vec::new();
            if other_too {
                let r = r.clone();
                others.push(context.start(move || {
                    // Not before the other one has panicked.
                    morestack::sleep(2 * MS);
                    r.recv().is_ok()
                }));
            }
            let panics = context.start(move || {
                drop(r.recv().unwrap());
                silent_panic();
            });
            s.send(drops.token()).unwrap_or_else(|_| panic!("it was received"));
            let second = s.send(drops.token());
            assert_eq!(second.is_ok(), other_too);
            assert!(panics.result().is_err());
            assert!(others.into_iter().all(Handle::join));
            drop(second);
            assert_eq!(drops.count(), 2);
        }
    }

    /// At the end of a thread, when its locals go, channels still work: also with waiting.
    fn in_destructors_of_locals(context) {
        struct Last(Sender<u32>, Receiver<u32>);
        impl Drop for Last {
            fn drop(&mut self) {
                let got = self.1.recv().unwrap();
                self.0.send(got + 1).unwrap();
                assert_eq!(self.1.recv_timeout(MS), Err(RecvTimeoutError::Timeout));
            }
        }
        morestack::task_local!(static GREEN: RefCell<Option<Last>> = const { RefCell::new(None) });
        thread_local!(static OS: RefCell<Option<Last>> = const { RefCell::new(None) });
        // Before and after the channels have anything of their own in this thread.
        for early in [false, true] {
            let ((to, from_us), (to_us, from)) = (bounded(0), bounded(0));
            let (started, starts) = bounded(0);
            let last = Last(to_us, from_us);
            let thread = context.start(move || {
                if early {
                    started.send(()).unwrap();
                }
                if context == Os {
                    OS.set(Some(last));
                } else {
                    GREEN.set(Some(last));
                }
                if !early {
                    started.send(()).unwrap();
                }
            });
            starts.recv().unwrap();
            to.send(1).unwrap();
            assert_eq!(from.recv(), Ok(2));
            thread.join();
        }
    }

    /// Go's test of that name: a filter for each prime, one after the other.
    fn sieve(context) {
        let (s, mut r) = bounded(0);
        let mut threads = vec![context.start(move || (2..).take_while(|n| s.send(*n).is_ok()).for_each(drop))];
        let mut primes = Vec::new();
        for _ in 0..20 {
            let prime: u32 = r.recv().unwrap();
            primes.push(prime);
            let (s, next) = bounded(0);
            let from = std::mem::replace(&mut r, next);
            threads.push(context.start(move || {
                from.iter().filter(|n| n % prime != 0).take_while(|n| s.send(*n).is_ok()).for_each(drop);
            }));
        }
        // The end goes from filter to filter.
        drop(r);
        threads.into_iter().for_each(Handle::join);
        assert_eq!(primes, [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71]);
    }

    /// Go's daisy chain.
    fn a_long_chain(context) {
        let links = if context == Os { 100 } else { 1000 };
        let (first, mut r) = bounded(0);
        let mut threads = Vec::new();
        for _ in 0..links {
            let (s, next) = bounded(0);
            let from = std::mem::replace(&mut r, next);
            threads.push(context.start(move || s.send(from.recv().unwrap() + 1).unwrap()));
        }
        first.send(0).unwrap();
        assert_eq!(r.recv(), Ok(links));
        threads.into_iter().for_each(Handle::join);
    }

    /// More requests than there is room for, and more than threads: all are answered, by whom they were sent to.
    fn answers_find_their_way(context) {
        let (s, r) = bounded::<(usize, Sender<usize>)>(2);
        let servers = context.start_all(3, |_| {
            let r = r.clone();
            move || r.iter().map(|(n, to)| to.send(n * n).unwrap()).count()
        });
        let clients = context.start_all(8, |me| {
            let s = s.clone();
            move || {
                let (to, answer) = bounded(0);
                for n in 0..50 {
                    s.send((me + n, to.clone())).unwrap();
                    assert_eq!(answer.recv(), Ok((me + n) * (me + n)));
                }
            }
        });
        drop((s, r));
        clients.into_iter().for_each(Handle::join);
        assert_eq!(servers.into_iter().map(Handle::join).sum::<usize>(), 400);
    }

    /// Borrowed ends in a scope, and a panic of one child.
    fn in_a_scope(context) {
        let (s, r) = bounded(1);
        let sum = morestack::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| (0..10).for_each(|n| s.send(n).unwrap()));
            }
            let sum = scope.spawn(|| r.iter().take(30).sum::<u32>());
            sum.join().unwrap()
        });
        assert_eq!(sum, 135);
        assert!(s.is_empty());
        let result = catch_unwind(AssertUnwindSafe(|| morestack::scope(|scope| {
            scope.spawn(|| {
                s.send(1).unwrap();
                silent_panic();
            });
            r.recv()
        })));
        assert!(result.is_err());
        s.send(2).unwrap();
        assert_eq!(r.recv(), Ok(2));
    }
}
