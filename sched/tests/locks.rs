//! The locks, from green threads of both kinds, from OS threads, and from all of them at the same time.

use std::collections::HashSet;
use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use morestack::sync::{
    Barrier, Condvar, MappedMutexGuard, Mutex, MutexGuard, OnceLock, RwLock, RwLockReadGuard, RwLockWriteGuard,
    Semaphore, SemaphoreGuard, WaitGroup,
};
use morestack::{Runtime, prologue};

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().unwrap()
}

type Join<T> = Box<dyn FnOnce() -> std::thread::Result<T>>;

/// A kind of thread.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Spawn,
    Go,
    Os,
}

/// Who uses a lock together.
const MIXES: [&[Kind]; 4] = [&[Kind::Spawn], &[Kind::Go], &[Kind::Os], &[Kind::Spawn, Kind::Go, Kind::Os]];

impl Kind {
    fn start<T: Send + 'static>(self, rt: &Runtime, f: impl FnOnce() -> T + Send + 'static) -> Join<T> {
        match self {
            Kind::Spawn => {
                let handle = rt.spawn(f);
                Box::new(|| handle.join())
            }
            Kind::Go => {
                // SAFETY: the closures of these tests lend nothing of their stacks to anybody.
                let handle = unsafe { rt.go(f) };
                Box::new(|| handle.join())
            }
            Kind::Os => {
                let handle = std::thread::spawn(f);
                Box::new(|| handle.join())
            }
        }
    }
}

/// Runs `f` in so many threads, of each mix, on one worker and on several.
#[track_caller]
fn in_all<S, T>(threads: usize, shared: impl Fn() -> S, f: fn(usize, &S) -> T, check: impl Fn(&S, Vec<T>))
where
    S: Send + Sync + 'static,
    T: Send + 'static,
{
    for workers in [1, 3] {
        let rt = runtime(workers);
        for mix in MIXES {
            let shared = Arc::new(shared());
            let handles: Vec<_> = (0..threads)
                .map(|n| {
                    let shared = shared.clone();
                    mix[n % mix.len()].start(&rt, move || f(n, &shared))
                })
                .collect();
            let results = handles.into_iter().map(|join| join().unwrap()).collect();
            check(&shared, results);
        }
    }
}

/// Computes for about so long, with safepoints.
#[prologue]
fn compute(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        black_box(step(black_box(1)));
    }
}

#[prologue]
fn step(n: u64) -> u64 {
    n.wrapping_mul(31)
}

/// Waits until it is true, by sleeping.
#[track_caller]
fn until(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        morestack::sleep(Duration::from_millis(1));
    }
}

const MS: Duration = Duration::from_millis(1);

#[test]
fn mutex_excludes() {
    in_all(
        24,
        || Mutex::new((0_u64, 0_u64)),
        |n, mutex| {
            for i in 0..500 {
                let mut both = mutex.lock();
                both.0 += 1;
                if (i + n) % 64 == 0 {
                    morestack::yield_now();
                }
                step(both.0);
                both.1 += 1;
                assert_eq!(both.0, both.1);
            }
        },
        |mutex, _| assert_eq!(*mutex.lock(), (12_000, 12_000)),
    );
}

#[test]
fn mutex_by_all_its_ways() {
    let mutex = Mutex::new(1);
    let guard = mutex.lock();
    assert!(mutex.is_locked() && mutex.try_lock().is_none());
    MutexGuard::unlock_fair(guard);
    assert!(!mutex.is_locked());
    let mut guard = mutex.try_lock().unwrap();
    assert_eq!(MutexGuard::unlocked(&mut guard, || *mutex.lock()), 1);
    MutexGuard::bump(&mut guard);
    assert!(mutex.is_locked());
    let mut mapped: MappedMutexGuard<'_, i32> = MutexGuard::map(guard, |n| n);
    *mapped += 1;
    drop(mapped);
    assert_eq!(mutex.into_inner(), 2);
}

/// One worker, two that bump: each gives the mutex to the other.
#[test]
fn a_bump_lets_the_other_in() {
    let rt = runtime(1);
    rt.run(|| {
        let log = Arc::new(Mutex::new(Vec::new()));
        let guard = log.lock();
        let others: Vec<_> = (0..2)
            .map(|n| {
                let log = log.clone();
                morestack::spawn(move || {
                    let mut guard = log.lock();
                    for _ in 0..100 {
                        guard.push(n);
                        MutexGuard::bump(&mut guard);
                    }
                })
            })
            .collect();
        morestack::yield_now();
        morestack::yield_now();
        drop(guard);
        others.into_iter().for_each(|other| other.join().unwrap());
        let turns = log.lock().windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert!(turns >= 190, "{turns}");
    });
}

/// A hog that lets go for a moment only, again and again, and never waits: who waits gets it nevertheless.
#[test]
fn mutex_does_not_starve() {
    in_all(
        4,
        || (Mutex::new(()), AtomicUsize::new(0)),
        |n, (mutex, done)| {
            if n == 0 {
                while done.load(SeqCst) < 3 {
                    let _guard = mutex.lock();
                    compute(MS / 10);
                }
            } else {
                let start = Instant::now();
                for _ in 0..5 {
                    let _guard = mutex.lock();
                }
                assert!(start.elapsed() < Duration::from_secs(10));
                done.fetch_add(1, SeqCst);
            }
        },
        |_, _| {},
    );
}

