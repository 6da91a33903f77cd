//! S15: copystack moves the used part, every pointer into it, and the saved registers; nothing else.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};

use common::{PAGE, WHY, done, green, peek, poke, resident, serial};
use morestack_asm::{GHead, STACK_GUARD};
use morestack_stacks::{FIXED_STACK, StackCache, copystack, stackalloc, stackfree, stats, sweep};

fn copy(cache: &mut StackCache, g: &mut GHead, size: usize) {
    // SAFETY: the green threads of these tests are memory only.
    unsafe { copystack(Some(cache), g, size, WHY).unwrap() };
}

#[test]
fn pointers_into_the_stack_follow_and_nothing_else_changes() {
    let _one = serial();
    let mut cache = StackCache::new();
    for (size, newsize) in [(1, 2), (2, 1), (1, 1), (1, 32), (64, 1)].map(|(a, b)| (a * FIXED_STACK, b * FIXED_STACK)) {
        let mut g = green(Some(&mut cache), size, &[0; 40]);
        let (old, sp) = (g.stack, g.sched.sp);
        let inside = [sp - 4096, sp - 4095, sp - 8, sp, sp + 13, old.hi - 8, old.hi - 1];
        let outside = [
            0,
            1,
            sp - 4097,
            old.lo,
            old.hi,
            old.hi + 8,
            !old.lo,
            old.lo ^ 1 << 63,
            usize::MAX,
            3.5_f64.to_bits() as usize,
        ];
        for (i, word) in inside.iter().chain(&outside).enumerate() {
            poke(sp + 8 * i, *word);
        }
        (g.sched.pc, g.sched.bp, g.sched.bx, g.sched.ret) = (old.lo + 3, sp + 16, old.hi, old.lo + 5);
        let before = stats();
        copy(&mut cache, &mut g, newsize);
        let new = g.stack;
        assert_eq!(new.size(), newsize);
        assert!(!old.contains(new.lo) && !new.contains(old.lo), "another place");
        assert_eq!(g.stackguard0, new.lo + STACK_GUARD);
        let at = |addr: usize| addr.wrapping_add(new.hi).wrapping_sub(old.hi);
        assert_eq!(g.sched.sp, at(sp), "as far from the high end");
        for (i, word) in inside.iter().enumerate() {
            assert_eq!(peek(g.sched.sp + 8 * i), at(*word), "inside, {i}");
        }
        for (i, word) in outside.iter().enumerate() {
            assert_eq!(peek(g.sched.sp + 8 * (inside.len() + i)), *word, "outside, {i}");
        }
        assert!((inside.len() + outside.len()..40).all(|i| peek(g.sched.sp + 8 * i) == 0));
        assert_eq!((g.sched.bp, g.sched.bx), (at(sp + 16), old.hi), "bp pointed into it, bx just past it");
        assert_eq!((g.sched.pc, g.sched.ret), (old.lo + 3, old.lo + 5), "neither is a pointer to data");
        let after = stats();
        assert_eq!(after.words_adjusted - before.words_adjusted, inside.len() as u64 + 1);
        assert_eq!(after.bytes_copied - before.bytes_copied, 40 * 8);
        done(Some(&mut cache), g);
    }
}

/// A small number that was written over a part of a pointer which an earlier call has left.
#[test]
fn half_a_pointer_is_none() {
    let _one = serial();
    let mut cache = StackCache::new();
    const WORDS: usize = 200;
    for newsize in [1, 2, 16].map(|times| times * FIXED_STACK) {
        let mut g = green(Some(&mut cache), FIXED_STACK, &[0; WORDS]);
        for number in (0..0x10).chain([0xff]) {
            for byte in 0..8 {
                let word = |at: usize| {
                    let mut bytes = (g.sched.sp + 8 * at).to_le_bytes();
                    bytes[byte] = number;
                    usize::from_le_bytes(bytes)
                };
                (0..WORDS).for_each(|at| poke(g.sched.sp + 8 * at, word(at)));
                copy(&mut cache, &mut g, newsize);
                for at in 0..WORDS {
                    let found = peek(g.sched.sp + 8 * at);
                    assert_eq!(found.to_le_bytes()[byte], number, "byte {byte}: {found:#x}");
                }
                copy(&mut cache, &mut g, FIXED_STACK);
            }
        }
        done(Some(&mut cache), g);
    }
}

#[test]
fn the_old_stack_is_freed() {
    let _one = serial();
    let mut cache = StackCache::new();
    let start = stats();
    let mut g = green(Some(&mut cache), FIXED_STACK, &[1]);
    let old = g.stack;
    copy(&mut cache, &mut g, 2 * FIXED_STACK);
    let after = stats();
    assert_eq!((after.in_use[0], after.in_use[1]), (start.in_use[0], start.in_use[1] + 1));
    assert_eq!(stackalloc(Some(&mut cache), FIXED_STACK).unwrap(), old, "into the cache, where it is the warmest");
    // SAFETY: nothing runs on it.
    unsafe { stackfree(Some(&mut cache), old) };
    done(Some(&mut cache), g);
}

