//! What it costs when many green threads recurse a little deeper than the smallest stack allows.
//!
//! Each recurses to 64 KiB once and ends. The first of them grows, the others know from it how large a stack to begin
//! with. One after another they reuse one warm stack. All at once, as many stacks are in use and their pages are touched
//! for the first time: then it is the page faults that are measured, as with OS threads. A sample of a first run is a
//! process of its own.

use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use super::recursion::{frame, recurse};
use super::{Benchmark, runtime};
use crate::measure::{Contender, Unit};

pub(super) const BENCHMARK: Benchmark = Benchmark {
    name: "grow64k",
    about: "10,000 threads that each recurse to 64 KiB once",
    operation: "thread",
    unit: Unit::Nanoseconds,
    contenders,
};

const THREADS: u64 = 10_000;

/// OS threads of one run.
const OS_THREADS: u64 = 1_000;

/// Bytes of recursion.
const DEPTH: u64 = 64 << 10;

/// Bytes of an OS thread's stack: the recursion, and what runs before it.
const OS_STACK: usize = 256 << 10;

/// The most that grow again once the site is known, one in so many: a site tries now and then whether less will do.
const GROWN_AGAIN: u64 = 500;

fn contenders() -> Vec<Contender> {
    let own = |name, times, bottom| Contender::own(name, THREADS, move |threads| green(threads, times, bottom)).fresh();
    let peer = |name, group| Contender::peer(name, OS_THREADS, move |threads| os_threads(threads, group)).fresh();
    vec![
        own("go, in turn, first", 1, nothing),
        own("go, in turn, again", 2, nothing),
        own("go, all at once, first", 1, morestack::yield_now),
        own("go, all at once, again", 2, morestack::yield_now),
        peer("std::thread, in turn", 1),
        peer("std::thread, 100 at once", 100),
    ]
}

fn nothing() {}

/// Frames that take [`DEPTH`] bytes.
fn frames() -> u64 {
    DEPTH.div_ceil(frame()) + 1
}

/// What each thread does.
fn work(frames: u64, bottom: impl Fn() + Copy) -> u64 {
    let deep = recurse(frames, bottom);
    deep.check(frames);
    deep.bytes
}

/// The time of the last of so many runs.
fn green(threads: u64, times: u32, bottom: fn()) -> Duration {
    let runtime = runtime(1);
    // Another site: the worker runs, the cache is filled.
    // SAFETY: the closure has nothing on its stack.
    unsafe { runtime.run(|| morestack::go(|| black_box(1)).join().expect("no panic")) };
    let frames = frames();
    let run = move || {
        let started = Instant::now();
        // SAFETY: the recursion keeps references to its frames in its frames only.
        let start = |_| unsafe { morestack::go(move || work(frames, bottom)) };
        let handles: Vec<_> = (0..threads).map(start).collect();
        let bytes: u64 = handles.into_iter().map(|handle| handle.join().expect("no panic")).sum();
        let time = started.elapsed();
        assert!(bytes >= threads * DEPTH, "{bytes} bytes by {threads} threads");
        time
    };
    let mut took = runtime.run(run);
    let first = runtime.metrics().grows;
    assert!(first > 0, "the smallest stack has no room for {DEPTH} bytes");
    for _ in 1..times {
        took = runtime.run(run);
    }
    let again = runtime.metrics().grows - first;
    assert!(again * GROWN_AGAIN <= threads, "{again} of {threads} have grown again");
    took
}

fn os_threads(threads: u64, group: u64) -> Duration {
    let frames = frames();
    let start = |_| {
        let builder = thread::Builder::new().stack_size(OS_STACK);
        builder.spawn(move || work(frames, || ())).expect("a thread")
    };
    let started = Instant::now();
    let mut bytes = 0;
    for first in (0..threads).step_by(group as usize) {
        let handles: Vec<_> = (first..threads.min(first + group)).map(start).collect();
        bytes += handles.into_iter().map(|handle| handle.join().expect("no panic")).sum::<u64>();
    }
    let time = started.elapsed();
    assert!(bytes >= threads * DEPTH, "{bytes} bytes by {threads} threads");
    time
}
