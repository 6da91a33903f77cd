//! The global pool of small stacks (S6): spans carved into stacks, one lock per order.
//!
//! A span is one granule of the arena. Between its stacks lie their guards, so the bounds of a stack are exactly a power
//! of two and nothing of it is given up for the guard:
//!
//! ```text
//!   base                                                                        base + GRANULE
//!   ┌───┬───────────────┬───┬───────────────┬───┬── ─ ─ ─ ──┬───┬───────────────┬─────┐
//!   │ G │ stack 0       │ G │ stack 1       │ G │           │ G │ stack n-1     │ rest│
//!   └───┴───────────────┴───┴───────────────┴───┴── ─ ─ ─ ──┴───┴───────────────┴─────┘
//!       lo              hi
//!   │◄──── pitch ──────►│    = size + 64 KiB
//! ```
//!
//! Of those 64 KiB the last page is the guard, and the others are never touched: so all stacks end at multiples of 64 KiB, and
//! distances between them are multiples, too ([copy.rs](crate::copy) says why that matters).
//!
//! # Invariants
//!
//! 1. A stack is in exactly one place: its bit is set in the span's `free`, or it belongs to whoever took it (a per-P
//!    cache is such an owner).
//! 2. `partial` lists exactly the spans with a free stack, each at the position that its `listed` says.
//! 3. `empties` counts the spans that are all free. A sweep that meets one that was so the time before gives it back to
//!    the arena; but one stays, so that a load that comes back now and then does not build a span each time.
//! 4. A span's guards are made before it is listed and unmade after it is unlisted. So no system call is made under the
//!    lock, and a guard is made once for many uses of its stack.
//! 5. A slot without a guard is no stack: its bit is set in neither set of guards, so never in `free`. Spans have such
//!    slots where guards ran out while they were built ([`Shortage::NoGuard`]); a span that would have nothing else is
//!    not built.
//! 6. A span whose guards cannot all be unmade is `stuck`: it is in no other list, and nothing of it is handed out, since
//!    some of its pages may fault. Each sweep and each trim tries again.
//!
//! # Memory
//!
//! A free stack keeps what its users touched. `dirty` marks those; a sweep drops the memory of those that it had already
//! met free (`cold`) the time before. The lowest free stack is taken first, so untouched ones stay untouched.
//!
//! All of it is the sweep's, nothing is given back by the thread that frees. To unmake a span costs it a microsecond and a
//! half per stack, and interrupts each CPU that runs the process; where a crowd ends at once, most spans become empty at
//! the same time.

use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use parking_lot::Mutex;

use crate::arena::{Arena, BASE_PAGES, GRANULE, granule_base};
use crate::guard::{GUARDS, Guards, Kind};
use crate::sys::{self, Advice};
use crate::{FIXED_STACK, NUM_STACK_ORDERS, Shortage};

/// The pools of the process, by order.
static POOLS: [Pool; NUM_STACK_ORDERS] = [
    Pool::new(0, &BASE_PAGES, &GUARDS),
    Pool::new(1, &BASE_PAGES, &GUARDS),
    Pool::new(2, &BASE_PAGES, &GUARDS),
    Pool::new(3, &BASE_PAGES, &GUARDS),
];

/// The pool of an order.
pub(crate) fn pool(order: usize) -> &'static Pool {
    &POOLS[order]
}

/// The tag of a span in the arena: the order in the low byte, plus one so that it is never "untagged"; the span's index
/// above.
fn tag(order: usize, index: u32) -> u32 {
    index << 8 | (order as u32 + 1)
}

/// All stacks of one order.
pub(crate) struct Pool {
    order: usize,
    arena: &'static Arena,
    guards: &'static Guards,
    state: Mutex<State>,
    /// Locks taken to fill and to drain per-P caches.
    refills: AtomicUsize,
    releases: AtomicUsize,
}

