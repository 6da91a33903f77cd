//! Side stacks: where the locals are that anything may point at.
//!
//! In a build by `cargo morestack` LLVM puts every local whose address leaves its function on a second stack, its SafeStack. What
//! stays on the first stack is pointed at by nobody but its own frame, so that one can be moved. The second never moves. Its pointer
//! is a thread-local, `__safestack_unsafe_stack_ptr`, initial-exec, that each function with such locals lowers at its entry and puts
//! back at its exit and at its landing pads.
//!
//! It is the green thread's while that runs, and the OS thread's own on g0. So a switch saves the one and loads the other, as it does
//! with `rsp`, in the `Gobuf`. The macros here are these instructions; in plain builds, where the thread-local does not exist, they
//! are nothing.
//!
//! An untied green thread may be resumed on another OS thread in the middle of a function. That function puts the pointer back by
//! an instruction that names `fs:` and a constant offset, so it is the new thread's that it writes.

use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering::Release};

/// These instructions, in a build with side stacks.
#[cfg(morestack_side_stacks)]
macro_rules! side {
    ($($line:expr,)*) => {
        concat!($($line,)*)
    };
}
#[cfg(not(morestack_side_stacks))]
macro_rules! side {
    ($($line:expr,)*) => {
        ""
    };
}

/// Saves the side pointer in the `Gobuf` of the head in `$from`, and loads that of the head in `$to`.
macro_rules! swap_side {
    ($from:literal, $to:literal, $value:literal, $place:literal) => {
        side!(
            "mov ",
            $place,
            ", qword ptr [rip + __safestack_unsafe_stack_ptr@GOTTPOFF]\n",
            "mov ",
            $value,
            ", qword ptr fs:[",
            $place,
            "]\n",
            "mov qword ptr [",
            $from,
            " + {SP} + 40], ",
            $value,
            "\n",
            "mov ",
            $value,
            ", qword ptr [",
            $to,
            " + {SP} + 40]\n",
            "mov qword ptr fs:[",
            $place,
            "], ",
            $value,
            "\n",
        )
    };
}

/// Loads the side pointer of the head in `$from`.
macro_rules! load_side {
    ($from:literal, $value:literal, $place:literal) => {
        side!(
            "mov ",
            $place,
            ", qword ptr [rip + __safestack_unsafe_stack_ptr@GOTTPOFF]\n",
            "mov ",
            $value,
            ", qword ptr [",
            $from,
            " + {SP} + 40]\n",
            "mov qword ptr fs:[",
            $place,
            "], ",
            $value,
            "\n",
        )
    };
}

/// Keeps the side pointer at `rbp - 16`, and loads that of the head in `$to`.
macro_rules! push_side {
    ($to:literal, $value:literal, $place:literal) => {
        side!(
            "mov ",
            $place,
            ", qword ptr [rip + __safestack_unsafe_stack_ptr@GOTTPOFF]\n",
            "mov ",
            $value,
            ", qword ptr fs:[",
            $place,
            "]\n",
            "mov qword ptr [rbp - 16], ",
            $value,
            "\n",
            "mov ",
            $value,
            ", qword ptr [",
            $to,
            " + {SP} + 40]\n",
            "mov qword ptr fs:[",
            $place,
            "], ",
            $value,
            "\n",
        )
    };
}

/// Puts back what [`push_side`] has kept.
macro_rules! pop_side {
    ($value:literal, $place:literal) => {
        side!(
            "mov ",
            $place,
            ", qword ptr [rip + __safestack_unsafe_stack_ptr@GOTTPOFF]\n",
            "mov ",
            $value,
            ", qword ptr [rbp - 16]\n",
            "mov qword ptr fs:[",
            $place,
            "], ",
            $value,
            "\n",
        )
    };
}

pub(crate) use {load_side, pop_side, push_side, side, swap_side};

/// The side pointer of the calling OS thread, or of the green thread that runs on it.
#[cfg(morestack_side_stacks)]
#[inline(always)]
pub fn side_pointer() -> usize {
    let pointer;
    // SAFETY: reads one word of this thread's TLS block.
    unsafe {
        core::arch::asm!(
            "mov {p}, qword ptr [rip + __safestack_unsafe_stack_ptr@GOTTPOFF]",
            "mov {p}, qword ptr fs:[{p}]",
            p = out(reg) pointer,
            options(nostack, preserves_flags, readonly),
        );
    }
    pointer
}

/// What a signal handler does: gets the signal, its `siginfo`, its context, and the side pointer of what was interrupted, or 0.
pub type SignalFn = extern "C" fn(i32, *mut c_void, *mut c_void, usize);

/// What [`on_signal`] calls. Set before that is installed.
static HANDLE: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());

/// Has [`on_signal`] call this.
pub fn set_signal_handler(handle: SignalFn) {
    HANDLE.store(handle as *mut (), Release);
}

/// A signal handler, as `sigaction` takes it. It may have interrupted code whose side stack is full: then nothing may use that, not even
/// what decides. So this is assembly. On a thread of the scheduler, whose signal stack has 64 KiB, the handler's side stack is
/// on that, 24 KiB further down.
///
/// # Safety
///
/// To be installed with `SA_ONSTACK`, after [`set_signal_handler`].
#[unsafe(naked)]
pub unsafe extern "C" fn on_signal(signal: i32, info: *mut c_void, context: *mut c_void) {
    core::arch::naked_asm!(
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
        "xor ecx, ecx",
        "mov rbx, qword ptr [rip + morestack_g@GOTTPOFF]",
        "cmp qword ptr fs:[rbx], 0",
        "je 2f",
        side!(
            "mov rbx, qword ptr [rip + __safestack_unsafe_stack_ptr@GOTTPOFF]\n",
            "mov r12, qword ptr fs:[rbx]\n",
            "lea rax, [rsp - 24576]\n",
            "and rax, -16\n",
            "mov qword ptr fs:[rbx], rax\n",
            "mov rcx, r12\n",
        ),
        "call qword ptr [rip + {HANDLE}]",
        side!("mov qword ptr fs:[rbx], r12\n",),
        "jmp 3f",
        "2:",
        "call qword ptr [rip + {HANDLE}]",
        "3:",
        "pop r12",
        "pop rbx",
        "pop rbp",
        ".cfi_def_cfa rsp, 8",
        "ret",
        ".cfi_endproc",
        HANDLE = sym HANDLE,
    )
}
