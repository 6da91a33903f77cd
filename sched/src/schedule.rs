//! The scheduler loop: what an M does on g0.
//!
//! ```text
//!   loop:  schedule ──► execute ──► gogo ═══ green thread ═══ mcall / morestack ──► the request, on g0
//!             │                                                                        │
//!             └── nothing to do: spin, then sleep                 park_m, gosched_m, sleep_m, newstack, goexit_m
//! ```
//!
//! # Order
//!
//! 1. A green thread that its request wants to go on with (`resume`): no scheduling at all.
//! 2. `tied_next`, then `runnext`, then what is [young](crate::young): what was just made ready or spawned, in the rest of the
//!    slice. When the slice is over all of it goes to the tails first, so that neither two green threads that wake each other
//!    nor a tree that grows for ever can keep the rest waiting. Where slices are off the same is done on every 61st tick, or
//!    on every 64th of those if there is a tree. Sleepers that are due come before all of it ([`crate::timers`]).
//!    What a green thread joins and nobody has started runs in its place, with no way through here ([`crate::direct`]).
//! 3. The tied queue and the P's deque, as if they were one queue: first come, first served, but that the long let some
//!    later ones pass ([`crate::tied`]). The preempted of a worker stand in the one, what has not started yet in the
//!    other; a new request therefore waits for little more than the slice that runs when it comes.
//! 4. The injector, which feeds the deque; before 2 on every 61st tick, so that local work cannot starve it.
//! 5. The other workers' deques, half of one at a time, beginning with a random one; the oldest of what is young there after
//!    a pause; their `runnext` last: its owner is about to take it.
//!
//! # When there are more workers than Ps
//!
//! A worker whose green thread was stuck in the operating system lost its P ([`crate::hold`]), and comes back for what is
//! tied to it. If none is idle it waits its turn ([`crate::idle`]): whoever holds a P gives it away at the end of a slice, and
//! where there is nothing else to do.
//!
//! # Directly
//!
//! A tied green thread that yields, where its worker has nothing else to look at than its tied queue, is followed by the
//! first of that queue without a detour over g0 ([`directly`]). A green thread that waits, where something stands first in line,
//! is followed by that in the same way ([`follower`]). The order is the one above; the tick counts on.
//!
//! 61 is Go's number: a prime, so that it does not fall in step with a pattern in the program.

use std::io::{self, Write};
use std::ptr::NonNull;
use std::sync::Once;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crossbeam_deque::Steal;
use morestack_asm::{GHead, Gobuf, Stack, gogo, mcall};
use morestack_stacks::StackError;

use crate::channel::Sudogs;
use crate::g::{GRef, Payload, Status};
use crate::idle::{Sleep, Workers};
use crate::m::M;
use crate::ready::{Next, age, ready};
use crate::timed::Timer;
use crate::{direct, join, local, p, parked, side, stack, stress, task, timers, worker};

/// See "Order", 2 and 4.
pub(crate) const INJECTOR_TICK: u32 = 61;

/// Ticks after which what comes first has had its turn where slices are off, if some of it is [young](crate::young): about half
/// a slice, where each does little. With less, more trees of green threads are begun before the first are done.
const TREE_TICK: u32 = 64 * INJECTOR_TICK;

/// Rounds over all victims before a spinning worker sleeps (Go has 4).
const STEAL_ROUNDS: u32 = 4;

/// Spin-loop hints before a `runnext` is stolen, about 3 us (Go's pause): its owner takes it sooner if it runs at all.
const RUNNEXT_PAUSE: u32 = 100;

/// Nanoseconds until a green thread that found no memory for its stack tries again. Plucked from thin air: long beside a
/// failed system call, short beside what ends a lack of memory.
const MEMORY_PAUSE: u64 = 10_000_000;

/// Ticks of the time stamp counter for which a worker keeps its P from others that want it, where slices are off or are
/// not used up: about a millisecond, the default slice. Passing a P on costs a wake-up.
const TURN: u64 = 3_000_000;

