//! The stacks of green threads: given when they first run, moved while they live, taken back when they end.
//!
//! Everything here runs on g0 of the M that owns the green thread (S8), with the cache of the P it holds.

use morestack_asm::{STACK_GUARD, STACK_PREEMPT, Stack};
use morestack_stacks::{FIXED_STACK, Moved, StackError, copystack, shrinkstack, stackalloc, stackfree};

use crate::g::{G, GRef, StackKind, Status};
use crate::m::M;
use crate::site::{self, Site};
use crate::stress;

/// A stack for a green thread that runs for the first time.
///
/// A copying one starts with what its spawn site came to need, if that is to be had.
pub(crate) fn alloc(m: &M, g: &G) -> Result<Stack, StackError> {
    // SAFETY: on g0 of an M that holds its P.
    let cache = unsafe { m.p().cache() };
    let stack = match g.kind {
        StackKind::Reserved(size) => stackalloc(Some(cache), size)?,
        StackKind::Copying => {
            let size = g.site.map_or(FIXED_STACK, Site::first_size).min(m.sched().config.max_stack_size);
            match stackalloc(Some(cache), size) {
                Err(_) if size > FIXED_STACK => stackalloc(Some(cache), FIXED_STACK)?,
                result => result?,
            }
        }
    };
    g.first_size.set(stack.size());
    m.sched().stacks.add(&m.lot, 1);
    Ok(stack)
}

/// Takes the stack of a green thread that ended.
pub(crate) fn free(m: &M, g: &G) {
    if let Some(site) = g.site
        && !g.grew.get()
        && m.tick.get().is_multiple_of(site::SAMPLE)
    {
        site.ended_as_it_began(g.first_size.get());
    }
    // SAFETY: the caller owns the green thread, which is Dead: nothing runs on its stack and nobody refers to it.
    unsafe {
        let head = g.head();
        let stack = std::mem::replace(&mut (*head).stack, Stack::NONE);
        stackfree(Some(m.p().cache()), stack);
    }
    m.sched().stacks.add(&m.lot, -1);
}

/// The guard that `g` runs with (S2): the sentinel, if every prologue shall enter `newstack`.
pub(crate) fn guard(g: &G) -> usize {
    if stress::every_prologue(g) {
        STACK_PREEMPT
    } else {
        // SAFETY: the caller owns the green thread.
        unsafe { (*g.head()).stack.lo + STACK_GUARD }
    }
}

/// Moves `g` to a stack of `size` bytes (S14, S15). The status must be Running.
pub(crate) fn grow(m: &M, g: &G, size: usize) -> Result<(), StackError> {
    copy(m, g, |m, why| {
        // SAFETY: on g0, the green thread is suspended and owned; it is not unwinding (`newstack` checked).
        let copied = unsafe { used(g) };
        // SAFETY: as above.
        unsafe { copystack(Some(m.p().cache()), g.head(), size, why) }?;
        g.grew.set(true);
        if let Some(site) = g.site {
            site.grew(size);
        }
        m.p().stats.grows.add(1);
        m.p().stats.bytes_copied.add(copied);
        Ok(())
    })
}

/// Halves the stack of `g`, which is about to wait, if less than a quarter of it is in use (S18).
///
/// Once for each time it waits, not down to the least size at once: a green thread that goes deep again soon then pays
/// for one doubling, not for all. A failure to allocate leaves the stack as it is.
pub(crate) fn shrink(m: &M, g: &GRef) {
    if g.kind != StackKind::Copying {
        return;
    }
    copy(m, g, |m, why| {
        // SAFETY: on g0, the green thread is suspended and owned; it parks, so it is not unwinding.
        if let Ok(true) = unsafe { shrinkstack(Some(m.p().cache()), g.head(), why) } {
            m.p().stats.shrinks.add(1);
            // SAFETY: as above.
            m.p().stats.bytes_copied.add(unsafe { used(g) });
        }
    });
}

/// Does `f` in status CopyStack, with what efence is to say of the old stack.
fn copy<R>(m: &M, g: &G, f: impl FnOnce(&M, Moved) -> R) -> R {
    g.set_status(Status::Running, Status::CopyStack);
    // SAFETY: on the thread of `m`; its head is written by `morestack` only.
    let pc = unsafe { (*m.head.get()).morebuf.pc };
    let result = f(m, Moved { goid: g.id, pc });
    g.set_status(Status::CopyStack, Status::Running);
    result
}

/// Bytes of the stack in use.
///
/// # Safety
///
/// The caller owns the green thread, which is suspended.
unsafe fn used(g: &G) -> u64 {
    // SAFETY: by the contract.
    unsafe { ((*g.head()).stack.hi - (*g.head()).sched.sp) as u64 }
}
