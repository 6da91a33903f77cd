//! `Sched`: what the workers of one runtime share.
//!
//! # Lifetime
//!
//! Green threads point to their `Sched` without counting. It is freed when the last of the `Runtime` and the OS threads
//! that run it lets go, and then only if all its green threads are Dead and no visitor ([`crate::ready`]) is inside;
//! with abandoned green threads left over, it is leaked with them: somebody may hold a handle to one. See
//! [`crate::runtime`].

use std::collections::HashMap;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64, fence};
use std::time::{Duration, Instant};

use core_affinity::CoreId;
use crossbeam_deque::Injector;
use crossbeam_utils::CachePadded;
use parking_lot::{Condvar, Mutex};

use crate::atomics::{AtomicUsize, yield_now};
use crate::config::Config;
use crate::g::{GRef, Status};
use crate::idle::{Idle, SleepState, Workers};
use crate::m::M;
use crate::metrics::{PStats, StackGauge};
use crate::p::P;
use crate::sysmon::Alarm;
use crate::task::GArc;
use crate::{join, schedule};

pub(crate) struct Sched {
    pub(crate) config: Config,
    /// Green threads from outside, until a worker takes them.
    pub(crate) injector: Injector<GRef>,
    /// Those with an index below `workers` are in use.
    pub(crate) ps: boxcar::Vec<CachePadded<P>>,
    workers: AtomicUsize,
    pub(crate) ms: boxcar::Vec<CachePadded<M>>,
    /// Those that the process may use, if workers are to be bound to them.
    cpus: Vec<usize>,
    pub(crate) threads: Mutex<Threads>,
    /// How many threads there are, to be read without the lock.
    pub(crate) live_threads: AtomicUsize,
    /// One at a time changes the number of Ps.
    pub(crate) resizing: Mutex<()>,
    pub(crate) idle: CachePadded<Idle>,
    pub(crate) sysmon: Alarm,
    stop: AtomicBool,
    /// All workers have left: nothing runs any more.
    stopped: AtomicBool,
    /// Green threads that never ran, for the last worker to end.
    unstarted: Mutex<Vec<GRef>>,
    /// How many were ended so.
    dropped: AtomicU64,
    /// The last worker is done with the runtime.
    left: Latch,
    visitors: Visitors,
    pub(crate) drain: Drain,
    pub(crate) spawned_outside: AtomicU64,
    pub(crate) stacks: StackGauge,
    /// What sysmon counts.
    pub(crate) sweep_stats: PStats,
    pub(crate) joiners: Joiners,
}

impl Sched {
    pub(crate) fn new(config: Config) -> Sched {
        let n = config.workers;
        Sched {
            injector: Injector::new(),
            ps: (0..n).map(|i| CachePadded::new(P::new(i))).collect(),
            workers: AtomicUsize::new(n),
            ms: boxcar::Vec::new(),
            cpus: if config.pin_workers { cpus() } else { Vec::new() },
            threads: Mutex::default(),
            live_threads: AtomicUsize::new(0),
            resizing: Mutex::default(),
            idle: CachePadded::new(Idle::new(num_cpus::get())),
            sysmon: Alarm::default(),
            stop: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            unstarted: Mutex::default(),
            dropped: AtomicU64::new(0),
            left: Latch::default(),
            visitors: Visitors::default(),
            drain: Drain::default(),
            spawned_outside: AtomicU64::new(0),
            stacks: StackGauge::default(),
            sweep_stats: PStats::default(),
            joiners: Joiners::default(),
            config,
        }
    }

    /// Asks all workers to leave.
    pub(crate) fn request_stop(&self) {
        self.stop.store(true, SeqCst);
        self.idle.wake_all(self);
        self.sysmon.ring();
        // Those of its own that block their worker.
        self.joiners.unpark_all();
    }

    /// Whether one more worker would have something to run.
    pub(crate) fn lacks_workers(&self) -> bool {
        self.idle.n_idle.load(Relaxed) == 0 && (self.has_work() || self.idle.n_wanting.load(Relaxed) != 0)
    }

