//! S6: the pool carves spans, serves every thread, and and gives spans that stay all free back to the arena.

mod common;

use std::sync::Mutex;
use std::thread;

use common::{peek, poke, serial};
use morestack_stacks::{FIXED_STACK, NUM_STACK_ORDERS, Stack, StackCache, stackalloc, stackfree, stats, sweep};

const SPAN: usize = 4 << 20;

/// What is free, and stays so.
fn sweep_twice() {
    sweep();
    sweep();
}

#[test]
fn all_free_spans_go_back() {
    let _one = serial();
    for order in 0..NUM_STACK_ORDERS {
        let size = FIXED_STACK << order;
        sweep_twice();
        let before = stats();
        let stacks: Vec<_> = (0..(40 << 20) / size).map(|_| stackalloc(None, size).unwrap()).collect();
        let most = stats();
        assert!(most.reserved_bytes >= before.reserved_bytes + 9 * SPAN);
        assert_eq!(most.in_use[order], before.in_use[order] + stacks.len());
        assert!(most.reserved[order] >= stacks.len());
        // SAFETY: nothing runs on them.
        stacks.into_iter().for_each(|stack| unsafe { stackfree(None, stack) });
        sweep_twice();
        let after = stats();
        assert!(after.reserved_bytes <= before.reserved_bytes + SPAN, "one empty span may stay");
        assert_eq!(after.in_use[order], before.in_use[order]);
    }
}

#[test]
fn guards_go_with_their_spans() {
    let _one = serial();
    let before = stats();
    let stacks: Vec<_> = (0..1000).map(|_| stackalloc(None, FIXED_STACK).unwrap()).collect();
    assert!(stats().guards_madvise + stats().guards_mprotect >= 1000);
    // SAFETY: nothing runs on them.
    stacks.into_iter().for_each(|stack| unsafe { stackfree(None, stack) });
    sweep_twice();
    let after = stats();
    assert!(
        after.guards_madvise + after.guards_mprotect <= before.guards_madvise + before.guards_mprotect + 32,
        "{before:?} {after:?}"
    );
}

/// Each stack carries its owner's mark at both ends; stacks are freed by other threads than those that took them. Two
/// owners of one stack would see each other's marks.
#[test]
fn a_stack_has_one_owner() {
    let _one = serial();
    let before = stats();
    let shelf: Mutex<Vec<Stack>> = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for thread in 0..4_usize {
            let shelf = &shelf;
            scope.spawn(move || {
                let mut cache = StackCache::new();
                let mut seed = thread as u64 + 1;
                for round in 0..20_000 {
                    seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    let size = FIXED_STACK << (seed >> 61);
                    if seed >> 40 & 1 == 0 {
                        let stack = stackalloc((seed >> 50 & 7 != 0).then_some(&mut cache), size).unwrap();
                        let mark = thread << 32 | round;
                        poke(stack.hi - 8, mark);
                        poke(stack.hi - 16, stack.lo ^ mark);
                        shelf.lock().unwrap().push(stack);
                    } else {
                        let mut shelf = shelf.lock().unwrap();
                        if shelf.is_empty() {
                            continue;
                        }
                        let at = seed as usize % shelf.len();
                        let stack = shelf.swap_remove(at);
                        drop(shelf);
                        assert_eq!(peek(stack.hi - 16), stack.lo ^ peek(stack.hi - 8));
                        poke(stack.hi - 8, 0);
                        // SAFETY: nothing runs on it, and the shelf had it once.
                        unsafe { stackfree((seed >> 50 & 7 != 0).then_some(&mut cache), stack) };
                    }
                    if round % 1000 == 0 {
                        sweep();
                    }
                }
            });
        }
    });
    // SAFETY: nothing runs on them.
    shelf.into_inner().unwrap().into_iter().for_each(|stack| unsafe { stackfree(None, stack) });
    let after = stats();
    assert_eq!((after.in_use, after.large_in_use), (before.in_use, before.large_in_use));
    assert_eq!(after.cached, before.cached);
}
