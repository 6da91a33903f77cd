//! Where a green thread goes when it becomes runnable, and who is told.
//!
//! | green thread | made ready by its M / a worker of this runtime | by any other thread |
//! |---|---|---|
//! | tied and started | `tied_next` or the tail of the tied queue | the inbox of its M |
//! | any other | `runnext` or the tail of the deque | the injector |
//!
//! A worker that makes a tied green thread of another M ready uses that M's inbox.
//!
//! # A runtime must not go away under the caller
//!
//! Once `g` is queued it may run, finish, and be the last thing that kept its runtime. The workers of that runtime are
//! waited for before it is freed; any other caller counts as a *visitor* from before the queueing until it is done with
//! the runtime, and is waited for too.

use crate::g::GRef;
use crate::m;
use crate::sched::Sched;

/// How soon.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Next on this worker, in the rest of the current slice: it waits for what the caller has just done.
    Soon,
    /// When its turn comes.
    Tail,
}

/// Queues `g`, whose status is Runnable, and sees to it that somebody runs it. The caller owns it and gives it away.
pub(crate) fn ready(sched: &Sched, g: GRef, next: Next) {
    let me = m::current().filter(|m| std::ptr::eq(m.sched(), sched));
    let _visit = me.is_none().then(|| sched.visit());
    if let Some(home) = g.home.get().filter(|_| g.tied) {
        // SAFETY: Ms live as long as their runtime.
        let home = unsafe { home.as_ref() };
        match me.filter(|m| std::ptr::eq(*m, home)) {
            Some(m) => {
                let tail = match next {
                    Next::Soon => m.tied_next.replace(Some(g)),
                    Next::Tail => Some(g),
                };
                if let Some(g) = tail {
                    // SAFETY: on the thread of `m`; no other reference to the queue is in use.
                    unsafe { m.tied() }.push_back(g);
                }
            }
            None => {
                home.inbox.push(g);
                sched.idle.wake_tied(home);
            }
        }
        return;
    }
    match me {
        Some(m) => {
            let tail = match next {
                Next::Soon => m.p().swap_runnext(Some(g)),
                Next::Tail => Some(g),
            };
            if let Some(g) = tail {
                // SAFETY: the calling thread's M holds this P.
                unsafe { m.p().deque() }.push(g);
            }
        }
        None => sched.injector.push(g),
    }
    sched.idle.wakep(sched);
}
