//! Green threads the way Go has them: M:N, work-stealing, preemptible, on stacks that start small and are copied to grow
//! and to shrink. Linux on x86-64.
//!
//! ```
//! use std::time::Duration;
//!
//! #[morestack::prologue] // may be preempted, and may grow the stack, here
//! fn fib(n: u32) -> u64 {
//!     if n < 2 { u64::from(n) } else { fib(n - 1) + fib(n - 2) }
//! }
//!
//! let hogs: Vec<_> = (20..24).map(|n| morestack::spawn(move || fib(n))).collect();
//! morestack::spawn(|| morestack::sleep(Duration::from_millis(1))).join().unwrap(); // not kept waiting by the hogs
//! let sum: u64 = hogs.into_iter().map(|hog| hog.join().unwrap()).sum();
//! assert_eq!(sum, 6765 + 10946 + 17711 + 28657);
//! ```
//!
//! | to | use |
//! |---|---|
//! | run something | [`spawn`], [`Builder`], [`Runtime::run`]; [`go`] for copying stacks, by contract |
//! | lend locals to it | [`scope()`] |
//! | wait | [`JoinHandle::join`], [`channel`], [`park`], [`sleep`], [`yield_now`] |
//! | end it from outside | [`JoinHandle::cancel`], [`JoinHandle::cancel_handle`] |
//! | share | [`sync`]: `Mutex`, `RwLock`, `Condvar`, `Semaphore`, `Barrier`, `WaitGroup`, `OnceLock`, `LazyLock` |
//! | wait for futures, and be waited for by them | [`block_on`], [`spawn_future`]; [`JoinHandle`] is one |
//! | block the OS thread | [`blocking()`] |
//! | be preemptible | [`#[prologue]`](macro@prologue), [`with_prologue!`], [`checkpoint`], [`without_preemption`] |
//! | have it from the start | [`#[main]`](macro@main), [`#[test]`](macro@test) |
//! | set it up | [`Runtime::builder`], or `MORESTACK_WORKERS`, `MORESTACK_MAX_THREADS`, `MORESTACK_TIME_SLICE`, `MORESTACK_SPIN_SYSMON`, `MORESTACK_STACK_SIZE`, `MORESTACK_FREEZE_AFTER` for the global one |
//! | keep something per green thread | [`task_local!`] |
//! | look inside | [`Runtime::metrics`] |
//! | test | `MORESTACK_STRESS=move|preempt|freeze`, `MORESTACK_EFENCE=1` |
//!
//! # How it works, by module
//!
//! | module | what |
//! |---|---|
//! | `g`, `task`, `blocks`, `m`, `p`, `sched` | the green thread and its memory, the OS thread, the right to run, and what all share: who may touch what |
//! | `schedule` | the scheduler loop: where the next green thread comes from |
//! | `ready`, `young`, `tied`, `idle` | where a runnable one goes, and who is woken for it |
//! | `token`, `park`, `timers`, `timed`, `join`, `direct`, `future`, `links`, [`channel`], [`sync`] | waiting |
//! | `cancel` | unwinding a green thread from outside |
//! | `newstack`, `stack`, `site` | a prologue check failed: grow, preempt; how large a stack to start with |
//! | `scope` | lending a parent's locals |
//! | `local` | task-locals |
//! | `segment` | where a copying stack by contract must not move |
//! | `side` | side stacks and segments, in programs that `cargo morestack` built |
//! | `hold`, `blocking`, `retake` | when a green thread blocks its OS thread: another one takes over |
//! | `sysmon` | time slices |
//! | `parked`, `sweep` | freezing and shrinking the stacks of those that wait |
//! | `worker`, `runtime`, `entry`, `config` | start and end |
//! | `fault`, `stress`, `fork` | finding mistakes |
//! | `unwind` | what may be used after a panic |
//! | `atomics`, `loom` | models of the protocols between threads |

mod atomics;
mod blocking;
mod blocks;
mod cancel;
pub mod channel;
mod config;
mod direct;
mod entry;
mod fault;
mod fork;
mod future;
mod g;
mod hold;
mod idle;
mod join;
mod links;
mod local;
#[cfg(all(test, loom))]
mod loom;
mod m;
mod metrics;
mod newstack;
mod outline;
mod p;
mod park;
mod parked;
mod parker;
mod ready;
mod retake;
mod runtime;
mod sched;
mod schedule;
mod scope;
mod segment;
mod side;
mod site;
mod spawn;
mod spin;
mod stack;
mod stress;
mod sweep;
pub mod sync;
mod sysmon;
mod task;
mod thread;
mod tied;
mod timed;
mod timers;
mod token;
#[cfg(not(loom))]
mod unwind;
mod worker;
mod young;

pub use blocking::blocking;
pub use cancel::Cancelled;
pub use future::{block_on, spawn_future};
pub use join::{CancelHandle, JoinHandle, RuntimeStopped};
pub use local::{AccessError, LocalKey};
pub use metrics::{Lateness, Metrics, WorkerMetrics};
/// ```
/// #[morestack::main(workers = 2, time_slice = "100us")]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let answer: u32 = morestack::spawn(|| "42".parse()).join().unwrap()?;
///     assert_eq!(answer, 42);
///     Ok(())
/// }
/// ```
pub use morestack_macros::main;
/// ```
/// #[morestack::test(workers = 1)]
/// fn a_child_runs_when_its_parent_waits() {
///     assert_eq!(morestack::spawn(|| 1).join().unwrap(), 1);
/// }
/// ```
pub use morestack_macros::test;
pub use morestack_macros::{prologue, with_prologue};
pub use newstack::StackOverflow;
pub use park::{checkpoint, park, park_timeout, sleep, sleep_until, without_preemption, yield_now};
pub use runtime::{Runtime, RuntimeBuilder, Unfinished};
pub use scope::{Scope, ScopedJoinHandle, scope};
pub use spawn::{Builder, Stack, go, spawn};
pub use thread::{Thread, ThreadId, current};

/// For the code that the macros make.
#[doc(hidden)]
pub mod __private {
    pub use crate::entry::{main, test};
    pub use crate::outline::Outline;
    pub use morestack_asm::prologue;

    use crate::channel::{Receiver, Sender};

    /// The end of a channel that `select!` was given, by value or by reference.
    #[diagnostic::on_unimplemented(
        message = "`{Self}` is not the end of a channel, which `select!` needs",
        label = "neither a `Receiver` nor a `Sender`, nor a reference to one"
    )]
    pub trait Of<E> {
        fn of(&self) -> &E;
    }

    impl<T> Of<Receiver<T>> for Receiver<T> {
        fn of(&self) -> &Receiver<T> {
            self
        }
    }

    impl<T> Of<Sender<T>> for Sender<T> {
        fn of(&self) -> &Sender<T> {
            self
        }
    }

    impl<E, R: Of<E> + ?Sized> Of<E> for &R {
        fn of(&self) -> &E {
            (**self).of()
        }
    }
}

/// The examples of the pages, as tests.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../../README.md")]
    struct Readme;

    #[doc = include_str!("../../docs/api.md")]
    struct Api;
}