/// How long a worker sleeps before it gives the stacks of its cache back (S5). A worker that is woken for every request
/// of a quiet service keeps them.
const IDLE_BEFORE_CLEAR: Duration = Duration::from_secs(1);

/// Runs green threads until the runtime stops.
pub(crate) fn run(m: &M) {
    loop {
        let (g, goes_out) = match m.take_resume() {
            Some(g) => (g, !m.stays_in.replace(false)),
            None => match schedule(m) {
                Some(g) if execute(m, g) => (g, true),
                Some(_) => continue,
                None => return,
            },
        };
        m.note_tied();
        if goes_out {
            m.hold.go_out();
        }
        // SAFETY: on g0; `g` was taken from a queue or kept by its request, so this M owns it; `execute` gave it a
        // stack and set `m` and the guard.
        let call = unsafe { gogo(g.head_ptr()) };
        m.was_in.set(!m.hold.is_out());
        m.come_in();
        if m.direct.get() != 0 {
            // SAFETY: suspended just now, so this M owns it.
            direct::settle(m, unsafe { GRef::from_head(call.g) });
        }
        // SAFETY: the request's own contract: `call.g` was suspended just now.
        unsafe { (call.f)(call.g, call.arg) };
    }
}

/// The next green thread to run; none when the runtime stops.
fn schedule(m: &M) -> Option<GRef> {
    let sched = m.sched();
    m.set_curg(None);
    loop {
        if sched.stop_requested() {
            return None;
        }
        let p = m.p();
        let tick = m.tick.get().wrapping_add(1);
        m.tick.set(tick);
        let over = m.slice_over.replace(false) || p.preempt_requested();
        let injector_first = tick.is_multiple_of(INJECTOR_TICK);
        if over || injector_first {
            if over || p.young.is_empty() || tick.is_multiple_of(TREE_TICK) {
                kick_nexts(m);
                if age(m) {
                    sched.idle.wakep(sched);
                }
                p.next_slice(if over { p::stamp() } else { 0 });
            }
            if gives_way(m, over) {
                if !give_way(m) {
                    return None;
                }
                continue;
            }
        }
        let late = || if over { late_elsewhere(m).and_then(|victim| steal_due(m, victim)) } else { None };
        if let Some(g) = due(m).or_else(late) {
            sched.idle.stop_spinning(sched, &m.sleep);
            return Some(g);
        }
        let first = if injector_first { from_injector(m) } else { None };
        let next = || m.tied_next.take().or_else(|| p.swap_runnext(None)).or_else(|| p.next_young());
        if first.is_none()
            && let Some(g) = next()
        {
            sched.idle.stop_spinning(sched, &m.sleep);
            return Some(g);
        }
        if let Some(g) = first.or_else(|| local(m)).or_else(|| search(m)) {
            sched.idle.stop_spinning(sched, &m.sleep);
            if !over {
                p.next_slice(if g.status() == Status::Idle { p::stamp() } else { 0 });
            }
            p.quiet.set(false);
            return Some(g);
        }
        if m.inbox.is_empty() && !sleep(m) {
            return None;
        }
    }
}

/// Whether `m` is to give its P away, at the end of a slice or not: to a worker that has been waiting for one, or for good.
fn gives_way(m: &M, over: bool) -> bool {
    let idle = &m.sched().idle;
    m.p().is_surplus(m.sched())
        || idle.n_wanting.load(Relaxed) != 0 && (over || p::stamp().wrapping_sub(m.turn.get()) > TURN)
}

/// Gives the P of `m` away, and waits for one. False if `m` shall leave.
fn give_way(m: &M) -> bool {
    let (sched, p) = (m.sched(), m.p());
    sched.idle.stop_spinning(sched, &m.sleep);
    if p.is_surplus(sched) {
        if !retire_p(m) {
            return true;
        }
    } else if !sched.idle.give(sched, p.index, false) {
        return true;
    }
    m.set_p(None);
    wait(m, false)
}