    /// All Ps, those that are not in use any more too.
    pub(crate) fn ps(&self) -> impl Iterator<Item = &P> {
        self.ps.iter().map(|(_, p)| &**p)
    }

    /// Says how many Ps are in use, from now on.
    pub(crate) fn set_count(&self, workers: usize) {
        self.workers.store(workers, SeqCst);
    }

    /// Binds the calling thread to the CPU of this P. Where the CPUs cannot be had it stays unbound.
    pub(crate) fn pin(&self, p: usize) {
        if let Some(cpu) = self.cpus.get(p % self.cpus.len().max(1)) {
            core_affinity::set_for_current(CoreId { id: *cpu });
        }
    }

    #[inline(always)]
    pub(crate) fn stop_requested(&self) -> bool {
        self.stop.load(Relaxed)
    }

    /// Keeps green threads that never ran for [`set_stopped`](Self::set_stopped) to end: their closures' destructors may
    /// wait for anything, and a worker that still has to leave must not.
    pub(crate) fn leave_unstarted(&self, gs: impl Iterator<Item = GRef>) {
        self.unstarted.lock().extend(gs);
    }

    /// Called by the thread of the last worker, an ordinary OS thread again.
    pub(crate) fn set_stopped(&self) {
        self.stopped.store(true, SeqCst);
        self.sysmon.ring();
        self.joiners.unpark_all();
        loop {
            // A destructor may spawn by a handle of this runtime. What was woken from outside meanwhile is abandoned.
            let injected = std::iter::from_fn(|| self.injector.steal().success());
            let injected = injected.filter(|g| g.status() == Status::Idle);
            let gs: Vec<GRef> = self.unstarted.lock().drain(..).chain(injected).collect();
            if gs.is_empty() {
                break;
            }
            for g in gs {
                self.dropped.fetch_add(1, SeqCst);
                schedule::end_unstarted(g, None);
            }
        }
        self.left.open();
    }

    /// Waits until the last worker is done with the runtime.
    pub(crate) fn wait_until_left(&self) {
        self.left.wait();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(SeqCst)
    }

    /// Green threads that were spawned and have not finished. Exact when nothing runs.
    pub(crate) fn unfinished(&self) -> u64 {
        // Ended first: a green thread that is counted as ended was counted as spawned before.
        let completed: u64 = self.ps().map(|p| p.stats.completed.get()).sum();
        let ended = completed + self.dropped.load(SeqCst);
        let inside: u64 = self.ps().map(|p| p.stats.spawned_here.get()).sum();
        (self.spawned_outside.load(SeqCst) + inside).saturating_sub(ended)
    }

    /// Keeps the runtime from being freed until the guard is dropped.
    pub(crate) fn visit(&self) -> Visit<'_> {
        self.visitors.enter()
    }

    /// Waits for the visitors, after the workers were waited for.
    pub(crate) fn wait_for_visitors(&self) {
        self.visitors.wait();
    }
}

impl Workers for Sched {
    #[inline(always)]
    fn count(&self) -> usize {
        self.workers.load(Relaxed)
    }

    #[inline(always)]
    fn sleep_state(&self, index: usize) -> &SleepState {
        &self.ms[index].sleep
    }

    fn has_work(&self) -> bool {
        !self.injector.is_empty() || self.ps().any(|p| p.has_work())
    }

    fn stopping(&self) -> bool {
        self.stop_requested()
    }
}

/// The CPUs that the process may use: its first thread, rather, as the calling one may be bound to one of them.
fn cpus() -> Vec<usize> {
    // SAFETY: an all-zero set is valid, and the call is given its size.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::sched_getaffinity(libc::getpid(), size_of_val(&set), &mut set);
        (0..libc::CPU_SETSIZE as usize).filter(|&cpu| libc::CPU_ISSET(cpu, &set)).collect()
    }
}

