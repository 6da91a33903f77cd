//! What a mutex costs that many threads lock again and again.
//!
//! ```text
//!   thread 0    lock, add one, unlock   lock, add one, unlock   ...
//!   thread 1    lock, add one, unlock   ...                            100 of them, one mutex
//!   ...
//! ```
//!
//! They do nothing else: with one worker the mutex is seldom found locked, with two whoever does not have it is in the way
//! of who has. Morestack's time slices are on: locking is where its green threads are preempted.

use std::sync::{Arc, Mutex as OsMutex};
use std::thread;
use std::time::{Duration, Instant};

use core_affinity::CoreId;
use morestack::Runtime;
use morestack::sync::Mutex;

use super::peers;
use super::{Benchmark, Start, on};
use crate::go;
use crate::measure::{Contender, Unit};

pub(super) const BENCHMARK: Benchmark = Benchmark {
    name: "mutex",
    about: "100 threads that lock and unlock one mutex",
    operation: "lock and unlock",
    unit: Unit::Nanoseconds,
    contenders,
};

const THREADS: u64 = 100;

/// Some milliseconds for the fastest, so that starting the threads is little of it.
const LOCKS: u64 = 10_000_000;

/// Of the slow ones.
const FEW: u64 = 1_000_000;

fn contenders() -> Vec<Contender> {
    let groups = [(1, "1 worker"), (2, "2 workers")];
    let both = groups.into_iter().flat_map(|(workers, group)| {
        let green = |start| on(move || runtime(workers), move |runtime, locks| green(runtime, locks, start));
        let mut contenders = vec![
            Contender::own("spawn", LOCKS, green(Start::Spawn)),
            Contender::own("go", LOCKS, green(Start::Go)),
            Contender::peer("std::thread, std::sync::Mutex", LOCKS, move |locks| os(workers, locks)),
            Contender::peer("tokio, sync::Mutex", FEW, on(move || peers::tokio(workers), tokio)),
            Contender::peer("may, sync::Mutex", FEW, peers::may(workers, may)).fresh(),
        ];
        contenders.extend(go::peer("mutex", workers, LOCKS));
        contenders.into_iter().map(move |contender| contender.in_group(group))
    });
    both.collect()
}

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().expect("a runtime")
}

fn green(runtime: &Runtime, locks: u64, start: Start) -> Duration {
    let each = locks.div_ceil(THREADS);
    runtime.run(move || {
        let sum = Arc::new(Mutex::new(0));
        let started = Instant::now();
        let threads = (0..THREADS).map(|_| {
            let sum = sum.clone();
            // SAFETY: the closure lends nothing of its stack to anybody.
            unsafe { start.start(move || (0..each).for_each(|_| *sum.lock() += 1)) }
        });
        let threads: Vec<_> = threads.collect();
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        let time = started.elapsed();
        assert_eq!(*sum.lock(), each * THREADS);
        time
    })
}

/// On so many cores.
fn os(cores: usize, locks: u64) -> Duration {
    let each = locks.div_ceil(THREADS);
    let ids: Arc<[CoreId]> = core_affinity::get_core_ids().unwrap_or_default().into_iter().take(cores).collect();
    let sum = Arc::new(OsMutex::new(0));
    let started = Instant::now();
    let threads = (0..THREADS as usize).map(|n| {
        let (sum, ids) = (sum.clone(), ids.clone());
        thread::spawn(move || {
            let pinned = ids.get(n % cores).is_some_and(|id| core_affinity::set_for_current(*id));
            assert!(pinned, "a core to run on");
            (0..each).for_each(|_| *sum.lock().expect("no panic") += 1);
        })
    });
    let threads: Vec<_> = threads.collect();
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    let time = started.elapsed();
    assert_eq!(*sum.lock().expect("no panic"), each * THREADS);
    time
}

fn tokio(runtime: &tokio::runtime::Runtime, locks: u64) -> Duration {
    let each = locks.div_ceil(THREADS);
    peers::run_tokio(runtime, async move {
        let sum = Arc::new(tokio::sync::Mutex::new(0));
        let started = Instant::now();
        let tasks = (0..THREADS).map(|_| {
            let sum = sum.clone();
            tokio::spawn(async move {
                for _ in 0..each {
                    *sum.lock().await += 1;
                }
            })
        });
        let tasks: Vec<_> = tasks.collect();
        for task in tasks {
            task.await.expect("no panic");
        }
        let time = started.elapsed();
        assert_eq!(*sum.lock().await, each * THREADS);
        time
    })
}

fn may(locks: u64) -> Duration {
    let each = locks.div_ceil(THREADS);
    let sum = Arc::new(may::sync::Mutex::new(0));
    let started = Instant::now();
    let coroutines = (0..THREADS).map(|_| {
        let sum = sum.clone();
        peers::go_may(move || (0..each).for_each(|_| *sum.lock().expect("no panic") += 1))
    });
    let coroutines: Vec<_> = coroutines.collect();
    coroutines.into_iter().for_each(|coroutine| coroutine.join().expect("no panic"));
    let time = started.elapsed();
    assert_eq!(*sum.lock().expect("no panic"), each * THREADS);
    time
}
