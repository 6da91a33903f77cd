//! The stacks of green threads: cached per P, copied to grow and to shrink, and guarded (S1, S4-S9, S14, S15, S18, S19,
//! S21).
//!
//! ```text
//!   stackalloc / stackfree            a size is a power of two, FIXED_STACK or more
//!      │
//!      │  < 1 MiB: small, four orders                    >= 1 MiB: large
//!      ▼                                                    ▼
//!   ┌───────────┐  refill / release half  ┌───────────┐  ┌─────────────────┐
//!   │ StackCache│ ◄─────────────────────► │ pool      │  │ large           │
//!   │ per P     │     one lock per order  │ per order │  │ by log2(pages)  │
//!   │ no lock   │                         │ spans     │  │ LARGE_KEEP warm │
//!   └───────────┘                         └─────┬─────┘  └───┬─────────────┘
//!                                               │ 4 MiB      │ runs
//!                                               ▼            ▼
//!                                  ┌───────────────────────────────────┐    ┌───────────────────────────┐
//!                                  │ arena: one reservation, two VMAs  │ ─► │ OS: mmap, mprotect,       │
//!                                  │ (and one of huge pages)           │    │ madvise                   │
//!                                  └───────────────────────────────────┘    └───────────────────────────┘
//!
//!   copystack = stackalloc + copy and relocate in one pass + stackfree
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`alloc`](crate::stackalloc) | `stackalloc` and `stackfree`: which of the parts below, and debug switches |
//! | [`cache`](crate::StackCache) | the per-P cache |
//! | `pool` | spans of small stacks, one lock per order |
//! | `large` | free lists of large stacks |
//! | `arena` | the address space |
//! | [`guard`](crate::guard_of) | a faulting page below each stack |
//! | [`copystack`](crate::copystack()) | moving a stack, and when it shrinks |
//! | [`freeze`](crate::freeze()) | packing the stack of a green thread that waits for long |
//! | `copy` | the vectorised copy under them |
//! | [`framemap`] | which words of generated code's frames are pointers |
//! | [`image`](crate::is_marked) | what programs that `cargo morestack` built say of their functions |
//! | [`efence`] | old stacks that fault, and what they were |
//! | [`debug`](crate::debug_switches) | `MORESTACK_EFENCE`, `MORESTACK_STACK_DEBUG` |
//! | `fail` | system calls that fail because a test wants it |
//! | [`side`](crate::side_alloc) | the second stacks of programs that `cargo morestack` built |
//! | [`stats`](crate::stats()) | accounting |
//! | [`error`](crate::StackError) | why there is no stack |
//! | `sys` | the system calls |
//!
//! The crate knows nothing of scheduling. Everything in it is of the process: runtimes share it, but for each P's
//! [`StackCache`].
//!
//! # What a stack is
//!
//! Address space `[lo, hi)`, readable and writable, with a page below `lo` that faults. A page becomes memory when it is
//! first touched, which costs microseconds; so the point of every list above is to hand out, first, what somebody else
//! has touched before. A stack that is handed out holds whatever its last user left.

mod alloc;
mod arena;
mod cache;
mod copy;
mod copystack;
mod debug;
pub mod efence;
mod error;
mod fail;
pub mod framemap;
mod freeze;
mod guard;
mod image;
mod large;
mod pool;
mod side;
mod stats;
mod sys;

pub use alloc::{Sweep, give_back, round_stack_size, stackalloc, stackfree, sweep};
pub use cache::StackCache;
pub use copystack::{InFlight, Moved, copystack, shrinks, shrinkstack};
pub use debug::{Switches, debug_switches};
pub use error::{Shortage, StackError};
pub use framemap::{Frames, frames};
pub use freeze::{Frozen, freeze, thaw};
pub use guard::guard_of;
pub use image::is_marked;
pub use large::was_used;
pub use morestack_asm::{STACK_GUARD, Stack};
pub use side::{SIDE_GAP, SIDE_LOCALS, SIDE_STACK, round_side_size, side_alloc, side_free, side_gap};
pub use stats::{StackStats, stats};

/// The smallest stack. Half of it may be [`STACK_GUARD`]; of the rest most green threads touch a page or two, and only
/// those are memory.
pub const FIXED_STACK: usize = 64 << 10;

/// Sizes that are cached and pooled: [`FIXED_STACK`] and its next doublings. Larger ones are large stacks.
pub const NUM_STACK_ORDERS: usize = 4;

/// How large a stack may grow unless a runtime says otherwise (S14). Go's value: a recursion that needs more is taken
/// for one that does not end.
pub const MAX_STACK: usize = 1 << 30;

const _: () = {
    assert!(FIXED_STACK.is_power_of_two() && FIXED_STACK > STACK_GUARD);
    assert!(MAX_STACK.is_power_of_two() && MAX_STACK > FIXED_STACK << NUM_STACK_ORDERS);
};