/// Waits for a P, for what is tied to `m`, which gave its own away or was robbed of it. False if `m` shall leave.
fn wait(m: &M, robbed: bool) -> bool {
    worker::wait_for_p(m, robbed, || {
        m.note_tied();
        m.behind.load(Relaxed) != 0 || !m.inbox.is_empty()
    })
}

/// Takes the P of `m` out of use. What waits in it goes to others. False if it is in use again.
fn retire_p(m: &M) -> bool {
    let (sched, p) = (m.sched(), m.p());
    // SAFETY: on g0 of the M that holds the P; no other reference is in use.
    let (queued, cache, sudogs) = unsafe { (p.take_all(), p.cache(), p.sudogs()) };
    let mut threads = sched.threads.lock();
    if !p.is_surplus(sched) {
        return false;
    }
    cache.clear();
    *sudogs = Sudogs::default();
    queued.for_each(|g| sched.injector.push(g));
    // The first is always in use.
    let heir = &sched.ps[0];
    // SAFETY: on the thread of `m`, which holds its P.
    let (stale, sleepers) = unsafe { p.timers.take_all() }.into_iter().partition(|(_, timer)| timer.is_stale());
    heir.timers.adopt(sleepers);
    p.idle.store(true, Relaxed);
    threads.retired.push(p.index);
    drop(threads);
    Vec::into_iter(stale).for_each(|(_, timer)| timer.release());
    sched.idle.wake_holder(sched, heir.index);
    sched.idle.wakep(sched);
    true
}

/// The green thread to run after `g`, which is tied and yields, if that can be done on the spot: then `g` stands in the
/// queue and the other is Running. On `g` itself.
///
/// `g` is in a queue before its context is saved. Only this thread takes from that queue, and it will not look before the
/// switch is done.
#[inline]
pub(crate) fn directly(m: &M, g: GRef) -> Option<GRef> {
    let (sched, p) = (m.sched(), m.p());
    let tick = m.tick.get().wrapping_add(1);
    let alone = g.tied
        && m.tied_next.get().is_none()
        && m.direct.get() == 0
        && m.inbox.is_empty()
        && !p.has_work()
        && p.timers.next() == timers::NEVER
        && sched.injector.is_empty();
    if !alone
        || tick.is_multiple_of(INJECTOR_TICK)
        || p.preempt_requested()
        || sched.stop_requested()
        || stress::is_on()
    {
        return None;
    }
    // SAFETY: on the thread of `m`; no other reference to the queue is in use.
    let next = unsafe { m.tied() }.rotate(g, |next| next.frozen.get().is_none())?;
    m.tick.set(tick);
    m.set_curg(Some(next));
    g.set_status(Status::Running, Status::Runnable);
    next.set_status(Status::Runnable, Status::Running);
    p.next_slice(0);
    Some(next)
}

/// The green thread that runs next when `g` waits, if that can be done on the spot: then that is Running, and `g` Waiting. On `g`
/// itself, which has still to be published.
#[inline]
pub(crate) fn follower(m: &M, g: GRef) -> Option<GRef> {
    let (sched, p) = (m.sched(), m.p());
    let tick = m.tick.get().wrapping_add(1);
    if tick.is_multiple_of(INJECTOR_TICK)
        || m.direct.get() != 0
        || p.preempt_requested()
        || p.timers.next() != timers::NEVER
        || sched.stop_requested()
        || stress::is_on()
    {
        return None;
    }
    let tied = m.tied_next.get();
    // Whoever steals may look at `runnext`, so it is taken first.
    let next = tied.or_else(|| p.swap_runnext(None))?;
    if next.status() == Status::Idle || next.frozen.get().is_some() || !parked::note_quick(m, g) {
        if tied.is_none() {
            p.swap_runnext(Some(next));
        }
        return None;
    }
    if tied.is_some() {
        m.tied_next.set(None);
        m.note_tied();
    }
    m.tick.set(tick);
    m.set_curg(Some(next));
    // SAFETY: taken from where it stood, so this M owns it.
    unsafe {
        (*next.head()).m = m.head_ptr();
        (*next.head()).stackguard0 = stack::guard(&next);
    }
    g.set_status(Status::Running, Status::Waiting);
    next.set_status(Status::Runnable, Status::Running);
    Some(next)
}

