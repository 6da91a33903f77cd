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
//! # Invariants
//!
//! 1. `kept` is the sum of the sizes in `free`, and at most [`LARGE_KEEP`]. Size bounds what a stack has touched.
//! 2. A list is last in, first out, so its bottom is what nobody needed: `idle[i]` is how short list `i` has been since
//!    the last sweep, and so many from the bottom were not touched in that time.
//! 3. A stack here has its guard. It is made with the run and unmade with it.

use std::array;
use std::mem;

use parking_lot::Mutex;

use crate::arena::{Arena, BASE_PAGES, GRANULE, HUGE_PAGES};
use crate::guard::{GUARDS, Kind};
use crate::sys::{self, Advice, PAGE};
use crate::{Stack, StackError};

/// Bytes of freed large stacks that are kept with their memory, in the whole process. Enough for a few deep recursions
/// at once, little beside what such a program uses anyway; plucked from thin air between those two. Larger keeps memory
/// that is not needed, for two sweeps; smaller faults pages in again and again.
pub(crate) const LARGE_KEEP: usize = 64 << 20;

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
    kept: usize,
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
        Large { free: [const { Vec::new() }; LISTS], idle: [0; LISTS], kept: 0, taken: 0, taken_bytes: 0 }
    }

    fn pop(&mut self, size: usize) -> Option<usize> {
        let list = list_of(size);
        let lo = self.free[list].pop()?;
        self.idle[list] = self.idle[list].min(self.free[list].len());
        self.kept -= size;
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

fn arena_of(size: usize) -> &'static Arena {
    if size < HUGE_PAGE { &BASE_PAGES } else { &HUGE_PAGES }
}

/// The run that holds a stack of this size and its guard.
fn run_len(size: usize) -> usize {
    (size + PAGE).next_multiple_of(GRANULE)
}

/// A stack of `size` bytes: a kept one, else a fresh run. A run that cannot have its guard goes back untouched.
pub(crate) fn alloc(size: usize) -> Result<Stack, StackError> {
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
    let size = stack.size();
    kind_of(stack);
    {
        let mut large = LARGE.lock();
        large.taken -= 1;
        large.taken_bytes -= size;
        debug_assert!(!large.free[list_of(size)].contains(&stack.lo), "stackfree: {stack:x?} was freed twice");
        if large.kept + size <= LARGE_KEEP {
            large.kept += size;
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
    Usage { taken: large.taken, taken_bytes: large.taken_bytes, kept_bytes: large.kept }
}

/// Gives back so many from the bottom of each list, and starts a new interval. The system calls are made without the
/// lock.
fn drain(count: impl Fn(&mut Large, usize) -> usize) -> usize {
    let drained: [Vec<usize>; LISTS] = {
        let mut large = LARGE.lock();
        array::from_fn(|list| {
            let count = count(&mut large, list).min(large.free[list].len());
            let drained: Vec<_> = large.free[list].drain(..count).collect();
            large.kept -= count * size_of_list(list);
            large.idle[list] = large.free[list].len();
            drained
        })
    };
    let mut bytes = 0;
    for (list, los) in drained.into_iter().enumerate() {
        let size = size_of_list(list);
        bytes += los.len() * size;
        los.into_iter().for_each(|lo| give_back(Stack { lo, hi: lo + size }));
    }
    bytes
}

/// The kind of a stack's guard, or a panic: what is freed must be a large stack of this size (S8).
fn kind_of(stack: Stack) -> Kind {
    let tag = arena_of(stack.size()).tag_of(stack.hi.wrapping_sub(run_len(stack.size())));
    let kind = TAGS.iter().find(|(t, _)| *t == tag).map(|(_, kind)| *kind);
    kind.unwrap_or_else(|| panic!("stackfree: {:#x} is not a stack of {} bytes", stack.lo, stack.size()))
}

/// Memory to the OS, addresses to the arena. Addresses whose guard stays are lost.
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
    }
}
