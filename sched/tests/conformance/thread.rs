//! Threads: what std's tests of `thread` ask for. `tests/scope.rs`, `basic.rs` and `task_local.rs` have more.

use std::any::Any;
use std::cell::UnsafeCell;
use std::collections::HashSet;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use morestack::channel::{Receiver, Sender, bounded, unbounded};
use morestack::sync::{Barrier, Condvar, LazyLock, OnceLock, Semaphore, WaitGroup};
use morestack::{
    Builder, CancelHandle, JoinHandle, ScopedJoinHandle, Thread, ThreadId, current, park, park_timeout, scope, sleep,
};

use super::*;

/// The handles may be sent and shared, as std's.
const _: () = {
    const fn sent_and_shared<T: Send + Sync>() {}
    sent_and_shared::<JoinHandle<UnsafeCell<u8>>>();
    sent_and_shared::<ScopedJoinHandle<'static, UnsafeCell<u8>>>();
    sent_and_shared::<Thread>();
    sent_and_shared::<ThreadId>();
    assert!(size_of::<Option<ThreadId>>() == size_of::<ThreadId>());
};

/// Handles, channels and locks may be used on both sides of a `catch_unwind`, as std's.
const _: () = {
    const fn unwinds<T: UnwindSafe + RefUnwindSafe>() {}
    unwinds::<JoinHandle<UnsafeCell<u8>>>();
    unwinds::<ScopedJoinHandle<'static, UnsafeCell<u8>>>();
    unwinds::<CancelHandle>();
    unwinds::<Thread>();
    unwinds::<Runtime>();
    unwinds::<Sender<UnsafeCell<u8>>>();
    unwinds::<Receiver<UnsafeCell<u8>>>();
    unwinds::<Barrier>();
    unwinds::<Condvar>();
    unwinds::<Semaphore>();
    unwinds::<WaitGroup>();
    unwinds::<OnceLock<u8>>();
    unwinds::<LazyLock<u8>>();
};

