//! Many sleepers: how late they wake, and what that costs.
//!
//! 100,000 threads sleep once each, for 1 to 1000 ms drawn from a fixed seed; so a hundred wake per millisecond. A run of
//! fewer draws from as much less, and as many wake per millisecond. CPU time is that of the whole process over the run:
//! starting the sleepers, the timers, joining them. The sleepers begin all at once: those with the shortest naps wake while
//! the others are still being started, and a scheduler that lets them wait until that is over has them at its 99th
//! percentile.
//!
//! In the last group a hog for each worker is there besides. Green threads' hogs pass checks and never yield, and are cut
//! off after 100 us; those of the peers yield of their own accord after as long, for without that no sleeper would ever
//! wake. CPU time would tell nothing there: the hogs take all there is. The other groups have the slice that a runtime has by
//! default.
//!
//! may has fewer sleepers: each has two mappings, of which a process may have 65,530. Among hogs it has none, since its
//! timers put those they wake into a queue that a worker looks at when its own is empty, and there the hogs are.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use morestack::Runtime;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::hog::{hog, step};
use super::peers::{self, Smol};
use super::{Benchmark, Start, on};
use crate::measure::{Contender, Unit};

pub(super) const BENCHMARK: Benchmark = Benchmark {
    name: "timers",
    about: "100,000 that sleep for up to a second, on two workers",
    operation: "sleeper",
    unit: Unit::Nanoseconds,
    contenders,
};

const SLEEPERS: u64 = 100_000;

/// As many as may can have.
const MAY_SLEEPERS: u64 = SLEEPERS / 5;

/// How many wake per millisecond.
const PER_MS: u64 = 100;

const SEED: u64 = 1;

const WORKERS: usize = 2;

/// The slice of hogs.
const SLICE: Duration = Duration::from_micros(100);

/// What is measured of a run.
#[derive(Clone, Copy)]
enum Quantity {
    /// The 99th percentile of the lateness.
    Late,
    /// CPU time.
    Cpu,
}

fn contenders() -> Vec<Contender> {
    let groups = [
        ("lateness, p99", Quantity::Late, false),
        ("CPU time", Quantity::Cpu, false),
        ("lateness among hogs, p99", Quantity::Late, true),
    ];
    let group = |(name, quantity, hogs)| group(quantity, hogs).into_iter().map(move |c| c.in_group(name));
    groups.into_iter().flat_map(group).collect()
}

fn group(quantity: Quantity, hogs: bool) -> Vec<Contender> {
    let own =
        |start| on(move || runtime(hogs), move |runtime, sleepers| green(runtime, sleepers, start, quantity, hogs));
    let tokio = on(|| peers::tokio(WORKERS), move |tokio, sleepers| tokio_tasks(tokio, sleepers, quantity, hogs));
    let smol = on(|| peers::smol(WORKERS), move |smol, sleepers| smol_tasks(smol, sleepers, quantity, hogs));
    let mut contenders = vec![
        Contender::own("spawn", SLEEPERS, own(Start::Spawn)),
        Contender::own("go", SLEEPERS, own(Start::Go)),
        Contender::peer("tokio", SLEEPERS, tokio),
        Contender::peer("smol", SLEEPERS, smol),
    ];
    if !hogs {
        let may = peers::may(WORKERS, move |sleepers| may_coroutines(sleepers, quantity));
        contenders.push(Contender::peer("may", MAY_SLEEPERS, may).fresh());
    }
    contenders
}

fn runtime(hogs: bool) -> Runtime {
    let builder = Runtime::builder().workers(WORKERS);
    if hogs { builder.time_slice(Some(SLICE)) } else { builder }.build().expect("a runtime")
}

/// How long each sleeps.
fn naps(sleepers: u64) -> impl Iterator<Item = Duration> {
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let longest = (sleepers / PER_MS).max(1) * 1000;
    (0..sleepers).map(move |_| Duration::from_micros(rng.random_range(1000..=longest)))
}

/// What was measured, as the harness wants it: for all sleepers together.
fn taken(quantity: Quantity, mut late: Vec<Duration>, cpu: Duration, sleepers: u64) -> Duration {
    assert_eq!(late.len() as u64, sleepers);
    late.sort();
    match quantity {
        Quantity::Late => late[late.len() * 99 / 100] * late.len() as u32,
        Quantity::Cpu => cpu,
    }
}

/// CPU time of this process so far.
fn cpu_time() -> Duration {
    let mut clock = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes `clock`.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut clock) }, 0);
    Duration::new(clock.tv_sec as u64, clock.tv_nsec as u32)
}