/// Nothing takes the caller off the only worker: it keeps the others from running, but not from being granted the mutex.
#[test]
fn who_has_waited_is_granted_it() {
    let rt = Runtime::builder().workers(1).time_slice(None).build().unwrap();
    rt.run(|| {
        let log = Arc::new(Mutex::new(Vec::new()));
        let guard = log.lock();
        let waiters: Vec<_> = (0..3)
            .map(|n| {
                let log = log.clone();
                morestack::spawn(move || log.lock().push(n))
            })
            .collect();
        let start = Instant::now();
        (0..3).for_each(|_| morestack::yield_now());
        while start.elapsed() < 20 * MS {}
        drop(guard);
        assert!(log.try_lock().is_none());
        assert!(log.lock().contains(&0));
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
    });
}

/// A hog that comes to no safepoint but by locking.
#[test]
fn locking_is_a_safepoint() {
    let rt = runtime(1);
    let (stop, mutex) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(0_u64)));
    let hog = {
        let (stop, mutex) = (stop.clone(), mutex.clone());
        rt.spawn(move || {
            while !stop.load(SeqCst) {
                *mutex.lock() += 1;
            }
        })
    };
    until("it runs", || *mutex.lock() > 0);
    rt.spawn(move || stop.store(true, SeqCst)).join().unwrap();
    hog.join().unwrap();
    let (stop, lock) = (Arc::new(AtomicBool::new(false)), Arc::new(RwLock::new(0_u64)));
    let hog = {
        let (stop, lock) = (stop.clone(), lock.clone());
        rt.spawn(move || {
            while !stop.load(SeqCst) {
                black_box(*lock.read());
            }
        })
    };
    rt.spawn(move || stop.store(true, SeqCst)).join().unwrap();
    hog.join().unwrap();
}

/// Guards are held while slices end, and there are more hogs than workers.
#[test]
fn a_guard_held_across_preemption() {
    for workers in [1, 2] {
        let rt = Runtime::builder().workers(workers).time_slice(Some(Duration::from_micros(100))).build().unwrap();
        for mix in MIXES {
            let mutex = Arc::new(Mutex::new(0));
            let handles: Vec<_> = (0..12)
                .map(|n| {
                    let mutex = mutex.clone();
                    mix[n % mix.len()].start(&rt, move || {
                        for _ in 0..5 {
                            let mut guard = mutex.lock();
                            compute(MS / 2);
                            *guard += 1;
                            drop(guard);
                            compute(MS / 10);
                        }
                    })
                })
                .collect();
            handles.into_iter().for_each(|join| join().unwrap());
            assert_eq!(*mutex.lock(), 60);
        }
        assert!(rt.metrics().preemptions > 0, "{:?}", rt.metrics());
    }
}

#[test]
fn a_guard_held_across_a_sleep_and_sent_away() {
    let rt = runtime(2);
    let mutex: &'static Mutex<u32> = Box::leak(Box::new(Mutex::new(0)));
    let guard = mutex.lock();
    let waiter = rt.spawn(|| *mutex.lock());
    let holder = rt.spawn(move || {
        let mut guard = guard;
        morestack::sleep(5 * MS);
        *guard = 7;
    });
    assert_eq!(waiter.join().unwrap(), 7);
    holder.join().unwrap();
}

#[test]
fn a_panic_unlocks_and_poisons_nothing() {
    let rt = runtime(2);
    for kind in [Kind::Spawn, Kind::Go, Kind::Os] {
        let (mutex, lock) = (Arc::new(Mutex::new(1)), Arc::new(RwLock::new(1)));
        let join = {
            let (mutex, lock) = (mutex.clone(), lock.clone());
            kind.start(&rt, move || {
                let _guards = (mutex.lock(), lock.write());
                morestack::sleep(2 * MS);
                std::panic::resume_unwind(Box::new("with guards"));
            })
        };
        let waiter = {
            let (mutex, lock) = (mutex.clone(), lock.clone());
            rt.spawn(move || *mutex.lock() + *lock.read())
        };
        assert!(join().is_err());
        assert_eq!(waiter.join().unwrap(), 2);
        assert!(!mutex.is_locked() && !lock.is_locked());
    }
}

/// A destructor that locks during a panic blocks the worker, and gets the lock.
#[test]
fn a_destructor_may_lock_during_a_panic() {
    struct Locks(Arc<Mutex<u32>>);
    impl Drop for Locks {
        fn drop(&mut self) {
            assert!(std::thread::panicking());
            *self.0.lock() += 1;
        }
    }
    let rt = runtime(1);
    let mutex = Arc::new(Mutex::new(0));
    let guard = mutex.lock();
    let locks = Locks(mutex.clone());
    let panics = rt.spawn(move || {
        let _locks = locks;
        std::panic::resume_unwind(Box::new(()));
    });
    std::thread::sleep(5 * MS);
    drop(guard);
    assert!(panics.join().is_err());
    assert_eq!(*mutex.lock(), 1);
}

