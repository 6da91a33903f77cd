//! Signal handlers that run on the stack of the green thread that they interrupt.
//!
//! While a handler runs, the kernel blocks its signal. So where no more signals are blocked than when the OS thread began to run green
//! threads, no handler runs; one system call tells. (Unless it was installed with `SA_NODEFER` and an empty mask: such a handler is
//! not seen.) If more are blocked, the green thread may have done that itself. Then the kernel's frame is looked for:
//!
//! ```text
//!   sp ──► the handler's frames
//!          the address of what returns from handlers, libc's      ◄── A, a multiple of 8
//!          ucontext: the registers of what was interrupted, its rsp among them, which is above all this
//! ```
//!
//! Within [`REACH`] bytes: a handler of which more is on the stack is not seen. If there is none, the mask that was found is the one to
//! compare with from now on, so that the search is not repeated.

use core::arch::asm;

use crate::getg;

/// The numbers of `rt_sigaction` and `rt_sigprocmask`.
const SIGACTION: usize = 13;
const SIGPROCMASK: usize = 14;

const SIGSEGV: usize = 11;

/// Bytes of a stack in which the kernel's frame is looked for: what handlers are given elsewhere, as signal stacks.
const REACH: usize = 64 << 10;

/// The register `rsp` in a `ucontext`: behind the flags, the link and the signal stack, the sixteenth.
const UCONTEXT_RSP: usize = 8 + 8 + 24 + 15 * 8;

/// What is known of signals on an OS thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Signals {
    /// Those that are blocked outside of handlers.
    mask: u64,
    /// What returns from handlers; 0 where there are none.
    restorer: usize,
}

impl Signals {
    /// Those of the calling thread, outside of a handler. Before this process has a handler for `SIGSEGV`, as all of std's have,
    /// handlers are not recognised.
    pub fn here() -> Signals {
        /// As the kernel has it.
        #[repr(C)]
        #[derive(Default)]
        struct Action {
            handler: usize,
            flags: u64,
            restorer: usize,
            mask: u64,
        }
        let mut action = Action::default();
        // SAFETY: asks what the action is, and writes it.
        unsafe { system_call(SIGACTION, [SIGSEGV, 0, &raw mut action as usize, 8]) };
        Signals { mask: mask(), restorer: action.restorer }
    }
}

/// # Safety
///
/// That of the call.
unsafe fn system_call(number: usize, arguments: [usize; 4]) {
    // SAFETY: by the contract; the kernel changes these registers and no others.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => _, in("rdi") arguments[0], in("rsi") arguments[1], in("rdx") arguments[2],
            in("r10") arguments[3], lateout("rcx") _, lateout("r11") _, options(nostack),
        );
    }
}

/// The signals that the calling thread blocks.
fn mask() -> u64 {
    let mut mask = 0_u64;
    // SAFETY: asks what is blocked, and writes it.
    unsafe { system_call(SIGPROCMASK, [0, 0, &raw mut mask as usize, 8]) };
    mask
}

/// Whether `sp`, which is the calling thread's, is on a green thread's stack, and in a signal handler there.
pub(crate) fn in_handler(sp: usize) -> bool {
    let g = getg();
    // SAFETY: a non-null `g` is running on this thread, so it and its M are alive.
    let Some((stack, m)) = (unsafe { g.as_ref() }).map(|g| (g.stack, g.m)) else { return false };
    // SAFETY: as above. No reference: a handler may come in between.
    let known = unsafe { (*m).signals };
    let mask = mask();
    if mask & !known.mask == 0 || known.restorer == 0 || !stack.contains(sp) {
        return false;
    }
    let end = stack.hi.min(sp + REACH);
    // SAFETY: words of the running stack, above the stack pointer.
    let word = |at: usize| unsafe { (at as *const usize).read() };
    let is_frame = |at: usize| {
        let saved = at + 8 + UCONTEXT_RSP;
        word(at) == known.restorer && saved < stack.hi - 8 && (saved..=stack.hi).contains(&word(saved))
    };
    let found = (sp.next_multiple_of(8)..end).step_by(8).any(is_frame);
    if !found {
        // SAFETY: as above; only this thread writes it.
        unsafe { (*m).signals.mask = mask };
    }
    found
}