/// `g` was not published, as what it was to wait for is there already: undoes [`follower`].
#[cold]
pub(crate) fn no_follower(g: GRef, next: GRef) {
    g.set_status(Status::Waiting, Status::Running);
    next.set_status(Status::Running, Status::Runnable);
    crate::m::current().expect("a green thread runs on an M").set_curg(Some(g));
    // SAFETY: this thread owns both.
    ready(unsafe { next.sched() }, next, Next::Soon);
}

/// A sleeper of this P whose time has come.
fn due(m: &M) -> Option<GRef> {
    let p = m.p();
    // SAFETY: on the thread of `m`, which holds its P.
    while let Some((late, timer)) = unsafe { p.timers.take_due() } {
        if timer.is_stale() {
            timer.release();
            continue;
        }
        p.stats.late(late);
        if late > timers::HELP_AFTER && p.timers.want_help(timers::now()) {
            m.sched().idle.wakep(m.sched());
        }
        // Otherwise sysmon, which is at its stack, wakes it when it is done; or another did just now.
        if let Some(g) = timer.fire() {
            g.set_status(Status::Waiting, Status::Runnable);
            match elsewhere(m, g) {
                None => return Some(g),
                Some(g) => ready(m.sched(), g, Next::Tail),
            }
        }
    }
    None
}

/// Gives `g` back if it can run on another M only: a P has served several.
#[inline]
fn elsewhere(m: &M, g: GRef) -> Option<GRef> {
    (g.tied && g.home.get() != Some(NonNull::from(m))).then_some(g)
}

/// A P, of some others, whose untied sleepers wait for help. For workers whose slice is over.
pub(crate) fn late_elsewhere(m: &M) -> Option<&p::P> {
    let mut now = None;
    others(m, timers::LOOKED_AT).filter(|p| p.timers.next_shared() != timers::NEVER).find(|p| {
        let now = *now.get_or_insert_with(timers::now);
        p.timers.want_help(now)
    })
}

/// The Ps beside that of `m`, of so many beginning with a random one. Those that are not in use any more, too: their holders may
/// not have noticed.
fn others(m: &M, most: usize) -> impl Iterator<Item = &p::P> {
    let (sched, own) = (m.sched(), m.p().index);
    let n = sched.ps.count();
    let start = m.random(n);
    (start..n).chain(0..start).take(most).map(|i| &*sched.ps[i]).filter(move |p| p.index != own)
}

/// Sleepers of another P, which its worker has not come to: one to run now. The others become this P's, and are due next.
fn steal_due(m: &M, victim: &p::P) -> Option<GRef> {
    if victim.timers.next_shared() == timers::NEVER {
        return None;
    }
    let now = timers::now();
    if !victim.timers.want_help(now) {
        return None;
    }
    let mut first = None;
    for _ in 0..timers::STOLEN {
        let Some((when, timer)) = victim.timers.steal(now.saturating_sub(timers::HELP_AFTER)) else {
            break;
        };
        if timer.is_stale() {
            timer.release();
            continue;
        }
        if first.is_some() {
            // SAFETY: on the thread of `m`, which holds its P.
            unsafe { m.p().timers.insert(when, timer, false) };
            continue;
        }
        m.p().stats.late(now - when);
        if let Some(g) = timer.fire() {
            g.set_status(Status::Waiting, Status::Runnable);
            match elsewhere(m, g) {
                Some(g) => ready(m.sched(), g, Next::Tail),
                None => first = Some(g),
            }
        }
    }
    first
}

