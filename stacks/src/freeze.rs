//! Freeze and thaw: a green thread that waits for long keeps only the used bytes of its stack.
//!
//! ```text
//!        stack                          block                         stack
//!   hi ┌─────────┐                                               hi ┌─────────┐
//!      │ used    │   freeze: copied    ┌─────────┐   thaw: copied,  │ used    │
//!      │         │   as it is          │ used    │   relocated      │         │
//!   sp ├─────────┤ ──────────────────► └─────────┘ ───────────────► ├─────────┤
//!      │         │   the stack is                    onto any       │         │
//!   lo └─────────┘   freed                           hot stack   lo └─────────┘
//! ```
//!
//! A stack costs a page at least, and its place in the cache of somebody who would use it. What a parked green thread needs
//! of it is a few hundred bytes. The block is exactly as long as they are.
//!
//! # What the words in a block mean
//!
//! They are copied unchanged, and so is the saved context: `stack` and `sched` of a frozen green thread go on naming the
//! stack that it had, although that belongs to others by now. They are the terms in which the block is written. thaw
//! relocates both to the stack that it allocates, exactly as copystack does, so a green thread that was frozen cannot be
//! told from one that was moved.
//!
//! Who completes a channel operation of a frozen green thread writes into the block: the slot has moved there, by the
//! protocol of [`InFlight`]. What is written there is not in those terms. It may be the address of somebody's local, on the
//! very stack that this green thread had and that he has now. So the slot is copied as it is when the green thread thaws.
//! Nothing is missed: no value in a slot points into the stack of the waiter.
//!
//! The slot may be lent still when it thaws: who gives up waiting leaves its queue when it runs again. So that copy, too, is
//! made with all others kept out, and they are told where the slot is then. The block is freed after it.
//!
//! # Which stack it thaws onto
//!
//! The smallest that leaves as much room above the guard as is used, the same as after [`shrinkstack`](crate::shrinkstack).
//! So freezing shrinks, too.

use std::alloc::{Layout, alloc, dealloc};
use std::ptr::NonNull;

use morestack_asm::{GHead, STACK_GUARD};

use crate::copy::Relocation;
use crate::copystack::{poison_old, settle, used_part};
use crate::{InFlight, Moved, Stack, StackCache, StackError};
use crate::{alloc as stacks, debug, framemap, round_stack_size, stackalloc, stats};

/// Room above the guard that a thawed stack has at least: enough to return from the wait. It grows at the next prologue.
const ROOM: usize = 4 << 10;

/// The used part of a stack, packed by [`freeze`]. Its length is that of the green thread's used part.
///
/// It is a plain pointer, 8 bytes in each green thread: [`thaw`] takes it back, and only that frees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frozen(NonNull<u64>);

/// Packs the used part of `g`'s stack into a block and frees the stack. None if there is no memory for the block; nothing
/// has changed then.
///
/// Until [`thaw`], `g` has no stack, and its head must not be used for anything else.
///
/// # Safety
///
/// As for [`shrinkstack`](crate::shrinkstack).
///
/// # Panics
///
/// On a green thread's stack; if `g` has no stack, or its saved stack pointer lies outside.
pub unsafe fn freeze(
    cache: Option<&mut StackCache>,
    g: *mut GHead,
    in_flight: Option<&mut dyn InFlight>,
    why: Moved,
) -> Option<Frozen> {
    if !morestack_asm::on_system_stack() {
        stacks::not_on_system_stack("freeze");
    }
    // SAFETY: the caller alone may touch `g`.
    let (stack, used) = unsafe { used_part("freeze", g, why) };
    let sp = stack.hi - used;
    // SAFETY: the layout is not of size 0.
    let block = NonNull::new(unsafe { alloc(layout(used)) })?.cast::<u64>();
    let copy = |from: usize, to: usize| {
        // SAFETY: `[from, to)` is within the used part, which is the caller's but for what is in flight, and the block is
        // as long as that and new.
        unsafe { (from as *const u8).copy_to_nonoverlapping(block.as_ptr().byte_add(from - sp).cast(), to - from) };
    };
    match in_flight {
        Some(others) => {
            let end = others.slot().end.clamp(sp, stack.hi);
            others.lock();
            copy(sp, end);
            others.unlock((block.as_ptr() as usize).wrapping_sub(sp));
            copy(end, stack.hi);
        }
        None => copy(sp, stack.hi),
    }
    stats::count_freeze(used);
    debug::trace(
        1,
        format_args!("freeze g {}: [{:#x}, {:#x}): {used} bytes, at {:#x}", why.goid, stack.lo, stack.hi, why.pc),
    );
    // SAFETY: the stack came from this crate, the caller owned it, and what was on it is in the block.
    unsafe {
        poison_old(stack);
        stacks::retire(cache, stack, Stack::NONE, why);
    }
    Some(Frozen(block))
}

