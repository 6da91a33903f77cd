//! System calls that fail: what the allocator hands out is whole, what it does not is a named error, and nothing is lost
//! when they succeed again. Each case is a child process with calls made to fail in its environment.

mod common;

use std::thread;

use common::{PAGE, WHY, child, child_ok, done, green, is_child, limit, peek, poke, readable, resident, serial};
use morestack_stacks::{
    FIXED_STACK, NUM_STACK_ORDERS, Shortage, Stack, StackCache, StackError, copystack, debug_switches, stackalloc,
    stackfree, stats, sweep,
};

const MIB: usize = 1 << 20;

/// A span, and the unit of large stacks.
const GRANULE: usize = 4 * MIB;

/// Small and large ones, on small and on huge pages.
const SIZES: [usize; 8] =
    [FIXED_STACK, 2 * FIXED_STACK, 4 * FIXED_STACK, 8 * FIXED_STACK, MIB, 2 * MIB, 8 * MIB, 16 * MIB];

fn free(cache: Option<&mut StackCache>, stack: Stack) {
    // SAFETY: nothing runs on the stacks of these tests.
    unsafe { stackfree(cache, stack) };
}

/// Usable to its bounds, and below them a page that faults.
fn is_whole(stack: Stack) {
    for addr in [stack.lo, stack.lo + stack.size() / 2, stack.hi - 8] {
        poke(addr, addr);
        assert_eq!(peek(addr), addr);
    }
    // A hole anywhere would be one of the pages in between.
    let step = (stack.size() / 8).max(PAGE);
    assert!((stack.lo..stack.hi).step_by(step).all(readable), "{stack:x?}");
    assert!(![stack.lo - PAGE, stack.lo - 1].into_iter().any(readable), "{stack:x?} has no guard");
}

/// One line that names the stack's size, and the call and its size or what is used up.
fn is_named(error: &StackError, size: usize) {
    assert_eq!(error.size(), size);
    let line = error.to_string();
    let shown = if size < MIB { format!("{} KiB", size >> 10) } else { format!("{} MiB", size >> 20) };
    assert!(line.starts_with(&format!("no stack of {shown}: ")) && !line.contains('\n'), "{line}");
    match error.shortage() {
        Shortage::Os { call, size, source } => {
            assert!(line.contains(call) && *size > 0, "{line}");
            assert_eq!(source.raw_os_error(), Some(libc::ENOMEM));
        }
        Shortage::NoGuard { source: Some(source), .. } => assert_eq!(source.raw_os_error(), Some(libc::ENOMEM)),
        other => panic!("nothing is used up: {other:?}"),
    }
}

/// What is in use is `stacks`, and what is reserved beside them is one empty span for each order at most.
fn adds_up() {
    let stats = stats();
    let context = format!("{stats:#?}");
    assert_eq!((stats.in_use, stats.large_in_use, stats.in_use_bytes), ([0; 4], 0, 0), "{context}");
    assert_eq!((stats.cached, stats.large_kept_bytes, stats.quarantined), ([0; 4], 0, 0), "{context}");
    let spans = stats.reserved.iter().filter(|stacks| **stacks > 0).count();
    assert_eq!(stats.reserved_bytes, spans * GRANULE, "{context}");
    assert_eq!(stats.guards_madvise + stats.guards_mprotect, stats.reserved.iter().sum(), "{context}");
}

/// Takes and frees stacks of all sizes, moves some, sweeps. Returns how many could not be had.
fn churn(seed: &mut u64, cache: &mut StackCache, steps: usize) -> usize {
    let mut random = |n: usize| {
        *seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (*seed >> 33) as usize % n
    };
    let (mut held, mut refused): (Vec<Stack>, _) = (Vec::new(), 0);
    for _ in 0..steps {
        let cache = if random(3) == 0 { None } else { Some(&mut *cache) };
        match random(8) {
            0..4 => {
                // Mostly small ones: those share.
                let size = SIZES[random(SIZES.len()).min(random(SIZES.len()))];
                match stackalloc(cache, size) {
                    Ok(stack) => {
                        is_whole(stack);
                        assert!(held.iter().all(|other| other.hi <= stack.lo || stack.hi <= other.lo), "{stack:x?}");
                        held.push(stack);
                    }
                    Err(error) => {
                        is_named(&error, size);
                        refused += 1;
                    }
                }
            }
            4..6 if !held.is_empty() => free(cache, held.swap_remove(random(held.len()))),
            6 if !held.is_empty() => {
                let old = held.swap_remove(random(held.len()));
                held.push(moved(cache, old, SIZES[random(SIZES.len())], &mut refused));
            }
            _ if random(20) == 0 => drop(sweep()),
            _ => {}
        }
    }
    held.into_iter().for_each(|stack| free(Some(&mut *cache), stack));
    refused
}

