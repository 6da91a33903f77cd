//! The per-P stack cache (S4, S5): stacks that cost neither a lock nor a contended cache line.
//!
//! ```text
//!   order            0 (64K)  1 (128K)  2 (256K)  3 (512K)
//!   capacity           64       32        16         8        = STACK_CACHE_SIZE bytes of address space each
//!
//!              ┌──── top: popped and pushed first, its pages and its cache lines are warm
//!   [s][s][s][s][ ][ ][ ][ ]
//!    ▲ empty on alloc: refill to half under one lock of the pool
//!    full on free: release the colder half under one lock ──► pool
//! ```
//!
//! Half either way: after a refill and after a release the cache is as far from the next of both as it can be, so a load
//! that swings around either end takes a lock once per half capacity and not once per stack.
//!
//! # Who may touch what
//!
//! `los` belongs to the P that owns the cache. `len` does too, but [`stats`](crate::stats) reads it from any thread:
//! hence an atomic, which the owner changes by a load and a store. Only the owner writes it and each order's line is
//! the owner's, so both are plain moves on a line that stays in its core's cache.
//!
//! The list is an array beside the stacks, not links inside of them: a link would touch a page of every stack that is
//! passed from a span to a cache, and would be memory that a stack's last user can still scribble over.

use std::array;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crossbeam_utils::CachePadded;
use parking_lot::Mutex;

use crate::pool::pool;
use crate::side;
use crate::{FIXED_STACK, NUM_STACK_ORDERS, Shortage, Stack};

/// Bytes of address space that one order of one cache may hold. Only touched pages are memory: of idle green threads'
/// stacks, one or two each. 64 of the smallest cover the stacks that a P's handlers take and return between two
/// blocking points. Too small shows as pool locks, too large as memory that idle Ps sit on.
pub(crate) const STACK_CACHE_SIZE: usize = 4 << 20;

/// The capacity of order 0, and of the array of every order.
const CAPACITY: usize = STACK_CACHE_SIZE / FIXED_STACK;

const fn capacity(order: usize) -> usize {
    CAPACITY >> order
}

/// The stacks that a P keeps for itself. Every order has a free list of its own.
///
/// Its owner passes it to [`stackalloc`](crate::stackalloc) and [`stackfree`](crate::stackfree). It is dropped, or
/// [cleared](StackCache::clear), when the P goes away and when it has been idle for long.
///
/// ```
/// use morestack_stacks::{FIXED_STACK, StackCache, stackalloc, stackfree};
///
/// let mut cache = StackCache::new();
/// let stack = stackalloc(Some(&mut cache), FIXED_STACK)?;
/// // SAFETY: nothing runs on it.
/// unsafe { stackfree(Some(&mut cache), stack) };
/// assert_eq!(stackalloc(Some(&mut cache), FIXED_STACK)?, stack, "the warmest first");
/// # unsafe { stackfree(Some(&mut cache), stack) };
/// # Ok::<(), morestack_stacks::StackError>(())
/// ```
pub struct StackCache {
    los: [[usize; CAPACITY]; NUM_STACK_ORDERS],
    len: Arc<Lengths>,
    /// Free [side stacks](crate::side_alloc).
    pub(crate) sides: Vec<usize>,
}

/// How many stacks a cache holds, by order.
type Lengths = CachePadded<[AtomicU32; NUM_STACK_ORDERS]>;

/// The lengths of all caches alive, for the statistics.
static CACHES: Mutex<Vec<Arc<Lengths>>> = Mutex::new(Vec::new());

/// Stacks that lie in caches, by order.
pub(crate) fn cached() -> [usize; NUM_STACK_ORDERS] {
    let caches = CACHES.lock();
    array::from_fn(|order| caches.iter().map(|len| len[order].load(Relaxed) as usize).sum())
}

impl StackCache {
    /// An empty cache. The first stack fills it to half.
    pub fn new() -> StackCache {
        let len = Arc::new(Lengths::default());
        CACHES.lock().push(len.clone());
        StackCache { los: [[0; CAPACITY]; NUM_STACK_ORDERS], len, sides: Vec::new() }
    }

    /// Gives every stack back to the pool (S5).
    pub fn clear(&mut self) {
        for order in 0..NUM_STACK_ORDERS {
            self.release(order, 0);
        }
        side::release(&mut self.sides);
    }

