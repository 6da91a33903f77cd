//! S1: the bounds of a stack are exactly `[lo, hi)`, sizes are powers of two, and what lies below faults.

mod common;

use std::os::unix::process::ExitStatusExt;

use common::{PAGE, child, is_child, peek, poke, serial};
use morestack_stacks::{FIXED_STACK, MAX_STACK, Stack, guard_of, round_stack_size, stackalloc, stackfree};

fn sizes() -> impl Iterator<Item = usize> {
    (0..).map(|i| FIXED_STACK << i).take_while(|size| *size <= MAX_STACK)
}

#[test]
fn every_size_is_exact_and_usable_to_its_bounds() {
    let _one = serial();
    for size in sizes() {
        let stack = stackalloc(None, size).unwrap();
        assert_eq!((stack.size(), stack.lo % PAGE), (size, 0));
        if size >= 2 << 20 {
            assert_eq!(stack.hi % (2 << 20), 0, "the used end starts with a whole huge page");
        }
        for addr in [stack.lo, stack.hi - 8] {
            poke(addr, addr);
            assert_eq!(peek(addr), addr);
        }
        // SAFETY: nothing runs on it.
        unsafe { stackfree(None, stack) };
    }
}

#[test]
fn stacks_and_guards_do_not_overlap() {
    let _one = serial();
    let mut stacks: Vec<Stack> = (0..300).map(|i| stackalloc(None, FIXED_STACK << (i % 6)).unwrap()).collect();
    stacks.sort_by_key(|stack| stack.lo);
    for pair in stacks.windows(2) {
        assert!(pair[0].hi <= guard_of(pair[1]).start, "{pair:x?}");
    }
    // SAFETY: nothing runs on them.
    stacks.into_iter().for_each(|stack| unsafe { stackfree(None, stack) });
}

#[test]
fn below_every_size_is_a_page_that_faults() {
    if is_child() {
        let size = std::env::var("SIZE").unwrap().parse().unwrap();
        let at: usize = std::env::var("AT").unwrap().parse().unwrap();
        let stack = stackalloc(None, size).unwrap();
        assert!(guard_of(stack).contains(&(stack.lo - at)));
        poke(stack.lo, 1);
        poke(stack.lo - at, 1);
        return;
    }
    for debug in ["", "mprotect", "fromsystem"] {
        for size in [FIXED_STACK, 8 * FIXED_STACK, 1 << 20, 8 << 20].map(|size| size.to_string()) {
            for at in ["8", "4096"] {
                let environment = [("SIZE", size.as_str()), ("AT", at), ("MORESTACK_STACK_DEBUG", debug)];
                let output = child("below_every_size_is_a_page_that_faults", &environment);
                assert_eq!(output.status.signal(), Some(libc::SIGSEGV), "{environment:?}: {output:?}");
            }
        }
    }
}

#[test]
fn sizes_round_up_to_a_class() {
    assert_eq!(
        [0, 1, FIXED_STACK, FIXED_STACK + 1, 3 << 20].map(round_stack_size),
        [FIXED_STACK, FIXED_STACK, FIXED_STACK, 2 * FIXED_STACK, 4 << 20]
    );
}
