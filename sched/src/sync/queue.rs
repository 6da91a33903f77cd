//! Who waits for a lock, in which order, and the wait itself.
//!
//! ```text
//!   lock ── waiters: atomics::Mutex ── Queue ─► Entry ─► Entry        (in the heap)
//!                                                │
//!                                                └─► the green thread, or the OS thread
//! ```
//!
//! A wait ends once, by whoever dequeues its [`Entry`]: that one says how it ended and wakes the waiter. A green thread
//! rests meanwhile on the wait token of [`crate::token`], which has the proof that a wake-up before it is at rest is not
//! lost; an OS thread, and a green thread that unwinds or is in [`blocking`](crate::blocking()), blocks the OS thread.
//!
//! An entry is in the heap: the stack of its waiter may be moved or frozen while it waits. It has no address of that stack.
//!
//! # Who may touch what
//!
//! | what | who |
//! |---|---|
//! | the queue, the links | whoever holds the lock of the queue |
//! | `outcome` | the same while it is queued; then whoever dequeued it, until the waiter is woken; then the waiter |
//! | `wants`, `os`, `waiter` | written by the waiter before it queues; readable by the others until it is woken |
//!
//! A waiter frees its entry when it was woken, not before: whoever dequeued it wakes it once, after the last access.
//!
//! *To leave early*, for a waiter with a deadline or that is cancelled: under the lock of the queue. While `outcome` is
//! Waiting it removes its entry ([`List::remove`]), and nobody will wake it. Otherwise it was dequeued: the wake-up is on
//! its way and must be waited for, and what it was given be given back. Each lock's header says what else then has to be done.

use std::cell::Cell;
use std::hint::spin_loop;
use std::ptr::NonNull;

use morestack_asm::{STACK_GUARD, STACK_PREEMPT, stackguard};

use crate::cancel;
use crate::channel::{OsWaiter, Waiter, Waker};
use crate::idle::Workers;
use crate::links::{Linked, Links, List};
use crate::m;
use crate::park::checkpoint;

/// How a wait ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Not yet: it is queued.
    Waiting,
    /// What it waited for may be had now; others may be faster.
    Woken,
    /// What it waited for is its own.
    Granted,
}

/// A wait. See the module's header for who may touch what.
pub(crate) struct Entry {
    links: Links<Entry>,
    waiter: Waiter,
    outcome: Cell<Outcome>,
    /// How much of it, where that can be said.
    pub(crate) wants: usize,
}

impl Linked for Entry {
    fn links(&self) -> &Links<Entry> {
        &self.links
    }
}

/// The wait of the calling thread, which owns the entry.
pub(crate) struct Wait {
    entry: NonNull<Entry>,
    /// Unless a green thread rests.
    os: Option<NonNull<OsWaiter>>,
}

impl Wait {
    pub(crate) fn new(wants: usize) -> Wait {
        let (waiter, os) = match m::resting_g() {
            Some(g) => (Waiter::Green(g), None),
            None => {
                let os = NonNull::from(Box::leak(Box::new(OsWaiter::new())));
                (Waiter::Os(os), Some(os))
            }
        };
        let (links, outcome) = (Links::default(), Cell::new(Outcome::Waiting));
        let entry = NonNull::from(Box::leak(Box::new(Entry { links, waiter, outcome, wants })));
        Wait { entry, os }
    }

    /// Waits until somebody has dequeued it. The caller has queued it, and holds no lock of a queue.
    pub(crate) fn block(self) -> Outcome {
        match self.os {
            Some(os) => {
                // SAFETY: this wait's own, freed when it is dropped.
                unsafe { os.as_ref() }.wait(None);
            }
            None => {
                let g = m::current_g().expect("a green thread goes on as one");
                // SAFETY: on the green thread that made it, not unwinding; whoever dequeues the entry notifies it.
                unsafe { cancel::rest(g, false) };
            }
        }
        // SAFETY: this wait's own; whoever dequeued it is done with it.
        unsafe { self.entry.as_ref() }.outcome.get()
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        // SAFETY: leaked by `new`. The entry was never queued, or was dequeued by the one who woke the waiter.
        unsafe {
            drop(Box::from_raw(self.entry.as_ptr()));
            if let Some(os) = self.os {
                drop(Box::from_raw(os.as_ptr()));
            }
        }
    }
}

