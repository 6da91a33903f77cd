//! Where a green thread goes when it becomes runnable, and who is told.
//!
//! | green thread | made ready by its M / a worker of this runtime | by any other thread |
//! |---|---|---|
//! | tied and started | `tied_next` or the tail of the tied queue | the inbox of its M |
//! | any other | `runnext`, and from there to what is [young](crate::young); or the tail of the deque | the injector |
//!
//! A worker that makes a tied green thread of another M ready uses that M's inbox.
//!
//! What goes to a tail goes behind what waits in the injector: see `pull_injected`.
//!
//! # A runtime must not go away under the caller
//!
//! Once `g` is queued it may run, finish, and be the last thing that kept its runtime. The workers of that runtime are
//! waited for before it is freed; any other caller counts as a *visitor* from before the queueing until it is done with
//! the runtime, and is waited for too.

use crate::g::{GRef, Status};
use crate::m::{self, M};
use crate::sched::Sched;
use crate::schedule;
use crate::young::Spawner;

/// How soon.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Next on this worker, in the rest of the current slice: it waits for what the caller has just done.
    Soon,
    /// When its turn comes.
    Tail,
    /// The same, for one that has used up several slices.
    Long,
}

/// Queues `g`, whose status is Runnable, and sees to it that somebody runs it. The caller owns it and gives it away.
pub(crate) fn ready(sched: &Sched, g: GRef, next: Next) {
    match m::enter(sched) {
        Some(m) => ready_here(&m, g, next),
        None => {
            let _visit = sched.visit();
            match home(&g) {
                Some(home) => send(sched, home, g),
                None => {
                    sched.injector.push(g);
                    sched.idle.wakep(sched);
                }
            }
        }
    }
}

/// The M that must run `g`, if there is such a one already.
fn home(g: &GRef) -> Option<&M> {
    // SAFETY: Ms live as long as their runtime, and that as long as `g` is not Dead.
    g.home.get().filter(|_| g.tied).map(|home| unsafe { home.as_ref() })
}

/// To the inbox of its M.
fn send(sched: &Sched, home: &M, g: GRef) {
    home.inbox.push(g);
    sched.idle.wake_tied(sched, &home.sleep);
}

/// The same for a caller that is the thread of `m`, a worker of the green thread's runtime, with its P.
#[inline]
pub(crate) fn ready_here(m: &M, g: GRef, next: Next) {
    match home(&g) {
        Some(home) if std::ptr::eq(home, m) => {
            match next {
                Next::Soon => {
                    if let Some(displaced) = m.tied_next.replace(Some(g)) {
                        tied_tail(m, displaced, false);
                    }
                }
                Next::Tail => tied_tail(m, g, false),
                Next::Long => tied_tail(m, g, true),
            }
            m.note_tied();
        }
        Some(home) => send(m.sched(), home, g),
        None => {
            match next {
                Next::Soon => {
                    let spawner = m.p().spawner.replace(Spawner(m.curg().addr()));
                    if let Some(displaced) = m.p().swap_runnext(Some(g)) {
                        displace(m, displaced, spawner);
                    }
                }
                Next::Tail | Next::Long => {
                    pull_injected(m);
                    // SAFETY: the calling thread's M holds this P.
                    unsafe { m.p().deque() }.push(g);
                }
            }
            // Alone, there is nobody to wake.
            if m.sched().ps.count() > 1 {
                m.sched().idle.wakep(m.sched());
            }
        }
    }
}

/// From `runnext` of the P of `m`: to what is young there, or behind what waits. `spawner` is the one of `g`, if it has not started.
#[inline]
fn displace(m: &M, g: GRef, spawner: Spawner) {
    let p = m.p();
    // SAFETY: the calling thread's M holds this P.
    let deque = unsafe { p.deque() };
    if g.status() != Status::Idle {
        deque.push(g);
    } else if !p.young.admits(spawner) {
        age(m);
        deque.push(g);
    } else if !p.young.push(g.ptr(), spawner) {
        // SAFETY: the count comes with it.
        p.young.take_oldest_run(|old| deque.push(unsafe { GRef::from_ptr(old) }));
        p.young.push(g.ptr(), spawner);
    }
}

/// What is young goes to the deque. True if there was anything: then one that went idle meanwhile saw it in neither place, and
/// somebody must be told.
#[inline]
pub(crate) fn age(m: &M) -> bool {
    let p = m.p();
    let mut any = false;
    while let Some(g) = p.take_young() {
        // SAFETY: the calling thread's M holds this P.
        unsafe { p.deque() }.push(g);
        any = true;
    }
    any
}

/// To the tail of the tied queue of `m`, the calling thread's.
#[inline]
fn tied_tail(m: &M, g: GRef, long: bool) {
    pull_injected(m);
    // SAFETY: on the thread of `m`, which holds its P; no other reference to the queue is in use.
    let (tied, shared) = unsafe { (m.tied(), m.p().deque().len()) };
    if long { tied.push_long(g, shared) } else { tied.push_back(g, shared) }
}

/// What came from outside came before what goes to a tail now: it is let in first. Otherwise a deque that is never empty,
/// because those in it are preempted and come back, would shut the injector out.
#[inline]
fn pull_injected(m: &M) {
    if !m.sched().injector.is_empty() {
        pull(m);
    }
}

#[cold]
fn pull(m: &M) {
    // A failure means that others took from it at the same time: it is being emptied.
    // SAFETY: on the thread of `m`, which holds its P.
    let _ = m.sched().injector.steal_batch(unsafe { m.p().deque() });
    schedule::spread(m);
}
