//! Large stacks (S7): those of more than the highest order. Free lists by log2(pages), above the arena.
//!
//! Each is a run of the arena of its own, at the run's end, so that `hi` is aligned to 4 MiB: the used end of the stack
//! starts with a whole huge page, and the guard's page lies in another.
//!
//! ```text
//!   run                                                             run + len
//!   ┌───────────────────────────────┬───┬──────────────────────────────┐
//!   │ never touched                 │ G │ stack                        │
//!   └───────────────────────────────┴───┴──────────────────────────────┘
//!                                       lo                             hi
//! ```
//!
//! # Freeing (S19)
//!
//! Touching memory for the first time is what a large stack costs: page faults. So the freed ones are kept as they are, up
//! to [`LARGE_KEEP`] bytes together, and the next of the same size finds them warm. Beyond that, and when a sweep finds
//! that a kept one was not wanted for a whole interval, the memory goes to the OS and the addresses to the arena.
//!
//! Stacks of [`LARGE_KEEP`] bytes and more are *deep*: the smaller ones that a recursion grew through would leave no room
//! for the one that it ended with, which its spawn site asks for the next time. They have a limit of their own,
//! [`DEEP_KEEP`]. A deep stack that was not used beyond a quarter is not worth it, and goes: growth makes stacks four times
//! as large there.
//!
//! What a growing recursion leaves behind is not kept from [`OUTGROWN_DROP`] on: the next of its site starts with the size
//! that this one ends with, and meanwhile its larger stack can be made of the memory. That is half of the pages that are
//! touched on the way up, and on a virtual machine a page that the machine never had before costs several times one that
//! it had.
//!
//! # Invariants
//!
//! 1. `kept` is the sum of the sizes in `free`, of those below [`LARGE_KEEP`] and of the deep ones, and each at most its
//!    limit. Size bounds what a stack has touched.
//! 2. A list is last in, first out, so its bottom is what nobody needed: `idle[i]` is how short list `i` has been since
//!    the last sweep, and so many from the bottom were not touched in that time.
//! 3. A stack here has its guard. It is made with the run and unmade with it.
//! 4. A stack whose guard cannot be unmade is `stuck`: not kept for use, since what of it faults is not known. Each sweep
//!    and each trim tries again.

use std::array;
use std::mem;

use parking_lot::Mutex;

use crate::arena::{Arena, BASE_PAGES, GRANULE, HUGE_PAGES};
use crate::guard::{GUARDS, Kind};
use crate::sys::{self, Advice, PAGE};
use crate::{Shortage, Stack};

/// Bytes of freed large stacks that are kept with their memory, in the whole process. Enough for a few deep recursions
/// at once, little beside what such a program uses anyway; plucked from thin air between those two. Larger keeps memory
/// that is not needed, for two sweeps; smaller faults pages in again and again.
pub(crate) const LARGE_KEEP: usize = 64 << 20;

/// Bytes of freed deep stacks that are kept, in the whole process: one recursion of a million frames, or four of a quarter
/// as many. What the process had touched anyway, for two sweeps more. Smaller, and such a recursion faults all its pages in
/// each time: with huge pages a third of what the recursion itself costs.
const DEEP_KEEP: usize = 256 << 20;

/// Outgrown stacks of so many bytes and more are not kept. The large ones below are 7 MiB together. Larger, and a deep
/// recursion touches more fresh memory; smaller, and those that begin small where few go deep fault more pages in.
const OUTGROWN_DROP: usize = 8 << 20;

/// Of stacks that are not deep, and of deep ones.
const LIMITS: [usize; 2] = [LARGE_KEEP, DEEP_KEEP];

/// From this size on, huge pages: the size of one.
const HUGE_PAGE: usize = 2 << 20;

/// One list for each power of two of pages that an address can count.
const LISTS: usize = usize::BITS as usize - PAGE.trailing_zeros() as usize;

/// Tags of large stacks' runs in the arena, by the kind of their guard. Spans of the pool have the order in the low byte
/// and orders are few.
const TAGS: [(u32, Kind); 2] = [(0xfe, Kind::Madvise), (0xff, Kind::Mprotect)];

static LARGE: Mutex<Large> = Mutex::new(Large::new());