/// Those who wait. Everything under the lock that it lies behind. What is in it is valid: its waiter waits.
pub(crate) struct Queue(List<Entry>);

impl Queue {
    pub(crate) const fn new() -> Queue {
        Queue(List::new())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How much the first wants.
    pub(crate) fn first_wants(&self) -> Option<usize> {
        self.0.iter().next().map(|first| first.wants)
    }

    /// At the end. The caller lets go of the lock and then blocks.
    pub(crate) fn push(&mut self, wait: &Wait) {
        // SAFETY: the caller's wait, not queued; its waiter frees it when it was dequeued and woken.
        unsafe { self.0.push_back(wait.entry) };
    }

    /// At the front: one that has waited before.
    pub(crate) fn push_front(&mut self, wait: &Wait) {
        // SAFETY: as above.
        unsafe { self.0.push_front(wait.entry) };
    }

    /// Dequeues the first: the caller is to wake it.
    pub(crate) fn pop(&mut self, outcome: Outcome) -> Option<Waker> {
        let first = self.0.pop_front()?;
        first.outcome.set(outcome);
        Some(first.waiter.waker())
    }

    /// Dequeues all.
    pub(crate) fn take(&mut self, outcome: Outcome) -> Batch {
        self.0.iter().for_each(|entry| entry.outcome.set(outcome));
        Batch { queue: std::mem::replace(self, Queue::new()), outcome }
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.0.iter().count()
    }
}

/// Those that were dequeued together, and that the caller is to wake: outside of the lock.
pub(crate) struct Batch {
    queue: Queue,
    outcome: Outcome,
}

impl Batch {
    pub(crate) fn wake(mut self) {
        while let Some(waker) = self.queue.pop(self.outcome) {
            waker.wake();
        }
    }
}

/// Rounds of looking at a lock before waiting in its queue; each has twice as many pauses as the one before, of 10 to 50 ns.
/// A green thread looks once more: to park costs little, and who looks slows the holder, whose cache line that is. In the
/// benchmark `mutex`, with two workers and `go`, 15 pauses take a quarter to a half longer than one.
const ROUNDS: u32 = 1;

/// The same for an OS thread, whose wake-up is a system call: 63 pauses, 1 to 3 us.
const OS_ROUNDS: u32 = 6;

/// Looks again for a while.
pub(crate) struct Spin {
    round: u32,
    rounds: u32,
}

impl Spin {
    pub(crate) fn new() -> Spin {
        let rounds = match m::current_sched() {
            _ if cfg!(loom) => 0,
            None => OS_ROUNDS,
            // On the only worker nobody lets go of it meanwhile; an OS thread might, but seldom has it.
            Some(sched) if sched.count() == 1 => 0,
            Some(_) => ROUNDS,
        };
        Spin { round: 0, rounds }
    }

    /// Waits a little; false if it is time to wait otherwise.
    pub(crate) fn again(&mut self) -> bool {
        let more = self.round < self.rounds;
        if more {
            (0..1_u32 << self.round).for_each(|_| spin_loop());
            self.round += 1;
        }
        more
    }
}

/// A safepoint that never unwinds: it may be preempted here, if there is room for that.
///
/// Locking is one, since code that does little else might never come to another, and a green thread that is preempted here
/// does not hold what it is about to lock. It must not unwind as others do (with a
/// [`StackOverflow`](crate::StackOverflow), say): `MutexGuard::unlocked` and [`Condvar::wait`](super::Condvar::wait) lock
/// again for a guard that exists.
#[inline(always)]
pub(crate) fn safepoint() {
    if stackguard() == STACK_PREEMPT {
        answer();
    }
}

#[cold]
#[inline(never)]
fn answer() {
    /// Frames between here and `newstack`'s look at the room, with plenty to spare.
    const FRAMES: usize = 1 << 10;
    let here = 0_u8;
    // On g0, where `blocking` runs its closure, the request is not for the caller.
    let Some(g) = m::current_g() else { return };
    // SAFETY: the calling green thread.
    let lo = unsafe { (*g.head()).stack.lo };
    if &raw const here as usize > lo + STACK_GUARD + FRAMES {
        cancel::never_here(checkpoint);
    }
}
