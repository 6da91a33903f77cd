//! What runs the requests: Morestack, and peers to compare it with.
//!
//! | executor | a request is | workers |
//! |---|---|---|
//! | `morestack` | a green thread | OS threads of its runtime |
//! | `tokio` | a task of the multi-threaded runtime | its worker threads |
//! | `rayon` | a job spawned into a pool | the pool's threads |
//! | `may` | a coroutine | its workers |
//! | `threads` | an OS thread | CPUs that they are kept on |
//!
//! All take a request in the same way: from outside, by the generator's thread, one at a time.

mod green;
mod may;
mod rayon;
mod threads;
mod tokio;

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;

use crate::cli::{Config, Deep};
use crate::job::Job;
use crate::record::Recorder;
use crate::units;

pub use self::green::{Counters, RESERVED_DEPTH, copying_by_build, reserved};
pub use morestack::prologue;

/// How long ending an executor may take. Its requests have ended before; what is left is to stop its threads.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// Bytes of a stack that recursion leaves free: the runtime's room for code without checks, 32 KiB, and as much again
/// for the frames above the recursion. Too little ends the deep requests with a stack overflow.
const ROOM: u64 = 64 << 10;

/// The executors there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Green threads.
    Morestack,
    /// Tasks.
    Tokio,
    /// Jobs.
    Rayon,
    /// Coroutines.
    May,
    /// OS threads.
    Threads,
}

impl Kind {
    /// The executor of a name.
    pub fn named(name: &str) -> Option<Kind> {
        Kind::from_str(name, false).ok()
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Morestack => "morestack",
            Kind::Tokio => "tokio",
            Kind::Rayon => "rayon",
            Kind::May => "may",
            Kind::Threads => "threads",
        }
    }
}

/// Those that can run in this program.
pub fn available() -> Vec<Kind> {
    let all = [Kind::Morestack, Kind::Tokio, Kind::Rayon, Kind::May, Kind::Threads];
    all.into_iter().filter(|kind| *kind != Kind::May || !copying_by_build()).collect()
}

/// An executor and its time slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contender {
    /// Which.
    pub kind: Kind,
    /// Morestack's time slice; none: no preemption, as with all peers.
    pub slice: Option<Duration>,
}

impl Contender {
    /// A peer.
    pub fn peer(kind: Kind) -> Contender {
        Contender { kind, slice: None }
    }

    /// The time slice, in nanoseconds.
    pub fn slice_ns(&self) -> Option<u64> {
        self.slice.map(|slice| slice.as_nanos() as u64)
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.kind, self.slice_ns()) {
            (Kind::Morestack, Some(slice)) => write!(f, "morestack {}", units::exact_time(slice)),
            (Kind::Morestack, None) => f.write_str("morestack off"),
            (peer, _) => f.write_str(peer.name()),
        }
    }
}

/// An executor that runs.
pub enum Executor {
    /// Green threads.
    Morestack(green::Green),
    /// Tasks.
    Tokio(tokio::Tokio),
    /// Jobs.
    Rayon(rayon::Rayon),
    /// Coroutines.
    May(may::May),
    /// OS threads.
    Threads(threads::Threads),
}

impl Executor {
    /// Starts one as the run asks for.
    pub fn new(config: &Config, contender: Contender) -> Result<Executor, String> {
        let executor = match contender.kind {
            Kind::Morestack => green::Green::new(config, contender.slice).map(Executor::Morestack),
            Kind::Tokio => tokio::Tokio::new(config).map(Executor::Tokio),
            Kind::Rayon => rayon::Rayon::new(config).map(Executor::Rayon),
            Kind::May => Ok(Executor::May(may::May::new(config))),
            Kind::Threads => Ok(Executor::Threads(threads::Threads::new(config))),
        };
        executor.map_err(|error| format!("cannot start {contender} with {} workers: {error}", config.workers))
    }

    /// Runs a job.
    pub fn submit(&self, job: Job, recorder: &'static Recorder) {
        self.run(move || job.serve(recorder));
    }

    /// Runs a closure as it runs jobs. One that can be copied, because starting an OS thread may fail and is tried again.
    ///
    /// It keeps to the contract of Morestack's `go`: see [`green`].
    pub fn run(&self, request: impl FnOnce() + Send + Copy + 'static) {
        match self {
            Executor::Morestack(green) => green.run(request),
            Executor::Tokio(tokio) => tokio.run(request),
            Executor::Rayon(rayon) => rayon.run(request),
            Executor::May(may) => may.run(request),
            Executor::Threads(threads) => threads.run(request),
        }
    }

    /// The stacks that its requests run on, if it is Morestack.
    pub fn stacks(&self) -> Option<&'static str> {
        match self {
            Executor::Morestack(green) => Some(green.stacks()),
            _ => None,
        }
    }

    /// What it did so far. Peers do not say.
    pub fn counters(&self) -> Counters {
        match self {
            Executor::Morestack(green) => green.counters(),
            _ => Counters::default(),
        }
    }

    /// Ends it. Every request has ended before.
    pub fn shutdown(self) -> Result<(), String> {
        match self {
            Executor::Morestack(green) => green.shutdown(),
            Executor::Tokio(tokio) => tokio.shutdown(),
            Executor::Rayon(rayon) => rayon.shutdown(),
            Executor::May(may) => may.shutdown(),
            Executor::Threads(threads) => threads.shutdown(),
        }
    }

    /// Leaves it to the end of the process: requests that hang would make its own end hang as well.
    pub fn abandon(self) {
        std::mem::forget(self);
    }
}

/// The size of the stacks of peers, in bytes: at least what is usual there, and room for the deepest request.
fn peer_stack(deep: Option<Deep>, usual: u64) -> usize {
    deep.map_or(usual, |deep| (deep.bytes + ROOM).next_power_of_two().max(usual)) as usize
}

/// Pins the calling thread, the `index`th worker, to a CPU of its own: as Morestack does, to the first, second, ...
fn pin(index: usize) {
    let cpus = core_affinity::get_core_ids().unwrap_or_default();
    if let Some(cpu) = cpus.get(index) {
        core_affinity::set_for_current(*cpu);
    }
}