/// In `blocking` the OS thread waits; the holder is another green thread, of another worker if need be.
#[test]
fn blocking_may_lock() {
    let rt = runtime(2);
    let mutex = Arc::new(Mutex::new(0));
    let guard = mutex.lock();
    let blocked: Vec<_> = (0..4)
        .map(|_| {
            let mutex = mutex.clone();
            // SAFETY: nothing is lent.
            unsafe { rt.go(move || morestack::blocking(|| *mutex.lock() += 1)) }
        })
        .collect();
    rt.spawn(|| ()).join().unwrap();
    drop(guard);
    blocked.into_iter().for_each(|blocked| blocked.join().unwrap());
    assert_eq!(*mutex.lock(), 4);
}

#[test]
fn rwlock_excludes() {
    in_all(
        24,
        || RwLock::new((0_u64, 0_u64)),
        |n, lock| {
            for i in 0..300 {
                if (n + i) % 4 == 0 {
                    let mut both = lock.write();
                    both.0 += 1;
                    step(both.0);
                    both.1 += 1;
                } else {
                    let both = lock.read();
                    let first = both.0;
                    if i % 32 == 0 {
                        morestack::yield_now();
                    }
                    step(first);
                    assert_eq!((first, first), *both);
                }
            }
        },
        |lock, _| assert_eq!(*lock.read(), (1800, 1800)),
    );
}

#[test]
fn rwlock_by_all_its_ways() {
    let lock = RwLock::new(1);
    let (first, second) = (lock.read(), lock.try_read().unwrap());
    assert!(lock.try_write().is_none() && lock.is_locked() && !lock.is_locked_exclusive());
    drop((first, second));
    let mut writer = lock.write();
    assert!(lock.try_read().is_none() && lock.try_read_recursive().is_none() && lock.is_locked_exclusive());
    *writer += 1;
    let reader = RwLockWriteGuard::downgrade(writer);
    assert_eq!((*reader, *lock.read()), (2, 2));
    RwLockReadGuard::unlock_fair(reader);
    RwLockWriteGuard::unlock_fair(lock.write());
    assert!(!lock.is_locked());
}

/// A reader that comes after a writer waits behind it, unless its thread may be a reader already; a writer that lets go lets
/// the waiting readers in, all of them, before the next writer.
#[test]
fn rwlock_in_phases() {
    let rt = runtime(1);
    let lock = Arc::new(RwLock::new(Vec::new()));
    let reading = lock.read();
    let start = |what: &'static str| {
        let (lock, before) = (lock.clone(), rt.metrics().parks);
        let handle = rt.spawn(move || {
            if what == "reader" {
                let guard = lock.read();
                // All the readers of a phase are here before any of them goes.
                morestack::sleep(5 * MS);
                guard.len()
            } else {
                lock.write().push(what);
                0
            }
        });
        until("it waits", || rt.metrics().parks > before);
        handle
    };
    let writers = [start("first"), start("second")];
    assert!(lock.try_read().is_none());
    drop(lock.try_read_recursive().unwrap());
    drop(lock.read_recursive());
    let readers = [start("reader"), start("reader"), start("reader")];
    drop(reading);
    assert_eq!(readers.map(|reader| reader.join().unwrap()), [1, 1, 1]);
    assert_eq!(writers.map(|writer| writer.join().unwrap()), [0, 0]);
    assert_eq!(*lock.read(), ["first", "second"]);
}

/// Readers that overlap for ever do not keep a writer out, and writers that come one after the other no reader.
#[test]
fn rwlock_does_not_starve() {
    in_all(
        6,
        || (RwLock::new(0_u64), AtomicUsize::new(0)),
        |n, (lock, done)| match n {
            0..3 => {
                while done.load(SeqCst) < 3 {
                    let _guard = lock.read();
                    compute(MS / 5);
                }
            }
            _ => {
                (0..10).for_each(|_| *lock.write() += 1);
                done.fetch_add(1, SeqCst);
            }
        },
        |(lock, _), _| assert_eq!(*lock.read(), 30),
    );
    in_all(
        6,
        || (RwLock::new(0_u64), AtomicUsize::new(0)),
        |n, (lock, done)| match n {
            0..3 => {
                while done.load(SeqCst) < 3 {
                    let mut guard = lock.write();
                    compute(MS / 5);
                    *guard += 1;
                }
            }
            _ => {
                (0..10).for_each(|_| drop(lock.read()));
                done.fetch_add(1, SeqCst);
            }
        },
        |_, _| {},
    );
}

/// A buffer of one place, many at each end.
#[test]
fn condvar_passes_everything_on() {
    struct Place {
        value: Mutex<Option<usize>>,
        filled: Condvar,
        emptied: Condvar,
    }
    let place = || Place { value: Mutex::new(None), filled: Condvar::new(), emptied: Condvar::new() };
    in_all(
        24,
        place,
        |n, place| {
            // Each mix has both ends of each kind.
            let mut sum = 0;
            for i in 0..50 {
                let mut value = place.value.lock();
                if n / 3 % 2 == 0 {
                    place.emptied.wait_while(&mut value, |value| value.is_some());
                    *value = Some(n * 50 + i);
                    place.filled.notify_one();
                } else {
                    while value.is_none() {
                        place.filled.wait(&mut value);
                    }
                    sum += value.take().unwrap();
                    place.emptied.notify_one();
                }
            }
            sum
        },
        |_, sums| {
            let senders = (0..24).filter(|n| n / 3 % 2 == 0);
            let sent: usize = senders.flat_map(|n| (0..50).map(move |i| n * 50 + i)).sum();
            assert_eq!(sums.into_iter().sum::<usize>(), sent);
        },
    );
}

