//! The CPU work of requests: calibrated rounds, recursion to a depth, Fibonacci numbers, a document, a hash.
//!
//! ```text
//!   one request:   descend ─► descend ─► ... ─► descend ─► burn ─► chunk, chunk, chunk, ...
//!                  └────── levels, 0 unless deep ──────┘           └ each a check: preemptible
//! ```
//!
//! # A service is an amount of work
//!
//! A deadline on the clock would let a preempted request rest for a while and finish at the same time: preemption would
//! seem free. So a time is converted once, by calibration, into rounds of integer work, and a request runs all of them
//! whenever it gets the CPU.
//!
//! # Every function that takes long has a check
//!
//! `chunk`, `descend`, `fib`, `dependents` and `absorb` are `#[prologue]`: there they can be preempted, and there their
//! stack grows. What points to a local across a check is an argument, a word in a frame of the same green thread; the heap
//! and thread-locals hold no such pointer then. So they may run on any kind of stack.
//!
//! The parser has no checks in a plain build: a request that parses is preempted before and after. So it is in one by
//! `cargo morestack`, because the code is a third party's.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::executor::prologue;
use crate::service::Demand;

/// Rounds between two checks: about 150 ns. Longer, and a preemption request waits noticeably; shorter, and the check
/// is a noticeable part of the work.
const CHUNK: u64 = 64;

/// Bytes that a level of recursion keeps on the stack besides what the compiler adds. A parser's or an evaluator's frame
/// is of this size. It stays well below the room under the guard, so the check after the frame is made is enough.
const PAD: usize = 448;

/// Levels to measure one by: enough to make the clock's resolution negligible, and still only 64 KiB of the caller's
/// stack.
const PROBE_LEVELS: u32 = 128;

/// Measurements of each kind; their median counts. Interrupts only ever add time, and rarely to half of them.
const SAMPLES: usize = 15;

/// What `json` parses: the packages that Morestack is built of, as `cargo metadata` describes them.
const DOCUMENT: &str = include_str!("document.json");

/// What `sha256` hashes between two checks: some microseconds.
static PIECE: [u8; 2048] = {
    let mut piece = [0; 2048];
    let mut i = 0;
    while i < piece.len() {
        piece[i] = (i % 251) as u8;
        i += 1;
    }
    piece
};

/// What one request runs.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    task: Task,
    levels: u32,
}

#[derive(Clone, Copy, Debug)]
enum Task {
    Burn { rounds: u64 },
    Call { function: fn(u64) -> u64, argument: u64 },
}

impl Work {
    /// Runs it to the end.
    pub fn run(self) {
        black_box(self.result());
    }

    fn result(self) -> u64 {
        let (bottom, arg): (fn(u64) -> u64, u64) = match self.task {
            Task::Burn { rounds } => (burn, rounds),
            Task::Call { function, argument } => (function, argument),
        };
        if self.levels == 0 { bottom(arg) } else { descend(self.levels, bottom, arg) }
    }
}

/// What work costs on this machine.
#[derive(Clone, Copy, Debug)]
pub struct Calibration {
    ns_per_round: f64,
    ns_per_level: f64,
    task_ns: f64,
    levels: u32,
}

impl Calibration {
    /// Measures on the calling OS thread what work costs: a round, a task if every request is the same one, and a
    /// recursion of `deep` bytes.
    pub fn measure(task: Option<Demand>, deep: Option<u64>) -> Calibration {
        // An idle CPU takes some milliseconds to reach its frequency.
        let ready = Instant::now();
        while ready.elapsed().as_millis() < 20 {
            black_box(burn(100 * CHUNK));
        }
        let rounds = 4_000 * CHUNK;
        let ns_per_round = median(|| burn(rounds)) / rounds as f64;
        let ns_per_level = median(|| descend(PROBE_LEVELS, burn, 0)) / f64::from(PROBE_LEVELS);
        let levels = deep.map_or(0, |bytes| bytes.div_ceil(frame_bytes()) as u32);
        let mut calibration = Calibration { ns_per_round, ns_per_level, task_ns: 0.0, levels };
        if let Some(demand) = task {
            let (work, _) = calibration.work(demand, false);
            calibration.task_ns = median(|| work.result());
        }
        calibration
    }

    /// The work for a demand, and how long it takes when nothing interrupts it, in nanoseconds (at least 1).
    pub fn work(&self, demand: Demand, deep: bool) -> (Work, u64) {
        let levels = if deep { self.levels } else { 0 };
        let (task, ns) = match demand {
            Demand::Time(ns) => {
                let rounds = ((ns as f64 / self.ns_per_round).round() as u64).max(1);
                (Task::Burn { rounds }, rounds as f64 * self.ns_per_round)
            }
            Demand::Fib(n) => self.call(|n| fib(n as u32), n.into()),
            Demand::Json => self.call(json, 0),
            Demand::Sha256(bytes) => self.call(sha256, bytes),
            Demand::Empty => self.call(|_| 0, 0),
        };
        let own = ns + f64::from(levels) * self.ns_per_level;
        (Work { task, levels }, (own as u64).max(1))
    }

    fn call(&self, function: fn(u64) -> u64, argument: u64) -> (Task, f64) {
        (Task::Call { function, argument }, self.task_ns)
    }
}

/// The median time of some calls, in nanoseconds.
fn median(mut work: impl FnMut() -> u64) -> f64 {
    let mut samples = [0.0; SAMPLES];
    let begun = Instant::now();
    let mut taken = 0;
    for sample in &mut samples {
        let start = Instant::now();
        black_box(work());
        *sample = start.elapsed().as_nanos() as f64;
        taken += 1;
        // The largest Fibonacci numbers take half a second each, and long calls need no fifteen: three are a median.
        if taken >= 3 && begun.elapsed().as_millis() > 200 {
            break;
        }
    }
    let taken = &mut samples[..taken];
    taken.sort_by(f64::total_cmp);
    taken[taken.len() / 2]
}