/// The OS threads of a runtime.
#[derive(Default)]
pub(crate) struct Threads {
    /// How many there are.
    pub(crate) live: usize,
    /// Those of them that were started without a P, and are not there yet.
    pub(crate) starting: usize,
    /// The last has left: no more are started.
    pub(crate) closed: bool,
    /// Ms whose threads have retired.
    pub(crate) unused: Vec<usize>,
    /// Ps beyond `workers` that nobody holds.
    pub(crate) retired: Vec<usize>,
}

impl Threads {
    /// No more are started, if there is none. Whether that is so for the first time.
    pub(crate) fn close_if_empty(&mut self) -> bool {
        self.live == 0 && !std::mem::replace(&mut self.closed, true)
    }
}

/// Threads from outside that are about to queue a green thread, and still need the runtime after that.
///
/// Relaxed on the way in: the queue's push orders it. Whoever waits has waited for the worker that took from the queue,
/// and so sees the count. `loom.rs` has the model.
#[derive(Default)]
pub(crate) struct Visitors(AtomicUsize);

impl Visitors {
    pub(crate) fn enter(&self) -> Visit<'_> {
        self.0.fetch_add(1, Relaxed);
        Visit(self)
    }

    /// They are between two instructions of `ready`, so this is short.
    pub(crate) fn wait(&self) {
        while self.0.load(Acquire) != 0 {
            yield_now();
        }
    }
}

/// One of them; it goes when this is dropped.
pub(crate) struct Visit<'a>(&'a Visitors);

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Release);
    }
}

/// Opened once; who waits for it then goes on.
#[derive(Default)]
struct Latch {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Latch {
    fn open(&self) {
        *self.open.lock() = true;
        self.opened.notify_all();
    }

    fn wait(&self) {
        let mut open = self.open.lock();
        self.opened.wait_while(&mut open, |open| !*open);
    }
}

/// Waiting for the last green thread to finish.
#[derive(Default)]
pub(crate) struct Drain {
    wanted: AtomicBool,
    lock: Mutex<()>,
    drained: Condvar,
}

impl Drain {
    /// After a green thread was counted as completed. The fences here and in `wait` see to it that either this sees
    /// `wanted` or `wait` sees the count; of two that finish at once, the later sees both counts.
    #[inline]
    pub(crate) fn check(&self, sched: &Sched) {
        if self.wanted.load(Relaxed) {
            fence(SeqCst);
            if sched.unfinished() == 0 {
                drop(self.lock.lock());
                self.drained.notify_all();
            }
        }
    }

    /// Waits until no green thread is unfinished, or until `deadline`.
    pub(crate) fn wait(&self, sched: &Sched, deadline: Option<Instant>) {
        let mut lock = self.lock.lock();
        self.wanted.store(true, SeqCst);
        fence(SeqCst);
        // A worker that read `wanted` before the store may finish the last one unseen: look again now and then.
        while sched.unfinished() != 0 && deadline.is_none_or(|d| Instant::now() < d) {
            let look = Instant::now() + Duration::from_millis(10);
            self.drained.wait_until(&mut lock, deadline.map_or(look, |d| d.min(look)));
        }
    }
}

/// Threads from outside that wait for one of this runtime's green threads ([`crate::join`]).
#[derive(Default)]
pub(crate) struct Joiners {
    /// What they wait for, by its id.
    list: Mutex<HashMap<u64, GArc>>,
}

impl Joiners {
    pub(crate) fn insert(&self, id: u64, g: GArc) {
        self.list.lock().insert(id, g);
    }

    pub(crate) fn remove(&self, id: u64) {
        self.list.lock().remove(&id);
    }

    /// Outside of the lock: a wake-up takes others. They stay in the list, for who wakes may wait again.
    fn unpark_all(&self) {
        let all: Vec<GArc> = self.list.lock().values().cloned().collect();
        for g in all {
            join::wake_other(&g);
        }
    }
}
