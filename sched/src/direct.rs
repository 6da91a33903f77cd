//! Joining what has not started: the joiner runs it in its place, directly.
//!
//! A green thread that joins another which nobody has started, and which is among the latest spawns of this worker
//! ([`crate::young`], or `runnext`), has nothing else to do than to have it run. So it switches to it without a detour over
//! g0, and the child, when it ends, switches back. Neither goes through a queue.
//!
//! ```text
//!   parent, on its stack                                child, on its own
//!   ────────────────────                                ─────────────────
//!   takes the child from young or runnext
//!   gives it a stack (on g0)
//!   direct + 1, switch ───────────────────────────────► runs, stores its result
//!   frees that stack (on g0), takes the result ◄─────── direct - 1, switch
//! ```
//!
//! The child has a stack and an identity of its own like any other: only the way to it is shorter. The dead child stands on
//! its stack until it has switched; its joiner, which runs next, frees it.
//!
//! # Order
//!
//! The child runs in the rest of its joiner's slice, as if it had been called. It comes before what stands in `tied_next`
//! and `runnext`; like those it has at most the rest of that slice, and when the slice is over they all wait at the tails.
//! Sleepers that are due come first: nothing is run directly then. Where slices are off, direct runs count as ticks.
//!
//! # Until the child goes to g0
//!
//! Parents that were left so are *unsettled*: `M::direct` counts them, from the joiner of the green thread that runs, to
//! that one's joiner, and so on. They are still Running, the M owns them, and nobody else knows that they wait: a child
//! that ends directly is the only one that could wake its parent.
//!
//! When the green thread that runs gives the M back to g0, for whatever reason, the loop settles all of them first
//! ([`settle`]): from there on they wait as if they had gone to g0 themselves, and the children that they wait for
//! end by `goexit_m`. So on g0 there are none, and everything that the scheduler does there finds the usual picture.
//!
//! A child that blocks its OS thread ([`crate::blocking`], [`crate::hold`]) leaves them unsettled: they wait for nothing but
//! that child, which is still on its M, with a P or without.
//!
//! A joiner learns from `unsettled`, when it runs again, whether its child has ended directly.

use std::ptr::NonNull;

use morestack_asm::{switch, systemstack};

use crate::g::{G, GRef, Status};
use crate::m::{self, M};
use crate::ready::{Next, ready_here};
use crate::schedule::{self, INJECTOR_TICK};
use crate::task::GArc;
use crate::token::Token;
use crate::{newstack, park, stack, timers};

/// How it was joined.
pub(crate) enum Direct {
    /// It has ended directly, and the scheduler's count of it is the caller's.
    Reaped,
    /// It was run, and then the joiner has waited for it, registered with it, as if it had gone to g0 itself. That wait is over, or
    /// was [interrupted](crate::cancel).
    Settled,
    /// Not so. It may be done or not.
    No,
}

/// Runs `child`, if it has not started and can be had, in place of `me`, the calling green thread, of the same runtime.
#[inline]
pub(crate) fn join(child: &GArc, me: GRef) -> Direct {
    // It can be taken by others at any time, but comes back to this status never.
    if child.status() != Status::Idle {
        return Direct::No;
    }
    let Some(owned) = prepare(child, me) else {
        return Direct::No;
    };
    // SAFETY: on the stack of `me`, not unwinding. Nobody knows that it waits before this thread settles it or comes back.
    // The child was prepared just now.
    unsafe { switch(me.head_ptr(), owned.head_ptr()) };
    // It may be another M now.
    if !me.unsettled.replace(false) {
        return Direct::Settled;
    }
    let m = m::enter_waiting();
    systemstack(|| reap(&m, owned));
    // A request that came since the switch was written over.
    newstack::rearm();
    Direct::Reaped
}

/// Takes `child` if it can be had, and makes it ready to be switched to from `me`, which is unsettled then.
#[inline]
fn prepare(child: &GArc, me: GRef) -> Option<GRef> {
    let m = m::enter_current()?;
    if !may(&m) || !m.p().take_unstarted(child.ptr()) {
        return None;
    }
    // SAFETY: taken from its queue, with the scheduler's count.
    let owned = unsafe { GRef::from_ptr(child.ptr()) };
    let Ok(stack) = systemstack(|| stack::alloc(&m, &owned)) else {
        // The scheduler loop will hear the same, and knows what to do.
        ready_here(&m, owned, Next::Soon);
        return None;
    };
    // SAFETY: owned by this M, and the stack is for it.
    unsafe { schedule::start(&m, owned, stack) };
    owned.join.word.set_joiner(me);
    me.unsettled.set(true);
    m.direct.set(m.direct.get() + 1);
    m.set_curg(Some(owned));
    Some(owned)
}

/// Whether this worker has nothing to do that comes before what a green thread joins.
#[inline]
fn may(m: &M) -> bool {
    let (sched, p) = (m.sched(), m.p());
    if p.preempt_requested() || sched.stop_requested() {
        return false;
    }
    let timer = p.timers.next();
    if timer != timers::NEVER && timer <= timers::now() {
        return false;
    }
    if sched.config.time_slice.is_none() {
        let tick = m.tick.get().wrapping_add(1);
        if tick.is_multiple_of(INJECTOR_TICK) {
            return false;
        }
        m.tick.set(tick);
    }
    true
}

/// The end of a green thread whose joiner is unsettled: goes on with that. On the stack of the dead one.
///
/// # Safety
///
/// On the thread of `m`, on the running green thread, not unwinding; its result is stored, and `m.direct` is not 0.
#[inline]
pub(crate) unsafe fn end(m: &M) -> ! {
    // SAFETY: it runs on `m`.
    let g = unsafe { GRef::from_ptr(NonNull::new(m.curg()).expect("a green thread runs")) };
    let joiner = joiner(g);
    m.direct.set(m.direct.get() - 1);
    m.set_curg(Some(joiner));
    // SAFETY: by the contract. The joiner was left by `join` on this M, which owns it; it frees this stack when it has it no
    // more under it.
    unsafe { switch(g.head_ptr(), joiner.head_ptr()) };
    unreachable!("a dead green thread was resumed")
}

/// Who has started `g` directly.
fn joiner(g: GRef) -> GRef {
    let joiner: NonNull<G> = g.join.word.joiner().expect("an unsettled joiner is named by what it joins");
    // SAFETY: unsettled, so it is owned by this M; the scheduler's count is its own.
    unsafe { GRef::from_ptr(joiner) }
}

/// `g` ended directly. On g0.
fn reap(m: &M, g: GRef) {
    g.set_status(Status::Running, Status::Dead);
    stack::free(m, &g);
    if g.tied {
        m.started.set(m.started.get() - 1);
    }
    m.p().stats.completed.add(1);
    g.join.word.set_done();
}

/// `g` has given the M back to g0. Its joiner and the others behind that wait from here on.
///
/// Their children's ends are still ahead: nobody has notified them. But they may have been cancelled, or are as soon as they
/// wait; then they are another's. So each is looked at before.
#[cold]
pub(crate) fn settle(m: &M, g: GRef) {
    let mut left = m.direct.replace(0);
    let mut next = (left != 0).then(|| joiner(g));
    while let Some(g) = next {
        left -= 1;
        next = (left != 0).then(|| joiner(g));
        g.unsettled.set(false);
        if !park::begin_rest(m, g, Token::of_wait(&g)) {
            g.set_status(Status::Running, Status::Runnable);
            ready_here(m, g, Next::Soon);
        }
    }
}
