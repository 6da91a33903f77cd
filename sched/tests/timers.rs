//! Sleeping (S22, S23): in order, never too early, once, in time where workers are busy, and with the help of others where
//! one cannot.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use morestack::{JoinHandle, Runtime};

const MS: Duration = Duration::from_millis(1);

/// Longer than any pause of the machine.
const LIMIT: Duration = Duration::from_secs(20);

fn runtime(workers: usize, slice: Duration) -> Runtime {
    Runtime::builder().workers(workers).time_slice(Some(slice)).build().unwrap()
}

/// Tied or untied.
fn start(rt: &Runtime, tied: bool, f: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    // SAFETY: the tests' closures keep no address of a local across a sleep, and touch no thread-local.
    if tied { rt.spawn(f) } else { unsafe { rt.go(f) } }
}

fn join(handles: impl IntoIterator<Item = JoinHandle<()>>) {
    handles.into_iter().for_each(|handle| handle.join().unwrap());
}

/// Waits on an OS thread; false if it takes too long.
fn wait_until(done: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while !done() && start.elapsed() < LIMIT {
        std::thread::sleep(MS);
    }
    done()
}

/// Numbers without a pattern, the same each time.
fn numbers() -> impl FnMut(u64) -> u64 {
    let mut x = 0x9E37_79B9_7F4A_7C15_u64;
    move |below| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x % below
    }
}

/// Computes without a safepoint.
fn spin(duration: Duration) {
    let start = Instant::now();
    while start.elapsed() < duration {
        std::hint::spin_loop();
    }
}

#[test]
fn sleepers_wake_in_the_order_of_their_deadlines() {
    let rt = runtime(1, MS);
    let woken = Arc::new(Mutex::new(Vec::new()));
    let mut number = numbers();
    let first = Instant::now() + 50 * MS;
    let mut deadlines: Vec<u64> = (0..300).map(|_| number(20_000)).collect();
    let handles: Vec<_> = deadlines
        .iter()
        .map(|&us| {
            let woken = woken.clone();
            start(&rt, us % 2 == 0, move || {
                morestack::sleep_until(first + Duration::from_micros(us));
                woken.lock().unwrap().push(us);
            })
        })
        .collect();
    join(handles);
    deadlines.sort_unstable();
    assert_eq!(*woken.lock().unwrap(), deadlines);
}

#[test]
fn nobody_wakes_too_early() {
    let rt = runtime(2, Duration::from_micros(100));
    let stop = Arc::new(AtomicBool::new(false));
    let hog = {
        let stop = stop.clone();
        rt.spawn(move || {
            while !stop.load(SeqCst) {
                morestack::checkpoint();
            }
        })
    };
    let mut number = numbers();
    let handles: Vec<_> = (0..200)
        .map(|i| {
            let times: Vec<_> = (0..20).map(|_| Duration::from_micros(number(3000))).collect();
            start(&rt, i % 2 == 0, move || {
                for time in &times {
                    let start = Instant::now();
                    morestack::sleep(*time);
                    assert!(start.elapsed() >= *time, "{:?} of {time:?}", start.elapsed());
                }
            })
        })
        .collect();
    join(handles);
    stop.store(true, SeqCst);
    hog.join().unwrap();
}

#[test]
fn a_hundred_thousand_wake_once_each_and_are_counted() {
    const SLEEPERS: usize = 100_000;
    let rt = runtime(2, MS);
    let woken: Arc<Vec<AtomicUsize>> = Arc::new((0..SLEEPERS).map(|_| AtomicUsize::new(0)).collect());
    let mut number = numbers();
    let handles: Vec<_> = (0..SLEEPERS)
        .map(|i| {
            let (woken, time) = (woken.clone(), 50 * MS + Duration::from_micros(number(50_000)));
            // Long enough that none is over before it begins, whatever the machine does. Few of the tied: each of them has a mapping with a guard.
            start(&rt, i % 10 == 0, move || {
                morestack::sleep(time);
                woken[i].fetch_add(1, SeqCst);
            })
        })
        .collect();
    join(handles);
    assert!(woken.iter().all(|count| count.load(SeqCst) == 1));
    let metrics = rt.metrics();
    assert_eq!(metrics.timer_lateness.count(), SLEEPERS as u64);
    rt.shutdown(LIMIT).unwrap();
}

