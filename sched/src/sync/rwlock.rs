//! The reader-writer lock: a word for those who need not wait, two queues for those who do.
//!
//! The word is QUEUED, WRITER, and the number of readers that hold it.
//!
//! ```text
//!   lock_shared      no QUEUED, no WRITER: one reader more        lock_exclusive      0 → WRITER
//!                    else queue, QUEUED set                                           else queue, QUEUED set
//!
//!   unlock_shared    one reader less;                             unlock_exclusive    WRITER → 0
//!                    the last, if QUEUED is set: grant                                QUEUED is set: grant
//! ```
//!
//! *To grant*, under the lock of the queues: after a writer, to all readers that wait, else to the first writer; after
//! readers, to the first writer, else to all readers. It is theirs when they are woken; QUEUED stays while anybody waits.
//!
//! # Invariants
//!
//! 1. *QUEUED says whether anybody waits*, whenever the lock of the queues is free.
//! 2. *While QUEUED is set nobody gets in but by being granted it*; or, who asks for that, as one more reader where there are
//!    some ([`lock_shared_recursive`](RawRwLock::acquire_shared_recursive)).
//! 3. *Where QUEUED is set, somebody is going to grant it*: the writer; or the last of the readers; or, if the word says
//!    that nobody holds it, the reader that was the last, and is on its way to the lock of the queues.
//!
//! QUEUED is set under that lock by a compare-exchange of a word with a holder in it, and before that holder's last step,
//! which then sees it. Readers that come and go change the number by one step each, so exactly one of them leaves 0
//! behind, and by 2 it stays 0 until that one has granted it. For the same reason what grants may write the word by a
//! plain store: nobody else changes it.
//!
//! *Order.* Getting it acquires; each who lets go releases; the last reader acquires what the others have released, under
//! the lock of the queues, which passes it on with the wake-up.
//!
//! # Fairness
//!
//! Readers queue behind a writer that waits, and a writer that lets go lets in the readers that wait: so a reader waits for
//! one writer, and a writer for those before it and the readers in between. (The phase-fair lock of Brandenburg and Anderson,
//! ECRTS 2009.) Nobody is overtaken, which costs a switch for each grant.
//!
//! # Leaving early
//!
//! See [`super::queue`]. Who leaves clears QUEUED with the last entry. If it was the last writer, and readers hold the lock,
//! those that wait have nothing to wait for any more, and are let in. Nobody leaves early now.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

#[cfg(not(loom))]
use lock_api::GuardSend;

use super::queue::{Batch, Outcome, Queue, Spin, Wait, safepoint};
use crate::atomics::{AtomicUsize, Mutex};
use crate::channel::Waker;

const QUEUED: usize = 1;
const WRITER: usize = 2;
/// There is room for more than can be: forgetting as many guards takes a century.
pub(crate) const READER: usize = 4;

/// The lock without its value: what [`RwLock`](super::RwLock) is made of.
pub struct RawRwLock {
    pub(crate) state: AtomicUsize,
    pub(crate) waiters: Mutex<Waiters>,
}

pub(crate) struct Waiters {
    readers: Queue,
    writers: Queue,
}

impl Waiters {
    const NONE: Waiters = Waiters { readers: Queue::new(), writers: Queue::new() };
}

/// To whom it was granted.
enum Granted {
    Nobody,
    Writer(Waker),
    Readers(Batch),
}

impl Granted {
    fn wake(self) {
        match self {
            Granted::Nobody => {}
            Granted::Writer(writer) => writer.wake(),
            Granted::Readers(readers) => readers.wake(),
        }
    }
}

/// Whether a reader gets in by itself.
fn admits(state: usize) -> bool {
    state & (QUEUED | WRITER) == 0
}

/// The same for one whose thread may hold the lock already: behind a writer that waits it would wait for itself.
fn admits_recursive(state: usize) -> bool {
    state & WRITER == 0 && (state & QUEUED == 0 || state >= READER)
}

