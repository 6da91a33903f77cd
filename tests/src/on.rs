//! Where a program runs: the same code on an OS thread, on a reserved stack, on a copying stack.

use std::panic::resume_unwind;
use std::thread;

use clap::ValueEnum;
use morestack::{JoinHandle, Metrics, Runtime};

/// The kind of thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum On {
    /// A thread of the operating system: what the others are compared with.
    Os,
    /// A green thread on a reserved stack.
    Spawn,
    /// A green thread on a copying stack.
    Go,
}

/// Room for the deepest program: 64 MiB of locals, and what an unoptimised build wastes around them. Address space, not
/// memory.
pub const STACK_SIZE: usize = 256 << 20;

/// What threads of one kind left behind.
#[derive(Debug)]
pub struct Ran<T> {
    /// Their results, in order.
    pub results: Vec<T>,
    /// What their runtime did, if they were green.
    pub metrics: Option<Metrics>,
}

impl On {
    /// Runs `f` on `threads` threads at the same time. `f` gets the thread's index.
    ///
    /// # Panics
    ///
    /// With the payload of the first `f` that panicked.
    ///
    /// # Safety
    ///
    /// `f` keeps the contract of [`morestack::go`]: no pointer to its stack exists outside that stack when a safepoint
    /// is reached, and no borrow of a thread-local lives across one.
    pub unsafe fn run<T, F>(self, threads: usize, f: F) -> Ran<T>
    where
        T: Send + 'static,
        F: Fn(usize) -> T + Clone + Send + 'static,
    {
        match self {
            On::Os => {
                let start = |index| {
                    let f = f.clone();
                    thread::Builder::new().stack_size(STACK_SIZE).spawn(move || f(index)).expect("a thread")
                };
                let handles: Vec<_> = (0..threads).map(start).collect();
                let join = |handle: thread::JoinHandle<T>| handle.join().unwrap_or_else(|panic| resume_unwind(panic));
                Ran { results: handles.into_iter().map(join).collect(), metrics: None }
            }
            On::Spawn | On::Go => {
                let runtime = Runtime::builder().stack_size(STACK_SIZE).build().expect("a runtime");
                let results = runtime.run(move || {
                    let start = |index| {
                        let f = f.clone();
                        let f = move || f(index);
                        match self {
                            // SAFETY: the caller's promise.
                            On::Go => unsafe { morestack::go(f) },
                            _ => morestack::spawn(f),
                        }
                    };
                    let handles: Vec<_> = (0..threads).map(start).collect();
                    let join = |handle: JoinHandle<T>| handle.join().unwrap_or_else(|panic| resume_unwind(panic));
                    handles.into_iter().map(join).collect()
                });
                Ran { results, metrics: Some(runtime.metrics()) }
            }
        }
    }
}