/// A slice that lasts for a minute is cut short for a timer, on each worker; and one that sleeps wakes for it.
#[test]
fn neither_hogs_nor_idleness_make_sleepers_late() {
    for (tied, hogs) in [(true, 2), (false, 2), (true, 0), (false, 0)] {
        let rt = runtime(2, Duration::from_secs(60));
        let stop = Arc::new(AtomicBool::new(false));
        let late = Arc::new(Mutex::new(Vec::new()));
        let sleepers: Vec<_> = (0..20)
            .map(|_| {
                let late = late.clone();
                start(&rt, tied, move || {
                    for _ in 0..10 {
                        let deadline = Instant::now() + 10 * MS;
                        morestack::sleep_until(deadline);
                        late.lock().unwrap().push(deadline.elapsed());
                    }
                })
            })
            .collect();
        std::thread::sleep(2 * MS);
        let handles: Vec<_> = (0..hogs)
            .map(|_| {
                let stop = stop.clone();
                rt.spawn(move || {
                    while !stop.load(SeqCst) {
                        morestack::checkpoint();
                    }
                })
            })
            .collect();
        assert!(wait_until(|| sleepers.iter().all(JoinHandle::is_finished)), "tied: {tied}, hogs: {hogs}");
        stop.store(true, SeqCst);
        join(sleepers.into_iter().chain(handles));
        let mut late = late.lock().unwrap();
        late.sort_unstable();
        assert!(late[late.len() / 2] < 100 * MS, "tied: {tied}, hogs: {hogs}: {late:?}");
    }
}

/// The sleepers of a worker that is stuck are woken by another, which sleeps when their time comes, or has a hog that
/// nobody waits for there.
#[test]
fn untied_sleepers_of_a_stuck_worker_are_woken_by_others() {
    /// Then the other has been asleep for longer than a worker keeps its cache: it does not wake by itself any more.
    const SLEEP: Duration = Duration::from_millis(1500);
    let test = |slice, hog: bool| {
        const SLEEPERS: usize = 100;
        let rt = Runtime::builder().workers(2).time_slice(slice).build().unwrap();
        let flag = || Arc::new(AtomicBool::new(false));
        let (other_is_stuck, free_other, all_sleep, done, end_hog) = (flag(), flag(), flag(), flag(), flag());
        // While it is stuck, all that follows runs on one worker.
        let other = {
            let (other_is_stuck, free_other, end_hog) = (other_is_stuck.clone(), free_other.clone(), end_hog.clone());
            rt.spawn(move || {
                other_is_stuck.store(true, SeqCst);
                while !free_other.load(SeqCst) {
                    std::hint::spin_loop();
                }
                while hog && !end_hog.load(SeqCst) {
                    morestack::checkpoint();
                }
            })
        };
        assert!(wait_until(|| other_is_stuck.load(SeqCst)));
        let stuck = {
            let (all_sleep, done, end_hog) = (all_sleep.clone(), done.clone(), end_hog.clone());
            let asleep = Arc::new(AtomicUsize::new(0));
            rt.spawn(move || {
                let sleepers: Vec<_> = (0..SLEEPERS)
                    .map(|_| {
                        let asleep = asleep.clone();
                        // SAFETY: nothing is borrowed.
                        unsafe {
                            morestack::go(move || {
                                asleep.fetch_add(1, SeqCst);
                                morestack::sleep(SLEEP);
                            })
                        }
                    })
                    .collect();
                while asleep.load(SeqCst) < SLEEPERS {
                    morestack::yield_now();
                }
                all_sleep.store(true, SeqCst);
                let start = Instant::now();
                while !sleepers.iter().all(JoinHandle::is_finished) && start.elapsed() < LIMIT {
                    std::hint::spin_loop();
                }
                done.store(sleepers.iter().all(JoinHandle::is_finished), SeqCst);
                end_hog.store(true, SeqCst);
            })
        };
        assert!(wait_until(|| all_sleep.load(SeqCst)));
        free_other.store(true, SeqCst);
        join([stuck, other]);
        assert!(done.load(SeqCst), "slice: {slice:?}, hog: {hog}: {:?}", rt.metrics());
        let metrics = rt.metrics();
        assert_eq!(metrics.timer_lateness.count(), SLEEPERS as u64);
        assert!(hog || metrics.steals > 0);
    };
    std::thread::scope(|scope| {
        scope.spawn(|| test(Some(Duration::from_micros(100)), false));
        scope.spawn(|| test(None, false));
        scope.spawn(|| test(Some(Duration::from_micros(100)), true));
    });
}