/// What stands first in line goes to the tail.
pub(crate) fn kick_nexts(m: &M) {
    for g in [m.tied_next.take(), m.p().swap_runnext(None)].into_iter().flatten() {
        ready(m.sched(), g, Next::Tail);
    }
}

/// This worker's queues, in the order of arrival.
fn local(m: &M) -> Option<GRef> {
    // SAFETY: on the thread of `m`, which holds its P; no other reference to the queue is in use.
    let (tied, deque) = unsafe { (m.tied(), m.p().deque()) };
    if !m.inbox.is_empty() {
        m.inbox.drain(|g| tied.push_back(g, deque.len()));
    }
    if let Some(g) = tied.pop_due() {
        return Some(g);
    }
    match deque.pop().or_else(|| m.p().take_young()).or_else(|| from_injector(m)) {
        Some(g) => {
            tied.count_shared(g.long.get());
            Some(g)
        }
        None => tied.pop_front(),
    }
}

/// From the injector, with a batch for the deque.
fn from_injector(m: &M) -> Option<GRef> {
    let sched = m.sched();
    while !sched.injector.is_empty() {
        // SAFETY: the calling thread's M holds this P.
        match sched.injector.steal_batch_and_pop(unsafe { m.p().deque() }) {
            Steal::Success(g) => {
                spread(m);
                return Some(g);
            }
            Steal::Empty => break,
            Steal::Retry => std::hint::spin_loop(),
        }
    }
    None
}

/// A batch was moved into this worker's deque. While it was on the way, one that went idle saw it in neither place: it is
/// submitted anew.
pub(crate) fn spread(m: &M) {
    // SAFETY: on the thread of `m`, which holds its P.
    if !unsafe { m.p().deque() }.is_empty() {
        m.sched().idle.wakep(m.sched());
    }
}

/// From the other workers, unless the inbox has something first.
fn search(m: &M) -> Option<GRef> {
    let (sched, p) = (m.sched(), m.p());
    if sched.ps.count() == 1 || !sched.idle.start_spinning(sched, &m.sleep) {
        return None;
    }
    for round in 0..if p.quiet.get() { 1 } else { STEAL_ROUNDS } {
        for victim in others(m, usize::MAX) {
            let g = loop {
                // SAFETY: the calling thread's M holds `p`.
                match victim.stealer.steal_batch_and_pop(unsafe { p.deque() }) {
                    Steal::Success(g) => break Some(g),
                    Steal::Empty => break None,
                    Steal::Retry => std::hint::spin_loop(),
                }
            };
            let g = g.or_else(|| steal_due(m, victim));
            let g = g.or_else(|| (round > 0).then(|| victim.steal_young()).flatten());
            if let Some(g) = g.or_else(|| (round == STEAL_ROUNDS - 1).then(|| victim.swap_runnext(None)).flatten()) {
                p.stats.steals.add(1);
                return Some(g);
            }
        }
        if let Some(g) = from_injector(m) {
            return Some(g);
        }
        for _ in 0..if p.quiet.get() { 0 } else { RUNNEXT_PAUSE } {
            if !m.inbox.is_empty() {
                return None;
            }
            std::hint::spin_loop();
        }
    }
    None
}

