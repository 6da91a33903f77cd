//! The prologue check (S2, S10): is there room for this function's frame, and does anybody want this thread to stop?
//!
//! Both questions are one comparison of `rsp` with the word at `fs:[0x70]`, the slot that glibc's thread control
//! block keeps for split stacks. It holds the live copy of the running green thread's `stackguard0`:
//!
//! ```text
//!   hi ┌────────────────────────┐
//!      │ frames                 │
//!      │           rsp ──►      │
//!      ├────────────────────────┤ stackguard0 = lo + STACK_GUARD
//!      │ room for code without  │    ▲ STACK_SMALL of it may be used by a checked
//!      │ a check                │    ▼ function without subtracting its frame first
//!   lo └────────────────────────┘
//! ```
//!
//! or [`STACK_PREEMPT`], which is above every stack pointer, so that the next check fails whatever the depth. On
//! threads that run no green threads the word is 0, below every stack pointer: a check there never fails.
//!
//! # The four frame classes
//!
//! A frame of `N` bytes must end above `stackguard0 - STACK_SMALL`. Go's compiler (and this macro) spends on that only
//! what the size asks for; all arithmetic is unsigned:
//!
//! | class | check fails when | why it is enough |
//! |---|---|---|
//! | leaf, `N == 0` | never | it calls nothing and lives in the room below the guard |
//! | `N <= STACK_SMALL` | `rsp <= guard` | the frame may reach STACK_SMALL below the guard: no subtraction |
//! | `N <= STACK_BIG` | `rsp - N <= guard - STACK_SMALL` | computed as `rsp - (N - STACK_SMALL) <= guard`; no stack lies so low that `rsp - N` wraps |
//! | larger | `guard == STACK_PREEMPT`, or `rsp - guard + STACK_GUARD <= N + STACK_GUARD - STACK_SMALL` | see below |
//!
//! The fourth class exists because `rsp - N` may wrap below zero for a large `N`: the result would be a huge number,
//! the check would pass, and the frame would be written anywhere. So the large number stays on the right-hand side, and
//! the left-hand side is the distance between `rsp` and the guard, shifted by STACK_GUARD so that it is not negative for
//! any `rsp` inside the stack. This form has a trap of its own: with the sentinel in place of the guard the distance is
//! `rsp + 1314 + STACK_GUARD`, a large number, and the check would pass although somebody asked for preemption. Hence the
//! sentinel is compared for first.

/// The value of `stackguard0` that asks for preemption: above every real stack pointer (S2). Go's value.
pub const STACK_PREEMPT: usize = -1314_isize as usize;

/// A frame of so many bytes needs no subtraction in its check (S10). Go's value.
pub const STACK_SMALL: usize = 128;

/// The same in the prologue of LLVM's split stacks.
#[cfg(morestack_side_stacks)]
pub(crate) const STACK_SMALL_AUTOMATIC: usize = 256;

/// Up to so many bytes of frame the check may subtract from `rsp` without fear of wrap-around (S10). Go's value.
pub const STACK_BIG: usize = 4096;

/// Bytes between `stack.lo` and `stackguard0`: the room for code that carries no check. In a plain build that is
/// precompiled std, libc, the unwinder and every unmarked function of the user. The deepest seen of std are a printed
/// backtrace, 20 KB, and a stable sort's buffer, 17 KB; the rest is left to the user's own. It is address space: only
/// touched pages cost memory. Too small a value ends in the guard page, with a message that says so.
pub const STACK_GUARD: usize = 32 << 10;

