//! `P`: the right to run green threads, and what belongs to it (S22).
//!
//! | field | who |
//! |---|---|
//! | `deque`, `cache`, `ids`, `cleared`, `sudogs`, `quiet`, `put_off` | the M that holds the P, only |
//! | `stealer`, `runnext`, `young` | any M: these are where work is stolen |
//! | `schedtick`, `slice_start`, `idle` | written by the holder, read by sysmon |
//! | `preempt_tick`, `requested_at` | written by sysmon, read by the holder |
//! | `timers` | the holder; thieves and sysmon as its module says |
//! | `parked` | has a lock: the holder enters, any M leaves, sysmon looks |
//! | `stats` | written by the holder, read by anyone |
//!
//! `runnext` holds what was made ready last by the green thread that runs now. It runs next and inherits the rest of the
//! time slice, so two green threads that wake each other in turn run back to back and yet cannot keep the others
//! waiting: when the slice is over, both go to the tail. Thieves look at `runnext` last.
//!
//! # Time slices
//!
//! `schedtick` counts slices. sysmon asks for preemption of the slice it saw, by its number, and poisons the guard. A
//! request that arrives in another slice than it was meant for does not match, and is dropped by `newstack`.

use std::cell::{Cell, UnsafeCell};
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64};

use crossbeam_deque::{Stealer, Worker};
use morestack_stacks::StackCache;

use crate::channel::Sudogs;
use crate::g::{G, GRef, new_ids};
use crate::idle::Workers;
use crate::m::M;
use crate::metrics::{Counter, PStats};
use crate::parked::Parked;
use crate::sched::Sched;
use crate::timers::Timers;
use crate::young::{Spawner, Young};

/// Ids are taken in blocks of so many. Any number works; this one keeps the shared counter cold.
const ID_BLOCK: u64 = 1024;

pub(crate) struct P {
    pub(crate) index: usize,
    deque: UnsafeCell<Worker<GRef>>,
    pub(crate) stealer: Stealer<GRef>,
    runnext: AtomicPtr<G>,
    /// Who has spawned what is in `runnext`, if that has not started.
    pub(crate) spawner: Cell<Spawner>,
    /// The M that held it last. Written by that M, read by sysmon. Null at first.
    pub(crate) holder: AtomicPtr<M>,
    pub(crate) young: Young<G>,
    cache: UnsafeCell<StackCache>,
    pub(crate) timers: Timers,
    pub(crate) schedtick: AtomicU32,
    pub(crate) preempt_tick: AtomicU32,
    /// The time stamp when the current slice began, if the holder took one; else 0.
    pub(crate) slice_start: AtomicU64,
    /// Its M sleeps for want of work, or nobody holds it: there is no slice to watch.
    pub(crate) idle: AtomicBool,
    ids: Cell<(u64, u64)>,
    sudogs: UnsafeCell<Sudogs>,
    /// The cache was cleared, and not filled since.
    pub(crate) cleared: Cell<bool>,
    /// It was woken by its alarm, and has since run nothing but sleepers and what they made ready. Nobody told it of work, so
    /// it searches once, not for a while.
    pub(crate) quiet: Cell<bool>,
    /// The green threads that parked here.
    pub(crate) parked: Parked,
    pub(crate) stats: PStats,
    /// Slices that sysmon asked to end. sysmon's.
    pub(crate) requests: Counter,
    /// When it asked the last of them first. Written by sysmon.
    pub(crate) requested_at: AtomicU64,
    /// The slice in which a request was put off last, and how often. The holder's.
    put_off: Cell<(u32, u32)>,
}

// SAFETY: the table in the module header: deque, cache and ids are reached only through the `unsafe` accessors, whose
// contract is to hold the P; so is what the timers keep for the holder. A `GRef` is Send.
unsafe impl Sync for P {}

impl P {
    pub(crate) fn new(index: usize) -> P {
        let deque = Worker::new_fifo();
        P {
            index,
            stealer: deque.stealer(),
            deque: UnsafeCell::new(deque),
            runnext: AtomicPtr::new(ptr::null_mut()),
            spawner: Cell::default(),
            holder: AtomicPtr::new(ptr::null_mut()),
            young: Young::new(),
            cache: UnsafeCell::new(StackCache::new()),
            timers: Timers::new(),
            schedtick: AtomicU32::new(1),
            preempt_tick: AtomicU32::new(0),
            slice_start: AtomicU64::new(0),
            idle: AtomicBool::new(true),
            ids: Cell::new((0, 0)),
            sudogs: UnsafeCell::default(),
            cleared: Cell::new(true),
            quiet: Cell::new(false),
            parked: Parked::default(),
            stats: PStats::default(),
            requests: Counter::default(),
            requested_at: AtomicU64::new(0),
            put_off: Cell::new((0, 0)),
        }
    }

    /// The run queue: FIFO for its owner too, so that nothing in it starves.
    ///
    /// # Safety
    ///
    /// The calling thread's M holds this P.
    #[inline(always)]
    pub(crate) unsafe fn deque(&self) -> &Worker<GRef> {
        // SAFETY: only the holder reaches it, and only by shared reference.
        unsafe { &*self.deque.get() }
    }

