//! Many programs at the same time, each run three ways and compared.
//!
//! ```text
//!   lane (an OS thread):  program ── here ──► expected
//!                            ├── reserved.spawn ── join ──► the same?
//!                            └── copying.go ────── join ──► the same?
//! ```
//!
//! There is a runtime for each kind of green thread, so that their metrics are told apart.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;

use morestack::{Metrics, Runtime};

use super::execute::{Digest, describe, execute};
use super::{Node, program, watch};
use crate::on::{On, STACK_SIZE};

/// The reserved stack of a program: twice what the deepest uses unoptimised.
pub(super) const RESERVED: usize = 1 << 20;

/// What is to be run.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The first program's seed; the others' follow it.
    pub seed: u64,
    /// How many.
    pub programs: u64,
    /// How many at the same time.
    pub threads: usize,
    /// Whether they may lend locals to the heap, to thread-locals and to other threads. These are not run by `go`.
    pub lent: bool,
}

/// What was done.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Programs whose three digests were the same.
    pub programs: u64,
    /// Nodes they entered, in one of the three runs.
    pub nodes: u64,
    /// Destructors that ran.
    pub drops: u64,
    /// Panics caught.
    pub panics: u64,
    /// The most nodes and recursive calls above each other.
    pub depth: u64,
    /// What the runtime of the reserved stacks did.
    pub reserved: Metrics,
    /// What the runtime of the copying stacks did.
    pub copying: Metrics,
}

impl Counts {
    fn add(&mut self, digest: &Digest) {
        self.programs += 1;
        self.nodes += digest.nodes;
        self.drops += digest.drops;
        self.panics += digest.panics;
        self.depth = self.depth.max(digest.depth);
    }

    fn add_all(&mut self, other: &Counts) {
        self.programs += other.programs;
        self.nodes += other.nodes;
        self.drops += other.drops;
        self.panics += other.panics;
        self.depth = self.depth.max(other.depth);
    }
}

/// One line of names and numbers. Moves are all copies to a stack of the same or a larger size, as the runtime counts
/// them.
impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { programs, nodes, drops, panics, depth, reserved, copying } = self;
        write!(f, "programs {programs} nodes {nodes} drops {drops} panics {panics} depth {depth} ")?;
        write!(f, "moves {} shrinks {} copied {} ", copying.grows, copying.shrinks, copying.bytes_copied)?;
        write!(f, "freezes {} ", copying.freezes)?;
        write!(f, "parks {} preemptions {} steals {} ", copying.parks, copying.preemptions, copying.steals)?;
        write!(f, "reserved-moves {} ", reserved.grows + reserved.shrinks + reserved.freezes)?;
        write!(f, "reserved-parks {} reserved-preemptions {}", reserved.parks, reserved.preemptions)
    }
}

/// A program that ended otherwise than on an OS thread.
#[derive(Clone, Debug)]
pub struct Mismatch {
    /// Its seed.
    pub seed: u64,
    /// Where.
    pub on: On,
    /// On an OS thread.
    pub expected: Digest,
    /// There; or what it died of.
    pub found: Result<Digest, String>,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mismatch { seed, on, expected, found } = self;
        writeln!(f, "program {seed} on {on:?} differs from an OS thread")?;
        writeln!(f, "  expected {expected:x?}")?;
        match found {
            Ok(digest) => write!(f, "  found    {digest:x?}"),
            Err(payload) => write!(f, "  it ended with a panic: {payload}"),
        }
    }
}

impl std::error::Error for Mismatch {}

/// The two runtimes.
struct Runtimes {
    reserved: Runtime,
    copying: Runtime,
}

impl Runtimes {
    fn new() -> io::Result<Runtimes> {
        let runtime = || Runtime::builder().stack_size(RESERVED).build();
        Ok(Runtimes { reserved: runtime()?, copying: runtime()? })
    }

    /// Runs a program on a green thread.
    fn run(&self, program: &Arc<Node>, on: On) -> Result<Digest, String> {
        let program = program.clone();
        let f = move || execute(&program, on);
        let handle = match on {
            // SAFETY: programs keep the contract of `go` unless they lend: see the module `differential`, and `one`.
            On::Go => unsafe { self.copying.go(f) },
            On::Os | On::Spawn => self.reserved.spawn(f),
        };
        handle.join().map_err(|payload| match payload.downcast_ref::<morestack::StackOverflow>() {
            Some(overflow) => overflow.to_string(),
            None => format!("payload {:x}", describe(&*payload)),
        })
    }
}

/// Runs programs. Stops at the first that differs.
///
/// # Errors
///
/// The mismatch; or what keeps the runtimes from starting.
pub fn compare(settings: Settings) -> io::Result<Result<Counts, Mismatch>> {
    watch::start()?;
    let runtimes = Runtimes::new()?;
    let next = AtomicU64::new(0);
    let failed = AtomicBool::new(false);
    let lane = |lane: usize| {
        let mut counts = Counts::default();
        while !failed.load(Relaxed) {
            let index = next.fetch_add(1, Relaxed);
            if index >= settings.programs {
                break;
            }
            match one(&runtimes, settings, settings.seed.wrapping_add(index), lane) {
                Ok(digest) => counts.add(&digest),
                Err(mismatch) => {
                    failed.store(true, Relaxed);
                    return Err(mismatch);
                }
            }
        }
        Ok(counts)
    };
    let mut counts = Counts::default();
    let mut mismatch = None;
    thread::scope(|scope| {
        let lane = &lane;
        let start = |index| {
            thread::Builder::new().stack_size(STACK_SIZE).spawn_scoped(scope, move || lane(index)).expect("a thread")
        };
        let lanes: Vec<_> = (0..settings.threads.max(1)).map(start).collect();
        for lane in lanes {
            match lane.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)) {
                Ok(of_lane) => counts.add_all(&of_lane),
                Err(found) => mismatch = Some(found),
            }
        }
    });
    counts.reserved = runtimes.reserved.metrics();
    counts.copying = runtimes.copying.metrics();
    Ok(mismatch.map_or(Ok(counts), Err))
}

/// Runs one program in all ways.
fn one(runtimes: &Runtimes, settings: Settings, seed: u64, lane: usize) -> Result<Digest, Mismatch> {
    let program = program(seed, settings.lent);
    watch::running(lane, seed, On::Os);
    let expected = execute(&program, On::Os);
    let ways: &[On] = if settings.lent { &[On::Spawn] } else { &[On::Spawn, On::Go] };
    for &on in ways {
        watch::running(lane, seed, on);
        let found = runtimes.run(&program, on);
        if found.as_ref() != Ok(&expected) {
            return Err(Mismatch { seed, on, expected, found });
        }
    }
    watch::done(lane);
    Ok(expected)
}
