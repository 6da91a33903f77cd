//! The condition variable: a queue of those who wait.
//!
//! Who waits queues before it unlocks the mutex. So who has locked the mutex afterwards, and notifies, finds it. It is woken
//! by being dequeued, and by nothing else: there are no wake-ups without a notification. Then it locks the mutex as
//! everybody does; where many are woken at a time, those who find it locked queue there.
//!
//! *Leaving early*: see [`super::queue`]. Who is removed leaves nothing behind. Who was notified keeps that: it does not leave.
//! Both lock the mutex, however long that takes, since a guard of it exists; who was cancelled unwinds then.

#[cfg(not(loom))]
use std::fmt;
#[cfg(not(loom))]
use std::time::{Duration, Instant};

#[cfg(not(loom))]
use super::MutexGuard;
use super::mutex::RawMutex;
#[cfg(not(loom))]
use super::queue::or_unwind;
use super::queue::{Outcome, Queue, Until, Wait};
use crate::atomics::Mutex;

/// The condition variable without guards.
pub(crate) struct RawCondvar {
    pub(crate) queue: Mutex<Queue>,
}

impl RawCondvar {
    #[cfg(not(loom))]
    const fn new() -> RawCondvar {
        RawCondvar { queue: Mutex::new(Queue::new()) }
    }

    #[cfg(loom)]
    pub(crate) fn new() -> RawCondvar {
        RawCondvar { queue: Mutex::new(Queue::new()) }
    }

    /// Whether it was notified; if not it has left early. The mutex is locked again in any case.
    ///
    /// # Safety
    ///
    /// It is locked, and the caller's to unlock.
    pub(crate) unsafe fn wait(&self, mutex: &RawMutex, until: Until) -> bool {
        let wait = Wait::new(0);
        self.queue.lock().push(&wait);
        // SAFETY: by the contract.
        unsafe { mutex.release() };
        let notified = wait.block_or_leave(until, || self.queue.lock().leave(&wait));
        drop(wait);
        mutex.acquire();
        notified
    }

    pub(crate) fn notify_one(&self) -> bool {
        let first = self.queue.lock().pop(Outcome::Woken);
        first.map(|waker| waker.wake()).is_some()
    }

    pub(crate) fn notify_all(&self) -> usize {
        let (waiting, all) = {
            let mut queue = self.queue.lock();
            (queue.len(), queue.take(Outcome::Woken))
        };
        all.wake();
        waiting
    }
}

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
#[cfg(not(loom))]
pub struct Condvar(RawCondvar);

#[cfg(not(loom))]
impl Condvar {
    /// A condition variable that nobody waits for.
    pub const fn new() -> Condvar {
        Condvar(RawCondvar::new())
    }

