//! The wait group. The number of those who are not done, and those who wait, are under one lock.

use std::fmt;
use std::sync::Arc;

use super::queue::{Outcome, Queue, Until, Wait};
use crate::atomics::Mutex;
use crate::cancel;

/// Waits until all that was begun is done. As crossbeam's: a clone for each part of the work, and the work is done when they
/// are dropped.
///
/// | Go | here |
/// |---|---|
/// | `wg.Add(1)` | `let part = wg.clone()` |
/// | `wg.Done()` | `drop(part)`, also by a panic |
/// | `wg.Wait()` | `wg.wait()` |
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// use morestack::sync::WaitGroup;
///
/// let (group, done) = (WaitGroup::new(), Arc::new(AtomicUsize::new(0)));
/// for _ in 0..10 {
///     let (part, done) = (group.clone(), done.clone());
///     drop(morestack::spawn(move || {
///         done.fetch_add(1, Ordering::Relaxed);
///         drop(part);
///     }));
/// }
/// group.wait();
/// assert_eq!(done.load(Ordering::Relaxed), 10);
/// ```
pub struct WaitGroup(Arc<Mutex<Group>>);

struct Group {
    parts: usize,
    queue: Queue,
}

impl WaitGroup {
    /// A group of one: the caller's part.
    pub fn new() -> WaitGroup {
        WaitGroup(Arc::new(Mutex::new(Group { parts: 1, queue: Queue::new() })))
    }

    /// Drops the caller's part and waits until all others are dropped.
    ///
    /// In a destructor during a panic it blocks the worker, as [`park`](crate::park()) does.
    pub fn wait(self) {
        let group = self.0.clone();
        drop(self);
        let mut locked = group.lock();
        if locked.parts > 0 {
            let wait = Wait::new(0);
            locked.queue.push(&wait);
            drop(locked);
            if !wait.block_or_leave(Until::CANCELLED, || group.lock().queue.leave(&wait)) {
                cancel::raise();
            }
        }
    }
}

impl Drop for WaitGroup {
    fn drop(&mut self) {
        let mut group = self.0.lock();
        group.parts -= 1;
        if group.parts == 0 {
            let waiters = group.queue.take(Outcome::Granted);
            drop(group);
            waiters.wake();
        }
    }
}

impl Clone for WaitGroup {
    fn clone(&self) -> WaitGroup {
        self.0.lock().parts += 1;
        WaitGroup(self.0.clone())
    }
}

impl Default for WaitGroup {
    fn default() -> WaitGroup {
        WaitGroup::new()
    }
}

impl fmt::Debug for WaitGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitGroup").field("parts", &self.0.lock().parts).finish()
    }
}
