//! The semaphore: permits in a word for those who need not wait, a queue for those who do.
//!
//! The word is QUEUED, and twice the number of permits. While QUEUED is clear, permits are taken and given back by a
//! compare-exchange. While it is set, the word is changed under the lock of the queue only: who gives back grants to those
//! who wait, in their order, as long as there is enough for the first, and clears QUEUED with the last of them.
//!
//! *QUEUED says whether the queue is empty*, whenever its lock is free. It is set, under the lock, by a compare-exchange of a
//! word that has too few permits; who gives back comes before that, and then there are more, or finds QUEUED.
//! So nobody waits for what is there: for each word with QUEUED in it there is too little for the first.
//!
//! *Order.* Taking acquires, giving back releases; with QUEUED set both are under the lock.
//!
//! *Leaving early*: see [`super::queue`]. Who is removed grants again, under the lock: it may have been the first, and have
//! wanted more than the next. With the last of them QUEUED goes. Who was granted its permits keeps them.

#[cfg(not(loom))]
use std::fmt;
#[cfg(not(loom))]
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
#[cfg(not(loom))]
use std::time::{Duration, Instant};

#[cfg(not(loom))]
use super::queue::or_unwind;
use super::queue::{How, Outcome, Queue, Until, Wait};
use crate::atomics::{AtomicUsize, Mutex, MutexGuard};
#[cfg(not(loom))]
use crate::cancel;
use crate::channel::Waker;

pub(crate) const QUEUED: usize = 1;
pub(crate) const PERMIT: usize = 2;

/// The semaphore without guards.
pub(crate) struct RawSemaphore {
    pub(crate) state: AtomicUsize,
    pub(crate) queue: Mutex<Queue>,
}

impl RawSemaphore {
    #[cfg(not(loom))]
    const fn new(permits: usize) -> RawSemaphore {
        assert!(permits <= Semaphore::MAX_PERMITS, "too many permits");
        RawSemaphore { state: AtomicUsize::new(permits * PERMIT), queue: Mutex::new(Queue::new()) }
    }

    #[cfg(loom)]
    pub(crate) fn new(permits: usize) -> RawSemaphore {
        RawSemaphore { state: AtomicUsize::new(permits * PERMIT), queue: Mutex::new(Queue::new()) }
    }

    #[inline]
    pub(crate) fn try_acquire(&self, permits: usize) -> bool {
        let mut state = self.state.load(Relaxed);
        while state & QUEUED == 0 && state / PERMIT >= permits {
            match self.state.compare_exchange_weak(state, state - permits * PERMIT, Acquire, Relaxed) {
                Ok(_) => return true,
                Err(now) => state = now,
            }
        }
        false
    }

    /// False if it has left early.
    #[inline]
    pub(crate) fn acquire(&self, permits: usize, until: Until) -> bool {
        self.try_acquire(permits) || self.acquire_slow(permits, until)
    }

    #[cold]
    #[inline(never)]
    fn acquire_slow(&self, permits: usize, until: Until) -> bool {
        loop {
            if let Some(wait) = self.queue(permits) {
                return match wait.block(until) {
                    How::Dequeued(_) => true,
                    How::Early => self.leave(&wait),
                };
            }
            if self.try_acquire(permits) {
                return true;
            }
        }
    }

    /// Queues; not if they are to be had, or if the word changes.
    pub(crate) fn queue(&self, permits: usize) -> Option<Wait> {
        let mut queue = self.queue.lock();
        let state = self.state.load(Relaxed);
        if state & QUEUED == 0
            && (state / PERMIT >= permits
                || self.state.compare_exchange(state, state | QUEUED, Relaxed, Relaxed).is_err())
        {
            return None;
        }
        let wait = Wait::new(permits);
        queue.push(&wait);
        Some(wait)
    }

