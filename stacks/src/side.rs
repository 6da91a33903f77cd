//! Side stacks: where the locals of moving stacks are that anything may point at.
//!
//! ```text
//!        lo - GAP                 lo                                  hi
//!   ──────┬────────────────────────┬───────────────────────────────────┬──────
//!         │ gap: faults            │ the side stack, exactly [lo, hi)  │
//!   ──────┴────────────────────────┴───────────────────────────────────┴──────
//!         │◄──────────────── a stack of `stackalloc` ─────────────────►│
//! ```
//!
//! A side stack never moves, and code that uses it checks nothing: a function lowers its pointer by what it needs, however much
//! that is, and touches what it likes of it. A page that faults would be jumped over. So the gap is larger than the locals of any
//! function: `cargo morestack` leaves those with more than [`SIDE_LOCALS`] of them on the first stack, where they are checked and
//! probed page by page, and marks them as fixed.
//!
//! # Where they are kept
//!
//! The gap costs a system call to make, so a side stack that is free stays one. [`StackCache`] keeps some for its P, without a lock;
//! the others are in a list of the process, from which a sweep takes them apart again. Those larger than the smallest are for recursions
//! that went deep, and are made and taken apart each time.
//!
//! # Invariants
//!
//! 1. A side stack is handed out with its gap, and what is below the gap is not its own.
//! 2. [`GAPS`] has an entry for each that was not taken apart: how its gap was made, and so how that is undone.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::guard::{GUARDS, Kind};
use crate::{Stack, StackCache, StackError, alloc, debug};

/// Bytes of locals that a function may have on a side stack. What has more is mostly a buffer, and rare. With more, a side stack could
/// be full before its stack has grown at all.
pub const SIDE_LOCALS: usize = 4 << 10;

/// Many times that: functions are inlined into each other after their locals were counted, of which each may have 8 KiB.
pub const SIDE_GAP: usize = 32 * SIDE_LOCALS;
const GAP: usize = SIDE_GAP;

/// The smallest side stack with its gap. All of it but what is touched is address space.
pub const SIDE_STACK: usize = 512 << 10;

/// Free side stacks that a P keeps: with this many, as much address space as one order of its stacks. Any number works.
pub(crate) const CACHED: usize = 16;

/// How the gap was made, by the lowest address of the whole.
static GAPS: Mutex<BTreeMap<usize, Kind>> = Mutex::new(BTreeMap::new());

/// Free ones of the smallest size that no P keeps, by the lowest address of the whole.
static FREE: Mutex<Free> = Mutex::new(Free { los: Vec::new(), idle: 0 });

struct Free {
    los: Vec<usize>,
    /// The fewest that there were since the last sweep: so many were not wanted.
    idle: usize,
}

/// Allocates a side stack of at least [`SIDE_STACK`] bytes, a power of two, gap included. What is in it is unspecified.
///
/// # Errors
///
/// As for [`stackalloc`](crate::stackalloc).
///
/// # Panics
///
/// As for [`stackalloc`](crate::stackalloc).
///
/// ```
/// use morestack_stacks::{SIDE_STACK, StackCache, side_alloc, side_free};
///
/// let mut cache = StackCache::new();
/// let side = side_alloc(&mut cache, SIDE_STACK)?;
/// assert!(side.size() >= SIDE_STACK / 2);
/// // SAFETY: nobody uses it.
/// unsafe { side_free(&mut cache, side) };
/// # Ok::<(), morestack_stacks::StackError>(())
/// ```
pub fn side_alloc(cache: &mut StackCache, size: usize) -> Result<Stack, StackError> {
    if size == SIDE_STACK {
        if let Some(lo) = cache.sides.pop() {
            return Ok(usable(Stack { lo, hi: lo + size }));
        }
        let mut free = FREE.lock();
        if let Some(lo) = free.los.pop() {
            free.idle = free.idle.min(free.los.len());
            return Ok(usable(Stack { lo, hi: lo + size }));
        }
    }
    let whole = alloc::stackalloc(Some(cache), size)?;
    // SAFETY: allocated just now.
    match unsafe { GUARDS.seal(Stack { lo: whole.lo, hi: whole.lo + GAP }) } {
        Ok(kind) => {
            GAPS.lock().insert(whole.lo, kind);
            Ok(usable(whole))
        }
        Err(shortage) => {
            // SAFETY: as above.
            unsafe { alloc::stackfree(Some(cache), whole) };
            Err(StackError::new(size, shortage))
        }
    }
}

