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
//! WOKEN is cleared by the one that was woken. QUEUED is cleared under the lock of the queue, by the holder or who leaves.
//!
//! 1. *QUEUED says whether the queue is empty*, whenever the lock of the queue is free.
//! 2. *Nobody sleeps beside a free mutex*: where QUEUED is set, either LOCKED is, and the holder will see QUEUED; or WOKEN is,
//!    and that one takes the mutex, or finds LOCKED and queues again, clearing WOKEN.
//!
//! *Why 2 holds.* A waiter sets QUEUED by a compare-exchange of a word with LOCKED in it: so before the holder's
//! last compare-exchange, which fails then. The holder leaves without a look at the queue only by a compare-exchange of a
//! word with WOKEN in it; WOKEN is cleared by a compare-exchange that sets LOCKED or of a word with LOCKED in it, and so the
//! same is true of the next holder. Who leaves the queue clears QUEUED only if nobody is left in it.
//!
//! *The holder's store.* While LOCKED is set, only the holder changes the word without the lock of the queue: those who try
//! to lock do not, and those who queue or leave, the woken one among them, need that lock. So the holder, under it, writes
//! what shall be there by a plain store; if the queue is empty now, the last in it has left, and it looks at the word again.
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
//! See [`super::queue`]. Under the lock of the queue: who is removed clears QUEUED with the last entry, and nothing else is
//! there to be repaired: it had no WOKEN, which was cleared when it queued. Who was granted the mutex keeps it. Who was woken
//! tries once more, and keeps the mutex if it is free; if not it clears WOKEN, by a compare-exchange of a word with LOCKED in
//! it: so the holder comes after that and sees QUEUED, which is 2.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

#[cfg(not(loom))]
use std::fmt;
#[cfg(not(loom))]
use std::time::{Duration, Instant};

#[cfg(not(loom))]
use lock_api::{GuardSend, RawMutex as _};

use super::queue::{How, Outcome, Queue, Spin, Until, Wait, safepoint};
#[cfg(not(loom))]
use super::queue::{or_unwind, safepoint_or_unwind};
use crate::atomics::{self, AtomicU8};
#[cfg(not(loom))]
use crate::cancel;

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
    pub(crate) waiters: atomics::Mutex<Waiters>,
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
        RawMutex { state: AtomicU8::new(0), waiters: atomics::Mutex::new(Waiters::NONE) }
    }

    /// It never unwinds.
    #[inline(always)]
    pub(crate) fn acquire(&self) {
        self.acquire_until(Until::DEQUEUED);
    }

    /// The same; false if it has left early.
    #[inline(always)]
    pub(crate) fn acquire_until(&self, until: Until) -> bool {
        safepoint();
        self.state.compare_exchange(0, LOCKED, Acquire, Relaxed).is_ok() || self.acquire_slow(until)
    }

    /// The same, but that it unwinds a green thread that was cancelled.
    #[cfg(not(loom))]
    #[inline(always)]
    fn acquire_or_unwind(&self, until: Until) -> bool {
        safepoint_or_unwind();
        self.state.compare_exchange(0, LOCKED, Acquire, Relaxed).is_ok() || or_unwind(self.acquire_slow(until))
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
    pub(crate) fn acquire_slow(&self, until: Until) -> bool {
        let (mut woken, until) = (0, until.begin());
        let mut spin = Spin::new();
        loop {
            let state = self.state.load(Relaxed);
            if state & LOCKED == 0 {
                let taken = (state | LOCKED) & !woken;
                if self.state.compare_exchange(state, taken, Acquire, Relaxed).is_ok() {
                    return true;
                }
            } else if !spin.again() {
                let Some(wait) = self.queue(woken) else { continue };
                match wait.block(until) {
                    How::Dequeued(Outcome::Granted) => return true,
                    How::Dequeued(_) => (woken, spin) = (WOKEN, Spin::new()),
                    How::Early => return self.leave(&wait),
                }
            }
        }
    }

    /// Queues, and takes back `woken`; not if it is free, or if its state changes.
    pub(crate) fn queue(&self, woken: u8) -> Option<Wait> {
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
        Some(wait)
    }

    /// Ends the caller's wait early. Whether it has the mutex nevertheless.
    #[cold]
    fn leave(&self, wait: &Wait) -> bool {
        let mut waiters = self.waiters.lock();
        let acquired = match waiters.queue.leave(wait) {
            Outcome::Waiting => {
                if waiters.queue.is_empty() {
                    self.state.fetch_and(!QUEUED, Relaxed);
                }
                return false;
            }
            Outcome::Woken => self.end_woken(),
            Outcome::Granted => true,
        };
        drop(waiters);
        wait.block(Until::DEQUEUED);
        acquired
    }

    /// By the one that was woken: locks it if it is free, and clears WOKEN in any case. Under the lock of the queue.
    fn end_woken(&self) -> bool {
        loop {
            let state = self.state.load(Relaxed);
            if self.state.compare_exchange(state, (state | LOCKED) & !WOKEN, Acquire, Relaxed).is_ok() {
                return state & LOCKED == 0;
            }
        }
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
            if waiters.queue.is_empty() {
                // They have left.
                continue;
            }
            let granted = waiters.is_due() || fair;
            let outcome = if granted { Outcome::Granted } else { Outcome::Woken };
            let first = waiters.queue.pop(outcome).expect("it is not empty");
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
    const INIT: RawMutex = RawMutex { state: AtomicU8::new(0), waiters: atomics::Mutex::new(Waiters::NONE) };
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
            self.acquire_slow(Until::DEQUEUED);
        }
    }
}

