//! Locks: what the tests of `std::sync` ask for, but for poisoning, and those of tokio's semaphore and crossbeam's wait
//! group. `tests/locks.rs` has exclusion, fairness and order.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicBool;

use morestack::channel::bounded;
use morestack::sync::{
    Barrier, Condvar, LazyLock, MappedRwLockWriteGuard, Mutex, MutexGuard, OnceLock, RwLock, RwLockReadGuard,
    RwLockWriteGuard, Semaphore, WaitGroup,
};

use super::*;

/// Something to lock while a panic goes on.
struct AtUnwind<F: FnMut()>(F);

impl<F: FnMut()> Drop for AtUnwind<F> {
    fn drop(&mut self) {
        assert!(std::thread::panicking());
        self.0();
    }
}

behaviours! {
    fn mutex_as_a_value(context) {
        let drops = Drops::default();
        let mut mutex = Mutex::new(Some(drops.token()));
        assert!(mutex.get_mut().is_some());
        drop(mutex.into_inner());
        assert_eq!(drops.count(), 1);
        drop(Mutex::new(drops.token()));
        assert_eq!(drops.count(), 2);
        assert_eq!(*Mutex::<u32>::default().lock() + *Mutex::from(7).lock(), 7);
        // Of no known size.
        let unsized_: &Mutex<[i32]> = &Mutex::new([1, 2, 3]);
        unsized_.lock()[0] = 4;
        assert_eq!(*unsized_.lock(), [4, 2, 3]);
        let guard = unsized_.lock();
        assert!(format!("{unsized_:?}").contains("locked") && format!("{guard:?}").contains('4'));
    }

    /// `try_lock` does not wait, whoever holds it; a guard may be dropped anywhere.
    fn try_lock_never_waits(context) {
        let mutex = Arc::new(Mutex::new(0));
        let (held, is_held) = bounded(0);
        let (go_on, goes_on) = bounded(0);
        let holder = context.start({
            let mutex = mutex.clone();
            move || {
                let mut guard = mutex.lock();
                held.send(()).unwrap();
                goes_on.recv().unwrap();
                *guard = 1;
            }
        });
        is_held.recv().unwrap();
        assert!((0..10).all(|_| mutex.try_lock().is_none() && mutex.is_locked()));
        go_on.send(()).unwrap();
        assert_eq!(*mutex.lock(), 1);
        holder.join();
        assert!(mutex.try_lock().is_some() && !mutex.is_locked());
    }

    fn mutexes_in_mutexes(context) {
        let outer = Arc::new(Mutex::new(Arc::new(Mutex::new(1))));
        let threads = context.start_all(4, |_| {
            let outer = outer.clone();
            move || {
                let inner = outer.lock();
                *inner.lock() += 1;
                morestack::yield_now();
            }
        });
        threads.into_iter().for_each(Handle::join);
        assert_eq!(*outer.lock().lock(), 5);
    }

    /// Destructors that lock while a panic goes on: nothing is poisoned.
    fn locks_while_unwinding(context) {
        let (mutex, rwlock, semaphore) = (Mutex::new(1), RwLock::new(1), Semaphore::new(1));
        let once = OnceLock::new();
        for _ in 0..2 {
            let result = catch_unwind(AssertUnwindSafe(|| {
                let _locks = AtUnwind(|| {
                    *mutex.lock() += 1;
                    *rwlock.write() += *mutex.lock();
                    assert!(*rwlock.read() > 0 && *once.get_or_init(|| 5) == 5);
                    drop(semaphore.acquire());
                });
                let _guards = (mutex.lock(), rwlock.write(), semaphore.acquire());
                silent_panic();
            }));
            assert!(result.is_err());
        }
        assert_eq!((*mutex.lock(), *rwlock.read(), semaphore.available_permits()), (3, 6, 1));
    }

    /// A guard of a part; a panic while it is made unlocks.
    fn guards_of_parts(context) {
        let mutex = Mutex::new((1, "a".to_owned()));
        MutexGuard::map(mutex.lock(), |both| &mut both.1).push('b');
        let result = catch_unwind(AssertUnwindSafe(|| {
            drop(MutexGuard::map(mutex.lock(), |_| -> &mut i32 { silent_panic() }));
        }));
        assert!(result.is_err() && !mutex.is_locked());
        let kept = MutexGuard::try_map(mutex.lock(), |_| None::<&mut i32>).unwrap_err();
        assert_eq!(kept.1, "ab");
        drop(kept);
        let lock = RwLock::new((1, "a".to_owned()));
        let mut part: MappedRwLockWriteGuard<'_, i32> = RwLockWriteGuard::map(lock.write(), |both| &mut both.0);
        *part += 1;
        assert!(lock.try_read().is_none());
        drop(part);
        let part = RwLockReadGuard::map(lock.read(), |both| &both.0);
        assert!(*part == 2 && lock.try_read().is_some() && lock.try_write().is_none());
        drop(part);
        let result = catch_unwind(AssertUnwindSafe(|| {
            drop(RwLockWriteGuard::map(lock.write(), |_| -> &mut i32 { silent_panic() }));
        }));
        assert!(result.is_err() && !lock.is_locked());
    }

    fn rwlock_as_a_value(context) {
        let drops = Drops::default();
        let mut lock = RwLock::new(Some(drops.token()));
        assert!(lock.get_mut().is_some());
        drop(lock.into_inner());
        assert_eq!(drops.count(), 1);
        let unsized_: &RwLock<[i32]> = &RwLock::new([1, 2, 3]);
        unsized_.write()[0] = 4;
        assert_eq!(*unsized_.read(), [4, 2, 3]);
        let writing = unsized_.write();
        assert!(format!("{unsized_:?}").contains("locked"));
        drop(writing);
        assert_eq!(*RwLock::<u32>::default().read() + *RwLock::from(7).read(), 7);
    }

    fn who_can_try_a_rwlock(context) {
        let lock = RwLock::new(0);
        let first = lock.read();
        assert!(lock.try_read().is_some() && lock.try_write().is_none());
        drop(first);
        let writing = lock.try_write().unwrap();
        assert!(lock.try_read().is_none() && lock.try_write().is_none());
        let reading = RwLockWriteGuard::downgrade(writing);
        assert!(lock.try_read().is_some() && lock.try_write().is_none());
        drop(reading);
        assert!(lock.try_write().is_some());
    }

    /// Readers see all of a write or nothing of it; who writes at random is never with another.
    fn readers_and_writers_at_random(context) {
        let lock = Arc::new(RwLock::new([0_u32; 2]));
        let threads = context.start_all(6, |me| {
            let lock = lock.clone();
            move || {
                let mut writes = 0;
                for n in 0..300_usize {
                    if (n * 7 + me * 13) % 10 == 0 {
                        let mut both = lock.write();
                        both[0] += 1;
                        if n % 3 == 0 {
                            morestack::yield_now();
                        }
                        both[1] += 1;
                        writes += 1;
                    } else {
                        let both = lock.read();
                        assert_eq!(both[0], both[1]);
                    }
                }
                writes
            }
        });
        let writes: u32 = threads.into_iter().map(Handle::join).sum();
        assert_eq!(*lock.read(), [writes; 2]);
    }

    /// Between a write and the read that it is downgraded to, nobody writes.
    fn a_downgrade_is_one_step(context) {
        let lock = Arc::new(RwLock::new(0_u32));
        let threads = context.start_all(4, |_| {
            let lock = lock.clone();
            move || for _ in 0..200 {
                let mut writing = lock.write();
                *writing += 1;
                let mine = *writing;
                let reading = RwLockWriteGuard::downgrade(writing);
                assert_eq!(*reading, mine);
                morestack::yield_now();
                assert_eq!(*reading, mine);
            }
        });
        threads.into_iter().for_each(Handle::join);
        assert_eq!(*lock.read(), 800);
    }

    fn condvar_wakes_who_waits(context) {
        let pair = Arc::new((Mutex::new(0), Condvar::new()));
        // Nobody is there.
        assert!(!pair.1.notify_one() && pair.1.notify_all() == 0);
        let waiters = context.start_all(5, |me| {
            let pair = pair.clone();
            move || {
                let (turn, changed) = &*pair;
                let mut turn = turn.lock();
                changed.wait_while(&mut turn, |turn| *turn != me);
                *turn += 1;
                changed.notify_all();
            }
        });
        waiters.into_iter().for_each(Handle::join);
        assert_eq!(*pair.0.lock(), 5);
    }

    /// One after the other, each by one notification, also where the mutex is not held.
    fn condvar_passes_a_ball(context) {
        let pair = Arc::new((Mutex::new(0), Condvar::new()));
        let other = context.start({
            let pair = pair.clone();
            move || for n in 0..200 {
                let mut ball = pair.0.lock();
                pair.1.wait_while(&mut ball, |ball| *ball != 2 * n + 1);
                *ball += 1;
                if n % 2 == 0 {
                    drop(ball);
                }
                pair.1.notify_one();
            }
        });
        for n in 0..200 {
            let mut ball = pair.0.lock();
            *ball += 1;
            pair.1.notify_one();
            pair.1.wait_while(&mut ball, |ball| *ball != 2 * n + 2);
        }
        other.join();
    }

    fn barrier_lets_all_go_at_once(context) {
        for threads in [1, 2, 7] {
            let (barrier, arrived) = (Arc::new(Barrier::new(threads)), Arc::new(AtomicUsize::new(0)));
            let all = context.start_all(threads, |_| {
                let (barrier, arrived) = (barrier.clone(), arrived.clone());
                move || {
                    let mut led = 0;
                    for round in 1..=20 {
                        arrived.fetch_add(1, SeqCst);
                        led += usize::from(barrier.wait().is_leader());
                        assert!(arrived.load(SeqCst) >= round * threads);
                        // Nobody is in the next round before all are through this one.
                        led += usize::from(barrier.wait().is_leader());
                        assert!(arrived.load(SeqCst) <= (round + 1) * threads);
                    }
                    led
                }
            });
            assert_eq!(all.into_iter().map(Handle::join).sum::<usize>(), 40);
        }
        assert!(Barrier::new(0).wait().is_leader());
    }

    fn once_lock_as_a_value(context) {
        let mut cell = OnceLock::new();
        assert!(cell.get().is_none() && cell.get_mut().is_none());
        assert_eq!(cell.set("a".to_owned()), Ok(()));
        assert_eq!(cell.set("b".to_owned()), Err("b".to_owned()));
        cell.get_mut().unwrap().push('c');
        assert_eq!(cell.get_or_init(|| unreachable!()), "ac");
        assert_eq!(cell.clone(), cell);
        assert_ne!(cell, OnceLock::from("x".to_owned()));
        assert!(format!("{cell:?}").contains("ac"));
        assert_eq!((cell.take(), cell.take(), OnceLock::from(3).into_inner()), (Some("ac".to_owned()), None, Some(3)));
        // What is in it is dropped with it; what is not there, is not.
        let drops = Drops::default();
        let full = OnceLock::new();
        full.set(drops.token()).unwrap_or_else(|_| unreachable!());
        assert!(full.set(drops.token()).is_err());
        assert_eq!(drops.count(), 1);
        drop((full, OnceLock::<Token>::new()));
        assert_eq!(drops.count(), 2);
    }

    /// Nobody sees a value before it is whole; all see the same.
    fn once_lock_shows_whole_values(context) {
        for _ in 0..20 {
            let cell = Arc::new(OnceLock::new());
            let made = Arc::new(AtomicUsize::new(0));
            let threads = context.start_all(6, |me| {
                let (cell, made) = (cell.clone(), made.clone());
                move || match me % 3 {
                    0 => cell.get().is_none_or(|value| *value == [7; 50]),
                    _ => *cell.get_or_init(|| {
                        made.fetch_add(1, SeqCst);
                        morestack::yield_now();
                        [7; 50]
                    }) == [7; 50],
                }
            });
            assert!(threads.into_iter().all(Handle::join));
            assert_eq!(made.load(SeqCst), 1);
        }
    }

    fn once_lock_that_fails_and_is_waited_for(context) {
        let cell = Arc::new(OnceLock::new());
        let waiters = context.start_all(3, |_| {
            let cell = cell.clone();
            move || *cell.wait()
        });
        // What fails, by an error or a panic, ends no wait.
        assert_eq!(cell.get_or_try_init(|| Err("no")), Err("no"));
        assert!(context.start({
            let cell = cell.clone();
            move || _ = cell.get_or_init(|| silent_panic())
        }).result().is_err());
        assert_eq!(cell.get(), None);
        assert_eq!(cell.get_or_try_init(|| Ok::<_, ()>(7)), Ok(&7));
        assert_eq!(cell.get_or_try_init(|| Err(())), Ok(&7));
        assert!(waiters.into_iter().all(|waiter| waiter.join() == 7));
        assert_eq!(*cell.wait(), 7);
    }

    fn lazy_lock_as_a_value(context) {
        let calls = Arc::new(AtomicUsize::new(0));
        let lazy = Arc::new(LazyLock::new({
            let calls = calls.clone();
            move || {
                calls.fetch_add(1, SeqCst);
                morestack::sleep(MS);
                vec![1, 2, 3]
            }
        }));
        assert!(format!("{lazy:?}").contains("None") && calls.load(SeqCst) == 0);
        let threads = context.start_all(6, |_| {
            let lazy = lazy.clone();
            move || lazy.len()
        });
        assert!(threads.into_iter().all(|thread| thread.join() == 3));
        assert_eq!((LazyLock::force(&lazy)[1], calls.load(SeqCst)), (2, 1));
        assert_eq!(*LazyLock::<u8>::default(), 0);
        // The function goes with it if it was not called, and when it was.
        let drops = Drops::default();
        let uses = |token: Token| LazyLock::new(move || drop(token));
        drop(uses(drops.token()));
        assert_eq!(drops.count(), 1);
        let used = uses(drops.token());
        LazyLock::force(&used);
        assert_eq!(drops.count(), 2);
        drop(used);
        assert_eq!(drops.count(), 2);
        // As std's: there is no second attempt.
        let broken = LazyLock::new(|| -> u8 { silent_panic() });
        assert!((0..2).all(|_| catch_unwind(AssertUnwindSafe(|| *broken)).is_err()));
    }

    /// A cancelled one that makes the value makes it.
    fn lazy_lock_is_not_cancelled(context) {
        let (entered, in_it) = bounded(1);
        let lazy = Arc::new(LazyLock::new(move || {
            entered.send(()).unwrap();
            morestack::sleep(5 * MS);
            7
        }));
        let first = morestack::spawn({
            let lazy = lazy.clone();
            move || {
                assert_eq!(**lazy, 7);
                morestack::park();
            }
        });
        in_it.recv().unwrap();
        first.cancel();
        assert!(first.join().unwrap_err().is::<morestack::Cancelled>());
        assert_eq!(**lazy, 7);
    }

    fn permits_that_travel(context) {
        let semaphore = Arc::new(Semaphore::new(3));
        let two = semaphore.clone().acquire_many_owned(2);
        let one = semaphore.clone().try_acquire_owned().unwrap();
        assert!(semaphore.clone().try_acquire_many_owned(1).is_none());
        let waits = context.start({
            let semaphore = semaphore.clone();
            move || semaphore.acquire_owned().forget()
        });
        context.start(move || drop(two)).join();
        waits.join();
        // One was forgotten, one is out.
        assert_eq!(semaphore.available_permits(), 1);
        // It keeps what it is of.
        drop(semaphore);
        drop(one);
    }

    fn semaphore_counts(context) {
        let semaphore = Arc::new(Semaphore::new(3));
        let two = semaphore.acquire_many(2);
        let one = semaphore.try_acquire().unwrap();
        assert!(semaphore.try_acquire().is_none() && semaphore.try_acquire_many(0).is_some());
        drop(two);
        assert!(semaphore.try_acquire_many(3).is_none());
        drop(semaphore.try_acquire_many(2).unwrap());
        // Never given back, and put in from outside.
        one.forget();
        assert_eq!(semaphore.available_permits(), 2);
        let waits = context.start({
            let semaphore = semaphore.clone();
            move || semaphore.acquire_many(4).forget()
        });
        semaphore.release(1);
        semaphore.release(1);
        waits.join();
        assert_eq!(semaphore.available_permits(), 0);
        assert!(catch_unwind(|| Semaphore::new(Semaphore::MAX_PERMITS + 1)).is_err());
    }

    /// As crossbeam's: who waits goes on when the last of the others is gone, by a panic, too.
    fn wait_groups(context) {
        let (group, done) = (WaitGroup::new(), Arc::new(AtomicUsize::new(0)));
        let parts = context.start_all(10, |n| {
            let (part, done) = (group.clone(), done.clone());
            move || {
                let _part = part;
                morestack::yield_now();
                done.fetch_add(1, SeqCst);
                if n == 4 {
                    silent_panic();
                }
            }
        });
        group.wait();
        assert_eq!(done.load(SeqCst), 10);
        assert_eq!(parts.into_iter().filter_map(|part| part.result().err()).count(), 1);
        // Several who wait go on together.
        let (group, waited) = (WaitGroup::new(), Arc::new(AtomicBool::new(false)));
        let waiters = context.start_all(3, |_| {
            let (group, waited) = (group.clone(), waited.clone());
            move || {
                group.wait();
                waited.load(SeqCst)
            }
        });
        waited.store(true, SeqCst);
        drop(group);
        assert!(waiters.into_iter().all(Handle::join));
        WaitGroup::default().wait();
    }
}
