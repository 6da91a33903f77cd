//! Accounting (S21): what is in use, what it costs, what moved.
//!
//! Nothing is counted on a hit path. What is in use follows from three numbers that other paths keep anyway:
//!
//! ```text
//!   in use = taken from the pool - lying in per-P caches - quarantined by efence
//! ```
//!
//! They are read one after the other while other threads go on, so a snapshot can be off by what moved meanwhile. It is
//! exact when nothing moves.

use std::array;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use crossbeam_utils::CachePadded;

use crate::arena::{BASE_PAGES, HUGE_PAGES, SIDE_PAGES};
use crate::guard::GUARDS;
use crate::pool::pool;
use crate::{FIXED_STACK, NUM_STACK_ORDERS, cache, efence, large};

/// What the stacks of the process are and what they cost, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StackStats {
    /// Stacks in use, by order: `FIXED_STACK << order` bytes each.
    pub in_use: [usize; NUM_STACK_ORDERS],
    /// Large stacks in use.
    pub large_in_use: usize,
    /// Bytes of address space of all stacks in use. What they touched of it is memory.
    pub in_use_bytes: usize,
    /// Stacks that the spans of each order were carved into: in use, cached, or free in the pool.
    pub reserved: [usize; NUM_STACK_ORDERS],
    /// Free stacks in per-P caches, by order.
    pub cached: [usize; NUM_STACK_ORDERS],
    /// Bytes of freed large stacks that are kept with their memory.
    pub large_kept_bytes: usize,
    /// Bytes of address space taken from the system for stacks, in whole spans: in use, cached, pooled, kept and
    /// guards.
    pub reserved_bytes: usize,
    /// Bytes of address space kept for stacks, used or not. It costs nothing; tools show it as virtual size.
    pub address_space_bytes: usize,
    /// Times an empty per-P cache was refilled from the pool.
    pub refills: usize,
    /// Times a per-P cache gave stacks back to the pool.
    pub releases: usize,
    /// Stacks moved to a larger one.
    pub grows: u64,
    /// Stacks moved to a smaller one.
    pub shrinks: u64,
    /// Stacks moved to one of the same size (stress runs).
    pub moves: u64,
    /// Stacks packed into a block.
    pub freezes: u64,
    /// Blocks unpacked onto a stack.
    pub thaws: u64,
    /// Bytes of the blocks that are frozen now.
    pub frozen_bytes: usize,
    /// Bytes that all of those copied.
    pub bytes_copied: u64,
    /// Words that all of those changed, saved registers included.
    pub words_adjusted: u64,
    /// Guards alive that cost no mapping (`MADV_GUARD_INSTALL`).
    pub guards_madvise: usize,
    /// Guards alive, and quarantined stacks, that cost mappings (`mprotect`).
    pub guards_mprotect: usize,
    /// Stacks that efence keeps inaccessible, and those that it could not make accessible again.
    pub quarantined: usize,
}

/// The counters of copystack. Changed by slow paths only; a line of their own, so that they slow nothing else.
static MOVED: CachePadded<Moves> = CachePadded::new(Moves {
    grows: AtomicU64::new(0),
    shrinks: AtomicU64::new(0),
    moves: AtomicU64::new(0),
    freezes: AtomicU64::new(0),
    thaws: AtomicU64::new(0),
    frozen_bytes: AtomicUsize::new(0),
    bytes_copied: AtomicU64::new(0),
    words_adjusted: AtomicU64::new(0),
});

struct Moves {
    grows: AtomicU64,
    shrinks: AtomicU64,
    moves: AtomicU64,
    freezes: AtomicU64,
    thaws: AtomicU64,
    frozen_bytes: AtomicUsize,
    bytes_copied: AtomicU64,
    words_adjusted: AtomicU64,
}

/// Stacks that are mappings of their own (`fromsystem`): how many, by log2 of their size, and the bytes of all.
static FROM_SYSTEM: [AtomicUsize; usize::BITS as usize] = [const { AtomicUsize::new(0) }; usize::BITS as usize];
static FROM_SYSTEM_RESERVED: AtomicUsize = AtomicUsize::new(0);

/// Counts one move.
pub(crate) fn count_move(old_size: usize, new_size: usize, bytes: usize, words: usize) {
    let kind = match new_size.cmp(&old_size) {
        std::cmp::Ordering::Greater => &MOVED.grows,
        std::cmp::Ordering::Less => &MOVED.shrinks,
        std::cmp::Ordering::Equal => &MOVED.moves,
    };
    kind.fetch_add(1, Relaxed);
    MOVED.bytes_copied.fetch_add(bytes as u64, Relaxed);
    MOVED.words_adjusted.fetch_add(words as u64, Relaxed);
}