/// Gives a frozen green thread a stack again, and relocates what was packed, but for the slot of what is in flight: the part of
/// the block that others could write to meanwhile, and still can. Returns the bytes that were used.
///
/// # Errors
///
/// No stack can be had. Nothing has changed then: it may be tried again.
///
/// # Safety
///
/// `frozen` came from [`freeze`] of this very `g`, and was not thawed since. The caller alone may touch `g`; and `in_flight`, if
/// there is something, keeps others out of the block between `lock` and `unlock`, and to its slot at all times, which is
/// empty or lies in the block.
///
/// # Panics
///
/// On a green thread's stack.
pub unsafe fn thaw(
    mut cache: Option<&mut StackCache>,
    g: *mut GHead,
    frozen: Frozen,
    in_flight: Option<&mut dyn InFlight>,
    why: Moved,
) -> Result<usize, StackError> {
    // SAFETY: the caller alone may touch `g`.
    let (old, used) = unsafe { used_part("thaw", g, why) };
    let size = |used| round_stack_size(used + STACK_GUARD);
    let new = stackalloc(cache.as_deref_mut(), size(2 * used)).or_else(|_| stackalloc(cache, size(used + ROOM)))?;
    let relocation = Relocation::new(old, new, old.hi - used);
    let (src, dst) = (frozen.0.as_ptr(), (new.hi - used) as *mut u64);
    // SAFETY: the block is as long as the used part, holds it as it was, and is the caller's alone, but for the slot, which is
    // no return address; the stack was allocated just now. On a system stack, as `stackalloc` has made sure.
    let words = unsafe {
        let frames = framemap::walk(&(*g).sched, old, src);
        let all = used / size_of::<u64>();
        let word = |addr: usize| addr.wrapping_sub(src as usize) / size_of::<u64>();
        let slot = in_flight.as_ref().map_or(0..0, |others| others.slot());
        let slot = if slot.is_empty() { 0..0 } else { word(slot.start)..word(slot.end + 7).min(all) };
        let words = frames.copy_relocate(src, dst, 0..slot.start, relocation)
            + frames.copy_relocate(src, dst, slot.end..all, relocation);
        if let Some(others) = in_flight {
            others.lock();
            src.add(slot.start).copy_to_nonoverlapping(dst.add(slot.start), slot.len());
            others.unlock((dst as usize).wrapping_sub(src as usize));
        }
        words
    };
    // SAFETY: the caller alone may touch `g`.
    let registers = unsafe { settle(g, new, relocation) };
    // SAFETY: `freeze` allocated it with this layout; by the contract it is freed once.
    unsafe { dealloc(frozen.0.as_ptr().cast(), layout(used)) };
    stats::count_thaw(used, words + registers);
    debug::trace(
        1,
        format_args!("thaw g {}: [{:#x}, {:#x}): {used} bytes, {words} words adjusted", why.goid, new.lo, new.hi),
    );
    Ok(used)
}

/// The layout of a block for so many bytes, a multiple of 8 and not 0: a green thread that waits is in a function.
fn layout(used: usize) -> Layout {
    Layout::from_size_align(used.max(size_of::<u64>()), align_of::<u64>()).expect("a stack fits the address space")
}
