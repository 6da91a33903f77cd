//! Linked into every program and shared library that `cargo morestack` builds.
//!
//! A constructor tells the scheduler, if there is one in the process, which functions of this image are marked, and a destructor
//! takes it back.
//!
//! `__morestack` for an image without the scheduler: its threads have a guard of 0, below every stack pointer, so no check fails
//! there. One that fails all the same runs on a green thread of somebody else's, in another image of the process: it goes on. That
//! stack has room for code without checks, and a guard page. It is entered by a call from a function's prologue; the byte behind the
//! call is a `ret`, and the function goes on behind that.

#![no_std]

core::arch::global_asm!(
    ".pushsection .text.__morestack,\"ax\",@progbits",
    ".weak __morestack",
    ".type __morestack,@function",
    "__morestack:",
    ".cfi_startproc",
    // The caller is the function's caller: the function has no frame yet.
    ".cfi_def_cfa rsp, 16",
    "pop r11",
    ".cfi_def_cfa rsp, 8",
    "inc r11",
    "jmp r11",
    ".cfi_endproc",
    ".size __morestack, . - __morestack",
    ".popsection",
    //
    // The linker makes these two where the section exists; else they are 0, as the scheduler's functions are where it is not.
    ".weak __start___patchable_function_entries",
    ".hidden __start___patchable_function_entries",
    ".weak __stop___patchable_function_entries",
    ".hidden __stop___patchable_function_entries",
    ".weak morestack_register_image",
    ".weak morestack_unregister_image",
    ".pushsection .text.morestack_image,\"ax\",@progbits",
    ".type morestack_image_begins,@function",
    "morestack_image_begins:",
    ".cfi_startproc",
    "mov rax, qword ptr [rip + morestack_register_image@GOTPCREL]",
    "mov rdi, qword ptr [rip + __start___patchable_function_entries@GOTPCREL]",
    "mov rsi, qword ptr [rip + __stop___patchable_function_entries@GOTPCREL]",
    "test rax, rax",
    "jz 2f",
    "jmp rax",
    "2:",
    "ret",
    ".cfi_endproc",
    ".size morestack_image_begins, . - morestack_image_begins",
    ".type morestack_image_ends,@function",
    "morestack_image_ends:",
    ".cfi_startproc",
    "mov rax, qword ptr [rip + morestack_unregister_image@GOTPCREL]",
    "mov rdi, qword ptr [rip + __start___patchable_function_entries@GOTPCREL]",
    "test rax, rax",
    "jz 2f",
    "jmp rax",
    "2:",
    "ret",
    ".cfi_endproc",
    ".size morestack_image_ends, . - morestack_image_ends",
    ".popsection",
    ".pushsection .init_array,\"aw\"",
    ".balign 8",
    ".quad morestack_image_begins",
    ".popsection",
    ".pushsection .fini_array,\"aw\"",
    ".balign 8",
    ".quad morestack_image_ends",
    ".popsection",
);
