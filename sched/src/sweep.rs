//! Sweeping stacks (S23): what sysmon does for memory while it waits for the next slice to end.
//!
//! | who | after | what |
//! |---|---|---|
//! | a copying green thread that waits | `freeze_after` | its stack is frozen: only the used bytes are kept, in a block ([`morestack_stacks::freeze`]) |
//! | the same, with more than [`FREEZE_MOST`] in use | `freeze_after` | its stack is halved, once per interval, while less than a quarter of it is in use |
//! | any other that waits, also one on a [segment](crate::segment), and that one | [`GIVE_BACK`] times as long | the pages below those in use go back to the system |
//! | a copying green thread that runs now and then | `freeze_after` | is asked to shrink its stack when it next waits |
//! | stacks that lie free in the pool and among the large | [`POOL_SWEEP`] | those that were not wanted since the sweep before give their memory back |
//!
//! "After" means between one and two intervals: [`crate::parked`] says how a long wait is recognised. Frozen green threads,
//! and those for which all is done, are not looked at again until they run. So a sweep costs for those that are active,
//! however many wait.
//!
//! # Concurrent with everything (S16, S20)
//!
//! A green thread is touched only under a [`Scan`]: nobody runs it meanwhile. A wake-up that comes in between is carried
//! out at the end of the scan. Channel operations in flight are kept out of the part of the stack that they may touch, by
//! the locks of their channels, and find it moved ([`crate::channel`]).
//!
//! # In time for the slices
//!
//! The work comes in steps of some microseconds, between two looks at the workers, and takes at most half of the time in
//! between.

use std::time::Duration;

use morestack_stacks::{StackCache, Sweep};

use crate::g::StackKind;
use crate::parked::{Entry, leave_at};
use crate::sched::Sched;
use crate::token::{Scan, is_at_rest};
use crate::{stack, timers};

/// The largest used part that is frozen. Up to here a block saves most of the pages that the stack holds; beyond, they are
/// in use, and freezing would copy them twice for nothing. 16 KiB: four pages.
pub(crate) const FREEZE_MOST: usize = 16 << 10;

/// Looks in a row at a green thread that waits, until its unused pages are given back. It may need them again, at a page
/// fault each, hundreds of times what a thaw costs.
const GIVE_BACK: u16 = 10;

/// Entries looked at in one go, under the lock of the list: about a microsecond. Those that park or end on that P wait for
/// it.
const STEP: usize = 16;

/// Time between two sweeps of the stacks kept for reuse.
const POOL_SWEEP: Duration = Duration::from_secs(1);

/// Sweeps of the pool after the runtime went idle: two for what is free, one for what the workers' caches release a second
/// later, one to spare.
const IDLE_POOL_SWEEPS: u32 = 4;

/// What sysmon knows between two steps.
pub(crate) struct Sweeper {
    /// Nanoseconds between two rounds; none: no rounds.
    interval: Option<u64>,
    /// When the next round begins, or the current one began.
    round_at: u64,
    /// The number of the round, and where it stands; none: between two rounds.
    round: u16,
    at: Option<(usize, usize)>,
    /// The last round left entries in the lists.
    entries_left: bool,
    pool_at: u64,
    pool: Option<Sweep>,
    /// Sweeps of the pool since the runtime was seen busy.
    idle_sweeps: u32,
    /// Stacks of frozen green threads, on their way to the pool.
    cache: StackCache,
}

impl Sweeper {
    pub(crate) fn new(sched: &Sched) -> Sweeper {
        let interval = sched.config.freeze_after.map(|after| after.as_nanos() as u64);
        let now = timers::now();
        Sweeper {
            interval,
            round_at: now + interval.unwrap_or(0),
            round: 1,
            at: None,
            entries_left: false,
            pool_at: now + POOL_SWEEP.as_nanos() as u64,
            pool: None,
            idle_sweeps: 0,
            cache: StackCache::new(),
        }
    }

    /// A worker is busy: there will be something to do.
    pub(crate) fn busy(&mut self) {
        self.entries_left = true;
        self.idle_sweeps = 0;
    }

