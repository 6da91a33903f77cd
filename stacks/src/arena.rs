//! The arena: where the address space of every stack comes from (S6, S7).
//!
//! One reservation per kind of page, made on first use and kept for the life of the process:
//!
//! ```text
//!   base                    committed                                   base + reserved
//!   ├─────┬─────┬─────┬─────┼───────────────────────────────────────────┤
//!   │ 4M  │ 4M  │  12 MiB   │  inaccessible, costs nothing              │
//!   ├─────┴─────┴─────┴─────┤                                           │
//!   │ readable and writable │                                           │
//!   └───────────────────────┴───────────────────────────────────────────┘
//!     one VMA                 one VMA
//! ```
//!
//! The unit is the granule of 4 MiB. A run of granules is handed out as a span (small stacks) or as one large stack.
//!
//! # Invariants
//!
//! 1. `free` maps the first granule of every free run to its length. Runs neither overlap nor touch: neighbours are
//!    merged when one is freed, so the map is as short as the fragmentation allows.
//! 2. Everything below `committed` is readable and writable, except guards and sealed stacks, which their owners undo
//!    before they free the run. Everything above is inaccessible. So the arena is two VMAs whatever it holds, and the
//!    number of stacks is not bounded by `vm.max_map_count`.
//! 3. The lowest run that fits is taken. The committed prefix stays as short as it can.
//! 4. `tags[granule]` says what the run that starts there is. It is written by the owner of the run and read by whoever
//!    frees a stack in it; a stack travels from one to the other through a lock or a queue, which orders the two.
//!
//! # Which granules are used
//!
//! All, but for small stacks only those whose addresses have no byte, from the third on, that is small or 255: from 0x10 up to 0xef
//! ([copy.rs](crate::copy) says why). A granule has a quarter of the values of the third byte, so it is the middle half of each 16 MiB. Those are
//! taken from the reservation as they are needed, window by window (`fresh`), beginning with the first; the holes are address space, and never touched. Where a
//! limit makes the reservation smaller all of it is used.
//!
//! # Why it is committed by and by
//!
//! Under `vm.overcommit_memory = 2` writable memory is charged when it becomes writable, touched or not. A prefix that
//! grows by [`COMMIT_CHUNK`] charges what is needed; a reservation that is writable from the start could not be made.

use std::collections::BTreeMap;
use std::io;
use std::slice;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

use parking_lot::Mutex;

use crate::Shortage;
use crate::sys::{self, Access, Advice};

/// The unit of the arena. A span of the smallest stacks has 32 of them, so a lock is taken and a guard is unmade once
/// per 32; and a large stack rounds up to at most this much address space. Plucked from thin air between those two.
pub(crate) const GRANULE: usize = 4 << 20;

/// The reservation to try first: a million spans. x86-64 has 128 TiB for a process; three arenas take a tenth.
const RESERVE: usize = 4 << 40;

/// The smallest reservation worth having, where a limit on address space (`ulimit -v`) forbids more.
const RESERVE_LEAST: usize = 1 << 30;

/// How far the committed prefix grows at a time. An `mprotect` costs microseconds and this many bytes hold a thousand
/// small stacks. Too large only matters under `vm.overcommit_memory = 2`, where it is charged; there the exact need is
/// tried when the chunk is refused.
const COMMIT_CHUNK: usize = 64 << 20;

/// The first address of the granule that `addr` lies in: reservations begin at a multiple of it.
pub(crate) fn granule_base(addr: usize) -> usize {
    addr - addr % GRANULE
}

/// Granules in a row that [`is_clean`] allows.
const WINDOW: usize = 2;

/// Whether no address in the granule at `addr` has a byte from the third to the fifth that is small or 255; the sixth is 0x7f or a
/// little less, as the kernel has it.
fn is_clean(addr: usize) -> bool {
    let ends = [addr, addr + GRANULE - 1];
    [16, 24, 32].iter().all(|shift| ends.iter().all(|end| (0x10..0xf0).contains(&(end >> shift & 0xff))))
}

