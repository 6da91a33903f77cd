//! What a green thread has beside its stack in a program with side stacks: a side stack, and segments.
//!
//! `cargo morestack` puts every local that anything may point at on a side stack ([`morestack_asm`] has the convention). Then the
//! frames of such code may move, and safe green threads get copying stacks. In plain builds nothing of this exists: [`ON`] is false,
//! and what is here does nothing.
//!
//! # The side stack
//!
//! It comes with the stack and goes with it, and its pointer is saved with the context. It does not move; where room runs low it is
//! continued on a larger one, since every function puts back the pointer that it found:
//!
//! ```text
//!     first              second                        third: [`Side`], the newest
//!   hi ┌───────────┐   hi ┌───────────────────────┐   hi ┌────────────────────────────────────┐
//!      │ ...       │ ◄────┤ bounds of the first   │ ◄────┤ bounds of the second               │
//!      │           │      │ ...                   │      │ ...            ◄─ pointer          │
//!   lo └───────────┘   lo └───────────────────────┘   lo └────────────────────────────────────┘
//! ```
//!
//! Nothing checks how much is left of it but [`newstack`](crate::newstack), whenever it is entered, and a stack is grown whenever it
//! doubles, or grows fourfold; the first time it is entered early. So there must be room then for as much as will be used until the stack
//! has grown once more; taken to be four times of what is in use. One that is used otherwise meets the gap below, which faults. When the pointer has gone back to an earlier one, the later ones are
//! freed.
//!
//! # Segments
//!
//! `morestack_asm::Link` has the picture. Those that are not in use hang at the head, for the next call across the boundary, until the
//! green thread waits for long or ends.

#[cfg(not(morestack_side_stacks))]
pub(crate) use off::*;
#[cfg(morestack_side_stacks)]
pub(crate) use on::*;

/// Whether this program has side stacks.
pub(crate) const ON: bool = cfg!(morestack_side_stacks);

/// Whether all code is compiled so that `cargo morestack` compiles, but for std. Where third parties' is left out, it may go as deep as it
/// does on a thread of the system, and a stack that grows has the room below the guard for it.
pub(crate) const IN_ALL: bool = ON && !cfg!(morestack_unchecked);

#[cfg(morestack_side_stacks)]
mod on {
    use std::cell::Cell;
    use std::ptr;

    use morestack_asm::{GHead, Link, STACK_GUARD, Stack};
    use morestack_stacks::{
        FIXED_STACK, StackCache, StackError, round_side_size, side_alloc, side_free, stackalloc, stackfree,
    };

    use crate::g::G;
    use crate::m::M;

    /// The side stacks of a green thread. The owner's.
    #[derive(Debug)]
    pub(crate) struct Side {
        newest: Cell<Stack>,
        /// How many there are; each but the first has the bounds of the one before.
        count: Cell<u8>,
        /// Nobody has looked at it yet.
        fresh: Cell<bool>,
    }

    impl Default for Side {
        fn default() -> Self {
            Side { newest: Cell::new(Stack::NONE), count: Cell::new(0), fresh: Cell::new(true) }
        }
    }

    impl Side {
        /// What faults below the newest. For a signal handler, too.
        pub(crate) fn gap(&self) -> std::ops::Range<usize> {
            morestack_stacks::side_gap(self.newest.get())
        }

        fn push(&self, side: Stack) {
            self.newest.set(side);
            self.count.set(self.count.get() + 1);
        }

        /// Takes off the newest.
        ///
        /// # Safety
        ///
        /// It is not in use.
        unsafe fn pop(&self) -> Option<Stack> {
            let (side, count) = (self.newest.get(), self.count.get());
            let left = count.checked_sub(1)?;
            // SAFETY: the header of a later one.
            let before = if left > 0 { unsafe { ((side.hi - HEADER) as *const Stack).read() } } else { Stack::NONE };
            self.newest.set(before);
            self.count.set(left);
            Some(side)
        }
    }

    /// Bytes at the top of a later side stack, for the bounds of the one before. A multiple of 16, as the pointer is.
    const HEADER: usize = size_of::<Stack>();
    const _: () = assert!(HEADER.is_multiple_of(16));

    /// How deep a green thread may go before its side stack is looked at for the first time. It tells how much of that it uses
    /// for how much of its stack: the side stack lasts up to there if that is less than 90 times as much. A look costs 0.1 us.
    const FIRST_LOOK: usize = 4 << 10;

    /// The lowest guard that `g` may have, whose stack ends at `hi`.
    #[inline(always)]
    pub(crate) fn least_guard(g: &G, hi: usize) -> usize {
        if g.side.fresh.get() { hi - FIRST_LOOK } else { 0 }
    }

    /// Gives `g` its first side stack.
    pub(crate) fn alloc(m: &M, g: &G) -> Result<(), StackError> {
        let size = round_side_size(m.sched().config.stack_size);
        // SAFETY: on g0 of an M that holds its P.
        g.side.push(side_alloc(unsafe { m.p().cache() }, size)?);
        Ok(())
    }

    /// Lets `g`, which starts, begin at the top of it.
    ///
    /// # Safety
    ///
    /// The caller owns `g`, which has one and a context.
    pub(crate) unsafe fn start(g: &G) {
        // SAFETY: by the contract.
        unsafe { (*g.head()).sched.side = g.side.newest.get().hi };
    }

    /// Frees all that `g` has, which has ended.
    pub(crate) fn free(cache: &mut StackCache, g: &G) {
        // SAFETY: nothing runs on them.
        unsafe {
            free_segments(cache, g);
            while let Some(side) = g.side.pop() {
                side_free(cache, side);
            }
        }
    }

