//! S9: debug switches. Each is set in the environment of a child process that tests its effect.

mod common;

use std::fmt::Write;
use std::ptr;

use common::{WHY, child_ok, done, green, is_child, limit, peek, poke, resident, serial};
use morestack_stacks::{
    FIXED_STACK, Stack, StackCache, copystack, debug_switches, efence, guard_of, stackalloc, stackfree, stats,
};

const MIB: usize = 1 << 20;

fn free(cache: Option<&mut StackCache>, stack: Stack) {
    // SAFETY: nothing runs on the stacks of these tests.
    unsafe { stackfree(cache, stack) };
}

#[test]
fn off_unless_set() {
    let _one = serial();
    if !is_child() {
        child_ok("off_unless_set", &[]);
        child_ok("off_unless_set", &[("MORESTACK_EFENCE", "0"), ("MORESTACK_STACK_DEBUG", "")]);
        return;
    }
    let switches = debug_switches().unwrap();
    assert!(!switches.no_cache && !switches.from_system && !switches.poison_copy && !switches.efence);
    assert_eq!(switches.trace, 0);
}

#[test]
fn a_bad_value_is_named_and_changes_nothing() {
    let _one = serial();
    if !is_child() {
        child_ok("a_bad_value_is_named_and_changes_nothing", &[("MORESTACK_STACK_DEBUG", "nocache,posion")]);
        return;
    }
    let line = debug_switches().unwrap_err();
    assert!(line.contains("MORESTACK_STACK_DEBUG") && line.contains("\"posion\"") && line.contains("poison"), "{line}");
    let mut cache = StackCache::new();
    let stack = stackalloc(Some(&mut cache), FIXED_STACK).unwrap();
    free(Some(&mut cache), stack);
    assert!(stats().cached[0] > 0, "no switch is on");
}

#[test]
fn nocache() {
    let _one = serial();
    if !is_child() {
        child_ok("nocache", &[("MORESTACK_STACK_DEBUG", "nocache")]);
        return;
    }
    let mut cache = StackCache::new();
    let stacks: Vec<_> = (0..100).map(|i| stackalloc(Some(&mut cache), FIXED_STACK << (i % 4)).unwrap()).collect();
    assert_eq!((stats().cached, stats().refills), ([0; 4], 0));
    stacks.into_iter().for_each(|stack| free(Some(&mut cache), stack));
    assert_eq!((stats().cached, stats().releases, stats().in_use), ([0; 4], 0, [0; 4]));
}

#[test]
fn fromsystem() {
    let _one = serial();
    if !is_child() {
        child_ok("fromsystem", &[("MORESTACK_STACK_DEBUG", "fromsystem")]);
        return;
    }
    let mut cache = StackCache::new();
    for size in [FIXED_STACK, 4 * FIXED_STACK, 16 * MIB] {
        let stack = stackalloc(Some(&mut cache), size).unwrap();
        assert_eq!(stack.size(), size);
        poke(stack.lo, 1);
        poke(stack.hi - 8, 1);
        assert_eq!(stats().in_use_bytes, size);
        assert_eq!(stats().reserved_bytes, size + 4096);
        free(Some(&mut cache), stack);
        assert_eq!(resident(guard_of(stack).start, stack.hi), None, "unmapped");
        assert_eq!((stats().in_use_bytes, stats().reserved_bytes), (0, 0));
    }
    let mut g = green(None, FIXED_STACK, &[1, 2, 3]);
    // SAFETY: `g` is memory only.
    unsafe { copystack(None, &mut g, 2 * FIXED_STACK, WHY).unwrap() };
    assert_eq!(peek(g.stack.hi - 8), 3);
    done(None, g);
}

