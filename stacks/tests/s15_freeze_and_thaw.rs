//! S15, for green threads that wait for long: what was frozen thaws onto any stack as if it had been moved there.

mod common;

use common::{PAGE, WHY, done, green, peek, poke, resident, serial};
use morestack_asm::STACK_GUARD;
use morestack_stacks::{FIXED_STACK, StackCache, freeze, give_back, stackalloc, stackfree, stats, thaw};

#[test]
fn pointers_of_the_words_and_registers_move_and_nothing_else_changes() {
    let _one = serial();
    let mut cache = StackCache::new();
    let mut g = green(Some(&mut cache), 4 * FIXED_STACK, &[0; 8]);
    let (lo, hi, sp) = (g.stack.lo, g.stack.hi, g.sched.sp);
    let words = [sp, hi - 8, sp - 4096, lo, hi, 12345, sp + 1, usize::MAX];
    words.iter().enumerate().for_each(|(i, word)| poke(sp + 8 * i, *word));
    (g.sched.bp, g.sched.bx, g.sched.pc, g.sched.ret) = (sp + 16, 77, 0x1234, 5);
    let before = stats();
    // SAFETY: the green thread is memory only.
    let frozen = unsafe { freeze(Some(&mut cache), &mut g, None, WHY) }.unwrap();
    let meanwhile = stats();
    assert_eq!(meanwhile.in_use.iter().sum::<usize>(), before.in_use.iter().sum::<usize>() - 1, "the stack is free");
    assert_eq!((meanwhile.freezes, meanwhile.frozen_bytes), (before.freezes + 1, before.frozen_bytes + 64));
    // Its next owner scribbles over it.
    let other = stackalloc(Some(&mut cache), 4 * FIXED_STACK).unwrap();
    assert_eq!((other.lo, other.hi), (lo, hi), "the warmest");
    (sp..hi).step_by(8).for_each(|addr| poke(addr, 0xbad));
    // SAFETY: frozen above.
    assert_eq!(unsafe { thaw(Some(&mut cache), &mut g, frozen, None, WHY) }.unwrap(), 64);
    assert_eq!(g.stack.size(), FIXED_STACK, "the smallest that has room");
    assert_eq!((g.sched.sp, g.stackguard0), (g.stack.hi - 64, g.stack.lo + STACK_GUARD));
    let delta = g.stack.hi.wrapping_sub(hi);
    let moved = |word: usize| word.wrapping_add(delta);
    let expected = [moved(sp), moved(hi - 8), moved(sp - 4096), lo, hi, 12345, moved(sp + 1), usize::MAX];
    assert_eq!([0, 1, 2, 3, 4, 5, 6, 7].map(|i| peek(g.sched.sp + 8 * i)), expected);
    assert_eq!((g.sched.bp, g.sched.bx, g.sched.pc, g.sched.ret), (moved(sp + 16), 77, 0x1234, 5));
    let after = stats();
    assert_eq!((after.thaws, after.frozen_bytes), (before.thaws + 1, before.frozen_bytes));
    // SAFETY: nothing runs on it.
    unsafe { stackfree(Some(&mut cache), other) };
    done(Some(&mut cache), g);
}

/// The stack that it thaws onto leaves as much room above the guard as is used: it does not grow at once.
#[test]
fn a_deep_one_gets_a_stack_with_room() {
    let _one = serial();
    let mut cache = StackCache::new();
    for used in [8, 1 << 10, 20 << 10, 40 << 10, 300 << 10, 2 << 20] {
        let mut g = green(Some(&mut cache), 64 * FIXED_STACK, &vec![used; used / 8]);
        // SAFETY: the green thread is memory only.
        unsafe {
            let frozen = freeze(Some(&mut cache), &mut g, None, WHY).unwrap();
            thaw(Some(&mut cache), &mut g, frozen, None, WHY).unwrap();
        }
        assert!(g.stack.hi - g.stackguard0 >= 2 * used, "{used}: {}", g.stack.size());
        assert!(g.stack.size() == FIXED_STACK || g.stack.size() < 2 * (2 * used + STACK_GUARD));
        assert!((g.sched.sp..g.stack.hi).step_by(8).all(|addr| peek(addr) == used));
        done(Some(&mut cache), g);
    }
}

#[test]
fn what_lies_below_the_stack_pointer_is_given_back_and_nothing_else() {
    let _one = serial();
    let mut cache = StackCache::new();
    let stack = stackalloc(Some(&mut cache), 4 * FIXED_STACK).unwrap();
    (stack.lo..stack.hi).step_by(8).for_each(|addr| poke(addr, addr));
    for sp in [stack.hi - 3 * PAGE - 64, stack.hi - 2 * PAGE, stack.hi] {
        // SAFETY: nothing runs on it.
        unsafe { give_back(stack, sp) };
        let kept = (sp - 128) / PAGE * PAGE;
        assert!(resident(stack.lo, kept).unwrap().iter().all(|page| !page), "what is not used");
        assert!((kept..stack.hi).step_by(8).all(|addr| peek(addr) == addr));
        (stack.lo..stack.hi).step_by(8).for_each(|addr| poke(addr, addr));
    }
    // SAFETY: as above.
    unsafe { give_back(stack, stack.lo) };
    assert!((stack.lo..stack.hi).step_by(8).all(|addr| peek(addr) == addr), "all of it is used");
    // SAFETY: as above.
    unsafe { stackfree(Some(&mut cache), stack) };
}
