//! Switching stacks: `gogo`, `mcall`, `switch`, `systemstack`, `on_stack`, and the first frame of a green thread.
//!
//! ```text
//!        g0 (scheduler loop)                    green thread
//!        ───────────────────                    ────────────
//!        gogo(g) ──────── save g0.sched,  ────► continues at g.sched.pc
//!                         load g.sched
//!   (g, f, arg) ◄──────── save g.sched,   ───── mcall(f, arg)
//!        f(g, arg)        load g0.sched
//! ```
//!
//! A green thread gives its thread back only through `mcall` (or `morestack`, which is the same with another way in):
//! its context is saved completely *before* `f` runs on g0, so `f` may publish the green thread to other threads, move
//! its stack or free it. `gogo` returns in the scheduler loop with the request, so g0's stack never deepens.
//!
//! Where nobody but this thread can resume the green thread, and no request has to run on g0, `switch` goes from one green
//! thread to another directly: the save of `mcall` and the load of `gogo`. g0's context stays as `gogo` left it. Where others
//! may, `switch_publishing` says so, by one compare-exchange, when `rsp` is on the other stack already.
//!
//! # What a switch saves
//!
//! `rsp`, the place to continue, `rbp` and `rbx` go to the `Gobuf`. Everything else is declared clobbered, so that the
//! compiler spills what is live to the frame, where copystack finds it. MXCSR and the x87 control word belong to the OS
//! thread, as in Go.
//!
//! Nothing is pushed: the unwind tables of the surrounding function hold up to the loads of `rbp` and `rsp`. From there to
//! the jump they are told that there is no caller, so that a profiler which samples at just these instructions does not
//! read one stack by the other's tables.
//!
//! # Thread state
//!
//! `g` and the live guard change between the save and the load. A signal that arrives between the two finds `g` and
//! `rsp` disagreeing; `morestack` compares `rsp` with the bounds of `g` before it trusts it.
//!
//! # Unwinding
//!
//! `gostart` is the outermost frame of every green thread. Its CFI marks the return address as undefined, which is how
//! DWARF says "no caller": unwinders, gdb and perf end there. `systemstack` and `on_stack` have a caller, on another stack:
//! their CFI finds the caller's frame through `rbp`.

use core::arch::{asm, naked_asm};
use core::sync::atomic::AtomicU16;

use crate::layout::*;
use crate::side::{load_side, pop_side, push_side, side, swap_side};

/// What a green thread asked of its scheduler by giving its thread back.
#[derive(Clone, Copy, Debug)]
pub struct Mcall {
    /// The green thread. Its context is saved.
    pub g: *mut GHead,
    /// What to call with it, on g0.
    pub f: McallFn,
    /// Its second argument.
    pub arg: usize,
}

/// Saves the context of rsi, and consumes that of rdi, which runs from here on; rax has the offset of `g`. What comes after it
/// runs when somebody resumes rsi.
macro_rules! leave_for {
    () => {
        concat!(
            "lea rcx, [rip + 2f]\n",
            "mov qword ptr [rsi + {SP}], rsp\n",
            "mov qword ptr [rsi + {PC}], rcx\n",
            "mov qword ptr [rsi + {BP}], rbp\n",
            "mov qword ptr [rsi + {BX}], rbx\n",
            swap_side!("rsi", "rdi", "rcx", "rdx"),
            "mov rcx, qword ptr [rdi + {GUARD0}]\n",
            "mov qword ptr fs:[rax], rdi\n",
            "mov qword ptr fs:[0x70], rcx\n",
            "mov rax, qword ptr [rdi + {RET}]\n",
            "mov rcx, qword ptr [rdi + {PC}]\n",
            "mov r10, qword ptr [rdi + {SP}]\n",
            "xor edx, edx\n", // and `switch_publishing` looks at it
            "mov qword ptr [rdi + {SP}], rdx\n",
            "mov qword ptr [rdi + {RET}], rdx\n",
            ".cfi_remember_state\n",
            ".cfi_undefined rip\n",
            "mov rbp, qword ptr [rdi + {BP}]\n",
            "mov rbx, qword ptr [rdi + {BX}]\n",
            "mov rsp, r10\n",
            "jmp rcx\n",
            ".cfi_restore_state\n",
            "2:\n",
        )
    };
}