/// The stack after copystack; the old one, untouched, if no new one can be had.
fn moved(cache: Option<&mut StackCache>, old: Stack, size: usize, refused: &mut usize) -> Stack {
    let mut g = morestack_asm::GHead::new();
    g.stack = old;
    g.sched.sp = old.hi - 16;
    poke(old.hi - 8, 42);
    poke(old.hi - 16, old.hi - 8);
    // SAFETY: `g` is memory only, and the test's.
    match unsafe { copystack(cache, &mut g, size, WHY) } {
        Ok(()) => is_whole_but_for(g.stack, 16),
        Err(error) => {
            is_named(&error, size);
            assert_eq!((g.stack, g.sched.sp), (old, old.hi - 16));
            *refused += 1;
        }
    }
    assert_eq!((peek(g.stack.hi - 8), peek(g.stack.hi - 16)), (42, g.stack.hi - 8));
    g.stack
}

fn is_whole_but_for(stack: Stack, top: usize) {
    let kept = [8, 16].map(|below| peek(stack.hi - below));
    assert_eq!(top, size_of_val(&kept));
    is_whole(stack);
    poke(stack.hi - 8, kept[0]);
    poke(stack.hi - 16, kept[1]);
}

/// Fails some calls, none of them later than the thousandth; and whether some stacks are refused meanwhile, where
/// that is sure.
const CASES: [(&str, Option<bool>); 12] = [
    ("fail=mmap/3", Some(false)),
    ("fail=mmap/1@1..12", Some(true)),
    ("fail=mprotect/2@1..20", Some(false)),
    ("fail=mprotect/1@1..30", Some(true)),
    ("fail=madvise/3@1..1000", Some(false)),
    ("fail=madvise/1@1..800", Some(false)),
    ("fail=madvise/1@1..800,fail=mprotect/3@1..600", None),
    ("fail=madvise/1@1..600,fail=mprotect/1@200..400", Some(true)),
    ("nocache,fail=madvise/2@50..800,fail=mprotect/3@50..300,fail=mmap/2@1..4", None),
    ("mprotect,fail=mprotect/2@1..600", None),
    ("mprotect,fail=mprotect/1@100..600", Some(true)),
    ("fromsystem,fail=mmap/3@1..100,fail=mprotect/1@100..200", Some(true)),
];

/// Lines of the child's trace that say that a call was made to fail.
fn injected(said: &str) -> usize {
    said.lines().filter(|line| line.starts_with("morestack: m") && line.ends_with(" fails")).count()
}