struct Large {
    /// Kept stacks' low bounds, by log2(pages).
    free: [Vec<usize>; LISTS],
    idle: [usize; LISTS],
    /// See invariant 4.
    stuck: Vec<Stack>,
    /// By limit: see [`limit_of`].
    kept: [usize; LIMITS.len()],
    taken: usize,
    taken_bytes: usize,
}

/// What the lists hold.
#[derive(Clone, Copy, Default)]
pub(crate) struct Usage {
    pub(crate) taken: usize,
    pub(crate) taken_bytes: usize,
    pub(crate) kept_bytes: usize,
}

impl Large {
    const fn new() -> Large {
        Large {
            free: [const { Vec::new() }; LISTS],
            idle: [0; LISTS],
            stuck: Vec::new(),
            kept: [0; LIMITS.len()],
            taken: 0,
            taken_bytes: 0,
        }
    }

    fn pop(&mut self, size: usize) -> Option<usize> {
        let list = list_of(size);
        let lo = self.free[list].pop()?;
        self.idle[list] = self.idle[list].min(self.free[list].len());
        self.kept[limit_of(size)] -= size;
        Some(lo)
    }

    fn count_taken(&mut self, size: usize) {
        self.taken += 1;
        self.taken_bytes += size;
    }
}

fn list_of(size: usize) -> usize {
    (size / PAGE).ilog2() as usize
}

fn size_of_list(list: usize) -> usize {
    PAGE << list
}

/// Which of the [`LIMITS`] a size falls under.
fn limit_of(size: usize) -> usize {
    usize::from(size >= LARGE_KEEP)
}

fn arena_of(size: usize) -> &'static Arena {
    if size < HUGE_PAGE { &BASE_PAGES } else { &HUGE_PAGES }
}

/// The run that holds a stack of this size and its guard.
fn run_len(size: usize) -> usize {
    (size + PAGE).next_multiple_of(GRANULE)
}

/// A stack of `size` bytes: a kept one, else a fresh run. A run that cannot have its guard goes back untouched.
pub(crate) fn alloc(size: usize) -> Result<Stack, Shortage> {
    {
        let mut large = LARGE.lock();
        if let Some(lo) = large.pop(size) {
            large.count_taken(size);
            return Ok(Stack { lo, hi: lo + size });
        }
    }
    let arena = arena_of(size);
    let run = arena.alloc(run_len(size))?;
    let hi = run + run_len(size);
    let lo = hi - size;
    // SAFETY: the run is ours, and the page below `lo` belongs to no stack.
    let kind = unsafe { GUARDS.install(lo) }.inspect_err(|_| arena.free(run, run_len(size)))?;
    let tag = TAGS.iter().find(|(_, k)| *k == kind).map(|(tag, _)| *tag);
    arena.tag(run, tag.expect("every kind has a tag"));
    LARGE.lock().count_taken(size);
    Ok(Stack { lo, hi })
}

/// Takes a stack back. The caller owns it and has unsealed it.
pub(crate) fn free(stack: Stack) {
    take_back(stack, stack.size() < LARGE_KEEP || was_used(stack));
}

/// Takes a stack back that was copied to a larger one.
pub(crate) fn outgrown(stack: Stack) {
    take_back(stack, stack.size() < OUTGROWN_DROP);
}

fn take_back(stack: Stack, worth: bool) {
    let size = stack.size();
    kind_of(stack);
    let limit = limit_of(size);
    {
        let mut large = LARGE.lock();
        large.taken -= 1;
        large.taken_bytes -= size;
        debug_assert!(!large.free[list_of(size)].contains(&stack.lo), "stackfree: {stack:x?} was freed twice");
        if worth && large.kept[limit] + size <= LIMITS[limit] {
            large.kept[limit] += size;
            large.free[list_of(size)].push(stack.lo);
            return;
        }
    }
    give_back(stack);
}

/// Gives back what was kept and not wanted since the sweep before. Returns the bytes.
pub(crate) fn sweep() -> usize {
    drain(|large, list| mem::replace(&mut large.idle[list], 0))
}

/// Gives back all that is kept. Returns the bytes.
pub(crate) fn trim() -> usize {
    drain(|large, list| large.free[list].len())
}

pub(crate) fn usage() -> Usage {
    let large = LARGE.lock();
    Usage { taken: large.taken, taken_bytes: large.taken_bytes, kept_bytes: large.kept.iter().sum() }
}