/// Below `sp` the old stack is made unreadable: a copy that reads it faults. And of a fresh new stack only what was
/// copied becomes memory.
#[test]
fn nothing_below_sp_is_read_or_written() {
    let _one = serial();
    let mut cache = StackCache::new();
    let words = [5; 3 * PAGE / 8 + 1];
    let mut g = green(Some(&mut cache), 4 * FIXED_STACK, &words);
    let old = g.stack;
    let below = g.sched.sp / PAGE * PAGE - old.lo;
    let protect = |access| {
        // SAFETY: the stack is the test's, or lies in its cache.
        assert_eq!(unsafe { libc::mprotect(old.lo as *mut _, below, access) }, 0);
    };
    // Whatever was kept of this size goes, so that the new stack is fresh.
    sweep();
    sweep();
    protect(libc::PROT_NONE);
    copy(&mut cache, &mut g, 16 * FIXED_STACK);
    protect(libc::PROT_READ | libc::PROT_WRITE);
    let pages = resident(g.stack.lo, g.stack.hi).unwrap();
    let touched = pages.iter().filter(|page| **page).count();
    assert_eq!(touched, 4, "three pages and one word");
    assert!((g.sched.sp..g.stack.hi).step_by(8).all(|addr| peek(addr) == 5));
    done(Some(&mut cache), g);
}

#[test]
fn sixteen_bytes_and_a_full_stack() {
    let _one = serial();
    let mut cache = StackCache::new();
    for size in [FIXED_STACK, 1 << 20, 32 << 20] {
        for used in [0, 16, 24, 4096 + 8, size] {
            let mut g = green(Some(&mut cache), size, &[]);
            g.sched.sp = g.stack.hi - used;
            (g.sched.sp..g.stack.hi).step_by(8).for_each(|addr| poke(addr, addr));
            copy(&mut cache, &mut g, 2 * size);
            assert_eq!(g.stack.hi - g.sched.sp, used);
            assert!((g.sched.sp..g.stack.hi).step_by(8).all(|addr| peek(addr) == addr), "{used} of {size}");
            done(Some(&mut cache), g);
        }
    }
}

/// A list whose links run all over the stack, moved a few thousand times: each move must find each link.
#[test]
fn a_linked_list_survives_thousands_of_moves() {
    let _one = serial();
    const NODES: usize = 1000;
    let mut cache = StackCache::new();
    let mut g = green(Some(&mut cache), FIXED_STACK, &[0; 2 * NODES]);
    let node = |g: &GHead, i: usize| g.sched.sp + 16 * (i * 617 % NODES);
    for i in 0..NODES {
        poke(node(&g, i), node(&g, (i + 1) % NODES));
        poke(node(&g, i) + 8, i);
    }
    g.sched.bx = node(&g, 0);
    let mut seed = 3_u64;
    for _ in 0..3000 {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        copy(&mut cache, &mut g, FIXED_STACK << (seed >> 61));
        let mut at = g.sched.bx;
        for i in 0..NODES {
            assert!(g.stack.contains(at));
            assert_eq!(peek(at + 8), i);
            at = peek(at);
        }
        assert_eq!(at, g.sched.bx);
    }
    done(Some(&mut cache), g);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let _one = serial();
    let mut cache = StackCache::new();
    let mut refused = |g: &mut GHead, size: usize| {
        let (stack, sp) = (g.stack, g.sched.sp);
        // SAFETY: it panics before it touches anything.
        let panic = catch_unwind(AssertUnwindSafe(|| unsafe { copystack(Some(&mut cache), g, size, WHY) }));
        assert_eq!((g.stack, g.sched.sp), (stack, sp));
        panic.expect_err("refused").downcast_ref::<String>().unwrap().clone()
    };
    let mut g = green(None, 2 * FIXED_STACK, &[0; 20000 / 8]);
    let sp = g.sched.sp;
    for bad in [g.stack.lo - 8, g.stack.hi + 8, sp + 4, 0] {
        g.sched.sp = bad;
        let said = refused(&mut g, 4 * FIXED_STACK);
        assert!(said.contains("g 7") && said.contains(&format!("{bad:#x}")), "{said}");
    }
    g.sched.sp = g.stack.lo;
    assert!(refused(&mut g, FIXED_STACK).contains("131072 bytes do not fit a stack of 65536"));
    g.sched.sp = sp;
    assert!(refused(&mut g, 3 * FIXED_STACK).contains("a power of two"));
    assert!(refused(&mut GHead::new(), FIXED_STACK).contains("has no stack"));
    done(None, g);
}
