//! Morestack's runtime: the only file that knows its API.
//!
//! # Which stacks
//!
//! | `--stack` | plain build | built by `cargo morestack` |
//! |---|---|---|
//! | `auto` | `spawn`: reserved | `spawn`: copying |
//! | `reserved` | `spawn`: reserved | `Builder`: reserved |
//! | `copying` | `go`: copying by contract | `go`: copying |
//!
//! # The contract of `go`
//!
//! What requests keep across a check are the addresses of locals in frames of the same green thread, as plain words: see
//! `work.rs`. They lock nothing and hold no thread-local across one. Recording, which takes a lock, comes after the last
//! check.

use std::sync::OnceLock;
use std::time::Duration;

use morestack::{Builder, Runtime, Stack};

use super::{ROOM, SHUTDOWN};
use crate::cli::{Config, StackKind};

/// The least size of a reserved stack, in bytes: the runtime's own default.
const RESERVED: u64 = 256 << 10;

/// The largest that is chosen for a deep request, in bytes: what an OS thread has.
const RESERVED_MOST: u64 = 8 << 20;

/// How deep a request on a reserved stack may recurse, in bytes.
pub const RESERVED_DEPTH: u64 = RESERVED_MOST - ROOM;

/// A runtime, and which of its stacks requests get.
pub struct Green {
    runtime: Runtime,
    start: Start,
}

#[derive(Clone, Copy, PartialEq)]
enum Start {
    Spawn(Mode),
    Reserved(usize),
    Go(Mode),
}

/// What `Stack::Auto` means in this program.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Reserved,
    Copying,
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

    /// Both together.
    pub fn and(&self, other: &Counters) -> Counters {
        Counters {
            preemptions: self.preemptions + other.preemptions,
            steals: self.steals + other.steals,
            grows: self.grows + other.grows,
            shrinks: self.shrinks + other.shrinks,
            bytes_copied: self.bytes_copied + other.bytes_copied,
            freezes: self.freezes + other.freezes,
            peak_stacks: self.peak_stacks.max(other.peak_stacks),
        }
    }
}

/// Whether `spawn` gives copying stacks in this program: `cargo morestack` built it.
pub fn copying_by_build() -> bool {
    static COPYING: OnceLock<bool> = OnceLock::new();
    // A runtime knows. One that cannot be started will say why when the run needs it.
    *COPYING.get_or_init(|| Runtime::builder().workers(1).build().is_ok_and(|r| r.stack_mode() == Stack::Copying))
}

/// Whether requests run on reserved stacks.
pub fn reserved(stack: StackKind) -> bool {
    match stack {
        StackKind::Auto => !copying_by_build(),
        StackKind::Copying => false,
        StackKind::Reserved => true,
    }
}

impl Green {
    pub(super) fn new(config: &Config, slice: Option<Duration>) -> Result<Green, String> {
        let size = reserved_size(config) as usize;
        let runtime = Runtime::builder()
            .workers(config.workers)
            .pin_workers(config.pin)
            .time_slice(slice)
            .stack_size(size)
            .build()
            .map_err(|error| error.to_string())?;
        let mode = if runtime.stack_mode() == Stack::Copying { Mode::Copying } else { Mode::Reserved };
        let start = match (config.stack, mode) {
            (StackKind::Auto, mode) => Start::Spawn(mode),
            (StackKind::Reserved, Mode::Reserved) => Start::Spawn(mode),
            (StackKind::Reserved, Mode::Copying) => Start::Reserved(size),
            (StackKind::Copying, mode) => Start::Go(mode),
        };
        Ok(Green { runtime, start })
    }

    pub(super) fn run(&self, request: impl FnOnce() + Send + 'static) {
        match self.start {
            Start::Spawn(_) => drop(self.runtime.spawn(request)),
            Start::Reserved(size) => {
                let builder = Builder::new().stack(Stack::Reserved(size));
                drop(builder.spawn_on(&self.runtime, request).expect("the runtime was built with this size"));
            }
            // SAFETY: requests keep the contract, as the head of this file says.
            Start::Go(_) => drop(unsafe { self.runtime.go(request) }),
        }
    }

    pub(super) fn stacks(&self) -> &'static str {
        match self.start {
            Start::Spawn(Mode::Reserved) | Start::Reserved(_) => "reserved",
            Start::Spawn(Mode::Copying) | Start::Go(Mode::Copying) => "copying",
            Start::Go(Mode::Reserved) => "copying by contract",
        }
    }

    pub(super) fn counters(&self) -> Counters {
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

    pub(super) fn shutdown(self) -> Result<(), String> {
        self.runtime.shutdown(SHUTDOWN).map_err(|unfinished| unfinished.to_string())
    }
}

/// The size of reserved stacks, in bytes: all have the same, so that deep requests fit where they get one.
fn reserved_size(config: &Config) -> u64 {
    match config.deep {
        Some(deep) if reserved(config.stack) => (deep.bytes + ROOM).next_power_of_two().max(RESERVED),
        _ => RESERVED,
    }
}
