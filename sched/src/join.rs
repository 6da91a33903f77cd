//! `JoinHandle`: waiting for a green thread's result.
//!
//! The result lies behind the `G` ([`crate::task`]). Whether it is there is said by the `JoinState` in the `G`, under a lock
//! that both ends hold for a few instructions:
//!
//! - the exiting green thread's M sets `done` and takes the waiter, in one critical section (`finish`);
//! - a joiner looks at `done` and leaves itself as the waiter, in one critical section.
//!
//! So a joiner either sees `done` or is seen by `finish`: no wake-up is lost. After `finish` the scheduler no longer
//! touches the join state; before it, the green thread is not Dead, so its runtime is alive: this is what lets a joiner
//! register itself with the runtime while it holds the lock.
//!
//! # A runtime that stops
//!
//! Green threads that have not finished when their runtime stops are abandoned: nobody will call `finish`. Joiners from
//! outside that runtime must not wait for ever. They are registered with the runtime, which wakes all of them when it has
//! stopped; they find `abandoned` and return [`RuntimeStopped`]. `finish` takes the registration back.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;

use morestack_asm::prologue;

use crate::g::G;
use crate::task::{self, GArc};
use crate::thread::{self, Thread};
use crate::{fork, m};

/// Whether a green thread is done, and who waits for that.
#[derive(Default)]
pub(crate) struct JoinState {
    waiter: Option<Thread>,
    /// Who to unpark while it blocks its OS thread in `park`, unwinding.
    pub(crate) os_thread: Option<std::thread::Thread>,
    done: bool,
    /// The waiter is in the runtime's list of joiners from outside.
    registered: bool,
}

/// Marks `g` as done and wakes its joiner. Called by the owner, once, after the result was stored.
pub(crate) fn finish(g: &G) {
    let waiter = {
        let mut state = g.join.lock();
        state.done = true;
        if state.registered {
            // SAFETY: the caller owns `g`.
            unsafe { g.sched() }.joiners.remove(g.id);
        }
        state.waiter.take()
    };
    if let Some(waiter) = waiter {
        waiter.unpark();
    }
}

/// The error of [`JoinHandle::join`] for a green thread that did not finish because its runtime stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuntimeStopped;

impl fmt::Display for RuntimeStopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the runtime stopped before this green thread finished")
    }
}

impl std::error::Error for RuntimeStopped {}

/// An owned permission to wait for a green thread and take its result, as `std::thread::JoinHandle`.
///
/// Dropping it detaches the green thread, which goes on running.
pub struct JoinHandle<T> {
    thread: Thread,
    /// The type of the result behind the green thread.
    _result: PhantomData<T>,
}

// SAFETY: a handle gives away a T (hence T: Send) and otherwise only reads atomics and locks.
unsafe impl<T: Send> Send for JoinHandle<T> {}
// SAFETY: through a shared reference no T is reachable.
unsafe impl<T> Sync for JoinHandle<T> {}

impl<T> JoinHandle<T> {
    /// # Safety
    ///
    /// `g` is of a task with this type of result, and this is its one handle.
    pub(crate) unsafe fn new(g: GArc) -> JoinHandle<T> {
        JoinHandle { thread: Thread::green(g), _result: PhantomData }
    }

    fn g(&self) -> &GArc {
        self.thread.as_green().expect("a JoinHandle is of a green thread")
    }

    /// Waits for the green thread and returns its result. A green thread that waits is parked; an OS thread blocks.
    ///
    /// In a destructor during a panic the worker itself is blocked ([`park`](crate::park())): joining a green thread there
    /// that is tied to the same worker waits for ever, or until the runtime stops.
    ///
    /// # Errors
    ///
    /// The payload of what ended it:
    ///
    /// | payload | |
    /// |---|---|
    /// | of the panic | it panicked |
    /// | [`StackOverflow`](crate::StackOverflow) | it needed more stack than it may have |
    /// | `std::io::Error`, `OutOfMemory` | no stack for it could be had when it first ran, or no larger one when its copying stack was to grow; the message names the size and the reason |
    /// | [`RuntimeStopped`] | its runtime stopped before it finished |
    ///
    /// ```
    /// let handle = morestack::spawn(|| 6 * 7);
    /// assert_eq!(handle.join().unwrap(), 42);
    ///
    /// let failed = morestack::spawn(|| std::panic::resume_unwind(Box::new("no")));
    /// assert_eq!(failed.join().unwrap_err().downcast_ref(), Some(&"no"));
    /// ```
    pub fn join(self) -> Result<T, Box<dyn Any + Send + 'static>> {
        prologue!();
        if !wait(self.g()) {
            return Err(Box::new(RuntimeStopped));
        }
        // SAFETY: `done` was seen under the join lock, and this is the one handle, for results of this type.
        unsafe { task::take(self.g()) }.unwrap_or_else(|| Err(Box::new(RuntimeStopped)))
    }

    /// Whether the green thread has finished: `join` will not wait.
    pub fn is_finished(&self) -> bool {
        self.g().join.lock().done
    }

    /// The green thread's handle, to unpark or name it.
    pub fn thread(&self) -> &Thread {
        &self.thread
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        task::detach(self.g());
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("thread", &self.thread).finish_non_exhaustive()
    }
}

/// Waits until `g` is done. False when it never will be: its runtime has stopped.
fn wait(g: &GArc) -> bool {
    loop {
        {
            let mut state = g.join.lock();
            if state.done {
                return true;
            }
            if fork::is_child() {
                return false;
            }
            // SAFETY: not done, and the lock is held.
            let sched = unsafe { g.sched() };
            let inside = m::enter(sched).is_some();
            // It keeps its worker from leaving.
            let blocks = inside && std::thread::panicking();
            if state.waiter.is_none() {
                let me = thread::current();
                // One that leaves its worker to others stops with the runtime and needs no waking.
                if !inside || blocks {
                    sched.joiners.insert(g.id, me.clone());
                    state.registered = true;
                }
                state.waiter = Some(me);
            }
            // After the registration: whoever stops the runtime looks at the list after it has said so.
            if sched.is_stopped() || blocks && sched.stop_requested() {
                return false;
            }
        }
        crate::park();
    }
}