#[test]
fn what_is_handed_out_is_whole_and_nothing_is_lost() {
    let _one = serial();
    if is_child() {
        let threads: usize = std::env::var("THREADS").unwrap().parse().unwrap();
        let refused: usize = thread::scope(|scope| {
            let run = |thread: usize| {
                let (mut cache, mut seed) = (StackCache::new(), thread as u64 + 1);
                (0..8).map(|_| churn(&mut seed, &mut cache, 500 / threads)).sum::<usize>()
            };
            let threads: Vec<_> = (0..threads).map(|thread| scope.spawn(move || run(thread))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        // Calls enough for the last that is to fail. What is larger than the lists keep is had from the kernel each time, and
        // so is all that efence does not let go again.
        let size = if debug_switches().unwrap().efence { MIB } else { 128 * MIB };
        (0..600).filter_map(|_| stackalloc(None, size).ok()).for_each(|stack| free(None, stack));
        // They succeed by now, or often enough: all can be had.
        let mut cache = StackCache::new();
        assert_eq!(churn(&mut 1, &mut cache, 500), 0);
        cache.clear();
        // Two for what is free; where calls still fail, each takes some more of what is stuck.
        for _ in 0..10 {
            sweep();
        }
        if debug_switches().unwrap().efence {
            assert_eq!(stats().in_use_bytes, 0);
        } else {
            adds_up();
        }
        eprintln!("refused: {refused}");
        return;
    }
    let run = |efence: &str, threads: &str| {
        for (words, expected) in CASES {
            let words = format!("{words},trace");
            let environment = [("MORESTACK_STACK_DEBUG", &*words), ("MORESTACK_EFENCE", efence), ("THREADS", threads)];
            let said = child_ok("what_is_handed_out_is_whole_and_nothing_is_lost", &environment);
            let refused = said.lines().find_map(|line| line.strip_prefix("refused: ")).expect("the child says");
            assert!(injected(&said) > 0, "{environment:?}");
            // Threads take turns as they like, and efence makes calls of its own.
            if let (Some(expected), "1", "0") = (expected, threads, efence) {
                assert_eq!(refused != "0", expected, "{environment:?}: {refused}");
            }
        }
    };
    thread::scope(|scope| {
        for (efence, threads) in [("0", "1"), ("0", "4"), ("1", "1"), ("1", "4")] {
            scope.spawn(move || run(efence, threads));
        }
    });
}

/// Each way into the allocator, while no call succeeds that it needs. Nothing changes.
#[test]
fn each_entry_returns_the_error() {
    let _one = serial();
    if !is_child() {
        let name = "each_entry_returns_the_error";
        for (words, call) in [
            // The page to ask the kernel about guards is asked for once a reservation is there.
            ("fail=mmap/1", "mmap"),
            ("fail=mprotect/1", "mprotect"),
            ("fromsystem,fail=mmap/1", "mmap"),
            ("fromsystem,fail=mprotect/1", "mprotect"),
            // The first makes memory for small stacks usable.
            ("fail=madvise/1,fail=mprotect/1@2..", "guard"),
        ] {
            child_ok(name, &[("MORESTACK_STACK_DEBUG", words), ("CALL", call)]);
        }
        return;
    }
    let call = std::env::var("CALL").unwrap();
    let mut cache = StackCache::new();
    let before = stats();
    for size in SIZES {
        for cached in [false, true] {
            let error = stackalloc(cached.then_some(&mut cache), size).unwrap_err();
            is_named(&error, size);
            match error.shortage() {
                Shortage::NoGuard { .. } => assert!(call == "guard" && size < 2 * MIB, "{error}"),
                Shortage::Os { call: refused, .. } if call == "guard" => {
                    assert!(*refused == "mprotect" && size >= 2 * MIB)
                }
                Shortage::Os { call: refused, .. } => assert_eq!(*refused, call),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(sweep(), 0);
    let after = stats();
    // A reservation may have been made meanwhile; it is address space.
    assert_eq!((after.in_use_bytes, after.reserved_bytes), (0, 0));
    assert_eq!((after.reserved, after.guards_madvise, after.guards_mprotect), ([0; NUM_STACK_ORDERS], 0, 0));
    assert_eq!((after.refills, after.releases), (before.refills, before.releases));
}

#[test]
fn copystack_returns_the_error_and_changes_nothing() {
    let _one = serial();
    if !has_guard_install() {
        // There the calls below are others.
        return;
    }
    if !is_child() {
        // The first stack is had, and a span with it; no larger one.
        let words = "fail=madvise/1@34..,fail=mprotect/1@2..";
        child_ok("copystack_returns_the_error_and_changes_nothing", &[("MORESTACK_STACK_DEBUG", words)]);
        return;
    }
    let mut cache = StackCache::new();
    let mut g = green(Some(&mut cache), FIXED_STACK, &[1, 2, 3]);
    let before = (g.stack, g.stackguard0, format!("{:?}", g.sched), stats().in_use);
    for size in SIZES.into_iter().skip(1) {
        // SAFETY: `g` is memory only.
        let error = unsafe { copystack(Some(&mut cache), &mut g, size, WHY) }.unwrap_err();
        is_named(&error, size);
        assert_eq!((g.stack, g.stackguard0, format!("{:?}", g.sched), stats().in_use), before);
        assert_eq!([24, 16, 8].map(|below| peek(g.stack.hi - below)), [1, 2, 3]);
    }
    // SAFETY: as above. Of that size there are some.
    unsafe { copystack(Some(&mut cache), &mut g, FIXED_STACK, WHY).unwrap() };
    done(Some(&mut cache), g);
}

/// What a sweep could not give back is given back by a later one.
#[test]
fn memory_that_a_sweep_could_not_drop_is_not_forgotten() {
    let _one = serial();
    if !is_child() {
        // Advice on the reservation, on the page to ask with, on 32 guards; then that of the sweep.
        let words = "fail=madvise/1@35..36";
        child_ok("memory_that_a_sweep_could_not_drop_is_not_forgotten", &[("MORESTACK_STACK_DEBUG", words)]);
        return;
    }
    let [keep, stack] = [0; 2].map(|_| stackalloc(None, FIXED_STACK).unwrap());
    poke(stack.hi - 8, 1);
    free(None, stack);
    let is_memory = || resident(stack.hi - PAGE, stack.hi).unwrap()[0];
    assert_eq!([sweep(), sweep()], [0, 0]);
    assert!(is_memory(), "the call was not made");
    assert_eq!(sweep(), FIXED_STACK);
    assert!(!is_memory());
    free(None, keep);
}

/// The last span lies in the cache of the one who needs room for something else.
#[test]
fn the_callers_own_cache_gives_way() {
    let _one = serial();
    if !is_child() {
        child_ok("the_callers_own_cache_gives_way", &[]);
        return;
    }
    limit(libc::RLIMIT_AS, 3 << 30);
    let mut cache = StackCache::new();
    let small = stackalloc(Some(&mut cache), FIXED_STACK).unwrap();
    free(Some(&mut cache), small);
    let mut held = Vec::new();
    let most = loop {
        // Each is a unit of the arena, of the size of a span.
        match stackalloc(None, MIB) {
            Ok(stack) => held.push(stack),
            Err(error) => {
                assert!(matches!(error.shortage(), Shortage::OutOfAddressSpace { .. }), "{error}");
                break held.len();
            }
        }
    };
    assert!((100..2000).contains(&most), "{most}");
    assert!(stats().cached[0] > 0);
    held.push(stackalloc(Some(&mut cache), MIB).unwrap());
    assert_eq!(stats().cached[0], 0);
    assert!(stackalloc(Some(&mut cache), FIXED_STACK).is_err());
    held.into_iter().for_each(|stack| free(Some(&mut cache), stack));
}

/// One of the kernel's refusals is not its last word: the next guard is made without a mapping again.
#[test]
fn a_passing_refusal_does_not_decide_for_good() {
    let _one = serial();
    if !is_child() {
        if !has_guard_install() {
            return;
        }
        let name = "a_passing_refusal_does_not_decide_for_good";
        // What asks the kernel: a page, and advice on it.
        for words in ["fail=mmap/1@3..5", "fail=madvise/1@1..8"] {
            child_ok(name, &[("MORESTACK_STACK_DEBUG", words)]);
        }
        return;
    }
    let stacks: Vec<_> = (0..300).map(|_| stackalloc(None, FIXED_STACK).unwrap()).collect();
    let stats = stats();
    assert!(stats.guards_madvise >= 290 && stats.guards_mprotect < 10, "{stats:?}");
    stacks.into_iter().for_each(|stack| free(None, stack));
}

/// Whether the kernel makes guards without mappings.
fn has_guard_install() -> bool {
    const MADV_GUARD_INSTALL: i32 = 102;
    // SAFETY: a page of its own, which nobody uses.
    unsafe {
        let page =
            libc::mmap(std::ptr::null_mut(), PAGE, libc::PROT_READ, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0);
        assert_ne!(page, libc::MAP_FAILED);
        let has = libc::madvise(page, PAGE, MADV_GUARD_INSTALL) == 0;
        libc::munmap(page, PAGE);
        has
    }
}

/// The lines about guards that cost mappings.
fn fallback_lines(said: &str) -> Vec<&str> {
    said.lines().filter(|line| line.starts_with("morestack: ") && line.contains("by mprotect: ")).collect()
}

#[test]
fn that_guards_cost_mappings_is_said_once() {
    let _one = serial();
    const NAME: &str = "that_guards_cost_mappings_is_said_once";
    if is_child() {
        if std::env::var_os("LOCK").is_some() {
            // SAFETY: a plain system call.
            let locked = unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE) };
            if locked != 0 {
                println!("not permitted");
                return;
            }
        }
        for size in [FIXED_STACK, MIB, FIXED_STACK << 1] {
            let stack = stackalloc(None, size).unwrap();
            is_whole(stack);
            free(None, stack);
        }
        assert!(stats().guards_mprotect > 0);
        return;
    }
    assert!(fallback_lines(&child_ok(NAME, &[("MORESTACK_STACK_DEBUG", "mprotect")])).is_empty(), "it was asked for");

    let max_map_count: usize = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap().trim().parse().unwrap();
    let room =
        format!("room for {} stacks (two mappings each, half of vm.max_map_count={max_map_count})", max_map_count / 4);
    let says = |environment: &[(&str, &str)], reason: &str| {
        let output = child(NAME, environment);
        let (stdout, said) =
            [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned()).into();
        assert!(output.status.success(), "{said}");
        if stdout.contains("not permitted") {
            return;
        }
        let lines = fallback_lines(&said);
        assert_eq!(lines.len(), 1, "{said}");
        assert!(lines[0].contains(reason) && lines[0].contains(&room), "{said}");
    };
    says(&[("MORESTACK_STACK_DEBUG", "fail=madvise/1")], "failed: Cannot allocate memory");
    // Locked or not: a kernel that does not have them is to blame first.
    let why = if has_guard_install() { "memory is locked (mlockall)" } else { "this kernel has no MADV_GUARD_INSTALL" };
    says(&[("LOCK", "1")], why);
}