/// Sleeps until there may be work, or a timer of this P is due; not if there is work. After a while it gives the cached
/// stacks back, once. False if `m` shall leave.
fn sleep(m: &M) -> bool {
    let (sched, p) = (m.sched(), m.p());
    if p.is_surplus(sched) || sched.idle.n_wanting.load(Relaxed) != 0 {
        return give_way(m);
    }
    // From W1 on the P may be another's: what is to be done with it is done before.
    p.idle.store(true, Relaxed);
    let clears = (!p.cleared.get()).then(|| Instant::now() + IDLE_BEFORE_CLEAR);
    let next = p.timers.next();
    // SAFETY: on the thread of `m`, which holds its P.
    let timer = Some(unsafe { p.timers.alarm() }).filter(|when| *when != timers::NEVER).and_then(timers::instant);
    let alarm = || clears.into_iter().chain(timer).min();
    let timer_due = || p.timers.next() != timers::NEVER && p.timers.next() <= timers::now();
    let work = || {
        let earlier = p.timers.next() < next;
        sched.has_work()
            || !m.inbox.is_empty()
            || sched.stop_requested()
            || timer_due()
            || earlier
            || p.is_surplus(sched)
    };
    let slept = sched.idle.sleep(sched, &m.sleep, p.index, work, alarm);
    if slept == Sleep::Robbed {
        m.set_p(None);
        return wait(m, true);
    }
    let Some(index) = m.sleep.take_p() else {
        m.set_p(None);
        return false;
    };
    if index == p.index && clears.is_some_and(|when| slept == Sleep::Slept && when <= Instant::now()) {
        // SAFETY: on g0 of an M that holds its P; no other reference to the cache is in use.
        unsafe { p.cache() }.clear();
        m.blocks.clear();
        p.cleared.set(true);
    }
    worker::attach(m, index);
    // If it stayed there is work that a quiet search does not look for.
    m.p().quiet.set(slept == Sleep::Slept && timer_due());
    true
}

/// Makes `g` ready to be resumed on this M: gives it a stack, if it has none. False if there is none to be had.
fn execute(m: &M, g: GRef) -> bool {
    let head = g.head();
    m.set_curg(Some(g));
    // SAFETY: this M owns `g`: it was just taken from a queue.
    unsafe {
        if g.status() == Status::Idle {
            match stack::alloc(m, &g) {
                Ok(stack) => start(m, g, stack),
                Err(error) => {
                    m.p().stats.completed.add(1);
                    end_unstarted(g, Some(Box::new(std::io::Error::from(error))));
                    m.sched().drain.check(m.sched());
                    return false;
                }
            }
            return true;
        }
        if g.frozen.get().is_some()
            && let Err(error) = stack::thaw(m, &g)
        {
            wait_for_memory(m, g, &error);
            return false;
        }
        (*head).m = m.head_ptr();
        (*head).stackguard0 = stack::guard(&g);
    }
    g.set_status(Status::Runnable, Status::Running);
    true
}

/// Makes `g`, which has not run, ready to be resumed on this M for the first time.
///
/// # Safety
///
/// On the thread of `m`, which owns `g`; the stack is for it.
#[inline]
pub(crate) unsafe fn start(m: &M, g: GRef, stack: Stack) {
    let head = g.head();
    // SAFETY: by the contract.
    unsafe {
        (*head).set_stack(stack);
        (*head).sched = Gobuf::new(stack, gmain);
        side::start(&g);
        (*head).m = m.head_ptr();
        (*head).stackguard0 = stack::guard(&g);
        // It may lie where another did, for which a request is pending.
        (*m.head.get()).pending.end();
    }
    if g.tied {
        g.home.set(Some(NonNull::from(m)));
        m.started.set(m.started.get() + 1);
    }
    g.set_status(Status::Idle, Status::Runnable);
    g.set_status(Status::Runnable, Status::Running);
}

/// Goes on with `g` at once, which was about to wait.
pub(crate) fn resume(m: &M, g: GRef) {
    match stack::thaw(m, &g) {
        Ok(()) => {
            // SAFETY: owned by this M, suspended.
            unsafe { (*g.head()).stackguard0 = stack::guard(&g) };
            m.resume(g);
        }
        Err(error) => {
            g.set_status(Status::Running, Status::Runnable);
            wait_for_memory(m, g, &error);
        }
    }
}