    /// When there is something to do while the runtime is idle; none: never.
    pub(crate) fn due(&self) -> Option<u64> {
        if self.at.is_some() || self.pool.is_some() {
            return Some(0);
        }
        let round = self.interval.filter(|_| self.entries_left).map(|_| self.round_at);
        let pool = (self.idle_sweeps < IDLE_POOL_SWEEPS).then_some(self.pool_at);
        round.into_iter().chain(pool).min()
    }

    /// Does what is due, until it is done or `until` has come.
    pub(crate) fn work(&mut self, sched: &Sched, until: u64) {
        let mut now = timers::now();
        while now < until {
            if self.interval.is_some_and(|_| self.at.is_some() || now >= self.round_at) {
                self.step(sched, now);
            } else if self.pool.is_some() || now >= self.pool_at {
                self.sweep_pool(now);
            } else {
                return;
            }
            now = timers::now();
        }
    }

    fn sweep_pool(&mut self, now: u64) {
        if self.pool.is_none() {
            // They are free, too, and the pool cannot see it.
            self.cache.clear();
        }
        if self.pool.get_or_insert_default().step().is_none() {
            self.pool = None;
            self.pool_at = now + POOL_SWEEP.as_nanos() as u64;
            self.idle_sweeps = self.idle_sweeps.saturating_add(1);
        }
    }

    /// Some entries of a round.
    fn step(&mut self, sched: &Sched, now: u64) {
        let (list, at) = self.at.unwrap_or_else(|| {
            self.round = self.round.wrapping_add(1);
            self.round_at = now;
            self.entries_left = false;
            (0, 0)
        });
        let Some(p) = sched.ps.get(list) else {
            self.at = None;
            self.round_at += self.interval.unwrap_or(0);
            return;
        };
        let mut scans: Vec<(Scan, u16)> = Vec::new();
        let next = {
            let mut entries = p.parked.lock();
            let end = entries.len().min(at + STEP);
            scans.extend(entries[at.min(end)..end].iter_mut().filter_map(|entry| self.look(entry)));
            if end < entries.len() { (list, end) } else { (list + 1, 0) }
        };
        scans.retain(|(scan, looks)| self.sweep(sched, scan, *looks));
        self.at = Some(if scans.is_empty() { next } else { (list, at) });
        // Those for which all is done. The last entries come to their places, and are looked at next.
        let mut entries = p.parked.lock();
        scans.iter().for_each(|(scan, _)| leave_at(&mut entries, scan.g().place.at()));
        self.entries_left |= !entries.is_empty();
    }

    /// Looks at an entry. If the green thread has been waiting for long, takes it and says for how many looks.
    fn look(&self, entry: &mut Entry) -> Option<(Scan, u16)> {
        if std::mem::replace(&mut entry.round, self.round) == self.round {
            return None;
        }
        let g = entry.g();
        let (parks, copying) = (g.place.parks(), !matches!(g.kind, StackKind::Reserved(_)));
        if parks != entry.parks || !is_at_rest(g) {
            if copying {
                g.place.request_shrink();
            }
            (entry.parks, entry.looks) = (parks, 0);
            return None;
        }
        entry.looks = entry.looks.saturating_add(1);
        if !copying && entry.looks < GIVE_BACK {
            return None;
        }
        entry.scan().map(|scan| (scan, entry.looks))
    }

    /// Does what is due for a green thread that waits; whether that was all.
    fn sweep(&mut self, sched: &Sched, scan: &Scan, looks: u16) -> bool {
        let (g, stats) = (scan.g(), &sched.sweep_stats);
        // By its own M: the stack that its head names is others'.
        if g.frozen.get().is_some() {
            return true;
        }
        // SAFETY: sysmon is on its own stack; the scan makes it the owner of `g`, which waits: so it is suspended, and not
        // unwinding.
        unsafe {
            if g.moves() {
                if stack::used(g) <= FREEZE_MOST && stack::freeze(g, &mut self.cache, stats) {
                    sched.stacks.remove();
                    return true;
                }
                if stack::shrink(g, &mut self.cache, stats) {
                    return false;
                }
            }
            let over = looks >= GIVE_BACK;
            if over {
                stack::give_back(g, stats);
            }
            over
        }
    }
}