/// Starts a hog for each worker, if there are to be any. They end when what is returned is set.
fn hogs<H>(hogs: bool, start: impl Fn(Arc<AtomicBool>) -> H) -> (Arc<AtomicBool>, Vec<H>) {
    let stop = Arc::new(AtomicBool::new(false));
    let hogs = (0..if hogs { WORKERS } else { 0 }).map(|_| start(stop.clone())).collect();
    (stop, hogs)
}

/// Works as long as a slice lasts.
fn work() {
    let started = Instant::now();
    while started.elapsed() < SLICE {
        black_box(step(1));
    }
}

fn green(runtime: &Runtime, sleepers: u64, start: Start, quantity: Quantity, hogs: bool) -> Duration {
    // SAFETY: the reference that a hog holds is to the heap.
    let (stop, hogs) = self::hogs(hogs, |stop| unsafe { runtime.go(move || hog(&stop)) });
    let preempted = runtime.metrics().preemptions;
    let before = cpu_time();
    let late = runtime.run(|| {
        let sleep = |nap| {
            let sleeper = move || {
                let deadline = Instant::now() + nap;
                morestack::sleep_until(deadline);
                deadline.elapsed()
            };
            // SAFETY: the closure lends nothing of its stack to anybody.
            unsafe { start.start(sleeper) }
        };
        let handles: Vec<_> = naps(sleepers).map(sleep).collect();
        handles.into_iter().map(|handle| handle.join().expect("no panic")).collect()
    });
    let cpu = cpu_time() - before;
    stop.store(true, Relaxed);
    assert!(hogs.is_empty() || runtime.metrics().preemptions - preempted > 10, "the hogs were not preempted");
    hogs.into_iter().for_each(|hog| hog.join().expect("no panic"));
    taken(quantity, late, cpu, sleepers)
}

fn tokio_tasks(tokio: &tokio::runtime::Runtime, sleepers: u64, quantity: Quantity, hogs: bool) -> Duration {
    let (stop, hogs) = self::hogs(hogs, |stop| {
        tokio.spawn(async move {
            while !stop.load(Relaxed) {
                work();
                tokio::task::yield_now().await;
            }
        })
    });
    let before = cpu_time();
    let late = peers::run_tokio(tokio, async move {
        let sleep = |nap| {
            tokio::spawn(async move {
                let deadline = Instant::now() + nap;
                tokio::time::sleep_until(deadline.into()).await;
                deadline.elapsed()
            })
        };
        let tasks: Vec<_> = naps(sleepers).map(sleep).collect();
        let mut late = Vec::with_capacity(tasks.len());
        for task in tasks {
            late.push(task.await.expect("no panic"));
        }
        late
    });
    let cpu = cpu_time() - before;
    stop.store(true, Relaxed);
    hogs.into_iter().for_each(|hog| tokio.block_on(hog).expect("no panic"));
    taken(quantity, late, cpu, sleepers)
}

fn smol_tasks(smol: Smol, sleepers: u64, quantity: Quantity, hogs: bool) -> Duration {
    let (stop, hogs) = self::hogs(hogs, |stop| {
        smol.spawn(async move {
            while !stop.load(Relaxed) {
                work();
                futures_lite::future::yield_now().await;
            }
        })
    });
    let before = cpu_time();
    let late = peers::run_smol(smol, async move {
        let sleep = |nap| {
            smol.spawn(async move {
                let deadline = Instant::now() + nap;
                async_io::Timer::at(deadline).await;
                deadline.elapsed()
            })
        };
        let tasks: Vec<_> = naps(sleepers).map(sleep).collect();
        let mut late = Vec::with_capacity(tasks.len());
        for task in tasks {
            late.push(task.await);
        }
        late
    });
    let cpu = cpu_time() - before;
    stop.store(true, Relaxed);
    hogs.into_iter().for_each(|hog| peers::run_smol(smol, hog));
    taken(quantity, late, cpu, sleepers)
}

fn may_coroutines(sleepers: u64, quantity: Quantity) -> Duration {
    let before = cpu_time();
    let sleep = |nap| {
        peers::go_may(move || {
            let deadline = Instant::now() + nap;
            may::coroutine::sleep(nap);
            deadline.elapsed()
        })
    };
    let handles: Vec<_> = naps(sleepers).map(sleep).collect();
    let late = handles.into_iter().map(|handle| handle.join().expect("no panic")).collect();
    let cpu = cpu_time() - before;
    taken(quantity, late, cpu, sleepers)
}
