//! Retaking (S23): sysmon gives the P of an M that is stuck in the operating system to another M.
//!
//! | stuck | noticed | its P is taken |
//! |---|---|---|
//! | in [`blocking`](crate::blocking()) | at a look | when others wait, after [`CALL_AFTER`]; when nobody does, after [`LAZY_AFTER`], so that sysmon may sleep |
//! | in a system call that nobody announced | the slice does not end, and the kernel says twice in a row that the thread waits in the same one | at once |
//!
//! A thread that computes without a prologue is not stuck: another one would only compete with it.
//!
//! What is tied to the stuck M waits all the same. If it is a lock that it waits for (a futex), the owner may be one of those,
//! and then both wait for ever: so this is reported, once.
//!
//! An M to give the P to is one of the free; if there is none, a thread is started, and the P given to it at a later look.

use std::io::{self, Write};
use std::ptr;
use std::sync::Arc;
use std::sync::Once;
use std::sync::atomic::Ordering::Relaxed;

use crate::m::M;
use crate::p::P;
use crate::sched::Sched;
use crate::worker::{self, NoThread};

/// Nanoseconds that an announced call may take from when it is first seen. Go's number: less is not worth a hand-over.
const CALL_AFTER: u64 = 20_000;

/// The same where nobody waits for the P; and how often a thread that does not end its slice is looked after.
const LAZY_AFTER: u64 = 10_000_000;

/// Nanoseconds until another look at whether a thread that was started for a P is there.
const START: u64 = 100_000;

/// Nanoseconds until another try when no thread could be started.
const RETRY: u64 = 1_000_000_000;

/// What was seen of the M that holds a P.
#[derive(Clone, Copy, Default)]
pub(crate) struct Watch {
    /// When it was first seen in the announced call.
    call: Option<u64>,
    /// When the kernel was last asked, in this slice, and the system call that it named.
    asked: Option<(u64, Option<u64>)>,
}

/// One that lost its P in a system call that nobody announced.
struct Stuck {
    /// Of the M.
    index: usize,
    /// Its green thread.
    who: String,
    call: u64,
}

/// What is known of all.
#[derive(Default)]
pub(crate) struct Retaker {
    /// No thread is started before.
    next_start: u64,
    stuck: Vec<Stuck>,
}

impl Retaker {
    /// Looks at `m`, which holds the busy `p` and has been in the slice `tick` since `since`. When to look again.
    pub(crate) fn look(
        &mut self,
        sched: &Arc<Sched>,
        (p, m): (&P, &M),
        watch: &mut Watch,
        (tick, since): (u32, u64),
        now: u64,
    ) -> u64 {
        // It was taken a moment ago, and its next holder is not there yet; or the runtime stops, and takes nothing any more.
        if m.hold.is_taken() || sched.stop_requested() {
            return u64::MAX;
        }
        if m.hold.in_call() {
            let first = *watch.call.get_or_insert(now);
            let after = if somebody_waits(sched, p, now) { CALL_AFTER } else { LAZY_AFTER };
            return if now < first + after { first + after } else { self.retake(sched, (p, m), tick, now) };
        }
        watch.call = None;
        let (last, call) = watch.asked.unwrap_or((since, None));
        if now < last + LAZY_AFTER || !m.hold.is_out() {
            return u64::MAX;
        }
        let waits_in = system_call(m);
        watch.asked = Some((now, waits_in));
        let Some(call) = waits_in.filter(|_| waits_in == call) else {
            return now + LAZY_AFTER;
        };
        let who = name(m);
        let next = self.retake(sched, (p, m), tick, now);
        if m.hold.is_taken() {
            let who = who.unwrap_or_else(|| "a green thread".to_owned());
            self.stuck.push(Stuck { index: m.index, who, call });
        } else {
            // There is no M for it yet: the kernel is asked again when there is.
            watch.asked = Some((now.saturating_sub(LAZY_AFTER), Some(call)));
        }
        next
    }