/// They do not queue behind a crowd that was there before.
#[test]
fn sleepers_come_before_a_crowd() {
    const CROWD: usize = 2000;
    const SLEEPERS: usize = 20;
    for tied in [true, false] {
        let rt = runtime(1, MS);
        let (asleep, ran, before) = <(Arc<AtomicUsize>, Arc<AtomicUsize>, Arc<Mutex<Vec<usize>>>)>::default();
        // Spawned by a green thread, so that all stand in the worker's own queue.
        let handles = rt.run(|| {
            let mut handles = Vec::new();
            for _ in 0..SLEEPERS {
                let (asleep, ran, before) = (asleep.clone(), ran.clone(), before.clone());
                handles.push(start(&rt, tied, move || {
                    asleep.fetch_add(1, SeqCst);
                    morestack::sleep(20 * MS);
                    before.lock().unwrap().push(ran.load(SeqCst));
                }));
            }
            while asleep.load(SeqCst) < SLEEPERS {
                morestack::yield_now();
            }
            for i in 0..CROWD {
                let ran = ran.clone();
                handles.push(start(&rt, i % 2 == 0, move || {
                    spin(MS / 10);
                    ran.fetch_add(1, SeqCst);
                }));
            }
            handles
        });
        join(handles);
        let before = before.lock().unwrap();
        assert!(before.iter().all(|&ran| ran < CROWD * 3 / 4), "tied: {tied}: {before:?}");
    }
}

/// However many wake all the time, others get their turn.
#[test]
fn sleepers_do_not_starve_others() {
    let rt = runtime(1, MS);
    let stop = Arc::new(AtomicBool::new(false));
    let sleepers: Vec<_> = (0..200)
        .map(|i| {
            let stop = stop.clone();
            start(&rt, i % 2 == 0, move || {
                while !stop.load(SeqCst) {
                    spin(Duration::from_micros(20));
                    morestack::sleep(Duration::from_micros(10));
                }
            })
        })
        .collect();
    std::thread::sleep(20 * MS);
    let others: Vec<_> = (0..20).map(|i| start(&rt, i % 2 == 0, || ())).collect();
    let ran = wait_until(|| others.iter().all(JoinHandle::is_finished));
    stop.store(true, SeqCst);
    join(sleepers.into_iter().chain(others));
    assert!(ran);
}

#[test]
fn the_histogram_has_one_entry_per_sleep() {
    let rt = runtime(2, MS);
    let none = rt.metrics().timer_lateness;
    assert_eq!((none.count(), none.quantile(0.5)), (0, Duration::ZERO));
    let handles: Vec<_> =
        (0..50).map(|i| start(&rt, i % 2 == 0, || (0..10).for_each(|_| morestack::sleep(10 * MS)))).collect();
    join(handles);
    // Neither is a sleep.
    rt.run(|| {
        morestack::sleep(Duration::ZERO);
        morestack::sleep_until(Instant::now());
    });
    assert_eq!(rt.metrics().timer_lateness.count(), 500);
    // A worker that is stuck makes its tied sleepers late by that.
    let rt = runtime(1, MS);
    let sleeper = rt.spawn(|| morestack::sleep(50 * MS));
    std::thread::sleep(MS);
    rt.spawn(|| spin(100 * MS)).join().unwrap();
    sleeper.join().unwrap();
    let late = rt.metrics().timer_lateness;
    assert_eq!(late.count(), 1);
    assert!(late.quantile(1.0) > 16 * MS, "{late:?}");
    assert!(late.classes().is_sorted_by_key(|(below, _)| below));
}