/// A run that nobody has tagged.
pub(crate) const UNTAGGED: u32 = 0;

/// Which pages a reservation is made of.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Pages {
    /// 4 KiB pages: most stacks touch one or two.
    Base,
    /// Huge pages where the system allows them: a stack of megabytes is deep recursion, and that is page faults.
    Huge,
    /// 4 KiB pages: of a side stack, however large, little is touched.
    Side,
}

/// Stacks below 2 MiB.
pub(crate) static BASE_PAGES: Arena = Arena::new(Pages::Base, RESERVE, RESERVE_LEAST);

/// Stacks of 2 MiB and more.
pub(crate) static HUGE_PAGES: Arena = Arena::new(Pages::Huge, RESERVE, RESERVE_LEAST);

/// Side stacks of more than the smallest size.
pub(crate) static SIDE_PAGES: Arena = Arena::new(Pages::Side, RESERVE, RESERVE_LEAST);

/// One reservation. See the module's header.
pub(crate) struct Arena {
    pages: Pages,
    /// The reservation to try first, and the smallest to put up with.
    most: usize,
    least: usize,
    /// Set once, before the first run is handed out: so whoever holds a run may read them without the lock.
    base: AtomicUsize,
    tags: AtomicPtr<AtomicU32>,
    state: Mutex<State>,
}

struct State {
    /// Granules reserved; 0 until the reservation is made.
    granules: usize,
    /// Granules of the prefix that is readable and writable.
    committed: usize,
    /// Granules handed out.
    in_use: usize,
    /// Free runs: first granule -> number of granules.
    free: BTreeMap<usize, usize>,
    /// The granules from here on have not been looked at: none of them is in `free`.
    fresh: usize,
}

/// What an arena holds, in bytes.
#[derive(Clone, Copy, Default)]
pub(crate) struct Usage {
    pub(crate) reserved: usize,
    pub(crate) in_use: usize,
}

impl Arena {
    pub(crate) const fn new(pages: Pages, most: usize, least: usize) -> Arena {
        Arena {
            pages,
            most,
            least,
            base: AtomicUsize::new(0),
            tags: AtomicPtr::new(std::ptr::null_mut()),
            state: Mutex::new(State { granules: 0, committed: 0, in_use: 0, free: BTreeMap::new(), fresh: 0 }),
        }
    }

    /// A run of at least `bytes`, readable and writable; its length is `bytes` rounded up to granules. Fresh memory of
    /// it reads as zeroes; memory that a former owner did not drop reads as what that owner left.
    pub(crate) fn alloc(&self, bytes: usize) -> Result<usize, Shortage> {
        let need = bytes.div_ceil(GRANULE);
        let mut state = self.state.lock();
        if state.granules == 0 {
            self.reserve(&mut state)?;
        }
        let fits = |(start, len): (&usize, &usize)| (*len >= need).then_some((*start, *len));
        let found = state.free.iter().find_map(fits).or_else(|| self.next_window(&mut state, need));
        let Some((start, len)) = found else {
            return Err(Shortage::OutOfAddressSpace {
                size: bytes,
                reserved: state.granules * GRANULE,
                in_use: state.in_use * GRANULE,
            });
        };
        self.commit(&mut state, start + need)?;
        state.free.remove(&start);
        if len > need {
            state.free.insert(start + need, len - need);
        }
        state.in_use += need;
        Ok(self.base.load(Relaxed) + start * GRANULE)
    }

