//! What a thread that waits costs in memory.
//!
//! Many threads wait, each three ordinary frames deep. Counted is what the process has in memory more than before they
//! were made, all of it: stacks, blocks, handles, queues, what the allocators keep. Each run is a process of its own.
//! Page tables are the kernel's and not in that number; they are 8 bytes for each page of a stack.
//!
//! A copying stack is frozen first, which takes two intervals, and the stacks that were left are swept. The interval here
//! is shorter than the default, so that fewer stacks are in use at a time while the threads start.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use morestack::{Runtime, prologue};

use super::{Benchmark, Start};
use crate::measure::{Contender, Unit};

pub(super) const BENCHMARK: Benchmark = Benchmark {
    name: "idle_memory",
    about: "threads that wait, three frames deep, and all that they keep in memory",
    operation: "thread",
    unit: Unit::Bytes,
    contenders,
};

const GO: u64 = 1_000_000;
const SPAWN: u64 = 100_000;
const OS_THREADS: u64 = 1_000;

/// A tenth of the default.
const FREEZE_AFTER: Duration = Duration::from_millis(10);

/// Until all wait, and are frozen.
const PATIENCE: Duration = Duration::from_secs(60);

fn contenders() -> Vec<Contender> {
    let own = |name, threads, start, freeze| {
        Contender::amount(name, threads, move |threads| green(threads, start, freeze)).fresh()
    };
    vec![
        own("go, frozen", GO, Start::Go, Some(FREEZE_AFTER)),
        own("go, not frozen", SPAWN, Start::Go, None),
        own("spawn", SPAWN, Start::Spawn, None),
        Contender::amount("std::thread", OS_THREADS, os_threads).fresh().into_peer(),
    ]
}

/// Where a thread stands.
#[derive(Default)]
struct Gate {
    waiting: AtomicU64,
    open: AtomicBool,
}

/// The third frame waits.
#[prologue]
#[inline(never)]
fn frame(above: u64, n: u64, gate: &Gate, wait: fn()) -> u64 {
    let mine = black_box([above, n, above ^ n]);
    let below = if n > 1 {
        frame(mine[0], n - 1, gate, wait)
    } else {
        gate.waiting.fetch_add(1, SeqCst);
        while !gate.open.load(SeqCst) {
            wait();
        }
        1
    };
    below + black_box(&mine)[1]
}

/// What comes back through three frames.
const SUM: u64 = 1 + 1 + 2 + 3;

fn green(threads: u64, start: Start, freeze_after: Option<Duration>) -> u64 {
    let runtime = Runtime::builder().workers(2).freeze_after(freeze_after).build().expect("a runtime");
    let gate = Arc::new(Gate::default());
    runtime.run(|| ());
    let before = resident();
    let handles: Vec<_> = (0..threads)
        .map(|n| {
            let gate = gate.clone();
            let f = move || frame(n, 3, &gate, morestack::park);
            match start {
                Start::Spawn => runtime.spawn(f),
                // SAFETY: the frames keep references to the heap only.
                Start::Go => unsafe { runtime.go(f) },
            }
        })
        .collect();
    wait_until("all wait", || gate.waiting.load(SeqCst) == threads);
    if freeze_after.is_some() {
        wait_until("all are frozen", || runtime.metrics().freezes >= threads);
        // The first sweep finds what is free, the second gives it back.
        for _ in 0..2 {
            morestack_stacks::sweep();
        }
    }
    let bytes = resident().saturating_sub(before);
    gate.open.store(true, SeqCst);
    handles.iter().for_each(|handle| handle.thread().unpark());
    assert!(handles.into_iter().all(|handle| handle.join().expect("no panic") == SUM));
    bytes
}

fn os_threads(threads: u64) -> u64 {
    let gate = Arc::new(Gate::default());
    let before = resident();
    let handles: Vec<_> = (0..threads)
        .map(|n| {
            let gate = gate.clone();
            thread::spawn(move || frame(n, 3, &gate, thread::park))
        })
        .collect();
    wait_until("all wait", || gate.waiting.load(SeqCst) == threads);
    let bytes = resident().saturating_sub(before);
    gate.open.store(true, SeqCst);
    handles.iter().for_each(|handle| handle.thread().unpark());
    assert!(handles.into_iter().all(|handle| handle.join().expect("no panic") == SUM));
    bytes
}

#[track_caller]
fn wait_until(what: &str, done: impl Fn() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "{what}: not in {PATIENCE:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Bytes of memory that the process has in use.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux has it");
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number of pages");
    pages * 4096
}
