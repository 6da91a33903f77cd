//! The benchmarks. Each is a list of contenders that do the same work, Morestack's first.

mod copystack;
mod deep_recursion;
mod grow64k;
mod hog;
mod idle_memory;
mod recursion;
mod spawn_join;
mod stack_alloc;
mod thaw;
mod r#yield;

use morestack::{JoinHandle, Runtime};

use crate::measure::{Contender, Unit};

/// A benchmark by name.
pub(crate) struct Benchmark {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// What it measures.
    pub(crate) about: &'static str,
    /// What it counts.
    pub(crate) operation: &'static str,
    /// What of it.
    pub(crate) unit: Unit,
    /// Sets the contenders up.
    pub(crate) contenders: fn() -> Vec<Contender>,
}

/// All benchmarks.
pub(crate) const BENCHMARKS: &[Benchmark] = &[
    r#yield::BENCHMARK,
    spawn_join::BENCHMARK,
    stack_alloc::BENCHMARK,
    copystack::BENCHMARK,
    deep_recursion::BENCHMARK,
    grow64k::BENCHMARK,
    idle_memory::BENCHMARK,
    thaw::BENCHMARK,
    hog::BENCHMARK,
];

/// A runtime that does nothing by itself while it is measured: without time slices.
fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).time_slice(None).build().expect("a runtime")
}

/// How a green thread is started.
#[derive(Clone, Copy)]
enum Start {
    /// On a reserved stack.
    Spawn,
    /// On a copying stack.
    Go,
}

impl Start {
    /// Starts a green thread.
    ///
    /// # Safety
    ///
    /// `f` keeps the contract of [`morestack::go`].
    unsafe fn start<T, F>(self, f: F) -> JoinHandle<T>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        match self {
            Start::Spawn => morestack::spawn(f),
            // SAFETY: the caller's promise.
            Start::Go => unsafe { morestack::go(f) },
        }
    }
}
