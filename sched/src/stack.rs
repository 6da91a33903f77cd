//! The stacks of green threads: given when they first run, moved while they live, packed while they wait, taken back when
//! they end.
//!
//! Everything here runs on the system stack of the thread that owns the green thread (S8): on g0, with the cache of the P
//! that its M holds; or on sysmon ([`crate::sweep`]), which owns a green thread that waits while it scans it.

use morestack_asm::{STACK_PREEMPT, Stack};
use morestack_stacks::{
    FIXED_STACK, Frames, InFlight, Moved, StackCache, StackError, copystack, frames, shrinks, shrinkstack, stackalloc,
    stackfree,
};

use crate::channel::{self, Lent};
use crate::g::{G, StackKind, Status};
use crate::m::M;
use crate::metrics::PStats;
use crate::site::{self, Site};
use crate::{side, stress};

/// Slices without growth after which a green thread that never waits is asked to shrink: a tenth of a second by the default
/// slice, as long as a wait must be to have the same effect.
const CALM: u8 = 100;

/// A stack for a green thread that runs for the first time.
///
/// A copying one starts with what its spawn site came to need, if that is to be had.
pub(crate) fn alloc(m: &M, g: &G) -> Result<Stack, StackError> {
    let stack = match g.kind {
        StackKind::Reserved(class) => alloc_sized(m, g, class.size())?,
        StackKind::Copying | StackKind::Contract => {
            let size = g.site.map_or(FIXED_STACK, Site::first_size).min(m.sched().config.max_stack_size);
            match alloc_sized(m, g, size) {
                Err(_) if size > FIXED_STACK => alloc_sized(m, g, FIXED_STACK)?,
                result => result?,
            }
        }
    };
    g.first_log.set(stack.size().ilog2() as u8);
    m.sched().stacks.add(&m.lot, 1);
    Ok(stack)
}

/// A stack of `size` bytes for `g`, and a side stack to match.
fn alloc_sized(m: &M, g: &G, size: usize) -> Result<Stack, StackError> {
    // SAFETY: on g0 of an M that holds its P.
    let stack = stackalloc(Some(unsafe { m.p().cache() }), size)?;
    if let Err(error) = side::alloc(m, g, size) {
        // SAFETY: as above; nobody has seen it.
        unsafe { stackfree(Some(m.p().cache()), stack) };
        return Err(error);
    }
    Ok(stack)
}

/// Takes the stack of a green thread that ended, and what else it had.
pub(crate) fn free(m: &M, g: &G) {
    channel::end_of(m, g);
    // SAFETY: the caller owns the green thread.
    let stack = std::mem::replace(unsafe { &mut (*g.head()).stack }, Stack::NONE);
    if let Some(site) = g.site
        && !g.grew.get()
    {
        site_ended(m, g, site, stack);
    }
    // SAFETY: the green thread is Dead: nothing runs on its stack and nobody refers to it.
    unsafe {
        side::free(m.p().cache(), g);
        stackfree(Some(m.p().cache()), stack);
    }
    m.sched().stacks.add(&m.lot, -1);
}

/// A [segment](crate::segment).
pub(crate) fn alloc_segment(m: &M) -> Result<Stack, StackError> {
    // SAFETY: on g0 of an M that holds its P.
    let stack = stackalloc(Some(unsafe { m.p().cache() }), m.sched().config.stack_size)?;
    m.sched().stacks.add(&m.lot, 1);
    Ok(stack)
}

/// Takes a segment that is not in use any more.
pub(crate) fn free_segment(m: &M, segment: Stack) {
    // SAFETY: on g0 of an M that holds its P; nothing runs on the segment and nobody refers to it.
    unsafe { stackfree(Some(m.p().cache()), segment) };
    m.sched().stacks.add(&m.lot, -1);
}

/// A green thread of `site` ended without having grown.
fn site_ended(m: &M, g: &G, site: &Site, stack: Stack) {
    let first = 1 << g.first_log.get();
    if first > site::SMALL_MOST && stack.size() == first && morestack_stacks::was_used(stack) {
        site.used_its_start();
    } else if m.tick.get().is_multiple_of(site::SAMPLE) {
        site.ended_as_it_began(first);
    }
}

