//! What the tests of crossbeam-channel, of `std::thread` and `std::sync`, and of Go's channels ask for, in our own words,
//! in every place where the API may be called from.
//!
//! Each behaviour is a function of its [`Context`] and becomes one test for each of them: `channel::spsc::go`, say. It
//! keeps the contract of `go`: what it lends out of its stack it lends to a `morestack::scope`.

mod channel;
#[path = "../common/mod.rs"]
mod common;
mod future;
mod select;
mod surface;
mod sync;
mod thread;

use std::future::pending;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use async_executor::Executor;
use futures_lite::FutureExt;
use morestack::{Runtime, block_on};

const MS: Duration = Duration::from_millis(1);

/// Longer than any pause of the machine.
const LONG: Duration = Duration::from_secs(60);

/// Where a behaviour is tried, and where the threads that it starts run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Context {
    /// Green threads on reserved stacks.
    Spawn,
    /// Untied green threads on copying stacks.
    Go,
    /// OS threads.
    Os,
    /// A task of tokio's blocks its OS thread; others await green threads.
    Tokio,
    /// Tasks of an executor like smol's await green threads.
    Smol,
}

use Context::{Go, Os, Smol, Spawn, Tokio};

static TOKIO: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap());

fn smol() -> &'static Executor<'static> {
    static EXECUTOR: OnceLock<Executor<'static>> = OnceLock::new();
    static STARTED: OnceLock<()> = OnceLock::new();
    let executor = EXECUTOR.get_or_init(Executor::new);
    STARTED.get_or_init(|| {
        for _ in 0..2 {
            std::thread::spawn(|| futures_lite::future::block_on(executor.run(pending::<()>())));
        }
    });
    executor
}

type Result<T> = std::thread::Result<T>;

enum Handle<T> {
    Green(morestack::JoinHandle<T>),
    Os(std::thread::JoinHandle<T>),
    Tokio(tokio::task::JoinHandle<Result<T>>),
    Smol(async_executor::Task<Result<T>>),
}

impl<T> Handle<T> {
    fn result(self) -> Result<T> {
        match self {
            Handle::Green(handle) => handle.join(),
            Handle::Os(handle) => handle.join(),
            Handle::Tokio(task) => morestack::block_on(task).unwrap(),
            Handle::Smol(task) => morestack::block_on(task),
        }
    }

    fn join(self) -> T {
        self.result().unwrap_or_else(|payload| resume_unwind(payload))
    }
}

impl Context {
    /// Starts a thread of this kind, on the runtime of the caller.
    fn start<T: Send + 'static>(self, f: impl FnOnce() -> T + Send + 'static) -> Handle<T> {
        match self {
            Spawn => Handle::Green(morestack::spawn(f)),
            // SAFETY: by the rule in the header.
            Go => Handle::Green(unsafe { morestack::go(f) }),
            Os => Handle::Os(std::thread::spawn(f)),
            Tokio => {
                let green = morestack::spawn(f);
                Handle::Tokio(TOKIO.spawn(green))
            }
            Smol => {
                let green = morestack::spawn(f);
                Handle::Smol(smol().spawn(green))
            }
        }
    }

    /// Starts what drives a future: a thread of this kind, or a task of the executor itself.
    fn start_future<T: Send + 'static>(self, future: impl Future<Output = T> + Send + 'static) -> Handle<T> {
        match self {
            Spawn => Handle::Green(morestack::spawn_future(future)),
            // SAFETY: by the rule in the header; the future does not move while it is driven.
            Go => Handle::Green(unsafe { morestack::go(move || block_on(future)) }),
            Os => Handle::Os(std::thread::spawn(move || block_on(future))),
            Tokio => Handle::Tokio(TOKIO.spawn(AssertUnwindSafe(future).catch_unwind())),
            Smol => Handle::Smol(smol().spawn(AssertUnwindSafe(future).catch_unwind())),
        }
    }

    /// So many of them, by number.
    fn start_all<T: Send + 'static, F: FnOnce() -> T + Send + 'static>(
        self,
        n: usize,
        f: impl Fn(usize) -> F,
    ) -> Vec<Handle<T>> {
        (0..n).map(|i| self.start(f(i))).collect()
    }
}

/// Runs a behaviour in a context: green threads on one worker, then on two that freeze whatever waits.
fn run(context: Context, behaviour: fn(Context)) {
    let f = move || behaviour(context);
    match context {
        Spawn | Go => {
            for workers in [1, 2] {
                let rt = Runtime::builder().workers(workers).freeze_after(Some(MS)).build().unwrap();
                // SAFETY: by the rule in the header.
                let handle = if context == Go { unsafe { rt.go(f) } } else { rt.spawn(f) };
                handle.join().unwrap_or_else(|payload| resume_unwind(payload));
            }
        }
        Os => f(),
        Tokio => TOKIO
            .block_on(TOKIO.spawn(async move { tokio::task::block_in_place(f) }))
            .unwrap_or_else(|error| resume_unwind(error.into_panic())),
        Smol => futures_lite::future::block_on(smol().spawn(async move { morestack::spawn(f).await }))
            .unwrap_or_else(|payload| resume_unwind(payload)),
    }
}

/// Behaviours, each a test in every context.
macro_rules! behaviours {
    ($($(#[$attr:meta])* fn $name:ident($context:ident) $body:block)*) => {$(
        $(#[$attr])*
        mod $name {
            use super::*;

            #[allow(unused_variables, reason = "not all start threads")]
            fn behaviour($context: Context) $body

            #[test]
            fn spawn() {
                run(Context::Spawn, behaviour);
            }

            #[test]
            fn go() {
                run(Context::Go, behaviour);
            }

            #[test]
            fn os() {
                run(Context::Os, behaviour);
            }

            #[test]
            fn tokio() {
                run(Context::Tokio, behaviour);
            }

            #[test]
            fn smol() {
                run(Context::Smol, behaviour);
            }
        }
    )*};
}
use behaviours;

/// Waits until it is so, by sleeping.
#[track_caller]
fn until(so: impl Fn() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < LONG);
        morestack::sleep(MS / 10);
    }
}

/// Counts how often they are dropped.
#[derive(Clone, Default)]
struct Drops(Arc<AtomicUsize>);

struct Token(Drops);

impl Drops {
    fn token(&self) -> Token {
        Token(self.clone())
    }

    fn count(&self) -> usize {
        self.0.load(SeqCst)
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, SeqCst);
    }
}

/// A panic that says nothing on standard error.
fn silent_panic() -> ! {
    resume_unwind(Box::new("on purpose"))
}

#[test]
fn under_stress() {
    common::under_stress("::go");
}
