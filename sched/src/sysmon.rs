//! `sysmon` (S23): a thread without a P that watches the workers.
//!
//! It asks for preemption of slices that have lasted long enough, and of busy workers whose timers are due. For untied
//! sleepers that are late all the same it wakes another worker ([`crate::timers`]). It takes the P of a worker that is stuck
//! in the operating system ([`crate::retake`]). It sleeps until the next such moment,
//! and when all workers are idle, until one is not: an idle runtime uses no CPU. In between it sweeps stacks
//! ([`crate::sweep`]). It fails the checks of those that were [cancelled](crate::cancel).
//!
//! # When a slice began
//!
//! A worker publishes the time stamp counter when it begins a slice after a preemption or a sleep, or with a green thread
//! that has just been taken from a shared queue: then a computation is cut off after one slice, whenever it began. Where
//! green threads only pass the turn on, reading even that counter would cost as much as the switch; those slices count
//! from sysmon's first look at them, and last for one to two.
//!
//! # Where nobody waits
//!
//! A slice that is over is cut off when somebody waits for its worker, and not before: sysmon looks again until then. A
//! request in vain costs more than what it does. Processors with AMD's branch predictor keep no track of a branch that was
//! never taken; once a check has failed, each call pays for the prediction of its check for milliseconds, up to a sixth of
//! the time of a function that does nothing but call. Only every [`PERIOD`] one is asked all the same, for the sake of its
//! stack, which may have become too large.
//!
//! # Waking in time
//!
//! A thread that sleeps until a deadline runs tens of microseconds after it, a good part of a short slice. sysmon keeps
//! an average of how late it is and sets its alarm that much earlier. If it is early for once, by [`EARLY`] or an eighth of
//! a slice, the slice counts as over; what it is earlier is waited out awake. That is for a slice that is to end and a timer
//! that is due; where it only has to look again, no sooner than a slice from now, it sleeps and is late.
//!
//! # Spinning
//!
//! With `spin_sysmon` it does not sleep while a worker is busy: it is never late, and nothing is cut short. A wake-up costs
//! 10 to 20 us of system time on virtual machines, so at slices of 50 us and less sleeping saves little, and late wake-ups
//! make two slices of every other one.
//!
//! # The end
//!
//! When the runtime stops, every busy worker is asked at once, also where slices are off, and again until it has left.
//! So sysmon is the last to go.
//!
//! # Going to sleep
//!
//! sysmon sets `asleep`, fences, and looks whether all workers are idle; a worker that wakes clears its `idle`, fences,
//! and looks whether sysmon is `asleep`. One of the two sees the other; `loom.rs` has the model.
//!
//! It lingers for a few slices before it sleeps, so that a service that is idle between two requests does not wake it
//! for each.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::{Duration, Instant};

use crate::atomics::{AtomicBool, fence};
use crate::m::M;
use crate::p::{self, P};
use crate::parker::Parker;
use crate::retake::{Retaker, Watch};
use crate::sched::Sched;
use crate::sweep::Sweeper;
use crate::{cancel, newstack, timers};

/// Looks in a row at an idle runtime before sysmon sleeps. Plucked from thin air: 10 slices are 1 ms at 100 us.
pub(crate) const LINGER: u32 = 10;

/// Time between two looks where no slice and no timer sets one.
const PERIOD: Duration = Duration::from_millis(10);

/// The most by which the alarm is set earlier: twice what is usual on virtual machines. It bounds the time that sysmon
/// waits awake, too.
const MAX_LEAD: u64 = 60_000;

/// By how much a slice may be cut short: less than the usual lateness, so that what allows for it does not make timers late.
const EARLY: u64 = 15_000;

/// Time until a request that was not answered is repeated, at most: it may have been overwritten by a switch.
const AGAIN: Duration = Duration::from_millis(1);

