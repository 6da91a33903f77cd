//! The timers of a P: who sleeps until when.
//!
//! A sleeping green thread is owned by its entry here, until somebody takes the entry because its time has come. One that
//! waits for something else, with a deadline, is not: what its entry does then, and when it goes, is [`crate::timed`]'s.
//!
//! | heap | holds | put in by | taken by |
//! |---|---|---|---|
//! | `own` | the tied | the holder of the P | the holder of the P; no lock |
//! | `shared` | the untied | the holder of the P | anyone, under the lock |
//!
//! A tied sleeper can run on one M only, which usually holds the P and looks here before it looks anywhere else. So there is
//! nothing to steal. If another M holds the P by now, it passes the sleeper on.
//! The earliest of each heap is published (`next_own`, `next_shared`): read by anyone, written by whoever changes the heap.
//!
//! # Who looks when
//!
//! ```text
//!   the P's M is       its own timers                            untied ones, late by HELP_AFTER
//!   ───────────        ──────────────                            ───────────────────────────────
//!   switching          `schedule` takes what is due, first       the searching take them; and the busy, now and then
//!   asleep             its alarm rings                           the same
//!   in a hog           sysmon asks for preemption                the same; sysmon wakes a worker, which searches
//! ```
//!
//! *What is due runs before what is queued*, up to [`IN_A_ROW`] in turn for each that comes from a queue: a crowd that was
//! spawned at once does not make sleepers late, and sleepers do not starve the crowd.
//!
//! *A worker that cannot keep up is helped*: when untied sleepers of it are late by [`HELP_AFTER`] it wakes another worker,
//! as for any work; and where all are busy, each looks at the timers of some others whenever a slice is over. A slice that
//! nobody else here waits for ends only if such a one needs help.
//!
//! # No sleeper is forgotten
//!
//! 1. Only the M that holds the P inserts, what begins to sleep and what it has stolen. It inserts on g0, while it is awake,
//!    and then schedules. So nobody inserts into the timers of a P whose M sleeps, and an alarm never has to be set anew
//!    from outside. There is one exception: a P that goes out of use leaves its sleepers to another (`adopt`), whose M is
//!    woken if it sleeps, and looks for earlier ones than those that its alarm is for in W4 if it is about to
//!    ([`crate::idle`]).
//! 2. Before it sleeps the M sets its alarm by `next`. The published time may be too early, because a thief has taken the
//!    earliest meanwhile: the alarm then rings for nothing. It is never too late: what is published was stored under the
//!    lock after the change, and the only one that could bring it forward is the M itself.
//! 3. While the M is awake and runs green threads, it schedules when they give way, and looks. If one does not, the worker
//!    is not `idle`, and while that is so sysmon does not sleep and looks at `next`: it asks for preemption once that has
//!    passed, and again until `next` changes. If the hog has no prologues that does not help the tied: nothing can. For the
//!    untied sysmon also wakes another worker, again and again while they are late and a worker is idle. One that has been
//!    woken comes back searching, and looks at all timers. A wake-up that goes to a searching worker which has already
//!    looked may be in vain; the next one is not. `loom.rs` has the model.
//!
//! *Nobody wakes twice*: an entry is taken once, from a heap that one thread at a time may change. Whoever took it notifies
//! the wait token, which decides between it and sysmon's scanner ([`crate::token`]).
//!
//! *Nobody wakes early*: an entry is taken only when a clock read has passed its time, by a thief too.
//!
//! # Few alarms
//!
//! A wake-up of a worker costs up to twenty microseconds of system time, ten times what a sleeper costs. So after it has
//! served timers a worker sleeps for [`SLACK`] at least and then takes all that is due. While that makes sleepers wait, each
//! time, it sleeps for longer, up to [`MOST_SLACK`]. A sleeper that comes by itself does not wait for this.

use std::cell::{Cell, UnsafeCell};
use std::sync::OnceLock;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::atomics::{AtomicU64, AtomicUsize, Mutex};
use crate::p;
use crate::timed::Timer;

/// No timer.
pub(crate) const NEVER: u64 = u64::MAX;

/// The instant that `nanos` counts from: the first use.
fn epoch() -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    *EPOCH.get_or_init(Instant::now)
}

/// Nanoseconds from the epoch to `at`; rounded up to 0 and down to the far end (584 years).
pub(crate) fn nanos(at: Instant) -> u64 {
    u64::try_from(at.saturating_duration_since(epoch()).as_nanos()).unwrap_or(NEVER - 1)
}

