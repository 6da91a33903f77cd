//! How many hold each end of a channel, and how long the channel lives.
//!
//! The senders of a channel together, and its receivers together, have one count each of the channel's `Arc`. How many they are is
//! said by a count in the channel. So a clone is one atomic step, and a drop is one, but for the last.
//!
//! *The last one*: a count that is 0 stays so, since a clone is made from one that exists. So one drop finds that it was the
//! last; it tells the other end under the lock, and then gives back the count of the `Arc`. In between somebody may begin to wait
//! at the other end, who has not been told: it is dequeued then. As with `Arc`, an addition needs no order, and the last
//! subtraction sees what was done through the others.

use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};

use super::Chan;

/// How many there are of one end.
pub(super) struct Count(AtomicUsize);

impl Count {
    /// More than that are a leak in a loop, and the count must not wrap.
    const MAX: usize = isize::MAX as usize;

    pub(super) fn one() -> Count {
        Count(AtomicUsize::new(1))
    }
}

/// The channel, for one of those that are counted.
pub(super) struct Counted<T>(ManuallyDrop<Arc<Chan<T>>>);

impl<T> Counted<T> {
    /// The first of its end, whose count is one.
    pub(super) fn first(chan: Arc<Chan<T>>) -> Counted<T> {
        Counted(ManuallyDrop::new(chan))
    }

    /// One more; `count` is the one of its end.
    #[inline]
    pub(super) fn another(&self, count: &Count) -> Counted<T> {
        if count.0.fetch_add(1, Relaxed) > Count::MAX {
            std::process::abort();
        }
        // SAFETY: the new one is counted. The last of all that are takes the `Arc`, once.
        Counted(unsafe { std::ptr::read(&self.0) })
    }

    /// It goes: the channel, if it was the last.
    ///
    /// # Safety
    ///
    /// Once, and it is not used afterwards; `count` is the one of its end.
    #[inline]
    pub(super) unsafe fn leave(&mut self, count: fn(&Chan<T>) -> &Count) -> Option<Arc<Chan<T>>> {
        let last = count(self).0.fetch_sub(1, AcqRel) == 1;
        // SAFETY: nobody else of this end is left.
        last.then(|| unsafe { ManuallyDrop::take(&mut self.0) })
    }

    pub(super) fn is_same(&self, other: &Counted<T>) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<T> Deref for Counted<T> {
    type Target = Chan<T>;
    #[inline(always)]
    fn deref(&self) -> &Chan<T> {
        &self.0
    }
}