behaviours! {
    fn names(context) {
        let name = || current().name().map(str::to_owned);
        let unnamed = morestack::spawn(name);
        assert_eq!(unnamed.thread().name(), None);
        assert_eq!(unnamed.join().unwrap(), None);
        for text in ["", "Ada", "\u{3bb} and spaces", &"long ".repeat(50)] {
            let named = Builder::new().name(text).spawn(name).unwrap();
            let thread = named.thread().clone();
            assert_eq!(named.join().unwrap().as_deref(), Some(text));
            // Also when it has ended.
            assert_eq!(thread.name(), Some(text));
            let text_of_it = format!("{thread:?}");
            assert!(text_of_it.contains("Thread") && text_of_it.contains(&format!("{text:?}")), "{text_of_it}");
        }
    }

    fn ids_are_never_used_twice(context) {
        let me = current().id();
        let mut seen = HashSet::from([me]);
        for _ in 0..20 {
            let threads = context.start_all(20, |_| || {
                let first = current().id();
                morestack::yield_now();
                sleep(MS / 10);
                assert_eq!(first, current().id());
                first
            });
            assert!(threads.into_iter().map(Handle::join).all(|id| seen.insert(id)));
        }
        assert_eq!(seen.len(), 401);
        assert_eq!(current().id(), me);
        let (s, r) = bounded(1);
        let child = morestack::spawn(move || s.send(current().id()).unwrap());
        let id = child.thread().id();
        assert_eq!(r.recv(), Ok(id));
        child.join().unwrap();
    }

    /// A child outlives its parent, and its parent's parent.
    fn generations(context) {
        fn generation(context: Context, left: u32, done: morestack::channel::Sender<u32>) {
            match left {
                0 => done.send(7).unwrap(),
                _ => drop(context.start(move || {
                    morestack::yield_now();
                    generation(context, left - 1, done);
                })),
            }
        }
        let (s, r) = bounded(1);
        // It would take the task's handle with it if it were dropped: see `start`.
        let context = if context == Smol { Spawn } else { context };
        generation(context, 16, s);
        assert_eq!(r.recv(), Ok(7));
        assert!(r.recv().is_err());
    }

    fn finished_when_it_is(context) {
        let (s, r) = bounded(0);
        let child = morestack::spawn(move || r.recv());
        for _ in 0..10 {
            assert!(!child.is_finished());
            morestack::yield_now();
        }
        s.send(5).unwrap();
        until(|| child.is_finished());
        assert!(child.is_finished());
        assert_eq!(child.join().unwrap(), Ok(5));
        let panics = morestack::spawn(|| silent_panic());
        until(|| panics.is_finished());
        assert!(panics.join().is_err());
    }

    /// The payload is what the panic had, whatever that is.
    fn payloads_of_panics(context) {
        #[derive(Debug, PartialEq)]
        struct Unit;
        fn panics<T: Any + Send>(context: Context, payload: T) -> T {
            let result: Result<()> = context.start(move || resume_unwind(Box::new(payload))).result();
            assert!(!std::thread::panicking());
            *result.unwrap_err().downcast::<T>().expect("the same type")
        }
        assert_eq!(panics(context, "literal"), "literal");
        assert_eq!(panics(context, "owned".to_owned()), "owned");
        assert_eq!(panics(context, [413_u16; 99]), [413; 99]);
        assert_eq!(panics(context, Unit), Unit);
        let any: Box<dyn Any + Send> = Box::new(413_u16);
        assert_eq!(*panics(context, any).downcast::<u16>().unwrap(), 413);
        // One that nobody takes is dropped, once.
        let drops = Drops::default();
        let token = drops.token();
        drop(context.start(move || resume_unwind(Box::new(token))).result());
        assert_eq!(drops.count(), 1);
    }

    /// The closure is moved to its thread, with what it has captured, and not copied.
    fn the_closure_and_its_result_are_moved(context) {
        let (boxed, large) = (Box::new(1), [3_u8; 500]);
        let address = (&raw const *boxed).addr();
        let child = context.start(move || {
            let at = (&raw const *boxed).addr();
            (boxed, at, large.iter().map(|n| u32::from(*n)).sum::<u32>())
        });
        let (boxed, at, sum) = child.join();
        assert_eq!((at, (&raw const *boxed).addr(), sum), (address, address, 1_500));
        let drops = Drops::default();
        // What was captured is gone, and what was returned is there.
        let (captured, returned) = (drops.token(), drops.token());
        let returned = context.start(move || { let _captured = &captured; returned }).join();
        assert_eq!(drops.count(), 1);
        drop(returned);
        assert_eq!(drops.count(), 2);
        // Also by a panic.
        let captured = drops.token();
        assert!(context.start(move || { let _captured = captured; silent_panic() }).result().is_err());
        assert_eq!(drops.count(), 3);
    }

    fn detached_ones_run(context) {
        let (drops, (s, r)) = (Drops::default(), unbounded());
        for _ in 0..20 {
            let (s, token) = (s.clone(), drops.token());
            drop(morestack::spawn(move || {
                morestack::yield_now();
                s.send(1).unwrap();
                token
            }));
        }
        drop(s);
        assert_eq!(r.iter().sum::<u32>(), 20);
        // Their results, too.
        until(|| drops.count() == 20);
    }

    fn a_token_that_is_there_ends_the_next_park(context) {
        let me = current();
        me.unpark();
        park();
        me.unpark();
        me.unpark();
        let start = Instant::now();
        park_timeout(LONG);
        assert!(start.elapsed() < LONG);
        // From another thread, before and after it parks.
        for pause in [Duration::ZERO, MS] {
            let (woken, other) = (Arc::new(AtomicBool::new(false)), me.clone());
            let flag = woken.clone();
            let waker = context.start(move || {
                sleep(pause);
                flag.store(true, SeqCst);
                other.unpark();
            });
            while !woken.load(SeqCst) {
                park_timeout(LONG);
            }
            waker.join();
        }
        assert!(start.elapsed() < LONG);
    }

    fn a_park_without_a_token_lasts_as_long_as_it_should(context) {
        let start = Instant::now();
        while start.elapsed() < 3 * MS {
            park_timeout(3 * MS - start.elapsed().min(3 * MS));
        }
        park_timeout(Duration::ZERO);
        assert!(start.elapsed() < LONG);
    }

    /// Those that have ended, and those that have not begun.
    fn unpark_at_any_time(context) {
        let ended = morestack::spawn(|| ());
        let thread = ended.thread().clone();
        ended.join().unwrap();
        (0..3).for_each(|_| thread.unpark());
        for _ in 0..50 {
            let child = morestack::spawn(park);
            child.thread().unpark();
            child.join().unwrap();
        }
    }

    /// What was done before an `unpark` is seen after the `park`, however weakly it was stored; and no `unpark` is lost.
    fn unpark_publishes(context) {
        const TURNS: usize = 2000;
        fn turns(turn: &AtomicUsize, first: usize, other: &Thread) {
            for n in (first..TURNS).step_by(2) {
                while turn.load(Relaxed) != n {
                    park();
                }
                turn.store(n + 1, Relaxed);
                other.unpark();
            }
        }
        let turn = Arc::new(AtomicUsize::new(0));
        let (mine, me) = (turn.clone(), current());
        let other = morestack::spawn(move || turns(&mine, 1, &me));
        turns(&turn, 0, other.thread());
        other.join().unwrap();
        assert_eq!(turn.load(SeqCst), TURNS);
    }

    fn sleeps_are_never_short(context) {
        for wait in [Duration::ZERO, Duration::from_nanos(1), MS / 10, MS, 3 * MS] {
            let start = Instant::now();
            sleep(wait);
            assert!(start.elapsed() >= wait);
            morestack::sleep_until(start + 2 * wait);
            assert!(start.elapsed() >= 2 * wait);
        }
        let start = Instant::now();
        morestack::sleep_until(start - MS);
        assert!(start.elapsed() < LONG);
    }

    /// As std's, from every context: a result is dropped before a handle's owner goes on; borrows end with the scope.
    fn scopes(context) {
        let drops = Drops::default();
        let mut numbers = vec![1, 2, 3];
        scope(|s| {
            let child = s.spawn(|| drops.token());
            let first = s.spawn(|| numbers.push(4));
            first.join().unwrap();
            drop(child.join().unwrap());
            assert_eq!(drops.count(), 1);
            let child = s.spawn(|| current().id());
            assert_eq!(child.thread().id(), child.join().unwrap());
        });
        numbers.push(5);
        let (head, tail) = numbers.split_at_mut(2);
        let sum = scope(|s| {
            let sums = [head, tail].map(|part| s.spawn(|| part.iter_mut().map(|n| { *n *= 2; *n }).sum::<i32>()));
            sums.map(|sum| sum.join().unwrap()).iter().sum::<i32>()
        });
        assert_eq!((sum, numbers), (30, vec![2, 4, 6, 8, 10]));
        // Whoever is joined has ended, and does not count any more.
        for _ in 0..200 {
            scope(|s| {
                let mut all = Vec::new();
                for n in 0..3 {
                    all.push(s.spawn(move || n));
                }
                assert_eq!(all.into_iter().map(|child| child.join().unwrap()).sum::<u32>(), 3);
            });
        }
    }

    /// From any thread to any runtime, also one that is new.
    fn a_runtime_of_its_own(context) {
        let rt = Runtime::builder().workers(1).thread_name("own").build().unwrap();
        let local = [1, 2, 3];
        assert_eq!(rt.run(|| local.iter().sum::<u32>()), 6);
        let child = rt.spawn(|| (std::thread::current().name().map(str::to_owned), morestack::spawn(|| 5).join().unwrap()));
        assert_eq!(child.join().unwrap(), (Some("own-0".to_owned()), 5));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| rt.run(|| silent_panic()))).is_err());
        let (s, r) = bounded(0);
        let waits = rt.spawn(move || r.recv());
        s.send(1).unwrap();
        assert_eq!(waits.join().unwrap(), Ok(1));
        rt.shutdown(LONG).unwrap();
    }
}
