//! S7: large stacks are kept by size, up to a limit; beyond it, and after two sweeps, they go back to the OS.

mod common;

use common::{PAGE, peek, poke, resident, serial};
use morestack_stacks::{Stack, stackalloc, stackfree, stats, sweep};

const MIB: usize = 1 << 20;
const LARGE_KEEP: usize = 64 * MIB;

fn free(stack: Stack) {
    // SAFETY: nothing runs on the stacks of these tests.
    unsafe { stackfree(None, stack) };
}

/// Nothing is kept when this returns.
fn empty() {
    sweep();
    sweep();
    assert_eq!(stats().large_kept_bytes, 0);
}

#[test]
fn a_freed_one_is_the_next_of_its_size_memory_and_all() {
    let _one = serial();
    empty();
    for size in [MIB, 2 * MIB, 16 * MIB] {
        let stack = stackalloc(None, size).unwrap();
        poke(stack.hi - 8, 42);
        free(stack);
        assert_eq!(stats().large_kept_bytes, size);
        let other = stackalloc(None, 2 * size).unwrap();
        assert_ne!(other.hi, stack.hi, "lists are by size");
        let again = stackalloc(None, size).unwrap();
        assert_eq!((again, peek(again.hi - 8)), (stack, 42));
        assert_eq!(stats().large_kept_bytes, 0);
        free(again);
        free(other);
        empty();
    }
}

#[test]
fn no_more_than_the_limit_is_kept() {
    let _one = serial();
    empty();
    let before = stats().reserved_bytes;
    let stacks: Vec<_> = (0..10).map(|_| stackalloc(None, 16 * MIB).unwrap()).collect();
    let tops: Vec<_> = stacks.iter().map(|stack| (stack.hi - PAGE, stack.hi)).collect();
    stacks.iter().for_each(|stack| poke(stack.hi - 8, 1));
    stacks.into_iter().for_each(free);
    assert_eq!(stats().large_kept_bytes, LARGE_KEEP);
    let warm = tops.iter().filter(|(lo, hi)| resident(*lo, *hi) == Some(vec![true])).count();
    assert_eq!(warm, LARGE_KEEP / (16 * MIB), "the rest went to the OS");
    free(stackalloc(None, 128 * MIB).unwrap());
    assert_eq!(stats().large_kept_bytes, LARGE_KEEP);
    empty();
    assert_eq!(stats().reserved_bytes, before);
    assert!(tops.iter().all(|(lo, hi)| resident(*lo, *hi) == Some(vec![false])));
}

#[test]
fn a_sweep_spares_what_was_wanted_since_the_last() {
    let _one = serial();
    empty();
    let pair = [0; 2].map(|_| stackalloc(None, MIB).unwrap());
    pair.into_iter().for_each(free);
    sweep();
    assert_eq!(stats().large_kept_bytes, 2 * MIB, "they are not idle for long yet");
    free(stackalloc(None, MIB).unwrap());
    assert_eq!(sweep(), MIB, "one was wanted, one was not");
    assert_eq!(stats().large_kept_bytes, MIB);
    assert_eq!(stackalloc(None, MIB).unwrap(), pair[1]);
    free(pair[1]);
    empty();
}