/// The prologue check, by hand: put it first in a function's body, or use `#[morestack::prologue]`, which does.
///
/// `prologue!()` is for any function: the compiler has made room for the frame before the check, so `rsp` already
/// stands below it, and the frame may be as large as `STACK_GUARD` less what unchecked code needs.
/// `prologue!(frame = N)` checks *before* a frame of `N` bytes exists: for a thin shell around a function with large
/// locals. `N` is a constant; it chooses one of the four classes at compile time.
///
/// The condition codes are the only register state that the check itself changes; the slow path is an ordinary call.
#[macro_export]
macro_rules! prologue {
    () => {
        // SAFETY: reads one word of the thread control block; the label block is ordinary code.
        unsafe {
            ::core::arch::asm!(
                "cmp rsp, qword ptr fs:[0x70]",
                "jbe {slow}",
                slow = label { $crate::slow_path(0) },
                options(nostack),
            )
        }
    };
    (frame = $frame:expr) => {{
        // A long name: `$frame` may name a constant of the caller's, and items are not hygienic.
        const __MORESTACK_FRAME: usize = $frame;
        const { assert!(__MORESTACK_FRAME <= $crate::STACK_FRAME_MAX, "prologue frame: at most STACK_FRAME_MAX bytes") };
        if const { __MORESTACK_FRAME == 0 } {
            // A leaf: it lives in the room below the guard.
        } else if const { __MORESTACK_FRAME <= $crate::STACK_SMALL } {
            $crate::prologue!()
        } else if const { __MORESTACK_FRAME <= $crate::STACK_BIG } {
            // SAFETY: as above.
            unsafe {
                ::core::arch::asm!(
                    "lea r11, [rsp - {below}]",
                    "cmp r11, qword ptr fs:[0x70]",
                    "jbe {slow}",
                    below = const __MORESTACK_FRAME.saturating_sub($crate::STACK_SMALL),
                    slow = label { $crate::slow_path(__MORESTACK_FRAME) },
                    out("r11") _,
                    options(nostack),
                )
            }
        } else {
            // SAFETY: as above.
            unsafe {
                ::core::arch::asm!(
                    "mov r11, qword ptr fs:[0x70]",
                    "cmp r11, {preempt}",
                    "je {slow}",
                    "lea r10, [rsp + {guard}]",
                    "sub r10, r11",
                    "cmp r10, {room}",
                    "jbe {slow}",
                    preempt = const $crate::STACK_PREEMPT as isize,
                    guard = const $crate::STACK_GUARD,
                    room = const __MORESTACK_FRAME + $crate::STACK_GUARD - $crate::STACK_SMALL,
                    slow = label { $crate::slow_path(__MORESTACK_FRAME) },
                    out("r10") _,
                    out("r11") _,
                    options(nostack),
                )
            }
        }
    }};
}

/// What the checks do when they fail: calls [`morestack`](crate::morestack()), whose address it loads itself. LLVM would take
/// the load to be worth a callee-saved register, and make it at each entry of a function that calls itself, for the sake of
/// calls that do not happen.
#[cold]
#[inline(always)]
pub fn slow_path(frame: usize) {
    let morestack: extern "C-unwind" fn(usize);
    // SAFETY: loads the address of the function that has this type.
    unsafe {
        core::arch::asm!(
            "mov {morestack}, qword ptr [rip + {symbol}@GOTPCREL]",
            morestack = out(reg) morestack,
            symbol = sym crate::morestack,
            options(nostack, preserves_flags, readonly),
        );
    }
    morestack(frame)
}

/// The prologue check for a number of bytes that the compiler knows late: the size of a type parameter, say. As
/// `prologue!(frame = N)`, in a thin shell around the function with the large frame. The third class does for all of them:
/// a stack pointer is larger than any object.
#[inline(always)]
pub fn prologue_for(bytes: usize) {
    // SAFETY: reads one word of the thread control block; the label block is ordinary code.
    unsafe {
        core::arch::asm!(
            "mov r11, rsp",
            "sub r11, {bytes}",
            "cmp r11, qword ptr fs:[0x70]",
            "jbe {slow}",
            bytes = in(reg) bytes,
            slow = label { slow_path(bytes) },
            out("r11") _,
            options(nostack),
        )
    }
}

/// The largest frame that a check can name: the sum with STACK_GUARD must fit a 32-bit immediate, sign included.
pub const STACK_FRAME_MAX: usize = i32::MAX as usize - STACK_GUARD;
