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
//! # Where they come from, and are kept
//!
//! The smallest are stacks of [`stackalloc`](crate::stackalloc). The larger ones, for recursions, have an arena of their own: little
//! of them is touched, so they are made of small pages, whatever their size.
//!
//! The gap costs a system call to make, so a side stack that is free stays one. [`StackCache`] keeps some of the smallest for its P,
//! without a lock; the others are in lists of the process, from which a sweep takes them apart again. Of a larger one only the first
//! [`WARM`] bytes stay memory.
//!
//! # Invariants
//!
//! 1. A side stack is handed out with its gap, and what is below the gap is not its own.
//! 2. [`GAPS`] has an entry for each that was not taken apart: how its gap was made, and so how that is undone, and whose its memory is.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::arena::{GRANULE, SIDE_PAGES};
use crate::guard::{GUARDS, Kind};
use crate::sys::{self, Advice};
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

/// Larger ones of a size that the process keeps. A few recursions at a time.
const KEPT: usize = 16;

/// Bytes of a larger one that stay memory when it is free: as much as a recursion to a megabyte of stack mostly uses.
const WARM: usize = 256 << 10;

/// By the lowest address of the whole.
static GAPS: Mutex<BTreeMap<usize, Gap>> = Mutex::new(BTreeMap::new());

struct Gap {
    kind: Kind,
    /// The whole is a run of [`SIDE_PAGES`].
    run: bool,
}

/// Free ones that no P keeps, by the power of two that the smallest is to be multiplied with.
static FREE: Mutex<[Free; LISTS]> = Mutex::new([const { Free { los: Vec::new(), idle: 0 } }; LISTS]);
const LISTS: usize = (usize::BITS - SIDE_STACK.ilog2()) as usize;

struct Free {
    /// The lowest addresses of the wholes.
    los: Vec<usize>,
    /// The fewest that there were since the last sweep: so many were not wanted.
    idle: usize,
}

fn list_of(size: usize) -> usize {
    (size / SIDE_STACK).ilog2() as usize
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
    let whole = |lo| Stack { lo, hi: lo + size };
    if size == SIDE_STACK
        && let Some(lo) = cache.sides.pop()
    {
        return Ok(usable(whole(lo)));
    }
    {
        let free = &mut FREE.lock()[list_of(size)];
        if let Some(lo) = free.los.pop() {
            free.idle = free.idle.min(free.los.len());
            return Ok(usable(whole(lo)));
        }
    }
    let run = size > SIDE_STACK && !debug::active();
    let whole = if run { alloc_run(size)? } else { alloc::stackalloc(Some(cache), size)? };
    // SAFETY: allocated just now.
    match unsafe { GUARDS.seal(Stack { lo: whole.lo, hi: whole.lo + GAP }) } {
        Ok(kind) => {
            GAPS.lock().insert(whole.lo, Gap { kind, run });
            Ok(usable(whole))
        }
        Err(shortage) => {
            // SAFETY: as above.
            unsafe { free_whole(Some(cache), whole, run) };
            Err(StackError::new(size, shortage))
        }
    }
}

/// A run of the arena, and in it the whole of a side stack.
fn alloc_run(size: usize) -> Result<Stack, StackError> {
    let len = run_len(size);
    let run = SIDE_PAGES.alloc(len).or_else(|_| {
        take_apart_free(|free| free.los.len());
        SIDE_PAGES.alloc(len)
    });
    let hi = run.map_err(|shortage| StackError::new(size, shortage))? + len;
    Ok(Stack { lo: hi - size, hi })
}

fn run_len(size: usize) -> usize {
    size.next_multiple_of(GRANULE)
}

/// # Safety
///
/// It was allocated so, has no gap, and nobody uses it.
unsafe fn free_whole(cache: Option<&mut StackCache>, whole: Stack, run: bool) {
    // SAFETY: the caller's.
    unsafe {
        if run {
            drop_memory(whole.lo, whole.hi);
            let len = run_len(whole.size());
            SIDE_PAGES.free(whole.hi - len, len);
        } else {
            alloc::stackfree(cache, whole);
        }
    }
}