/// A slice is not cut short for a timer before it has lasted for so many nanoseconds: where many sleep, some timer is always
/// due, and each request costs a wake-up of sysmon and a switch. The shortest useful slice; timers are later by as much.
const CUT_AFTER: u64 = 100_000;

/// Nanoseconds of work on stacks at a time while all workers are idle: how late sysmon may notice that one is not.
const CHORE: u64 = 50_000;

/// What wakes sysmon.
#[derive(Default)]
pub(crate) struct Alarm {
    asleep: AtomicBool,
    parker: Parker,
}

impl Alarm {
    /// A worker has left the idle list.
    #[inline]
    pub(crate) fn worker_woke(&self) {
        fence(SeqCst);
        if self.asleep.load(Relaxed) {
            self.ring();
        }
    }

    pub(crate) fn ring(&self) {
        self.parker.unpark();
    }

    /// Sleeps until it rings, if `idle`. `chores` does what is to be done meanwhile, some of it at a time, and says until
    /// when there is nothing more.
    pub(crate) fn sleep_if(&self, idle: impl FnOnce() -> bool, mut chores: impl FnMut() -> Option<Instant>) {
        self.asleep.store(true, SeqCst);
        fence(SeqCst);
        if idle() {
            loop {
                let next = chores();
                if self.parker.park_until(next) || next.is_none() {
                    break;
                }
            }
        }
        self.asleep.store(false, SeqCst);
    }
}

/// The slice that sysmon saw last on a P, and when it began.
#[derive(Clone, Copy, Default)]
struct Look {
    tick: u32,
    since: u64,
    /// It was asked for preemption.
    asked: bool,
    /// When it was asked though nobody waited.
    in_vain: u64,
    watch: Watch,
}

impl Look {
    /// Whether it is of use to ask for preemption of this slice, which is over. Asking in vain is not repeated sooner if it finds no answer.
    fn has_takers(&mut self, sched: &Sched, p: &P, m: &M, now: u64) -> bool {
        if newstack::waits_for(sched, p, m, now) || sched.ps().any(|other| other.timers.want_help(now)) {
            return true;
        }
        let is_time = now >= self.since.max(self.in_vain) + PERIOD.as_nanos() as u64;
        if is_time {
            self.in_vain = now;
        }
        is_time
    }
}

/// Time stamps in nanoseconds, by comparing the two clocks over the time that sysmon runs.
struct Stamps {
    /// Both clocks at the start.
    start: (u64, u64),
    /// Both clocks at the present look.
    now: (u64, u64),
}

impl Stamps {
    fn new() -> Stamps {
        let now = (p::stamp(), timers::now());
        Stamps { start: now, now }
    }

    /// Begins a look: the present time.
    fn look(&mut self) -> u64 {
        self.now = (p::stamp(), timers::now());
        self.now.1
    }

    /// When `stamp` was taken; the present for 0 and for what is not plausible.
    fn time(&self, stamp: u64) -> u64 {
        let ticks = self.now.0.wrapping_sub(self.start.0).max(1) as f64;
        let ns_per_tick = (self.now.1 - self.start.1) as f64 / ticks;
        let ago = if stamp == 0 { 0 } else { self.now.0.saturating_sub(stamp) };
        self.now.1.saturating_sub((ago as f64 * ns_per_tick) as u64)
    }
}

/// Sleeps until a deadline, as exactly as can be.
struct Sleeper {
    lead: u64,
}

impl Sleeper {
    /// `deadline` is early by `early` already. With `spins` it is waited for awake.
    fn sleep_until(&mut self, sched: &Sched, deadline: u64, early: u64, spins: bool) {
        let alarm = (deadline + early).saturating_sub(self.lead);
        if !spins && alarm > timers::now() {
            if sched.sysmon.parker.park_until(timers::instant(alarm)) {
                return;
            }
            let late = timers::now().saturating_sub(alarm).min(MAX_LEAD);
            // An eighth of the way: one outlier does not count for much.
            self.lead = (self.lead * 7 + late) / 8;
        }
        while timers::now() < deadline && !sched.stop_requested() {
            std::hint::spin_loop();
        }
    }
}

