//! S19: small stacks go to the cache, else to the pool; large ones to the list, else to the OS. What lies idle is given
//! back by sweeps.

mod common;

use common::{PAGE, poke, resident, serial};
use morestack_stacks::{FIXED_STACK, Stack, StackCache, stackalloc, stackfree, stats, sweep};

fn free(cache: Option<&mut StackCache>, stack: Stack) {
    // SAFETY: nothing runs on the stacks of these tests.
    unsafe { stackfree(cache, stack) };
}

#[test]
fn small_to_the_cache_else_to_the_pool() {
    let _one = serial();
    let mut cache = StackCache::new();
    let [a, b] = [0; 2].map(|_| stackalloc(Some(&mut cache), FIXED_STACK).unwrap());
    let before = stats();
    free(Some(&mut cache), a);
    assert_eq!(stats().cached[0], before.cached[0] + 1);
    free(None, b);
    assert_eq!(stats().cached[0], before.cached[0] + 1);
    assert_eq!(stats().in_use[0], before.in_use[0] - 2);
}

#[test]
fn large_never_to_the_cache() {
    let _one = serial();
    let mut cache = StackCache::new();
    let stack = stackalloc(Some(&mut cache), 1 << 20).unwrap();
    let before = stats();
    free(Some(&mut cache), stack);
    assert_eq!(stats().cached, before.cached);
    assert_eq!(stats().large_in_use, before.large_in_use - 1);
}

#[test]
fn above_the_limit_straight_to_the_os() {
    let _one = serial();
    let before = stats();
    let stack = stackalloc(None, 256 << 20).unwrap();
    poke(stack.hi - 8, 1);
    free(None, stack);
    assert_eq!(stats().reserved_bytes, before.reserved_bytes);
    assert_eq!(resident(stack.hi - PAGE, stack.hi), Some(vec![false]));
}

/// A span that stays in use: the memory of its free stacks goes, the stack in use keeps its own.
#[test]
fn idle_memory_of_the_pool_goes_at_the_second_sweep() {
    let _one = serial();
    let keep = stackalloc(None, FIXED_STACK).unwrap();
    let stacks: Vec<_> = (0..20).map(|_| stackalloc(None, FIXED_STACK).unwrap()).collect();
    let top = |stack: &Stack| resident(stack.hi - PAGE, stack.hi).unwrap()[0];
    stacks.iter().chain([&keep]).for_each(|stack| poke(stack.hi - 8, 1));
    stacks.iter().for_each(|stack| free(None, *stack));
    assert!(stacks.iter().all(top));
    sweep();
    assert!(stacks.iter().all(top), "it was in use a moment ago");
    assert!(sweep() >= 20 * FIXED_STACK);
    assert!(!stacks.iter().any(top));
    assert!(top(&keep));
    free(None, keep);
}