struct State {
    spans: Vec<Span>,
    /// Indices in `spans` that stand for nothing.
    vacant: Vec<u32>,
    partial: Vec<u32>,
    /// Spans that are in the pool no more, some of whose guards the kernel would not remove (invariant 6).
    stuck: Vec<Span>,
    empties: usize,
    /// Stacks taken and not given back.
    taken: usize,
    /// Stacks of all spans.
    reserved: usize,
}

struct Span {
    base: usize,
    /// One bit per stack, here and below.
    free: u64,
    dirty: u64,
    cold: u64,
    /// How the guards were made: in neither set, there is none (invariant 5).
    madvised: u64,
    mprotected: u64,
    listed: Option<u32>,
}

impl Span {
    /// No span.
    const VACANT: Span = Span { base: 0, free: 0, dirty: 0, cold: 0, madvised: 0, mprotected: 0, listed: None };

    /// Its stacks.
    const fn all(&self) -> u64 {
        self.madvised | self.mprotected
    }

    const fn is_empty(&self) -> bool {
        self.free == self.all()
    }
}

/// What a pool holds.
#[derive(Clone, Copy, Default)]
pub(crate) struct Usage {
    pub(crate) taken: usize,
    /// Stacks of all spans.
    pub(crate) reserved: usize,
    pub(crate) refills: usize,
    pub(crate) releases: usize,
}

impl Pool {
    const fn new(order: usize, arena: &'static Arena, guards: &'static Guards) -> Pool {
        Pool {
            order,
            arena,
            guards,
            state: Mutex::new(State {
                spans: Vec::new(),
                vacant: Vec::new(),
                partial: Vec::new(),
                stuck: Vec::new(),
                empties: 0,
                taken: 0,
                reserved: 0,
            }),
            refills: AtomicUsize::new(0),
            releases: AtomicUsize::new(0),
        }
    }

    const fn size(&self) -> usize {
        FIXED_STACK << self.order
    }

    const fn pitch(&self) -> usize {
        self.size() + FIXED_STACK
    }

    /// Slots in a span: 32, 21, 12 or 7.
    const fn per_span(&self) -> usize {
        GRANULE / self.pitch()
    }

    fn lo(&self, base: usize, slot: usize) -> usize {
        base + slot * self.pitch() + FIXED_STACK
    }

    /// Fills `out` with the low bounds of stacks and returns how many: all that were asked for, or fewer where the arena
    /// or the guards cannot give more. `Err` where it is none at all.
    pub(crate) fn take(&self, out: &mut [usize]) -> Result<usize, Shortage> {
        let mut got = self.take_free(&mut self.state.lock(), out);
        while got < out.len() {
            let span = match self.build_span() {
                Ok(span) => span,
                Err(_) if got > 0 => break,
                Err(error) => return Err(error),
            };
            // Listed last, it is taken from first.
            let mut state = self.state.lock();
            self.list_span(&mut state, span);
            got += self.take_free(&mut state, &mut out[got..]);
        }
        Ok(got)
    }

    /// Takes back the stacks with these low bounds. The caller owns them and has unsealed them.
    pub(crate) fn put(&self, los: &[usize]) {
        let mut state = self.state.lock();
        for &lo in los {
            let (index, bit) = self.slot_of(&state, lo);
            state.spans[index as usize].dirty |= bit;
            state.taken -= 1;
            self.set_free(&mut state, index, bit);
        }
    }

    /// Gives all empty spans back to the arena.
    pub(crate) fn trim(&self) {
        self.remove_stuck();
        let mut idle = Vec::new();
        {
            let mut state = self.state.lock();
            let empty: Vec<_> = state.partial.iter().copied().filter(|i| state.spans[*i as usize].is_empty()).collect();
            idle.extend(empty.into_iter().map(|index| self.unlist_span(&mut state, index)));
        }
        idle.into_iter().for_each(|span| self.remove_span(span));
    }

    /// Tries again to give back what is stuck.
    pub(crate) fn remove_stuck(&self) {
        let stuck = mem::take(&mut self.state.lock().stuck);
        stuck.into_iter().for_each(|span| self.remove_span(span));
    }

