//! Memory for stacks that cannot be had: an error to whoever joins, and nothing to the others.

use std::process::Command;

use morestack_tests::command::{Finished, run};

/// The number after `name` in a line of the output.
#[track_caller]
fn value(finished: &Finished, name: &str) -> u64 {
    let line = finished.stdout.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name}: {finished}"))
}

/// Thousands of green threads, with calls made to fail. Each has ended, and nothing of them is left.
#[track_caller]
fn faults(words: &str) -> Finished {
    judge(Command::new(env!("CARGO_BIN_EXE_faults")).env("MORESTACK_STACK_DEBUG", words))
}

#[track_caller]
fn judge(command: &mut Command) -> Finished {
    let finished = run(command);
    assert!(finished.status.success(), "{finished}");
    assert_eq!(value(&finished, "right") + value(&finished, "refused"), 3200, "{finished}");
    assert!(finished.stdout.contains("dropped true"), "{finished}");
    assert_eq!(value(&finished, "in_use_bytes"), 0, "{finished}");
    finished
}

/// Some calls fail, few of them twice in a row: nobody notices.
#[test]
fn single_faults_are_made_up_for() {
    for (words, most) in [
        ("", 0),
        ("mprotect", 0),
        // There is another way.
        ("fail=madvise/3", 0),
        ("fail=madvise/1", 0),
        // The same is tried again. What other threads call meanwhile may make that fail, too.
        ("fail=mmap/3", 32),
        ("fail=mprotect/3", 32),
        ("fromsystem,fail=mmap/9", 32),
    ] {
        let finished = faults(words);
        assert!(value(&finished, "refused") <= most, "{finished}");
        assert!(value(&finished, "grown") > 0, "{finished}");
    }
}

/// For a while, calls fail one after the other: some are refused, most are not.
#[test]
fn lasting_faults_are_errors_to_those_who_join() {
    for words in [
        "fail=mmap/1@1..400",
        "fail=mprotect/1@1..400",
        "fail=madvise/1,fail=mprotect/1@300..1500",
        "nocache,fail=madvise/1,fail=mprotect/2@10..",
        "fromsystem,fail=mmap/1@500..900",
        "fromsystem,fail=mmap/2@1..2000,fail=mprotect/3",
    ] {
        let finished = faults(words);
        assert!(value(&finished, "refused") > 0 && value(&finished, "right") > 100, "{finished}");
    }
}

/// No call ever succeeds.
#[test]
fn without_any_memory_all_are_refused() {
    for call in ["mmap", "mprotect"] {
        let finished = faults(&format!("fail={call}/1"));
        assert_eq!(value(&finished, "right"), 0, "{finished}");
    }
}

/// Old stacks cannot be sealed, sealed ones not be unsealed, and every prologue asks for a stack.
#[test]
fn with_the_electric_fence_and_a_move_at_every_prologue() {
    for words in ["fail=madvise/3", "fail=madvise/1@1..4000,fail=mprotect/3", "mprotect,fail=mprotect/5"] {
        for stress in ["", "move"] {
            // Each call moves all frames above it.
            judge(
                Command::new(env!("CARGO_BIN_EXE_faults"))
                    .args(["--deepest", "20"])
                    .env("MORESTACK_STACK_DEBUG", words)
                    .env("MORESTACK_STRESS", stress)
                    .env("MORESTACK_EFENCE", "1"),
            );
        }
    }
}

/// The process may have 4 GiB of address space; stacks reserve a gigabyte of small ones, and one of large ones.
#[test]
fn exhausted() {
    let finished = run(&mut Command::new(env!("CARGO_BIN_EXE_exhausted")));
    assert!(finished.status.success(), "{finished}");
    let line = |start: &str| finished.stdout.lines().find(|line| line.starts_with(start)).unwrap_or_default();

    // 256 spans of 12, but for what lies in the cache of the other worker when one finds none: 16 at most.
    let had = value(&finished, "reserved finished");
    assert!((3072 - 16..=3072).contains(&had), "{finished}");
    assert_eq!(value(&finished, "reserved refused"), 6000 - had, "{finished}");
    assert_eq!(
        line("reserved error "),
        "reserved error no stack of 256 KiB: no room for 4 MiB: 1 GiB of the 1 GiB reserved for stacks are in use",
        "{finished}"
    );
    assert_eq!(value(&finished, "again refused"), 0, "what the first gave back is had again: {finished}");

    // Three of 256 MiB and a bit.
    let caught = value(&finished, "copying caught");
    assert_eq!(value(&finished, "copying finished") - caught, 3, "{finished}");
    assert_eq!(value(&finished, "copying refused") + caught, 5, "{finished}");
    let error = "no stack of 256 MiB: no room for 260 MiB: 780 MiB of the 1 GiB reserved for stacks are in use";
    assert_eq!(line("copying error "), format!("copying error {error}"), "{finished}");
    let said = finished.stderr.lines().filter(|line| {
        line.starts_with("morestack: green thread 'wide-")
            && line.ends_with(&format!(" cannot grow its stack: {error}"))
    });
    assert_eq!(said.count(), 5, "{finished}");
    assert_eq!(value(&finished, "in_use_bytes"), 0, "{finished}");
}

/// By default a process may have 65530 mappings.
#[test]
fn two_hundred_thousand_live_stacks() {
    let finished = run(&mut Command::new(env!("CARGO_BIN_EXE_live")));
    assert!(finished.status.success(), "{finished}");
    let most: u64 = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap().trim().parse().unwrap();
    let (waiting, joined) = (value(&finished, "waiting"), value(&finished, "joined"));
    if finished.stderr.contains("this kernel has no MADV_GUARD_INSTALL") {
        // Two mappings each, of half of them, but for what is left of a span.
        assert!(waiting + 60 > 200_000.min(most / 4), "{finished}");
        assert!(value(&finished, "mappings") < most / 2 + 1000, "{finished}");
    } else {
        assert_eq!(waiting, 200_000, "{finished}");
        assert!(value(&finished, "in_use_mib") >= 200_000 / 16, "64 KiB each: {finished}");
        assert!(value(&finished, "mappings") < 1000, "{finished}");
        // A page each for the stack and a share of page tables, and what a green thread is.
        assert!(value(&finished, "peak_rss_kib") < 1_200_000, "{finished}");
        assert_eq!(finished.stderr, "", "{finished}");
    }
    assert_eq!(joined, waiting, "{finished}");
    assert_eq!(value(&finished, "in_use_after"), 0, "{finished}");
}