    /// Frees the next run of granules that were not looked at yet and may be used. None if there are none, or if such runs
    /// are too short.
    fn next_window(&self, state: &mut State, need: usize) -> Option<(usize, usize)> {
        if need > WINDOW {
            return None;
        }
        let usable = |granule: &usize| is_clean(self.base.load(Relaxed) + granule * GRANULE);
        let start = (state.fresh..state.granules).find(usable)?;
        let len = (start..state.granules).take(WINDOW).take_while(usable).count();
        state.fresh = start + len;
        state.free.insert(start, len);
        // At the ends of the reservation it may be half of one.
        if len >= need { Some((start, len)) } else { self.next_window(state, need) }
    }

    /// Takes back the run at `addr` that [`Arena::alloc`] gave for `bytes`.
    ///
    /// The caller owns the run, has removed its guards and dropped its memory (invariant 2).
    pub(crate) fn free(&self, addr: usize, bytes: usize) {
        self.tag(addr, UNTAGGED);
        let (mut start, mut len) = (self.granule(addr), bytes.div_ceil(GRANULE));
        let mut state = self.state.lock();
        state.in_use -= len;
        if let Some((before, its_len)) = state.free.range(..start).next_back().map(|(start, len)| (*start, *len)) {
            assert!(before + its_len <= start, "arena: a run was freed twice");
            if before + its_len == start {
                state.free.remove(&before);
                (start, len) = (before, its_len + len);
            }
        }
        if let Some(its_len) = state.free.remove(&(start + len)) {
            len += its_len;
        }
        let twice = state.free.insert(start, len);
        assert!(twice.is_none(), "arena: a run was freed twice");
    }

    /// Says what the run at `addr` is (invariant 4).
    pub(crate) fn tag(&self, addr: usize, tag: u32) {
        self.tags()[self.granule(addr)].store(tag, Relaxed);
    }

    /// What the run at `addr` is; [`UNTAGGED`] for addresses that are not of this arena.
    pub(crate) fn tag_of(&self, addr: usize) -> u32 {
        self.tags().get(self.granule(addr)).map_or(UNTAGGED, |tag| tag.load(Relaxed))
    }

    /// What is reserved and what is handed out.
    pub(crate) fn usage(&self) -> Usage {
        let state = self.state.lock();
        Usage { reserved: state.granules * GRANULE, in_use: state.in_use * GRANULE }
    }

    fn granule(&self, addr: usize) -> usize {
        addr.wrapping_sub(self.base.load(Acquire)) / GRANULE
    }

    fn tags(&self) -> &[AtomicU32] {
        let tags = self.tags.load(Acquire);
        if tags.is_null() {
            return &[];
        }
        // The table is as long as the reservation, and that is fixed by the time `tags` is set.
        // SAFETY: `reserve` mapped a table of so many zeroed words and never unmaps it; `tags` was stored after it.
        unsafe { slice::from_raw_parts(tags, self.table_len()) }
    }

    fn table_len(&self) -> usize {
        self.most / GRANULE
    }

    /// Makes the reservation: `most`, or where a limit forbids that, about a quarter to a half of what it leaves; at
    /// least `least`. One granule more is mapped, so that the base can be aligned to granules: huge pages need 2 MiB.
    fn reserve(&self, state: &mut State) -> Result<(), Shortage> {
        let table_bytes = self.table_len() * size_of::<AtomicU32>();
        let table = sys::map(table_bytes, Access::ReadWrite).map_err(os("mmap", table_bytes))?;
        let mut size = self.most;
        let mapped = loop {
            match sys::map(size + GRANULE, Access::None) {
                // The largest that fits would leave nothing to the heap and to the other arenas: half of it.
                Ok(mapped) if size < self.most && size / 2 >= self.least => {
                    // SAFETY: it was mapped just now and nobody has seen it.
                    let _ = unsafe { sys::unmap(mapped, size + GRANULE) };
                    size /= 2;
                    break sys::map(size + GRANULE, Access::None);
                }
                Ok(mapped) => break Ok(mapped),
                Err(_) if size / 2 >= self.least => size /= 2,
                Err(error) => break Err(error),
            }
        };
        let mapped = mapped.map_err(|error| {
            // SAFETY: the table was mapped above and nobody has seen it.
            let _ = unsafe { sys::unmap(table, table_bytes) };
            os("mmap", size)(error)
        })?;
        let mut base = mapped.next_multiple_of(GRANULE);
        let holes = self.pages == Pages::Base && size == self.most;
        if holes {
            base = (base..mapped + size).step_by(GRANULE).find(|granule| is_clean(*granule)).unwrap_or(base);
        }
        let advice = match self.pages {
            Pages::Base | Pages::Side => Advice::NoHugePage,
            Pages::Huge => Advice::HugePage,
        };
        // A kernel without huge pages refuses both; then there is nothing to say.
        // SAFETY: the reservation was mapped above.
        let _ = unsafe { sys::advise(mapped, size + GRANULE, advice) };
        state.granules = size.min(mapped + size + GRANULE - base) / GRANULE;
        if !holes {
            state.free.insert(0, state.granules);
            state.fresh = state.granules;
        }
        self.base.store(base, Release);
        self.tags.store(table as *mut AtomicU32, Release);
        Ok(())
    }