// SAFETY: as above.
#[cfg(not(loom))]
unsafe impl lock_api::RawMutexTimed for RawMutex {
    type Duration = Duration;
    type Instant = Instant;

    fn try_lock_for(&self, timeout: Duration) -> bool {
        self.acquire_until(Until::after(timeout).not_cancelled())
    }

    fn try_lock_until(&self, deadline: Instant) -> bool {
        self.acquire_until(Until::at(deadline).not_cancelled())
    }
}

/// A value that one thread at a time may touch.
///
/// Locking and unlocking are one atomic instruction each where nobody is in the way. The guard is `Send`.
///
/// ```
/// use morestack::sync::Mutex;
///
/// static LOG: Mutex<Vec<u32>> = Mutex::new(Vec::new());
///
/// morestack::spawn(|| LOG.lock().push(1)).join().unwrap();
/// assert!(LOG.try_lock().is_some_and(|log| log[..] == [1]));
/// ```
// Not an alias: a guard that is unlocked for a while locks the raw mutex again, and that must not unwind, as `lock` may. No
// `Deref` either: there would be two `lock`s to choose from.
#[cfg(not(loom))]
#[derive(Default)]
pub struct Mutex<T: ?Sized>(lock_api::Mutex<RawMutex, T>);

/// What [`Mutex::lock`] returns: it unlocks when it is dropped.
#[cfg(not(loom))]
pub type MutexGuard<'a, T> = lock_api::MutexGuard<'a, RawMutex, T>;

/// A [`MutexGuard`] of a part of the value.
#[cfg(not(loom))]
pub type MappedMutexGuard<'a, T> = lock_api::MappedMutexGuard<'a, RawMutex, T>;

#[cfg(not(loom))]
impl<T> Mutex<T> {
    /// A mutex that nobody holds.
    #[inline]
    pub const fn new(value: T) -> Mutex<T> {
        Mutex(lock_api::Mutex::new(value))
    }

    /// The value.
    pub fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

#[cfg(not(loom))]
impl<T: ?Sized> Mutex<T> {
    fn raw(&self) -> &RawMutex {
        // SAFETY: not unlocked but by guards.
        unsafe { self.0.raw() }
    }

    /// Locks it; waits until it may. Dropping the guard unlocks it.
    ///
    /// A thread that has it locked already waits for itself, for ever.
    ///
    /// In a destructor during a panic it blocks the worker, as [`park`](crate::park()) does.
    #[inline(always)]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        if !self.raw().acquire_or_unwind(Until::CANCELLED) {
            cancel::raise();
        }
        // SAFETY: locked just now.
        unsafe { self.0.make_guard_unchecked() }
    }

    /// Locks it if it is free.
    #[inline]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock()
    }

    /// Locks it, and waits for `timeout` at most.
    ///
    /// ```
    /// use std::time::Duration;
    /// use morestack::sync::Mutex;
    ///
    /// static VALUE: Mutex<u32> = Mutex::new(1);
    ///
    /// let held = VALUE.lock();
    /// let other = morestack::spawn(|| VALUE.try_lock_for(Duration::from_millis(2)).is_none());
    /// assert!(other.join().unwrap());
    /// drop(held);
    /// assert_eq!(VALUE.try_lock_for(Duration::from_millis(2)).as_deref(), Some(&1));
    /// ```
    pub fn try_lock_for(&self, timeout: Duration) -> Option<MutexGuard<'_, T>> {
        // SAFETY: locked just now.
        self.raw().acquire_or_unwind(Until::after(timeout)).then(|| unsafe { self.0.make_guard_unchecked() })
    }

    /// The same until `deadline`.
    ///
    /// ```
    /// # use std::time::{Duration, Instant};
    /// # use morestack::sync::Mutex;
    /// let (mutex, deadline) = (Mutex::new(()), Instant::now() + Duration::from_millis(2));
    /// let held = mutex.lock();
    /// assert!(mutex.try_lock_until(deadline).is_none() && Instant::now() >= deadline);
    /// ```
    pub fn try_lock_until(&self, deadline: Instant) -> Option<MutexGuard<'_, T>> {
        // SAFETY: locked just now.
        self.raw().acquire_or_unwind(Until::at(deadline)).then(|| unsafe { self.0.make_guard_unchecked() })
    }

    /// Whether somebody holds it now.
    #[inline]
    pub fn is_locked(&self) -> bool {
        self.raw().is_locked()
    }

    /// The value: nobody else has the mutex.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }
}

#[cfg(not(loom))]
impl<T> From<T> for Mutex<T> {
    fn from(value: T) -> Mutex<T> {
        Mutex::new(value)
    }
}

#[cfg(not(loom))]
impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
