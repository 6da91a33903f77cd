//! What it costs to have a closure run by a thread of its own, and to get its result.
//!
//! One green thread spawns all and then joins all, so that the queues get long and every thread needs a stack, one after
//! the other. The call of a boxed closure is the floor: an allocation, and the work itself. Of a million, the peers are
//! other schedulers with as many workers; rayon's threads of a scope are not joined one by one, they leave their results.

use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use morestack::Runtime;
use rayon::ThreadPool;

use super::peers::{self, Smol};
use super::{Benchmark, Start, on, runtime};
use crate::go;
use crate::measure::{Contender, Unit};

pub(super) const BENCHMARK: Benchmark = Benchmark {
    name: "spawn_join",
    about: "a closure run by a thread of its own, and its result",
    operation: "spawn, run and join",
    unit: Unit::Nanoseconds,
    contenders,
};

/// Long enough to leave every cache of the scheduler's behind.
const SPAWNS: u64 = 100_000;

/// So many that they fit no cache of the processor's.
const MILLION: u64 = 1_000_000;

/// OS threads of one run. They are joined in groups, below.
const OS_SPAWNS: u64 = 2_000;

/// OS threads that exist at the same time: far from any limit of the system.
const OS_GROUP: u64 = 100;

fn contenders() -> Vec<Contender> {
    let mut contenders = batch();
    contenders.extend(million(1).into_iter().map(|contender| contender.in_group("1,000,000 at once, 1 worker")));
    contenders.extend(million(2).into_iter().map(|contender| contender.in_group("1,000,000 at once, 2 workers")));
    contenders
}

fn batch() -> Vec<Contender> {
    let green = |workers, start| on(move || runtime(workers), move |runtime, spawns| green(runtime, spawns, start));
    let contenders = [
        Contender::own("spawn, 1 worker", SPAWNS, green(1, Start::Spawn)),
        Contender::own("spawn, 2 workers", SPAWNS, green(2, Start::Spawn)),
        Contender::own("go, 1 worker", SPAWNS, green(1, Start::Go)),
        Contender::own("go, 2 workers", SPAWNS, green(2, Start::Go)),
        Contender::peer("std::thread", OS_SPAWNS, os_threads),
        Contender::peer("call of a Box<dyn FnOnce>", SPAWNS, calls),
    ];
    contenders.map(|contender| contender.in_group("100,000 at once")).into()
}

fn million(workers: usize) -> Vec<Contender> {
    let green = |start| on(move || runtime(workers), move |runtime, spawns| green(runtime, spawns, start));
    let mut contenders = vec![
        Contender::own("spawn", MILLION, green(Start::Spawn)),
        Contender::own("go", MILLION, green(Start::Go)),
        Contender::peer("tokio", MILLION, on(move || peers::tokio(workers), tokio_tasks)),
        Contender::peer("smol", MILLION, on(move || peers::smol(workers), |smol, spawns| smol_tasks(smol, spawns))),
        Contender::peer("rayon", MILLION, on(move || peers::rayon(workers), rayon_jobs)),
    ];
    contenders.extend(go::peer("spawn_join", workers, MILLION));
    contenders
}

/// What the `n`th thread computes.
fn work(n: u64) -> u64 {
    black_box(n).wrapping_mul(3)
}

/// Checks the sum of what threads 0 to `count` computed.
fn check(sum: u64, count: u64) {
    assert_eq!(sum, 3 * (count * (count - 1) / 2));
}

fn green(runtime: &Runtime, spawns: u64, start: Start) -> Duration {
    runtime.run(move || {
        let started = Instant::now();
        // SAFETY: the closure lends nothing of its stack to anybody.
        let handles: Vec<_> = (0..spawns).map(|n| unsafe { start.start(move || work(n)) }).collect();
        let sum = handles.into_iter().map(|handle| handle.join().expect("no panic")).sum();
        let time = started.elapsed();
        check(sum, spawns);
        time
    })
}

fn tokio_tasks(runtime: &tokio::runtime::Runtime, spawns: u64) -> Duration {
    peers::run_tokio(runtime, async move {
        let started = Instant::now();
        let tasks: Vec<_> = (0..spawns).map(|n| tokio::spawn(async move { work(n) })).collect();
        let mut sum = 0;
        for task in tasks {
            sum += task.await.expect("no panic");
        }
        let time = started.elapsed();
        check(sum, spawns);
        time
    })
}

fn smol_tasks(executor: Smol, spawns: u64) -> Duration {
    peers::run_smol(executor, async move {
        let started = Instant::now();
        let tasks: Vec<_> = (0..spawns).map(|n| executor.spawn(async move { work(n) })).collect();
        let mut sum = 0;
        for task in tasks {
            sum += task.await;
        }
        let time = started.elapsed();
        check(sum, spawns);
        time
    })
}

fn rayon_jobs(pool: &ThreadPool, spawns: u64) -> Duration {
    pool.install(|| {
        let started = Instant::now();
        let mut results = vec![0; spawns as usize];
        rayon::scope(|scope| {
            for (n, result) in (0..spawns).zip(&mut results) {
                scope.spawn(move |_| *result = work(n));
            }
        });
        let sum = results.into_iter().sum();
        let time = started.elapsed();
        check(sum, spawns);
        time
    })
}

fn os_threads(spawns: u64) -> Duration {
    let started = Instant::now();
    let mut sum = 0;
    for first in (0..spawns).step_by(OS_GROUP as usize) {
        let group = first..spawns.min(first + OS_GROUP);
        let handles: Vec<_> = group.map(|n| thread::spawn(move || work(n))).collect();
        sum += handles.into_iter().map(|handle| handle.join().expect("no panic")).sum::<u64>();
    }
    let time = started.elapsed();
    check(sum, spawns);
    time
}

fn calls(spawns: u64) -> Duration {
    let started = Instant::now();
    let boxes: Vec<Box<dyn FnOnce() -> u64>> = (0..spawns).map(|n| Box::new(move || work(n)) as _).collect();
    let sum = black_box(boxes).into_iter().map(|call| call()).sum();
    let time = started.elapsed();
    check(sum, spawns);
    time
}
