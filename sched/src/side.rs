//! What a green thread has beside its stack in a program with side stacks: a side stack, and segments.
//!
//! `cargo morestack` puts every local that anything may point at on a side stack ([`morestack_asm`] has the convention). Then the
//! frames of such code may move, and safe green threads get copying stacks. In plain builds nothing of this exists: [`ON`] is false,
//! and what is here does nothing.
//!
//! # A stack and its side stack are one piece
//!
//! A side stack cannot grow: it must not move, and what lies below it is somebody else's. And nothing checks how much is left of it,
//! but for what a check of the stack finds. So a stack and its side stack belong together, and how deep the stack may be without a look
//! at the side stack is bounded by the size of that:
//!
//! ```text
//!       stack                     side stack
//!   hi ┌──────────────────┐   hi ┌──────────────────┐
//!      │ ...              │      │ ...              │
//!      │                  │      │                  │   for each byte down to the guard
//!      │        ◄─ rsp    │      │     ◄─ pointer   │   SHARE bytes of side stack
//!   ───┼── guard ─────────┤      │                  │
//!      │ STACK_GUARD      │   lo ├──────────────────┤
//!   lo └──────────────────┘      │ gap: faults      │
//! ```
//!
//! 1. *Of each piece, `SHARE * (hi - guard)` is no more than its side stack has.* Whatever code has run before: a recursion may come
//!    a second time, when the stack has grown already, and no check fails on the way down.
//! 2. *Code that uses more than that for its stack is known by it when it comes to a check that fails.* The first one that does is early,
//!    [`FIRST_LOOK`] bytes down, and each growth is another. If by then so much is in use that up to the next such check there may
//!    be too little, that check ends the piece.
//!
//! Where a piece ends another begins: a segment (`morestack_asm::Link` has the picture), with a side stack of its own that is
//! larger. It is left when the function returns that began it, and then stack, guard and side pointer are those of the piece below, all
//! at once. So each is used as it was laid out.
//!
//! A segment is also what comes next above a frame that must not move. In each piece the stack is copied to grow, as far as its
//! side stack allows. Those that are not in use hang at the head, for the next call across the boundary, until the green thread waits
//! for long, has not grown for long, or ends.
//!
//! What is left over: code that uses more than SHARE times as much side stack as stack, and began with less. It meets the gap,
//! which faults, and [`fault`](crate::fault) says so.

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

    use morestack_asm::{Link, STACK_GUARD, Stack};
    use morestack_stacks::{
        FIXED_STACK, SIDE_GAP, SIDE_STACK, StackCache, StackError, round_side_size, side_alloc, side_free, side_gap,
        stackalloc, stackfree,
    };

    use crate::g::{G, StackKind};
    use crate::m::M;

    /// The side stack that a green thread begins on. The owner's.
    #[derive(Debug)]
    pub(crate) struct Side(Cell<Stack>);

    impl Default for Side {
        fn default() -> Self {
            Side(Cell::new(Stack::NONE))
        }
    }

    /// Bytes of side stack for each byte of stack. Rust's functions have more locals that are pointed at than saved registers and
    /// return addresses, rarely this many times as much.
    const SHARE: usize = 8;

    /// So many times as large as at first a segment may become on its side stack.
    const GROWTH: usize = 8;

    /// How deep the stack of a piece may be before its side stack is looked at for the first time. That is enough of it up to
    /// there if the use is less than 90 times as much. A look costs 0.1 us.
    const FIRST_LOOK: usize = 4 << 10;

    /// The size of a side stack for a stack that may become so large, of whose use the side stack's is `share` times as much.
    fn size_for(stack: usize, share: usize) -> usize {
        round_side_size((stack - STACK_GUARD).saturating_mul(share).min(isize::MAX as usize / 2))
    }

    // The smallest of both belong together.
    const _: () = assert!((FIXED_STACK - STACK_GUARD) * SHARE <= SIDE_STACK - SIDE_GAP);

    /// Gives `g` its first side stack, for a stack of this size.
    pub(crate) fn alloc(m: &M, g: &G, stack: usize) -> Result<(), StackError> {
        // SAFETY: on g0 of an M that holds its P.
        g.side.0.set(side_alloc(unsafe { m.p().cache() }, size_for(stack, SHARE))?);
        Ok(())
    }

    /// Lets `g`, which starts, begin at the top of it.
    ///
    /// # Safety
    ///
    /// The caller owns `g`, which has one and a context.
    pub(crate) unsafe fn start(g: &G) {
        // SAFETY: by the contract.
        unsafe {
            (*g.head()).sched.side = g.side.0.get().hi;
            moved(g);
        }
    }

    /// The stack of `g` is another, or at another place: has it looked at early, where nothing is known of it yet.
    ///
    /// # Safety
    ///
    /// The caller owns `g`, which is suspended.
    pub(crate) unsafe fn moved(g: &G) {
        // SAFETY: by the contract. The link of a segment was copied with the rest, and lies at the top.
        unsafe {
            let head = &mut *g.head();
            if link(g).is_some() {
                Link::moved(head.stack);
            } else if g.kind == StackKind::Copying && head.stack.hi - head.sched.sp < FIRST_LOOK {
                head.bounds.guard = head.stack.hi - FIRST_LOOK;
            }
        }
    }

    /// Frees all that `g` has, which has ended.
    pub(crate) fn free(cache: &mut StackCache, g: &G) {
        // SAFETY: nothing runs on them.
        unsafe {
            free_segments(cache, g);
            side_free(cache, g.side.0.replace(Stack::NONE));
        }
    }

    /// The link of the segment that `g` is on. None: it is on the stack that it began on.
    ///
    /// # Safety
    ///
    /// The caller owns `g`, which is suspended; the link is not used when it has run again.
    unsafe fn link<'a>(g: &G) -> Option<&'a mut Link> {
        let first = g.side.0.get();
        // SAFETY: by the contract. Each piece has a side stack of its own, so a pointer outside of the first is a segment's. One that
        // is where the gap begins is at the end of another, unused.
        unsafe {
            let head = &*g.head();
            let on_first = side_gap(first).start < head.sched.side && head.sched.side <= first.hi;
            (!on_first).then(|| &mut *Link::of(head.stack))
        }
    }

    /// The side stack that `g` is on.
    ///
    /// # Safety
    ///
    /// The caller owns `g`, which is suspended.
    unsafe fn current(g: &G) -> Stack {
        // SAFETY: by the contract.
        unsafe { link(g) }.map_or(g.side.0.get(), |link| link.side)
    }

    /// Whether what faulted at `addr` is the gap below the side stack of `g`, which runs on this thread. For a signal handler.
    pub(crate) fn overflowed(g: &G, addr: usize) -> bool {
        // SAFETY: the head of what runs on this thread.
        let stack = unsafe { (*g.head()).stack };
        if stack == Stack::NONE {
            return false;
        }
        // SAFETY: the highest words of a stack that is in use. They are a link if they say so.
        let link = unsafe { Link::of(stack).read() };
        let side = if link.segment == stack { link.side } else { g.side.0.get() };
        side_gap(side).contains(&addr)
    }

    /// What a check that failed finds on a side stack.
    pub(crate) struct Look {
        side: Stack,
        /// Bytes of it for each 1024 of the stack that are in use, and half as much again; at least [`SHARE`].
        share: usize,
        /// There was something to see.
        known: bool,
    }

    /// Looks at the side stack of `g`, suspended in a check for a frame of so many bytes. There is nothing to see early, and on a
    /// reserved stack nothing to be done.
    ///
    /// # Safety
    ///
    /// On g0 of the M that owns `g`.
    pub(crate) unsafe fn look(g: &G, frame: usize) -> Look {
        // SAFETY: by the contract.
        let (head, side) = unsafe { (&*g.head(), current(g)) };
        let depth = head.stack.hi - head.sched.sp + frame;
        let used = side.hi - head.sched.side;
        let known = depth >= FIRST_LOOK && g.kind == StackKind::Copying;
        let share = if known { used.saturating_mul(1536) / depth } else { 0 };
        Look { side, share: share.max(SHARE * 1024), known }
    }

    impl Look {
        /// Whether the side stack lasts while the stack is `size` bytes.
        pub(crate) fn fits(&self, size: usize) -> bool {
            !self.known || (size - STACK_GUARD).saturating_mul(self.share) / 1024 <= self.side.size()
        }

        /// The side stack lasts for the stack as it is: there is no need to look at it again until that grows.
        ///
        /// # Safety
        ///
        /// On g0 of the M that owns `g`, whose look this is.
        pub(crate) unsafe fn suffices(&self, g: &G) {
            // SAFETY: by the contract.
            unsafe {
                let head = &mut *g.head();
                if self.known {
                    head.bounds.guard = head.stack.lo + STACK_GUARD;
                    if let Some(link) = link(g) {
                        link.bounds.guard = head.bounds.guard;
                    }
                }
            }
        }

        /// The segment that comes next, for a function whose frame is `frame` bytes; where the stack is `short`, of the size that it
        /// would have to be. None if the side stack should be larger than it may be where stacks may be `limit`.
        pub(crate) fn next(&self, frame: usize, short: Option<usize>, limit: usize) -> Option<Segment> {
            let frames = (frame + STACK_GUARD + 2 * size_of::<Link>() + 4096).max(FIXED_STACK);
            let size = frames.max(short.unwrap_or(0)).next_power_of_two();
            let most = size_for(limit, SHARE).max(SIDE_STACK);
            let share = self.share.div_ceil(1024);
            let least = size_for(size, share);
            let segment = Segment { size, least, side: size_for(size.saturating_mul(GROWTH), share).min(most) };
            (least <= most).then_some(segment)
        }
    }

    /// Sizes of a segment.
    pub(crate) struct Segment {
        size: usize,
        /// Of its side stack, as it should be,
        side: usize,
        /// and as it may be if there is no memory for more.
        least: usize,
    }

    /// Gives those pages back that are below the pointer.
    ///
    /// # Safety
    ///
    /// The caller owns `g`, which is suspended.
    pub(crate) unsafe fn give_back(g: &G) {
        // SAFETY: by the contract.
        unsafe {
            let (side, pointer) = (current(g), (*g.head()).sched.side);
            // Below is the gap, which a function may have entered that touches nothing there.
            if pointer >= side.lo {
                morestack_stacks::give_back(side, pointer);
            }
        }
    }

    /// Puts a segment ready on which a function can run whose frame is `frame` bytes, above frames that end at `fixed`.
    ///
    /// # Safety
    ///
    /// On g0 of `m`, which owns `g`; that is suspended in `__morestack`.
    pub(crate) unsafe fn put_segment(
        m: &M,
        g: &G,
        frame: usize,
        segment: Segment,
        fixed: usize,
    ) -> Result<(), StackError> {
        // SAFETY: by the contract; a spare link is of a segment that nobody uses.
        unsafe {
            let head = &mut *g.head();
            let is_fit = |link: &Link| link.room >= frame && link.side.size() + SIDE_GAP >= segment.least;
            if !head.spare.as_ref().is_some_and(is_fit) {
                let cache = m.p().cache();
                let side = side_alloc(cache, segment.side).or_else(|_| side_alloc(cache, segment.least))?;
                let stack = match stackalloc(Some(cache), segment.size) {
                    Ok(stack) => stack,
                    Err(error) => {
                        side_free(cache, side);
                        return Err(error);
                    }
                };
                head.spare = Link::put(stack, side, stack.hi - FIRST_LOOK, head.spare);
                m.p().stats.segments.add(1);
            }
            head.bounds.fixed = fixed;
        }
        Ok(())
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
                let (segment, side) = (link.segment, link.side);
                head.spare = link.next;
                side_free(cache, side);
                stackfree(Some(&mut *cache), segment);
            }
            head.spare = ptr::null_mut();
        }
    }
}

