//! What assembly knows of a green thread and of an OS thread.
//!
//! The scheduler's `G` and `M` begin with these heads, so a pointer to one is a pointer to the other. Assembly reads
//! them by the offsets of their fields (`offset_of!`), never by hand-counted numbers.
//!
//! ```text
//!   fs:[morestack_g] ──► GHead ─ m ──► MHead ─ g0 ──► GHead of the scheduler stack
//!   fs:[0x70]        ══  the live copy of the running GHead's stackguard0
//! ```
//!
//! # Who may touch what
//!
//! | field | written by | when |
//! |---|---|---|
//! | `stack`, `stackguard0` | the owner of the stack (S20: Running's M, or whoever holds the Scan bit) | on g0, while the green thread does not run |
//! | `sched` | `mcall`, `morestack` (save); `gogo` (consume); copystack (relocate) | save: by the running thread itself; the rest as above |
//! | `m` | the M that runs it | before `gogo` |
//! | `bounds`, `spare`; and the two above | the owner, as above; and `__morestack`, in the running thread itself | |
//! | `MHead` | its own OS thread only | |

use core::mem::offset_of;
use core::ptr;

use crate::pending::Pending;
use crate::prologue::STACK_GUARD;
#[cfg(morestack_side_stacks)]
use crate::prologue::STACK_SMALL_AUTOMATIC;
use crate::signal::Signals;

/// The bounds of a stack: exactly `[lo, hi)`, with nothing implicit on either side. The size is a power of two.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stack {
    /// The lowest address that belongs to the stack.
    pub lo: usize,
    /// One past the highest address: a stack grows down from here.
    pub hi: usize,
}

impl Stack {
    /// No stack at all.
    pub const NONE: Stack = Stack { lo: 0, hi: 0 };

    /// Its size in bytes.
    #[inline(always)]
    pub const fn size(&self) -> usize {
        self.hi - self.lo
    }

    /// Whether `addr` lies in `[lo, hi)`.
    #[inline(always)]
    pub const fn contains(&self, addr: usize) -> bool {
        addr.wrapping_sub(self.lo) < self.hi.wrapping_sub(self.lo)
    }
}

/// A saved context: the registers that the compiler does not let a switch declare as clobbered, and the place to
/// continue. Everything else is either dead at the switch or spilled to the stack by the compiler, where copystack
/// finds it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Gobuf {
    /// Stack pointer. 0 while the context is not saved: `gogo` clears it, so a second resume faults at once instead
    /// of running on a stack that somebody else uses.
    pub sp: usize,
    /// Where to continue.
    pub pc: usize,
    /// Frame pointer. It may point into the stack.
    pub bp: usize,
    /// `rbx`. It may point into the stack.
    pub bx: usize,
    /// What `mcall` or `morestack` returns when the context is resumed (Go's `gobuf.ret`); cleared by `gogo`.
    pub ret: usize,
    /// Where its [side stack](crate::side) goes on.
    #[cfg(morestack_side_stacks)]
    pub side: usize,
}

/// Assembly knows the place of `side` relative to `sp`: the name of a constant may not be there for nothing in plain builds.
#[cfg(morestack_side_stacks)]
const _: () = assert!(offset_of!(Gobuf, side) == offset_of!(Gobuf, sp) + 40);

impl Gobuf {
    /// A context that nothing was saved in.
    pub const EMPTY: Gobuf = Gobuf {
        sp: 0,
        pc: 0,
        bp: 0,
        bx: 0,
        ret: 0,
        #[cfg(morestack_side_stacks)]
        side: 0,
    };
}

/// The head of every `G`, green thread or g0: all that assembly reads and writes of it.
#[repr(C)]
#[derive(Debug)]
pub struct GHead {
    /// Bounds of the stack it runs on.
    pub stack: Stack,
    /// What bounds the frames on `stack`.
    #[cfg(morestack_side_stacks)]
    pub bounds: Bounds,
    /// S2. What `fs:[0x70]` is set to when this runs: [`guard`](GHead::guard), or [`STACK_PREEMPT`] where every prologue shall enter
    /// `newstack`. Requests of other threads go to the live copy in `fs:[0x70]`, not here.
    ///
    /// [`STACK_PREEMPT`]: crate::STACK_PREEMPT
    pub stackguard0: usize,
    /// The saved context while it does not run.
    pub sched: Gobuf,
    /// The OS thread that runs it, while it runs.
    pub m: *mut MHead,
    /// Segments of its stack that are not in use, the next one first: see [`Link`]. Null where there is none.
    #[cfg(morestack_side_stacks)]
    pub spare: *mut Link,
}