/// The thread's function: returns when the runtime stops.
pub(crate) fn run(sched: &Arc<Sched>) {
    let slice = sched.config.time_slice.map(|s| s.as_nanos() as u64);
    let period = slice.unwrap_or(PERIOD.as_nanos() as u64);
    let mut looks = Vec::new();
    let mut retaker = Retaker::default();
    let mut idle_looks = 0;
    let mut sweeper = Sweeper::new(sched);
    let mut stamps = Stamps::new();
    let spins = sched.config.spin_sysmon && slice.is_some();
    let mut sleeper = Sleeper { lead: 0 };
    let short = (slice.unwrap_or(0) / 8).min(EARLY);
    // Awake, it is exact, and where nobody waits for a worker whose slice is over the next look may come soon.
    let (early, pause) = if spins { (0, short) } else { (short, period - short) };
    while !sched.is_stopped() {
        let stop = sched.stop_requested();
        let now = stamps.look();
        // Stacks are to be swept however long a slice is.
        let latest = now + (period - early).min(PERIOD.as_nanos() as u64);
        let mut next = latest;
        let mut busy = false;
        looks.resize(sched.ps.count(), Look::default());
        for (p, look) in sched.ps().zip(&mut looks) {
            let Some(m) = p.holder().filter(|_| !p.idle.load(Relaxed)) else {
                continue;
            };
            busy = true;
            let tick = p.schedtick.load(Relaxed);
            if tick != look.tick {
                *look = Look { tick, since: stamps.time(p.slice_start.load(Relaxed)), ..Look::default() };
            }
            let timer = p.timers.next();
            let due = match slice {
                Some(slice) => (look.since + slice - early).min(timer.max(look.since + CUT_AFTER)),
                None => u64::MAX,
            };
            next = next.min(retaker.look(sched, (p, m), &mut look.watch, (tick, look.since), now));
            if stop || p.is_surplus(sched) || now >= due && look.has_takers(sched, p, m, now) {
                let first = !std::mem::replace(&mut look.asked, true);
                if first {
                    p.requests.add(1);
                    p.requested_at.store(timers::now(), Relaxed);
                }
                // The number before the poison: a prologue that sees the poison finds the request.
                p.preempt_tick.store(tick, SeqCst);
                m.poison();
                next = next.min(now + AGAIN.as_nanos() as u64);
                // The next slice is not over before the next look, but a timer may be due.
                if slice.is_some() && first {
                    next = next.min(timer.max(now + CUT_AFTER));
                }
            } else {
                // Over, and nobody waits: not before a timer is due.
                next = next.min(if now >= due { timer.min(now + pause) } else { due });
            }
            if p.timers.want_help(now) {
                // In vain if it goes to a worker that has just looked: so it is repeated, as the request above is.
                sched.idle.wakep(&**sched);
                next = next.min(now + AGAIN.as_nanos() as u64);
            } else {
                next = next.min(p.timers.next_shared().saturating_add(timers::HELP_AFTER));
            }
        }
        retaker.look_at_stuck(sched);
        cancel::look(sched);
        idle_looks = if busy { 0 } else { idle_looks + 1 };
        if busy {
            sweeper.busy();
        }
        if idle_looks > LINGER {
            sleep_until_busy(sched, &mut sweeper);
            idle_looks = 0;
        } else {
            if !stop {
                sweeper.work(sched, now + (next.saturating_sub(now)) / 2);
            }
            if next < latest || spins {
                sleeper.sleep_until(sched, next, early, spins && busy);
            } else {
                sched.sysmon.parker.park_until(timers::instant(next));
            }
        }
    }
    cancel::forget(sched);
}