/// Bytes of stack that a level takes: from the distance between two frames of known levels.
fn frame_bytes() -> u64 {
    let top = descend(1, stack_address, 0);
    let low = descend(1 + PROBE_LEVELS, stack_address, 0);
    (top - low) / u64::from(PROBE_LEVELS)
}

#[inline(never)]
fn stack_address(arg: u64) -> u64 {
    black_box(&arg) as *const u64 as u64
}

fn burn(rounds: u64) -> u64 {
    let mut x = 0x9e37_79b9_7f4a_7c15;
    let mut left = rounds;
    while left > CHUNK {
        x = chunk(x, CHUNK);
        left -= CHUNK;
    }
    chunk(x, left)
}

/// Rounds of xorshift64. Each operation needs the one before, so a round takes six cycles on every CPU and no compiler
/// makes it less.
#[prologue]
#[inline(never)]
fn chunk(mut x: u64, rounds: u64) -> u64 {
    for _ in 0..rounds {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    x
}

/// Recurses `levels` deep and calls `bottom` there.
#[prologue]
#[inline(never)]
fn descend(levels: u32, bottom: fn(u64) -> u64, arg: u64) -> u64 {
    // Seen by the optimiser as used before and after the call: the frame stays, and the call is no tail call.
    let mut pad = [0u8; PAD];
    black_box(&mut pad);
    let result = if levels <= 1 { bottom(arg) } else { descend(levels - 1, bottom, arg) };
    black_box(&mut pad);
    result
}

#[prologue]
#[inline(never)]
fn fib(n: u32) -> u64 {
    if n < 2 { u64::from(n) } else { fib(n - 1) + fib(n - 2) }
}

/// Parses the document, turns "depends on" round into "is needed by", and writes that. Returns its length.
fn json(_: u64) -> u64 {
    let document: Value = serde_json::from_str(black_box(DOCUMENT)).expect("the document is JSON");
    let packages = document["packages"].as_array().expect("the document has packages");
    let mut needed_by: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in packages {
        dependents(package, &mut needed_by);
    }
    serde_json::to_string(&needed_by).expect("names can be written").len() as u64
}

/// Adds a package to what it depends on.
#[prologue]
#[inline(never)]
fn dependents<'a>(package: &'a Value, needed_by: &mut BTreeMap<&'a str, Vec<&'a str>>) {
    let dependencies = package["dependencies"].as_array().into_iter().flatten();
    for name in dependencies.filter_map(|dependency| dependency["name"].as_str()) {
        needed_by.entry(name).or_default().extend(package["name"].as_str());
    }
}

/// Hashes a block of so many bytes. Returns the first of the digest.
fn sha256(bytes: u64) -> u64 {
    let mut hash = Sha256::new();
    let mut left = bytes as usize;
    while left > 0 {
        let piece = left.min(PIECE.len());
        absorb(&mut hash, &PIECE[..piece]);
        left -= piece;
    }
    hash.finalize()[..8].iter().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

#[prologue]
#[inline(never)]
fn absorb(hash: &mut Sha256, piece: &[u8]) {
    hash.update(piece);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_turned_round() {
        // As a JSON processor gives it: bitflags is a dependency of rustix, for one.
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        let mut needed_by = BTreeMap::new();
        for package in document["packages"].as_array().unwrap() {
            dependents(package, &mut needed_by);
        }
        assert!(needed_by["bitflags"].contains(&"rustix"), "{needed_by:?}");
        let pairs: usize = needed_by.values().map(Vec::len).sum();
        assert_eq!(pairs, DOCUMENT.matches("\"req\"").count());
        assert_eq!(json(0), serde_json::to_string(&needed_by).unwrap().len() as u64);
    }

    #[test]
    fn a_block_is_hashed_whole() {
        let block: Vec<u8> = PIECE.iter().copied().cycle().take(5_000).collect();
        let digest = Sha256::digest(&block);
        assert_eq!(sha256(5_000).to_be_bytes(), digest[..8]);
        // The known digest of nothing.
        assert_eq!(sha256(0), 0xe3b0_c442_98fc_1c14);
    }

    #[test]
    fn fibonacci() {
        assert_eq!((1..=10).map(fib).collect::<Vec<_>>(), [1, 1, 2, 3, 5, 8, 13, 21, 34, 55]);
    }

    #[test]
    fn a_round_is_a_round() {
        // The chunk boundary must not lose or repeat one.
        let whole = |n| chunk(0x9e37_79b9_7f4a_7c15, n);
        for n in [1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7] {
            assert_eq!(burn(n), whole(n), "{n}");
        }
    }

    #[test]
    fn recursion_takes_the_stack_asked_for() {
        let frame = frame_bytes();
        assert!(frame >= PAD as u64 && frame < 4 * PAD as u64, "{frame}");
        let deep = Calibration::measure(None, Some(64 << 10));
        let used = u64::from(deep.levels) * frame;
        assert!((64 << 10..(64 << 10) + frame).contains(&used), "{used}");
    }

    #[test]
    fn work_is_in_proportion() {
        let calibration = Calibration::measure(None, None);
        let (short, own) = calibration.work(Demand::Time(10_000), false);
        assert!(own.abs_diff(10_000) < 100, "{own}");
        let (long, _) = calibration.work(Demand::Time(20_000), false);
        let (Task::Burn { rounds: short }, Task::Burn { rounds: long }) = (short.task, long.task) else {
            panic!("{short:?} {long:?}");
        };
        assert!(long.abs_diff(2 * short) <= 1);
    }
}