/// Continues `g` on this thread, from g0, and returns when it gives the thread back (S17).
///
/// The context is consumed: `sched.sp` and `sched.ret` are 0 while it runs.
///
/// # Safety
///
/// Runs on g0. `g` has a saved context, a stack of which the caller is the only owner, `stackguard0` set for it and
/// `m` set to this thread's M. The caller must not rely on anything that `g` may free.
#[inline(always)]
pub unsafe fn gogo(g: *mut GHead) -> Mcall {
    let from: *mut GHead;
    let f: usize;
    let arg: usize;
    // SAFETY: the saved contexts are valid by the contract; all registers that are neither saved nor results are
    // declared clobbered.
    unsafe {
        asm!(
            "mov rax, qword ptr [rip + morestack_g@GOTTPOFF]",
            "mov rsi, qword ptr fs:[rax]",
            leave_for!(),
            SP = const G_SP, PC = const G_PC, BP = const G_BP, BX = const G_BX,
            RET = const G_RET, GUARD0 = const G_GUARD0,
            inout("rdi") g => from,
            lateout("r8") f,
            lateout("r9") arg,
            lateout("r12") _, lateout("r13") _, lateout("r14") _, lateout("r15") _,
            clobber_abi("sysv64"),
        );
        Mcall { g: from, f: core::mem::transmute::<usize, McallFn>(f), arg }
    }
}

/// Gives the thread back: saves the running green thread's context and has the scheduler call `f(g, arg)` on g0.
/// Returns what the one who resumes it left in `sched.ret`.
///
/// The green thread may continue on another OS thread. Nothing that was read from a thread-local before may be used
/// after, and `arg` must not point into this stack if `f` moves it.
///
/// # Safety
///
/// Runs on a green thread's stack, not while unwinding: the unwinder's state is per OS thread. `f` must see to it that
/// the green thread is resumed at most once for this call.
#[inline(always)]
pub unsafe fn mcall(f: McallFn, arg: usize) -> usize {
    let ret;
    // SAFETY: `g` is a green thread by the contract, so its M and g0 are alive and g0's context was saved by `gogo`.
    unsafe {
        asm!(
            "mov rax, qword ptr [rip + morestack_g@GOTTPOFF]",
            "mov rdi, qword ptr fs:[rax]",
            "lea rcx, [rip + 2f]",
            "mov qword ptr [rdi + {SP}], rsp",
            "mov qword ptr [rdi + {PC}], rcx",
            "mov qword ptr [rdi + {BP}], rbp",
            "mov qword ptr [rdi + {BX}], rbx",
            "mov rsi, qword ptr [rdi + {M}]",
            "mov rsi, qword ptr [rsi + {G0}]",
            swap_side!("rdi", "rsi", "rcx", "rdx"),
            "mov rcx, qword ptr [rsi + {GUARD0}]",
            "mov qword ptr fs:[rax], rsi",
            "mov qword ptr fs:[0x70], rcx",
            ".cfi_remember_state",
            ".cfi_undefined rip",
            "mov rbp, qword ptr [rsi + {BP}]",
            "mov rbx, qword ptr [rsi + {BX}]",
            "mov rsp, qword ptr [rsi + {SP}]",
            "jmp qword ptr [rsi + {PC}]",
            ".cfi_restore_state",
            "2:",
            SP = const G_SP, PC = const G_PC, BP = const G_BP, BX = const G_BX,
            GUARD0 = const G_GUARD0, M = const G_M, G0 = const M_G0,
            inlateout("r8") f as usize => _,
            inlateout("r9") arg => _,
            lateout("rax") ret,
            lateout("r12") _, lateout("r13") _, lateout("r14") _, lateout("r15") _,
            clobber_abi("sysv64"),
        );
    }
    ret
}

/// Continues `to` in place of the running green thread `from`, on this thread. Returns, when somebody resumes `from`, what
/// that left in `sched.ret`. `to`'s context is consumed, as by [`gogo`].
///
/// # Safety
///
/// Runs on `from`'s stack, not while unwinding. `from` is published nowhere but where this very thread looks, since its
/// context is saved only now. For `to` the contract of `gogo` holds.
#[inline(always)]
pub unsafe fn switch(from: *mut GHead, to: *mut GHead) -> usize {
    let ret;
    // SAFETY: both heads are valid by the contract; all registers that are neither saved nor results are declared
    // clobbered.
    unsafe {
        asm!(
            "mov rax, qword ptr [rip + morestack_g@GOTTPOFF]",
            leave_for!(),
            SP = const G_SP, PC = const G_PC, BP = const G_BP, BX = const G_BX,
            RET = const G_RET, GUARD0 = const G_GUARD0,
            inlateout("rdi") to => _,
            inlateout("rsi") from => _,
            lateout("rax") ret,
            lateout("r12") _, lateout("r13") _, lateout("r14") _, lateout("r15") _,
            clobber_abi("sysv64"),
        );
    }
    ret
}