    /// Ends the caller's wait early. Whether it has the permits nevertheless.
    #[cold]
    fn leave(&self, wait: &Wait) -> bool {
        let mut queue = self.queue.lock();
        let granted = queue.leave(wait) == Outcome::Granted;
        if granted {
            drop(queue);
            wait.block(Until::DEQUEUED);
        } else {
            // Acquired for those to whom it grants.
            let left = self.state.load(Acquire) / PERMIT;
            self.grant(queue, left);
        }
        granted
    }

    /// False if there would be too many of them.
    #[inline]
    pub(crate) fn release(&self, permits: usize) -> bool {
        let mut state = self.state.load(Relaxed);
        while state & QUEUED == 0 {
            let Some(more) = permits.checked_mul(PERMIT).and_then(|more| state.checked_add(more)) else { return false };
            match self.state.compare_exchange_weak(state, more, Release, Relaxed) {
                Ok(_) => return true,
                Err(now) => state = now,
            }
        }
        self.release_slow(permits)
    }

    #[cold]
    #[inline(never)]
    fn release_slow(&self, permits: usize) -> bool {
        let queue = self.queue.lock();
        // With what came with the permits that are there.
        let state = self.state.load(Acquire);
        if state & QUEUED == 0 {
            // Somebody else has granted meanwhile.
            drop(queue);
            return self.release(permits);
        }
        let Some(left) = (state / PERMIT).checked_add(permits).filter(|left| *left <= usize::MAX / PERMIT) else {
            return false;
        };
        self.grant(queue, left);
        true
    }

    /// To the first of the queue, as long as there is enough left. QUEUED is set.
    fn grant(&self, mut queue: MutexGuard<'_, Queue>, mut left: usize) {
        let mut granted: Vec<Waker> = Vec::new();
        while let Some(wants) = queue.first_wants().filter(|wants| *wants <= left) {
            left -= wants;
            granted.extend(queue.pop(Outcome::Granted));
        }
        self.state.store((left * PERMIT) | if queue.is_empty() { 0 } else { QUEUED }, Release);
        drop(queue);
        granted.into_iter().for_each(Waker::wake);
    }
}

/// A number of permits, to be taken and given back: as many may do something at a time.
///
/// Those who wait get them in the order in which they came; who wants many is not overtaken by who wants few.
///
/// ```
/// use std::sync::Arc;
/// use morestack::sync::Semaphore;
///
/// let connections = Arc::new(Semaphore::new(2)); // no more at a time
/// let requests: Vec<_> = (0..10)
///     .map(|n| {
///         let connections = connections.clone();
///         morestack::spawn(move || {
///             let _connection = connections.acquire();
///             n * n
///         })
///     })
///     .collect();
/// assert_eq!(requests.into_iter().map(|request| request.join().unwrap()).sum::<u32>(), 285);
/// assert_eq!(connections.available_permits(), 2);
/// ```
#[cfg(not(loom))]
pub struct Semaphore(RawSemaphore);

#[cfg(not(loom))]
impl Semaphore {
    /// More permits than that are a mistake.
    pub const MAX_PERMITS: usize = usize::MAX / PERMIT;

    /// A semaphore with so many permits.
    ///
    /// # Panics
    ///
    /// If there are more than [`MAX_PERMITS`](Semaphore::MAX_PERMITS).
    pub const fn new(permits: usize) -> Semaphore {
        Semaphore(RawSemaphore::new(permits))
    }