    /// Unlocks the mutex, waits until it is notified, and locks the mutex again. Whoever locks the mutex in between and
    /// then notifies wakes it.
    ///
    /// In a destructor during a panic it blocks the worker, as [`park`](crate::park()) does.
    pub fn wait<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>) {
        self.wait_as_long(guard, Until::CANCELLED);
    }

    fn wait_as_long<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>, until: Until) -> WaitTimeoutResult {
        // SAFETY: unlocked and locked again by `wait`, while the guard is borrowed.
        let mutex: &RawMutex = unsafe { MutexGuard::mutex(guard).raw() };
        // SAFETY: the guard says that it is locked, and is not used before it is again. Nothing unwinds meanwhile.
        let notified = unsafe { self.0.wait(mutex, until) };
        // It unwinds with the mutex locked.
        WaitTimeoutResult(!or_unwind(notified))
    }

    /// The same as [`wait`](Condvar::wait), for `timeout` at most. To lock the mutex again may take longer.
    ///
    /// ```
    /// use std::time::Duration;
    /// use morestack::sync::{Condvar, Mutex};
    ///
    /// let (mutex, condvar) = (Mutex::new(()), Condvar::new());
    /// let mut guard = mutex.lock();
    /// assert!(condvar.wait_for(&mut guard, Duration::from_millis(2)).timed_out());
    /// assert!(mutex.is_locked());
    /// ```
    pub fn wait_for<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>, timeout: Duration) -> WaitTimeoutResult {
        self.wait_as_long(guard, Until::after(timeout))
    }

    /// The same until `deadline`.
    ///
    /// ```
    /// # use std::time::{Duration, Instant};
    /// # use morestack::sync::{Condvar, Mutex};
    /// # let (mutex, condvar) = (Mutex::new(()), Condvar::new());
    /// let (mut guard, deadline) = (mutex.lock(), Instant::now() + Duration::from_millis(2));
    /// assert!(condvar.wait_until(&mut guard, deadline).timed_out() && Instant::now() >= deadline);
    /// ```
    pub fn wait_until<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>, deadline: Instant) -> WaitTimeoutResult {
        self.wait_as_long(guard, Until::at(deadline))
    }

    /// Waits as long as `condition` says so.
    pub fn wait_while<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>, condition: impl FnMut(&mut T) -> bool) {
        self.wait_while_as_long(guard, condition, Until::CANCELLED);
    }

    fn wait_while_as_long<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        mut condition: impl FnMut(&mut T) -> bool,
        until: Until,
    ) -> WaitTimeoutResult {
        let (mut result, until) = (WaitTimeoutResult(false), until.begin());
        while !result.timed_out() && condition(&mut *guard) {
            result = self.wait_as_long(guard, until);
        }
        result
    }

    /// The same, for `timeout` at most. If that has passed the condition may have become false at the last moment: look again.
    ///
    /// ```
    /// use std::time::Duration;
    /// use morestack::sync::{Condvar, Mutex};
    ///
    /// let (queue, filled) = (Mutex::new(vec![1]), Condvar::new());
    /// let (mut queue, timeout) = (queue.lock(), Duration::from_millis(2));
    /// assert!(!filled.wait_while_for(&mut queue, |queue| queue.is_empty(), timeout).timed_out());
    /// queue.clear();
    /// assert!(filled.wait_while_for(&mut queue, |queue| queue.is_empty(), timeout).timed_out());
    /// ```
    pub fn wait_while_for<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        condition: impl FnMut(&mut T) -> bool,
        timeout: Duration,
    ) -> WaitTimeoutResult {
        self.wait_while_as_long(guard, condition, Until::after(timeout))
    }

    /// The same until `deadline`.
    ///
    /// ```
    /// # use std::time::{Duration, Instant};
    /// # use morestack::sync::{Condvar, Mutex};
    /// let (queue, filled) = (Mutex::new(Vec::<u32>::new()), Condvar::new());
    /// let (mut queue, deadline) = (queue.lock(), Instant::now() + Duration::from_millis(2));
    /// assert!(filled.wait_while_until(&mut queue, |queue| queue.is_empty(), deadline).timed_out());
    /// ```
    pub fn wait_while_until<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        condition: impl FnMut(&mut T) -> bool,
        deadline: Instant,
    ) -> WaitTimeoutResult {
        self.wait_while_as_long(guard, condition, Until::at(deadline))
    }

    /// Wakes the one that has waited for longest; false if nobody waits.
    pub fn notify_one(&self) -> bool {
        self.0.notify_one()
    }

    /// Wakes all that wait, and says how many.
    pub fn notify_all(&self) -> usize {
        self.0.notify_all()
    }
}

/// Whether a wait has ended by its time having passed: no notification was used up then.
#[cfg(not(loom))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitTimeoutResult(bool);

#[cfg(not(loom))]
impl WaitTimeoutResult {
    /// It has.
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

#[cfg(not(loom))]
impl Default for Condvar {
    fn default() -> Condvar {
        Condvar::new()
    }
}

#[cfg(not(loom))]
impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Condvar { .. }")
    }
}
