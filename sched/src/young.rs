//! The latest spawns of a P: what its worker runs next, where a joiner finds what it joins, and thieves what is largest.
//!
//! What a new spawn displaces from [`runnext`](crate::p) comes here. Who spawns mostly waits for those it has spawned; so
//! they run before what has been waiting in the deque, in the order in which they were spawned, and what they spawn in their turn
//! runs before their brothers. So a tree of green threads is run depth first: as few of them are alive at a time as it is
//! deep, on stacks and in memory that are warm, while thieves take the oldest, which stands for most work. Breadth first, all the
//! leaves would stand in the queue at once, and all others on stacks of their own.
//!
//! ```text
//!                     young
//!                     run of A    run of B    run of C
//!   deque             ─────────  ──────────  ──────────      runnext
//!   ──► x  y  z ──►  │ a  b  c │ ·  ·  d  e │ f  g  h  │ ◄──── i ◄── spawn, by C
//!         ▲           bottom      taken       ▲       top
//!         └─ what does not fit: a  b  c       └─ taken next: f, g, h, d, e, a, b, c
//! ```
//!
//! A *run* is what one green thread has spawned with none of another's in between: the owner of a run is its spawner. An
//! owner is compared, and not looked at; at its address there may be another by now, whose spawns then come behind those of the one
//! before.
//!
//! A green thread that joins what nobody has started takes it out of the middle and runs it at once ([`crate::direct`]).
//!
//! # What moves on to the deque
//!
//! 1. The oldest run, where there is no room.
//! 2. All, when one green thread has spawned [`BURST`] in a row: it does not wait for each, and what it spawns is to run in the order
//!    of spawning, behind what was there before. What it spawns from then on goes to the deque at once, until a joiner looks for
//!    something in vain.
//! 3. All, at the end of a slice, and now and then where slices are off ([`crate::schedule`]): what is here comes before others for
//!    that long at most.
//!
//! Only what has not started is in it.
//!
//! # Who may touch what
//!
//! | field | who |
//! |---|---|
//! | a slot that is empty | the owner fills it, by a store |
//! | a slot that is full | whoever replaces the entry by null has taken it: the owner, or a thief |
//! | `bottom`, `top` | written by the owner; thieves read them to know where to begin |
//! | `spawners`, `burst` | the owner's |
//!
//! *Nothing is lost, nothing is taken twice*: a slot changes from null by the owner alone, and to null by a compare-exchange
//! alone, which nobody but one wins. A thief that reads old ends takes another entry than it meant to: just as good.
//! An address that comes back with another entry meanwhile does no harm: an entry is not looked at before it is taken.
//! `loom.rs` checks this on a model.
//!
//! *Who looks for work sees it*: an entry stands between `bottom` and `top` from its push until it is taken, whatever the owner
//! does to them meanwhile; so one that was pushed before the fences of [`crate::idle`] is found after them.

use std::cell::Cell;
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering::{AcqRel, Relaxed, Release};

use crate::atomics::{AtomicPtr, AtomicUsize};

/// Enough for a tree that is six levels deep and ten wide. What does not fit is run breadth first.
#[cfg(not(loom))]
const SLOTS: usize = 64;
#[cfg(loom)]
const SLOTS: usize = 2;

/// More than most spawn and then wait for each; and as many as thieves can take one by one.
const BURST: u32 = 16;

/// The address of a green thread, to be compared only.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Spawner(pub(crate) usize);

pub(crate) struct Young<T> {
    slots: [AtomicPtr<T>; SLOTS],
    /// Of what is or was in the slot.
    spawners: [Cell<Spawner>; SLOTS],
    /// Of the entries that there may be: `bottom <= top <= bottom + SLOTS`.
    bottom: AtomicUsize,
    top: AtomicUsize,
    /// Who has spawned last, and how many in a row.
    burst: Cell<(Spawner, u32)>,
}