#[cfg(not(morestack_side_stacks))]
mod off {
    use morestack_stacks::{StackCache, StackError};

    use crate::g::G;
    use crate::m::M;

    #[derive(Debug, Default)]
    pub(crate) struct Side(());

    pub(crate) fn overflowed(_: &G, _: usize) -> bool {
        false
    }

    pub(crate) fn alloc(_: &M, _: &G, _: usize) -> Result<(), StackError> {
        Ok(())
    }

    pub(crate) unsafe fn start(_: &G) {}

    pub(crate) unsafe fn moved(_: &G) {}

    pub(crate) fn free(_: &mut StackCache, _: &G) {}

    pub(crate) struct Look;

    #[inline(always)]
    pub(crate) unsafe fn look(_: &G, _: usize) -> Look {
        Look
    }

    impl Look {
        pub(crate) fn fits(&self, _: usize) -> bool {
            true
        }

        pub(crate) unsafe fn suffices(&self, _: &G) {}

        pub(crate) fn next(&self, _: usize, _: Option<usize>, _: usize) -> Option<Segment> {
            None
        }
    }

    pub(crate) unsafe fn give_back(_: &G) {}

    pub(crate) struct Segment;

    pub(crate) unsafe fn put_segment(_: &M, _: &G, _: usize, _: Segment, _: usize) -> Result<(), StackError> {
        unreachable!("a plain build has no stacks that need segments")
    }

    pub(crate) unsafe fn free_segments(_: &mut StackCache, _: &G) {}
}