/// Frees a side stack.
///
/// # Safety
///
/// It came from [`side_alloc`] and was not freed since; nobody uses it any more.
///
/// # Panics
///
/// As for [`stackfree`](crate::stackfree).
pub unsafe fn side_free(cache: &mut StackCache, side: Stack) {
    let whole = Stack { lo: side.lo - GAP, hi: side.hi };
    if whole.size() == SIDE_STACK && !debug::active() {
        if cache.sides.len() < CACHED {
            cache.sides.push(whole.lo);
        } else {
            FREE.lock().los.push(whole.lo);
        }
        return;
    }
    // SAFETY: the caller's.
    unsafe { take_apart(Some(cache), whole) };
}

/// Gives what a P has kept to the process.
pub(crate) fn release(sides: &mut Vec<usize>) {
    if !sides.is_empty() {
        FREE.lock().los.append(sides);
    }
}

/// Takes those apart that were not wanted since the last sweep. Returns the bytes of address space concerned.
pub(crate) fn sweep() -> usize {
    let idle = {
        let mut free = FREE.lock();
        let idle = free.idle.min(free.los.len());
        // Taken from the end, so the first were not wanted for longest.
        let idle: Vec<_> = free.los.drain(..idle).collect();
        free.idle = free.los.len();
        idle
    };
    for &lo in &idle {
        // SAFETY: it was free, and is nobody else's now.
        unsafe { take_apart(None, Stack { lo, hi: lo + SIDE_STACK }) };
    }
    idle.len() * SIDE_STACK
}

/// # Safety
///
/// Nobody uses it, or will.
unsafe fn take_apart(cache: Option<&mut StackCache>, whole: Stack) {
    let gap = Stack { lo: whole.lo, hi: whole.lo + GAP };
    let mut gaps = GAPS.lock();
    let Some(&kind) = gaps.get(&whole.lo) else { return };
    // SAFETY: the gap of a side stack that nobody uses.
    if unsafe { GUARDS.unseal(gap, kind) } {
        gaps.remove(&whole.lo);
        drop(gaps);
        // SAFETY: as above.
        unsafe { alloc::stackfree(cache, whole) };
    }
    // What still faults is not handed out again: it is address space.
}

fn usable(whole: Stack) -> Stack {
    Stack { lo: whole.lo + GAP, hi: whole.hi }
}

/// The addresses below a side stack that fault. A plain computation: fit for a signal handler.
pub const fn side_gap(side: Stack) -> std::ops::Range<usize> {
    side.lo.saturating_sub(GAP)..side.lo
}

/// The size of a side stack that has so many bytes beside its gap.
///
/// # Panics
///
/// If that does not fit an address.
pub fn round_side_size(bytes: usize) -> usize {
    (bytes + GAP).next_power_of_two().max(SIDE_STACK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freed_and_taken_again_from_where_it_lies() {
        let mut cache = StackCache::new();
        let sides: Vec<_> = (0..CACHED + 3).map(|_| side_alloc(&mut cache, SIDE_STACK).unwrap()).collect();
        for side in &sides {
            // SAFETY: ours, to its last byte.
            unsafe {
                (side.lo as *mut u8).write(1);
                (side.hi as *mut u8).sub(1).write(1);
            }
        }
        // SAFETY: nobody uses them.
        sides.iter().for_each(|side| unsafe { side_free(&mut cache, *side) });
        assert_eq!(cache.sides.len(), CACHED);
        let mut again: Vec<_> = (0..CACHED + 3).map(|_| side_alloc(&mut cache, SIDE_STACK).unwrap().lo).collect();
        let mut before: Vec<_> = sides.iter().map(|side| side.lo).collect();
        again.sort_unstable();
        before.sort_unstable();
        assert_eq!(again, before);
        // SAFETY: as above.
        sides.iter().for_each(|side| unsafe { side_free(&mut cache, *side) });
        drop(cache);
        // The first finds them idle, the second still.
        sweep();
        assert!(sweep() >= sides.len() * SIDE_STACK);
        let gaps = GAPS.lock();
        assert!(!sides.iter().any(|side| gaps.contains_key(&(side.lo - GAP))), "taken apart");
    }

    #[test]
    fn a_large_one_is_taken_apart_at_once() {
        let mut cache = StackCache::new();
        let side = side_alloc(&mut cache, 4 * SIDE_STACK).unwrap();
        assert_eq!(side.size(), 4 * SIDE_STACK - GAP);
        let lo = side.lo - GAP;
        assert!(GAPS.lock().contains_key(&lo));
        // SAFETY: nobody uses it.
        unsafe { side_free(&mut cache, side) };
        assert!(!GAPS.lock().contains_key(&lo));
    }

    #[test]
    fn sizes_leave_room_beside_the_gap() {
        assert_eq!(round_side_size(0), SIDE_STACK);
        assert_eq!(round_side_size(SIDE_STACK), 2 * SIDE_STACK);
        assert!(usable(Stack { lo: 0, hi: round_side_size(1 << 20) }).size() >= 1 << 20);
    }
}
