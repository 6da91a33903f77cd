//! The mutex: a word for those who need not wait, a queue for those who do.
//!
//! | bit | meaning |
//! |---|---|
//! | LOCKED | somebody holds it |
//! | QUEUED | somebody waits in the queue |
//! | WOKEN | one was woken and is on its way to try again: no other need be |
//!
//! ```text
//!   lock                                 unlock
//!   ────                                 ──────
//!   0 → LOCKED, if it is that            LOCKED → 0, if it is that
//!   spin a little                        nobody queued, or WOKEN: clear LOCKED
//!   queue, if still LOCKED:              else, under the queue's lock, dequeue the first:
//!     QUEUED set, under the queue's lock   as a rule: clear LOCKED, set WOKEN, wake it: Woken
//!   Granted: it is ours                    once in a while: leave LOCKED, wake it: Granted
//!   Woken: try again; WOKEN is cleared
//!     by taking it or by queuing, at the
//!     front
//! ```
//!
//! # Who may change what
//!
//! LOCKED is set by who finds it clear, and cleared by the holder. QUEUED and WOKEN are set under the lock of the queue.
//! WOKEN is cleared by the one that was woken. QUEUED is cleared by the holder, under the lock of the queue.
//!
//! 1. *QUEUED says whether the queue is empty*, whenever the lock of the queue is free.
//! 2. *Nobody sleeps beside a free mutex*: where QUEUED is set, either LOCKED is, and the holder will see QUEUED; or WOKEN is,
//!    and that one takes the mutex, or finds LOCKED and queues again, clearing WOKEN.
//!
//! *Why 2 holds.* A waiter sets QUEUED by a compare-exchange of a word with LOCKED in it: so before the holder's
//! last compare-exchange, which fails then. The holder leaves without a look at the queue only by a compare-exchange of a
//! word with WOKEN in it; WOKEN is cleared by a compare-exchange that sets LOCKED or of a word with LOCKED in it, and so the
//! same is true of the next holder.
//!
//! *The holder's store.* While LOCKED is set, only the holder changes the word without the lock of the queue: those who try
//! to lock do not, and those who queue, the woken one among them, need that lock. So the holder, under it, writes what
//! shall be there by a plain store.
//!
//! *Order.* Taking the mutex acquires, clearing LOCKED releases; a waiter to whom it is granted acquires with its wake-up.
//!
//! # Fairness
//!
//! Whoever comes along takes a free mutex, also from under the nose of the one that was woken: that is what makes a busy
//! mutex fast, as those who run need not wait for those who do not. But [`PATIENCE`] after the first began to
//! queue, and again after each time, the mutex is granted to the one at the front, which has waited for longest. So who has
//! `n` before it waits for `n` times that, and for as many critical sections of others.
//!
//! The one that was woken has to run to try, as one to whom it is granted has to run to unlock: those behind it wait for
//! that. It is up to the scheduler. A tied green thread runs when its OS thread comes back from a call that blocks.
//!
//! # Leaving early
//!
//! See [`super::queue`]. Who leaves the queue clears QUEUED with the last entry. To whom it was granted, unlocks. Who was
//! woken tries to lock, and unlocks if that succeeds: if not, it clears WOKEN by a compare-exchange of a word with LOCKED
//! in it. Nobody does now: no wait for a lock has a deadline, and none can be unwound.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

#[cfg(not(loom))]
use lock_api::GuardSend;

use super::queue::{Outcome, Queue, Spin, Wait, safepoint};
use crate::atomics::{AtomicU8, Mutex};

pub(crate) const LOCKED: u8 = 1;
pub(crate) const QUEUED: u8 = 2;
pub(crate) const WOKEN: u8 = 4;

/// Ticks of the time stamp counter for which who waits is overtaken: about 0.7 ms; parking_lot's mean is 0.5 ms. Less makes
/// a busy mutex slower: each time, it waits for one that does not run. Counters that differ between processors make it
/// less or more.
const PATIENCE: u64 = 2_000_000;

/// The mutex without its value: what [`Mutex`](super::Mutex) is made of.
pub struct RawMutex {
    pub(crate) state: AtomicU8,
    pub(crate) waiters: Mutex<Waiters>,
}

pub(crate) struct Waiters {
    pub(crate) queue: Queue,
    /// When it is granted to the first.
    grant_at: u64,
}

impl Waiters {
    const NONE: Waiters = Waiters { queue: Queue::new(), grant_at: 0 };

    /// Whether the first has been overtaken for long enough.
    fn is_due(&mut self) -> bool {
        let due = now() >= self.grant_at;
        if due {
            self.start();
        }
        due
    }

    fn start(&mut self) {
        self.grant_at = now() + PATIENCE;
    }
}

#[cfg(not(loom))]
use crate::p::stamp as now;

/// It stands still: models say what is granted.
#[cfg(loom)]
fn now() -> u64 {
    0
}

