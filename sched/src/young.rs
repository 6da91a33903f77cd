//! The latest spawns of a P: where a joiner finds what it joins, and thieves what is largest.
//!
//! What a new spawn displaces from [`runnext`](crate::p) stays here for a while. In order of arrival this is the end of the
//! deque, from which it differs in one thing: its owner can take an entry out of the middle. A green thread that joins what
//! nobody has started takes it from here and runs it at once ([`crate::direct`]), so fork and join go depth first, with as
//! few green threads alive as there are calls in a recursion, and the oldest, which thieves take, stands for most work.
//!
//! ```text
//!   deque                       young                       runnext
//!   ──► a  b  c  d ──► (full) ◄── e  f  g ◄──────────────────── h ◄── spawn
//!                      bottom ────┘     └─── top
//! ```
//!
//! A burst of spawns that nobody joins in turn would only pass through. So when [`BURST`] in a row have left it without one
//! being taken by a joiner, what is displaced goes to the deque at once, until a joiner looks for something in vain.
//!
//! Only what has not started is in it. What goes to the tail of the deque comes later than all of this, so the owner moves
//! this there first.
//!
//! # Who may touch what
//!
//! | field | who |
//! |---|---|
//! | a slot that is empty | the owner fills it, by a store |
//! | a slot that is full | whoever replaces the entry by null has taken it: the owner, or a thief |
//! | `bottom`, `top` | written by the owner; thieves read them to know where to begin |
//! | `passed` | the owner's |
//!
//! *Nothing is lost, nothing is taken twice*: a slot changes from null by the owner alone, and to null by a compare-exchange
//! alone, which nobody but one wins. A thief that reads old ends takes another entry than it meant to: just as good.
//! An address that comes back with another entry meanwhile does no harm: an entry is not looked at before it is taken.
//! `loom.rs` checks this on a model.

use std::cell::Cell;
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering::{AcqRel, Relaxed, Release};

use crate::atomics::{AtomicPtr, AtomicUsize};

/// As many as recursions that fork are deep, give or take: what does not fit has that many levels below it and is worth
/// moving. More would make looking through them slower.
#[cfg(not(loom))]
const SLOTS: usize = 16;
#[cfg(loom)]
const SLOTS: usize = 2;

/// See the module header: several times what fits.
const BURST: u32 = 64;

pub(crate) struct Young<T> {
    slots: [AtomicPtr<T>; SLOTS],
    /// Of the entries that there may be: `bottom <= top <= bottom + SLOTS`.
    bottom: AtomicUsize,
    top: AtomicUsize,
    /// How many have passed through since the last was taken.
    passed: Cell<u32>,
}

