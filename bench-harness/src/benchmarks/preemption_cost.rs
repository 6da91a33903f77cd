//! What a computation loses by being preempted.
//!
//! Two threads on one processor compute a Fibonacci number each, by a recursion with a check in every call. The first peer
//! is an OS thread that computes the one and then the other: nothing interrupts it but the kernel, so the ratio to it is
//! what preemption costs, with what it does to the caches. Without slices the green threads run one after the other too.
//!
//! The cost is a small part of the whole, and processors change their speed by more. Runs are short, so that all contenders
//! see the same changes; a hundred repetitions make the medians fit for comparison.

use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use core_affinity::CoreId;
use morestack::Runtime;

use super::Benchmark;
use super::fib::{inner_calls, number, within};
use crate::measure::{Contender, Unit};

pub(super) const BENCHMARK: Benchmark = Benchmark {
    name: "preemption_cost",
    about: "two threads that compute on one processor, and are preempted",
    operation: "call",
    unit: Unit::Nanoseconds,
    contenders,
};

/// Some thirty milliseconds for both threads: three hundred short slices.
const N: u64 = 33;

const THREADS: u64 = 2;

fn contenders() -> Vec<Contender> {
    let calls = THREADS * calls(inner_calls(N));
    let green = |slice: Option<u64>| move |calls| green(calls, slice.map(Duration::from_micros));
    vec![
        Contender::own("slices off", calls, green(None)),
        Contender::own("1 ms slice", calls, green(Some(1000))),
        Contender::own("100 us slice", calls, green(Some(100))),
        Contender::peer("OS thread, in turn", calls, in_turn),
        Contender::peer("2 OS threads on one core", calls, os_threads),
    ]
}

/// All calls where so many call again.
fn calls(inner: u64) -> u64 {
    2 * inner + 1
}

#[morestack::prologue]
fn fib(n: u64) -> u64 {
    if n < 2 { n } else { fib(n - 1) + fib(n - 2) }
}

/// The time of so many calls in two recursions: of the largest number that takes no more, in proportion.
fn measured(operations: u64, run: impl FnOnce(u64) -> [u64; THREADS as usize]) -> Duration {
    let (n, inner) = within(operations / THREADS / 2);
    let started = Instant::now();
    let results = run(black_box(n));
    let time = started.elapsed();
    assert_eq!(results, [number(n); THREADS as usize]);
    time.mul_f64(operations as f64 / (THREADS * calls(inner)) as f64)
}

fn core() -> Option<CoreId> {
    core_affinity::get_core_ids()?.into_iter().next()
}

fn green(operations: u64, slice: Option<Duration>) -> Duration {
    // A new one for each run: the time is measured from when its worker has begun.
    let runtime = Runtime::builder().workers(1).pin_workers(true).time_slice(slice).build().expect("a runtime");
    runtime.run(|| ());
    let time = measured(operations, |n| {
        runtime.run(|| {
            let both = [(); THREADS as usize].map(|()| morestack::spawn(move || fib(n)));
            both.map(|handle| handle.join().expect("no panic"))
        })
    });
    let preemptions = runtime.metrics().preemptions;
    match slice {
        // Not so many on a machine that is busy with other things.
        Some(slice) => {
            assert!(preemptions >= (time.as_nanos() / slice.as_nanos() / 100) as u64, "{preemptions} preemptions")
        }
        None => assert_eq!(preemptions, 0, "slices are off"),
    }
    time
}

fn in_turn(operations: u64) -> Duration {
    let run = move || {
        assert!(core().is_none_or(core_affinity::set_for_current), "a core to run on");
        measured(operations, |n| [n; THREADS as usize].map(fib))
    };
    thread::spawn(run).join().expect("no panic")
}

fn os_threads(operations: u64) -> Duration {
    let begin = Arc::new(Barrier::new(1 + THREADS as usize));
    let (n, _) = within(operations / THREADS / 2);
    let both = [(); THREADS as usize].map(|()| {
        let begin = begin.clone();
        thread::spawn(move || {
            assert!(core().is_none_or(core_affinity::set_for_current), "a core to run on");
            begin.wait();
            fib(black_box(n))
        })
    });
    measured(operations, |_| {
        begin.wait();
        both.map(|handle| handle.join().expect("no panic"))
    })
}
