//! What `cargo morestack doctor` compiles: a function whose check fails, and a `__morestack` that counts.

use std::arch::{asm, global_asm};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[unsafe(no_mangle)]
static DOCTOR_CALLS: AtomicU64 = AtomicU64::new(0);

global_asm!(
    ".globl __morestack",
    ".type __morestack,@function",
    "__morestack:",
    ".cfi_startproc",
    ".cfi_def_cfa rsp, 16",
    "inc qword ptr [rip + DOCTOR_CALLS]",
    "pop r11",
    ".cfi_def_cfa rsp, 8",
    "inc r11",
    "jmp r11",
    ".cfi_endproc",
);

fn guard() -> usize {
    let guard;
    unsafe { asm!("mov {}, fs:[0x70]", out(reg) guard, options(nostack, readonly)) };
    guard
}

fn set_guard(guard: usize) {
    unsafe { asm!("mov fs:[0x70], {}", in(reg) guard, options(nostack)) };
}

#[inline(never)]
#[unsafe(no_mangle)]
fn doctor_fib(n: u32) -> u64 {
    if n < 2 { u64::from(n) } else { doctor_fib(n - 1) + doctor_fib(n - 2) }
}

/// Prints the guard at the start, the result, and how often the check failed: without a request, and with one.
fn main() {
    let at_start = guard();
    let n = u32::try_from(std::env::args().count()).unwrap() + 9;
    // Each call is one of its own.
    let plain = doctor_fib(black_box(n));
    let without = DOCTOR_CALLS.load(Relaxed);
    set_guard(-1314_isize as usize);
    let checked = doctor_fib(black_box(n));
    set_guard(at_start);
    println!("{at_start} {plain} {without} {checked} {}", DOCTOR_CALLS.load(Relaxed) - without);
}