/// The present, by the same clock.
pub(crate) fn now() -> u64 {
    nanos(Instant::now())
}

/// The monotonic clock itself, for signal handlers.
pub(crate) fn monotonic() -> u64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes `t`.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut t) };
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// The instant of `nanos`; none if the clock does not reach it.
pub(crate) fn instant(nanos: u64) -> Option<Instant> {
    epoch().checked_add(Duration::from_nanos(nanos))
}

/// Nanoseconds between two alarms of a worker, at least: how late sleepers are that come in small groups.
const SLACK: u64 = 100_000;

/// The same for a worker to which they come all the time: at worst it wakes 5,000 times a second, for a tenth of a
/// processor. How late they are.
const MOST_SLACK: u64 = 200_000;

/// How late an untied sleeper is when others than its own worker look after it, in nanoseconds. A worker that was woken by
/// its alarm is later than `MOST_SLACK` now and then; if thieves came sooner, both would wake for the same sleeper.
pub(crate) const HELP_AFTER: u64 = 300_000;

/// Sleepers that run one after another while something is queued. As many take about as long as a short slice.
const IN_A_ROW: u32 = 64;

/// Sleepers taken by a thief at a time: plucked from thin air, some tens of microseconds of work.
pub(crate) const STOLEN: usize = 16;

/// Workers whose timers are looked at when a slice is over, beginning with a random one. As many lines of other processors'
/// caches take about a microsecond.
pub(crate) const LOOKED_AT: usize = 16;

/// Ticks of the time stamp counter between two looks at the clock while the worker switches: a microsecond or less. The
/// clock costs as much as a switch.
const LOOK_EVERY: u64 = 1_000;

pub(crate) struct Timers<T = Timer> {
    own: UnsafeCell<Heap<T>>,
    shared: Mutex<Heap<T>>,
    next_own: AtomicU64,
    next_shared: AtomicU64,
    /// Entries of either heap whose waits have ended before their time: about as many.
    stale_own: AtomicUsize,
    stale_shared: AtomicUsize,
    /// The last look at the clock: the time stamp, and the time. From here on the holder's.
    looked: Cell<(u64, u64)>,
    /// When it last took a sleeper.
    served: Cell<u64>,
    /// How long it sleeps at least from then on.
    slack: Cell<u64>,
    /// How many it took since anything else.
    in_a_row: Cell<u32>,
}

impl<T: Copy> Timers<T> {
    pub(crate) fn new() -> Timers<T> {
        Timers {
            own: UnsafeCell::new(Heap::new()),
            shared: Mutex::new(Heap::new()),
            next_own: AtomicU64::new(NEVER),
            next_shared: AtomicU64::new(NEVER),
            stale_own: AtomicUsize::new(0),
            stale_shared: AtomicUsize::new(0),
            looked: Cell::new((0, 0)),
            served: Cell::new(0),
            slack: Cell::new(SLACK),
            in_a_row: Cell::new(0),
        }
    }

    /// When the earliest timer is due, or NEVER.
    #[inline]
    pub(crate) fn next(&self) -> u64 {
        self.next_own.load(Ordering::Relaxed).min(self.next_shared())
    }

    /// When the earliest of the untied is due, or NEVER.
    #[inline]
    pub(crate) fn next_shared(&self) -> u64 {
        self.next_shared.load(Ordering::Relaxed)
    }

    /// `g` sleeps until `when`.
    ///
    /// # Safety
    ///
    /// The calling thread's M holds the P.
    pub(crate) unsafe fn insert(&self, when: u64, g: T, tied: bool) {
        if tied {
            // SAFETY: only the holder reaches it, and no reference outlives a call.
            let heap = unsafe { &mut *self.own.get() };
            heap.push(when, g);
            self.next_own.store(heap.next(), Ordering::Relaxed);
        } else {
            let mut heap = self.shared.lock();
            heap.push(when, g);
            self.next_shared.store(heap.next(), Ordering::Relaxed);
        }
    }

    /// The present, or less: what the clock said when the time stamp counter was [`LOOK_EVERY`] ticks lower, at most.
    ///
    /// # Safety
    ///
    /// The calling thread's M holds the P.
    unsafe fn recently(&self) -> u64 {
        let (stamp, (then, time)) = (p::stamp(), self.looked.get());
        if stamp.wrapping_sub(then) < LOOK_EVERY {
            return time;
        }
        let time = now();
        self.looked.set((stamp, time));
        time
    }