    /// Counts a refill or a release of a per-P cache (S21).
    pub(crate) fn count_refill(&self) {
        self.refills.fetch_add(1, Relaxed);
    }

    pub(crate) fn count_release(&self) {
        self.releases.fetch_add(1, Relaxed);
    }

    pub(crate) fn usage(&self) -> Usage {
        let state = self.state.lock();
        Usage {
            taken: state.taken,
            reserved: state.reserved,
            refills: self.refills.load(Relaxed),
            releases: self.releases.load(Relaxed),
        }
    }

    /// Runs `f` while the lock is held: whatever waits for it in there waits for good.
    #[cfg(test)]
    pub(crate) fn while_locked<T>(&self, f: impl FnOnce() -> T) -> T {
        let _locked = self.state.lock();
        f()
    }

    fn take_free(&self, state: &mut State, out: &mut [usize]) -> usize {
        let mut got = 0;
        while got < out.len() {
            let Some(&index) = state.partial.last() else { break };
            let span = &state.spans[index as usize];
            let slot = span.free.trailing_zeros() as usize;
            out[got] = self.lo(span.base, slot);
            self.clear_free(state, index, 1 << slot);
            got += 1;
        }
        state.taken += got;
        got
    }

    /// The span and the bit of the stack at `lo`, or a panic: what is freed must be a stack of this order (S8), and one
    /// that is not free already.
    fn slot_of(&self, state: &State, lo: usize) -> (u32, u64) {
        let base = granule_base(lo);
        let tag_found = self.arena.tag_of(base);
        let index = tag_found >> 8;
        assert!(tag_found == tag(self.order, index), "stackfree: {lo:#x} is not a stack of {} bytes", self.size());
        let slot = (lo - base) / self.pitch();
        let bit = 1 << slot;
        let span = &state.spans[index as usize];
        assert!(
            lo == self.lo(base, slot) && span.all() & bit != 0,
            "stackfree: {lo:#x} is not the low bound of a stack"
        );
        assert!(span.free & bit == 0, "stackfree: {lo:#x} was freed twice");
        (index, bit)
    }

    /// Marks stacks of a span as free and keeps invariant 2.
    fn set_free(&self, state: &mut State, index: u32, bits: u64) {
        let at = state.partial.len() as u32;
        let span = &mut state.spans[index as usize];
        span.free |= bits;
        span.cold &= !bits;
        let empty = span.is_empty();
        if span.listed.is_none() {
            span.listed = Some(at);
            state.partial.push(index);
        }
        state.empties += usize::from(empty);
    }

    /// Marks stacks of a span as taken and keeps invariants 2 and 3.
    fn clear_free(&self, state: &mut State, index: u32, bits: u64) {
        let span = &mut state.spans[index as usize];
        if span.is_empty() {
            state.empties -= 1;
        }
        span.free &= !bits;
        if span.free == 0 {
            state.unlist(index);
        }
    }

    /// Builds a span: memory and guards (invariant 4), and as many stacks as there are guards (invariant 5).
    fn build_span(&self) -> Result<Span, Shortage> {
        let base = self.arena.alloc(GRANULE)?;
        let mut span = Span { base, ..Span::VACANT };
        for slot in 0..self.per_span() {
            // SAFETY: the run is ours, and the page below a stack of it belongs to no stack.
            match unsafe { self.guards.install(self.lo(base, slot)) } {
                Ok(Kind::Madvise) => span.madvised |= 1 << slot,
                Ok(Kind::Mprotect) => span.mprotected |= 1 << slot,
                Err(_) if slot > 0 => break,
                Err(error) => {
                    self.arena.free(base, GRANULE);
                    return Err(error);
                }
            }
        }
        Ok(span)
    }

    fn list_span(&self, state: &mut State, span: Span) {
        let index = state.vacant.pop().unwrap_or(state.spans.len() as u32);
        self.arena.tag(span.base, tag(self.order, index));
        let all = span.all();
        state.reserved += all.count_ones() as usize;
        if index as usize == state.spans.len() {
            state.spans.push(span);
        } else {
            state.spans[index as usize] = span;
        }
        self.set_free(state, index, all);
    }

