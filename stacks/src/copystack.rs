//! copystack (S15) and shrinkstack (S18): a green thread's stack moves while the green thread does not run.
//!
//! ```text
//!         old                                   new
//!   hi ┌─────────┐ ─────────────────────── hi ┌─────────┐
//!      │ used    │   copied, and every word   │ used    │     used = hi - sched.sp
//!      │         │   that points into old     │         │     delta = new.hi - old.hi
//!   sp ├─────────┤   moves by delta        sp ├─────────┤
//!      │ unused  │   not touched              │ unused  │
//!   lo └─────────┘                            │         │
//!                                          lo └─────────┘
//! ```
//!
//! # The steps, and why nothing changes on an error
//!
//! 1. Allocate the new stack. This is the only step that can fail, and nothing has been written before it.
//! 2. Copy and relocate the used part ([`copy`](crate::copy)).
//! 3. Relocate `sched.bp` and `sched.bx`; `sched.sp` keeps its distance from the high end.
//! 4. Swap `stack` and `stackguard0`. A preemption request is not lost: requests go to the live guard of the thread that
//!    runs a green thread, and this one does not run.
//! 5. Free the old stack, or seal it.
//!
//! # Operations in flight (S16)
//!
//! A green thread that waits on a channel has lent out a slot of its stack: whoever completes the operation writes the
//! value there, or reads it, under the channel's lock. So step 2 has two halves when a parked green thread is moved:
//!
//! ```text
//!   hi ┌──────────┐
//!      │          │   copied after unlock: nobody else can reach it
//!      ├──────────┤ ◄─ the end of InFlight::slot
//!      │  [slot]  │   copied between lock and unlock, and the channel told that its slot has moved
//!   sp └──────────┘
//! ```
//!
//! An operation that gets the lock before finds the slot in the old stack, and what it wrote is copied. One that gets it
//! after finds the slot in the new stack, which holds a copy already. The slot lies in the frame that waits, so the first
//! half is a few hundred bytes, whatever the depth.
//!
//! # Who may call
//!
//! The party that owns the stack (S20: the M on whose g0 newstack runs, or whoever holds the Scan bit), on the system
//! stack. That every pointer into the stack is on the stack itself, in the saved registers, or found by the caller is
//! the caller's promise too: docs of the scheduler say when it holds.

use std::ops::Range;
use std::ptr;

use morestack_asm::{GHead, STACK_GUARD};

use crate::copy::Relocation;
use crate::error::Bytes;
use crate::{FIXED_STACK, Stack, StackCache, StackError};
use crate::{alloc, debug, framemap, stackalloc, stats};

/// What copystack fills the new stack with, under `poison`: read as a pointer it is no address at all.
const POISON_NEW: u8 = 0xfd;

/// What it fills the old stack with.
const POISON_OLD: u8 = 0xfc;

/// Whose stack is moved and where that green thread is: what efence tells whoever touches the old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The green thread's number.
    pub goid: u64,
    /// Where it is: the function whose prologue asked for a larger stack, or where it waits.
    pub pc: usize,
}

/// What others may do to a stack while it is moved: complete channel operations of the green thread that waits on it.
/// See "Operations in flight" in the module's header.
pub trait InFlight {
    /// What of the stack they may touch.
    fn slot(&self) -> Range<usize>;

    /// Keeps them out.
    fn lock(&mut self);

    /// Tells them that what they touch has moved by `delta`, which wraps, and lets them in.
    fn unlock(&mut self, delta: usize);
}

/// Moves the stack of `g` to a new one of `newsize` bytes, a power of two. It may be larger, smaller, or as large.
///
/// Every 8-aligned word of the used part `[sched.sp, stack.hi)`, and the saved `bp` and `bx`, that point into
/// `[stack.lo, stack.hi)` point to the same place in the new stack afterwards; in frames with a [`FrameMap`], the words that
/// it names only. Nothing below `sched.sp` is read.
///
/// [`FrameMap`]: crate::framemap::FrameMap
///
/// # Errors
///
/// No stack of that size can be had. Nothing has changed then.
///
/// # Safety
///
/// `g` is a green thread with a stack from this crate. It does not run, its context is saved, and the caller alone may
/// touch its stack. Every pointer into the stack that is used again is in the places above, or is fixed up by the caller.
///
/// # Panics
///
/// On a green thread's stack; if `g` has no stack, or its saved stack pointer lies outside; if `newsize` is not a size
/// class or does not hold what is used.
pub unsafe fn copystack(
    cache: Option<&mut StackCache>,
    g: *mut GHead,
    newsize: usize,
    why: Moved,
) -> Result<(), StackError> {
    // SAFETY: the caller's.
    unsafe { move_stack(cache, g, newsize, None, why) }
}