    /// Takes a permit; waits until there is one for the caller. Dropping the guard gives it back.
    pub fn acquire(&self) -> SemaphoreGuard<'_> {
        self.acquire_many(1)
    }

    /// Takes so many permits at a time.
    pub fn acquire_many(&self, permits: usize) -> SemaphoreGuard<'_> {
        crate::checkpoint();
        if !or_unwind(self.0.acquire(permits, Until::CANCELLED)) {
            cancel::raise();
        }
        SemaphoreGuard { semaphore: self, permits }
    }

    /// Takes a permit if there is one and nobody waits.
    ///
    /// ```
    /// use morestack::sync::Semaphore;
    /// let semaphore = Semaphore::new(1);
    /// let permit = semaphore.try_acquire();
    /// assert!(permit.is_some() && semaphore.try_acquire().is_none());
    /// ```
    pub fn try_acquire(&self) -> Option<SemaphoreGuard<'_>> {
        self.try_acquire_many(1)
    }

    /// Takes so many permits if there are as many and nobody waits.
    pub fn try_acquire_many(&self, permits: usize) -> Option<SemaphoreGuard<'_>> {
        self.0.try_acquire(permits).then(|| SemaphoreGuard { semaphore: self, permits })
    }

    /// Takes a permit; waits for `timeout` at most until there is one for the caller.
    ///
    /// ```
    /// use std::time::Duration;
    /// use morestack::sync::Semaphore;
    ///
    /// static SEMAPHORE: Semaphore = Semaphore::new(1);
    ///
    /// let permit = SEMAPHORE.acquire();
    /// let other = morestack::spawn(|| SEMAPHORE.try_acquire_for(Duration::from_millis(2)).is_none());
    /// assert!(other.join().unwrap());
    /// drop(permit);
    /// assert!(SEMAPHORE.try_acquire_for(Duration::from_millis(2)).is_some());
    /// ```
    pub fn try_acquire_for(&self, timeout: Duration) -> Option<SemaphoreGuard<'_>> {
        self.try_acquire_many_for(1, timeout)
    }

    /// The same until `deadline`.
    ///
    /// ```
    /// # use std::time::{Duration, Instant};
    /// # use morestack::sync::Semaphore;
    /// let (none, deadline) = (Semaphore::new(0), Instant::now() + Duration::from_millis(2));
    /// assert!(none.try_acquire_until(deadline).is_none() && Instant::now() >= deadline);
    /// ```
    pub fn try_acquire_until(&self, deadline: Instant) -> Option<SemaphoreGuard<'_>> {
        self.try_acquire_many_until(1, deadline)
    }

    /// Takes so many permits at a time; waits for `timeout` at most. Who gives up has taken none, and those behind it that
    /// want less go on.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use morestack::sync::Semaphore;
    /// let semaphore = Semaphore::new(3);
    /// assert!(semaphore.try_acquire_many_for(4, Duration::from_millis(2)).is_none());
    /// let three = semaphore.try_acquire_many_for(3, Duration::from_millis(2)).unwrap();
    /// assert_eq!(semaphore.available_permits(), 0);
    /// ```
    pub fn try_acquire_many_for(&self, permits: usize, timeout: Duration) -> Option<SemaphoreGuard<'_>> {
        crate::checkpoint();
        let acquired = or_unwind(self.0.acquire(permits, Until::after(timeout)));
        acquired.then(|| SemaphoreGuard { semaphore: self, permits })
    }

    /// The same until `deadline`.
    ///
    /// ```
    /// # use std::time::{Duration, Instant};
    /// # use morestack::sync::Semaphore;
    /// let (semaphore, deadline) = (Semaphore::new(3), Instant::now() + Duration::from_millis(2));
    /// assert!(semaphore.try_acquire_many_until(3, deadline).is_some());
    /// assert!(semaphore.try_acquire_many_until(4, deadline).is_none());
    /// ```
    pub fn try_acquire_many_until(&self, permits: usize, deadline: Instant) -> Option<SemaphoreGuard<'_>> {
        crate::checkpoint();
        let acquired = or_unwind(self.0.acquire(permits, Until::at(deadline)));
        acquired.then(|| SemaphoreGuard { semaphore: self, permits })
    }

    /// As [`acquire`](Semaphore::acquire), with a guard that may go to another green thread and does not borrow.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use morestack::sync::Semaphore;
    ///
    /// let at_a_time = Arc::new(Semaphore::new(2));
    /// let requests: Vec<_> = (0..10)
    ///     .map(|n| {
    ///         let permit = at_a_time.clone().acquire_owned(); // no more are spawned than may run
    ///         morestack::spawn(move || {
    ///             let _permit = permit;
    ///             n * n
    ///         })
    ///     })
    ///     .collect();
    /// assert_eq!(requests.into_iter().map(|request| request.join().unwrap()).sum::<u32>(), 285);
    /// ```
    pub fn acquire_owned(self: Arc<Self>) -> OwnedSemaphoreGuard {
        self.acquire_many_owned(1)
    }

    /// The same for so many permits at a time.
    pub fn acquire_many_owned(self: Arc<Self>, permits: usize) -> OwnedSemaphoreGuard {
        self.acquire_many(permits).forget();
        OwnedSemaphoreGuard { semaphore: self, permits }
    }

    /// As [`try_acquire`](Semaphore::try_acquire), with a guard that does not borrow.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use morestack::sync::Semaphore;
    /// let semaphore = Arc::new(Semaphore::new(1));
    /// let permit = semaphore.clone().try_acquire_owned().unwrap();
    /// assert!(semaphore.clone().try_acquire_owned().is_none());
    /// morestack::spawn(|| drop(permit)).join().unwrap();
    /// assert_eq!(semaphore.available_permits(), 1);
    /// ```
    pub fn try_acquire_owned(self: Arc<Self>) -> Option<OwnedSemaphoreGuard> {
        self.try_acquire_many_owned(1)
    }

    /// The same for so many permits at a time.
    pub fn try_acquire_many_owned(self: Arc<Self>, permits: usize) -> Option<OwnedSemaphoreGuard> {
        self.try_acquire_many(permits)?.forget();
        Some(OwnedSemaphoreGuard { semaphore: self, permits })
    }

    /// Adds permits: new ones, or those of guards that were [forgotten](SemaphoreGuard::forget).
    ///
    /// ```
    /// use std::sync::Arc;
    /// use morestack::sync::Semaphore;
    ///
    /// let ready = Arc::new(Semaphore::new(0));
    /// let waiter = morestack::spawn({
    ///     let ready = ready.clone();
    ///     move || ready.acquire_many(2).forget()
    /// });
    /// ready.release(2);
    /// waiter.join().unwrap();
    /// assert_eq!(ready.available_permits(), 0);
    /// ```
    ///
    /// # Panics
    ///
    /// If there would be more than [`MAX_PERMITS`](Semaphore::MAX_PERMITS).
    pub fn release(&self, permits: usize) {
        assert!(self.0.release(permits), "too many permits");
    }

    /// The permits that are there now.
    pub fn available_permits(&self) -> usize {
        self.0.state.load(Relaxed) / PERMIT
    }
}