impl RawRwLock {
    #[cfg(loom)]
    pub(crate) fn new() -> RawRwLock {
        RawRwLock { state: AtomicUsize::new(0), waiters: Mutex::new(Waiters::NONE) }
    }

    /// One step: one reader more.
    #[inline(always)]
    fn try_enter(&self, admits: fn(usize) -> bool) -> bool {
        let mut state = self.state.load(Relaxed);
        while admits(state) {
            match self.state.compare_exchange_weak(state, state + READER, Acquire, Relaxed) {
                Ok(_) => return true,
                Err(now) => state = now,
            }
        }
        false
    }

    #[inline(always)]
    pub(crate) fn acquire_shared(&self) {
        safepoint();
        if !self.try_enter(admits) {
            self.acquire_shared_slow(admits);
        }
    }

    #[inline]
    pub(crate) fn acquire_shared_recursive(&self) {
        safepoint();
        if !self.try_enter(admits_recursive) {
            self.acquire_shared_slow(admits_recursive);
        }
    }

    #[cold]
    #[inline(never)]
    fn acquire_shared_slow(&self, admits: fn(usize) -> bool) {
        let mut spin = Spin::new();
        while !self.try_enter(admits) {
            if !spin.again() && self.wait(|waiters| &mut waiters.readers, admits) {
                return;
            }
        }
    }

    #[inline(always)]
    pub(crate) fn acquire_exclusive(&self) {
        safepoint();
        if !self.try_acquire_exclusive() {
            self.acquire_exclusive_slow();
        }
    }

    #[inline(always)]
    pub(crate) fn try_acquire_exclusive(&self) -> bool {
        self.state.compare_exchange(0, WRITER, Acquire, Relaxed).is_ok()
    }

    #[cold]
    #[inline(never)]
    fn acquire_exclusive_slow(&self) {
        let mut spin = Spin::new();
        while !self.try_acquire_exclusive() {
            if !spin.again() && self.wait(|waiters| &mut waiters.writers, |state| state == 0) {
                return;
            }
        }
    }

    /// Waits in a queue until it is granted; false if it is to be had, or if its state changes.
    fn wait(&self, queue: fn(&mut Waiters) -> &mut Queue, admits: fn(usize) -> bool) -> bool {
        let mut waiters = self.waiters.lock();
        let state = self.state.load(Relaxed);
        if admits(state) || self.state.compare_exchange(state, state | QUEUED, Relaxed, Relaxed).is_err() {
            return false;
        }
        let wait = Wait::new(0);
        queue(&mut waiters).push(&wait);
        drop(waiters);
        wait.block();
        true
    }

    /// # Safety
    ///
    /// The caller is one of the readers.
    #[inline(always)]
    pub(crate) unsafe fn release_shared(&self) {
        if self.state.fetch_sub(READER, Release) == READER | QUEUED {
            self.grant_after_readers();
        }
    }

    #[cold]
    #[inline(never)]
    fn grant_after_readers(&self) {
        let mut waiters = self.waiters.lock();
        // What the other readers released.
        self.state.load(Acquire);
        let granted = self.grant_writer(&mut waiters).unwrap_or_else(|| self.grant_readers(&mut waiters, 0));
        drop(waiters);
        granted.wake();
    }

    /// # Safety
    ///
    /// The caller is the writer.
    #[inline(always)]
    pub(crate) unsafe fn release_exclusive(&self) {
        if self.state.compare_exchange(WRITER, 0, Release, Relaxed).is_err() {
            self.grant_after_writer();
        }
    }

    #[cold]
    #[inline(never)]
    fn grant_after_writer(&self) {
        let mut waiters = self.waiters.lock();
        let granted = match self.grant_readers(&mut waiters, 0) {
            Granted::Nobody => self.grant_writer(&mut waiters).unwrap_or(Granted::Nobody),
            readers => readers,
        };
        drop(waiters);
        granted.wake();
    }

