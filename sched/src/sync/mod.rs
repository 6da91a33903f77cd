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
//! | [`Barrier`], [`OnceLock`], [`LazyLock`] | std's | all go on together |
//! | [`WaitGroup`] | crossbeam's, Go's | all go on together |
//!
//! # Deadlines
//!
//! | | |
//! |---|---|
//! | [`Mutex`] | [`try_lock_for`](Mutex::try_lock_for), [`try_lock_until`](Mutex::try_lock_until) |
//! | [`RwLock`] | [`try_read_for`](RwLock::try_read_for), [`try_write_for`](RwLock::try_write_for), and `_until` |
//! | [`Condvar`] | [`wait_for`](Condvar::wait_for), [`wait_while_for`](Condvar::wait_while_for), and `_until` |
//! | [`Semaphore`] | [`try_acquire_for`](Semaphore::try_acquire_for), [`try_acquire_many_for`](Semaphore::try_acquire_many_for), and `_until` |
//!
//! Who comes to its deadline leaves the queue, and those behind it go on as if it had never been there. What it was given at
//! the last moment it keeps.
//!
//! # Cancellation
//!
//! To wait here is a point of [cancellation](crate::JoinHandle::cancel), and so is locking, as a safepoint: the green thread leaves
//! the queue as at a deadline, and unwinds. What it was given at the last moment it keeps, a lock, a permit or a notification,
//! and the next wait unwinds. [`Condvar`] locks the mutex again before. Unlocking, notifying, and what only tries, never unwind.
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
    pub use super::mutex::{MappedMutexGuard, Mutex, MutexGuard, RawMutex};
    pub use super::once_lock::{LazyLock, OnceLock};
    pub use super::rwlock::{
        MappedRwLockReadGuard, MappedRwLockWriteGuard, RawRwLock, RwLock, RwLockReadGuard, RwLockWriteGuard,
    };
    pub use super::semaphore::{OwnedSemaphoreGuard, Semaphore, SemaphoreGuard};
    pub use super::wait_group::WaitGroup;
}
