//! The cell that is written once.
//!
//! ```text
//!   EMPTY ── compare-exchange ──► RUNNING ── f returned ──► DONE
//!     ▲                              │
//!     └──────── f panicked ──────────┘
//! ```
//!
//! Whoever made it RUNNING alone touches the value, until DONE is stored with Release; who has loaded DONE with Acquire
//! reads it. RUNNING is left under the lock of the queue, and who waits looks at the word under it, too: so it queues before
//! it is left, and is woken; or finds that it was. All are woken; after a panic one of them, or who comes first, tries.
//!
//! A [`LazyLock`] takes its function out while it is RUNNING, once.

use std::cell::{Cell, UnsafeCell};
use std::convert::Infallible;
use std::fmt;
use std::ops::Deref;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::queue::{Outcome, Queue, Until, Wait};
use crate::atomics::{AtomicU8, Mutex};
use crate::cancel;

const EMPTY: u8 = 0;
const RUNNING: u8 = 1;
const DONE: u8 = 2;

/// A cell that is written once, at most. As std's; who has to wait for another that initialises it parks, where std's blocks
/// the OS thread.
///
/// ```
/// use morestack::sync::OnceLock;
///
/// static PRIMES: OnceLock<Vec<u32>> = OnceLock::new();
///
/// let threads: Vec<_> = (0..10)
///     .map(|_| morestack::spawn(|| PRIMES.get_or_init(|| (2..50).filter(|n| (2..*n).all(|d| n % d != 0)).collect()).len()))
///     .collect();
/// assert!(threads.into_iter().all(|thread| thread.join().unwrap() == 15));
/// assert_eq!(PRIMES.get().unwrap()[3], 7);
/// ```
pub struct OnceLock<T> {
    state: AtomicU8,
    queue: Mutex<Queue>,
    value: UnsafeCell<Option<T>>,
}

// SAFETY: the value is shared by reference, and may be made by one thread and dropped by another.
unsafe impl<T: Send + Sync> Sync for OnceLock<T> {}
// SAFETY: it is owned.
unsafe impl<T: Send> Send for OnceLock<T> {}
impl<T: RefUnwindSafe + UnwindSafe> RefUnwindSafe for OnceLock<T> {}
impl<T: UnwindSafe> UnwindSafe for OnceLock<T> {}

impl<T> OnceLock<T> {
    /// An empty cell.
    pub const fn new() -> OnceLock<T> {
        OnceLock { state: AtomicU8::new(EMPTY), queue: Mutex::new(Queue::new()), value: UnsafeCell::new(None) }
    }

    /// The value, if it is there. Never waits.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        if self.state.load(Acquire) == DONE {
            // SAFETY: nobody writes it any more while it is shared.
            unsafe { &*self.value.get() }.as_ref()
        } else {
            None
        }
    }

    /// The value, if it is there.
    pub fn get_mut(&mut self) -> Option<&mut T> {
        self.value.get_mut().as_mut()
    }

    /// Writes the value, unless there is one. Waits for another that initialises it.
    ///
    /// # Errors
    ///
    /// There is one; this one comes back.
    pub fn set(&self, value: T) -> Result<(), T> {
        let mut value = Some(value);
        self.get_or_init(|| value.take().expect("called once"));
        value.map_or(Ok(()), Err)
    }

    /// The value; `f` makes it if there is none. Of those who come at the same time one calls its `f`, and the others wait.
    ///
    /// In a destructor during a panic waiting blocks the worker, as [`park`](crate::park()) does. If `f` initialises the same
    /// cell it waits for itself, for ever.
    ///
    /// # Panics
    ///
    /// If `f` does; the cell stays empty, and who comes next tries.
    #[inline]
    pub fn get_or_init(&self, f: impl FnOnce() -> T) -> &T {
        let Ok(value) = self.get_or_try_init(|| Ok::<T, Infallible>(f()));
        value
    }

    /// The same with an `f` that may fail.
    ///
    /// # Errors
    ///
    /// That of `f`; the cell stays empty, and who comes next tries.
    ///
    /// # Panics
    ///
    /// As [`get_or_init`](OnceLock::get_or_init).
    ///
    /// ```
    /// use morestack::sync::OnceLock;
    ///
    /// let port = OnceLock::new();
    /// assert!(port.get_or_try_init(|| "http".parse::<u16>()).is_err());
    /// assert_eq!(port.get_or_try_init(|| "80".parse::<u16>()), Ok(&80));
    /// ```
    #[inline]
    pub fn get_or_try_init<E>(&self, f: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        match self.get() {
            Some(value) => Ok(value),
            None => self.init(f),
        }
    }

    #[cold]
    fn init<E>(&self, f: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        while self.state.compare_exchange(EMPTY, RUNNING, Acquire, Relaxed).is_err() {
            if let Some(value) = self.get() {
                return Ok(value);
            }
            self.wait_as_long(|state| state == RUNNING);
        }
        let mut running = Running { state: &self.state, queue: &self.queue, then: EMPTY };
        let value = f()?;
        // SAFETY: RUNNING is this call's: nobody else touches it.
        unsafe { *self.value.get() = Some(value) };
        running.then = DONE;
        drop(running);
        Ok(self.get().expect("it was written just now"))
    }

    /// The value; waits until somebody else has written it.
    ///
    /// In a destructor during a panic it blocks the worker, as [`park`](crate::park()) does.
    ///
    /// ```
    /// use morestack::sync::OnceLock;
    ///
    /// static ADDRESS: OnceLock<String> = OnceLock::new();
    ///
    /// let client = morestack::spawn(|| ADDRESS.wait().len());
    /// ADDRESS.set("localhost".to_owned()).unwrap();
    /// assert_eq!(client.join().unwrap(), 9);
    /// ```
    pub fn wait(&self) -> &T {
        loop {
            if let Some(value) = self.get() {
                return value;
            }
            self.wait_as_long(|state| state != DONE);
        }
    }

    /// Waits until one that initialises it has ended, unless `condition` says that there is nothing to wait for.
    fn wait_as_long(&self, condition: fn(u8) -> bool) {
        let mut queue = self.queue.lock();
        if condition(self.state.load(Relaxed)) {
            let wait = Wait::new(0);
            queue.push(&wait);
            drop(queue);
            if !wait.block_or_leave(Until::CANCELLED, || self.queue.lock().leave(&wait)) {
                cancel::raise();
            }
        }
    }

    /// The value, if there is one. The cell is empty then.
    pub fn take(&mut self) -> Option<T> {
        std::mem::take(self).into_inner()
    }

    /// The value, if there is one.
    pub fn into_inner(self) -> Option<T> {
        self.value.into_inner()
    }
}

