//! S5: an empty order is refilled to half, a full one released down to half, each under one lock; clear and drop give
//! everything back.

mod common;

use common::serial;
use morestack_stacks::{FIXED_STACK, NUM_STACK_ORDERS, StackCache, stackalloc, stackfree, stats};

fn capacity(order: usize) -> usize {
    (4 << 20) / (FIXED_STACK << order)
}

#[test]
fn refill_and_release_are_halves_and_one_lock_each() {
    let _one = serial();
    for order in 0..NUM_STACK_ORDERS {
        let (size, half) = (FIXED_STACK << order, capacity(order) / 2);
        let mut cache = StackCache::new();
        let start = stats();
        let mut stacks = vec![stackalloc(Some(&mut cache), size).unwrap()];
        assert_eq!(stats().cached[order], start.cached[order] + half - 1);
        assert_eq!(stats().refills, start.refills + 1);
        while stacks.len() < half {
            stacks.push(stackalloc(Some(&mut cache), size).unwrap());
        }
        assert_eq!(stats().cached[order], start.cached[order]);
        assert_eq!(stats().refills, start.refills + 1, "one refill served them all");
        while stacks.len() < 2 * half + 1 {
            stacks.push(stackalloc(Some(&mut cache), size).unwrap());
        }
        let refills = stats().refills;
        while stats().releases == start.releases {
            // SAFETY: nothing runs on it.
            unsafe { stackfree(Some(&mut cache), stacks.pop().unwrap()) };
        }
        // The one that found it full is kept beside the half that stayed.
        assert_eq!(stats().cached[order], start.cached[order] + half + 1);
        assert_eq!((stats().refills, stats().releases), (refills, start.releases + 1));
        assert_eq!(stats().in_use[order], start.in_use[order] + stacks.len());
        // SAFETY: nothing runs on them.
        stacks.into_iter().for_each(|stack| unsafe { stackfree(Some(&mut cache), stack) });
        drop(cache);
        assert_eq!((stats().cached, stats().in_use), (start.cached, start.in_use));
    }
}

#[test]
fn clear_and_drop_give_everything_back() {
    let _one = serial();
    let start = stats();
    let mut cache = StackCache::new();
    let stacks: Vec<_> = (0..4).map(|order| stackalloc(Some(&mut cache), FIXED_STACK << order).unwrap()).collect();
    // SAFETY: nothing runs on them.
    stacks.iter().for_each(|stack| unsafe { stackfree(Some(&mut cache), *stack) });
    assert!((0..4).all(|order| stats().cached[order] > start.cached[order]));
    cache.clear();
    assert_eq!(stats().cached, start.cached);
    assert_eq!(stats().in_use, start.in_use);
    let stack = stackalloc(Some(&mut cache), FIXED_STACK).unwrap();
    // SAFETY: nothing runs on it.
    unsafe { stackfree(Some(&mut cache), stack) };
    assert!(stats().cached[0] > start.cached[0], "a cleared cache works on");
    drop(cache);
    assert_eq!((stats().cached, stats().in_use), (start.cached, start.in_use));
}