#[test]
fn poison() {
    let _one = serial();
    if !is_child() {
        child_ok("poison", &[("MORESTACK_STACK_DEBUG", "poison")]);
        return;
    }
    let mut cache = StackCache::new();
    let mut g = green(Some(&mut cache), FIXED_STACK, &[1, 2, 3]);
    let old = g.stack;
    // SAFETY: `g` is memory only.
    unsafe { copystack(Some(&mut cache), &mut g, 2 * FIXED_STACK, WHY).unwrap() };
    let bytes = |stack: Stack, top: usize, byte: u8| {
        (stack.lo..stack.hi - top).step_by(8).all(|addr| peek(addr) == usize::from_ne_bytes([byte; 8]))
    };
    assert!(bytes(g.stack, 24, 0xfd), "below what was copied");
    assert_eq!([24, 16, 8].map(|below| peek(g.stack.hi - below)), [1, 2, 3]);
    assert!(bytes(old, 0, 0xfc), "all of the old one");
    done(Some(&mut cache), g);
}

#[test]
fn trace() {
    let _one = serial();
    if is_child() {
        let mut g = green(None, FIXED_STACK, &[1, 2, 3]);
        // SAFETY: `g` is memory only.
        unsafe { copystack(None, &mut g, 2 * FIXED_STACK, WHY).unwrap() };
        done(None, g);
        return;
    }
    let said = child_ok("trace", &[("MORESTACK_STACK_DEBUG", "trace")]);
    let lines: Vec<_> = said.lines().filter(|line| line.contains("morestack: ")).collect();
    assert_eq!(lines.len(), 1, "{said}");
    assert!(lines[0].contains("copystack g 7: ") && lines[0].contains("24 bytes used"), "{said}");
    assert!(
        lines[0].contains("64 KiB -> ") && lines[0].contains("128 KiB") && lines[0].ends_with("at 0x1234"),
        "{said}"
    );
    let said = child_ok("trace", &[("MORESTACK_STACK_DEBUG", "trace=2")]);
    let count = |what: &str| said.matches(&format!("morestack: {what} ")).count();
    assert_eq!((count("stackalloc"), count("copystack"), count("stackfree")), (2, 1, 2), "{said}");
}

/// A handler that says what efence knows of the address and leaves with status 3. Everything in it is fit for a handler,
/// but for the formatting, which allocates nothing.
extern "C" fn explain(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    struct Line([u8; 256], usize);
    impl Write for Line {
        fn write_str(&mut self, s: &str) -> std::fmt::Result {
            self.0[self.1..self.1 + s.len()].copy_from_slice(s.as_bytes());
            self.1 += s.len();
            Ok(())
        }
    }
    let mut line = Line([0; 256], 0);
    // SAFETY: the kernel hands the handler of a SIGSEGV a siginfo with the address of the fault.
    let addr = unsafe { (*info).si_addr() } as usize;
    let _ = match efence::explain(addr) {
        Some(r) => writeln!(line, "\nretired {:x} {:x} goid {} pc {:x}", r.stack.lo, r.new.lo, r.goid, r.pc),
        None => writeln!(line, "\nnothing known of {addr:x}"),
    };
    // SAFETY: both are plain system calls.
    unsafe {
        libc::write(1, line.0.as_ptr().cast(), line.1);
        libc::_exit(3);
    }
}

fn install_explain() {
    // SAFETY: a zeroed sigaction is one, and the handler has the signature that SA_SIGINFO asks for.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = explain as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        assert_eq!(libc::sigaction(libc::SIGSEGV, &action, ptr::null_mut()), 0);
    }
}

