//! `morestack` (S11): what a failed prologue check calls.
//!
//! ```text
//!   user function ── check fails ──► morestack: saves every callee-saved register on the stack, the context in
//!                                        │      g.sched, who called in m.morebuf
//!                                        │ switch to g0
//!                                        ▼
//!                                    newstack(g, frame), called by the scheduler loop: grow, preempt or neither
//!                                        │ gogo(g), now or later, here or on another thread
//!                                        ▼
//!   user function ◄── return ────── morestack; or, where sched.ret is not 0, a jump to that function, which unwinds
//! ```
//!
//! `morestack` never returns by itself: whoever resumes `g.sched` makes it return.
//!
//! # What copystack sees
//!
//! A caller may hold the address of a local in any register. Caller-saved ones (vector registers among them) are
//! spilled by the compiler around the call; `rbp rbx r12-r15` are pushed here, in the part of the
//! stack that is copied and relocated, and are popped from the new stack. `rbp` and `rbx` of this frame itself are in the
//! `Gobuf`, which copystack relocates too.
//!
//! # Refusals
//!
//! Checks compare with the green thread's guard, whatever stack they run on. So a check may fail on a stack that is not
//! the green thread's, and there is nothing to grow there (S3):
//!
//! | `rsp` is in | what happens |
//! |---|---|
//! | g0's stack | a stale `STACK_PREEMPT` is replaced by g0's guard; a real lack of room is fatal and named |
//! | the signal stack | the check says nothing about it: goes on while there is room, else fatal and named |
//! | any other stack (a library's own coroutines) | goes on: its owner guards it |
//! | a thread without `g` that another image's runtime owns | that image's `morestack` decides, unless this image is unwinding or the check is automatic |
//! | a thread without `g` | goes on |
//!
//! # Unwinding
//!
//! The frame is described by CFI at each instruction. A function in `sched.ret` is jumped to when the frame is gone: its
//! caller is the function whose check failed.

use core::arch::naked_asm;

use crate::layout::*;
use crate::side::{side, swap_side};
use crate::split::AUTOMATIC;
use crate::tls::owner;
use crate::{getg, set_stackguard};

/// What `newstack` may leave in `sched.ret`: a function that unwinds out of the function whose check failed.
pub type Raise = fn() -> !;

/// Suspends the green thread in this frame, which is found by `rbp`, and has its scheduler call `newstack` with r9 as the argument; goes
/// on behind it when it is resumed, or was refused, with `sched.ret` in rax.
///
/// What is below `rbp`: the caller's own, and behind it the `rbp` and the return address of whose check failed.
macro_rules! enter_newstack {
    () => {
        concat!(
            "mov rax, qword ptr [rip + morestack_g@GOTTPOFF]\n",
            "mov rdi, qword ptr fs:[rax]\n",
            "test rdi, rdi\n",
            "jz 3f\n",
            "mov rsi, qword ptr [rdi + {M}]\n",
            "mov rdx, qword ptr [rsi + {G0}]\n",
            "cmp rdi, rdx\n",
            "je 3f\n",
            "cmp rsp, qword ptr [rdi + {LO}]\n",
            "jb 3f\n",
            "cmp rsp, qword ptr [rdi + {HI}]\n",
            "jae 3f\n",
            // Called from f: morebuf is f.
            "mov rcx, qword ptr [rbp + 8]\n",
            "mov qword ptr [rsi + {MOREBUF_PC}], rcx\n",
            "lea rcx, [rbp + 16]\n",
            "mov qword ptr [rsi + {MOREBUF_SP}], rcx\n",
            // The context to resume is this frame.
            "lea rcx, [rip + 2f]\n",
            "mov qword ptr [rdi + {SP}], rsp\n",
            "mov qword ptr [rdi + {PC}], rcx\n",
            "mov qword ptr [rdi + {BP}], rbp\n",
            "mov qword ptr [rdi + {BX}], rbx\n",
            // Back into the scheduler loop, as mcall(newstack, frame).
            swap_side!("rdi", "rdx", "rcx", "r10"),
            "mov r8, qword ptr [rsi + {NEWSTACK}]\n",
            "mov rcx, qword ptr [rdx + {GUARD0}]\n",
            "mov qword ptr fs:[rax], rdx\n",
            "mov qword ptr fs:[0x70], rcx\n",
            // The frame is found by rbp until here; from here on there is no telling.
            ".cfi_remember_state\n",
            ".cfi_undefined rip\n",
            "mov rbp, qword ptr [rdx + {BP}]\n",
            "mov rbx, qword ptr [rdx + {BX}]\n",
            "mov rsp, qword ptr [rdx + {SP}]\n",
            "jmp qword ptr [rdx + {PC}]\n",
            ".cfi_restore_state\n",
            // Not on a green thread's stack.
            "3:\n",
            "mov rdi, rsp\n",
            "mov rsi, r9\n",
            "call {refuse}\n",
            "xor eax, eax\n",
        )
    };
}
pub(crate) use enter_newstack;

