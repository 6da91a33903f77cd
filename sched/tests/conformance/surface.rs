//! What the other files leave out, so that each function of the API is called in every context.

use std::cell::{Cell, RefCell};

use morestack::channel::{TrySendError, bounded};
use morestack::sync::{Condvar, Mutex, RwLock, Semaphore};
use morestack::{
    Builder, Cancelled, Stack, blocking, checkpoint, park, scope, sleep, spawn_future, task_local, without_preemption,
};

use super::*;

/// Something that is waited for with a deadline: it is there, or not.
fn in_time<L>(held: &L, free: &L, waits: &[fn(&L, Duration) -> bool]) {
    for (i, wait) in waits.iter().enumerate() {
        let begins = Instant::now();
        assert!(!wait(held, MS) && begins.elapsed() >= MS, "{i}");
        assert!(!wait(held, Duration::ZERO), "{i}");
        assert!(wait(free, LONG) && wait(free, Duration::MAX), "{i}");
    }
}

/// Further than any deadline, where the clock cannot reach it.
fn at(timeout: Duration) -> Instant {
    Instant::now().checked_add(timeout).unwrap_or_else(|| Instant::now() + LONG)
}

behaviours! {
    fn locks_with_deadlines(context) {
        let [held, free] = [(); 2].map(Mutex::new);
        let guard = held.lock();
        in_time(&held, &free, &[
            |mutex, timeout| mutex.try_lock_for(timeout).is_some(),
            |mutex, timeout| mutex.try_lock_until(at(timeout)).is_some(),
        ]);
        drop(guard);

        let [held, free] = [(); 2].map(RwLock::new);
        let guard = held.write();
        assert!(held.is_locked() && held.is_locked_exclusive() && held.try_read_recursive().is_none());
        in_time(&held, &free, &[
            |lock, timeout| lock.try_read_for(timeout).is_some(),
            |lock, timeout| lock.try_read_until(at(timeout)).is_some(),
            |lock, timeout| lock.try_write_for(timeout).is_some(),
            |lock, timeout| lock.try_write_until(at(timeout)).is_some(),
        ]);
        drop(guard);
        {
            let _reads = held.read();
            assert!(held.is_locked() && !held.is_locked_exclusive());
            drop((held.read_recursive(), held.try_read_recursive().unwrap()));
        }

        let [held, free] = [1, 3].map(Semaphore::new);
        let one = held.acquire();
        in_time(&held, &free, &[
            |semaphore, timeout| semaphore.try_acquire_for(timeout).is_some(),
            |semaphore, timeout| semaphore.try_acquire_until(at(timeout)).is_some(),
            |semaphore, timeout| semaphore.try_acquire_many_for(3, timeout).is_some(),
            |semaphore, timeout| semaphore.try_acquire_many_until(3, at(timeout)).is_some(),
        ]);
        drop(one);
    }

    fn conditions_with_deadlines(context) {
        let pair = Arc::new((Mutex::new(0), Condvar::new()));
        let mut guard = pair.0.lock();
        assert!(pair.1.wait_for(&mut guard, MS).timed_out());
        assert!(pair.1.wait_until(&mut guard, at(MS)).timed_out());
        assert!(pair.1.wait_while_for(&mut guard, |n| *n == 0, MS).timed_out());
        assert!(pair.1.wait_while_until(&mut guard, |n| *n == 0, at(MS)).timed_out());
        let adds = context.start({
            let pair = pair.clone();
            move || {
                for _ in 0..4 {
                    *pair.0.lock() += 1;
                    pair.1.notify_one();
                    until(|| *pair.0.lock() == 0);
                }
            }
        });
        for round in 0..4 {
            let result = match round {
                0 => pair.1.wait_for(&mut guard, LONG),
                1 => pair.1.wait_until(&mut guard, at(LONG)),
                2 => pair.1.wait_while_for(&mut guard, |n| *n == 0, LONG),
                _ => pair.1.wait_while_until(&mut guard, |n| *n == 0, at(LONG)),
            };
            assert!(!result.timed_out());
            assert_eq!(std::mem::take(&mut *guard), 1);
        }
        drop(guard);
        adds.join();
    }

    fn cancelling(context) {
        let sleeper = || morestack::spawn(|| sleep(LONG));
        let here = sleeper();
        here.cancel();
        assert!(here.join().unwrap_err().is::<Cancelled>());
        // By another, while this one joins.
        let joined = sleeper();
        let handle = joined.cancel_handle();
        assert_eq!(handle.thread().id(), joined.thread().id());
        assert!(!handle.is_finished());
        let canceller = context.start({
            let handle = handle.clone();
            move || handle.cancel()
        });
        assert!(joined.join().unwrap_err().is::<Cancelled>());
        canceller.join();
        assert!(handle.is_finished());
        handle.cancel();
        // In a scope; and a handle that outlives it.
        let handle = scope(|s| {
            let child = s.spawn(park);
            let handle = child.cancel_handle();
            handle.cancel();
            assert!(child.join().unwrap_err().is::<Cancelled>());
            handle
        });
        handle.cancel();
        assert!(format!("{handle:?}").contains("CancelHandle"));
        // Of one that a handle is left of alone.
        let (s, r) = bounded::<()>(0);
        let handle = morestack::spawn(move || _ = r.recv()).cancel_handle();
        handle.cancel();
        until(|| handle.is_finished());
        assert!(s.send(()).is_err());
    }

    fn disconnected(context) {
        let (s, r) = bounded(1);
        let (s2, r2) = (s.clone(), r.clone());
        s.send(1).unwrap();
        drop(s);
        assert!(!s2.is_disconnected() && !r.is_disconnected());
        context.start(move || drop(s2)).join();
        assert!(r.is_disconnected() && r.try_recv() == Ok(1));
        drop((r, r2));
        let (s, r) = bounded(0);
        drop(r);
        assert!(s.is_disconnected() && matches!(s.try_send(1), Err(TrySendError::Disconnected(1))));
        assert!(!morestack::channel::never::<u8>().is_disconnected());
    }

    fn task_locals(context) {
        task_local! {
            static COUNT: Cell<u32> = const { Cell::new(1) };
            static TEXT: RefCell<String> = RefCell::new("a".to_owned());
            static PLAIN: u32 = 7;
        }
        let uses = || {
            assert_eq!((COUNT.replace(2), COUNT.get(), COUNT.take(), COUNT.get()), (1, 2, 2, 0));
            COUNT.set(3);
            TEXT.with_borrow_mut(|text| text.push('b'));
            morestack::yield_now();
            assert_eq!((TEXT.with_borrow(String::clone), TEXT.replace("c".to_owned())), ("ab".to_owned(), "ab".to_owned()));
            TEXT.set("d".to_owned());
            assert_eq!((TEXT.take().as_str(), COUNT.get()), ("d", 3));
            PLAIN.with(|n| *n) + PLAIN.try_with(|n| *n).unwrap()
        };
        context.start_all(4, |_| uses).into_iter().for_each(|thread| assert_eq!(thread.join(), 14));
    }

    fn where_preemption_counts(context) {
        context.start(|| {
            checkpoint();
            let inside = without_preemption(|| {
                checkpoint();
                without_preemption(morestack::yield_now);
                blocking(|| std::thread::sleep(MS / 10));
                6
            });
            assert_eq!(blocking(|| inside + 1), 7);
        }).join();
    }

    fn threads_by_all_their_ways(context) {
        let rt = Runtime::builder()
            .workers(1)
            .max_threads(64)
            .time_slice(Some(MS))
            .stack_size(64 << 10)
            .max_stack_size(1 << 20)
            .pin_workers(false)
            .spin_sysmon(false)
            .thread_name("other")
            .build()
            .unwrap();
        rt.set_workers(2).unwrap();
        let builder = || Builder::new().name("built").stack(Stack::Reserved(128 << 10));
        let name = || morestack::current().name().map(str::to_owned);
        let named = |result: Option<String>| assert_eq!(result.as_deref(), Some("built"));
        named(builder().spawn(name).unwrap().join().unwrap());
        named(builder().spawn_on(&rt, name).unwrap().join().unwrap());
        // SAFETY: it keeps nothing of its stack or its OS thread.
        unsafe {
            named(builder().stack(Stack::Copying).spawn_untied(name).unwrap().join().unwrap());
            named(builder().spawn_untied_on(&rt, name).unwrap().join().unwrap());
        }
        scope(|s| named(builder().spawn_scoped(s, name).unwrap().join().unwrap()));
        assert_eq!(spawn_future(async { 5 }).join().unwrap(), 5);
        let metrics = rt.metrics();
        assert_eq!((metrics.workers, metrics.spawned, metrics.completed), (2, 2, 2));
        assert_eq!(rt.shutdown(LONG), Ok(()));
    }
}