#[test]
fn efence_explains_a_touch_of_an_old_stack() {
    let _one = serial();
    const NAME: &str = "efence_explains_a_touch_of_an_old_stack";
    if is_child() {
        install_explain();
        let mut cache = StackCache::new();
        let mut g = green(Some(&mut cache), 4 * FIXED_STACK, &[1, 2, 3]);
        let old = g.stack;
        // SAFETY: `g` is memory only.
        unsafe { copystack(Some(&mut cache), &mut g, 8 * FIXED_STACK, WHY).unwrap() };
        let new = g.stack;
        assert_eq!(peek(new.hi - 8), 3);
        if std::env::var_os("FREED").is_some() {
            done(Some(&mut cache), g);
            println!("expect: retired {:x} 0 goid 0 pc 0", new.lo);
            poke(new.lo, 1);
        } else {
            println!("expect: retired {:x} {:x} goid 7 pc 1234", old.lo, new.lo);
            peek(old.hi - 8);
        }
        panic!("no fault");
    }
    for debug in ["", "mprotect", "fromsystem", "nocache,poison"] {
        for freed in [&[][..], &[("FREED", "1")]] {
            let environment = [&[("MORESTACK_EFENCE", "1"), ("MORESTACK_STACK_DEBUG", debug)], freed].concat();
            let output = common::child(NAME, &environment);
            let said = String::from_utf8_lossy(&output.stdout);
            assert_eq!(output.status.code(), Some(3), "{environment:?} {output:?}");
            let expected = said.lines().find_map(|line| line.split_once("expect: ")).expect("the child says").1;
            assert!(said.lines().any(|line| line == expected), "{environment:?} {said}");
        }
    }
}

#[test]
fn efence_keeps_a_bounded_number() {
    let _one = serial();
    const NAME: &str = "efence_keeps_a_bounded_number";
    const QUARANTINE: usize = 16384;
    if !is_child() {
        child_ok(NAME, &[("MORESTACK_EFENCE", "1")]);
        child_ok(NAME, &[("MORESTACK_EFENCE", "1"), ("MORESTACK_STACK_DEBUG", "mprotect")]);
        return;
    }
    let mut cache = StackCache::new();
    let mut stacks = Vec::new();
    for _ in 0..QUARANTINE + 500 {
        let stack = stackalloc(Some(&mut cache), FIXED_STACK).unwrap();
        free(Some(&mut cache), stack);
        stacks.push(stack);
    }
    let stats = stats();
    if debug_switches().unwrap().mprotect_guards {
        // Guards and quarantine share the budget: the oldest leave earlier.
        assert!((1000..QUARANTINE).contains(&stats.quarantined), "{stats:?}");
    } else {
        assert_eq!(stats.quarantined, QUARANTINE);
    }
    assert_eq!(stats.in_use, [0; 4]);
    let kept = &stacks[stacks.len() - stats.quarantined..];
    // Each `explain` looks through the whole table.
    for stack in kept.iter().step_by(100) {
        assert_eq!(efence::explain(stack.lo).map(|retired| retired.stack), Some(*stack));
    }
    let distinct = |stacks: &[Stack]| stacks.iter().collect::<std::collections::HashSet<_>>().len();
    assert_eq!(distinct(kept), kept.len(), "what is in quarantine is not handed out");
    assert!(distinct(&stacks) < stacks.len(), "what has left it is");
    if debug_switches().unwrap().mprotect_guards {
        a_guard_is_had_from_the_quarantine();
    }
}

/// The budget is used up, most of it by the quarantine, and large stacks need guards of their own.
fn a_guard_is_had_from_the_quarantine() {
    let before = stats().quarantined;
    let stacks: Vec<_> = (0..50).map(|_| stackalloc(None, MIB).unwrap()).collect();
    assert!(stats().quarantined <= before - 40, "{:?}", stats());
    stacks.into_iter().for_each(|stack| free(None, stack));
}

#[test]
fn efence_gives_way_when_nothing_else_is_left() {
    let _one = serial();
    if !is_child() {
        child_ok("efence_gives_way_when_nothing_else_is_left", &[("MORESTACK_EFENCE", "1")]);
        return;
    }
    limit(libc::RLIMIT_AS, 3 << 30);
    for _ in 0..200 {
        let stack = stackalloc(None, 64 * MIB).unwrap();
        assert_eq!(efence::explain(stack.lo), None, "it is somebody's again");
        poke(stack.hi - 8, 1);
        free(None, stack);
    }
    assert!((1..200).contains(&stats().quarantined));
}