/// What stands at the top of a segment: a stack on which a function runs whose caller is on another one, since that one cannot grow.
/// [`crate::segment`] has the picture.
#[cfg(morestack_side_stacks)]
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// The caller's frame pointer; and `rbp` points here, so that frame pointers are a chain.
    pub bp: usize,
    /// The return address into the caller, a copy for whoever walks along that chain.
    pub pc: usize,
    /// Where the stack below ends: at the return address of the call of `__morestack`.
    pub sp: usize,
    /// The side pointer there.
    pub below_side: usize,
    /// The stack below.
    pub below: Stack,
    /// Its bounds.
    pub below_bounds: Bounds,
    /// The segment itself.
    pub segment: Stack,
    /// Its bounds when it is taken.
    pub bounds: Bounds,
    /// Its side stack.
    pub side: Stack,
    /// The largest frame that it takes.
    pub room: usize,
    /// The next spare one.
    pub next: *mut Link,
}

/// What bounds the frames on a stack.
#[cfg(morestack_side_stacks)]
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The end of a frame that must not move; as long as the stack pointer is below, that frame is there. 0: none known.
    pub fixed: usize,
    /// Where checks fail.
    pub guard: usize,
}

#[cfg(morestack_side_stacks)]
impl Bounds {
    /// No frame is known, and no stack.
    pub const NONE: Bounds = Bounds { fixed: 0, guard: 0 };
}

#[cfg(morestack_side_stacks)]
impl Link {
    /// Puts the link of a segment to its top, and returns it.
    ///
    /// # Safety
    ///
    /// The segment is writable, and nobody else uses it or its side stack.
    pub unsafe fn put(segment: Stack, side: Stack, guard: usize, next: *mut Link) -> *mut Link {
        let link = Link::of(segment);
        let new = Link {
            bp: 0,
            pc: 0,
            sp: 0,
            below_side: 0,
            below: Stack::NONE,
            below_bounds: Bounds::NONE,
            segment,
            bounds: Bounds { fixed: 0, guard },
            side,
            room: Link::room(segment),
            next,
        };
        // SAFETY: by the contract. Stacks end at page boundaries, so it is aligned.
        unsafe { link.write(new) };
        link
    }

    /// Where the link of a segment is.
    pub fn of(segment: Stack) -> *mut Link {
        (segment.hi - size_of::<Link>()) as *mut Link
    }

    /// Corrects the link of a segment that is in use, and was moved to another place.
    ///
    /// # Safety
    ///
    /// The caller owns the segment, whose link was copied with it.
    pub unsafe fn moved(segment: Stack) {
        // SAFETY: by the contract.
        let link = unsafe { &mut *Link::of(segment) };
        link.room = Link::room(segment);
        link.segment = segment;
        link.bounds.guard = segment.lo + STACK_GUARD;
    }

    /// The largest frame of a function that runs on this segment.
    fn room(segment: Stack) -> usize {
        segment.size() - STACK_GUARD - size_of::<Link>() - STACK_SMALL_AUTOMATIC
    }
}

// Calls are made with `rsp` at a link. Assembly copies a stack at once, and what bounds its frames.
#[cfg(morestack_side_stacks)]
const _: () = assert!(size_of::<Link>().is_multiple_of(16));

impl GHead {
    /// A head without a stack and without a context.
    pub const fn new() -> GHead {
        GHead {
            stack: Stack::NONE,
            stackguard0: 0,
            sched: Gobuf::EMPTY,
            m: ptr::null_mut(),
            #[cfg(morestack_side_stacks)]
            spare: ptr::null_mut(),
            #[cfg(morestack_side_stacks)]
            bounds: Bounds::NONE,
        }
    }

    /// Gives it this stack from now on.
    pub fn set_stack(&mut self, stack: Stack) {
        self.stack = stack;
        self.stackguard0 = stack.lo + STACK_GUARD;
        #[cfg(morestack_side_stacks)]
        {
            self.bounds.guard = self.stackguard0;
        }
    }

    /// Where checks fail on its stack: at `lo + STACK_GUARD`, or above where its side stack is to be looked at before.
    #[inline(always)]
    pub fn guard(&self) -> usize {
        #[cfg(morestack_side_stacks)]
        let guard = self.bounds.guard;
        #[cfg(not(morestack_side_stacks))]
        let guard = self.stack.lo + STACK_GUARD;
        guard
    }
}