/// RUNNING, and what follows it.
struct Running<'a> {
    state: &'a AtomicU8,
    queue: &'a Mutex<Queue>,
    then: u8,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let waiters = {
            let mut queue = self.queue.lock();
            self.state.store(self.then, Release);
            queue.take(Outcome::Woken)
        };
        waiters.wake();
    }
}

impl<T> Default for OnceLock<T> {
    fn default() -> OnceLock<T> {
        OnceLock::new()
    }
}

impl<T> From<T> for OnceLock<T> {
    fn from(value: T) -> OnceLock<T> {
        OnceLock { state: AtomicU8::new(DONE), queue: Mutex::new(Queue::new()), value: UnsafeCell::new(Some(value)) }
    }
}

impl<T: Clone> Clone for OnceLock<T> {
    fn clone(&self) -> OnceLock<T> {
        self.get().cloned().map_or_else(OnceLock::new, OnceLock::from)
    }
}

impl<T: PartialEq> PartialEq for OnceLock<T> {
    fn eq(&self, other: &OnceLock<T>) -> bool {
        self.get() == other.get()
    }
}

impl<T: Eq> Eq for OnceLock<T> {}

impl<T: fmt::Debug> fmt::Debug for OnceLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OnceLock").field(&self.get()).finish()
    }
}

/// A value that is made when it is first used. As std's; who has to wait for another that makes it parks, where std's blocks
/// the OS thread.
///
/// ```
/// use morestack::sync::LazyLock;
///
/// static SQUARES: LazyLock<Vec<u32>> = LazyLock::new(|| (0..10).map(|n| n * n).collect());
///
/// let threads: Vec<_> = (0..10).map(|n| morestack::spawn(move || SQUARES[n])).collect();
/// assert_eq!(threads.into_iter().map(|thread| thread.join().unwrap()).sum::<u32>(), 285);
/// ```
///
/// # Cancellation
///
/// There is one function, and so one attempt: a green thread that is [cancelled](crate::JoinHandle::cancel) in it ends when it
/// has returned.
pub struct LazyLock<T, F = fn() -> T> {
    cell: OnceLock<T>,
    /// Until it is called.
    f: Cell<Option<F>>,
}

// SAFETY: the function is touched by the one thread that initialises the cell, and is dropped with the rest.
unsafe impl<T: Send + Sync, F: Send> Sync for LazyLock<T, F> {}
impl<T: RefUnwindSafe + UnwindSafe, F: UnwindSafe> RefUnwindSafe for LazyLock<T, F> {}
impl<T: UnwindSafe, F: UnwindSafe> UnwindSafe for LazyLock<T, F> {}

impl<T, F: FnOnce() -> T> LazyLock<T, F> {
    /// `f` makes the value.
    pub const fn new(f: F) -> LazyLock<T, F> {
        LazyLock { cell: OnceLock::new(), f: Cell::new(Some(f)) }
    }

    /// The value, which is made if it is not there. What `*lazy` does, too.
    ///
    /// In a destructor during a panic waiting blocks the worker, as [`park`](crate::park()) does. If the function uses the
    /// value it waits for itself, for ever.
    ///
    /// # Panics
    ///
    /// If the function does, or did.
    ///
    /// ```
    /// use morestack::sync::LazyLock;
    /// let lazy = LazyLock::new(|| 6 * 7);
    /// assert_eq!(LazyLock::force(&lazy), &42);
    /// ```
    #[inline]
    pub fn force(this: &LazyLock<T, F>) -> &T {
        this.cell.get_or_init(|| {
            let f = this.f.take().expect("the function of a LazyLock has panicked");
            cancel::never_here(f)
        })
    }
}

impl<T, F: FnOnce() -> T> Deref for LazyLock<T, F> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        LazyLock::force(self)
    }
}

impl<T: Default> Default for LazyLock<T> {
    fn default() -> LazyLock<T> {
        LazyLock::new(T::default)
    }
}

impl<T: fmt::Debug, F> fmt::Debug for LazyLock<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LazyLock").field(&self.cell.get()).finish()
    }
}