/// [`copystack`] with operations in flight.
///
/// # Safety
///
/// As for `copystack`; and `in_flight` keeps all others out of the stack between `lock` and `unlock`, and to its slot at
/// all other times.
unsafe fn move_stack(
    mut cache: Option<&mut StackCache>,
    g: *mut GHead,
    newsize: usize,
    in_flight: Option<&mut dyn InFlight>,
    why: Moved,
) -> Result<(), StackError> {
    // SAFETY: the caller alone may touch `g`.
    let (old, used) = unsafe { used_part("copystack", g, why) };
    // SAFETY: as above.
    let sched = unsafe { (*g).sched };
    assert!(used <= newsize, "copystack: g {}: {used} bytes do not fit a stack of {newsize}", why.goid);

    let new = stackalloc(cache.as_deref_mut(), newsize)?;
    let new_sp = new.hi - used;
    if debug::active() && debug::switches().poison_copy {
        // SAFETY: the stack was allocated just now and nobody else has seen it.
        unsafe { ptr::write_bytes(new.lo as *mut u8, POISON_NEW, newsize) };
    }

    let relocation = Relocation::new(old, new, old.hi - used);
    // SAFETY: the used part; what is in flight is a slot of the frame that waits, no return address and no saved register.
    // On a system stack, as `stackalloc` has made sure.
    let frames = unsafe { framemap::walk(&sched, old, sched.sp as *const u64) };
    let copy = |from: usize, to: usize| {
        let word = |addr: usize| (addr - sched.sp) / size_of::<u64>();
        // SAFETY: both ranges are within the used part, their ends multiples of 8 as `hi` and `sp` are; the caller owns
        // the old stack, but for what is in flight, and the new one is a different one.
        unsafe {
            let (src, dst) = (sched.sp as *const u64, new_sp as *mut u64);
            frames.copy_relocate(src, dst, word(from)..word(to), relocation)
        }
    };
    let mut words = match in_flight {
        Some(others) => {
            let end = others.slot().end.next_multiple_of(size_of::<u64>()).clamp(sched.sp, old.hi);
            others.lock();
            let words = copy(sched.sp, end);
            others.unlock(new.hi.wrapping_sub(old.hi));
            words + copy(end, old.hi)
        }
        None => copy(sched.sp, old.hi),
    };
    // SAFETY: the caller alone may touch `g`.
    words += unsafe { settle(g, new, relocation) };

    stats::count_move(old.size(), newsize, used, words);
    debug::trace(
        1,
        format_args!(
            "copystack g {}: [{:#x}, {:#x}) {} -> [{:#x}, {:#x}) {}: {used} bytes used, {words} words adjusted, at {:#x}",
            why.goid,
            old.lo,
            old.hi,
            Bytes(old.size()),
            new.lo,
            new.hi,
            Bytes(newsize),
            why.pc
        ),
    );
    // SAFETY: the caller owned the old stack, and nothing is on it any more.
    unsafe { poison_old(old) };
    // SAFETY: as above, and it came from this crate.
    unsafe { alloc::retire(cache, old, new, why) };
    Ok(())
}

/// Fills a stack that was moved away from, under `poison`.
///
/// # Safety
///
/// The caller owns the stack, and nothing is on it.
pub(crate) unsafe fn poison_old(stack: Stack) {
    if debug::active() && debug::switches().poison_copy {
        // SAFETY: the caller's.
        unsafe { ptr::write_bytes(stack.lo as *mut u8, POISON_OLD, stack.size()) };
    }
}