    /// Takes a sleeper that is due, and says by how much it is late. None also where [`IN_A_ROW`] have been taken: then it
    /// is for others to run.
    ///
    /// # Safety
    ///
    /// The calling thread's M holds the P.
    #[inline]
    pub(crate) unsafe fn take_due(&self) -> Option<(u64, T)> {
        if self.next() == NEVER {
            return None;
        }
        let in_a_row = self.in_a_row.replace(0);
        if in_a_row == IN_A_ROW {
            return None;
        }
        // SAFETY: by the contract.
        let (now, due) = unsafe {
            let now = self.recently();
            (now, self.pop_due(now))
        };
        let (when, g) = due?;
        self.served.set(now);
        self.in_a_row.set(in_a_row + 1);
        Some((now - when, g))
    }

    /// Takes the earliest sleeper that is due at `now`, and when that was.
    ///
    /// # Safety
    ///
    /// The calling thread's M holds the P.
    unsafe fn pop_due(&self, now: u64) -> Option<(u64, T)> {
        let (own, shared) = (self.next_own.load(Ordering::Relaxed), self.next_shared());
        if own > shared {
            return self.steal(now);
        }
        // SAFETY: only the holder reaches it, and no reference outlives a call.
        let heap = unsafe { &mut *self.own.get() };
        let due = heap.pop_due(now)?;
        self.next_own.store(heap.next(), Ordering::Relaxed);
        Some(due)
    }

    /// Takes the earliest of the untied that were due at `until`, and when that was.
    pub(crate) fn steal(&self, until: u64) -> Option<(u64, T)> {
        if self.next_shared() > until {
            return None;
        }
        let mut heap = self.shared.lock();
        let due = heap.pop_due(until)?;
        self.next_shared.store(heap.next(), Ordering::Relaxed);
        Some(due)
    }

    /// [`steal`](Self::steal) with a mistake in it, for `loom.rs`.
    #[cfg(all(test, loom))]
    pub(crate) fn steal_with_a_late_store(&self, until: u64) -> Option<(u64, T)> {
        let (due, next) = {
            let mut heap = self.shared.lock();
            (heap.pop_due(until), heap.next())
        };
        self.next_shared.store(next, Ordering::Relaxed);
        due
    }

    /// Whether other workers should look after the untied.
    #[inline]
    pub(crate) fn want_help(&self, now: u64) -> bool {
        self.next_shared() <= now.saturating_sub(HELP_AFTER)
    }

    /// When a worker that goes to sleep is to wake for them, or NEVER.
    ///
    /// # Safety
    ///
    /// The calling thread's M holds the P.
    pub(crate) unsafe fn alarm(&self) -> u64 {
        let (next, slack) = (self.next(), self.slack.get());
        let at = next.max(self.served.get() + slack);
        self.slack.set(if at > next { (slack * 2).min(MOST_SLACK) } else { SLACK });
        at
    }

    /// The wait of an entry has ended before its time. If there are many such, sweeps: drops those that `is_stale` says it
    /// has dropped. `holds` says whether the calling thread's M holds the P: what is tied is swept then only.
    ///
    /// # Safety
    ///
    /// That is so.
    pub(crate) unsafe fn ended(&self, tied: bool, holds: bool, is_stale: impl FnMut(T) -> bool) {
        let stale = if tied { &self.stale_own } else { &self.stale_shared };
        let count = stale.fetch_add(1, Ordering::Relaxed) + 1;
        if !count.is_multiple_of(SWEEP_EVERY) {
            return;
        }
        if !tied {
            let mut heap = self.shared.lock();
            if heap.entries.len() <= 2 * count {
                stale.store(0, Ordering::Relaxed);
                heap.sweep(is_stale);
                self.next_shared.store(heap.next(), Ordering::Relaxed);
            }
        } else if holds {
            // SAFETY: only the holder reaches it, and no reference outlives a call.
            let heap = unsafe { &mut *self.own.get() };
            if heap.entries.len() <= 2 * count {
                stale.store(0, Ordering::Relaxed);
                heap.sweep(is_stale);
                self.next_own.store(heap.next(), Ordering::Relaxed);
            }
        }
    }

