//! A wait in a channel's queue, and the stack that it lends out (S16).
//!
//! Who finds a channel not ready leaves a `Sudog` in one of its queues: who waits, and the address of the slot that the
//! value is to be written to or read from. The slot is a local of the function that waits. Whoever completes the operation
//! finds it under the channel's lock, and copies the value directly: no buffer, no second wake-up.
//!
//! ```text
//!   Chan ── lock ── receivers: WaitQueue ─► Sudog ─► Sudog          (in the heap, or on an OS thread's stack)
//!                                            │ slot
//!                                            ▼
//!                    stack of the waiter:  [ value ]                or the block that it was frozen into
//! ```
//!
//! # Who may touch what
//!
//! | field | who |
//! |---|---|
//! | the links | whoever holds the lock of the channel |
//! | `slot`, and what it points to | the waiter before it enqueues and after it was woken; in between whoever holds the lock |
//! | `outcome` | written under the lock by who completes the operation; read by the waiter after it was woken |
//! | `waiter`, `contested`, `lock`, `size` | the waiter, before it enqueues and after it was woken; readable by the others in between |
//!
//! # Contested waits
//!
//! A wait with a deadline, or for one of several operations ([`super::select`]), has several who may end it. So:
//!
//! 1. Its sudogs and their slots lie in the heap. *Nothing of the stack is lent*: the waiter may run, and its stack move or be
//!    thawed, while it is still in queues.
//! 2. Whoever dequeues a sudog to complete it first copies the value from or to the slot, and then [claims](Token::claim) the
//!    wait, both under the lock. If somebody else was faster, the copy does not count, and the next in the queue is tried. It
//!    is this way round because the waiter may run from the claim on.
//! 3. The waiter, once it runs, removes its sudogs from all queues, under their locks, and only then looks which of them was
//!    completed: one, or none if the deadline has passed. From then on nobody knows of the wait, and the token is reset.
//!
//! *At most one is completed*: by 2 each of those that are has claimed the wait, and one claim succeeds. *The value is not
//! lost*: a copy is the value from the claim on, and before that the original.
//!
//! # Waits of futures
//!
//! A future's sudog lies in the heap, and so does its slot, as for a contested wait. But whoever dequeues it ends the wait, under the
//! lock, and nobody else can: [`super::future`].
//!
//! # A stack that moves meanwhile
//!
//! A green thread that waits may be moved, shrunk or frozen: by sysmon, which owns it while it scans it
//! ([`crate::token`]), or by its own M just before it is at rest. That party and an operation on the channel are concurrent.
//! Both go through the lock: [`Lent`] takes it, and while it holds it, copies the part of the stack that contains the slot
//! and sets `slot` to the new address. So an operation sees the old place before the copy or the new one after it, and
//! its value is where the waiter will look for it. The same when it thaws: one that is [cancelled](crate::cancel) runs, to take
//! its sudog out of the queue, while others can still find it there.
//!
//! Locks are taken in this order: the list of the parked, then, after that was released, the channel's.

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::ptr::NonNull;
use std::task;

use lock_api::RawMutex as _;
use morestack_stacks::InFlight;

use super::future::TaskWaiter;
use super::wait::OsWaiter;
use crate::atomics::Thread;
use crate::future::wake_caught;
use crate::g::G;
use crate::links::{Linked, Links, List};
use crate::side;
use crate::spin::RawMutex;
use crate::token::{NOTIFIED, PARKED, Token, wake};

/// A wait. See the module's header for who may touch what.
#[derive(Default)]
pub(crate) struct Sudog {
    links: Links<Sudog>,
    waiter: Cell<Option<Waiter>>,
    slot: Cell<usize>,
    /// Bytes of the slot.
    size: Cell<usize>,
    /// The lock of the channel, while it waits.
    lock: Cell<Option<NonNull<RawMutex>>>,
    outcome: Cell<Outcome>,
    /// It is in a queue. Under the lock.
    queued: Cell<bool>,
    contested: Cell<bool>,
}

impl Linked for Sudog {
    #[inline(always)]
    fn links(&self) -> &Links<Sudog> {
        &self.links
    }
}

/// What became of a wait.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Outcome {
    #[default]
    Open,
    /// The operation was completed.
    Done,
    /// The other end is gone.
    Disconnected,
}

/// Sudogs that a P keeps for green threads that wait for the first time: each is given back when its green thread ends, maybe at
/// another P.
#[derive(Default)]
pub(crate) struct Sudogs(Vec<NonNull<Sudog>>);

// SAFETY: they are nobody's, and refer to nobody.
unsafe impl Send for Sudogs {}

/// As many as are kept. Plucked from thin air: 8 KiB.
const SUDOGS: usize = 128;

impl Sudogs {
    pub(super) fn acquire(&mut self) -> NonNull<Sudog> {
        self.0.pop().unwrap_or_else(Sudogs::fresh)
    }