#[test]
fn condvar_wakes_as_many_as_it_says() {
    let rt = runtime(2);
    let shared = Arc::new((Mutex::new((0, 0)), Condvar::new()));
    assert!(!shared.1.notify_one() && shared.1.notify_all() == 0);
    let waiters: Vec<_> = (0..10)
        .map(|n| {
            let shared = shared.clone();
            [Kind::Spawn, Kind::Go, Kind::Os][n % 3].start(&rt, move || {
                let (counts, condvar) = &*shared;
                let mut counts = counts.lock();
                counts.0 += 1;
                condvar.wait(&mut counts);
                counts.1 += 1;
            })
        })
        .collect();
    let (counts, condvar) = &*shared;
    until("waiting", || counts.lock().0 == 10);
    assert!(condvar.notify_one() && condvar.notify_one());
    until("two", || counts.lock().1 == 2);
    morestack::sleep(5 * MS);
    // Nobody else was woken, and nobody by nothing.
    assert_eq!(counts.lock().1, 2);
    assert_eq!(condvar.notify_all(), 8);
    waiters.into_iter().for_each(|join| join().unwrap());
}

#[test]
fn semaphore_lets_so_many_in() {
    in_all(
        24,
        || (Semaphore::new(3), AtomicUsize::new(0)),
        |n, (semaphore, inside)| {
            for i in 0..200 {
                let many = 1 + (n + i) % 3;
                let _permits = semaphore.acquire_many(many);
                assert!(inside.fetch_add(many, SeqCst) + many <= 3);
                if i % 16 == 0 {
                    morestack::yield_now();
                }
                step(1);
                inside.fetch_sub(many, SeqCst);
            }
        },
        |(semaphore, _), _| assert_eq!(semaphore.available_permits(), 3),
    );
}

#[test]
fn semaphore_serves_in_order() {
    let rt = runtime(1);
    let semaphore = Arc::new(Semaphore::new(0));
    let log = Arc::new(Mutex::new(Vec::new()));
    let wants = [3, 1, 2];
    let waiters: Vec<_> = wants
        .into_iter()
        .enumerate()
        .map(|(n, many)| {
            let (semaphore, log, before) = (semaphore.clone(), log.clone(), rt.metrics().parks);
            let handle = rt.spawn(move || {
                semaphore.acquire_many(many).forget();
                log.lock().push(n);
            });
            until("it waits", || rt.metrics().parks > before);
            handle
        })
        .collect();
    // Who wants few does not overtake, neither in the queue nor from outside.
    semaphore.release(2);
    assert!(semaphore.try_acquire().is_none() && semaphore.available_permits() == 2);
    morestack::sleep(2 * MS);
    assert!(log.lock().is_empty());
    semaphore.release(4);
    waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
    assert_eq!((&log.lock()[..], semaphore.available_permits()), (&[0, 1, 2][..], 0));
    semaphore.release(2);
    let both = semaphore.try_acquire_many(2).unwrap();
    assert!(semaphore.try_acquire().is_none());
    drop(both);
    assert_eq!(semaphore.available_permits(), 2);
    assert!(catch_unwind(AssertUnwindSafe(|| semaphore.release(Semaphore::MAX_PERMITS))).is_err());
    assert_eq!(semaphore.available_permits(), 2);
}

#[test]
fn barrier_has_one_leader_each_time() {
    in_all(
        12,
        || (Barrier::new(12), AtomicUsize::new(0)),
        |_, (barrier, arrived)| {
            (0..50)
                .filter(|turn| {
                    arrived.fetch_add(1, SeqCst);
                    let leads = barrier.wait().is_leader();
                    let all = arrived.load(SeqCst);
                    assert!(all >= 12 * (turn + 1) && all <= 12 * (turn + 2), "{all} in turn {turn}");
                    leads
                })
                .count()
        },
        |_, leads| assert_eq!(leads.into_iter().sum::<usize>(), 50),
    );
    assert!(Barrier::new(0).wait().is_leader() && Barrier::new(1).wait().is_leader());
}

#[test]
fn wait_group_waits_for_all() {
    let rt = runtime(2);
    for mix in MIXES {
        let (group, done) = (WaitGroup::new(), Arc::new(AtomicUsize::new(0)));
        let parts: Vec<_> = (0..12)
            .map(|n| {
                let (part, done) = (group.clone(), done.clone());
                mix[n % mix.len()].start(&rt, move || {
                    morestack::sleep(MS);
                    done.fetch_add(1, SeqCst);
                    if n == 5 {
                        let _dropped = part;
                        std::panic::resume_unwind(Box::new(()));
                    }
                    // Those who wait are none of those who are waited for.
                    if n % 2 == 0 {
                        part.wait();
                        assert_eq!(done.load(SeqCst), 12);
                    }
                })
            })
            .collect();
        let waiter = rt.spawn(move || group.wait());
        assert_eq!(parts.into_iter().map(|join| join()).filter(Result::is_ok).count(), 11);
        waiter.join().unwrap();
    }
    WaitGroup::new().wait();
}

