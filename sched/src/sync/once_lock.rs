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

use std::cell::UnsafeCell;
use std::fmt;
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
        match self.get() {
            Some(value) => value,
            None => self.init(f),
        }
    }

    #[cold]
    fn init(&self, f: impl FnOnce() -> T) -> &T {
        while self.state.compare_exchange(EMPTY, RUNNING, Acquire, Relaxed).is_err() {
            if let Some(value) = self.get() {
                return value;
            }
            self.wait();
        }
        let mut running = Running { state: &self.state, queue: &self.queue, then: EMPTY };
        let value = f();
        // SAFETY: RUNNING is this call's: nobody else touches it.
        unsafe { *self.value.get() = Some(value) };
        running.then = DONE;
        drop(running);
        self.get().expect("it was written just now")
    }

    /// Waits as long as another initialises it.
    fn wait(&self) {
        let mut queue = self.queue.lock();
        if self.state.load(Relaxed) == RUNNING {
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