    /// Entries.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        // SAFETY: a test's.
        self.shared.lock().entries.len() + unsafe { &*self.own.get() }.entries.len()
    }

    /// Takes sleepers over from another P, which goes out of use. The caller then wakes the worker that idles with this one.
    pub(crate) fn adopt(&self, sleepers: Vec<(u64, T)>) {
        let mut heap = self.shared.lock();
        sleepers.into_iter().for_each(|(when, g)| heap.push(when, g));
        self.next_shared.store(heap.next(), Ordering::Relaxed);
    }

    /// Takes all sleepers: the P goes out of use.
    ///
    /// # Safety
    ///
    /// The calling thread's M holds the P.
    pub(crate) unsafe fn take_all(&self) -> Vec<(u64, T)> {
        let shared = std::mem::replace(&mut *self.shared.lock(), Heap::new());
        // SAFETY: by the contract.
        let own = unsafe { std::mem::replace(&mut *self.own.get(), Heap::new()) };
        self.next_own.store(NEVER, Ordering::Relaxed);
        self.next_shared.store(NEVER, Ordering::Relaxed);
        own.entries.into_iter().chain(shared.entries).collect()
    }
}

/// A heap of arity 4, the earliest on top: half as deep as a binary one, and the four that are compared on the way down lie
/// in one or two lines of the cache.
struct Heap<T> {
    entries: Vec<(u64, T)>,
}

const ARITY: usize = 4;

/// A heap is swept when as many of its entries are stale as are not, which is looked at whenever so many more are. So it is
/// twice as long as it need be, and this, at most.
const SWEEP_EVERY: usize = 64;

/// Entries that a heap keeps room for after a crowd has left.
const KEPT: usize = 1024;

impl<T: Copy> Heap<T> {
    fn new() -> Heap<T> {
        Heap { entries: Vec::new() }
    }

    fn next(&self) -> u64 {
        self.entries.first().map_or(NEVER, |first| first.0)
    }

    fn push(&mut self, when: u64, g: T) {
        let mut at = self.entries.len();
        self.entries.push((when, g));
        while at > 0 {
            let above = (at - 1) / ARITY;
            if self.entries[above].0 <= when {
                break;
            }
            self.entries[at] = self.entries[above];
            at = above;
        }
        self.entries[at] = (when, g);
    }

    fn pop_due(&mut self, now: u64) -> Option<(u64, T)> {
        if self.next() > now {
            return None;
        }
        let last = self.entries.pop()?;
        let entries = &mut self.entries[..];
        let Some(&first) = entries.first() else {
            return Some(last);
        };
        sift_down(entries, 0, last);
        self.shrink();
        Some(first)
    }

    /// Drops those for which `is_stale`, and makes a heap of the rest.
    fn sweep(&mut self, mut is_stale: impl FnMut(T) -> bool) {
        self.entries.retain(|&(_, g)| !is_stale(g));
        for at in (0..self.entries.len().div_ceil(ARITY)).rev() {
            let entry = self.entries[at];
            sift_down(&mut self.entries, at, entry);
        }
        self.shrink();
    }

    /// A vector does not shrink by itself.
    fn shrink(&mut self) {
        if self.entries.capacity() > KEPT && self.entries.len() < self.entries.capacity() / 8 {
            self.entries.shrink_to(KEPT.max(self.entries.len() * 2));
        }
    }
}