#[test]
fn once_lock_is_initialised_once() {
    in_all(
        12,
        || (OnceLock::new(), AtomicUsize::new(0)),
        |n, (once, calls)| {
            *once.get_or_init(|| {
                calls.fetch_add(1, SeqCst);
                morestack::sleep(2 * MS);
                n
            })
        },
        |(once, calls), values| {
            assert_eq!(calls.load(SeqCst), 1);
            assert!(values.into_iter().all(|value| Some(&value) == once.get()));
        },
    );
}

#[test]
fn once_lock_by_all_its_ways() {
    let mut once = OnceLock::new();
    assert_eq!((once.get(), once.set(1), once.set(2), once.get()), (None, Ok(()), Err(2), Some(&1)));
    *once.get_mut().unwrap() += 1;
    assert_eq!((once.clone().take(), once.clone().into_inner()), (Some(2), Some(2)));
    assert!(once == OnceLock::from(2) && once != OnceLock::new());
    assert_eq!((once.take(), once.take(), once.get()), (Some(2), None, None));
    // What is in it is dropped with it, once.
    let counted = Arc::new(());
    drop(OnceLock::from(counted.clone()));
    assert_eq!(Arc::strong_count(&counted), 1);
}

/// After a panic another one tries, and those that wait go on.
#[test]
fn once_lock_after_a_panic() {
    in_all(
        12,
        || (OnceLock::new(), AtomicUsize::new(0)),
        |n, (once, calls)| {
            let result = catch_unwind(AssertUnwindSafe(|| {
                *once.get_or_init(|| {
                    morestack::sleep(MS);
                    if calls.fetch_add(1, SeqCst) < 3 {
                        std::panic::resume_unwind(Box::new(()));
                    }
                    n
                })
            }));
            result.ok()
        },
        |(once, calls), values| {
            assert_eq!(calls.load(SeqCst), 4);
            assert_eq!(values.iter().filter(|value| value.is_none()).count(), 3);
            assert_eq!(values.into_iter().flatten().collect::<HashSet<_>>(), HashSet::from([*once.get().unwrap()]));
        },
    );
}

/// Those that wait for long on copying stacks are frozen meanwhile.
#[test]
fn who_waits_is_frozen_and_thaws() {
    let rt = Runtime::builder().workers(2).freeze_after(Some(MS)).build().unwrap();
    let mutex = Arc::new(Mutex::new(0));
    let guard = mutex.lock();
    let waiters: Vec<_> = (0..100)
        .map(|n| {
            let mutex = mutex.clone();
            // SAFETY: nothing is lent.
            unsafe {
                rt.go(move || {
                    let mine = [n; 8];
                    let mut guard = mutex.lock();
                    *guard += 1;
                    black_box(&mine).iter().sum::<usize>()
                })
            }
        })
        .collect();
    until("frozen", || rt.metrics().freezes >= 100);
    drop(guard);
    assert!(waiters.into_iter().enumerate().all(|(n, waiter)| waiter.join().unwrap() == 8 * n));
    assert_eq!(*mutex.lock(), 100);
}

/// Locking where there is no room for more: it must not unwind, since `unlocked` locks again for a guard that exists. The
/// stack is used up in steps of many bytes, from as many beginnings as to hit upon each place where it can come to its end.
#[test]
fn locking_does_not_unwind() {
    #[prologue]
    fn begin(n: u64, mutex: &Mutex<u64>) -> u64 {
        black_box(if n == 0 { down(mutex) } else { begin(n - 1, mutex) }) + 1
    }
    #[prologue]
    #[expect(unconditional_recursion, reason = "it ends where the stack does")]
    fn down(mutex: &Mutex<u64>) -> u64 {
        let step = black_box([1_u8; 2048]);
        let mut guard = mutex.lock();
        MutexGuard::unlocked(&mut guard, || ());
        *guard += u64::from(step[0]);
        drop(guard);
        black_box(down(mutex)) + u64::from(step[1])
    }
    let rt = Runtime::builder().workers(1).build().unwrap();
    let mutex = Arc::new(Mutex::new(0));
    for n in 0..50 {
        let deep = {
            let mutex = mutex.clone();
            rt.spawn(move || begin(n, &mutex))
        };
        assert!(deep.join().unwrap_err().is::<morestack::StackOverflow>());
        assert!(!mutex.is_locked());
    }
}

/// What can be waited for with a deadline, and has one unit of it.
trait Timed: Send + Sync + 'static {
    type Guard<'a>;
    fn new() -> Self;
    /// Without a deadline.
    fn take(&self) -> Self::Guard<'_>;
    fn take_for(&self, timeout: Duration) -> Option<Self::Guard<'_>>;
    fn take_until(&self, deadline: Instant) -> Option<Self::Guard<'_>>;
    fn is_free(&self) -> bool;
}

impl Timed for Mutex<()> {
    type Guard<'a> = MutexGuard<'a, ()>;
    fn new() -> Self {
        Mutex::default()
    }
    fn take(&self) -> MutexGuard<'_, ()> {
        self.lock()
    }
    fn take_for(&self, timeout: Duration) -> Option<MutexGuard<'_, ()>> {
        self.try_lock_for(timeout)
    }
    fn take_until(&self, deadline: Instant) -> Option<MutexGuard<'_, ()>> {
        self.try_lock_until(deadline)
    }
    fn is_free(&self) -> bool {
        self.try_lock().is_some()
    }
}

