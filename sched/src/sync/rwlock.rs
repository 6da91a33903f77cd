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
//! 1. *QUEUED says whether anybody waits*, whenever the lock of the queues is free; or the one of 3 is on its way.
//! 2. *While QUEUED is set nobody gets in but by being granted it*; or, who asks for that, as one more reader where there are
//!    some ([`lock_shared_recursive`](RawRwLock::acquire_shared_recursive)).
//! 3. *Where QUEUED is set, somebody is going to grant it*: the writer; or the last of the readers; or, if the word says
//!    that nobody holds it, the reader that was the last, and is on its way to the lock of the queues.
//! 4. *Where readers wait while others hold it, a writer waits, too*, whenever the lock of the queues is free.
//!
//! QUEUED is set under that lock by a compare-exchange of a word with a holder in it, and before that holder's last step,
//! which then sees it. Readers that come and go change the number by one step each, so exactly one of them leaves 0
//! behind, and by 2 it stays 0 until that one has granted it. For the same reason who grants what it held may write the word by
//! a plain store: nobody else changes it.
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
//! See [`super::queue`]. Under the lock of the queues, who is removed does one of these:
//!
//! * *Nobody waits any more, and somebody holds the lock*: clears QUEUED (1). The holder may be on its way to grant already; it
//!   finds nobody to grant it to, and says that the lock is free.
//! * *Nobody holds it*: nothing. By 3 somebody is on its way, and the word is for that one to write. If QUEUED was cleared
//!   others would get in before it.
//! * *It was the last writer, and readers hold the lock*: those that wait have nothing to wait for any more, and are let in (4).
//!   It adds them by a compare-exchange of a word with readers in it, since those may go meanwhile.
//! * *Otherwise* nothing: the others have what they wait for.
//!
//! Who was granted it keeps it.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

#[cfg(not(loom))]
use std::fmt;
#[cfg(not(loom))]
use std::time::{Duration, Instant};

#[cfg(not(loom))]
use lock_api::{GuardSend, RawRwLock as _};

use super::queue::{Batch, How, Outcome, Queue, Spin, Until, Wait, safepoint};
#[cfg(not(loom))]
use super::queue::{or_unwind, safepoint_or_unwind};
use crate::atomics::{AtomicUsize, Mutex, MutexGuard};
#[cfg(not(loom))]
use crate::cancel;
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
    pub(crate) readers: Queue,
    pub(crate) writers: Queue,
}

impl Waiters {
    const NONE: Waiters = Waiters { readers: Queue::new(), writers: Queue::new() };

    fn is_empty(&self) -> bool {
        self.readers.is_empty() && self.writers.is_empty()
    }
}

/// One of the queues.
pub(crate) type Place = fn(&mut Waiters) -> &mut Queue;

const READERS: Place = |waiters| &mut waiters.readers;
pub(crate) const WRITERS: Place = |waiters| &mut waiters.writers;

/// To whom it was granted.
pub(crate) enum Granted {
    Writer(Waker),
    Readers(Batch),
}

