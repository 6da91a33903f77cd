//! The words that each OS thread has: `g`, the live `stackguard0`, and whose thread it is.
//!
//! | word | where | value |
//! |---|---|---|
//! | `g` | `fs:[morestack_g]`, an initial-exec TLS variable of ours | the running `GHead`; g0's on a scheduler stack; null on threads that run no green threads |
//! | live `stackguard0` | `fs:[0x70]`, `__private_ss` of glibc's thread control block, kept there for split stacks | the running `GHead`'s guard, or `STACK_PREEMPT`, or 0 on threads that run no green threads |
//! | owner | `fs:[0x68]`, the last of `__private_tm` there, kept for transactional memory; libitm uses the first two | the [`morestack`](crate::morestack()) of the image whose runtime the thread works for, or 0 |
//!
//! # Several images
//!
//! A `cdylib` that uses this crate has a copy of it, with a `morestack_g` of its own, which is null on the threads of the
//! program's runtime. Its checks read the live guard, which there is one of. When one fails, its `morestack` finds no `g`, and
//! asks the owner's. The word says that to any copy of this crate; what it points to takes the frame's size in `rdi`.
//!
//! # Why every access is assembly
//!
//! A green thread may continue on another OS thread after any switch. LLVM takes the address of a thread-local to be
//! constant within a function and keeps it in a register across calls, so a `thread_local!` read after a switch could
//! be the previous thread's. The assembly here names `fs:` in the very instruction that reads; it is not `pure`, so two
//! reads are never merged into one.
//!
//! # Who writes the live guard
//!
//! Its own thread, on every switch, with a plain store; and sysmon, through [`stackguard_slot`], with
//! `STACK_PREEMPT`. Either store may overwrite the other. An overwritten request is sent again by sysmon's next look; a
//! request that lands on the next green thread is recognised as stale by `newstack`, which knows for which tick it was.

use core::arch::{asm, global_asm};
use core::mem::transmute;
use core::sync::atomic::AtomicUsize;

use crate::layout::GHead;

global_asm!(
    ".pushsection .tbss.morestack_g,\"awT\",@nobits",
    ".hidden morestack_g",
    ".globl morestack_g",
    ".type morestack_g,@object",
    ".size morestack_g, 8",
    ".balign 8",
    "morestack_g:",
    ".zero 8",
    ".popsection",
);

/// The running `G`: a green thread's, g0's on a scheduler stack, or null on a thread that runs no green threads.
#[inline(always)]
pub fn getg() -> *mut GHead {
    let g;
    // SAFETY: reads one word of this thread's TLS block, which glibc allocated with the thread.
    unsafe {
        asm!(
            "mov {g}, qword ptr [rip + morestack_g@GOTTPOFF]",
            "mov {g}, qword ptr fs:[{g}]",
            g = out(reg) g,
            options(nostack, preserves_flags, readonly),
        );
    }
    g
}

/// Makes `g` the running `G` of this OS thread, and this image the owner of the thread; or nobody, with null.
///
/// # Safety
///
/// Called when an OS thread becomes a scheduler thread (with its g0) and when it ceases to be one (with null), on its
/// own stack. `g` must outlive the time in between.
#[inline(always)]
pub unsafe fn setg(g: *mut GHead) {
    let owner = if g.is_null() { 0 } else { crate::morestack as *const () as usize };
    // The owner first: a signal handler whose check fails here must not be sent from an image without `g` to the same image.
    // SAFETY: as in `getg`; the caller vouches for `g`. The other word is of those that glibc keeps for transactional memory.
    unsafe {
        asm!(
            "mov {t}, qword ptr [rip + morestack_g@GOTTPOFF]",
            "mov qword ptr fs:[0x68], {owner}",
            "mov qword ptr fs:[{t}], {g}",
            t = out(reg) _,
            g = in(reg) g,
            owner = in(reg) owner,
            options(nostack, preserves_flags),
        );
    }
}

/// The `morestack` of the image that owns this thread.
pub(crate) fn owner() -> Option<extern "C-unwind" fn(usize)> {
    let owner: usize;
    // SAFETY: reads one word of this thread's control block.
    unsafe {
        asm!("mov {}, qword ptr fs:[0x68]", out(reg) owner, options(nostack, preserves_flags, readonly));
    }
    // SAFETY: `setg` of some image left it, or nobody did, and then it is 0.
    unsafe { transmute(owner) }
}

/// Reads the live `stackguard0`.
#[inline(always)]
pub fn stackguard() -> usize {
    let guard;
    // SAFETY: reads one word of this thread's control block.
    unsafe {
        asm!("mov {}, qword ptr fs:[0x70]", out(reg) guard, options(nostack, preserves_flags, readonly));
    }
    guard
}

/// Writes the live `stackguard0`.
///
/// # Safety
///
/// `guard` must be the guard of the stack that checks on this thread compare with from now on, `STACK_PREEMPT` where a
/// `newstack` is there to answer, or 0 on a thread that runs no green threads. A thread writes 0 before it exits: glibc
/// reuses control blocks.
#[inline(always)]
pub unsafe fn set_stackguard(guard: usize) {
    // SAFETY: writes the one word of this thread's control block that glibc keeps for split stacks.
    unsafe {
        asm!("mov qword ptr fs:[0x70], {}", in(reg) guard, options(nostack, preserves_flags));
    }
}

/// The address of this thread's live `stackguard0`, for sysmon. It is valid until the thread exits.
#[inline(always)]
pub fn stackguard_slot() -> *const AtomicUsize {
    let block: usize;
    // SAFETY: the x86-64 ABI keeps the control block's own address in its first word.
    unsafe {
        asm!("mov {}, qword ptr fs:[0]", out(reg) block, options(nostack, preserves_flags, readonly));
    }
    (block + 0x70) as *const AtomicUsize
}

/// Whether this code runs on an OS thread's own stack: a foreign thread, or a scheduler thread on g0 (S8).
#[inline]
pub fn on_system_stack() -> bool {
    let g = getg();
    // SAFETY: a non-null `g` is running, so its head, its M and that M's g0 are alive.
    g.is_null() || unsafe { (*(*g).m).g0 == g }
}