impl Default for GHead {
    fn default() -> Self {
        GHead::new()
    }
}

/// Who entered `morestack`, for the messages of `newstack`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Morebuf {
    /// The return address of `morestack`: in the function whose prologue fired.
    pub pc: usize,
    /// That function's stack pointer.
    pub sp: usize,
}

/// What `morestack` asks of the scheduler: decide about `g`, whose prologue needs `frame` bytes. Called by the
/// scheduler loop on g0, where `gogo` returned it.
pub type McallFn = unsafe fn(g: *mut GHead, arg: usize);

/// The head of every `M`: all that assembly reads and writes of an OS thread.
#[repr(C)]
#[derive(Debug)]
pub struct MHead {
    /// The scheduler stack's `G`.
    pub g0: *mut GHead,
    /// Bounds of the signal stack; [`Stack::NONE`] where there is none.
    pub gsignal: Stack,
    /// Who entered `morestack` last.
    pub morebuf: Morebuf,
    /// S3. The lowest stack pointer that the scheduler stack may reach: a check that fails below it is fatal.
    pub stackguard1: usize,
    /// What `morestack` has g0 call.
    pub newstack: McallFn,
    /// How signal handlers are recognised.
    pub signals: Signals,
    /// The request that waits for a function which may answer it.
    pub pending: Pending,
}

impl MHead {
    /// The head of an OS thread that runs nothing yet, whose failed checks `newstack` is to decide about.
    pub fn new(newstack: McallFn) -> MHead {
        MHead {
            g0: ptr::null_mut(),
            gsignal: Stack::NONE,
            morebuf: Morebuf { pc: 0, sp: 0 },
            stackguard1: 0,
            newstack,
            signals: Signals::default(),
            pending: Pending::NONE,
        }
    }
}

pub(crate) const G_LO: usize = offset_of!(GHead, stack.lo);
pub(crate) const G_HI: usize = offset_of!(GHead, stack.hi);
#[cfg(morestack_side_stacks)]
pub(crate) const G_BOUNDS: usize = offset_of!(GHead, bounds);
pub(crate) const G_GUARD0: usize = offset_of!(GHead, stackguard0);
pub(crate) const G_SP: usize = offset_of!(GHead, sched.sp);
pub(crate) const G_PC: usize = offset_of!(GHead, sched.pc);
pub(crate) const G_BP: usize = offset_of!(GHead, sched.bp);
pub(crate) const G_BX: usize = offset_of!(GHead, sched.bx);
pub(crate) const G_RET: usize = offset_of!(GHead, sched.ret);
pub(crate) const G_M: usize = offset_of!(GHead, m);
pub(crate) const M_G0: usize = offset_of!(MHead, g0);
pub(crate) const M_MOREBUF_PC: usize = offset_of!(MHead, morebuf.pc);
pub(crate) const M_MOREBUF_SP: usize = offset_of!(MHead, morebuf.sp);
pub(crate) const M_NEWSTACK: usize = offset_of!(MHead, newstack);

#[cfg(morestack_side_stacks)]
pub(crate) mod link {
    use super::{GHead, Link};
    use core::mem::offset_of;

    pub(crate) const G_SPARE: usize = offset_of!(GHead, spare);
    pub(crate) const G_FIXED: usize = offset_of!(GHead, bounds.fixed);
    pub(crate) const BP: usize = offset_of!(Link, bp);
    pub(crate) const PC: usize = offset_of!(Link, pc);
    pub(crate) const SP: usize = offset_of!(Link, sp);
    pub(crate) const BELOW: usize = offset_of!(Link, below);
    pub(crate) const BELOW_BOUNDS: usize = offset_of!(Link, below_bounds);
    pub(crate) const BELOW_GUARD: usize = offset_of!(Link, below_bounds.guard);
    pub(crate) const BELOW_SIDE: usize = offset_of!(Link, below_side);
    pub(crate) const SEGMENT: usize = offset_of!(Link, segment);
    pub(crate) const BOUNDS: usize = offset_of!(Link, bounds);
    pub(crate) const GUARD: usize = offset_of!(Link, bounds.guard);
    pub(crate) const SIDE_HI: usize = offset_of!(Link, side.hi);
    pub(crate) const ROOM: usize = offset_of!(Link, room);
    pub(crate) const NEXT: usize = offset_of!(Link, next);
}