    /// By how much a stack grows at once, at most: so much more of the side stack may be in use the next time it is looked at.
    const AHEAD: usize = 4;

    /// The side stack would exceed what it may have.
    pub(crate) struct TooLarge;

    /// Sees to it that there is room on the side stack, and frees what was left. No memory for more is no error: there may be
    /// enough.
    ///
    /// # Safety
    ///
    /// On g0 of `m`, which owns `g`; that is suspended.
    pub(crate) unsafe fn make_room(m: &M, g: &G, limit: usize) -> Result<(), TooLarge> {
        // SAFETY: by the contract.
        unsafe {
            g.side.fresh.set(false);
            let pointer = (*g.head()).sched.side;
            while g.side.count.get() > 1 && !holds(g.side.newest.get(), pointer) {
                if let Some(side) = g.side.pop() {
                    side_free(m.p().cache(), side);
                }
            }
            let side = g.side.newest.get();
            let (room, used) = (pointer.wrapping_sub(side.lo), side.hi.wrapping_sub(pointer));
            if room >= AHEAD * used {
                return Ok(());
            }
            let size = round_side_size(AHEAD * side.size());
            if size > limit.max(round_side_size(m.sched().config.stack_size)) {
                return if room >= (AHEAD - 1) * used { Ok(()) } else { Err(TooLarge) };
            }
            if let Ok(next) = side_alloc(m.p().cache(), size) {
                let top = next.hi - HEADER;
                (top as *mut Stack).write(side);
                g.side.push(next);
                (*g.head()).sched.side = top;
            }
        }
        Ok(())
    }

    fn holds(side: Stack, pointer: usize) -> bool {
        side.lo <= pointer && pointer <= side.hi
    }

    /// Gives those pages back that are below the pointer.
    ///
    /// # Safety
    ///
    /// The caller owns `g`, which is suspended.
    pub(crate) unsafe fn give_back(g: &G) {
        // SAFETY: by the contract.
        unsafe {
            let (side, pointer) = (g.side.newest.get(), (*g.head()).sched.side);
            if holds(side, pointer) {
                morestack_stacks::give_back(side, pointer);
            }
        }
    }

    /// Puts a segment ready on which a function can run whose frame is `frame` bytes, above frames that end at `fixed`.
    ///
    /// # Safety
    ///
    /// On g0 of `m`, which owns `g`; that is suspended in `__morestack`. `size` is a size class.
    pub(crate) unsafe fn put_segment(m: &M, g: &G, frame: usize, size: usize, fixed: usize) -> Result<(), StackError> {
        // SAFETY: by the contract; a spare link is of a segment that nobody uses.
        unsafe {
            let head = &mut *g.head();
            if head.spare.is_null() || (*head.spare).room < frame {
                let segment = stackalloc(Some(m.p().cache()), size)?;
                head.spare = Link::put(segment, head.spare);
                m.p().stats.segments.add(1);
            }
            head.fixed = fixed;
        }
        Ok(())
    }

    /// The size of a segment for a frame of so many bytes, at least `size`.
    pub(crate) fn segment_size(frame: usize, size: usize) -> usize {
        let least = (frame + STACK_GUARD + 2 * size_of::<Link>() + 4096).max(FIXED_STACK);
        least.max(size).next_power_of_two()
    }

    /// Frees the segments that are not in use.
    ///
    /// # Safety
    ///
    /// On a system stack; the caller owns `g`, which is suspended.
    pub(crate) unsafe fn free_segments(cache: &mut StackCache, g: &G) {
        // SAFETY: by the contract; a spare link is of a segment that nobody uses.
        unsafe {
            let head = &mut *g.head();
            while let Some(link) = head.spare.as_ref() {
                let segment = link.segment;
                head.spare = link.next;
                stackfree(Some(&mut *cache), segment);
            }
            head.spare = ptr::null_mut();
        }
    }

    /// The stack of this head, a segment, has moved.
    ///
    /// # Safety
    ///
    /// The caller owns it.
    pub(crate) unsafe fn segment_moved(head: *mut GHead) {
        // SAFETY: by the contract: the link was copied with the rest, and lies at the top.
        unsafe { Link::moved((*head).stack) };
    }
}

#[cfg(not(morestack_side_stacks))]
mod off {
    use morestack_asm::GHead;
    use morestack_stacks::{StackCache, StackError};

    use crate::g::G;
    use crate::m::M;

    #[derive(Debug, Default)]
    pub(crate) struct Side(());

    impl Side {
        pub(crate) fn gap(&self) -> std::ops::Range<usize> {
            0..0
        }
    }

    pub(crate) struct TooLarge;

    #[inline(always)]
    pub(crate) fn least_guard(_: &G, _: usize) -> usize {
        0
    }

    pub(crate) fn alloc(_: &M, _: &G) -> Result<(), StackError> {
        Ok(())
    }

    pub(crate) unsafe fn start(_: &G) {}

    pub(crate) fn free(_: &mut StackCache, _: &G) {}

    pub(crate) unsafe fn make_room(_: &M, _: &G, _: usize) -> Result<(), TooLarge> {
        Ok(())
    }

    pub(crate) unsafe fn give_back(_: &G) {}

    pub(crate) unsafe fn put_segment(_: &M, _: &G, _: usize, _: usize, _: usize) -> Result<(), StackError> {
        unreachable!("a plain build has no stacks that need segments")
    }

    pub(crate) fn segment_size(_: usize, size: usize) -> usize {
        size
    }

    pub(crate) unsafe fn free_segments(_: &mut StackCache, _: &G) {}

    pub(crate) unsafe fn segment_moved(_: *mut GHead) {}
}
