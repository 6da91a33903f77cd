//! How late a sleeper wakes among threads that never yield.
//!
//! Two processors, each with two hogs that call a function marked `#[prologue]` in a loop, and one thread that sleeps for
//! 1 ms at a time. A run's sample is a quantile of how late the sleeper was. The peers are the kernel's scheduler with the
//! same threads on the same processors, and the sleeper alone, without hogs: what that is late is the noise of the machine,
//! which on virtual ones decides the 99th percentile.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use morestack::Runtime;

use super::Benchmark;
use crate::measure::{Contender, Unit};

pub(super) const BENCHMARK: Benchmark = Benchmark {
    name: "hog",
    about: "a thread that sleeps 1 ms at a time among 4 that never yield, on two processors",
    operation: "sleep, of lateness",
    unit: Unit::Nanoseconds,
    contenders,
};

const WORKERS: usize = 2;
const HOGS: usize = 2 * WORKERS;
const NAP: Duration = Duration::from_millis(1);

/// Naps of a run: enough for a 99th percentile.
const NAPS: u64 = 500;

fn contenders() -> Vec<Contender> {
    let green = |slice: u64, quantile| move |naps| green(Duration::from_micros(slice), naps, quantile);
    let os = |hogs, quantile| move |naps| os_threads(hogs, naps, quantile);
    vec![
        Contender::own("100 us slice, median", NAPS, green(100, 0.5)),
        Contender::own("100 us slice, p90", NAPS, green(100, 0.9)),
        Contender::own("100 us slice, p99", NAPS, green(100, 0.99)),
        Contender::own("1 ms slice, p90", NAPS, green(1000, 0.9)),
        Contender::peer("OS threads, p90", NAPS, os(HOGS, 0.9)),
        Contender::peer("OS threads, p99", NAPS, os(HOGS, 0.99)),
        Contender::peer("OS thread alone, p90", NAPS, os(0, 0.9)),
        Contender::peer("OS thread alone, p99", NAPS, os(0, 0.99)),
    ]
}

/// About 100 ns.
#[morestack::prologue]
pub(super) fn step(n: u64) -> u64 {
    (0..100).fold(black_box(n), |n, _| n.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1))
}

pub(super) fn hog(stop: &AtomicBool) {
    let mut n = 0;
    while !stop.load(Relaxed) {
        n = step(n);
    }
    black_box(n);
}

/// The quantile of the lateness of so many naps, as the harness wants it: for all of them together.
fn nap(naps: u64, quantile: f64, sleep_until: impl Fn(Instant)) -> Duration {
    let mut late: Vec<Duration> = (0..naps)
        .map(|_| {
            let deadline = Instant::now() + NAP;
            sleep_until(deadline);
            deadline.elapsed()
        })
        .collect();
    late.sort();
    late[(naps as f64 * quantile) as usize] * naps as u32
}

fn green(slice: Duration, naps: u64, quantile: f64) -> Duration {
    let runtime =
        Runtime::builder().workers(WORKERS).pin_workers(true).time_slice(Some(slice)).build().expect("a runtime");
    let stop = Arc::new(AtomicBool::new(false));
    let hogs: Vec<_> = (0..HOGS)
        .map(|_| {
            let stop = stop.clone();
            runtime.spawn(move || hog(&stop))
        })
        .collect();
    let time = runtime.run(|| nap(naps, quantile, morestack::sleep_until));
    stop.store(true, Relaxed);
    hogs.into_iter().for_each(|hog| hog.join().expect("no panic"));
    // Not so many on a machine that is busy with other things; without preemption, none.
    assert!(runtime.metrics().preemptions > naps / 10, "the hogs were not preempted");
    time
}

fn os_threads(hogs: usize, naps: u64, quantile: f64) -> Duration {
    let cores = core_affinity::get_core_ids().expect("the processors");
    let stop = Arc::new(AtomicBool::new(false));
    let pinned = |index: usize| cores[index % WORKERS.min(cores.len())];
    let hogs: Vec<_> = (0..hogs)
        .map(|index| {
            let (stop, core) = (stop.clone(), pinned(index));
            thread::spawn(move || {
                core_affinity::set_for_current(core);
                hog(&stop);
            })
        })
        .collect();
    let core = pinned(0);
    let sleeper = thread::spawn(move || {
        core_affinity::set_for_current(core);
        nap(naps, quantile, |deadline| thread::sleep(deadline.saturating_duration_since(Instant::now())))
    });
    let time = sleeper.join().expect("no panic");
    stop.store(true, Relaxed);
    hogs.into_iter().for_each(|hog| hog.join().expect("no panic"));
    time
}
