//! The scheduler under load: the only file that knows Morestack's API.

use std::time::Duration;

use morestack::Runtime;
pub use morestack::prologue;

use crate::cli::{Config, StackKind};
use crate::job::Job;
use crate::record::Recorder;
use crate::service::Class;

/// The least size of a reserved stack, in bytes: the runtime's own default.
const RESERVED: u64 = 256 << 10;

/// The largest that is chosen for a deep request, in bytes: what an OS thread has.
const RESERVED_MOST: u64 = 8 << 20;

/// Bytes of a stack that recursion leaves free: the runtime's room for code without checks, 32 KiB, and as much again
/// for the frames above the recursion. Too little ends the deep requests with a stack overflow.
const ROOM: u64 = 64 << 10;

/// How deep a request on a reserved stack may recurse, in bytes.
pub const RESERVED_DEPTH: u64 = RESERVED_MOST - ROOM;

/// How long ending a runtime may take. Its requests have ended before; what is left is to stop its threads.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// A runtime, and which of its stacks requests get.
pub struct Executor {
    runtime: Runtime,
    stack: Option<StackKind>,
}

/// What the scheduler did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Green threads preempted.
    pub preemptions: u64,
    /// Green threads taken from another worker.
    pub steals: u64,
    /// Stacks doubled.
    pub grows: u64,
    /// Stacks halved.
    pub shrinks: u64,
    /// Bytes copied by both.
    pub bytes_copied: u64,
    /// Stacks packed while parked.
    pub freezes: u64,
    /// The most stacks in use at once.
    pub peak_stacks: u64,
}

impl Counters {
    /// What was counted since `earlier`. A peak is not a sum: it stays.
    pub fn since(&self, earlier: &Counters) -> Counters {
        Counters {
            preemptions: self.preemptions - earlier.preemptions,
            steals: self.steals - earlier.steals,
            grows: self.grows - earlier.grows,
            shrinks: self.shrinks - earlier.shrinks,
            bytes_copied: self.bytes_copied - earlier.bytes_copied,
            freezes: self.freezes - earlier.freezes,
            peak_stacks: self.peak_stacks,
        }
    }
}

impl Executor {
    /// A runtime as the run asks for.
    pub fn new(config: &Config) -> Result<Executor, String> {
        let runtime = Runtime::builder()
            .workers(config.workers)
            .pin_workers(config.pin)
            .time_slice(config.time_slice)
            .stack_size(reserved_size(config) as usize)
            .build()
            .map_err(|error| format!("cannot start a runtime of {} workers: {error}", config.workers))?;
        Ok(Executor { runtime, stack: config.stack })
    }

    /// Runs a job on a green thread of its own.
    pub fn submit(&self, job: Job, recorder: &'static Recorder) {
        let copying = match self.stack {
            Some(kind) => kind == StackKind::Copying,
            None => job.class == Class::Deep,
        };
        let request = move || job.serve(recorder);
        if copying {
            // SAFETY: the checks of a job are in `work.rs`, where the addresses of locals stay in frames of the same
            // green thread, as plain words. Recording, which takes a lock, comes after the last check.
            drop(unsafe { self.runtime.go(request) });
        } else {
            drop(self.runtime.spawn(request));
        }
    }

    /// What it did so far.
    pub fn counters(&self) -> Counters {
        let metrics = self.runtime.metrics();
        Counters {
            preemptions: metrics.preemptions,
            steals: metrics.steals,
            grows: metrics.grows,
            shrinks: metrics.shrinks,
            bytes_copied: metrics.bytes_copied,
            freezes: metrics.freezes,
            peak_stacks: metrics.peak_stacks,
        }
    }

    /// Ends it. Every request has ended before.
    pub fn shutdown(self) -> Result<(), String> {
        self.runtime.shutdown(SHUTDOWN).map_err(|unfinished| unfinished.to_string())
    }

    /// Leaves it to the end of the process: requests that hang would make its own end hang as well.
    pub fn abandon(self) {
        std::mem::forget(self.runtime);
    }
}

/// The size of reserved stacks, in bytes: all have the same, so that deep requests fit where they get one.
fn reserved_size(config: &Config) -> u64 {
    match (config.stack, config.deep) {
        (Some(StackKind::Reserved), Some(deep)) => (deep.bytes + ROOM).next_power_of_two().max(RESERVED),
        _ => RESERVED,
    }
}
