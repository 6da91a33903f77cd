//! Segments: running a function on another stack than its caller's, where that cannot grow.
//!
//! A frame that must not move keeps everything where it is that lies above it; and a side stack lasts only so deep. What is called
//! next runs on a *segment* then: a stack of its own, which can be moved by itself as long as all of its own frames can, and a side
//! stack of its own.
//!
//! ```text
//!      stack below                            segment
//!   hi ┌──────────────────────────┐        hi ┌──────────────────────┐
//!      │ ...                      │           │ Link: bp, pc, sp,    │
//!      │ a frame that must not    │    ┌──────┼─── below, fixed, ... │ ◄─ rbp while f runs
//!      │ move                     │ ◄─ fixed  ├──────────────────────┤
//!      │ f's caller               │    │      │ f's arguments, if    │
//!      │ return address into it   │    │      │ there are any        │
//!      │ return address into f    │ ◄──┘      │ return address: back │
//!   lo └──────────────────────────┘           │ f's frame            │ ◄─ rsp
//!                                          lo └──────────────────────┘
//! ```
//!
//! # The call
//!
//! f's prologue found no room and called `__morestack`. If a spare segment is there that has room, and the frame at `fixed` is still
//! there (`rsp` is below), it is taken at once, in some forty instructions; otherwise the slow path asks `newstack`, which may put
//! one there and come back. f's body is called on it, at the address behind the `ret` that follows the call of `__morestack`.
//! Arguments on the stack are copied. No register is changed that f or its caller could look at: xmm15 is neither an argument nor kept.
//!
//! When f returns the segment becomes spare again, and the `ret` in f returns to the caller: as many returns as calls, so the
//! processor predicts them.
//!
//! # Whose stack it is meanwhile
//!
//! The head names the segment as the stack. `below`, its guard, its side pointer and its `fixed` are in the link. All this changes by the
//! running green thread itself, in code where nothing else looks at it. A signal handler may come in between, and have a check that
//! fails. Until `fixed` is 0 it takes the same segment, and leaves it and the head as they were; from then on, and where `rsp` is outside
//! of the bounds, it goes the slow way, where handlers go on. A segment that is moved has its link at its new top; `rbp` is relocated
//! with the frames, so it is found again.
//!
//! # The guard
//!
//! It is that of the stack that comes next. On the way out a request for preemption that is there already is left alone: in a loop
//! that calls across the boundary it would be overwritten each time.
//!
//! # Unwinding
//!
//! The frame of the call is found by `rbp`; its caller's is on the stack below, at `sp`. The caller is f's caller, at the call of f. A
//! landing pad gives the segment back when an exception passes.

/// Whether this function is that of the frame which calls on a segment. In a build without side stacks there is none.
pub fn is_segment_call(function: usize) -> bool {
    #[cfg(morestack_side_stacks)]
    let is = function == call::__morestack as *const () as usize;
    #[cfg(not(morestack_side_stacks))]
    let is = function == usize::MAX;
    is
}

#[cfg(morestack_side_stacks)]
mod call {
    use core::arch::naked_asm;

    use crate::layout::{G_BOUNDS, G_GUARD0, G_LO, link};
    use crate::prologue::STACK_PREEMPT;

    /// The end of a segment's use: rbp is its link, and r10, r11, rsi, rdi and xmm15 are free. rsp is on the stack below afterwards.
    macro_rules! leave {
        () => {
            concat!(
                "mov rsi, qword ptr [rip + morestack_g@GOTTPOFF]\n",
                "mov rsi, qword ptr fs:[rsi]\n",
                "movups xmm15, xmmword ptr [rbp + {BELOW}]\n",
                "movups xmmword ptr [rsi + {STACK}], xmm15\n",
                "movups xmm15, xmmword ptr [rbp + {BELOW_BOUNDS}]\n",
                "movups xmmword ptr [rsi + {G_BOUNDS}], xmm15\n",
                "mov rdi, qword ptr [rsi + {SPARE}]\n",
                "mov r11, qword ptr [rbp + {BELOW_GUARD}]\n",
                "mov qword ptr [rsi + {GUARD0}], r11\n",
                "mov qword ptr [rbp + {NEXT}], rdi\n",
                "mov qword ptr [rsi + {SPARE}], rbp\n",
                "mov rdi, qword ptr [rip + __safestack_unsafe_stack_ptr@GOTTPOFF]\n",
                "mov rsi, qword ptr [rbp + {BELOW_SIDE}]\n",
                "mov qword ptr fs:[rdi], rsi\n",
                "cmp qword ptr fs:[0x70], {PREEMPT}\n",
                "je 3f\n",
                "mov qword ptr fs:[0x70], r11\n",
                "3:\n",
                "mov rsp, qword ptr [rbp + {SP}]\n",
            )
        };
    }

