//! The peers that have a scheduler of their own, set up alike.
//!
//! | | one worker | more |
//! |---|---|---|
//! | tokio | `current_thread`, on the calling thread | `multi_thread` |
//! | smol | its executor, run by one thread | by several |
//! | may | one worker of the process's scheduler | several |
//! | rayon | a pool of one thread | of several |
//!
//! What is measured is done by tasks that the scheduler runs, never by the thread that waits for them: a scheduler does
//! more for that one, or less.

use std::future::pending;
use std::thread;
use std::time::Duration;

use async_executor::Executor;
use rayon::ThreadPool;
use tokio::runtime::{Builder, Runtime};

pub(super) fn tokio(workers: usize) -> Runtime {
    let mut builder = if workers == 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    builder.worker_threads(workers).enable_time().build().expect("a runtime of tokio's")
}

/// Runs a future as a task.
pub(super) fn run_tokio<T: Send + 'static>(runtime: &Runtime, future: impl Future<Output = T> + Send + 'static) -> T {
    runtime.block_on(async { tokio::spawn(future).await.expect("no panic") })
}

pub(super) type Smol = &'static Executor<'static>;

/// What smol's global executor is, with so many threads. It stays, as that does; its threads sleep when it has no tasks.
pub(super) fn smol(workers: usize) -> Smol {
    let executor: Smol = Box::leak(Box::new(Executor::new()));
    for _ in 0..workers {
        thread::spawn(|| async_io::block_on(executor.run(pending::<()>())));
    }
    executor
}

/// Runs a future as a task.
pub(super) fn run_smol<T: Send + 'static>(executor: Smol, future: impl Future<Output = T> + Send + 'static) -> T {
    async_io::block_on(executor.spawn(future))
}

/// Runs on may's scheduler, which a process has one of: for contenders with a process of their own. The warm-up is a tenth
/// of the run.
pub(super) fn may(
    workers: usize,
    run: impl Fn(u64) -> Duration + Clone + Send + 'static,
) -> impl FnMut(u64) -> Duration {
    move |operations| {
        may::config().set_workers(workers);
        run_may({
            let run = run.clone();
            move || {
                run(operations.div_ceil(10));
                run(operations)
            }
        })
    }
}

/// Runs a closure as a coroutine.
fn run_may<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    go_may(f).join().expect("no panic")
}

/// Starts a coroutine of may's.
pub(super) fn go_may<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> may::coroutine::JoinHandle<T> {
    // Without optimisation its own sleep needs more than the 4096 words of its default.
    let builder = may::coroutine::Builder::new();
    let builder = if cfg!(debug_assertions) { builder.stack_size(16_384) } else { builder };
    // SAFETY: the benchmarks use no thread-locals, and little stack.
    unsafe { builder.spawn(f) }.expect("a coroutine")
}

pub(super) fn rayon(threads: usize) -> ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool of rayon's")
}