impl Granted {
    fn wake(self) {
        match self {
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

    /// It never unwinds.
    #[inline(always)]
    pub(crate) fn acquire_shared(&self) {
        self.acquire_shared_until(Until::DEQUEUED);
    }

    /// False if it has left early.
    #[inline(always)]
    pub(crate) fn acquire_shared_until(&self, until: Until) -> bool {
        safepoint();
        self.try_enter(admits) || self.acquire_shared_slow(admits, until)
    }

    /// The same, but that it unwinds a green thread that was cancelled.
    #[cfg(not(loom))]
    #[inline(always)]
    fn acquire_shared_or_unwind(&self, until: Until) -> bool {
        safepoint_or_unwind();
        self.try_enter(admits) || or_unwind(self.acquire_shared_slow(admits, until))
    }

    /// It never unwinds.
    #[inline]
    pub(crate) fn acquire_shared_recursive(&self) {
        safepoint();
        if !self.try_enter(admits_recursive) {
            self.acquire_shared_slow(admits_recursive, Until::DEQUEUED);
        }
    }

    /// The same, but that it unwinds a green thread that was cancelled. False if it has left early.
    #[cfg(not(loom))]
    #[inline]
    fn acquire_shared_recursive_or_unwind(&self, until: Until) -> bool {
        safepoint_or_unwind();
        self.try_enter(admits_recursive) || or_unwind(self.acquire_shared_slow(admits_recursive, until))
    }

    #[cold]
    #[inline(never)]
    fn acquire_shared_slow(&self, admits: fn(usize) -> bool, until: Until) -> bool {
        let mut spin = Spin::new();
        loop {
            if self.try_enter(admits) {
                return true;
            }
            if !spin.again()
                && let Some(wait) = self.queue(READERS, admits)
            {
                return self.block(READERS, &wait, until);
            }
        }
    }

    /// It never unwinds.
    #[inline(always)]
    pub(crate) fn acquire_exclusive(&self) {
        self.acquire_exclusive_until(Until::DEQUEUED);
    }

    /// False if it has left early.
    #[inline(always)]
    pub(crate) fn acquire_exclusive_until(&self, until: Until) -> bool {
        safepoint();
        self.try_acquire_exclusive() || self.acquire_exclusive_slow(until)
    }

    /// The same, but that it unwinds a green thread that was cancelled.
    #[cfg(not(loom))]
    #[inline(always)]
    fn acquire_exclusive_or_unwind(&self, until: Until) -> bool {
        safepoint_or_unwind();
        self.try_acquire_exclusive() || or_unwind(self.acquire_exclusive_slow(until))
    }

    #[inline(always)]
    pub(crate) fn try_acquire_exclusive(&self) -> bool {
        self.state.compare_exchange(0, WRITER, Acquire, Relaxed).is_ok()
    }

    #[cold]
    #[inline(never)]
    fn acquire_exclusive_slow(&self, until: Until) -> bool {
        let mut spin = Spin::new();
        loop {
            if self.try_acquire_exclusive() {
                return true;
            }
            if !spin.again()
                && let Some(wait) = self.queue(WRITERS, |state| state == 0)
            {
                return self.block(WRITERS, &wait, until);
            }
        }
    }

    /// Queues; not if it is to be had, or if its state changes.
    pub(crate) fn queue(&self, place: Place, admits: fn(usize) -> bool) -> Option<Wait> {
        let mut waiters = self.waiters.lock();
        let state = self.state.load(Relaxed);
        if admits(state) || self.state.compare_exchange(state, state | QUEUED, Relaxed, Relaxed).is_err() {
            return None;
        }
        let wait = Wait::new(0);
        place(&mut waiters).push(&wait);
        Some(wait)
    }

    /// Waits until it is granted; false if it has left early.
    fn block(&self, place: Place, wait: &Wait, until: Until) -> bool {
        match wait.block(until) {
            How::Dequeued(_) => true,
            How::Early => self.leave(place, wait),
        }
    }

    /// Ends the caller's wait early. Whether it has the lock nevertheless.
    #[cold]
    fn leave(&self, place: Place, wait: &Wait) -> bool {
        let mut waiters = self.waiters.lock();
        let granted = place(&mut waiters).leave(wait) == Outcome::Granted;
        let readers = if granted { None } else { self.repair(&mut waiters) };
        drop(waiters);
        if let Some(readers) = readers {
            readers.wake();
        }
        if granted {
            wait.block(Until::DEQUEUED);
        }
        granted
    }

    /// Somebody was removed. Under the lock.
    fn repair(&self, waiters: &mut Waiters) -> Option<Granted> {
        if !waiters.writers.is_empty() {
            return None;
        }
        let readers = waiters.readers.len();
        let mut state = self.state.load(Relaxed);
        loop {
            let then = match state & !QUEUED {
                0 => return None,
                WRITER if readers > 0 => return None,
                held => held + readers * READER,
            };
            // Acquired for the readers: what the last writer released.
            match self.state.compare_exchange(state, then, Acquire, Relaxed) {
                Ok(_) => return Some(Granted::Readers(waiters.readers.take(Outcome::Granted))),
                Err(now) => state = now,
            }
        }
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
        let granted = self.grant_writer(&mut waiters).or_else(|| self.grant_readers(&mut waiters, 0));
        self.end_grant(waiters, granted);
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
        let granted = self.grant_readers(&mut waiters, 0).or_else(|| self.grant_writer(&mut waiters));
        self.end_grant(waiters, granted);
    }

    fn end_grant(&self, waiters: MutexGuard<'_, Waiters>, granted: Option<Granted>) {
        if granted.is_none() {
            // They have left.
            self.state.store(0, Release);
        }
        drop(waiters);
        if let Some(granted) = granted {
            granted.wake();
        }
    }

    /// To the first writer. Under the lock, and nobody holds it but the caller.
    fn grant_writer(&self, waiters: &mut Waiters) -> Option<Granted> {
        let first = waiters.writers.pop(Outcome::Granted)?;
        let queued = if waiters.is_empty() { 0 } else { QUEUED };
        self.state.store(WRITER | queued, Release);
        Some(Granted::Writer(first))
    }

    /// To all readers that wait, and to so many who do not. The same.
    fn grant_readers(&self, waiters: &mut Waiters, others: usize) -> Option<Granted> {
        let readers = waiters.readers.len();
        if readers + others == 0 {
            return None;
        }
        let queued = if waiters.writers.is_empty() { 0 } else { QUEUED };
        self.state.store(((readers + others) * READER) | queued, Release);
        Some(Granted::Readers(waiters.readers.take(Outcome::Granted)))
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
            self.end_grant(waiters, granted);
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

// SAFETY: as above.
#[cfg(not(loom))]
unsafe impl lock_api::RawRwLockTimed for RawRwLock {
    type Duration = Duration;
    type Instant = Instant;

    fn try_lock_shared_for(&self, timeout: Duration) -> bool {
        self.acquire_shared_until(Until::after(timeout).not_cancelled())
    }

    fn try_lock_shared_until(&self, deadline: Instant) -> bool {
        self.acquire_shared_until(Until::at(deadline).not_cancelled())
    }

    fn try_lock_exclusive_for(&self, timeout: Duration) -> bool {
        self.acquire_exclusive_until(Until::after(timeout).not_cancelled())
    }

    fn try_lock_exclusive_until(&self, deadline: Instant) -> bool {
        self.acquire_exclusive_until(Until::at(deadline).not_cancelled())
    }
}

/// A value that one thread at a time may change, and otherwise several may read.
///
/// Who reads while it reads already uses [`read_recursive`](RwLock::read_recursive): by [`read`](RwLock::read) it would queue
/// behind a writer that waits for it.
///
/// ```
/// use morestack::sync::RwLock;
///
/// static NAMES: RwLock<Vec<&str>> = RwLock::new(Vec::new());
///
/// NAMES.write().push("one");
/// let readers: Vec<_> = (0..10).map(|_| morestack::spawn(|| NAMES.read().len())).collect();
/// assert!(readers.into_iter().all(|reader| reader.join().unwrap() == 1));
/// ```
// Not an alias, and no `Deref`: as for `Mutex`.
#[cfg(not(loom))]
#[derive(Default)]
pub struct RwLock<T: ?Sized>(lock_api::RwLock<RawRwLock, T>);

/// What [`RwLock::read`] returns.
#[cfg(not(loom))]
pub type RwLockReadGuard<'a, T> = lock_api::RwLockReadGuard<'a, RawRwLock, T>;

/// What [`RwLock::write`] returns.
#[cfg(not(loom))]
pub type RwLockWriteGuard<'a, T> = lock_api::RwLockWriteGuard<'a, RawRwLock, T>;

/// An [`RwLockReadGuard`] of a part of the value.
#[cfg(not(loom))]
pub type MappedRwLockReadGuard<'a, T> = lock_api::MappedRwLockReadGuard<'a, RawRwLock, T>;

/// An [`RwLockWriteGuard`] of a part of the value.
#[cfg(not(loom))]
pub type MappedRwLockWriteGuard<'a, T> = lock_api::MappedRwLockWriteGuard<'a, RawRwLock, T>;

#[cfg(not(loom))]
impl<T> RwLock<T> {
    /// A lock that nobody holds.
    #[inline]
    pub const fn new(value: T) -> RwLock<T> {
        RwLock(lock_api::RwLock::new(value))
    }

    /// The value.
    pub fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

#[cfg(not(loom))]
impl<T: ?Sized> RwLock<T> {
    fn raw(&self) -> &RawRwLock {
        // SAFETY: not unlocked but by guards.
        unsafe { self.0.raw() }
    }

    /// Waits until it may read. Dropping the guard ends that.
    ///
    /// In a destructor during a panic it blocks the worker, as [`park`](crate::park()) does.
    #[inline(always)]
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        if !self.raw().acquire_shared_or_unwind(Until::CANCELLED) {
            cancel::raise();
        }
        // SAFETY: acquired just now.
        unsafe { self.0.make_read_guard_unchecked() }
    }

    /// Reads if nobody writes or waits.
    #[inline]
    pub fn try_read(&self) -> Option<RwLockReadGuard<'_, T>> {
        self.0.try_read()
    }

    /// Waits for `timeout` at most until it may read.
    ///
    /// ```
    /// use std::time::Duration;
    /// use morestack::sync::RwLock;
    ///
    /// static VALUE: RwLock<u32> = RwLock::new(1);
    ///
    /// let writing = VALUE.write();
    /// let other = morestack::spawn(|| VALUE.try_read_for(Duration::from_millis(2)).is_none());
    /// assert!(other.join().unwrap());
    /// drop(writing);
    /// assert_eq!(VALUE.try_read_for(Duration::from_millis(2)).as_deref(), Some(&1));
    /// ```
    pub fn try_read_for(&self, timeout: Duration) -> Option<RwLockReadGuard<'_, T>> {
        // SAFETY: acquired just now.
        self.raw()
            .acquire_shared_or_unwind(Until::after(timeout))
            .then(|| unsafe { self.0.make_read_guard_unchecked() })
    }

    /// The same until `deadline`.
    ///
    /// ```
    /// # use std::time::{Duration, Instant};
    /// # use morestack::sync::RwLock;
    /// let (lock, deadline) = (RwLock::new(()), Instant::now() + Duration::from_millis(2));
    /// let writing = lock.write();
    /// assert!(lock.try_read_until(deadline).is_none() && Instant::now() >= deadline);
    /// ```
    pub fn try_read_until(&self, deadline: Instant) -> Option<RwLockReadGuard<'_, T>> {
        // SAFETY: acquired just now.
        self.raw().acquire_shared_or_unwind(Until::at(deadline)).then(|| unsafe { self.0.make_read_guard_unchecked() })
    }

    /// The same as [`read`](RwLock::read) for one that may read already: it does not wait behind a writer that waits, while
    /// anybody reads.
    ///
    /// ```
    /// # use morestack::sync::RwLock;
    /// let lock = RwLock::new(1);
    /// let outer = lock.read();
    /// assert_eq!(*outer, *lock.read_recursive());
    /// ```
    #[inline]
    pub fn read_recursive(&self) -> RwLockReadGuard<'_, T> {
        if !self.raw().acquire_shared_recursive_or_unwind(Until::CANCELLED) {
            cancel::raise();
        }
        // SAFETY: as in `read`.
        unsafe { self.0.make_read_guard_unchecked() }
    }

