//! The timers of a P: who sleeps until when.
//!
//! A sleeping green thread is owned by its entry here. Entries are added by the P's own M and taken by it: when it
//! schedules, and when it sleeps for want of work, for which it sets its alarm by [`Timers::next`]. While the P is busy
//! with a green thread that does not give way, sysmon sees `next` pass and asks for preemption.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::g::GRef;

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

pub(crate) struct Timers {
    heap: Mutex<BinaryHeap<Reverse<Entry>>>,
    /// When the earliest is due: read by sysmon without the lock, written under it.
    next: AtomicU64,
}

struct Entry {
    when: u64,
    g: GRef,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.when == other.when
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> std::cmp::Ordering {
        self.when.cmp(&other.when)
    }
}

impl Timers {
    pub(crate) fn new() -> Timers {
        Timers { heap: Mutex::new(BinaryHeap::new()), next: AtomicU64::new(NEVER) }
    }

    /// When the earliest timer is due, or NEVER.
    #[inline]
    pub(crate) fn next(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// `g` sleeps until `when`.
    pub(crate) fn insert(&self, when: u64, g: GRef) {
        let mut heap = self.heap.lock();
        heap.push(Reverse(Entry { when, g }));
        self.publish(&heap);
    }

    /// Takes one sleeper that is due.
    pub(crate) fn pop_due(&self, now: u64) -> Option<GRef> {
        if self.next() > now {
            return None;
        }
        let mut heap = self.heap.lock();
        if heap.peek().is_none_or(|Reverse(e)| e.when > now) {
            return None;
        }
        let g = heap.pop().map(|Reverse(e)| e.g);
        self.publish(&heap);
        g
    }

    /// Takes all sleepers.
    pub(crate) fn take_all(&self) -> Vec<GRef> {
        let mut heap = self.heap.lock();
        let all = heap.drain().map(|Reverse(e)| e.g).collect();
        self.publish(&heap);
        all
    }

    fn publish(&self, heap: &BinaryHeap<Reverse<Entry>>) {
        self.next.store(heap.peek().map_or(NEVER, |Reverse(e)| e.when), Ordering::Relaxed);
    }
}
