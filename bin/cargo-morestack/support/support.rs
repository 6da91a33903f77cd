//! Linked into every program and shared library that `cargo morestack` builds.
//!
//! `__morestack` for one without the scheduler: its threads have a guard of 0, below every stack pointer, so no check fails there.
//! One that fails all the same runs on a green thread of somebody else's, in another library of the process: it goes on. That
//! stack has room for code without checks, and a guard page.
//!
//! Entered by a call from a function's prologue; the byte behind the call is a `ret`, and the function goes on behind that.

#![no_std]

core::arch::global_asm!(
    ".pushsection .text.__morestack,\"ax\",@progbits",
    ".weak __morestack",
    ".type __morestack,@function",
    "__morestack:",
    ".cfi_startproc",
    // The caller is the function's caller: it has no frame yet.
    ".cfi_def_cfa rsp, 16",
    "pop r11",
    ".cfi_def_cfa rsp, 8",
    "inc r11",
    "jmp r11",
    ".cfi_endproc",
    ".size __morestack, . - __morestack",
    ".popsection",
);
