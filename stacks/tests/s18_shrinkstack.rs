//! S18: a stack is halved when less than a quarter of it is used, guard included, and never below the smallest.

mod common;

use common::{WHY, done, green, peek, serial};
use morestack_asm::{GHead, STACK_GUARD};
use morestack_stacks::{FIXED_STACK, StackCache, shrinkstack, stats};

fn shrink(cache: &mut StackCache, g: &mut GHead) -> bool {
    // SAFETY: the green threads of these tests are memory only.
    unsafe { shrinkstack(Some(cache), g, None, WHY).unwrap() }
}

#[test]
fn exactly_below_a_quarter() {
    let _one = serial();
    let mut cache = StackCache::new();
    for size in [16, 32, 128].map(|n| n * FIXED_STACK) {
        let quarter = size / 4 - STACK_GUARD;
        for (used, shrinks) in [(quarter + 8, false), (quarter, false), (quarter - 8, true), (8, true)] {
            let mut g = green(Some(&mut cache), size, &vec![9; used / 8]);
            let before = (g.stack, stats().shrinks);
            assert_eq!(shrink(&mut cache, &mut g), shrinks, "{used} of {size}");
            if shrinks {
                assert_eq!((g.stack.size(), stats().shrinks), (size / 2, before.1 + 1));
                assert_eq!(g.stackguard0, g.stack.lo + STACK_GUARD);
            } else {
                assert_eq!((g.stack, stats().shrinks), before);
            }
            assert!((g.sched.sp..g.stack.hi).step_by(8).all(|addr| peek(addr) == 9));
            done(Some(&mut cache), g);
        }
    }
}

#[test]
fn an_idle_stack_ends_at_the_smallest_and_stays_there() {
    let _one = serial();
    let mut cache = StackCache::new();
    let mut g = green(Some(&mut cache), FIXED_STACK << 10, &[1, 2, 3]);
    for order in (0..10).rev() {
        assert!(shrink(&mut cache, &mut g));
        assert_eq!(g.stack.size(), FIXED_STACK << order);
    }
    assert!(!shrink(&mut cache, &mut g));
    assert_eq!(g.stack.size(), FIXED_STACK);
    assert_eq!([24, 16, 8].map(|below| peek(g.stack.hi - below)), [1, 2, 3]);
    done(Some(&mut cache), g);
}

/// After a shrink the same depth must not ask for growth: room above the guard for what is used, and as much again.
#[test]
fn what_was_shrunk_does_not_grow_at_once() {
    let _one = serial();
    let mut cache = StackCache::new();
    for order in 1..8 {
        let size = FIXED_STACK << order;
        for used in (8..size - STACK_GUARD).step_by(size / 64) {
            let mut g = green(Some(&mut cache), size, &vec![0; used / 8]);
            if shrink(&mut cache, &mut g) {
                assert!(g.stack.hi - g.stackguard0 >= 2 * (used / 8 * 8), "{used} of {size}");
            }
            done(Some(&mut cache), g);
        }
    }
}