/// # Safety
///
/// Nobody uses what is between these addresses of a side stack.
unsafe fn drop_memory(lo: usize, hi: usize) {
    // A refusal (locked memory) leaves old bytes behind; no side stack is promised to be zero.
    // SAFETY: the caller's.
    let _ = unsafe { sys::advise(lo, hi - lo, Advice::DontNeed) };
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
    if debug::active() {
        // SAFETY: the caller's.
        return unsafe { take_apart(Some(cache), whole) };
    }
    if whole.size() == SIDE_STACK {
        if cache.sides.len() < CACHED {
            cache.sides.push(whole.lo);
        } else {
            FREE.lock()[0].los.push(whole.lo);
        }
        return;
    }
    let is_kept = |free: &Free| free.los.len() < KEPT;
    if is_kept(&FREE.lock()[list_of(whole.size())]) {
        // SAFETY: the caller's: it is in no list.
        unsafe { drop_memory(side.lo, side.hi - WARM) };
        // There may be some more by now.
        FREE.lock()[list_of(whole.size())].los.push(whole.lo);
    } else {
        // SAFETY: the caller's.
        unsafe { take_apart(Some(cache), whole) };
    }
}

/// Gives what a P has kept to the process.
pub(crate) fn release(sides: &mut Vec<usize>) {
    if !sides.is_empty() {
        FREE.lock()[0].los.append(sides);
    }
}

/// Takes those apart that were not wanted since the last sweep. Returns the bytes of address space concerned.
pub(crate) fn sweep() -> usize {
    take_apart_free(|free| free.idle)
}

/// Takes so many of each list apart.
fn take_apart_free(count: impl Fn(&Free) -> usize) -> usize {
    let mut bytes = 0;
    for list in 0..LISTS {
        let los: Vec<_> = {
            let free = &mut FREE.lock()[list];
            let count = count(free).min(free.los.len());
            // Taken from the end, so the first were not wanted for longest.
            let los = free.los.drain(..count).collect();
            free.idle = free.los.len();
            los
        };
        bytes += los.len() * (SIDE_STACK << list);
        for lo in los {
            // SAFETY: it was free, and is nobody else's now.
            unsafe { take_apart(None, Stack { lo, hi: lo + (SIDE_STACK << list) }) };
        }
    }
    bytes
}

/// # Safety
///
/// Nobody uses it, or will.
unsafe fn take_apart(cache: Option<&mut StackCache>, whole: Stack) {
    let gap = Stack { lo: whole.lo, hi: whole.lo + GAP };
    let mut gaps = GAPS.lock();
    let Some(&Gap { kind, run }) = gaps.get(&whole.lo) else { return };
    // SAFETY: the gap of a side stack that nobody uses.
    if unsafe { GUARDS.unseal(gap, kind) } {
        gaps.remove(&whole.lo);
        drop(gaps);
        // SAFETY: as above.
        unsafe { free_whole(cache, whole, run) };
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

    /// The lists are the process's, and the tests say when they are swept.
    static SWEEPS: Mutex<()> = Mutex::new(());

    #[test]
    fn freed_and_taken_again_from_where_it_lies() {
        let _alone = SWEEPS.lock();
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
    fn a_larger_one_is_made_of_small_pages_and_kept_warm_until_it_is_not_wanted() {
        let _alone = SWEEPS.lock();
        let mut cache = StackCache::new();
        let size = 8 * SIDE_STACK;
        let side = side_alloc(&mut cache, size).unwrap();
        assert_eq!(side.size(), size - GAP);
        let deep = side.hi - 2 * WARM;
        // SAFETY: ours.
        [side.lo, deep, side.hi - 8].into_iter().for_each(|addr| unsafe { (addr as *mut u64).write(1) });
        assert!(!sys::is_resident(side.lo + WARM), "a page is touched, no more");
        // SAFETY: nobody uses it.
        unsafe { side_free(&mut cache, side) };
        assert!(!sys::is_resident(deep) && sys::is_resident(side.hi - sys::PAGE));
        assert_eq!(side_alloc(&mut cache, size).unwrap(), side);
        // SAFETY: nobody uses it.
        unsafe { side_free(&mut cache, side) };
        sweep();
        assert!(sweep() >= size);
        assert!(!GAPS.lock().contains_key(&(side.lo - GAP)), "taken apart");
    }

    #[test]
    fn sizes_leave_room_beside_the_gap() {
        assert_eq!(round_side_size(0), SIDE_STACK);
        assert_eq!(round_side_size(SIDE_STACK), 2 * SIDE_STACK);
        assert!(usable(Stack { lo: 0, hi: round_side_size(1 << 20) }).size() >= 1 << 20);
    }
}