    /// The warmest stack of an order, if there is one: the hit path.
    #[inline(always)]
    pub(crate) fn pop(&mut self, order: usize) -> Option<Stack> {
        let len = self.len[order].load(Relaxed).checked_sub(1)?;
        let lo = *self.los[order].get(len as usize)?;
        self.len[order].store(len, Relaxed);
        Some(Stack { lo, hi: lo + (FIXED_STACK << order) })
    }

    /// Keeps a stack, or says that this order is full: the hit path.
    #[inline(always)]
    pub(crate) fn push(&mut self, order: usize, lo: usize) -> bool {
        let len = self.len[order].load(Relaxed) as usize;
        if len >= capacity(order) {
            return false;
        }
        let Some(place) = self.los[order].get_mut(len) else { return false };
        *place = lo;
        self.len[order].store(len as u32 + 1, Relaxed);
        true
    }

    /// Refills an empty order to half its capacity, or to what there is.
    #[cold]
    pub(crate) fn refill(&mut self, order: usize) -> Result<(), Shortage> {
        debug_assert_eq!(self.len[order].load(Relaxed), 0);
        let got = pool(order).take(&mut self.los[order][..capacity(order) / 2])?;
        self.len[order].store(got as u32, Relaxed);
        pool(order).count_refill();
        Ok(())
    }

    /// Releases half of a full order: the half that was used longest ago.
    #[cold]
    pub(crate) fn release_half(&mut self, order: usize) {
        self.release(order, capacity(order) / 2);
    }

    /// Releases all but the `keep` warmest stacks of an order.
    fn release(&mut self, order: usize, keep: usize) {
        let len = self.len[order].load(Relaxed) as usize;
        let Some(surplus) = len.checked_sub(keep).filter(|surplus| *surplus > 0) else { return };
        let los = &mut self.los[order][..len];
        pool(order).put(&los[..surplus]);
        pool(order).count_release();
        los.copy_within(surplus.., 0);
        self.len[order].store(keep as u32, Relaxed);
    }
}

impl Default for StackCache {
    fn default() -> Self {
        StackCache::new()
    }
}

impl Drop for StackCache {
    fn drop(&mut self) {
        self.clear();
        CACHES.lock().retain(|len| !Arc::ptr_eq(len, &self.len));
    }
}

impl std::fmt::Debug for StackCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StackCache").field("len", &**self.len).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refilled_to_half_and_released_down_to_half() {
        for order in 0..NUM_STACK_ORDERS {
            let mut cache = StackCache::new();
            assert!(cache.pop(order).is_none());
            cache.refill(order).unwrap();
            let half = capacity(order) / 2;
            assert_eq!(cache.len[order].load(Relaxed) as usize, half);
            let mut more = vec![0; half];
            assert_eq!(pool(order).take(&mut more).unwrap(), half);
            assert!(more.iter().all(|lo| cache.push(order, *lo)));
            let mut one = [0];
            pool(order).take(&mut one).unwrap();
            assert!(!cache.push(order, one[0]), "full");
            cache.release_half(order);
            assert_eq!(cache.len[order].load(Relaxed) as usize, half);
            assert!(cache.push(order, one[0]));
            let warm: Vec<_> = (0..=half).map(|_| cache.pop(order).unwrap().lo).collect();
            let expected: Vec<_> = one.iter().chain(more.iter().rev()).copied().collect();
            assert_eq!(warm, expected, "the warmest half stayed, last in first out");
            pool(order).put(&warm);
        }
    }

    #[test]
    fn a_hit_takes_no_lock() {
        let mut cache = StackCache::new();
        cache.refill(0).unwrap();
        // Whoever waited for the pool's lock here would wait for good.
        pool(0).while_locked(|| {
            for _ in 0..100 {
                let stack = cache.pop(0).unwrap();
                assert_eq!(stack.size(), FIXED_STACK);
                assert!(cache.push(0, stack.lo));
            }
        });
    }

    #[test]
    fn dropped_caches_are_forgotten() {
        let cache = StackCache::new();
        let len = cache.len.clone();
        drop(cache);
        assert!(!CACHES.lock().iter().any(|other| Arc::ptr_eq(other, &len)));
    }
}