    /// A new one.
    pub(super) fn fresh() -> NonNull<Sudog> {
        NonNull::from(Box::leak(Box::default()))
    }

    /// # Safety
    ///
    /// It came from `acquire` or `fresh`, and its wait is over.
    pub(super) unsafe fn delete(sudog: NonNull<Sudog>) {
        // SAFETY: `fresh` leaked it, and nobody refers to it.
        drop(unsafe { Box::from_raw(sudog.as_ptr()) });
    }

    /// # Safety
    ///
    /// It came from `acquire` or `fresh`, and its wait is over.
    pub(super) unsafe fn release(&mut self, sudog: NonNull<Sudog>) {
        if self.0.len() < SUDOGS {
            self.0.push(sudog);
        } else {
            // SAFETY: by the contract.
            unsafe { Sudogs::delete(sudog) };
        }
    }
}

impl Drop for Sudogs {
    fn drop(&mut self) {
        // SAFETY: what is kept was released.
        self.0.drain(..).for_each(|sudog| unsafe { Sudogs::delete(sudog) });
    }
}

/// Whose it is.
#[derive(Clone, Copy)]
pub(crate) enum Waiter {
    Green(NonNull<G>),
    Os(NonNull<OsWaiter>),
    Task(NonNull<TaskWaiter>),
}

impl Waiter {
    /// The right to wake it, for whoever dequeued it.
    #[inline(always)]
    pub(crate) fn waker(self) -> Waker {
        match self {
            Waiter::Green(g) => Waker::Green(g),
            Waiter::Os(os) => Waker::Os(os),
            // SAFETY: it was dequeued under the lock, which the future takes before it frees it.
            Waiter::Task(task) => unsafe { task.as_ref() }.waker(),
        }
    }

    /// The same for a contested wait, which is ended by this; none if it was over already. Under the lock of whose queue it was
    /// taken from.
    fn claim(self) -> Option<Waker> {
        match self {
            // SAFETY: a green thread that waits is there until it has removed its sudogs from their queues.
            Waiter::Green(g) => Token::of_wait(unsafe { g.as_ref() }).claim(NOTIFIED).map(|before| match before {
                PARKED => Waker::Claimed(g),
                // Not yet at rest, or sysmon is at its stack and wakes it when it is done.
                _ => Waker::Nobody,
            }),
            Waiter::Os(os) => {
                // SAFETY: as above.
                let os = unsafe { os.as_ref() };
                // Before it is claimed: then the waiter may go.
                let thread = Box::new(os.thread());
                os.token().claim(NOTIFIED).map(|_| Waker::ClaimedOs(thread))
            }
            // Nobody else could end it.
            Waiter::Task(_) => Some(self.waker()),
        }
    }
}

impl Sudog {
    /// Prepares a wait of `waiter` with a value in `slot`.
    pub(super) fn begin<T>(&self, waiter: Waiter, slot: *mut T, lock: &RawMutex) {
        // First: from here on nothing moves the stack, and the slot stays where it is. There may be a check in any of these calls.
        self.lock.set(Some(NonNull::from(lock)));
        self.slot.set(slot as usize);
        self.size.set(size_of::<T>());
        self.waiter.set(Some(waiter));
        self.outcome.set(Outcome::Open);
    }

    /// The same for a contested wait, whose slot is in the heap.
    pub(super) fn begin_contested<T>(&self, waiter: Waiter, slot: *mut T) {
        self.waiter.set(Some(waiter));
        self.slot.set(slot as usize);
        self.contested.set(true);
        self.outcome.set(Outcome::Open);
    }

    /// What became of it so far. Under the lock.
    pub(super) fn outcome(&self) -> Outcome {
        self.outcome.get()
    }

    /// The future that waits, if it is one.
    pub(super) fn task(&self) -> Option<&TaskWaiter> {
        match self.waiter.get() {
            // SAFETY: it is in a queue, or was dequeued under the lock, which the future takes before it frees it.
            Some(Waiter::Task(task)) => Some(unsafe { task.as_ref() }),
            _ => None,
        }
    }

    /// Ends it, after the waiter was woken, or took it out of its queue. What became of it.
    pub(super) fn end(&self) -> Outcome {
        self.lock.set(None);
        self.waiter.set(None);
        self.outcome.get()
    }

    /// The slot. Under the lock. In a block it may be less aligned than a `T`.
    pub(super) fn slot<T>(&self) -> *mut MaybeUninit<T> {
        self.slot.get() as *mut MaybeUninit<T>
    }

    /// Ends the wait, dequeued just now: its operation was completed, or the other end is gone. Under the lock. Who to wake; none
    /// if the wait was over already: then the operation was not done, and what was copied from or to the slot does not count.
    #[inline(always)]
    pub(super) fn finish(&self, outcome: Outcome) -> Option<Waker> {
        self.outcome.set(outcome);
        if self.contested.get() {
            return self.claim();
        }
        Some(self.waiter.get().expect("a sudog in a queue has a waiter").waker())
    }