    /// Takes an empty span out of the pool.
    fn unlist_span(&self, state: &mut State, index: u32) -> Span {
        state.unlist(index);
        state.empties -= 1;
        state.vacant.push(index);
        let span = mem::replace(&mut state.spans[index as usize], Span::VACANT);
        state.reserved -= span.all().count_ones() as usize;
        span
    }

    /// Gives a span that is in the pool no more back to the arena: guards off, memory dropped (the arena's invariant 2).
    /// A span whose guards stay is stuck (invariant 6).
    fn remove_span(&self, mut span: Span) {
        let mprotected = span.mprotected;
        for slot in (0..self.per_span()).filter(|slot| mprotected & 1 << slot != 0) {
            // SAFETY: all stacks of the span were free when it was unlisted, so it is ours alone; the guard is of that
            // kind.
            let removed = unsafe { self.guards.remove(self.lo(span.base, slot), Kind::Mprotect) };
            span.mprotected &= !(u64::from(removed) << slot);
        }
        // SAFETY: as above. Nobody reads what is dropped.
        unsafe {
            if self.guards.remove_madvised(span.base, GRANULE, span.madvised.count_ones() as usize) {
                span.madvised = 0;
            }
            // A refusal (locked memory) leaves old bytes behind; no stack is promised to be zero.
            if span.dirty != 0 && sys::advise(span.base, GRANULE, Advice::DontNeed).is_ok() {
                span.dirty = 0;
            }
        }
        if span.all() == 0 {
            self.arena.free(span.base, GRANULE);
        } else {
            self.state.lock().stuck.push(span);
        }
    }

    /// Drops the memory of those stacks of a span that lay free since the sweep before, or gives back the whole span
    /// (invariant 3). Returns the address space whose memory was dropped; none if there is no span of that index, nor of a
    /// higher one. The stacks are taken for the time of the system calls: the lock is not held through them.
    pub(crate) fn sweep_span(&self, index: u32) -> Option<usize> {
        let (base, cold) = {
            let mut state = self.state.lock();
            let empties = state.empties;
            let span = state.spans.get_mut(index as usize)?;
            let cold = span.free & span.cold;
            span.cold = span.free;
            if cold != 0 && cold == span.all() && empties > 1 {
                let dirty = span.dirty;
                let span = self.unlist_span(&mut state, index);
                drop(state);
                self.remove_span(span);
                return Some(dirty.count_ones() as usize * self.size());
            }
            let (base, cold) = (span.base, cold & span.dirty);
            if cold != 0 {
                self.clear_free(&mut state, index, cold);
            }
            (base, cold)
        };
        if cold == 0 {
            return Some(0);
        }
        let mut dropped = 0;
        for slot in (0..self.per_span()).filter(|slot| cold & 1 << slot != 0) {
            // What is refused stays dirty, for a later sweep.
            // SAFETY: the stack is taken, by us.
            if unsafe { sys::advise(self.lo(base, slot), self.size(), Advice::DontNeed) }.is_ok() {
                dropped |= 1 << slot;
            }
        }
        let mut state = self.state.lock();
        state.spans[index as usize].dirty &= !dropped;
        self.set_free(&mut state, index, cold);
        // It was free all the time, as far as others are concerned.
        state.spans[index as usize].cold |= cold;
        Some(dropped.count_ones() as usize * self.size())
    }
}