    /// Makes the granules below `end` readable and writable.
    fn commit(&self, state: &mut State, end: usize) -> Result<(), Shortage> {
        if end <= state.committed {
            return Ok(());
        }
        let chunk = (state.committed + COMMIT_CHUNK / GRANULE).min(state.granules);
        if chunk > end && self.extend(state, chunk).is_ok() {
            return Ok(());
        }
        let need = (end - state.committed) * GRANULE;
        self.extend(state, end).map_err(os("mprotect", need))
    }

    /// Moves the end of the committed prefix to `end`, or changes nothing.
    fn extend(&self, state: &mut State, end: usize) -> io::Result<()> {
        let from = self.base.load(Relaxed) + state.committed * GRANULE;
        // SAFETY: the granules lie in the reservation, above everything that was handed out (invariant 2).
        unsafe { sys::protect(from, (end - state.committed) * GRANULE, Access::ReadWrite)? };
        state.committed = end;
        Ok(())
    }
}

/// Turns the kernel's refusal of `call` over `size` bytes into ours.
pub(crate) fn os(call: &'static str, size: usize) -> impl FnOnce(io::Error) -> Shortage {
    move |source| Shortage::Os { call, size, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An arena of 64 MiB without holes: it runs full within a test.
    fn arena() -> Arena {
        Arena::new(Pages::Huge, 64 << 20, 64 << 20)
    }

    #[test]
    fn small_stacks_are_where_no_number_looks_like_half_an_address() {
        let arena = Arena::new(Pages::Base, 1 << 40, 1 << 40);
        let mut all: Vec<_> = (0..1000).map(|_| arena.alloc(GRANULE).unwrap()).collect();
        all.extend((0..10).flat_map(|_| arena.alloc(2 * GRANULE).map(|run| [run, run + GRANULE]).unwrap()));
        for addr in all.iter().flat_map(|run| (*run..run + GRANULE).step_by(4096)) {
            let bytes = addr.to_le_bytes();
            assert!(bytes[2..6].iter().all(|byte| (0x10..0xf0).contains(byte)), "{addr:#x}");
        }
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 1020);
        assert!(arena.alloc(3 * GRANULE).is_err(), "no window is so long");
        all.iter().for_each(|run| arena.free(*run, GRANULE));
        assert_eq!(arena.usage().in_use, 0);
        // The lowest of those that were used before.
        assert_eq!(arena.alloc(GRANULE).unwrap(), all[0]);
    }

    fn runs(arena: &Arena) -> Vec<(usize, usize)> {
        arena.state.lock().free.iter().map(|(start, len)| (*start, *len)).collect()
    }

    #[test]
    fn full_is_an_error_that_names_the_values() {
        let arena = arena();
        let all: Vec<_> = (0..16).map(|_| arena.alloc(GRANULE).unwrap()).collect();
        let error = arena.alloc(GRANULE).unwrap_err();
        assert!(
            matches!(error, Shortage::OutOfAddressSpace { size: GRANULE, reserved, in_use }
                if reserved == 64 << 20 && in_use == 64 << 20),
            "{error:?}"
        );
        all.iter().for_each(|run| arena.free(*run, GRANULE));
        assert_eq!(arena.usage().in_use, 0);
        assert_eq!(runs(&arena), [(0, 16)]);
    }

    #[test]
    fn larger_than_the_reservation_is_an_error() {
        let error = arena().alloc(1 << 30).unwrap_err();
        assert!(matches!(error, Shortage::OutOfAddressSpace { .. }), "{error:?}");
    }

    #[test]
    fn runs_are_merged_with_both_neighbours() {
        let arena = arena();
        let run: Vec<_> = (0..5).map(|_| arena.alloc(GRANULE + 1).unwrap()).collect();
        let at = |i: usize| arena.granule(run[i]);
        assert_eq!((0..5).map(at).collect::<Vec<_>>(), [0, 2, 4, 6, 8]);
        arena.free(run[1], GRANULE + 1);
        arena.free(run[3], GRANULE + 1);
        assert_eq!(runs(&arena), [(2, 2), (6, 2), (10, 6)]);
        arena.free(run[2], GRANULE + 1);
        assert_eq!(runs(&arena), [(2, 6), (10, 6)]);
        arena.free(run[0], GRANULE + 1);
        arena.free(run[4], GRANULE + 1);
        assert_eq!(runs(&arena), [(0, 16)]);
    }

    #[test]
    fn the_lowest_run_that_fits() {
        let arena = arena();
        let one = arena.alloc(GRANULE).unwrap();
        let two = arena.alloc(2 * GRANULE).unwrap();
        let _keep = arena.alloc(GRANULE).unwrap();
        arena.free(one, GRANULE);
        assert_eq!(arena.granule(arena.alloc(2 * GRANULE).unwrap()), 4, "one granule does not hold two");
        arena.free(two, 2 * GRANULE);
        assert_eq!(arena.alloc(3 * GRANULE).unwrap(), one);
    }

    #[test]
    fn aligned_usable_and_tagged() {
        let arena = arena();
        assert_eq!(arena.tag_of(0x1000), UNTAGGED, "before the reservation");
        let run = arena.alloc(3 * GRANULE).unwrap();
        assert_eq!(run % GRANULE, 0);
        for addr in [run, run + 3 * GRANULE - 8] {
            // SAFETY: the run is ours and 8-aligned.
            unsafe { (addr as *mut usize).write(addr) };
        }
        arena.tag(run, 7);
        assert_eq!((arena.tag_of(run), arena.tag_of(run + GRANULE)), (7, UNTAGGED));
        assert_eq!(granule_base(run + GRANULE + 5), run + GRANULE);
        assert_eq!([0, run - 1, usize::MAX].map(|addr| arena.tag_of(addr)), [UNTAGGED; 3]);
        arena.free(run, 3 * GRANULE);
        assert_eq!(arena.tag_of(run), UNTAGGED);
    }

    #[test]
    #[should_panic(expected = "a run was freed twice")]
    fn freed_twice_is_noticed() {
        let arena = arena();
        let run = arena.alloc(GRANULE).unwrap();
        let _other = arena.alloc(GRANULE).unwrap();
        arena.free(run, GRANULE);
        arena.free(run, GRANULE);
    }

    #[test]
    fn a_smaller_reservation_is_put_up_with() {
        let arena = Arena::new(Pages::Base, 1 << 50, 1 << 30);
        arena.alloc(GRANULE).unwrap();
        let reserved = arena.usage().reserved;
        assert!(reserved.is_power_of_two() && ((1 << 30)..(1 << 47)).contains(&reserved), "{reserved:#x}");
    }
}