impl Timed for Semaphore {
    type Guard<'a> = SemaphoreGuard<'a>;
    fn new() -> Self {
        Semaphore::new(1)
    }
    fn take(&self) -> SemaphoreGuard<'_> {
        self.acquire()
    }
    fn take_for(&self, timeout: Duration) -> Option<SemaphoreGuard<'_>> {
        self.try_acquire_for(timeout)
    }
    fn take_until(&self, deadline: Instant) -> Option<SemaphoreGuard<'_>> {
        self.try_acquire_until(deadline)
    }
    fn is_free(&self) -> bool {
        self.available_permits() == 1 && self.try_acquire().is_some()
    }
}

/// An `RwLock` that is taken by writing.
struct Writes(RwLock<()>);

impl Timed for Writes {
    type Guard<'a> = RwLockWriteGuard<'a, ()>;
    fn new() -> Self {
        Writes(RwLock::default())
    }
    fn take(&self) -> RwLockWriteGuard<'_, ()> {
        self.0.write()
    }
    fn take_for(&self, timeout: Duration) -> Option<RwLockWriteGuard<'_, ()>> {
        self.0.try_write_for(timeout)
    }
    fn take_until(&self, deadline: Instant) -> Option<RwLockWriteGuard<'_, ()>> {
        self.0.try_write_until(deadline)
    }
    fn is_free(&self) -> bool {
        self.0.try_write().is_some()
    }
}

/// One that is written, and waited for by reading.
struct Reads(RwLock<()>);

enum Either<'a> {
    #[expect(dead_code, reason = "held")]
    Writes(RwLockWriteGuard<'a, ()>),
    #[expect(dead_code, reason = "held")]
    Reads(RwLockReadGuard<'a, ()>),
}

impl Timed for Reads {
    type Guard<'a> = Either<'a>;
    fn new() -> Self {
        Reads(RwLock::default())
    }
    fn take(&self) -> Either<'_> {
        Either::Writes(self.0.write())
    }
    fn take_for(&self, timeout: Duration) -> Option<Either<'_>> {
        self.0.try_read_for(timeout).map(Either::Reads)
    }
    fn take_until(&self, deadline: Instant) -> Option<Either<'_>> {
        self.0.try_read_until(deadline).map(Either::Reads)
    }
    fn is_free(&self) -> bool {
        self.0.try_write().is_some()
    }
}

/// From each kind of thread: it times out, not early, and leaves nothing behind; those behind it get their turn, and it gets
/// its own when it comes in time.
fn takes_with_a_deadline<L: Timed>() {
    for workers in [1, 3] {
        let rt = runtime(workers);
        for kind in [Kind::Spawn, Kind::Go, Kind::Os] {
            let lock: &'static L = Box::leak(Box::new(L::new()));
            let held = lock.take();
            let times_out = || {
                kind.start(&rt, move || {
                    let start = Instant::now();
                    assert!(lock.take_for(5 * MS).is_none());
                    assert!(start.elapsed() >= 5 * MS);
                    let deadline = Instant::now() + 5 * MS;
                    assert!(lock.take_until(deadline).is_none());
                    assert!(Instant::now() >= deadline && lock.take_until(start).is_none());
                })
            };
            times_out()().unwrap();
            drop(held);
            assert!(lock.is_free(), "{kind:?}");
            // In the queue before, between and behind others.
            let held = lock.take();
            let (mut leave, mut stay) = (Vec::new(), Vec::new());
            for n in 0..9 {
                if n % 2 == 0 {
                    leave.push(times_out());
                } else {
                    stay.push(kind.start(&rt, move || drop(lock.take_for(Duration::from_secs(20)).expect("in time"))));
                    stay.push(kind.start(&rt, move || drop(lock.take())));
                }
            }
            leave.into_iter().for_each(|join| join().unwrap());
            drop(held);
            stay.into_iter().for_each(|join| join().unwrap());
            assert!(lock.is_free(), "{kind:?}");
            drop(lock.take_for(MS).expect("it is free"));
            drop(lock.take_for(Duration::MAX).expect("it is free"));
            drop(lock.take_until(Instant::now()).expect("it is free"));
        }
    }
}

#[test]
fn taking_with_a_deadline() {
    takes_with_a_deadline::<Mutex<()>>();
    takes_with_a_deadline::<Semaphore>();
    takes_with_a_deadline::<Writes>();
    takes_with_a_deadline::<Reads>();
}

/// Deadlines that fall when the lock is let go of: whoever comes last finds it free, and nobody waits for ever.
fn deadlines_race<L: Timed>() {
    in_all(
        12,
        || (L::new(), AtomicUsize::new(0), AtomicUsize::new(0)),
        |n, (lock, inside, timeouts)| {
            for i in 0..150_u32 {
                let patience = Duration::from_micros(u64::from(i * 7 % 41) * 5);
                let guard =
                    if (n + i as usize).is_multiple_of(3) { Some(lock.take()) } else { lock.take_for(patience) };
                if guard.is_none() {
                    timeouts.fetch_add(1, SeqCst);
                    continue;
                }
                inside.fetch_add(1, SeqCst);
                match i % 8 {
                    0 => morestack::sleep(Duration::from_micros(60)),
                    1..4 => morestack::yield_now(),
                    _ => compute(Duration::from_micros(10)),
                }
                inside.fetch_sub(1, SeqCst);
                drop(guard);
            }
        },
        |(lock, inside, timeouts), _| {
            assert!(lock.is_free() && inside.load(SeqCst) == 0);
            assert!(timeouts.load(SeqCst) > 0, "not a race");
        },
    );
}