    /// The stack cache.
    ///
    /// # Safety
    ///
    /// The calling thread's M holds this P and runs on g0, and no other reference to the cache is in use.
    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "exclusive by the contract")]
    pub(crate) unsafe fn cache(&self) -> &mut StackCache {
        self.cleared.set(false);
        // SAFETY: by the contract.
        unsafe { &mut *self.cache.get() }
    }

    /// The sudogs that it keeps.
    ///
    /// # Safety
    ///
    /// The calling thread's M holds this P, and no other reference to them is in use.
    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "exclusive by the contract")]
    pub(crate) unsafe fn sudogs(&self) -> &mut Sudogs {
        // SAFETY: by the contract.
        unsafe { &mut *self.sudogs.get() }
    }

    /// The next green-thread id.
    ///
    /// # Safety
    ///
    /// The calling thread's M holds this P.
    pub(crate) unsafe fn new_id(&self) -> u64 {
        let (mut next, mut end) = self.ids.get();
        if next == end {
            next = new_ids(ID_BLOCK);
            end = next + ID_BLOCK;
        }
        self.ids.set((next + 1, end));
        next
    }

    /// Puts `g` into `runnext` and returns what it displaced. Any thread takes, the holder alone puts something in.
    #[inline]
    pub(crate) fn swap_runnext(&self, g: Option<GRef>) -> Option<GRef> {
        let new = g.map_or(ptr::null_mut(), GRef::as_ptr);
        if self.runnext.load(Relaxed).is_null() {
            // Nobody else fills it.
            if !new.is_null() {
                self.runnext.store(new, Release);
            }
            return None;
        }
        // SAFETY: what was in the slot is owned by it, and the swap takes it out once.
        NonNull::new(self.runnext.swap(new, AcqRel)).map(|g| unsafe { GRef::from_ptr(g) })
    }

    /// The M that held it last; none before the first.
    pub(crate) fn holder(&self) -> Option<&M> {
        // SAFETY: Ms live as long as their runtime, like Ps.
        unsafe { self.holder.load(Acquire).as_ref() }
    }

    /// Whether the runtime has been told to do with fewer Ps.
    #[inline]
    pub(crate) fn is_surplus(&self, sched: &Sched) -> bool {
        self.index >= sched.count()
    }

    /// Takes all that is queued.
    ///
    /// # Safety
    ///
    /// The calling thread's M holds this P.
    pub(crate) unsafe fn take_all(&self) -> impl Iterator<Item = GRef> {
        // SAFETY: by the contract.
        let deque = unsafe { self.deque() };
        let queued = std::iter::from_fn(|| deque.pop()).chain(std::iter::from_fn(|| self.take_young()));
        queued.chain(std::iter::from_fn(|| self.swap_runnext(None)))
    }

    /// The oldest of the latest spawns. By the holder.
    #[inline]
    pub(crate) fn take_young(&self) -> Option<GRef> {
        // SAFETY: it comes with its count.
        self.young.take_oldest().map(|g| unsafe { GRef::from_ptr(g) })
    }

    /// Of the latest spawns, the one to run next. By the holder.
    #[inline]
    pub(crate) fn next_young(&self) -> Option<GRef> {
        // SAFETY: as above.
        self.young.take_next().map(|g| unsafe { GRef::from_ptr(g) })
    }

    /// The oldest, or a later one, by any thread.
    pub(crate) fn steal_young(&self) -> Option<GRef> {
        // SAFETY: as above.
        self.young.steal().map(|g| unsafe { GRef::from_ptr(g) })
    }

    /// How much there is to steal here.
    pub(crate) fn queued(&self) -> usize {
        self.stealer.len() + self.young.count() + usize::from(!self.runnext.load(Relaxed).is_null())
    }

    /// Takes `g`, which has not started, if it is among the latest spawns. By the holder, who owns it then.
    #[inline]
    pub(crate) fn take_unstarted(&self, g: NonNull<G>) -> bool {
        let (g, next) = (g.as_ptr(), self.runnext.load(Relaxed));
        match next == g {
            true => self.runnext.compare_exchange(g, ptr::null_mut(), AcqRel, Relaxed).is_ok(),
            false => NonNull::new(g).is_some_and(|g| self.young.take(g)),
        }
    }

    /// Whether there is something to steal here.
    pub(crate) fn has_work(&self) -> bool {
        !self.stealer.is_empty() || !self.runnext.load(Relaxed).is_null() || !self.young.is_empty()
    }

    /// Whether somebody asked for preemption of the current slice.
    #[inline(always)]
    pub(crate) fn preempt_requested(&self) -> bool {
        self.preempt_tick.load(Relaxed) == self.schedtick.load(Relaxed)
    }

    /// Counts a request that was put off. Whether those in a row for this slice are still below `most`; if not, the count begins anew.
    pub(crate) fn is_patient(&self, most: u32) -> bool {
        let tick = self.schedtick.load(Relaxed);
        let (last, times) = self.put_off.get();
        let times = if last == tick { times + 1 } else { 1 };
        self.put_off.set((tick, times % most));
        times < most
    }

    /// Begins a new slice. `start` is the time stamp, or 0 where none was taken.
    #[inline(always)]
    pub(crate) fn next_slice(&self, start: u64) {
        self.slice_start.store(start, Relaxed);
        // Only the holder writes; 0 is never a slice, so that a fresh `preempt_tick` matches none.
        self.schedtick.store(self.schedtick.load(Relaxed).wrapping_add(1).max(1), Relaxed);
    }
}

/// The processor's time stamp counter: cheaper than a clock. Only sysmon makes time of it, and it tolerates counters that
/// differ between processors.
#[inline(always)]
pub(crate) fn stamp() -> u64 {
    // SAFETY: every x86-64 has the instruction.
    unsafe { core::arch::x86_64::_rdtsc() }
}