impl RawMutex {
    #[cfg(loom)]
    pub(crate) fn new() -> RawMutex {
        RawMutex { state: AtomicU8::new(0), waiters: Mutex::new(Waiters::NONE) }
    }

    #[inline(always)]
    pub(crate) fn acquire(&self) {
        safepoint();
        if self.state.compare_exchange(0, LOCKED, Acquire, Relaxed).is_err() {
            self.acquire_slow();
        }
    }

    #[inline]
    pub(crate) fn try_acquire(&self) -> bool {
        let mut state = self.state.load(Relaxed);
        while state & LOCKED == 0 {
            match self.state.compare_exchange(state, state | LOCKED, Acquire, Relaxed) {
                Ok(_) => return true,
                Err(now) => state = now,
            }
        }
        false
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn acquire_slow(&self) {
        let mut woken = 0;
        let mut spin = Spin::new();
        loop {
            let state = self.state.load(Relaxed);
            if state & LOCKED == 0 {
                let taken = (state | LOCKED) & !woken;
                if self.state.compare_exchange(state, taken, Acquire, Relaxed).is_ok() {
                    return;
                }
            } else if !spin.again() {
                match self.wait(woken) {
                    None => continue,
                    Some(Outcome::Granted) => return,
                    Some(_) => (woken, spin) = (WOKEN, Spin::new()),
                }
            }
        }
    }

    /// Waits in the queue, and takes back `woken`; not if it is free, or if its state changes.
    pub(crate) fn wait(&self, woken: u8) -> Option<Outcome> {
        let mut waiters = self.waiters.lock();
        let state = self.state.load(Relaxed);
        let queued = (state | QUEUED) & !woken;
        if state & LOCKED == 0 || self.state.compare_exchange(state, queued, Relaxed, Relaxed).is_err() {
            return None;
        }
        if waiters.queue.is_empty() {
            waiters.start();
        }
        let wait = Wait::new(0);
        if woken == 0 {
            waiters.queue.push(&wait)
        } else {
            waiters.queue.push_front(&wait)
        }
        drop(waiters);
        Some(wait.block())
    }

    /// # Safety
    ///
    /// It is locked, and the caller's to unlock.
    #[inline(always)]
    pub(crate) unsafe fn release(&self) {
        if self.state.compare_exchange(LOCKED, 0, Release, Relaxed).is_err() {
            self.release_slow(false);
        }
    }

    /// The same; who waits is next in any case.
    ///
    /// # Safety
    ///
    /// As for `release`.
    pub(crate) unsafe fn release_fair(&self) {
        if self.state.compare_exchange(LOCKED, 0, Release, Relaxed).is_err() {
            self.release_slow(true);
        }
    }

    #[cold]
    #[inline(never)]
    fn release_slow(&self, fair: bool) {
        loop {
            let state = self.state.load(Relaxed);
            debug_assert!(state & LOCKED != 0, "unlocked twice");
            if state & QUEUED == 0 || (state & WOKEN != 0 && !fair) {
                if self.state.compare_exchange(state, state & !LOCKED, Release, Relaxed).is_ok() {
                    return;
                }
                continue;
            }
            let mut waiters = self.waiters.lock();
            let granted = waiters.is_due() || fair;
            let outcome = if granted { Outcome::Granted } else { Outcome::Woken };
            let first = waiters.queue.pop(outcome).expect("QUEUED: the queue is not empty");
            let queued = if waiters.queue.is_empty() { 0 } else { QUEUED };
            let woken = self.state.load(Relaxed) & WOKEN;
            self.state.store(queued | woken | if granted { LOCKED } else { WOKEN }, Release);
            drop(waiters);
            return first.wake();
        }
    }
}

// SAFETY: LOCKED is set by one compare-exchange from a word without it, or passed on set, and cleared by its holder only.
#[cfg(not(loom))]
unsafe impl lock_api::RawMutex for RawMutex {
    const INIT: RawMutex = RawMutex { state: AtomicU8::new(0), waiters: Mutex::new(Waiters::NONE) };
    type GuardMarker = GuardSend;

    #[inline(always)]
    fn lock(&self) {
        self.acquire();
    }

    #[inline]
    fn try_lock(&self) -> bool {
        self.try_acquire()
    }

    #[inline(always)]
    unsafe fn unlock(&self) {
        // SAFETY: by the contract.
        unsafe { self.release() };
    }

    #[inline]
    fn is_locked(&self) -> bool {
        self.state.load(Relaxed) & LOCKED != 0
    }
}

// SAFETY: as above.
#[cfg(not(loom))]
unsafe impl lock_api::RawMutexFair for RawMutex {
    unsafe fn unlock_fair(&self) {
        // SAFETY: by the contract.
        unsafe { self.release_fair() };
    }

    unsafe fn bump(&self) {
        if self.state.load(Relaxed) & QUEUED != 0 {
            // SAFETY: by the contract.
            unsafe { self.release_fair() };
            // No safepoint: it queues at once.
            self.acquire_slow();
        }
    }
}