#[test]
fn deadlines_that_race() {
    deadlines_race::<Mutex<()>>();
    deadlines_race::<Semaphore>();
    deadlines_race::<Writes>();
    deadlines_race::<Reads>();
}

/// The last writer that waits goes: the readers behind it need not wait for those that read.
#[test]
fn a_writer_that_leaves_lets_the_readers_in() {
    let rt = runtime(2);
    for kind in [Kind::Spawn, Kind::Go, Kind::Os] {
        let lock: &'static RwLock<()> = Box::leak(Box::new(RwLock::new(())));
        let reading = lock.read();
        let writer = kind.start(&rt, move || assert!(lock.try_write_for(30 * MS).is_none()));
        until("it waits", || lock.try_read().is_none());
        let readers: Vec<_> = (0..3).map(|_| kind.start(&rt, move || drop(lock.read()))).collect();
        // `reading` is held still.
        readers.into_iter().for_each(|join| join().unwrap());
        writer().unwrap();
        drop(lock.try_read().expect("nobody waits"));
        drop(reading);
        assert!(!lock.is_locked());
    }
}

/// The first wants more than there is, and goes: those behind it that want less get it.
#[test]
fn who_wants_many_leaves_and_lets_the_others_in() {
    let rt = runtime(2);
    for kind in [Kind::Spawn, Kind::Go, Kind::Os] {
        let semaphore: &'static Semaphore = Box::leak(Box::new(Semaphore::new(2)));
        let start = Instant::now();
        let many = kind.start(&rt, move || assert!(semaphore.try_acquire_many_for(3, 30 * MS).is_none()));
        until("it waits", || semaphore.try_acquire().is_none());
        let few = [1, 1].map(|n| kind.start(&rt, move || semaphore.acquire_many(n).forget()));
        few.into_iter().for_each(|join| join().unwrap());
        assert!(start.elapsed() >= 30 * MS);
        many().unwrap();
        assert_eq!(semaphore.available_permits(), 0);
        semaphore.release(2);
        assert_eq!(semaphore.try_acquire_many(2).map(SemaphoreGuard::forget), Some(()));
    }
}

/// Permits of which many are asked for at a time, by those that may give up: none is lost.
#[test]
fn no_permit_is_lost() {
    in_all(
        12,
        || (Semaphore::new(5), AtomicUsize::new(0)),
        |n, (semaphore, inside)| {
            for i in 0..200_usize {
                let many = 1 + (n * 3 + i) % 5;
                let patience = Duration::from_micros((i * 7 % 41) as u64 * 3);
                let permits = match i % 4 {
                    0 => Some(semaphore.acquire_many(many)),
                    _ => semaphore.try_acquire_many_for(many, patience),
                };
                if permits.is_some() {
                    assert!(inside.fetch_add(many, SeqCst) + many <= 5);
                    compute(Duration::from_micros(10));
                    inside.fetch_sub(many, SeqCst);
                }
            }
        },
        |(semaphore, _), _| assert_eq!(semaphore.available_permits(), 5),
    );
}

#[test]
fn condvar_with_a_deadline() {
    for workers in [1, 3] {
        let rt = runtime(workers);
        for kind in [Kind::Spawn, Kind::Go, Kind::Os] {
            let shared = Arc::new((Mutex::new(0), Condvar::new()));
            // Nobody notifies; somebody has the mutex when the time is over.
            let waits = {
                let shared = shared.clone();
                kind.start(&rt, move || {
                    let (count, condvar) = &*shared;
                    let mut count = count.lock();
                    *count = 1;
                    let start = Instant::now();
                    assert!(condvar.wait_for(&mut count, 5 * MS).timed_out() && start.elapsed() >= 5 * MS);
                    assert_eq!(*count, 2);
                    let deadline = Instant::now() + 5 * MS;
                    assert!(condvar.wait_until(&mut count, deadline).timed_out() && Instant::now() >= deadline);
                    assert!(condvar.wait_until(&mut count, start).timed_out());
                    let never = |count: &mut i32| *count != 3;
                    assert!(condvar.wait_while_for(&mut count, never, 5 * MS).timed_out());
                    assert!(condvar.wait_while_until(&mut count, never, start).timed_out());
                    assert!(!condvar.wait_while_until(&mut count, |count| *count != 2, start).timed_out());
                    *count = 3;
                    // Now it is notified.
                    assert!(!condvar.wait_while_for(&mut count, |count| *count == 3, 20_000 * MS).timed_out());
                    assert!(!condvar.wait_for(&mut count, 20_000 * MS).timed_out());
                })
            };
            let (count, condvar) = &*shared;
            until("it waits", || *count.lock() == 1);
            let mut guard = count.lock();
            morestack::sleep(10 * MS);
            *guard = 2;
            drop(guard);
            until("it waits", || *count.lock() == 3);
            *count.lock() = 4;
            assert!(condvar.notify_one());
            until("it waits again", || condvar.notify_one());
            waits().unwrap();
            assert!(!condvar.notify_one() && condvar.notify_all() == 0);
        }
    }
}