/// Gives back so many from the bottom of each list, and what is stuck, and starts a new interval. The system calls are made
/// without the lock.
fn drain(count: impl Fn(&mut Large, usize) -> usize) -> usize {
    let (stuck, drained): (_, [Vec<usize>; LISTS]) = {
        let mut large = LARGE.lock();
        let drained = array::from_fn(|list| {
            let count = count(&mut large, list).min(large.free[list].len());
            let drained: Vec<_> = large.free[list].drain(..count).collect();
            large.kept[limit_of(size_of_list(list))] -= count * size_of_list(list);
            large.idle[list] = large.free[list].len();
            drained
        });
        (mem::take(&mut large.stuck), drained)
    };
    stuck.into_iter().for_each(give_back);
    let mut bytes = 0;
    for (list, los) in drained.into_iter().enumerate() {
        let size = size_of_list(list);
        bytes += los.len() * size;
        los.into_iter().for_each(|lo| give_back(Stack { lo, hi: lo + size }));
    }
    bytes
}

/// Whether more than a quarter of a large stack was used since its memory was last given back, by its last owner or by one
/// before. A system call: not for stacks that cost less.
pub fn was_used(stack: Stack) -> bool {
    sys::is_resident(stack.hi - stack.size() / 4 - PAGE)
}

/// The kind of a stack's guard, or a panic: what is freed must be a large stack of this size (S8).
fn kind_of(stack: Stack) -> Kind {
    let tag = arena_of(stack.size()).tag_of(stack.hi.wrapping_sub(run_len(stack.size())));
    let kind = TAGS.iter().find(|(t, _)| *t == tag).map(|(_, kind)| *kind);
    kind.unwrap_or_else(|| panic!("stackfree: {:#x} is not a stack of {} bytes", stack.lo, stack.size()))
}

/// Memory to the OS, addresses to the arena. Where the guard stays, the stack is stuck (invariant 4).
fn give_back(stack: Stack) {
    let kind = kind_of(stack);
    // SAFETY: the stack was freed by its last owner and is in no list, so it is ours alone; the guard is of that kind.
    let permitted = unsafe {
        // A refusal (locked memory) leaves old bytes behind; no stack is promised to be zero.
        let _ = sys::advise(stack.lo, stack.size(), Advice::DontNeed);
        GUARDS.remove(stack.lo, kind)
    };
    if permitted {
        let len = run_len(stack.size());
        arena_of(stack.size()).free(stack.hi - len, len);
    } else {
        LARGE.lock().stuck.push(stack);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_kept(stack: Stack) -> bool {
        LARGE.lock().free[list_of(stack.size())].contains(&stack.lo)
    }

    /// A stack of `size` bytes of which the words so far below the high end are used.
    fn used(size: usize, depths: &[usize]) -> Stack {
        let stack = alloc(size).unwrap();
        // SAFETY: the stack is the test's, and the depths are within it.
        depths.iter().for_each(|depth| unsafe { ((stack.hi - depth) as *mut u64).write(1) });
        stack
    }

    /// One test: nobody else in this process has stacks of these sizes.
    #[test]
    fn what_is_worth_keeping() {
        for size in [LARGE_KEEP, 2 * LARGE_KEEP] {
            let shallow = used(size, &[8, size / 2]);
            free(shallow);
            assert!(!is_kept(shallow), "a smaller one would have done");
            let deep = used(size, &[8, size / 4 + 8]);
            free(deep);
            assert!(is_kept(deep));
            assert_eq!(alloc(size).unwrap(), deep);
            outgrown(deep);
            assert!(!is_kept(deep));
        }

        let fit = DEEP_KEEP / LARGE_KEEP;
        let deep: Vec<_> = (0..=fit).map(|_| used(LARGE_KEEP, &[LARGE_KEEP / 4 + 8])).collect();
        deep.iter().for_each(|stack| free(*stack));
        assert_eq!(deep.iter().filter(|stack| is_kept(**stack)).count(), fit, "as many as the limit allows");
        let again = deep.iter().take(fit).rev().map(|stack| (alloc(LARGE_KEEP).unwrap(), *stack));
        again.for_each(|(again, stack)| {
            assert_eq!(again, stack);
            outgrown(again);
        });

        let small = used(OUTGROWN_DROP / 2, &[8]);
        outgrown(small);
        assert!(is_kept(small), "those that begin small find it warm");
        assert_eq!(alloc(small.size()).unwrap(), small);
        free(small);
    }
}
