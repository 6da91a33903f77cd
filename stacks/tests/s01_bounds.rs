//! S1: the bounds of a stack are exactly `[lo, hi)`, sizes are powers of two, and what lies below faults.

mod common;

use std::fs;
use std::os::unix::process::ExitStatusExt;

use common::{PAGE, child, child_ok, is_child, peek, poke, serial};
use morestack_stacks::{
    FIXED_STACK, MAX_STACK, Shortage, Stack, guard_of, round_stack_size, stackalloc, stackfree, stats,
};

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

/// Whether the kernel can read the byte at `addr`: a fault that does not kill.
fn readable(pipe: [i32; 2], addr: usize) -> bool {
    let mut byte = 0_u8;
    // SAFETY: plain system calls; `write` answers EFAULT where the byte cannot be read. What it wrote is read again, so
    // the pipe never fills.
    unsafe { libc::write(pipe[1], addr as *const _, 1) == 1 && libc::read(pipe[0], (&raw mut byte).cast(), 1) == 1 }
}

/// On a kernel without `MADV_GUARD_INSTALL` the guards run out, and the stacks with them.
#[test]
fn no_guard_no_stack() {
    let _one = serial();
    let max_map_count: usize = fs::read_to_string("/proc/sys/vm/max_map_count").unwrap().trim().parse().unwrap();
    // The default is 65530 and some systems have 2^20. Beyond, the test would take all memory for mappings.
    if max_map_count > 1 << 20 {
        return;
    }
    if !is_child() {
        child_ok("no_guard_no_stack", &[("MORESTACK_STACK_DEBUG", "mprotect")]);
        return;
    }
    let expect_no_guard = |size: usize| {
        let before = stats();
        let error = stackalloc(None, size).unwrap_err();
        assert!(
            matches!(error.shortage(), Shortage::NoGuard { taken, max_map_count: all, source: None }
                if *taken == max_map_count / 4 * 2 && *all == max_map_count),
            "{error:?}"
        );
        assert!(error.to_string().contains(&format!("vm.max_map_count={max_map_count}")), "{error}");
        assert_eq!(stats(), before, "nothing has changed");
    };
    let free = |stack: Stack| {
        // SAFETY: nothing runs on it.
        unsafe { stackfree(None, stack) }
    };
    let mut pipe = [0; 2];
    // SAFETY: `pipe` is room for two descriptors.
    assert_eq!(unsafe { libc::pipe(pipe.as_mut_ptr()) }, 0);

    // Of 2 MiB and more: it makes the second of the two reservations, so that no failure below does.
    let large = stackalloc(None, 8 << 20).unwrap();
    let mut stacks: Vec<_> = (1..max_map_count / 4).map(|_| stackalloc(None, FIXED_STACK).unwrap()).collect();
    for stack in stacks.iter().chain([&large]) {
        assert_eq!([stack.lo - PAGE, stack.lo - 1, stack.lo].map(|addr| readable(pipe, addr)), [false, false, true]);
    }
    for size in [FIXED_STACK, 8 * FIXED_STACK, 1 << 20, 8 << 20] {
        expect_no_guard(size);
    }

    // A freed stack has its guard, and a freed large one gives its guard to a small one.
    let freed = stacks.pop().unwrap();
    free(freed);
    assert_eq!(stackalloc(None, FIXED_STACK).unwrap(), freed);
    stacks.push(freed);
    free(large);
    stacks.push(stackalloc(None, FIXED_STACK).unwrap());
    expect_no_guard(8 << 20);

    stacks.drain(..).for_each(free);
    for size in [1 << 20, 8 << 20, 8 * FIXED_STACK, FIXED_STACK] {
        stacks.push(stackalloc(None, size).unwrap());
    }
    stacks.drain(..).for_each(free);
}

#[test]
fn sizes_round_up_to_a_class() {
    assert_eq!(
        [0, 1, FIXED_STACK, FIXED_STACK + 1, 3 << 20].map(round_stack_size),
        [FIXED_STACK, FIXED_STACK, FIXED_STACK, 2 * FIXED_STACK, 4 << 20]
    );
}
