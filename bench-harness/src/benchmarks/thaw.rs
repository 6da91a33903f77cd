//! What it costs more to wake a green thread that is frozen.
//!
//! Of many that wait, a few are woken, run for a moment and wait again, three frames deep; after a pause, others. All are
//! cold: it was long ago that they ran. The frozen ones are given a stack and moved onto it, and they are frozen again
//! in the pause, which is not measured. Used stacks are there for them, as in a service where few of many connections
//! are active.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use morestack::{JoinHandle, Runtime, prologue};

use super::Benchmark;
use crate::measure::{Contender, Unit};

pub(super) const BENCHMARK: Benchmark = Benchmark {
    name: "thaw",
    about: "waking a few of many green threads that wait, all on one processor",
    operation: "wake",
    unit: Unit::Nanoseconds,
    contenders,
};

/// Those that wait.
const WAITING: usize = 10_000;

/// Those that are woken at a time.
const FEW: u64 = 50;

/// All wakes of a run.
const WAKES: u64 = 40 * FEW;

/// The least that is allowed.
const FREEZE_AFTER: Duration = Duration::from_millis(1);

/// Between two wakes of a few, for all contenders: most of them are frozen again after that.
const PAUSE: Duration = Duration::from_millis(3);

fn contenders() -> Vec<Contender> {
    let own = |name, freeze_after| {
        // Started by the first run: a process that measures something else does not need it.
        let mut waiting = None;
        Contender::own(name, WAKES, move |wakes| waiting.get_or_insert_with(|| Waiting::new(freeze_after)).wake(wakes))
    };
    let mut threads = None;
    vec![
        own("go, frozen", Some(FREEZE_AFTER)),
        own("go, not frozen", None),
        Contender::peer("std::thread", WAKES / 10, move |wakes| threads.get_or_insert_with(OsThreads::new).wake(wakes)),
    ]
}

/// What they count, and when they end.
#[derive(Default)]
struct Shared {
    waits: AtomicU64,
    end: AtomicBool,
}

#[prologue]
#[inline(never)]
fn frame(n: u64, shared: &Shared, wait: fn()) -> u64 {
    let mine = black_box([n; 3]);
    let below = if n > 1 {
        frame(n - 1, shared, wait)
    } else {
        while !shared.end.load(Relaxed) {
            shared.waits.fetch_add(1, Relaxed);
            wait();
        }
        0
    };
    below + black_box(&mine)[2]
}

struct Waiting {
    runtime: Runtime,
    shared: Arc<Shared>,
    handles: Vec<JoinHandle<u64>>,
    freezes: bool,
    waits: u64,
    next: usize,
}

impl Waiting {
    fn new(freeze_after: Option<Duration>) -> Waiting {
        let runtime =
            Runtime::builder().workers(1).time_slice(None).freeze_after(freeze_after).build().expect("a runtime");
        let shared = Arc::new(Shared::default());
        let handles = (0..WAITING).map(|_| {
            let shared = shared.clone();
            // SAFETY: the frames keep references to the heap only.
            unsafe { runtime.go(move || frame(3, &shared, morestack::park)) }
        });
        let handles = handles.collect();
        Waiting { runtime, shared, handles, freezes: freeze_after.is_some(), waits: WAITING as u64, next: 0 }
    }

    /// Wakes so many, a few at a time; the time from the first wake to the last wait.
    fn wake(&mut self, wakes: u64) -> Duration {
        let mut time = Duration::ZERO;
        let mut left = wakes;
        while left > 0 {
            let few = left.min(FEW);
            left -= few;
            thread::sleep(PAUSE);
            while self.shared.waits.load(Relaxed) < self.waits
                || self.freezes && self.runtime.metrics().freezes < self.waits
            {
                thread::sleep(Duration::from_micros(100));
            }
            // Neighbours in memory are not woken together.
            let woken: Vec<usize> = (0..few as usize).map(|i| (self.next + i * 7919) % WAITING).collect();
            self.next += 1;
            self.waits += few;
            let (waits, shared, handles) = (self.waits, &self.shared, &self.handles);
            time += self.runtime.run(|| {
                let started = Instant::now();
                woken.iter().for_each(|&index| handles[index].thread().unpark());
                while shared.waits.load(Relaxed) < waits {
                    morestack::yield_now();
                }
                started.elapsed()
            });
        }
        time
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.shared.end.store(true, Relaxed);
        self.handles.iter().for_each(|handle| handle.thread().unpark());
        for handle in self.handles.drain(..) {
            assert_eq!(handle.join().expect("no panic"), 6);
        }
    }
}

struct OsThreads {
    shared: Arc<Shared>,
    handles: Vec<thread::JoinHandle<u64>>,
    waits: u64,
}

impl OsThreads {
    fn new() -> OsThreads {
        let shared = Arc::new(Shared::default());
        let start = |_| {
            let shared = shared.clone();
            thread::spawn(move || frame(3, &shared, thread::park))
        };
        OsThreads { handles: (0..FEW).map(start).collect(), shared, waits: FEW }
    }

    fn wake(&mut self, wakes: u64) -> Duration {
        let mut time = Duration::ZERO;
        let mut left = wakes;
        while left > 0 {
            let few = left.min(FEW);
            left -= few;
            thread::sleep(PAUSE);
            while self.shared.waits.load(Relaxed) < self.waits {
                thread::sleep(Duration::from_micros(100));
            }
            self.waits += few;
            let started = Instant::now();
            self.handles[..few as usize].iter().for_each(|handle| handle.thread().unpark());
            while self.shared.waits.load(Relaxed) < self.waits {
                thread::yield_now();
            }
            time += started.elapsed();
        }
        time
    }
}

impl Drop for OsThreads {
    fn drop(&mut self) {
        self.shared.end.store(true, Relaxed);
        self.handles.iter().for_each(|handle| handle.thread().unpark());
        for handle in self.handles.drain(..) {
            assert_eq!(handle.join().expect("no panic"), 6);
        }
    }
}