    /// What the check of a split-stack prologue calls. See the module header and [`crate::split`].
    ///
    /// # Safety
    ///
    /// Not to be called but by a split-stack prologue.
    #[unsafe(no_mangle)]
    #[unsafe(naked)]
    pub(super) unsafe extern "C" fn __morestack() {
        naked_asm!(
            ".cfi_startproc",
            ".cfi_personality 0x9b, morestack_personality",
            ".cfi_lsda 0x1b, .Lmorestack_lsda",
            "80:",
            ".cfi_def_cfa rsp, 16",
            "push rax",
            ".cfi_adjust_cfa_offset 8",
            "push rcx",
            ".cfi_adjust_cfa_offset 8",
            "mov rcx, qword ptr [rip + morestack_g@GOTTPOFF]",
            "mov rcx, qword ptr fs:[rcx]",
            "test rcx, rcx",
            "jz 2f",
            "cmp qword ptr fs:[0x70], {PREEMPT}",
            "je 2f",
            "cmp rsp, qword ptr [rcx + {LO}]",
            "jb 2f",
            "cmp rsp, qword ptr [rcx + {G_FIXED}]",
            "jae 2f",
            "mov rax, qword ptr [rcx + {SPARE}]",
            "test rax, rax",
            "jz 2f",
            "lea r10, [r10 + r11]",
            "cmp r10, qword ptr [rax + {ROOM}]",
            "jbe 4f",
            "sub r10, r11",
            "2:",
            "pop rcx",
            ".cfi_adjust_cfa_offset -8",
            "pop rax",
            ".cfi_adjust_cfa_offset -8",
            "jmp morestack_split",
            //
            // The slow path has put a segment ready: rcx is the head, rax the segment, both pushed before.
            ".globl morestack_on_segment",
            ".hidden morestack_on_segment",
            "morestack_on_segment:",
            "push rax",
            ".cfi_adjust_cfa_offset 8",
            "push rcx",
            ".cfi_adjust_cfa_offset 8",
            "mov rcx, qword ptr [rip + morestack_g@GOTTPOFF]",
            "mov rcx, qword ptr fs:[rcx]",
            "mov rax, qword ptr [rcx + {SPARE}]",
            "4:",
            "mov r10, qword ptr [rax + {NEXT}]",
            "mov qword ptr [rcx + {SPARE}], r10",
            "movups xmm15, xmmword ptr [rcx + {STACK}]",
            "movups xmmword ptr [rax + {BELOW}], xmm15",
            "movups xmm15, xmmword ptr [rcx + {G_BOUNDS}]",
            "movups xmmword ptr [rax + {BELOW_BOUNDS}], xmm15",
            // No frame is known here: from here on a signal handler's checks do not come this way.
            "movups xmm15, xmmword ptr [rax + {BOUNDS}]",
            "movups xmmword ptr [rcx + {G_BOUNDS}], xmm15",
            "mov r10, qword ptr [rsp + 24]",
            "mov qword ptr [rax + {PC}], r10",
            "mov qword ptr [rax + {BP}], rbp",
            "lea r10, [rsp + 16]",
            "mov qword ptr [rax + {SP}], r10",
            "movups xmm15, xmmword ptr [rax + {SEGMENT}]",
            "movups xmmword ptr [rcx + {STACK}], xmm15",
            "mov r10, qword ptr [rax + {LINK_GUARD}]",
            "mov qword ptr [rcx + {GUARD0}], r10",
            "cmp qword ptr fs:[0x70], {PREEMPT}",
            "je 5f",
            "mov qword ptr fs:[0x70], r10",
            "5:",
            "mov rcx, qword ptr [rip + __safestack_unsafe_stack_ptr@GOTTPOFF]",
            "mov r10, qword ptr fs:[rcx]",
            "mov qword ptr [rax + {BELOW_SIDE}], r10",
            "mov r10, qword ptr [rax + {SIDE_HI}]",
            "mov qword ptr fs:[rcx], r10",
            "mov rcx, qword ptr [rsp]",
            "mov r10, qword ptr [rsp + 8]", // rax, for later
            "mov rbp, rax",
            // The CFA: what the link has of the stack below, and two return addresses. rbp: in the link.
            ".cfi_remember_state",
            ".cfi_escape 0x0f, 0x05, 0x76, 0x10, 0x06, 0x23, 0x10", // breg6 16, deref, plus_uconst 16
            ".cfi_escape 0x10, 0x06, 0x02, 0x76, 0x00", // rbp is at breg6 0
            "test r11, r11",
            "jnz 6f",
            "mov rsp, rax",
            "mov rax, r10",
            "7:",
            "mov r11, qword ptr [rbp + {SP}]",
            "mov r11, qword ptr [r11]",
            "inc r11",
            "81:",
            "call r11",
            "82:",
            leave!(),
            "mov rbp, qword ptr [rbp + {BP}]",
            ".cfi_restore_state",
            ".cfi_remember_state",
            ".cfi_def_cfa rsp, 16",
            "ret",
            ".cfi_restore_state",
            ".cfi_remember_state",
            ".cfi_escape 0x0f, 0x05, 0x76, 0x10, 0x06, 0x23, 0x10",
            ".cfi_escape 0x10, 0x06, 0x02, 0x76, 0x00",
            // Arguments on the stack: r11 bytes, a multiple of 8, behind the two return addresses.
            "6:",
            "push rsi",
            "push rdi",
            "push rcx",
            "mov rcx, r11",
            "add r11, 15",
            "and r11, -16",
            "mov rdi, rax",
            "sub rdi, r11",
            "mov rax, r10",
            "mov r10, rdi",
            "mov rsi, qword ptr [rbp + {SP}]",
            "add rsi, 16",
            "shr rcx, 3",
            "rep movsq",
            "pop rcx",
            "pop rdi",
            "pop rsi",
            "mov rsp, r10",
            "jmp 7b",
            ".cfi_restore_state",
            //
            // An exception passes: rax is it.
            "83:",
            ".cfi_escape 0x0f, 0x05, 0x76, 0x10, 0x06, 0x23, 0x10",
            ".cfi_escape 0x10, 0x06, 0x02, 0x76, 0x00",
            leave!(),
            "mov rbp, qword ptr [rbp + {BP}]",
            ".cfi_def_cfa rsp, 16",
            ".cfi_restore rbp",
            "mov rdi, rax",
            "84:",
            "call {resume}",
            "85:",
            "ud2",
            ".cfi_endproc",
            //
            // Where it may pass: through the first call, by way of the landing pad; and through the second.
            ".pushsection .gcc_except_table.morestack,\"a\",@progbits",
            ".balign 4",
            ".Lmorestack_lsda:",
            ".byte 0xff", // no other base for landing pads
            ".byte 0xff", // no types
            ".byte 0x01", // uleb128
            ".uleb128 92f - 91f",
            "91:",
            ".uleb128 81b - 80b",
            ".uleb128 82b - 81b",
            ".uleb128 83b - 80b",
            ".uleb128 0",
            ".uleb128 84b - 80b",
            ".uleb128 85b - 84b",
            ".uleb128 0",
            ".uleb128 0",
            "92:",
            ".popsection",
            ".pushsection .data.rel.local.morestack,\"aw\",@progbits",
            ".balign 8",
            "morestack_personality:",
            ".quad rust_eh_personality",
            ".popsection",
            LO = const G_LO, STACK = const G_LO, GUARD0 = const G_GUARD0, SPARE = const link::G_SPARE,
            G_BOUNDS = const G_BOUNDS, G_FIXED = const link::G_FIXED, BP = const link::BP, PC = const link::PC,
            SP = const link::SP, BELOW = const link::BELOW, BELOW_BOUNDS = const link::BELOW_BOUNDS,
            BELOW_GUARD = const link::BELOW_GUARD, BELOW_SIDE = const link::BELOW_SIDE,
            SEGMENT = const link::SEGMENT, BOUNDS = const link::BOUNDS, LINK_GUARD = const link::GUARD,
            SIDE_HI = const link::SIDE_HI, ROOM = const link::ROOM, NEXT = const link::NEXT,
            PREEMPT = const STACK_PREEMPT as isize,
            resume = sym _Unwind_Resume,
        )
    }

    unsafe extern "C-unwind" {
        fn _Unwind_Resume(exception: *mut u8) -> !;
    }

    const _: () = {
        // What the CFI has as numbers.
        assert!(link::SP == 16 && link::BP == 0);
    };
}