/// As [`switch`], for a `from` that others may resume from here on: they may as soon as `word` has changed from 0 to `parked`. That
/// comes after the save, and when nothing of `from`'s stack is in use any more. If `word` is not 0, nothing happens: false.
/// True when somebody has resumed `from`.
///
/// # Safety
///
/// Runs on `from`'s stack, not while unwinding. Whoever changes `word` from `parked`, and nobody else, may resume `from`. For `to`
/// the contract of `gogo` holds. `word` is valid as long as it is 0.
#[inline(always)]
pub unsafe fn switch_publishing(from: *mut GHead, to: *mut GHead, word: *const AtomicU16, parked: u16) -> bool {
    let failed: usize;
    // SAFETY: both heads are valid by the contract; all registers that are neither saved nor results are declared
    // clobbered. On arrival at 2 from elsewhere rdx is 0.
    unsafe {
        asm!(
            "mov r9, qword ptr [rip + morestack_g@GOTTPOFF]",
            "lea r10, [rip + 2f]",
            "mov qword ptr [rsi + {SP}], rsp",
            "mov qword ptr [rsi + {PC}], r10",
            "mov qword ptr [rsi + {BP}], rbp",
            "mov qword ptr [rsi + {BX}], rbx",
            swap_side!("rsi", "rdi", "r10", "r11"),
            "mov r10, qword ptr [rdi + {GUARD0}]",
            "xor eax, eax",
            "mov qword ptr fs:[r9], rdi",
            "mov qword ptr fs:[0x70], r10",
            ".cfi_remember_state",
            ".cfi_undefined rip",
            "mov rsp, qword ptr [rdi + {SP}]",
            "lock cmpxchg word ptr [r8], cx",
            "jne 3f",
            "mov rax, qword ptr [rdi + {RET}]",
            "mov rcx, qword ptr [rdi + {PC}]",
            "xor edx, edx",
            "mov qword ptr [rdi + {SP}], rdx",
            "mov qword ptr [rdi + {RET}], rdx",
            "mov rbp, qword ptr [rdi + {BP}]",
            "mov rbx, qword ptr [rdi + {BX}]",
            "jmp rcx",
            "3:",
            load_side!("rsi", "r10", "r11"),
            "mov r10, qword ptr [rsi + {GUARD0}]",
            "mov qword ptr fs:[r9], rsi",
            "mov qword ptr fs:[0x70], r10",
            "mov rsp, qword ptr [rsi + {SP}]",
            ".cfi_restore_state",
            "mov qword ptr [rsi + {SP}], 0",
            "mov edx, 1",
            "2:",
            SP = const G_SP, PC = const G_PC, BP = const G_BP, BX = const G_BX,
            RET = const G_RET, GUARD0 = const G_GUARD0,
            inlateout("rdi") to => _,
            inlateout("rsi") from => _,
            inlateout("r8") word => _,
            inlateout("rcx") usize::from(parked) => _,
            lateout("rdx") failed,
            lateout("r12") _, lateout("r13") _, lateout("r14") _, lateout("r15") _,
            clobber_abi("sysv64"),
        );
    }
    failed == 0
}

/// Calls `f` on the scheduler stack and returns its result; on a system stack already, calls it in place.
///
/// For code that goes deep without prologue checks, and for the stack allocator (S8).
///
/// # Panics
///
/// Aborts the process if `f` panics: a panic must not leave the stack it began on. `f` must not switch green threads.
pub fn systemstack<R>(f: impl FnOnce() -> R) -> R {
    struct Call<F, R> {
        f: Option<F>,
        result: Option<R>,
    }
    // `extern "C"`: a panic that reaches it aborts.
    extern "C" fn call<F: FnOnce() -> R, R>(call: *mut u8) {
        // SAFETY: `call` is the local below, on a stack that does not move while it waits for this function.
        let call = unsafe { &mut *call.cast::<Call<F, R>>() };
        call.result = call.f.take().map(|f| f());
    }
    fn entry<F: FnOnce() -> R, R>(_: &Call<F, R>) -> extern "C" fn(*mut u8) {
        call::<F, R>
    }
    if crate::on_system_stack() {
        return f();
    }
    let mut c = Call { f: Some(f), result: None };
    // SAFETY: this is a green thread, by the test above; `call` neither unwinds nor switches.
    unsafe { on_g0((&raw mut c).cast(), entry(&c)) };
    match c.result {
        Some(r) => r,
        // `call` set the result or aborted.
        None => unreachable!(),
    }
}