    /// Looks at those that are stuck without a P: something may be waiting for them by now. One that runs again is to find out
    /// at its next prologue that it has no P; a request may have been overwritten by a switch.
    pub(crate) fn look_at_stuck(&mut self, sched: &Sched) {
        self.stuck.retain(|stuck| {
            let m = &sched.ms[stuck.index];
            let out = m.hold.is_taken() && m.hold.is_out();
            if out {
                m.poison();
                report(m, &stuck.who, stuck.call);
            }
            out
        });
    }

    /// Gives `p` to another M than `m`, if there is one. When to look again.
    fn retake(&mut self, sched: &Arc<Sched>, (p, m): (&P, &M), tick: u32, now: u64) -> u64 {
        if sched.idle.can_give() {
            // It may have come back and begun another slice, or lost this P and got another one, since it was looked at.
            if let Some(claim) = m.hold.claim()
                && m.p_if_any().is_some_and(|held| ptr::eq(held, p))
                && p.schedtick.load(Relaxed) == tick
                && sched.idle.give(&**sched, p.index, true)
            {
                claim.take();
                // It may be running by now: its next prologue is to find out.
                m.poison();
            }
            return u64::MAX;
        }
        let starts = now >= self.next_start && sched.threads.lock().starting == 0;
        if starts && let Err(error) = worker::start(sched, None) {
            self.next_start = now + RETRY;
            complain(sched, &error);
        }
        self.next_start.max(now + START)
    }
}

/// Whether another M would have something to run with `p`.
fn somebody_waits(sched: &Sched, p: &P, now: u64) -> bool {
    sched.lacks_workers() || p.timers.next() <= now
}

/// The number of the system call in which the thread of `m` waits; none if it runs, or where the kernel does not say.
fn system_call(m: &M) -> Option<u64> {
    let path = format!("/proc/self/task/{}/syscall", m.tid.load(Relaxed));
    std::fs::read_to_string(path).ok()?.split(' ').next()?.parse().ok()
}

/// The green thread that `m` runs, which is out.
fn name(m: &M) -> Option<String> {
    let claim = m.hold.claim()?;
    // SAFETY: while the claim stands `m` cannot come in, so what it runs, or ran a moment ago, is not freed; null before the
    // first.
    let name = unsafe { m.curg().as_ref() }.map(|g| format!("green thread '{}' (id {})", g.label(), g.id));
    drop(claim);
    name
}

/// Says, once per process, that green threads wait behind one whose OS thread waits for a lock.
fn report(m: &M, who: &str, call: u64) {
    static SAID: Once = Once::new();
    let behind = m.behind.load(Relaxed) + m.inbox.len();
    // Other calls are usually naps, and end by themselves.
    if behind == 0 || call != libc::SYS_futex as u64 {
        return;
    }
    SAID.call_once(|| {
        let name = m.thread.lock().as_ref().and_then(|t| t.thread().name().map(str::to_owned));
        // Nobody may be reading.
        let _ = writeln!(
            io::stderr(),
            "morestack: {who} blocks its worker '{}' in a lock of its OS thread (futex), and {behind} green threads that \
             are tied to that worker wait; if one of them is to end this, all wait for ever\n  \
             use morestack::sync and morestack::channel instead of std's, or call what blocks by morestack::blocking",
            name.as_deref().unwrap_or("<unnamed>"),
        );
    });
}

/// Says, once per process, that a P has to stay with a stuck M.
fn complain(sched: &Sched, error: &NoThread) {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        let why = match error {
            NoThread::Limit => format!("max_threads={} reached", sched.config.max_threads),
            NoThread::System(error) => format!("cannot start a thread: {error}"),
        };
        // Nobody may be reading.
        let _ = writeln!(
            io::stderr(),
            "morestack: no OS thread takes over for one that blocks ({why}): its worker stands still until it returns"
        );
    });
}