    /// The same, if it need not wait.
    #[inline]
    pub fn try_read_recursive(&self) -> Option<RwLockReadGuard<'_, T>> {
        self.0.try_read_recursive()
    }

    /// Waits until it may write. Dropping the guard ends that.
    ///
    /// In a destructor during a panic it blocks the worker, as [`park`](crate::park()) does.
    #[inline(always)]
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        if !self.raw().acquire_exclusive_or_unwind(Until::CANCELLED) {
            cancel::raise();
        }
        // SAFETY: acquired just now.
        unsafe { self.0.make_write_guard_unchecked() }
    }

    /// Writes if nobody reads or writes.
    #[inline]
    pub fn try_write(&self) -> Option<RwLockWriteGuard<'_, T>> {
        self.0.try_write()
    }

    /// Waits for `timeout` at most until it may write.
    ///
    /// ```
    /// use std::time::Duration;
    /// use morestack::sync::RwLock;
    ///
    /// static VALUE: RwLock<u32> = RwLock::new(1);
    ///
    /// let reading = VALUE.read();
    /// let other = morestack::spawn(|| VALUE.try_write_for(Duration::from_millis(2)).is_none());
    /// assert!(other.join().unwrap());
    /// drop(reading);
    /// *VALUE.try_write_for(Duration::from_millis(2)).unwrap() += 1;
    /// ```
    pub fn try_write_for(&self, timeout: Duration) -> Option<RwLockWriteGuard<'_, T>> {
        // SAFETY: acquired just now.
        self.raw()
            .acquire_exclusive_or_unwind(Until::after(timeout))
            .then(|| unsafe { self.0.make_write_guard_unchecked() })
    }

    /// The same until `deadline`.
    ///
    /// ```
    /// # use std::time::{Duration, Instant};
    /// # use morestack::sync::RwLock;
    /// let (lock, deadline) = (RwLock::new(()), Instant::now() + Duration::from_millis(2));
    /// let reading = lock.read();
    /// assert!(lock.try_write_until(deadline).is_none() && Instant::now() >= deadline);
    /// ```
    pub fn try_write_until(&self, deadline: Instant) -> Option<RwLockWriteGuard<'_, T>> {
        // SAFETY: acquired just now.
        self.raw()
            .acquire_exclusive_or_unwind(Until::at(deadline))
            .then(|| unsafe { self.0.make_write_guard_unchecked() })
    }

    /// Whether anybody reads or writes now.
    pub fn is_locked(&self) -> bool {
        self.raw().is_locked()
    }

    /// Whether somebody writes now.
    pub fn is_locked_exclusive(&self) -> bool {
        self.raw().is_locked_exclusive()
    }

    /// The value: nobody else has the lock.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }
}

#[cfg(not(loom))]
impl<T> From<T> for RwLock<T> {
    fn from(value: T) -> RwLock<T> {
        RwLock::new(value)
    }
}

#[cfg(not(loom))]
impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