fn sleep_until_busy(sched: &Sched, sweeper: &mut Sweeper) {
    let idle = || sched.ps().all(|p| p.idle.load(Relaxed)) && !sched.stop_requested();
    sched.sysmon.sleep_if(idle, || {
        sweeper.work(sched, timers::now() + CHORE);
        sweeper.due().and_then(timers::instant)
    });
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::hint::spin_loop;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use morestack_asm::{STACK_PREEMPT, stackguard_slot};

    use super::*;
    use crate::{Runtime, checkpoint, park, spawn};

    const SLICE: Duration = Duration::from_micros(100);

    fn runtime(spins: bool) -> Runtime {
        Runtime::builder().workers(1).time_slice(Some(SLICE)).spin_sysmon(spins).build().unwrap()
    }

    /// Whether the check of the calling green thread would fail.
    fn asked() -> bool {
        // SAFETY: this thread's own.
        unsafe { (*stackguard_slot()).load(Relaxed) == STACK_PREEMPT }
    }

    /// Waits for what must happen, without giving way.
    fn wait(happened: impl Fn() -> bool) {
        let started = Instant::now();
        while !happened() {
            assert!(started.elapsed() < Duration::from_secs(10), "it does not happen");
            spin_loop();
        }
    }

    #[test]
    fn who_runs_alone_is_not_asked_and_who_is_waited_for_is() {
        for spins in [false, true] {
            runtime(spins).run(|| {
                // Another slice than that of a thread that may have been asked before.
                crate::yield_now();
                let started = Instant::now();
                loop {
                    let asked = asked();
                    // In that order: what was seen came before the time.
                    if started.elapsed() > PERIOD / 2 {
                        break;
                    }
                    assert!(!asked, "asked for nobody's sake");
                }
                let other = spawn(|| ());
                wait(asked);
                checkpoint();
                assert!(other.is_finished());
            });
        }
    }

    /// All that can wait for a worker ends the slice of who runs there.
    #[test]
    fn whoever_waits_ends_the_slice() {
        let hog = |ran: &AtomicBool| {
            wait(|| {
                checkpoint();
                ran.load(SeqCst)
            })
        };
        /// A thread that has started and waits, and what says that it goes on.
        fn parked() -> (crate::JoinHandle<()>, Arc<AtomicBool>) {
            let (started, ran) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
            let handle = spawn({
                let (started, ran) = (started.clone(), ran.clone());
                move || {
                    started.store(true, SeqCst);
                    park();
                    ran.store(true, SeqCst);
                }
            });
            while !started.load(SeqCst) {
                crate::yield_now();
            }
            (handle, ran)
        }
        for spins in [false, true] {
            let rt = runtime(spins);
            rt.run(|| {
                let ran = Arc::new(AtomicBool::new(false));
                let set = || {
                    let ran = ran.clone();
                    move || ran.store(true, SeqCst)
                };
                // In `runnext`.
                spawn(set());
                hog(&ran);
                // In the injector.
                ran.store(false, SeqCst);
                std::thread::scope(|scope| drop(scope.spawn(|| rt.spawn(set()))));
                hog(&ran);
                // In `tied_next`.
                let (handle, ran) = parked();
                handle.thread().unpark();
                hog(&ran);
                // In the inbox.
                let (handle, ran) = parked();
                std::thread::scope(|scope| drop(scope.spawn(|| handle.thread().unpark())));
                hog(&ran);
                // In the tied queue: this one itself, while the other runs.
                let (ran, back) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
                let other = spawn({
                    let (ran, back) = (ran.clone(), back.clone());
                    move || {
                        ran.store(true, SeqCst);
                        hog(&back);
                    }
                });
                hog(&ran);
                back.store(true, SeqCst);
                assert!(other.join().is_ok());
                // Among the timers.
                let ran = Arc::new(AtomicBool::new(false));
                spawn({
                    let ran = ran.clone();
                    move || {
                        crate::sleep(Duration::from_millis(3));
                        ran.store(true, SeqCst);
                    }
                });
                hog(&ran);
            });
        }
    }
}