    /// The same for a contested wait.
    #[inline(never)]
    fn claim(&self) -> Option<Waker> {
        let waker = self.waiter.get().expect("a sudog in a queue has a waiter").claim();
        if waker.is_none() {
            self.outcome.set(Outcome::Open);
        }
        waker
    }
}

/// The right to wake a waiter, once: what whoever dequeued its sudog has. Two words at most, to be passed in registers.
pub(crate) enum Waker {
    Green(NonNull<G>),
    Os(NonNull<OsWaiter>),
    /// A contested wait was ended, from PARKED.
    Claimed(NonNull<G>),
    ClaimedOs(Box<Thread>),
    Task(Box<task::Waker>),
    Nobody,
}

impl Waker {
    /// Wakes it. Outside of the lock.
    #[inline(always)]
    pub(crate) fn wake(self) {
        match self {
            Waker::Green(g) => {
                // SAFETY: it waits, or is about to, until it is notified: which is done here, once.
                if Token::of_wait(unsafe { g.as_ref() }).notify() == PARKED {
                    // Otherwise it is not yet at rest, or sysmon is at its stack and wakes it when it is done.
                    // SAFETY: this notification took PARKED.
                    unsafe { wake(g) };
                }
            }
            // SAFETY: the claim took PARKED.
            Waker::Claimed(g) => unsafe { wake(g) },
            Waker::Os(os) => {
                // SAFETY: it waits until it is notified.
                let os = unsafe { os.as_ref() };
                // From the notification on the waiter may be gone; this is a handle of its own.
                let thread = os.thread();
                os.token().notify();
                thread.unpark();
            }
            Waker::ClaimedOs(thread) => thread.unpark(),
            Waker::Task(waker) => wake_caught(*waker),
            Waker::Nobody => {}
        }
    }
}

/// The waits at one end of a channel, first come, first served. Everything under the channel's lock.
pub(super) struct WaitQueue(List<Sudog>);

impl WaitQueue {
    pub(super) const fn new() -> WaitQueue {
        WaitQueue(List::new())
    }

    /// Enqueues a wait that was begun, and that is in no queue.
    ///
    /// # Safety
    ///
    /// `sudog` stays where it is, and is touched by the rules of the module's header only, until it was dequeued.
    pub(super) unsafe fn push(&mut self, sudog: &Sudog) {
        sudog.queued.set(true);
        // SAFETY: by the contract: while it is in the queue its waiter waits, and it is valid.
        unsafe { self.0.push_back(NonNull::from(sudog)) };
    }

    /// Dequeues the first. It stays valid until the lock is released, or its waiter woken, which is the caller's to do.
    pub(super) fn pop<'a>(&mut self) -> Option<&'a Sudog> {
        let sudog: &Sudog = self.0.pop_front()?;
        sudog.queued.set(false);
        Some(sudog)
    }

    /// Dequeues this one, if it is in the queue. Whether it was.
    pub(super) fn remove(&mut self, sudog: &Sudog) -> bool {
        let queued = sudog.queued.replace(false);
        if queued {
            // SAFETY: it was queued, and a wait is in one queue.
            unsafe { self.0.remove(sudog) };
        }
        queued
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What a green thread that waits has lent out of its stack.
pub(crate) struct Lent<'a> {
    sudog: &'a Sudog,
    lock: NonNull<RawMutex>,
}

impl<'a> Lent<'a> {
    /// What `g` has lent out, if it waits in a channel.
    ///
    /// # Safety
    ///
    /// The caller owns `g`, which is suspended.
    pub(crate) unsafe fn of(g: &'a G) -> Option<Lent<'a>> {
        if side::ON {
            // Others may point to the slot, so it is on the side stack.
            return None;
        }
        // SAFETY: a green thread keeps its sudog until it ends.
        let sudog: &Sudog = unsafe { g.sudog.get()?.as_ref() };
        // The waiter's own field: it does not change while `g` is suspended.
        sudog.lock.get().map(|lock| Lent { sudog, lock })
    }

    fn mutex(&self) -> &RawMutex {
        // SAFETY: the waiter holds an end of the channel, so the channel is there while it waits.
        unsafe { self.lock.as_ref() }
    }
}

impl InFlight for Lent<'_> {
    fn slot(&self) -> Range<usize> {
        // Only the owner of the stack writes it, and that is the caller.
        let at = self.sudog.slot.get();
        at..at + self.sudog.size.get()
    }

    fn lock(&mut self) {
        self.mutex().lock();
    }

    fn unlock(&mut self, delta: usize) {
        self.sudog.slot.set(self.sudog.slot.get().wrapping_add(delta));
        // SAFETY: locked by `lock`, on this thread.
        unsafe { self.mutex().unlock() };
    }
}