/// There is no stack for `g`, which is frozen. It must not be lost, and others may give theirs back: it tries again.
#[cold]
fn wait_for_memory(m: &M, g: GRef, error: &StackError) {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        // Nobody may be reading.
        let _ = writeln!(
            io::stderr(),
            "morestack: green thread '{}' (id {}) waits for a stack, as others may from now on: {error}",
            g.label(),
            g.id
        );
    });
    g.set_status(Status::Runnable, Status::Waiting);
    // Its tokens stay as they are: they are those of the wait that is over.
    // SAFETY: on the thread of `m`, which holds its P.
    unsafe { m.p().timers.insert(timers::now() + MEMORY_PAUSE, Timer::owner(g), g.tied) };
}

/// The first function of every green thread, on its own stack.
///
/// `extern "C"`: a panic that gets here (a result whose destructor panics) aborts the process, as with std's threads.
unsafe extern "C" fn gmain(head: *mut GHead) -> ! {
    // SAFETY: this green thread itself, running, once.
    unsafe { task::run(NonNull::new_unchecked(head).cast()) };
    goexit()
}

/// Apart from `gmain`, whose frame waits under all others and is smaller so.
#[inline(never)]
fn goexit() -> ! {
    if let Some(g) = crate::m::current_g().filter(|g| g.locals.get().is_some()) {
        local::end(g);
    }
    let m = crate::m::current().expect("a green thread runs on an M");
    if m.direct.get() != 0 {
        // SAFETY: its result is stored and nothing else is left to do.
        unsafe { direct::end(m) };
    }
    // SAFETY: on a green thread; `goexit_m` does not resume it.
    unsafe { mcall(goexit_m, 0) };
    unreachable!("a dead green thread was resumed")
}

unsafe fn goexit_m(head: *mut GHead, _: usize) {
    // SAFETY: the green thread that called `mcall` on this M, which owns it.
    let (g, m) = unsafe { (GRef::from_head(head), crate::m::of(head)) };
    g.set_status(Status::Running, Status::Dead);
    parked::forget(m.sched(), &g);
    stack::free(m, &g);
    if g.tied {
        m.started.set(m.started.get() - 1);
    }
    // Counted first: whoever returns from `join` finds it counted.
    m.p().stats.completed.add(1);
    join::finish(&g);
    m.sched().drain.check(m.sched());
    drop(g.into_arc());
}

/// Ends a green thread that never ran.
pub(crate) fn end_unstarted(g: GRef, failure: Option<Payload>) {
    g.set_status(Status::Idle, Status::Dead);
    // SAFETY: the caller owns it, and it has not run.
    let dropped = || unsafe { task::drop_closure(g) };
    if let Err(payload) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(dropped)) {
        // The panic hook has reported it. The payload's destructor might panic again, and nobody is there to see that.
        std::mem::forget(payload);
    }
    if let Some(failure) = failure {
        // SAFETY: as above, and the closure is gone.
        unsafe { task::fail(g, failure) };
    }
    join::finish(&g);
    drop(g.into_arc());
}

/// Empties the queues of `m` and of its P when the runtime stops. What has not started is left to the last worker, which
/// ends it with [`RuntimeStopped`](crate::RuntimeStopped); what has is abandoned in the middle.
pub(crate) fn abandon_all(m: &M) {
    // SAFETY: on the thread of `m`; no other reference is in use.
    let tied = unsafe { m.tied() };
    m.inbox.drain(|g| tied.push_back(g, 0));
    while tied.pop_front().is_some() {}
    m.tied_next.take();
    m.take_resume();
    if let Some(p) = m.p_if_any() {
        // SAFETY: on the thread of `m`, which holds its P; no other reference is in use.
        let (sleepers, queued) = unsafe { (p.timers.take_all(), p.take_all()) };
        sleepers.into_iter().for_each(|(_, timer)| timer.release());
        m.sched().leave_unstarted(queued.filter(|g| g.status() == Status::Idle));
    }
}
