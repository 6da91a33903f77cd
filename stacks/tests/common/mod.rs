//! What the row tests share: one at a time, child processes, and green threads that only exist as memory.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::env;
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};

use morestack_asm::{GHead, STACK_GUARD};
use morestack_stacks::{Moved, StackCache, stackalloc, stackfree};

pub const PAGE: usize = 4096;
pub const WHY: Moved = Moved { goid: 7, pc: 0x1234 };

/// The allocator is the process's and so are its counters: tests that look at them run one at a time.
pub fn serial() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

const ROLE: &str = "MORESTACK_STACKS_TEST_CHILD";

/// Runs one test of this binary again, in a process of its own, with this environment. In there [`is_child`] is true.
pub fn child(test: &str, environment: &[(&str, &str)]) -> Output {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env_remove("MORESTACK_EFENCE")
        .env_remove("MORESTACK_STACK_DEBUG")
        .env(ROLE, "1")
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

/// As [`child`], and it must succeed. Returns what it wrote, both streams.
pub fn child_ok(test: &str, environment: &[(&str, &str)]) -> String {
    let output = child(test, environment);
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "{test} {environment:?}: {}\n{text}", output.status);
    text
}

pub fn is_child() -> bool {
    env::var_os(ROLE).is_some()
}

/// Lowers a resource limit of this process.
pub fn limit(resource: libc::__rlimit_resource_t, bytes: u64) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: `limit` is a live rlimit.
    assert_eq!(unsafe { libc::setrlimit(resource, &limit) }, 0);
}

/// Which pages of `[lo, hi)` are memory; `None` where the range is not mapped.
pub fn resident(lo: usize, hi: usize) -> Option<Vec<bool>> {
    let mut pages = vec![0_u8; (hi - lo) / PAGE];
    // SAFETY: one byte for each page of the range.
    let answer = unsafe { libc::mincore(lo as *mut _, hi - lo, pages.as_mut_ptr()) };
    (answer == 0).then(|| pages.iter().map(|page| page & 1 != 0).collect())
}

/// A green thread that does not run: a head, and a stack with these words at its top.
pub fn green(cache: Option<&mut StackCache>, size: usize, words: &[usize]) -> GHead {
    let mut g = GHead::new();
    g.stack = stackalloc(cache, size).unwrap();
    g.stackguard0 = g.stack.lo + STACK_GUARD;
    g.sched.sp = g.stack.hi - size_of_val(words);
    for (i, word) in words.iter().enumerate() {
        poke(g.sched.sp + 8 * i, *word);
    }
    g
}

/// Frees what [`green`] made.
pub fn done(cache: Option<&mut StackCache>, g: GHead) {
    // SAFETY: the green thread only existed as memory.
    unsafe { stackfree(cache, g.stack) };
}

/// Writes a word of a stack that the test owns.
pub fn poke(addr: usize, word: usize) {
    // SAFETY: tests call this with addresses of their own stacks, 8-aligned.
    unsafe { (addr as *mut usize).write(word) };
}

/// Reads one.
pub fn peek(addr: usize) -> usize {
    // SAFETY: as in `poke`.
    unsafe { (addr as *const usize).read_volatile() }
}

/// Whether the byte at `addr` can be read: a fault that does not kill.
pub fn readable(addr: usize) -> bool {
    let mut pipe = [0; 2];
    // SAFETY: plain system calls; `write` answers EFAULT where the byte cannot be read.
    unsafe {
        assert_eq!(libc::pipe(pipe.as_mut_ptr()), 0);
        let written = libc::write(pipe[1], addr as *const _, 1);
        libc::close(pipe[0]);
        libc::close(pipe[1]);
        written == 1
    }
}