/// As many notifications as units; each wakes one that then takes one, or one that was at its deadline takes it by looking. Who
/// is told that it was notified was; who was told that it timed out has used up none.
#[test]
fn no_notification_is_lost() {
    in_all(
        12,
        || (Mutex::new((0_usize, 0_usize)), Condvar::new()),
        |n, (tickets, condvar)| {
            // (notifications that found somebody, those that were received)
            for i in 0..100_usize {
                if n < 6 {
                    let patience = Duration::from_micros((i * 7 % 41) as u64 * 3);
                    let mut tickets = tickets.lock();
                    tickets.1 += usize::from(!condvar.wait_for(&mut tickets, patience).timed_out());
                } else {
                    let mut tickets = tickets.lock();
                    match i % 8 {
                        0 => tickets.0 += condvar.notify_all(),
                        _ => tickets.0 += usize::from(condvar.notify_one()),
                    }
                    drop(tickets);
                    compute(Duration::from_micros(20));
                }
            }
        },
        |(tickets, condvar), _| {
            let (sent, received) = *tickets.lock();
            assert!(sent == received && !condvar.notify_one(), "{sent} {received}");
        },
    );
}

/// A destructor that waits with a deadline during a panic blocks the worker meanwhile.
#[test]
fn a_destructor_may_time_out_during_a_panic() {
    struct Waits(Arc<Mutex<u32>>);
    impl Drop for Waits {
        fn drop(&mut self) {
            assert!(std::thread::panicking() && self.0.try_lock_for(2 * MS).is_none());
        }
    }
    let rt = runtime(1);
    let mutex = Arc::new(Mutex::new(0));
    let guard = mutex.lock();
    let waits = Waits(mutex.clone());
    let panics = rt.spawn(move || {
        let _waits = waits;
        std::panic::resume_unwind(Box::new(()));
    });
    assert_eq!(panics.join().unwrap_err().downcast_ref(), Some(&()));
    drop(guard);
    assert!(!mutex.is_locked());
}

/// Those that wait for long are frozen, and time out.
#[test]
fn who_is_frozen_times_out() {
    let rt = Runtime::builder().workers(2).freeze_after(Some(MS)).build().unwrap();
    let mutex: &'static Mutex<()> = Box::leak(Box::new(Mutex::new(())));
    let guard = mutex.lock();
    // SAFETY: nothing is lent.
    let waiters: Vec<_> = (0..50_usize)
        .map(|n| unsafe {
            rt.go(move || {
                let mine = [n; 8];
                assert!(mutex.try_lock_for(50 * MS).is_none());
                black_box(&mine).iter().sum::<usize>()
            })
        })
        .collect();
    assert!(waiters.into_iter().enumerate().all(|(n, waiter)| waiter.join().unwrap() == 8 * n));
    assert!(rt.metrics().freezes >= 25, "{:?}", rt.metrics());
    drop(guard);
    assert!(!mutex.is_locked());
}

/// By the traits of `lock_api`, as code that is generic over locks does.
#[test]
fn timed_by_lock_api() {
    use lock_api::{RawMutex as _, RawMutexTimed, RawRwLock as _, RawRwLockTimed};
    use morestack::sync::{RawMutex, RawRwLock};
    let (mutex, lock, now) = (RawMutex::INIT, RawRwLock::INIT, Instant::now());
    assert!(mutex.try_lock_for(MS) && !mutex.try_lock_for(MS) && !mutex.try_lock_until(now));
    // SAFETY: locked above.
    unsafe { mutex.unlock() };
    assert!(mutex.try_lock_until(now));
    assert!(lock.try_lock_shared_for(MS) && lock.try_lock_shared_until(now));
    assert!(!lock.try_lock_exclusive_for(MS) && !lock.try_lock_exclusive_until(now));
    // SAFETY: two readers.
    unsafe { (lock.unlock_shared(), lock.unlock_shared()) };
    assert!(lock.try_lock_exclusive_for(MS) && !lock.try_lock_shared_for(MS) && !lock.try_lock_shared_until(now));
    // SAFETY: locked just now.
    unsafe { lock.unlock_exclusive() };
    assert!(lock.try_lock_exclusive_until(now));
}

#[test]
fn what_wraps_a_lock() {
    let (mutex, lock) = (Mutex::from(1), RwLock::from(1));
    assert_eq!(format!("{mutex:?} {lock:?}"), "Mutex { data: 1 } RwLock { data: 1 }");
    let (_guard, _writer) = (mutex.lock(), lock.write());
    assert_eq!(format!("{mutex:?} {lock:?}"), "Mutex { data: <locked> } RwLock { data: <locked> }");
    // Of unsized values, too.
    let slice: &Mutex<[i32]> = &Mutex::new([1, 2]);
    assert_eq!(slice.lock().len(), 2);
    let (mut mutex, mut lock) = (Mutex::new(1), RwLock::<i32>::default());
    *mutex.get_mut() += 1;
    *lock.get_mut() += 1;
    assert_eq!((mutex.into_inner(), lock.into_inner()), (2, 1));
}