    /// To the first writer. Under the lock, and nobody holds it but the caller.
    fn grant_writer(&self, waiters: &mut Waiters) -> Option<Granted> {
        let first = waiters.writers.pop(Outcome::Granted)?;
        let queued = if waiters.readers.is_empty() && waiters.writers.is_empty() { 0 } else { QUEUED };
        self.state.store(WRITER | queued, Release);
        Some(Granted::Writer(first))
    }

    /// To all readers that wait, and to so many who do not. The same.
    fn grant_readers(&self, waiters: &mut Waiters, others: usize) -> Granted {
        let readers = waiters.readers.len();
        if readers + others == 0 {
            return Granted::Nobody;
        }
        let queued = if waiters.writers.is_empty() { 0 } else { QUEUED };
        self.state.store(((readers + others) * READER) | queued, Release);
        Granted::Readers(waiters.readers.take(Outcome::Granted))
    }

    /// The writer becomes a reader.
    ///
    /// # Safety
    ///
    /// The caller is the writer.
    #[cfg(not(loom))]
    unsafe fn become_reader(&self) {
        if self.state.compare_exchange(WRITER, READER, Release, Relaxed).is_err() {
            let mut waiters = self.waiters.lock();
            let granted = self.grant_readers(&mut waiters, 1);
            drop(waiters);
            granted.wake();
        }
    }
}

// SAFETY: WRITER is set by one step from 0, or under the lock by the party that was the last to hold it; a reader is
// counted by one step from a word without WRITER, or in the same way.
#[cfg(not(loom))]
unsafe impl lock_api::RawRwLock for RawRwLock {
    const INIT: RawRwLock = RawRwLock { state: AtomicUsize::new(0), waiters: Mutex::new(Waiters::NONE) };
    type GuardMarker = GuardSend;

    #[inline(always)]
    fn lock_shared(&self) {
        self.acquire_shared();
    }

    #[inline]
    fn try_lock_shared(&self) -> bool {
        self.try_enter(admits)
    }

    #[inline(always)]
    unsafe fn unlock_shared(&self) {
        // SAFETY: by the contract.
        unsafe { self.release_shared() };
    }

    #[inline(always)]
    fn lock_exclusive(&self) {
        self.acquire_exclusive();
    }

    #[inline]
    fn try_lock_exclusive(&self) -> bool {
        self.try_acquire_exclusive()
    }

    #[inline(always)]
    unsafe fn unlock_exclusive(&self) {
        // SAFETY: by the contract.
        unsafe { self.release_exclusive() };
    }

    fn is_locked(&self) -> bool {
        self.state.load(Relaxed) & !QUEUED != 0
    }

    fn is_locked_exclusive(&self) -> bool {
        self.state.load(Relaxed) & WRITER != 0
    }
}

// SAFETY: as above.
#[cfg(not(loom))]
unsafe impl lock_api::RawRwLockRecursive for RawRwLock {
    fn lock_shared_recursive(&self) {
        self.acquire_shared_recursive();
    }

    fn try_lock_shared_recursive(&self) -> bool {
        self.try_enter(admits_recursive)
    }
}

// SAFETY: as above. It is fair by itself.
#[cfg(not(loom))]
unsafe impl lock_api::RawRwLockFair for RawRwLock {
    unsafe fn unlock_shared_fair(&self) {
        // SAFETY: by the contract.
        unsafe { self.release_shared() };
    }

    unsafe fn unlock_exclusive_fair(&self) {
        // SAFETY: by the contract.
        unsafe { self.release_exclusive() };
    }
}

// SAFETY: as above: in between nobody else gets it.
#[cfg(not(loom))]
unsafe impl lock_api::RawRwLockDowngrade for RawRwLock {
    unsafe fn downgrade(&self) {
        // SAFETY: by the contract.
        unsafe { self.become_reader() };
    }
}
