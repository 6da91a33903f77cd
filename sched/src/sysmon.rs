//! `sysmon` (S23): a thread without a P that watches the workers.
//!
//! It asks for preemption of slices that have lasted long enough, and of busy workers whose timers are due. It sleeps
//! exactly until the next such moment, and when all workers are idle, until one is not: an idle runtime uses no CPU.
//!
//! # When a slice began
//!
//! A worker that knows the time when it begins a slice (after a preemption, after a sleep) publishes it; reading a clock
//! on every switch would cost more than the switch. For the other slices sysmon counts from its first look at them. So
//! a green thread among never-yielding ones is preempted after one slice, and one that starts in the midst of short ones
//! after one to two.
//!
//! # The end
//!
//! When the runtime stops, every busy worker is asked at once, also where slices are off, and again until it has left.
//! So sysmon is the last to go.
//!
//! # Going to sleep
//!
//! sysmon sets `asleep`, fences, and looks whether all workers are idle; a worker that wakes clears its `idle`, fences,
//! and looks whether sysmon is `asleep`. One of the two sees the other.
//!
//! It lingers for a few slices before it sleeps, so that a service that is idle between two requests does not wake it
//! for each.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, fence};
use std::time::{Duration, Instant};

use crate::m::Parker;
use crate::sched::Sched;
use crate::timers;

/// Looks in a row at an idle runtime before sysmon sleeps. Plucked from thin air: 10 slices are 1 ms at 100 us.
const LINGER: u32 = 10;

/// Time between two looks where no slice and no timer sets one.
const PERIOD: Duration = Duration::from_millis(10);

/// Time until a request that was not answered is repeated, at most: it may have been overwritten by a switch.
const AGAIN: Duration = Duration::from_millis(1);

/// Time between two sweeps of the stacks kept for reuse.
const SWEEP: Duration = Duration::from_secs(1);

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
}

/// The slice that sysmon saw last on a P, and when it began.
#[derive(Clone, Copy, Default)]
struct Look {
    tick: u32,
    since: u64,
}

/// The thread's function: returns when the runtime stops.
pub(crate) fn run(sched: &Sched) {
    let slice = sched.config.time_slice.map(|s| s.as_nanos() as u64);
    let period = slice.unwrap_or(PERIOD.as_nanos() as u64);
    let mut looks = vec![Look::default(); sched.ps.len()];
    let mut idle_looks = 0;
    let mut swept = Instant::now();
    while !sched.is_stopped() {
        let stop = sched.stop_requested();
        let now = timers::now();
        let mut next = now + period;
        let mut busy = false;
        for ((p, m), look) in sched.ps.iter().zip(&sched.ms).zip(&mut looks) {
            if p.idle.load(Relaxed) {
                continue;
            }
            busy = true;
            let tick = p.schedtick.load(Relaxed);
            if tick != look.tick {
                let start = p.slice_start.load(Relaxed);
                *look = Look { tick, since: if start == 0 { now } else { start.min(now) } };
            }
            let timer = p.timers.next();
            let due = match slice {
                Some(slice) => (look.since + slice).min(timer),
                None => u64::MAX,
            };
            if now >= due || stop {
                // The number before the poison: a prologue that sees the poison finds the request.
                p.preempt_tick.store(tick, SeqCst);
                m.poison();
                next = next.min(now + AGAIN.as_nanos() as u64);
            } else {
                next = next.min(due);
            }
        }
        idle_looks = if busy { 0 } else { idle_looks + 1 };
        if swept.elapsed() >= SWEEP {
            swept = Instant::now();
            morestack_stacks::sweep();
        }
        if idle_looks > LINGER {
            sleep_until_busy(sched);
            idle_looks = 0;
        } else {
            sched.sysmon.parker.park_until(timers::instant(next));
        }
    }
}

fn sleep_until_busy(sched: &Sched) {
    let alarm = &sched.sysmon;
    alarm.asleep.store(true, SeqCst);
    fence(SeqCst);
    if sched.ps.iter().all(|p| p.idle.load(Relaxed)) && !sched.stop_requested() {
        // One last sweep: what is kept for reuse is not needed now.
        if !alarm.parker.park_until(Instant::now().checked_add(SWEEP)) {
            morestack_stacks::sweep();
            alarm.parker.park_until(None);
        }
    }
    alarm.asleep.store(false, SeqCst);
}
