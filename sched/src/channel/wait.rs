//! Waiting in a channel's queue: the green thread parks, an OS thread blocks.
//!
//! A wait ends once, by whoever dequeues its [`Sudog`]: with the operation completed, or because the channel was
//! disconnected. For a green thread that is the wait token of [`crate::token`], which has the proof that the wake-up is not
//! lost when it comes before the green thread is at rest.
//!
//! A contested wait may end in several ways; [`super::sudog`] has its rules.
//!
//! A green thread that is [cancelled](crate::cancel) takes its sudog out of the queue, under the lock, and unwinds. If it is not
//! there any more the operation was completed, and counts.
//!
//! A green thread that unwinds must not leave its OS thread: it blocks it, as an OS thread does.

use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use super::State;
use super::sudog::{Outcome, Sudog, Sudogs, WaitQueue, Waiter};
use crate::atomics::{AtomicU16, Thread, current_thread, park_thread, park_thread_timeout};
use crate::g::{G, GRef};
use crate::m;
use crate::spin::MutexGuard;
use crate::token::{NOTIFIED, TIMED_OUT, Token};
use crate::{cancel, park, timed};

/// One end of a channel: the queue of those who wait there.
pub(super) type End<T> = fn(&mut State<T>) -> &mut WaitQueue;

/// Waits at `end` of the channel that is locked by `state` until somebody has completed the operation with the value in
/// `slot`, or the channel is disconnected. Open: the green thread was cancelled, and is to be unwound.
pub(super) fn wait<T>(mut state: MutexGuard<'_, State<T>>, end: End<T>, slot: &mut MaybeUninit<T>) -> Outcome {
    let chan = MutexGuard::mutex(&state);
    // SAFETY: only looked at, for its address.
    let lock = unsafe { chan.raw() };
    let slot = slot.as_mut_ptr();
    match m::resting_g() {
        Some(waiter) => {
            // SAFETY: the calling green thread.
            let g = unsafe { waiter.as_ref() };
            // SAFETY: this wait's until it is over.
            let sudog = unsafe { g.sudog.get().unwrap_or_else(|| first_sudog(g)).as_ref() };
            sudog.begin(Waiter::Green(waiter), slot, lock);
            // SAFETY: it is in the heap, and this green thread does nothing else until it was dequeued.
            unsafe { end(&mut state).push(sudog) };
            drop(state);
            // SAFETY: on a green thread, not unwinding; whoever dequeues its sudog notifies it.
            unsafe {
                let g = GRef::from_ptr(waiter);
                if !cancel::rest(g, true) && !end(&mut chan.lock()).remove(sudog) {
                    // Somebody was faster than the canceller, or than this.
                    cancel::rest(g, false);
                }
            }
            sudog.end()
        }
        None => {
            let (os, sudog) = (OsWaiter::new(), Sudog::default());
            sudog.begin(Waiter::Os(NonNull::from(&os)), slot, lock);
            // SAFETY: this stack does not move, and this frame is left when it was dequeued.
            unsafe { end(&mut state).push(&sudog) };
            drop(state);
            os.wait(None);
            sudog.end()
        }
    }
}

/// For the first wait of `g`, the calling green thread, which keeps it until it [ends](super::end_of).
#[cold]
fn first_sudog(g: &G) -> NonNull<Sudog> {
    let sudog = m::enter_current().map_or_else(Sudogs::fresh, |m| {
        // SAFETY: on the thread of `m`, which holds its P; no other reference is in use.
        unsafe { m.p().sudogs() }.acquire()
    });
    g.sudog.set(Some(sudog));
    sudog
}

/// A contested wait: see [`super::sudog`].
pub(super) enum Contest {
    Green(NonNull<G>),
    Os(OsWaiter),
}

impl Contest {
    /// Of the calling thread. It has no locks.
    pub(super) fn new() -> Contest {
        match m::resting_g() {
            Some(g) => {
                // SAFETY: the calling green thread.
                cancel::begin_contest(unsafe { g.as_ref() });
                Contest::Green(g)
            }
            None => Contest::Os(OsWaiter::new()),
        }
    }

    /// For the sudogs. It stays where it is until they are out of their queues.
    pub(super) fn waiter(&self) -> Waiter {
        match self {
            Contest::Green(g) => Waiter::Green(*g),
            Contest::Os(os) => Waiter::Os(NonNull::from(os)),
        }
    }

    /// Waits until the wait has ended: by an operation, or at the deadline.
    pub(super) fn wait(&self, deadline: Option<Instant>) {
        match (self, deadline) {
            (Contest::Green(_), Some(deadline)) => timed::rest_until(|g| Token::of_wait(g), deadline),
            (Contest::Green(g), None) => {
                // SAFETY: the calling green thread, not unwinding; one of those who know its sudogs claims the wait.
                unsafe { park::wait_for(GRef::from_ptr(*g), Token::of_wait(g.as_ref()), park::wait_m) };
            }
            (Contest::Os(os), deadline) => {
                os.wait(deadline);
            }
        }
    }

    /// Ends it: its sudogs are in no queue any more. Whether it was interrupted: then the green thread is to be unwound.
    pub(super) fn end(self) -> bool {
        match self {
            // SAFETY: the calling green thread.
            Contest::Green(g) => cancel::end_contest(unsafe { g.as_ref() }),
            Contest::Os(_) => false,
        }
    }
}

/// An OS thread that waits. Its token is a word as that of a green thread ([`crate::token`]); it is never PARKED.
pub(crate) struct OsWaiter {
    thread: Thread,
    token: AtomicU16,
}

impl OsWaiter {
    pub(crate) fn new() -> OsWaiter {
        OsWaiter { thread: current_thread(), token: AtomicU16::new(0) }
    }

    /// A handle to unpark it with, for after it was notified.
    pub(super) fn thread(&self) -> Thread {
        self.thread.clone()
    }

    pub(super) fn token(&self) -> Token<'_> {
        Token(&self.token)
    }

    /// Until it is notified, or the deadline: then false.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> bool {
        while self.token().state() != NOTIFIED {
            match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => park_thread(),
                Some(Duration::ZERO) => {
                    // Or it is notified now.
                    let _ = self.token().claim(TIMED_OUT);
                    return self.token().state() == NOTIFIED;
                }
                Some(left) => park_thread_timeout(left),
            }
        }
        true
    }
}
