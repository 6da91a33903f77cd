//! The green threads that have parked: where sysmon finds those that wait for long ([`crate::sweep`]).
//!
//! Each P has a list. A green thread enters the list of the P on which it parks, and stays in it while it runs and parks
//! again: most waits are short and cost one count. It leaves when it ends, or when sysmon has done all that is to be done
//! for one that waits; then it enters again the next time it parks.
//!
//! # How sysmon knows that a wait is long
//!
//! `parks` counts the times that a green thread began to wait. sysmon keeps the count that it saw. If it finds the same
//! count again, an interval later, and the green thread at rest, then it has been waiting for the whole interval: any run
//! in between would have ended with another count. No clock is read on the way.
//!
//! A sleeper says how long it will wait. One that sleeps for the interval at least is frozen at once, by its own M, and
//! enters no list: where many begin to sleep, each begins on the stack that the one before has left, warm.
//!
//! # Who may touch what
//!
//! | field | who |
//! |---|---|
//! | `Place::parks`, `Place::shrink` | its owner writes the one and reads the other; sysmon the other way round |
//! | `Place::list` | the owner of the green thread: sysmon while it scans it |
//! | `Place::at` | whoever holds the lock of the list |
//!
//! An entry is no owner. It is valid because a green thread leaves the list, under the lock, before it is Dead.

use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU32};

use parking_lot::{Mutex, MutexGuard};

use crate::g::{G, GRef};
use crate::m::M;
use crate::sched::Sched;
use crate::sweep::FREEZE_MOST;
use crate::token::Scan;
use crate::{stack, stress};

/// No list.
const NONE: u32 = u32::MAX;

/// What a green thread knows of its entry.
pub(crate) struct Place {
    /// The P in whose list it is, or NONE.
    list: Cell<u32>,
    at: Cell<u32>,
    parks: AtomicU32,
    /// sysmon's request to shrink its stack when it next parks.
    shrink: AtomicBool,
}

impl Default for Place {
    fn default() -> Place {
        Place { list: Cell::new(NONE), at: Cell::new(0), parks: AtomicU32::new(0), shrink: AtomicBool::new(false) }
    }
}

impl Place {
    pub(crate) fn parks(&self) -> u32 {
        self.parks.load(Relaxed)
    }

    /// Its place in its list. Under the lock of the list.
    pub(crate) fn at(&self) -> usize {
        self.at.get() as usize
    }

    /// Asks the green thread to shrink its stack when it next parks.
    pub(crate) fn request_shrink(&self) {
        if !self.shrink.load(Relaxed) {
            self.shrink.store(true, Relaxed);
        }
    }
}

/// A green thread in a list, and what sysmon knows of it.
pub(crate) struct Entry {
    g: NonNull<G>,
    /// The count when sysmon looked last.
    pub(crate) parks: u32,
    /// For how many looks it has been waiting.
    pub(crate) looks: u16,
    /// The round of the last look: entries move while a round goes on.
    pub(crate) round: u16,
}

// SAFETY: the pointer is followed under the lock only, while the green thread is not Dead. A `G` is Sync.
unsafe impl Send for Entry {}

impl Entry {
    /// The green thread. The lock of the list keeps it alive.
    pub(crate) fn g(&self) -> &G {
        // SAFETY: in the list, so it is not Dead and the scheduler's count keeps it.
        unsafe { self.g.as_ref() }
    }

    /// Takes the green thread from its waker; then it outlives the lock.
    pub(crate) fn scan(&self) -> Option<Scan> {
        // SAFETY: as above; and from then on the scan owns it.
        unsafe { Scan::of(self.g) }
    }
}

/// The green threads that parked on one P.
#[derive(Default)]
pub(crate) struct Parked(Mutex<Vec<Entry>>);

/// The same, locked.
pub(crate) type Locked<'a> = MutexGuard<'a, Vec<Entry>>;

impl Parked {
    pub(crate) fn lock(&self) -> Locked<'_> {
        self.0.lock()
    }

    /// Enters `g`. The caller owns it, and it is in no list.
    pub(crate) fn enter(&self, list: usize, g: GRef) {
        let mut entries = self.lock();
        g.place.list.set(list as u32);
        g.place.at.set(entries.len() as u32);
        // A count that the first look does not find: the interval begins with it.
        entries.push(Entry { g: g.ptr(), parks: g.place.parks().wrapping_sub(1), looks: 0, round: 0 });
    }
}

/// Takes the entry at `at` out: the last one moves to its place. The caller owns its green thread.
pub(crate) fn leave_at(entries: &mut Locked<'_>, at: usize) {
    entries.swap_remove(at).g().place.list.set(NONE);
    if let Some(moved) = entries.get(at) {
        moved.g().place.at.set(at as u32);
    }
    // After a crowd has left: a vector does not shrink by itself.
    if entries.len() < entries.capacity() / 4 && entries.capacity() > 1024 {
        let twice = entries.len() * 2;
        entries.shrink_to(twice);
    }
}

/// A wait of `g` begins.
#[inline]
fn count(m: &M, g: GRef) {
    m.p().stats.parks.add(1);
    // The owner is the one writer.
    g.place.parks.store(g.place.parks.load(Relaxed).wrapping_add(1), Relaxed);
}

/// `g` is about to wait for as long as it takes to be frozen. On g0 of its M, before its token is published.
pub(crate) fn note_long(m: &M, g: GRef) {
    // SAFETY: owned by this M, suspended.
    if g.moves() && unsafe { stack::used(&g) } <= FREEZE_MOST && stack::freeze_here(m, &g) {
        count(m, g);
    } else {
        note(m, g);
    }
}

/// The same as `note`, on its own stack: false, and nothing is done, if there is more to do than to count.
#[inline]
pub(crate) fn note_quick(m: &M, g: GRef) -> bool {
    let place = &g.place;
    let listed = place.list.get() != NONE || m.sched().config.freeze_after.is_none();
    let quick = listed && !(g.moves() && place.shrink.load(Relaxed));
    if quick {
        count(m, g);
    }
    quick
}

/// `g` is about to wait. On g0 of its M, before its token is published.
#[inline]
pub(crate) fn note(m: &M, g: GRef) {
    count(m, g);
    let place = &g.place;
    if place.list.get() == NONE && m.sched().config.freeze_after.is_some() {
        m.p().parked.enter(m.p().index, g);
    }
    if g.moves() {
        if place.shrink.load(Relaxed) || stress::shrinks() {
            place.shrink.store(false, Relaxed);
            stack::shrink_here(m, &g);
        }
        if stress::freezes() {
            stack::freeze_here(m, &g);
        }
    }
}

/// `g` ends. By its owner.
#[inline]
pub(crate) fn forget(sched: &Sched, g: &G) {
    let list = g.place.list.get();
    if list != NONE {
        let mut entries = sched.ps[list as usize].parked.lock();
        // Under the lock: until then others that leave may move it.
        let at = g.place.at();
        leave_at(&mut entries, at);
    }
}