/// Calls `f(arg)` on g0's stack, below the scheduler loop's frame, with `g` and the live guard set for g0.
///
/// ```text
///   green stack: ... caller, return address, rbp ◄─ rbp (CFA = rbp + 16), rbx, g
///   g0's stack:  ... scheduler loop | f ...
/// ```
///
/// # Safety
///
/// Runs on a green thread. `f` must not unwind or switch.
#[unsafe(naked)]
unsafe extern "C" fn on_g0(arg: *mut u8, f: extern "C" fn(*mut u8)) {
    naked_asm!(
        ".cfi_startproc",
        "push rbp",
        ".cfi_adjust_cfa_offset 8",
        ".cfi_offset rbp, -16",
        "mov rbp, rsp",
        ".cfi_def_cfa_register rbp",
        "push rbx",
        ".cfi_offset rbx, -24",
        "sub rsp, 8",
        "mov rax, qword ptr [rip + morestack_g@GOTTPOFF]",
        "mov rbx, qword ptr fs:[rax]",
        "mov rcx, qword ptr [rbx + {M}]",
        "mov rcx, qword ptr [rcx + {G0}]",
        push_side!("rcx", "rdx", "r11"),
        "mov rdx, qword ptr [rcx + {GUARD0}]",
        "mov qword ptr fs:[rax], rcx",
        "mov qword ptr fs:[0x70], rdx",
        "mov rsp, qword ptr [rcx + {SP}]",
        "sub rsp, 128", // the loop's frame ends at its saved rsp; stay clear of it as of a red zone
        "and rsp, -16",
        "call rsi",
        pop_side!("rdx", "r11"),
        "mov rax, qword ptr [rip + morestack_g@GOTTPOFF]",
        "mov qword ptr fs:[rax], rbx",
        "mov rdx, qword ptr [rbx + {GUARD0}]",
        "mov qword ptr fs:[0x70], rdx",
        "lea rsp, [rbp - 8]",
        "pop rbx",
        "pop rbp",
        ".cfi_def_cfa rsp, 8",
        "ret",
        ".cfi_endproc",
        M = const G_M, G0 = const M_G0, GUARD0 = const G_GUARD0, SP = const G_SP,
    )
}

/// Calls `f(arg)` at the top of another stack, `hi`, and comes back. `g` and the guard are the caller's to change.
///
/// ```text
///   this stack:   ... caller, return address, rbp ◄─ rbp (CFA = rbp + 16)
///   other stack:  hi | f ...
/// ```
///
/// # Safety
///
/// Nobody else uses the other stack, which ends at `hi`, a multiple of 16. This one stays where it is until `f` has
/// returned. Between this call and the change of the guard there is no check. `f` must not unwind.
#[unsafe(naked)]
pub unsafe extern "C" fn on_stack(arg: *mut u8, f: extern "C" fn(*mut u8), hi: usize) {
    naked_asm!(
        ".cfi_startproc",
        "push rbp",
        ".cfi_adjust_cfa_offset 8",
        ".cfi_offset rbp, -16",
        "mov rbp, rsp",
        ".cfi_def_cfa_register rbp",
        "mov rsp, rdx",
        "call rsi",
        "mov rsp, rbp",
        ".cfi_def_cfa_register rsp",
        "pop rbp",
        ".cfi_adjust_cfa_offset -8",
        ".cfi_restore rbp",
        "ret",
        ".cfi_endproc",
    )
}

impl Gobuf {
    /// A context that, when first resumed, calls `entry(g)` at the top of `stack`.
    ///
    /// The top 16 bytes stay zero: a return address and a frame pointer of 0, for tools that walk by frame pointers.
    ///
    /// # Safety
    ///
    /// `stack` is writable and nobody else uses it. `entry` must not return.
    pub unsafe fn new(stack: Stack, entry: unsafe extern "C" fn(*mut GHead) -> !) -> Gobuf {
        let sp = stack.hi - 16;
        // SAFETY: the caller owns the stack; stacks end at page boundaries, so the words are aligned.
        unsafe { (sp as *mut [usize; 2]).write([0, 0]) };
        Gobuf { sp, pc: gostart as *const () as usize, bx: entry as *const () as usize, ..Gobuf::EMPTY }
    }
}

/// Whether this function is that of the outermost frame of a green thread.
pub fn is_start(function: usize) -> bool {
    function == gostart as *const () as usize
}

/// The outermost frame of a green thread: entered by `gogo` with `rdi` = g and `rbx` = the entry function.
#[unsafe(naked)]
unsafe extern "C" fn gostart() {
    naked_asm!(".cfi_startproc", ".cfi_undefined rip", "xor ebp, ebp", "call rbx", "ud2", ".cfi_endproc",)
}