#[cfg(not(loom))]
impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore").field("available_permits", &self.available_permits()).finish()
    }
}

/// Permits of a [`Semaphore`], given back when this is dropped.
#[cfg(not(loom))]
#[must_use = "the permits are given back at once"]
#[derive(Debug)]
pub struct SemaphoreGuard<'a> {
    semaphore: &'a Semaphore,
    permits: usize,
}

#[cfg(not(loom))]
impl SemaphoreGuard<'_> {
    /// Keeps the permits: there are as many less, until somebody [adds](Semaphore::release) them.
    pub fn forget(self) {
        std::mem::forget(self);
    }
}

#[cfg(not(loom))]
impl Drop for SemaphoreGuard<'_> {
    fn drop(&mut self) {
        self.semaphore.release(self.permits);
    }
}

/// Permits of a [`Semaphore`] that it keeps alive, given back when this is dropped.
#[cfg(not(loom))]
#[must_use = "the permits are given back at once"]
#[derive(Debug)]
pub struct OwnedSemaphoreGuard {
    semaphore: Arc<Semaphore>,
    permits: usize,
}

#[cfg(not(loom))]
impl OwnedSemaphoreGuard {
    /// As [`SemaphoreGuard::forget`].
    pub fn forget(mut self) {
        self.permits = 0;
    }
}

#[cfg(not(loom))]
impl Drop for OwnedSemaphoreGuard {
    fn drop(&mut self) {
        self.semaphore.release(self.permits);
    }
}
