//! S14, as far as stacks go: they double up to the maximum, and what cannot be had is an error that changes nothing.

mod common;

use common::{WHY, child_ok, done, green, is_child, limit, peek, serial};
use morestack_asm::STACK_GUARD;
use morestack_stacks::{FIXED_STACK, MAX_STACK, Shortage, StackCache, copystack, stackalloc, stats};

#[test]
fn a_stack_doubles_up_to_the_maximum() {
    let _one = serial();
    let mut cache = StackCache::new();
    let mut g = green(Some(&mut cache), FIXED_STACK, &[1, 2, 3]);
    let before = stats().grows;
    while g.stack.size() < MAX_STACK {
        let size = g.stack.size() * 2;
        // SAFETY: `g` is memory only.
        unsafe { copystack(Some(&mut cache), &mut g, size, WHY).unwrap() };
        assert_eq!(g.stack.size(), size);
        assert_eq!(g.stackguard0, g.stack.lo + STACK_GUARD);
        assert_eq!([24, 16, 8].map(|below| peek(g.stack.hi - below)), [1, 2, 3]);
    }
    assert_eq!(stats().grows - before, (MAX_STACK / FIXED_STACK).ilog2() as u64);
    done(Some(&mut cache), g);
}

#[test]
fn no_address_space_is_an_error_that_changes_nothing() {
    let _one = serial();
    if !is_child() {
        child_ok("no_address_space_is_an_error_that_changes_nothing", &[]);
        return;
    }
    limit(libc::RLIMIT_AS, 5 << 30);
    let mut cache = StackCache::new();
    let mut g = green(Some(&mut cache), FIXED_STACK, &[1, 2, 3]);
    (g.sched.pc, g.sched.bp, g.sched.bx) = (4, g.sched.sp, g.sched.sp + 8);
    let before = (g.stack, g.stackguard0, format!("{:?}", g.sched), stats().in_use);
    // SAFETY: `g` is memory only.
    let error = unsafe { copystack(Some(&mut cache), &mut g, 4 << 30, WHY) }.unwrap_err();
    assert_eq!(error.size(), 4 << 30);
    assert!(matches!(error.shortage(), Shortage::OutOfAddressSpace { size, .. } if *size > 4 << 30), "{error:?}");
    assert_eq!((g.stack, g.stackguard0, format!("{:?}", g.sched), stats().in_use), before);
    assert_eq!([24, 16, 8].map(|below| peek(g.stack.hi - below)), [1, 2, 3]);
    // SAFETY: as above.
    unsafe { copystack(Some(&mut cache), &mut g, 4 << 20, WHY).unwrap() };
    done(Some(&mut cache), g);
}

#[test]
fn no_room_for_the_smallest_reservation_is_an_error_each_time() {
    let _one = serial();
    if !is_child() {
        child_ok("no_room_for_the_smallest_reservation_is_an_error_each_time", &[]);
        return;
    }
    limit(libc::RLIMIT_AS, 1 << 30);
    for size in [FIXED_STACK, FIXED_STACK, 1 << 20, 8 << 20] {
        let error = stackalloc(None, size).unwrap_err();
        assert!(matches!(error.shortage(), Shortage::Os { call: "mmap", .. }), "{error:?}");
        assert!(!error.to_string().contains('\n'));
    }
}

#[test]
fn no_memory_is_an_error_and_the_exact_need_is_tried() {
    let _one = serial();
    if !is_child() {
        child_ok("no_memory_is_an_error_and_the_exact_need_is_tried", &[]);
        return;
    }
    // A limit on writable private memory, less than the chunk that is made usable at a time.
    limit(libc::RLIMIT_DATA, 40 << 20);
    let mut stacks = Vec::new();
    let error = loop {
        match stackalloc(None, 1 << 20) {
            Ok(stack) => stacks.push(stack),
            Err(error) => break error,
        }
        assert!(stacks.len() < 100);
    };
    assert!(!stacks.is_empty());
    assert!(matches!(error.shortage(), Shortage::Os { call: "mprotect", .. }), "{error:?}");
}
