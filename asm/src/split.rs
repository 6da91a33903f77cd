//! `__morestack` (S11): what a failed check of LLVM's split-stack prologue calls.
//!
//! `cargo morestack` gives every function this prologue. The check comes before the frame exists, and is the one of
//! [`prologue`](crate::prologue!) but for its classes: up to 256 bytes of frame `rsp` itself is compared.
//!
//! ```text
//!   f:     cmp rsp, fs:[0x70]           __morestack:
//!          jbe slow                       saves all that f was called with, and what callees keep
//!   body:  ...                            newstack(g, frame | AUTOMATIC), as for `morestack`
//!   slow:  mov r10d, frame                ── resumed ──► all registers as before; goes on behind the `ret`
//!          mov r11d, argument bytes       ── sched.ret ► the frame is dropped, and f's caller has called that function
//!          call __morestack
//!          ret
//!          jmp body
//! ```
//!
//! The `ret` is for [segments](crate::segment): there the body is called, on another stack, and returns.
//!
//! # What copystack sees
//!
//! f's arguments are in registers, and any of them may be an address in the stack. They are pushed here, in the part that is copied
//! and relocated; so are the vector registers, as wide as they are in use, since values are passed in those, too. Nothing else
//! is live: f has not begun, and its caller has given up all that callees may change.
//!
//! # Vector registers
//!
//! A load of all 64 bytes marks the upper parts as in use, even where they are 0, and until the next `vzeroupper` each instruction of
//! SSE waits for the one before that has written to the same register, and copying is slower: programs without AVX ran at half
//! their speed after the first check that failed. So only what is in use is saved and loaded, by what the processor tells of it, and all
//! other bits are 0. glibc's resolver of symbols has had to do the same, for the same reason (its bug 20508).
//!
//! # Signal handlers
//!
//! Their functions have checks, too. A handler that runs on a green thread's stack may have interrupted anything: what saves this very
//! context, code that is not to be interrupted by another green thread, code that has an address of a local elsewhere. So it goes
//! on, whatever the check found, in the room below the guard. How it is recognised: see [`crate::signal`].
//!
//! # Unwinding
//!
//! `rsp` stands below two return addresses: into f, and f's own. The CFI skips the first, so that f, which has no frame yet, is not
//! there for unwinders, and its caller stands at the call of f.

use core::arch::naked_asm;
use core::arch::x86_64::{__cpuid_count, __get_cpuid_max};
use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

use crate::layout::*;
use crate::morestack::{enter_newstack, refuse};
use crate::prologue::STACK_PREEMPT;
use crate::side::{side, swap_side};
use crate::signal::in_handler;
use crate::tls::{getg, stackguard};

/// Set in `newstack`'s argument, beside the size of the frame: the check is one that the compiler put there, not the author.
pub const AUTOMATIC: usize = 1 << AUTOMATIC_BIT;
const AUTOMATIC_BIT: usize = 63;

/// What a vector register has: 16 bytes shifted by this. Some function may be passed all of it.
static VECTOR_SHIFT: AtomicU8 = AtomicU8::new(0);

/// Whether the processor tells which parts of its registers are in use, by `xgetbv` of 1.
static TELLS_USE: AtomicU8 = AtomicU8::new(0);

/// Finds out how wide vector registers are. Before the first green thread runs.
pub fn detect_vectors() {
    let avx = std::is_x86_feature_detected!("avx");
    let shift = if std::is_x86_feature_detected!("avx512f") { 2 } else { u8::from(avx) };
    VECTOR_SHIFT.store(shift, Relaxed);
    // AVX is detected only where the system has enabled `xgetbv`.
    let tells = avx && __get_cpuid_max(0).0 >= 0xd && __cpuid_count(0xd, 1).eax & 4 != 0;
    TELLS_USE.store(u8::from(tells), Relaxed);
}

/// Not 0 where `newstack` is to decide. That is not in a signal handler; nor where all is known: a request is [pending](crate::Pending)
/// that this function may not answer, and there is room. `sp` is that of the slow path, so there is somewhat more.
extern "C" fn enters(sp: usize, frame: usize, ret: usize) -> usize {
    // SAFETY: a `g` that runs on this thread, so it is alive; nothing writes to it meanwhile.
    let known = unsafe { getg().as_ref() }.is_some_and(|g| unsafe {
        // SAFETY: as above, and so is its M. `newstack`, which alone writes there, may be what a handler has interrupted: what that
        // reads of it is a guess, and either answer is right for a handler.
        stackguard() == STACK_PREEMPT
            && (*g.m).pending.goes_on(g, ret)
            && g.stack.contains(sp)
            && sp.saturating_sub(frame) > g.guard()
    });
    usize::from(!known && !in_handler(sp))
}

/// Eight vector registers of `$width` bytes, stored at `rsp` or loaded from there.
macro_rules! vectors {
    (store $mov:literal $register:literal $width:literal) => {
        vectors!(@store $mov $register $width, 0 1 2 3 4 5 6 7)
    };
    (load $mov:literal $register:literal $width:literal) => {
        vectors!(@load $mov $register $width, 0 1 2 3 4 5 6 7)
    };
    (@store $mov:literal $register:literal $width:literal, $($n:literal)*) => {
        concat!($($mov, " [rsp + ", $n, "*", $width, "], ", $register, $n, "\n",)*)
    };
    (@load $mov:literal $register:literal $width:literal, $($n:literal)*) => {
        concat!($($mov, " ", $register, $n, ", [rsp + ", $n, "*", $width, "]\n",)*)
    };
}

