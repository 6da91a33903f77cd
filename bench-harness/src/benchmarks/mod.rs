//! The benchmarks. Each is a list of contenders that do the same work, Morestack's first.

mod copystack;
mod deep_recursion;
mod fanin;
mod fib;
mod fib_forkjoin;
mod grow64k;
mod growth;
mod hog;
mod idle_memory;
mod mutex;
mod peers;
mod pingpong;
mod preemption_cost;
mod preemption_lateness;
mod programs;
mod prologue;
mod prologues;
mod recursion;
mod segment_call;
mod skynet;
mod spawn_join;
mod stack_alloc;
mod steal;
mod tail_latency;
mod thaw;
mod timers;
mod walk;
mod r#yield;

use std::cell::OnceCell;

use morestack::{JoinHandle, Runtime, Stack};

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
    pingpong::BENCHMARK,
    mutex::BENCHMARK,
    fib_forkjoin::BENCHMARK,
    fanin::BENCHMARK,
    skynet::BENCHMARK,
    steal::BENCHMARK,
    timers::BENCHMARK,
    preemption_cost::BENCHMARK,
    prologue::BENCHMARK,
    tail_latency::BENCHMARK,
    stack_alloc::BENCHMARK,
    copystack::BENCHMARK,
    deep_recursion::BENCHMARK,
    walk::BENCHMARK,
    segment_call::BENCHMARK,
    grow64k::BENCHMARK,
    idle_memory::BENCHMARK,
    thaw::BENCHMARK,
    hog::BENCHMARK,
    prologues::BENCHMARK,
    prologues::SIZE,
    preemption_lateness::BENCHMARK,
    growth::BENCHMARK,
];

/// A runtime that does nothing by itself while it is measured: without time slices.
fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).time_slice(None).build().expect("a runtime")
}

/// Whether green threads of `spawn` have stacks that move: in a program that `cargo morestack` built.
fn moves() -> bool {
    runtime(1).stack_mode() == Stack::Copying
}

/// Runs on something that the first of them makes: a child process that measures another contender does not need it.
fn on<R: 'static, T>(make: impl Fn() -> R + 'static, run: impl Fn(&R, u64) -> T + 'static) -> impl FnMut(u64) -> T {
    let made = OnceCell::new();
    move |operations| run(made.get_or_init(&make), operations)
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
    /// Starts a green thread. The caller is its spawn site.
    ///
    /// # Safety
    ///
    /// `f` keeps the contract of [`morestack::go`].
    #[track_caller]
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