/// Puts `entry` into the place `at`, or below it.
#[inline]
fn sift_down<T: Copy>(entries: &mut [(u64, T)], mut at: usize, entry: (u64, T)) {
    loop {
        let below = ARITY * at + 1;
        let end = (below + ARITY).min(entries.len());
        let Some(least) = (below..end).min_by_key(|&i| entries[i].0).filter(|&i| entries[i].0 < entry.0) else {
            break;
        };
        entries[at] = entries[least];
        at = least;
    }
    entries[at] = entry;
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_heap_sorts_and_keeps_to_the_time() {
        let mut heap = Heap::new();
        let mut x = 1_u64;
        let mut times: Vec<u64> = (0..5000)
            .map(|_| {
                x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (x >> 33) % 2000
            })
            .collect();
        times.iter().for_each(|&when| heap.push(when, when));
        times.sort_unstable();
        for (i, &when) in times.iter().enumerate() {
            assert_eq!(heap.next(), when);
            assert_eq!(when.checked_sub(1).and_then(|early| heap.pop_due(early)), None);
            assert_eq!(heap.pop_due(when), Some((when, when)), "entry {i}");
        }
        assert_eq!(heap.next(), NEVER);
        assert!(heap.entries.capacity() <= KEPT);
    }

    #[test]
    fn a_heap_that_was_swept_is_one() {
        for n in [0, 1, 4, 5, 100, 3000] {
            let mut heap = Heap::new();
            (0..n).for_each(|i: u64| heap.push(i.wrapping_mul(7919) % 1000, i));
            heap.sweep(|i| i % 3 != 0);
            let mut left: Vec<u64> = (0..n).filter(|i| i % 3 == 0).map(|i| i.wrapping_mul(7919) % 1000).collect();
            left.sort_unstable();
            let popped: Vec<_> = std::iter::from_fn(|| heap.pop_due(NEVER)).map(|(when, _)| when).collect();
            assert_eq!(popped, left);
        }
    }

    /// Entries whose waits end early: there are never many more of them than of the others.
    #[test]
    fn the_stale_go_when_they_are_as_many_as_the_live() {
        const LIVE: u64 = 500;
        for tied in [true, false] {
            let timers = Timers::new();
            // SAFETY: this thread is the only one.
            unsafe {
                (0..LIVE).for_each(|i| timers.insert(i, 0, tied));
                for i in 0..100_000 {
                    timers.insert(1000 + i, 1, tied);
                    timers.ended(tied, true, |g| g == 1);
                    assert!(timers.len() <= 2 * LIVE as usize + 2 * SWEEP_EVERY, "{}", timers.len());
                }
                timers.ended(tied, true, |g| g == 1);
                let live = std::iter::from_fn(|| timers.pop_due(LIVE)).count();
                assert_eq!(live, LIVE as usize);
            }
        }
    }

    #[test]
    fn of_both_heaps_the_earliest_comes_first() {
        let timers = Timers::new();
        // SAFETY: this thread is the only one.
        unsafe {
            (0..100).for_each(|when| timers.insert(when, when, when % 3 == 0));
            assert_eq!(timers.next(), 0);
            for when in 0..100 {
                assert_eq!(timers.pop_due(1000), Some((when, when)));
            }
            assert_eq!((timers.next(), timers.pop_due(1000)), (NEVER, None));
        }
    }

    /// A thief leaves the tied.
    #[test]
    fn only_the_untied_are_stolen() {
        let timers = Timers::new();
        // SAFETY: this thread is the only one.
        unsafe {
            (0..10).for_each(|when| timers.insert(when, when, when % 2 == 0));
        }
        let stolen: Vec<_> = std::iter::from_fn(|| timers.steal(7)).map(|(_, g)| g).collect();
        assert_eq!(stolen, [1, 3, 5, 7]);
        // SAFETY: as above.
        unsafe {
            let left: Vec<_> = timers.take_all().into_iter().map(|(_, g)| g).collect();
            assert_eq!(left, [0, 2, 4, 6, 8, 9]);
            assert_eq!(timers.next(), NEVER);
        }
    }

    /// However many are due, others get their turn.
    #[test]
    fn so_many_in_a_row() {
        let timers = Timers::new();
        // SAFETY: this thread is the only one.
        unsafe {
            (0..200).for_each(|g| timers.insert(0, g, g % 2 == 0));
            let rows: Vec<_> = (0..4).map(|_| std::iter::from_fn(|| timers.take_due()).count() as u32).collect();
            assert_eq!(rows, [IN_A_ROW, IN_A_ROW, IN_A_ROW, 200 - 3 * IN_A_ROW]);
        }
    }

    #[test]
    fn a_worker_that_has_served_sleeps_for_a_while() {
        let timers = Timers::new();
        // SAFETY: this thread is the only one.
        unsafe {
            while now() < SLACK {}
            let start = now();
            timers.insert(start, 1, true);
            assert_eq!(timers.alarm(), start);
            assert!(timers.take_due().is_some());
            timers.insert(start + 1, 2, true);
            assert!(timers.alarm() >= start + SLACK);
            timers.insert(0, 3, true);
            timers.insert(start + 100 * SLACK, 4, false);
            timers.pop_due(start + 1);
            timers.pop_due(start + 1);
            assert_eq!(timers.alarm(), start + 100 * SLACK);
        }
    }
}