impl State {
    /// Takes a span off the list: the last one moves to its place.
    fn unlist(&mut self, index: u32) {
        let at = self.spans[index as usize].listed.take().expect("a span with free stacks is listed");
        self.partial.swap_remove(at as usize);
        if let Some(&moved) = self.partial.get(at as usize) {
            self.spans[moved as usize].listed = Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::Pages;
    use crate::sys::PAGE;

    /// A pool on an arena of 64 MiB of its own, without holes: tests of one do not meet.
    fn own_pool(order: usize) -> Pool {
        own_pool_guarded_by(order, &GUARDS)
    }

    fn own_pool_guarded_by(order: usize, guards: &'static Guards) -> Pool {
        let arena = Box::leak(Box::new(Arena::new(Pages::Huge, 64 << 20, 64 << 20)));
        Pool::new(order, arena, guards)
    }

    fn take(pool: &Pool, count: usize) -> Vec<usize> {
        let mut los = vec![0; count];
        assert_eq!(pool.take(&mut los).unwrap(), count);
        los
    }

    fn sweep(pool: &Pool) -> usize {
        (0..).map_while(|index| pool.sweep_span(index)).sum()
    }

    fn spans_in_use(pool: &Pool) -> usize {
        pool.arena.usage().in_use / GRANULE
    }

    #[test]
    fn stacks_of_a_span() {
        assert_eq!([0, 1, 2, 3].map(|order| own_pool(order).per_span()), [32, 21, 12, 7]);
    }

    #[test]
    fn an_all_free_span_goes_back_and_one_stays() {
        for order in 0..NUM_STACK_ORDERS {
            let pool = own_pool(order);
            let los = take(&pool, 3 * pool.per_span());
            assert_eq!(spans_in_use(&pool), 3);
            pool.put(&los[1..]);
            sweep(&pool);
            assert_eq!(spans_in_use(&pool), 3, "they may be wanted again");
            sweep(&pool);
            assert_eq!(spans_in_use(&pool), 2, "one in use, one empty");
            pool.put(&los[..1]);
            sweep(&pool);
            sweep(&pool);
            assert_eq!(spans_in_use(&pool), 1, "the last empty one stays");
            assert_eq!(pool.usage().taken, 0);
            pool.trim();
            assert_eq!((spans_in_use(&pool), pool.usage().reserved), (0, 0));
            assert_eq!(take(&pool, 1).len(), 1, "and it can be built again");
        }
    }

    #[test]
    fn random_takes_and_puts_keep_the_invariants() {
        let pool = own_pool(1);
        let mut held = Vec::new();
        let mut seed = 7_u64;
        for _ in 0..2000 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let amount = (seed >> 59) as usize + 1;
            if seed >> 40 & 1 == 0 && held.len() < 300 {
                held.extend(take(&pool, amount));
            } else {
                let rest = held.len().saturating_sub(amount);
                pool.put(&held[rest..]);
                held.truncate(rest);
            }
            if seed >> 41 & 63 == 0 {
                sweep(&pool);
            }
            let distinct: std::collections::HashSet<_> = held.iter().collect();
            assert_eq!(distinct.len(), held.len());
            check(&pool, held.len());
        }
    }

    fn check(pool: &Pool, held: usize) {
        let state = pool.state.lock();
        assert_eq!(state.taken, held);
        let live = state.spans.iter().filter(|span| span.base != 0);
        let count = |set: fn(&Span) -> u64| live.clone().map(|span| set(span).count_ones() as usize).sum::<usize>();
        assert_eq!(count(|span| span.free) + held, count(Span::all));
        assert_eq!(count(|span| span.free & !span.all()), 0);
        assert_eq!(state.reserved, count(Span::all));
        assert_eq!(state.empties, live.clone().filter(|span| span.is_empty()).count());
        assert_eq!(state.partial.len(), live.filter(|span| span.free != 0).count());
        for (at, index) in state.partial.iter().enumerate() {
            assert_eq!(state.spans[*index as usize].listed, Some(at as u32));
        }
    }

    #[test]
    fn what_the_arena_cannot_give_is_an_error_and_what_it_can_is_given() {
        let pool = own_pool(3);
        let all = 16 * pool.per_span();
        let held = take(&pool, all - 2);
        let mut out = [0; 4];
        assert_eq!(pool.take(&mut out).unwrap(), 2);
        assert!(matches!(pool.take(&mut out), Err(Shortage::OutOfAddressSpace { .. })));
        pool.put(&held);
    }

    /// The budget is one of 100 guards: three spans of 32 and one of 4.
    #[test]
    fn no_guard_no_stack_and_what_has_one_is_given() {
        let guards = Box::leak(Box::new(Guards::of(true, 400)));
        let pool = own_pool_guarded_by(0, guards);
        for _ in 0..2 {
            let mut out = [0; 200];
            assert_eq!(pool.take(&mut out).unwrap(), 100);
            let held = &out[..100];
            assert_eq!((pool.usage().reserved, spans_in_use(&pool), guards.counts().mprotect), (100, 4, 100));
            check(&pool, 100);
            let error = pool.take(&mut [0]).unwrap_err();
            assert!(matches!(error, Shortage::NoGuard { taken: 200, max_map_count: 400, source: None }), "{error:?}");
            assert_eq!(spans_in_use(&pool), 4, "the run went back");

            let one_of_each = [held[0], held[99]];
            pool.put(&one_of_each);
            check(&pool, 98);
            let mut again = [0; 3];
            assert_eq!(pool.take(&mut again).unwrap(), 2);
            assert!(one_of_each.iter().all(|lo| again[..2].contains(lo)));

            pool.put(held);
            check(&pool, 0);
            pool.trim();
            assert_eq!((pool.usage().reserved, spans_in_use(&pool), guards.counts().mprotect), (0, 0, 0));
        }
    }

    #[test]
    #[should_panic(expected = "is not the low bound of a stack")]
    fn freed_without_a_guard() {
        let pool = own_pool_guarded_by(0, Box::leak(Box::new(Guards::of(true, 8))));
        let los = take(&pool, 2);
        pool.put(&[los[1] + pool.pitch()]);
    }

    #[test]
    fn memory_is_dropped_by_the_second_sweep_that_meets_it() {
        let pool = own_pool(0);
        let los = take(&pool, 2);
        // SAFETY: the stacks are the test's; a free one is read to see whether its memory is still there.
        unsafe {
            (los[0] as *mut u64).write(42);
            pool.put(&los[..1]);
            assert_eq!(sweep(&pool), 0);
            assert_eq!(take(&pool, 1), los[..1]);
            pool.put(&los[..1]);
            assert_eq!(sweep(&pool), 0, "it was used in between");
            assert_eq!((los[0] as *const u64).read(), 42);
            assert_eq!(sweep(&pool), FIXED_STACK);
            assert_eq!((los[0] as *const u64).read(), 0);
            assert_eq!(sweep(&pool), 0, "once");
        }
        assert_eq!(take(&pool, 1), los[..1]);
        check(&pool, 2);
    }

    #[test]
    fn a_span_goes_back_without_memory_and_guards() {
        let pool = own_pool(0);
        let los = take(&pool, pool.per_span());
        for lo in &los {
            // SAFETY: the stacks are the test's.
            unsafe { (*lo as *mut u64).write(42) };
        }
        let base = granule_base(los[0]);
        pool.put(&los);
        pool.trim();
        assert_eq!(pool.arena.alloc(GRANULE).unwrap(), base);
        for addr in (base..base + GRANULE).step_by(PAGE) {
            // SAFETY: the run is the test's now.
            assert_eq!(unsafe { (addr as *const u64).read() }, 0);
        }
    }

    #[test]
    #[should_panic(expected = "was freed twice")]
    fn freed_twice() {
        let pool = own_pool(0);
        let los = take(&pool, 2);
        pool.put(&los[..1]);
        pool.put(&los[..1]);
    }

    #[test]
    #[should_panic(expected = "is not a stack of 131072 bytes")]
    fn freed_with_another_size() {
        let arena = own_pool(0);
        let los = take(&arena, 1);
        Pool::new(1, arena.arena, &GUARDS).put(&los);
    }

    #[test]
    #[should_panic(expected = "is not the low bound of a stack")]
    fn freed_off_its_bounds() {
        let pool = own_pool(0);
        let los = take(&pool, 1);
        pool.put(&[los[0] + PAGE]);
    }
}