impl<T> Young<T> {
    pub(crate) fn new() -> Young<T> {
        Young {
            slots: std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())),
            bottom: AtomicUsize::new(0),
            top: AtomicUsize::new(0),
            passed: Cell::new(0),
        }
    }

    fn slot(&self, at: usize) -> &AtomicPtr<T> {
        &self.slots[at % SLOTS]
    }

    fn take_at(&self, at: usize) -> Option<NonNull<T>> {
        let slot = self.slot(at);
        let entry = NonNull::new(slot.load(Relaxed))?;
        slot.compare_exchange(entry.as_ptr(), ptr::null_mut(), AcqRel, Relaxed).ok().map(|_| entry)
    }

    /// Adds the youngest; where there is no room, returns the oldest. By the owner.
    #[inline]
    pub(crate) fn push(&self, entry: NonNull<T>) -> Option<NonNull<T>> {
        let (bottom, top) = (self.bottom.load(Relaxed), self.top.load(Relaxed));
        let oldest = if top - bottom == SLOTS {
            let oldest = self.take_at(bottom);
            self.bottom.store(bottom + 1, Relaxed);
            self.passed.set(self.passed.get() + 1);
            oldest
        } else {
            None
        };
        self.slot(top).store(entry.as_ptr(), Release);
        self.top.store(top + 1, Relaxed);
        oldest
    }

    /// Whether new ones should not come here. By the owner.
    #[inline]
    pub(crate) fn is_passed_through(&self) -> bool {
        self.passed.get() >= BURST
    }

    /// Takes this very entry, if it is there. By the owner, for a joiner.
    #[inline]
    pub(crate) fn take(&self, entry: NonNull<T>) -> bool {
        self.passed.set(0);
        let (bottom, mut top) = (self.bottom.load(Relaxed), self.top.load(Relaxed));
        // The youngest first: it is most often that. Empty places at this end are given up.
        while top > bottom && self.slot(top - 1).load(Relaxed).is_null() {
            top -= 1;
        }
        self.top.store(top, Relaxed);
        let Some(at) = (bottom..top).rev().find(|at| self.slot(*at).load(Relaxed) == entry.as_ptr()) else {
            return false;
        };
        // Only a thief can have been there since, and nobody fills the slot meanwhile.
        if self.take_at(at).is_none() {
            return false;
        }
        if at + 1 == top {
            self.top.store(at, Relaxed);
        }
        true
    }

    /// Takes the oldest. By the owner.
    #[inline]
    pub(crate) fn take_oldest(&self) -> Option<NonNull<T>> {
        let (mut bottom, top) = (self.bottom.load(Relaxed), self.top.load(Relaxed));
        let mut oldest = None;
        while oldest.is_none() && bottom < top {
            oldest = self.take_at(bottom);
            bottom += 1;
        }
        self.bottom.store(bottom, Relaxed);
        oldest
    }

    /// Takes the oldest, or a later one. By any thread.
    pub(crate) fn steal(&self) -> Option<NonNull<T>> {
        let bottom = self.bottom.load(Relaxed);
        (bottom..bottom + SLOTS).find_map(|at| self.take_at(at))
    }

    /// Seeded: taken by a load and a store.
    #[cfg(all(test, loom))]
    pub(crate) fn steal_by_load_and_store(&self) -> Option<NonNull<T>> {
        let take = |slot: &AtomicPtr<T>| {
            let entry = NonNull::new(slot.load(std::sync::atomic::Ordering::Acquire))?;
            slot.store(ptr::null_mut(), Release);
            Some(entry)
        };
        self.slots.iter().find_map(take)
    }

    /// How many there are at most. By the owner.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.top.load(Relaxed) - self.bottom.load(Relaxed)
    }

    /// How many there are. By any thread.
    pub(crate) fn count(&self) -> usize {
        self.slots.iter().filter(|slot| !slot.load(Relaxed).is_null()).count()
    }

    /// Whether there are none. By any thread.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        let top = self.top.load(Relaxed);
        // An entry in between may have been stolen. One that is seen is seen by `top`, and is not below `bottom` unless taken.
        self.bottom.load(Relaxed) >= top || self.slots.iter().all(|slot| slot.load(Relaxed).is_null())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn entry(n: usize) -> NonNull<()> {
        NonNull::new(ptr::without_provenance_mut(n)).expect("not null")
    }

    fn numbers(mut next: impl FnMut() -> Option<NonNull<()>>) -> Vec<usize> {
        std::iter::from_fn(|| next().map(|entry| entry.as_ptr().addr())).collect()
    }

    #[test]
    fn what_does_not_fit_leaves_in_order() {
        let young = Young::new();
        let left: Vec<_> = (1..=SLOTS + 3).filter_map(|n| young.push(entry(n))).collect();
        assert_eq!(left, [entry(1), entry(2), entry(3)]);
        assert_eq!(young.len(), SLOTS);
        assert_eq!(numbers(|| young.take_oldest()), (4..=SLOTS + 3).collect::<Vec<_>>());
        assert!(young.is_empty());
    }

    #[test]
    fn a_burst_passes_through_until_a_joiner_comes() {
        let young = Young::new();
        (1..=SLOTS + BURST as usize).for_each(|n| {
            assert!(!young.is_passed_through());
            young.push(entry(n));
        });
        assert!(young.is_passed_through());
        assert!(!young.take(entry(1)));
        assert!(!young.is_passed_through());
    }

    #[test]
    fn any_can_be_taken_once() {
        let young = Young::new();
        (1..=5).for_each(|n| assert_eq!(young.push(entry(n)), None));
        assert!(young.take(entry(5)) && young.take(entry(3)) && !young.take(entry(3)));
        assert_eq!(young.steal(), Some(entry(1)));
        assert!(!young.take(entry(1)) && !young.take(entry(6)));
        // The hole that 5 left is filled again.
        assert_eq!(young.push(entry(6)), None);
        assert_eq!(numbers(|| young.steal()), [2, 4, 6]);
        assert!(young.is_empty());
        assert_eq!(young.take_oldest(), None);
    }

    #[test]
    fn it_does_not_fill_up_with_what_was_stolen() {
        let young = Young::new();
        for n in 1..=10 * SLOTS {
            assert_eq!(young.push(entry(n)), None);
            assert_eq!(young.steal(), Some(entry(n)));
        }
    }
}
