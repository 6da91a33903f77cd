//! The condition variable: a queue of those who wait.
//!
//! Who waits queues before it unlocks the mutex. So who has locked the mutex afterwards, and notifies, finds it. It is woken
//! by being dequeued, and by nothing else: there are no wake-ups without a notification. Then it locks the mutex as
//! everybody does; where many are woken at a time, those who find it locked queue there.
//!
//! *Leaving early*: see [`super::queue`]. Who was notified and leaves nevertheless has to notify another; and locks the
//! mutex first, in any case, since a guard of it exists. Nobody does now.

use std::fmt;

use lock_api::RawMutex as _;

use super::queue::{Outcome, Queue, Wait};
use super::{MutexGuard, RawMutex};
use crate::atomics::Mutex;

/// Where those wait who hold a [`Mutex`](super::Mutex) and need what it protects to change.
///
/// As `parking_lot`'s. A wait ends by a notification only; but what it was notified of may have changed again when it holds
/// the mutex, so wait in a loop, or with [`wait_while`](Condvar::wait_while).
///
/// ```
/// use std::sync::Arc;
/// use morestack::sync::{Condvar, Mutex};
///
/// let pair = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
/// let consumer = morestack::spawn({
///     let pair = pair.clone();
///     move || {
///         let (queue, filled) = &*pair;
///         let mut queue = queue.lock();
///         filled.wait_while(&mut queue, |queue| queue.is_empty());
///         queue.pop()
///     }
/// });
/// let (queue, filled) = &*pair;
/// queue.lock().push(42);
/// filled.notify_one();
/// assert_eq!(consumer.join().unwrap(), Some(42));
/// ```
pub struct Condvar {
    queue: Mutex<Queue>,
}

impl Condvar {
    /// A condition variable that nobody waits for.
    pub const fn new() -> Condvar {
        Condvar { queue: Mutex::new(Queue::new()) }
    }

    /// Unlocks the mutex, waits until it is notified, and locks the mutex again. Whoever locks the mutex in between and
    /// then notifies wakes it.
    ///
    /// In a destructor during a panic it blocks the worker, as [`park`](crate::park()) does.
    pub fn wait<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>) {
        // SAFETY: unlocked and locked again below, while the guard is borrowed.
        let mutex: &RawMutex = unsafe { MutexGuard::mutex(guard).raw() };
        let wait = Wait::new(0);
        self.queue.lock().push(&wait);
        // SAFETY: the guard says that it is locked, and is not used before it is again. Nothing unwinds meanwhile.
        unsafe { mutex.unlock() };
        wait.block();
        mutex.lock();
    }

    /// Waits as long as `condition` says so.
    pub fn wait_while<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>, mut condition: impl FnMut(&mut T) -> bool) {
        while condition(&mut *guard) {
            self.wait(guard);
        }
    }

    /// Wakes the one that has waited for longest; false if nobody waits.
    pub fn notify_one(&self) -> bool {
        let first = self.queue.lock().pop(Outcome::Woken);
        first.map(|waker| waker.wake()).is_some()
    }

    /// Wakes all that wait, and says how many.
    pub fn notify_all(&self) -> usize {
        let (waiting, all) = {
            let mut queue = self.queue.lock();
            (queue.len(), queue.take(Outcome::Woken))
        };
        all.wake();
        waiting
    }
}

impl Default for Condvar {
    fn default() -> Condvar {
        Condvar::new()
    }
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Condvar { .. }")
    }
}