impl<T> Young<T> {
    pub(crate) fn new() -> Young<T> {
        Young {
            slots: std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())),
            spawners: std::array::from_fn(|_| Cell::new(Spawner::default())),
            bottom: AtomicUsize::new(0),
            top: AtomicUsize::new(0),
            burst: Cell::default(),
        }
    }

    fn slot(&self, at: usize) -> &AtomicPtr<T> {
        &self.slots[at % SLOTS]
    }

    fn spawner(&self, at: usize) -> Spawner {
        self.spawners[at % SLOTS].get()
    }

    fn take_at(&self, at: usize) -> Option<NonNull<T>> {
        let slot = self.slot(at);
        let entry = NonNull::new(slot.load(Relaxed))?;
        slot.compare_exchange(entry.as_ptr(), ptr::null_mut(), AcqRel, Relaxed).ok().map(|_| entry)
    }

    /// Counts a spawn of `spawner`: whether it belongs here; if not, it goes to the deque behind all that is here. By the owner.
    #[inline]
    pub(crate) fn admits(&self, spawner: Spawner) -> bool {
        let (last, n) = self.burst.get();
        let n = if last == spawner { n } else { 0 };
        self.burst.set((spawner, (n + 1).min(BURST)));
        n < BURST
    }

    /// Adds the youngest. False if there is no room. By the owner.
    #[inline]
    pub(crate) fn push(&self, entry: NonNull<T>, spawner: Spawner) -> bool {
        let (bottom, top) = (self.bottom.load(Relaxed), self.top.load(Relaxed));
        let room = top - bottom < SLOTS;
        if room {
            self.spawners[top % SLOTS].set(spawner);
            self.slot(top).store(entry.as_ptr(), Release);
            self.top.store(top + 1, Relaxed);
        }
        room
    }

    /// Gives up empty places at the upper end. What there may be then. By the owner.
    #[inline]
    fn trim(&self) -> (usize, usize) {
        let (bottom, mut top) = (self.bottom.load(Relaxed), self.top.load(Relaxed));
        while top > bottom && self.slot(top - 1).load(Relaxed).is_null() {
            top -= 1;
        }
        self.top.store(top, Relaxed);
        (bottom, top)
    }

    /// Takes this very entry, if it is there. By the owner, for a joiner.
    #[inline]
    pub(crate) fn take(&self, entry: NonNull<T>) -> bool {
        let (bottom, top) = self.trim();
        // The youngest first: it is most often that.
        let Some(at) = (bottom..top).rev().find(|at| self.slot(*at).load(Relaxed) == entry.as_ptr()) else {
            // It may have gone with a burst: those to come will be here.
            self.burst.take();
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

    /// Takes the first of the latest run. By the owner.
    #[inline]
    pub(crate) fn take_next(&self) -> Option<NonNull<T>> {
        loop {
            let (bottom, top) = self.trim();
            if bottom == top {
                return None;
            }
            let spawner = self.spawner(top - 1);
            let first = (bottom..top).rev().take_while(|at| self.spawner(*at) == spawner).last().unwrap_or(bottom);
            // None: thieves were faster.
            if let Some(next) = (first..top).find_map(|at| self.take_at(at)) {
                return Some(next);
            }
        }
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

    /// Takes the oldest run, one by one. By the owner.
    pub(crate) fn take_oldest_run(&self, mut take: impl FnMut(NonNull<T>)) {
        let spawner = self.spawner(self.bottom.load(Relaxed));
        while self.bottom.load(Relaxed) < self.top.load(Relaxed) && self.spawner(self.bottom.load(Relaxed)) == spawner {
            let bottom = self.bottom.load(Relaxed);
            self.take_at(bottom).into_iter().for_each(&mut take);
            self.bottom.store(bottom + 1, Relaxed);
        }
    }

    fn entries(&self) -> impl Iterator<Item = usize> {
        let (bottom, top) = (self.bottom.load(Relaxed), self.top.load(Relaxed));
        // Read at two moments.
        (bottom..top).take(SLOTS)
    }

    /// Takes the oldest, or a later one. By any thread.
    pub(crate) fn steal(&self) -> Option<NonNull<T>> {
        self.entries().find_map(|at| self.take_at(at))
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

    /// How many there are. By any thread.
    pub(crate) fn count(&self) -> usize {
        self.entries().filter(|at| !self.slot(*at).load(Relaxed).is_null()).count()
    }

    /// Whether there are none. By any thread.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.count() == 0
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn entry(n: usize) -> NonNull<()> {
        NonNull::new(ptr::without_provenance_mut(n)).expect("not null")
    }

    fn push(young: &Young<()>, spawner: usize, entries: impl IntoIterator<Item = usize>) {
        entries.into_iter().for_each(|n| assert!(young.push(entry(n), Spawner(spawner))));
    }

    fn numbers(mut next: impl FnMut() -> Option<NonNull<()>>) -> Vec<usize> {
        std::iter::from_fn(|| next().map(|entry| entry.as_ptr().addr())).collect()
    }

    #[test]
    fn the_latest_run_first_and_in_a_run_the_first() {
        let young = Young::new();
        push(&young, 100, 1..=3);
        push(&young, 200, 4..=5);
        assert_eq!(young.take_next(), Some(entry(4)));
        // One that was spawned by 4.
        push(&young, 300, [6]);
        assert_eq!(numbers(|| young.take_next()), [6, 5, 1, 2, 3]);
        assert!(young.is_empty());
        // One spawner goes on later.
        push(&young, 100, 1..=2);
        assert_eq!(young.take_next(), Some(entry(1)));
        push(&young, 100, [3]);
        assert_eq!(numbers(|| young.take_next()), [2, 3]);
    }

    #[test]
    fn the_oldest_run_makes_room() {
        let young = Young::new();
        push(&young, 100, 1..=3);
        push(&young, 200, 4..=SLOTS);
        assert!(young.take(entry(2)));
        assert!(!young.push(entry(SLOTS + 1), Spawner(300)));
        let mut left = Vec::new();
        young.take_oldest_run(|entry| left.push(entry));
        assert_eq!(left, [entry(1), entry(3)]);
        push(&young, 300, SLOTS + 1..=SLOTS + 3);
        assert!(!young.push(entry(SLOTS + 4), Spawner(300)));
        assert_eq!(young.take_next(), Some(entry(SLOTS + 1)));
        assert_eq!(numbers(|| young.take_oldest()), (4..=SLOTS).chain(SLOTS + 2..=SLOTS + 3).collect::<Vec<_>>());
    }

    #[test]
    fn a_burst_is_not_admitted_until_a_joiner_comes() {
        let young = Young::<()>::new();
        let [one, other] = [100, 200].map(Spawner);
        assert!((0..BURST).all(|_| young.admits(one)));
        assert!(!young.admits(one) && !young.admits(one));
        assert!(!young.take(entry(1)));
        assert!((0..BURST).all(|_| young.admits(one)));
        assert!(!young.admits(one));
        assert!(young.admits(other) && young.admits(one), "not in a row");
    }

    #[test]
    fn any_can_be_taken_once() {
        let young = Young::new();
        push(&young, 100, 1..=5);
        assert!(young.take(entry(5)) && young.take(entry(3)) && !young.take(entry(3)));
        assert_eq!(young.steal(), Some(entry(1)));
        assert!(!young.take(entry(1)) && !young.take(entry(6)));
        // The hole that 5 left is filled again.
        push(&young, 200, [6]);
        assert_eq!(young.count(), 3);
        assert_eq!(numbers(|| young.steal()), [2, 4, 6]);
        assert!(young.is_empty());
        assert_eq!((young.take_oldest(), young.take_next()), (None, None));
    }

    #[test]
    fn it_does_not_fill_up_with_what_was_stolen() {
        let young = Young::new();
        for n in 1..=10 * SLOTS {
            push(&young, n, [n]);
            assert_eq!(young.steal(), Some(entry(n)));
            assert_eq!(young.take_next(), None);
        }
    }
}
