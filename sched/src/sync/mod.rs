//! Locks for green threads and OS threads alike.
//!
//! A green thread that has to wait parks, and leaves its OS thread to others; an OS thread blocks. Both may use the same
//! lock at the same time. A green thread that unwinds, or that is in [`blocking`](crate::blocking()), blocks its OS thread.
//!
//! ```
//! use std::sync::Arc;
//! use morestack::sync::Mutex;
//!
//! let counter = Arc::new(Mutex::new(0));
//! let threads: Vec<_> = (0..100)
//!     .map(|_| {
//!         let counter = counter.clone();
//!         morestack::spawn(move || *counter.lock() += 1)
//!     })
//!     .collect();
//! threads.into_iter().for_each(|thread| thread.join().unwrap());
//! assert_eq!(*counter.lock(), 100);
//! ```
//!
//! | | as | who waits |
//! |---|---|---|
//! | [`Mutex`] | parking_lot's | may be overtaken for a fraction of a millisecond, then it is its turn |
//! | [`RwLock`] | parking_lot's | readers for one writer, writers for those that came before and the readers in between |
//! | [`Condvar`] | parking_lot's | first come, first notified |
//! | [`Semaphore`] | tokio's, Go's `semaphore.Weighted` | first come, first served |
//! | [`Barrier`], [`OnceLock`] | std's | all go on together |
//! | [`WaitGroup`] | crossbeam's, Go's | all go on together |
//!
//! # Deadlines
//!
//! | | |
//! |---|---|
//! | [`Mutex`] | [`try_lock_for`](lock_api::Mutex::try_lock_for), [`try_lock_until`](lock_api::Mutex::try_lock_until) |
//! | [`RwLock`] | [`try_read_for`](lock_api::RwLock::try_read_for), [`try_write_for`](lock_api::RwLock::try_write_for), and `_until` |
//! | [`Condvar`] | [`wait_for`](Condvar::wait_for), [`wait_while_for`](Condvar::wait_while_for), and `_until` |
//! | [`Semaphore`] | [`try_acquire_for`](Semaphore::try_acquire_for), [`try_acquire_many_for`](Semaphore::try_acquire_many_for), and `_until` |
//!
//! Who comes to its deadline leaves the queue, and those behind it go on as if it had never been there. What it was given at
//! the last moment it keeps.
//!
//! # Panics
//!
//! No lock is poisoned: a guard that is dropped by a panic unlocks.
//!
//! # Guards and the scheduler
//!
//! A guard may be held while the green thread waits, yields or is preempted, and may be sent to another thread: others
//! that want the lock wait meanwhile, but never keep the holder from running. It is otherwise with the locks of `std` and
//! `parking_lot`, which block the worker.
//!
//! Locking is a safepoint, unlocking is none.
//!
//! # Inside
//!
//! | module | what |
//! |---|---|
//! | `queue` | waiting: by parking or blocking, in which order |
//! | `mutex`, `rwlock`, `semaphore` | a word each, and how it goes with the queue |
//! | `condvar`, `barrier`, `wait_group`, `once_lock` | the same with all under the lock of the queue |
//!
//! The guards are those of the crate `lock_api`, for parts of the value, too. Its traits are implemented by [`RawMutex`] and
//! [`RawRwLock`].

#[cfg(not(loom))]
mod barrier;
pub(crate) mod condvar;
pub(crate) mod mutex;
#[cfg(not(loom))]
mod once_lock;
pub(crate) mod queue;
pub(crate) mod rwlock;
pub(crate) mod semaphore;
#[cfg(not(loom))]
mod wait_group;

#[cfg(not(loom))]
pub use self::public::*;

#[cfg(not(loom))]
mod public {
    pub use super::barrier::{Barrier, BarrierWaitResult};
    pub use super::condvar::{Condvar, WaitTimeoutResult};
    pub use super::mutex::RawMutex;
    pub use super::once_lock::OnceLock;
    pub use super::rwlock::RawRwLock;
    pub use super::semaphore::{Semaphore, SemaphoreGuard};
    pub use super::wait_group::WaitGroup;

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
    pub type Mutex<T> = lock_api::Mutex<RawMutex, T>;

    /// What [`Mutex::lock`](lock_api::Mutex::lock) returns: it unlocks when it is dropped.
    pub type MutexGuard<'a, T> = lock_api::MutexGuard<'a, RawMutex, T>;

    /// A [`MutexGuard`] of a part of the value.
    pub type MappedMutexGuard<'a, T> = lock_api::MappedMutexGuard<'a, RawMutex, T>;

    /// A value that one thread at a time may change, and otherwise several may read.
    ///
    /// Who reads while it reads already uses [`read_recursive`](lock_api::RwLock::read_recursive): by
    /// [`read`](lock_api::RwLock::read) it would queue behind a writer that waits for it.
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
    pub type RwLock<T> = lock_api::RwLock<RawRwLock, T>;

    /// What [`RwLock::read`](lock_api::RwLock::read) returns.
    pub type RwLockReadGuard<'a, T> = lock_api::RwLockReadGuard<'a, RawRwLock, T>;

    /// What [`RwLock::write`](lock_api::RwLock::write) returns.
    pub type RwLockWriteGuard<'a, T> = lock_api::RwLockWriteGuard<'a, RawRwLock, T>;

    /// An [`RwLockReadGuard`] of a part of the value.
    pub type MappedRwLockReadGuard<'a, T> = lock_api::MappedRwLockReadGuard<'a, RawRwLock, T>;

    /// An [`RwLockWriteGuard`] of a part of the value.
    pub type MappedRwLockWriteGuard<'a, T> = lock_api::MappedRwLockWriteGuard<'a, RawRwLock, T>;
}
