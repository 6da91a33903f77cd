//! S8: on the system stack only, and sizes are powers of two within bounds.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use common::{WHY, done, green, serial};
use morestack_asm::{GHead, MHead, setg};
use morestack_stacks::{FIXED_STACK, Stack, StackCache, copystack, stackalloc, stackfree};

fn message(f: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(f)).expect_err("it must panic");
    panic.downcast_ref::<String>().cloned().unwrap_or_else(|| panic.downcast_ref::<&str>().unwrap().to_string())
}

/// Runs `f` on a thread whose running `G` is this one, as far as anybody can tell.
fn running(g: &mut GHead, f: impl FnOnce()) {
    // SAFETY: nothing switches meanwhile, and the thread has no `g` before and after.
    unsafe {
        setg(g);
        f();
        setg(ptr::null_mut());
    }
}

unsafe fn no_newstack(_: *mut GHead, _: usize) {}

#[test]
fn refused_on_a_green_thread_and_allowed_on_g0() {
    let _one = serial();
    let mut g0 = GHead::new();
    let mut m = MHead::new(no_newstack);
    m.g0 = &raw mut g0;
    let mut g = GHead::new();
    (g0.m, g.m) = (&raw mut m, &raw mut m);
    let mut cache = StackCache::new();
    let mut other = green(Some(&mut cache), FIXED_STACK, &[1]);
    let stack = other.stack;
    running(&mut g, || {
        let said = message(|| drop(stackalloc(Some(&mut cache), FIXED_STACK)));
        assert_eq!(said, "stackalloc: not on the system stack");
        // SAFETY: it panics before it does anything.
        let said = message(|| unsafe { stackfree(Some(&mut cache), stack) });
        assert_eq!(said, "stackfree: not on the system stack");
        // SAFETY: as above.
        let said = message(|| drop(unsafe { copystack(Some(&mut cache), &mut other, 2 * FIXED_STACK, WHY) }));
        assert!(said.ends_with("not on the system stack"), "{said}");
    });
    assert_eq!(other.stack, stack);
    running(&mut g0, || {
        let stack = stackalloc(Some(&mut cache), FIXED_STACK).unwrap();
        // SAFETY: nothing runs on it.
        unsafe { stackfree(Some(&mut cache), stack) };
    });
    done(Some(&mut cache), other);
}

#[test]
fn sizes_are_checked() {
    let _one = serial();
    for size in [0, 1, FIXED_STACK / 2, FIXED_STACK + 1, 3 * FIXED_STACK, usize::MAX] {
        let said = message(|| drop(stackalloc(None, size)));
        assert!(said.contains(&format!("{size} bytes")) && said.contains("a power of two"), "{said}");
        // SAFETY: it panics before it does anything.
        let said =
            message(|| unsafe { stackfree(None, Stack { lo: 1 << 30, hi: (1_usize << 30).wrapping_add(size) }) });
        assert!(said.starts_with("stackfree: "), "{said}");
    }
}

#[test]
fn what_is_no_stack_is_not_freed() {
    let _one = serial();
    let stack = stackalloc(None, FIXED_STACK).unwrap();
    for (bad, why) in [
        (Stack { lo: 1 << 30, hi: (1 << 30) + FIXED_STACK }, "is not a stack of 65536 bytes"),
        (Stack { lo: stack.lo, hi: stack.lo + 2 * FIXED_STACK }, "is not a stack of 131072 bytes"),
        (Stack { lo: stack.lo + 8, hi: stack.hi + 8 }, "is not the low bound of a stack"),
        (Stack { lo: 1 << 30, hi: (1 << 30) + (1 << 20) }, "is not a stack of 1048576 bytes"),
    ] {
        // SAFETY: it panics before it does anything.
        let said = message(|| unsafe { stackfree(None, bad) });
        assert!(said.contains(why), "{said}");
    }
    // SAFETY: nothing runs on it.
    unsafe { stackfree(None, stack) };
    // SAFETY: it panics: the stack is free already.
    let said = message(|| unsafe { stackfree(None, stack) });
    assert!(said.contains("was freed twice"), "{said}");
}

#[test]
fn more_than_an_address_space_is_an_error() {
    let _one = serial();
    for size in [1 << 45, 1 << 62, 1 << 63] {
        let line = stackalloc(None, size).unwrap_err().to_string();
        assert!(line.starts_with("no stack of "), "{line}");
    }
}