// What shared libraries know it by: their own `__morestack` goes on here.
core::arch::global_asm!(
    ".pushsection .text.morestack_split_entry,\"ax\",@progbits",
    ".globl morestack_split_entry",
    ".type morestack_split_entry,@function",
    "morestack_split_entry:",
    "jmp __morestack",
    ".size morestack_split_entry, . - morestack_split_entry",
    ".popsection",
);

/// What `newstack` may leave in `sched.ret` beside a [`Raise`](crate::Raise): the function runs on a segment, which it has put ready.
pub const SEGMENT: usize = 1;

/// Whether this function is the slow path, whose frame holds nothing but registers.
pub fn is_split(function: usize) -> bool {
    function == split as *const () as usize
}

/// See the module header. Entered with r10: bytes of the frame, r11: bytes of arguments on the stack, which stay where they are.
///
/// # Safety
///
/// Not to be called but by a split-stack prologue.
#[cfg_attr(not(morestack_side_stacks), unsafe(export_name = "__morestack"))]
#[cfg_attr(morestack_side_stacks, unsafe(export_name = "morestack_split"))]
#[unsafe(naked)]
unsafe extern "C" fn split() {
    naked_asm!(
        ".cfi_startproc",
        ".cfi_def_cfa rsp, 16",
        "push rbp",
        ".cfi_adjust_cfa_offset 8",
        ".cfi_offset rbp, -24",
        "mov rbp, rsp",
        ".cfi_def_cfa_register rbp",
        "push rbx",
        ".cfi_offset rbx, -32",
        "push r12",
        ".cfi_offset r12, -40",
        "push r13",
        ".cfi_offset r13, -48",
        "push r14",
        ".cfi_offset r14, -56",
        "push r15",
        ".cfi_offset r15, -64",
        "push rax", // the number of vector registers, where the number of arguments is not fixed
        "push rcx",
        "push rdx",
        "push rsi",
        "push rdi",
        "push r8",
        "push r9",
        "push r10",
        "push r11",
        "movzx r8d, byte ptr [rip + {shift}]",
        "cmp byte ptr [rip + {tells}], 0",
        "je 3f",
        "mov ecx, 1",
        "xgetbv",
        "test al, 0x40", // more than 32 bytes of a register
        "jnz 3f",
        "xor r8d, r8d",
        "test al, 4", // more than 16
        "setnz r8b",
        "3:",
        // A multiple of 16 below, as the calls need it.
        "mov ecx, r8d",
        "mov eax, 128",
        "shl eax, cl",
        "sub rsp, rax",
        "sub rsp, 8",
        "mov qword ptr [rbp - 120], rcx",
        "cmp ecx, 1",
        "je 5f",
        "ja 6f",
        vectors!(store "movups" "xmm" 16),
        "jmp 7f",
        "5:",
        vectors!(store "vmovups" "ymm" 32),
        "vzeroupper",
        "jmp 7f",
        "6:",
        vectors!(store "vmovups" "zmm" 64),
        "vzeroupper",
        "7:",
        "mov rbx, r10",
        "mov rdi, rsp",
        "mov rsi, r10",
        "mov rdx, qword ptr [rbp + 8]",
        "call {enters}",
        "test rax, rax",
        "jz 2f",
        "mov r9, rbx",
        "bts r9, {automatic}",
        enter_newstack!(),
        "2:",
        "mov rcx, qword ptr [rbp - 120]",
        // The lowest word that a signal leaves alone when all that is above has been popped.
        "mov qword ptr [rbp - 120], rax",
        "cmp rax, {segment}",
        "ja 4f",
        "cmp byte ptr [rip + {shift}], 0",
        "je 3f",
        "vzeroupper",
        "3:",
        "cmp ecx, 1",
        "je 5f",
        "ja 6f",
        vectors!(load "movups" "xmm" 16),
        "jmp 7f",
        "5:",
        vectors!(load "vmovups" "ymm" 32),
        "jmp 7f",
        "6:",
        vectors!(load "vmovups" "zmm" 64),
        "7:",
        "lea rsp, [rbp - 112]",
        "pop r11",
        "pop r10",
        "pop r9",
        "pop r8",
        "pop rdi",
        "pop rsi",
        "pop rdx",
        "pop rcx",
        "pop rax",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        ".cfi_remember_state",
        ".cfi_def_cfa rsp, 16",
        // On a segment, where that was asked for.
        side!("cmp qword ptr [rsp - 128], 1\n", "je morestack_on_segment",),
        "pop r11",
        ".cfi_adjust_cfa_offset -8",
        "inc r11",
        "jmp r11",
        ".cfi_restore_state",
        "4:",
        "lea rsp, [rbp - 40]",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        ".cfi_def_cfa rsp, 16",
        "add rsp, 8",
        ".cfi_adjust_cfa_offset -8",
        "jmp rax",
        ".cfi_endproc",
        shift = sym VECTOR_SHIFT, tells = sym TELLS_USE, automatic = const AUTOMATIC_BIT, segment = const SEGMENT,
        M = const G_M, G0 = const M_G0, LO = const G_LO, HI = const G_HI,
        SP = const G_SP, PC = const G_PC, BP = const G_BP, BX = const G_BX, GUARD0 = const G_GUARD0,
        MOREBUF_PC = const M_MOREBUF_PC, MOREBUF_SP = const M_MOREBUF_SP, NEWSTACK = const M_NEWSTACK,
        refuse = sym refuse, enters = sym enters,
    )
}
