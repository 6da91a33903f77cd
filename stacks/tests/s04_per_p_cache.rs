//! S4: the per-P cache gives and takes stacks without the pool.

mod common;

use std::thread;

use common::serial;
use morestack_stacks::{FIXED_STACK, NUM_STACK_ORDERS, StackCache, stackalloc, stackfree, stats};

#[test]
fn hits_do_not_reach_the_pool() {
    let _one = serial();
    let mut cache = StackCache::new();
    for order in 0..NUM_STACK_ORDERS {
        let size = FIXED_STACK << order;
        let first = stackalloc(Some(&mut cache), size).unwrap();
        let before = stats();
        for _ in 0..1000 {
            let stack = stackalloc(Some(&mut cache), size).unwrap();
            assert_ne!(stack, first);
            // SAFETY: nothing runs on it.
            unsafe { stackfree(Some(&mut cache), stack) };
        }
        let after = stats();
        assert_eq!((after.refills, after.releases), (before.refills, before.releases));
        // SAFETY: nothing runs on it.
        unsafe { stackfree(Some(&mut cache), first) };
    }
}

#[test]
fn the_warmest_stack_comes_first() {
    let _one = serial();
    let mut cache = StackCache::new();
    let stacks: Vec<_> = (0..5).map(|_| stackalloc(Some(&mut cache), FIXED_STACK).unwrap()).collect();
    // SAFETY: nothing runs on them.
    stacks.iter().for_each(|stack| unsafe { stackfree(Some(&mut cache), *stack) });
    let again: Vec<_> = (0..5).map(|_| stackalloc(Some(&mut cache), FIXED_STACK).unwrap()).collect();
    assert_eq!(again, stacks.iter().rev().copied().collect::<Vec<_>>());
    // SAFETY: nothing runs on them.
    again.iter().for_each(|stack| unsafe { stackfree(Some(&mut cache), *stack) });
}

#[test]
fn orders_do_not_mix() {
    let _one = serial();
    let mut cache = StackCache::new();
    let small = stackalloc(Some(&mut cache), FIXED_STACK).unwrap();
    // SAFETY: nothing runs on it.
    unsafe { stackfree(Some(&mut cache), small) };
    let larger = stackalloc(Some(&mut cache), 2 * FIXED_STACK).unwrap();
    assert_eq!(larger.size(), 2 * FIXED_STACK);
    assert!(!larger.contains(small.lo));
    // SAFETY: nothing runs on it.
    unsafe { stackfree(Some(&mut cache), larger) };
}

#[test]
fn a_cache_may_change_its_thread() {
    let _one = serial();
    let mut cache = StackCache::new();
    let stack = stackalloc(Some(&mut cache), FIXED_STACK).unwrap();
    let cache = thread::spawn(move || {
        // SAFETY: nothing runs on it.
        unsafe { stackfree(Some(&mut cache), stack) };
        cache
    });
    let mut cache = cache.join().unwrap();
    assert_eq!(stackalloc(Some(&mut cache), FIXED_STACK).unwrap(), stack);
    // SAFETY: nothing runs on it.
    unsafe { stackfree(Some(&mut cache), stack) };
}