/// The slow path of a prologue check for a function whose frame is `frame` bytes (0: it exists already, or is small).
///
/// Returns when there is room and the thread was not, or is no longer, preempted. Unwinds where `newstack` found that
/// the stack may not grow any further.
#[cold]
#[unsafe(naked)]
pub extern "C-unwind" fn morestack(frame: usize) {
    naked_asm!(
        ".cfi_startproc",
        "push rbp",
        ".cfi_adjust_cfa_offset 8",
        ".cfi_offset rbp, -16",
        "mov rbp, rsp",
        ".cfi_def_cfa_register rbp",
        "push rbx",
        ".cfi_offset rbx, -24",
        "push r12",
        ".cfi_offset r12, -32",
        "push r13",
        ".cfi_offset r13, -40",
        "push r14",
        ".cfi_offset r14, -48",
        "push r15",
        ".cfi_offset r15, -56",
        "sub rsp, 8",
        "mov r9, rdi", // newstack's second argument
        enter_newstack!(),
        "2:",
        "add rsp, 8",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        ".cfi_def_cfa rsp, 8",
        "test rax, rax",
        "jne 4f",
        "ret",
        "4:",
        "jmp rax",
        ".cfi_endproc",
        M = const G_M, G0 = const M_G0, LO = const G_LO, HI = const G_HI,
        SP = const G_SP, PC = const G_PC, BP = const G_BP, BX = const G_BX, GUARD0 = const G_GUARD0,
        MOREBUF_PC = const M_MOREBUF_PC, MOREBUF_SP = const M_MOREBUF_SP, NEWSTACK = const M_NEWSTACK,
        refuse = sym refuse,
    )
}

/// Whether this function is [`morestack`], whose frame holds nothing but registers.
pub fn is_morestack(function: usize) -> bool {
    function == morestack as *const () as usize
}

/// Bytes that must be left of the signal stack: the message below needs some 2 KB.
const SIGNAL_GUARD: usize = 8 << 10;

/// A check failed on a stack that this image's `morestack` does not grow. Returns where the failure means nothing there.
/// `check` is what `newstack` would be told.
pub(crate) extern "C-unwind" fn refuse(sp: usize, check: usize) {
    let g = getg();
    if g.is_null() {
        // The owner cannot see that this image is unwinding: the panic count is a thread-local of each copy of std. And it would
        // answer an automatic check with a segment, which is for the one that is suspended in `__morestack`.
        let asks = check & AUTOMATIC == 0 && !std::thread::panicking();
        if let Some(morestack) = owner().filter(|_| asks) {
            morestack(check);
        }
        return;
    }
    // SAFETY: a non-null `g` is running on this thread, so it, its M and g0 are alive.
    unsafe {
        let m = (*g).m;
        let g0 = (*m).g0;
        if (*m).gsignal.contains(sp) {
            if sp < (*m).gsignal.lo + SIGNAL_GUARD {
                fatal("morestack on the signal stack: it cannot grow", sp, (*m).gsignal);
            }
        } else if g == g0 && (*g0).stack.contains(sp) {
            if sp <= (*m).stackguard1 {
                fatal("morestack on g0: the scheduler stack cannot grow", sp, (*g0).stack);
            }
            set_stackguard((*g0).stackguard0);
        }
    }
}

/// Names the system stack that ran out, and ends the process: nothing can be unwound without room.
fn fatal(what: &str, sp: usize, stack: Stack) -> ! {
    use std::io::Write;
    let mut line = [0_u8; 256];
    let mut rest = &mut line[..];
    // A message that does not fit is cut.
    let _ = writeln!(rest, "morestack: fatal: {what} (sp={sp:#x}, stack=[{:#x}, {:#x}))", stack.lo, stack.hi);
    let unused = rest.len();
    let used = line.len() - unused;
    let _ = std::io::stderr().write_all(&line[..used]);
    std::process::abort()
}