/// The guard that `g` runs with (S2): the sentinel, if every prologue shall enter `newstack`.
pub(crate) fn guard(g: &G) -> usize {
    if stress::every_prologue(g) {
        STACK_PREEMPT
    } else {
        // SAFETY: the caller owns the green thread.
        unsafe { (*g.head()).guard() }
    }
}

/// `g` needs a stack of `size` bytes: those of its site that come after it may begin with that.
pub(crate) fn note_growth(g: &G, size: usize) {
    g.grew.set(true);
    g.calm.set(0);
    if let Some(site) = g.site {
        site.grew(size);
    }
}

/// Moves `g` to a stack of `size` bytes (S14, S15): the whole of it, or the segment that it is on. The status must be Running.
pub(crate) fn grow(m: &M, g: &G, size: usize) -> Result<(), StackError> {
    // SAFETY: on the thread of `m`; its head is written by `morestack` only.
    let why = Moved { goid: g.id, pc: unsafe { (*m.head.get()).morebuf.pc } };
    in_copystack(g, || {
        // SAFETY: on g0, the green thread is suspended and owned; it is not unwinding (`newstack` checked).
        let copied = unsafe { used(g) };
        // SAFETY: as above.
        unsafe {
            copystack(Some(m.p().cache()), g.head(), size, why)?;
            side::moved(g);
        }
        note_growth(g, size);
        m.p().stats.grows.add(1);
        m.p().stats.bytes_copied.add(copied as u64);
        Ok(())
    })
}

/// Whether the stack of `g` may move now, or the segment that it is on.
///
/// # Safety
///
/// On a system stack. The caller owns `g`, which is suspended, not unwinding, and not frozen.
pub(crate) unsafe fn may_move(g: &G) -> bool {
    // SAFETY: by the contract.
    g.moves() && (g.kind != StackKind::Copying || unsafe { frames(g.head()) } == Frames::Movable)
}

/// Halves the stack of `g` if less than a quarter of it is in use (S18). Whether it did. A failure to allocate leaves it as
/// it is.
///
/// # Safety
///
/// On a system stack. The caller owns `g`, which is suspended and not unwinding, and in status CopyStack.
pub(crate) unsafe fn shrink(g: &G, cache: &mut StackCache, stats: &PStats) -> bool {
    // SAFETY: by the contract.
    if !unsafe { shrinks((*g.head()).stack.size(), used(g)) && may_move(g) } {
        return false;
    }
    // SAFETY: by the contract.
    let mut lent = unsafe { Lent::of(g) };
    let in_flight = lent.as_mut().map(|lent| lent as &mut dyn InFlight);
    // SAFETY: by the contract.
    let shrunk = unsafe { shrinkstack(Some(cache), g.head(), in_flight, waits(g)) }.unwrap_or(false);
    if shrunk {
        // SAFETY: by the contract.
        unsafe { side::moved(g) };
        stats.shrinks.add(1);
        // SAFETY: by the contract.
        stats.bytes_copied.add(unsafe { used(g) } as u64);
    }
    shrunk
}

/// Shrinks the stack of `g`, which is about to wait or to be preempted, on its own M.
///
/// Once, not down to the least size at once: a green thread that goes deep again soon then pays for one doubling, not for
/// all.
pub(crate) fn shrink_here(m: &M, g: &G) {
    in_copystack(g, || {
        // SAFETY: on g0 of an M that owns the green thread and holds its P; it is not unwinding.
        unsafe { shrink(g, m.p().cache(), &m.p().stats) }
    });
}