/// Steps 3 and 4. Returns how many registers were relocated.
///
/// # Safety
///
/// The caller alone may touch `g`, whose used part has been copied to the high end of `new` by `relocation`.
pub(crate) unsafe fn settle(g: *mut GHead, new: Stack, relocation: Relocation) -> usize {
    // SAFETY: the caller's.
    let g = unsafe { &mut *g };
    let mut changed = 0;
    for register in [&mut g.sched.bp, &mut g.sched.bx] {
        let (moved, inside) = relocation.apply(*register as u64);
        *register = moved as usize;
        changed += usize::from(inside);
    }
    g.sched.sp = new.hi - (g.stack.hi - g.sched.sp);
    g.set_stack(new);
    changed
}

/// Moves the stack of `g` to one of half its size, if less than a quarter of it is used. Returns whether it did.
///
/// Used is what lies above `sched.sp`, and the room below it that code without a check may need ([`STACK_GUARD`]). So
/// after the move at least as much is free as is used, and a green thread that goes on as before does not grow at once.
/// It never goes below [`FIXED_STACK`].
///
/// Where `STACK_GUARD` alone is a quarter, that rule could never be met. There the smaller stack must have twice the room
/// above its guard of what is used: the same promise, with the guard taken out of both sides.
///
/// # Errors
///
/// No stack of the smaller size can be had. Nothing has changed then.
///
/// # Safety
///
/// As for [`copystack`]; and `in_flight`, if there is something, keeps others out of the stack between `lock` and
/// `unlock`, and to its slot at all times. A green thread that is in a system call, pinned or excluded is the caller's to
/// skip.
///
/// # Panics
///
/// As for [`copystack`].
pub unsafe fn shrinkstack(
    cache: Option<&mut StackCache>,
    g: *mut GHead,
    in_flight: Option<&mut dyn InFlight>,
    why: Moved,
) -> Result<bool, StackError> {
    // SAFETY: the caller alone may touch `g`.
    let (stack, used) = unsafe { used_part("shrinkstack", g, why) };
    if !shrinks(stack.size(), used) {
        return Ok(false);
    }
    // SAFETY: the caller's.
    unsafe { move_stack(cache, g, stack.size() / 2, in_flight, why) }.map(|()| true)
}

/// The stack of `g`, and how many bytes of it are in use; a panic if that is not so.
///
/// # Safety
///
/// The caller alone may touch `g`.
pub(crate) unsafe fn used_part(what: &str, g: *mut GHead, why: Moved) -> (Stack, usize) {
    // SAFETY: the caller's.
    let (stack, sp) = unsafe { ((*g).stack, (*g).sched.sp) };
    assert!(stack != Stack::NONE, "{what}: g {} has no stack", why.goid);
    assert!(
        stack.lo <= sp && sp <= stack.hi && sp.is_multiple_of(size_of::<u64>()),
        "{what}: g {}: sp {sp:#x} is not in its stack [{:#x}, {:#x})",
        why.goid,
        stack.lo,
        stack.hi
    );
    (stack, stack.hi - sp)
}

/// Whether a stack of `size` bytes with `used` of them used is to be halved: the rule of [`shrinkstack`].
pub fn shrinks(size: usize, used: usize) -> bool {
    let half = size / 2;
    if half < FIXED_STACK {
        false
    } else if size / 4 > STACK_GUARD {
        used + STACK_GUARD < size / 4
    } else {
        used < half.saturating_sub(STACK_GUARD) / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_than_a_quarter_guard_included() {
        let size = FIXED_STACK * 64;
        assert!(shrinks(size, size / 4 - STACK_GUARD - 8));
        assert!(!shrinks(size, size / 4 - STACK_GUARD));
        assert!(!shrinks(size, size / 2));
    }

    #[test]
    fn never_below_the_smallest() {
        assert!(!shrinks(FIXED_STACK, 0));
        assert!(shrinks(2 * FIXED_STACK, 0), "but down to it");
    }

    #[test]
    fn what_is_used_has_as_much_free_after_the_move() {
        for order in 1..15 {
            let size = FIXED_STACK << order;
            let most = (0..size).step_by(8).take_while(|used| shrinks(size, *used)).last().unwrap();
            assert!(size / 2 - STACK_GUARD >= 2 * most, "{size}: {most}");
        }
    }
}