/// Counts a stack that was packed into `bytes`.
pub(crate) fn count_freeze(bytes: usize) {
    MOVED.freezes.fetch_add(1, Relaxed);
    MOVED.frozen_bytes.fetch_add(bytes, Relaxed);
    MOVED.bytes_copied.fetch_add(bytes as u64, Relaxed);
}

/// Counts one that was unpacked.
pub(crate) fn count_thaw(bytes: usize, words: usize) {
    MOVED.thaws.fetch_add(1, Relaxed);
    MOVED.frozen_bytes.fetch_sub(bytes, Relaxed);
    MOVED.bytes_copied.fetch_add(bytes as u64, Relaxed);
    MOVED.words_adjusted.fetch_add(words as u64, Relaxed);
}

/// Counts a stack that is a mapping of `reserved` bytes.
pub(crate) fn count_mapped(size: usize, reserved: usize) {
    FROM_SYSTEM[size.ilog2() as usize].fetch_add(1, Relaxed);
    FROM_SYSTEM_RESERVED.fetch_add(reserved, Relaxed);
}

/// Counts the end of one.
pub(crate) fn count_unmapped(size: usize, reserved: usize) {
    FROM_SYSTEM[size.ilog2() as usize].fetch_sub(1, Relaxed);
    FROM_SYSTEM_RESERVED.fetch_sub(reserved, Relaxed);
}

/// A snapshot of the process's stacks. It takes every lock of the allocator, each for a moment: for metrics, not for
/// hot paths.
///
/// ```
/// let stats = morestack_stacks::stats();
/// println!("{} stacks grew, {} bytes in use", stats.grows, stats.in_use_bytes);
/// ```
pub fn stats() -> StackStats {
    let quarantine = efence::usage();
    let cached = cache::cached();
    let pools: [_; NUM_STACK_ORDERS] = array::from_fn(|order| pool(order).usage());
    let large = large::usage();
    let guards = GUARDS.counts();
    let arenas = [BASE_PAGES.usage(), HUGE_PAGES.usage(), SIDE_PAGES.usage()];

    let (smalls, larges) = FROM_SYSTEM[FIXED_STACK.ilog2() as usize..].split_at(NUM_STACK_ORDERS);
    let mapped = |counter: &AtomicUsize| counter.load(Relaxed);
    let in_use = array::from_fn(|order| {
        (pools[order].taken + mapped(&smalls[order])).saturating_sub(cached[order] + quarantine.small[order])
    });
    let mapped_large_bytes: usize =
        larges.iter().enumerate().map(|(i, count)| mapped(count) * (FIXED_STACK << NUM_STACK_ORDERS << i)).sum();
    let large_bytes = (large.taken_bytes + mapped_large_bytes).saturating_sub(quarantine.large_bytes);
    let small_bytes: usize = in_use.iter().enumerate().map(|(order, count)| count * (FIXED_STACK << order)).sum();
    StackStats {
        in_use,
        large_in_use: (large.taken + larges.iter().map(mapped).sum::<usize>()).saturating_sub(quarantine.large),
        in_use_bytes: small_bytes + large_bytes,
        reserved: array::from_fn(|order| pools[order].reserved),
        cached,
        large_kept_bytes: large.kept_bytes,
        reserved_bytes: arenas.iter().map(|arena| arena.in_use).sum::<usize>() + mapped(&FROM_SYSTEM_RESERVED),
        address_space_bytes: arenas.iter().map(|arena| arena.reserved).sum::<usize>() + mapped(&FROM_SYSTEM_RESERVED),
        refills: pools.iter().map(|pool| pool.refills).sum(),
        releases: pools.iter().map(|pool| pool.releases).sum(),
        grows: MOVED.grows.load(Relaxed),
        shrinks: MOVED.shrinks.load(Relaxed),
        moves: MOVED.moves.load(Relaxed),
        freezes: MOVED.freezes.load(Relaxed),
        thaws: MOVED.thaws.load(Relaxed),
        frozen_bytes: MOVED.frozen_bytes.load(Relaxed),
        bytes_copied: MOVED.bytes_copied.load(Relaxed),
        words_adjusted: MOVED.words_adjusted.load(Relaxed),
        guards_madvise: guards.madvise,
        guards_mprotect: guards.mprotect,
        quarantined: quarantine.small.iter().sum::<usize>() + quarantine.large,
    }
}