/// A slice of `g` is over, in a prologue for `frame` bytes. One that runs on and on never waits, and is asked here, now and
/// then, whether its stack can be smaller, and gives back the segments that it does not use just now.
pub(crate) fn slice_over(m: &M, g: &G, frame: usize) {
    if g.moves() {
        g.calm.set(g.calm.get() + 1);
        if g.calm.get() >= CALM {
            g.calm.set(0);
            // SAFETY: on g0; owned by this M, suspended.
            unsafe { side::free_segments(m.p().cache(), g) };
            // SAFETY: as above.
            let (size, used) = unsafe { ((*g.head()).stack.size(), used(g)) };
            // The frame comes next, unchecked: it must fit, and not only what is there already.
            if shrinks(size, used + frame) {
                shrink_here(m, g);
            }
        }
    }
}

/// Packs the stack of `g` into a block. Whether it did: not without memory.
///
/// # Safety
///
/// As for [`shrink`].
pub(crate) unsafe fn freeze(g: &G, cache: &mut StackCache, stats: &PStats) -> bool {
    // SAFETY: by the contract.
    if !unsafe { may_move(g) } {
        return false;
    }
    // SAFETY: as above.
    unsafe {
        side::free_segments(cache, g);
        side::give_back(g);
    }
    // SAFETY: by the contract.
    let mut lent = unsafe { Lent::of(g) };
    let in_flight = lent.as_mut().map(|lent| lent as &mut dyn InFlight);
    // SAFETY: by the contract.
    let frozen = unsafe { morestack_stacks::freeze(Some(cache), g.head(), in_flight, waits(g)) };
    g.frozen.set(frozen);
    if frozen.is_some() {
        stats.freezes.add(1);
    }
    frozen.is_some()
}

/// Freezes `g`, which is about to wait, on its own M. Whether it did.
pub(crate) fn freeze_here(m: &M, g: &G) -> bool {
    // SAFETY: on g0 of an M that owns the green thread and holds its P; it is not unwinding.
    let frozen = in_copystack(g, || unsafe { freeze(g, m.p().cache(), &m.p().stats) });
    if frozen {
        m.sched().stacks.add(&m.lot, -1);
    }
    frozen
}

/// Gives `g` a stack again, if it is frozen.
pub(crate) fn thaw(m: &M, g: &G) -> Result<(), StackError> {
    let Some(frozen) = g.frozen.get() else { return Ok(()) };
    // SAFETY: on g0 of an M that owns the green thread and holds its P; what is in `g.frozen` was not thawed.
    let used = unsafe {
        let mut lent = Lent::of(g);
        let in_flight = lent.as_mut().map(|lent| lent as &mut dyn InFlight);
        let used = morestack_stacks::thaw(Some(m.p().cache()), g.head(), frozen, in_flight, waits(g))?;
        side::moved(g);
        used
    };
    g.frozen.set(None);
    m.p().stats.bytes_copied.add(used as u64);
    m.sched().stacks.add(&m.lot, 1);
    Ok(())
}

/// Gives the untouched part of the stack of `g` back to the system.
///
/// # Safety
///
/// As for [`shrink`].
pub(crate) unsafe fn give_back(g: &G, stats: &PStats) {
    // SAFETY: by the contract.
    unsafe {
        morestack_stacks::give_back((*g.head()).stack, (*g.head()).sched.sp);
        side::give_back(g);
    }
    stats.given_back.add(1);
}

/// Does `f` to a green thread that was suspended just now, in status CopyStack.
fn in_copystack<R>(g: &G, f: impl FnOnce() -> R) -> R {
    g.set_status(Status::Running, Status::CopyStack);
    let result = f();
    g.set_status(Status::CopyStack, Status::Running);
    result
}

/// What efence is to say of a stack that was taken from a green thread that waits.
fn waits(g: &G) -> Moved {
    // SAFETY: the caller owns the green thread.
    Moved { goid: g.id, pc: unsafe { (*g.head()).sched.pc } }
}

/// Bytes of the stack in use.
///
/// # Safety
///
/// The caller owns the green thread, which is suspended.
pub(crate) unsafe fn used(g: &G) -> usize {
    // SAFETY: by the contract.
    unsafe { (*g.head()).stack.hi - (*g.head()).sched.sp }
}
