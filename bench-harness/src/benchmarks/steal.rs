//! Work that all has to be stolen.
//!
//! One thread starts many others and then keeps its worker busy until all have run: so it is the other worker that runs them, each of
//! them taken from the first one's queue. What is measured is how fast work moves from one worker to another.
//!
//! One more is started than is waited for: some schedulers keep the last for the worker that has started it.

use std::hint::spin_loop;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::{Duration, Instant};

use super::peers::{self, Smol};
use super::{Benchmark, Start, on, runtime};
use crate::go;
use crate::measure::{Contender, Unit};

pub(super) const BENCHMARK: Benchmark = Benchmark {
    name: "steal",
    about: "threads that are started by a busy worker, and run by another",
    operation: "thread",
    unit: Unit::Nanoseconds,
    contenders,
};

const WORKERS: usize = 2;
const TASKS: u64 = 100_000;

fn contenders() -> Vec<Contender> {
    let green = |start: Start| {
        let run = move |runtime: &morestack::Runtime, tasks| {
            runtime.run(move || {
                morestack::without_preemption(|| {
                    // SAFETY: the closure has nothing on its stack.
                    busy(tasks, |done| drop(unsafe { start.start(move || count(&done)) }))
                })
            })
        };
        on(|| runtime(WORKERS), run)
    };
    let tokio = on(
        || peers::tokio(WORKERS),
        |runtime, tasks| {
            peers::run_tokio(
                runtime,
                async move { busy(tasks, |done| drop(tokio::spawn(async move { count(&done) }))) },
            )
        },
    );
    let smol = on(
        || peers::smol(WORKERS),
        |&executor: &Smol, tasks| {
            peers::run_smol(executor, async move {
                busy(tasks, |done| executor.spawn(async move { count(&done) }).detach())
            })
        },
    );
    let rayon = on(
        || peers::rayon(WORKERS),
        |pool, tasks| pool.install(|| busy(tasks, |done| rayon::spawn(move || count(&done)))),
    );
    let mut contenders = vec![
        Contender::own("spawn", TASKS, green(Start::Spawn)),
        Contender::own("go", TASKS, green(Start::Go)),
        Contender::peer("rayon", TASKS, rayon),
        Contender::peer("tokio", TASKS, tokio),
        Contender::peer("smol", TASKS, smol),
    ];
    contenders.extend(go::peer("steal", WORKERS, TASKS));
    contenders
}

/// What each of them does.
fn count(done: &AtomicU64) {
    done.fetch_add(1, Release);
}

/// Starts so many, and stays until they have run.
fn busy(tasks: u64, start: impl Fn(Arc<AtomicU64>)) -> Duration {
    let done = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    (0..=tasks).for_each(|_| start(done.clone()));
    while done.load(Acquire) < tasks {
        spin_loop();
    }
    started.elapsed()
}
