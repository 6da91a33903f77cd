//! Overflows that nothing can unwind end the process and say so: of the signal stack, which never grows (S3), and of a
//! green thread's stack by code without checks. Each case runs in a process of its own.

mod common;

use std::os::unix::process::ExitStatusExt;

use common::{child, is_child};
use morestack::prologue;

/// The standard error of this very test in another process, which must abort.
fn abort_of(test: &str) -> String {
    let output = child(test);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.signal(), Some(6), "{stderr}");
    stderr
}

#[prologue]
fn forever(n: u64) -> u64 {
    let frame = std::hint::black_box([n; 32]);
    if frame[5] == u64::MAX { 0 } else { forever(n + 1) + frame[3] }
}

#[test]
fn s03_an_overflow_on_the_signal_stack_ends_the_process() {
    if !is_child() {
        let stderr = abort_of("s03_an_overflow_on_the_signal_stack_ends_the_process");
        for part in ["a signal handler overflowed the signal stack", "64.0 KiB", "'interrupted'"] {
            assert!(stderr.contains(part), "no {part} in: {stderr}");
        }
        return;
    }
    extern "C" fn handler(_: i32) {
        forever(0);
    }
    // SAFETY: the test's own handler, on the alternate stack.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_ONSTACK;
        libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut());
    }
    // SAFETY: a signal to this very thread.
    let raise = || unsafe { libc::raise(libc::SIGUSR1) };
    let _ = morestack::Builder::new().name("interrupted").spawn(raise).unwrap().join();
}

/// Recursion without a check, down to the guard page.
fn unchecked(n: u64) -> u64 {
    let frame = std::hint::black_box([n; 32]);
    if frame[5] == u64::MAX { 0 } else { unchecked(n + 1) + frame[3] }
}

#[test]
fn the_guard_page_of_a_reserved_stack_names_the_thread_and_its_limit() {
    if !is_child() {
        let stderr = abort_of("the_guard_page_of_a_reserved_stack_names_the_thread_and_its_limit");
        for part in ["'resizer'", "overflowed its stack", "128", "stack_size", "#[morestack::prologue]"] {
            assert!(stderr.contains(part), "no {part} in: {stderr}");
        }
        return;
    }
    let builder = morestack::Builder::new().name("resizer").stack(morestack::Stack::Reserved(128 << 10));
    let _ = builder.spawn(|| unchecked(0)).unwrap().join();
}

#[test]
fn the_guard_page_of_a_copying_stack_names_the_thread() {
    if !is_child() {
        let stderr = abort_of("the_guard_page_of_a_copying_stack_names_the_thread");
        for part in ["'walker'", "overflowed its stack", "without #[morestack::prologue]"] {
            assert!(stderr.contains(part), "no {part} in: {stderr}");
        }
        return;
    }
    let builder = morestack::Builder::new().name("walker").stack(morestack::Stack::Copying);
    // SAFETY: `unchecked` keeps no address of a local.
    let _ = unsafe { builder.spawn_untied(|| unchecked(0)) }.unwrap().join();
}
