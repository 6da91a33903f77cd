//! Fork and join without a cut-off.
//!
//! Every call of a recursive fib(27) that calls again has the first of its two calls done by a thread of its own and
//! joins it. There is no work but that: 317,810 threads, each for an addition. A scheduler that takes the oldest first
//! has very many of them waiting at a time, one that takes the newest first has few.
//!
//! `rayon::join` is the floor. It runs what nobody has stolen as a call; nothing in it can wait without blocking its
//! worker.

use std::pin::Pin;
use std::time::{Duration, Instant};

use super::fib::{inner_calls, number, within};
use super::peers::{self, Smol};
use super::{Benchmark, Start, on, runtime};
use crate::measure::{Contender, Unit};

pub(super) const BENCHMARK: Benchmark = Benchmark {
    name: "fib_forkjoin",
    about: "fib(27) on two workers, a thread for every call that calls again",
    operation: "fork and join",
    unit: Unit::Nanoseconds,
    contenders,
};

const N: u64 = 27;
const WORKERS: usize = 2;

fn contenders() -> Vec<Contender> {
    let forks = inner_calls(N);
    let green =
        |start| on(|| runtime(WORKERS), move |runtime, forks| measured(forks, |n| runtime.run(|| green(n, start))));
    vec![
        Contender::own("spawn", forks, green(Start::Spawn)),
        Contender::own("go", forks, green(Start::Go)),
        Contender::peer(
            "tokio",
            forks,
            on(|| peers::tokio(WORKERS), |runtime, forks| measured(forks, |n| peers::run_tokio(runtime, tokio(n)))),
        ),
        Contender::peer(
            "smol",
            forks,
            on(
                || peers::smol(WORKERS),
                |executor, forks| measured(forks, |n| peers::run_smol(executor, smol(executor, n))),
            ),
        ),
        Contender::peer(
            "rayon::join (no blocking)",
            forks,
            on(|| peers::rayon(WORKERS), |pool, forks| measured(forks, |n| pool.install(|| rayon(n)))),
        ),
    ]
}

/// The time of so many forks: of the largest number that has no more, in proportion.
fn measured(forks: u64, fib: impl FnOnce(u64) -> u64) -> Duration {
    let (n, forked) = within(forks);
    let started = Instant::now();
    let result = fib(n);
    let time = started.elapsed();
    assert_eq!(result, number(n));
    time.mul_f64(forks as f64 / forked as f64)
}

fn green(n: u64, start: Start) -> u64 {
    if n < 2 {
        return n;
    }
    // SAFETY: the closure lends nothing of its stack to anybody.
    let first = unsafe { start.start(move || green(n - 1, start)) };
    let second = green(n - 2, start);
    first.join().expect("no panic") + second
}

fn tokio(n: u64) -> Pin<Box<dyn Future<Output = u64> + Send>> {
    Box::pin(async move {
        if n < 2 {
            return n;
        }
        let first = ::tokio::spawn(tokio(n - 1));
        let second = tokio(n - 2).await;
        first.await.expect("no panic") + second
    })
}

fn smol(executor: Smol, n: u64) -> Pin<Box<dyn Future<Output = u64> + Send>> {
    Box::pin(async move {
        if n < 2 {
            return n;
        }
        let first = executor.spawn(smol(executor, n - 1));
        let second = smol(executor, n - 2).await;
        first.await + second
    })
}

fn rayon(n: u64) -> u64 {
    if n < 2 {
        return n;
    }
    let (first, second) = ::rayon::join(|| rayon(n - 1), || rayon(n - 2));
    first + second
}
