//! Safe green threads on stacks that move: segments above frames that must not, and side stacks for all.

use std::os::unix::process::ExitStatusExt;

use morestack_tests::command::Finished;
use morestack_tests::environment::{BOTH, Environment, MOVE, NONE};
use morestack_tests::instrumented::{program, run_with};

const TMP: &str = env!("CARGO_TARGET_TMPDIR");

const FREEZE: &Environment = &[("MORESTACK_STRESS", "freeze,move"), ("MORESTACK_EFENCE", "1")];

/// What a program counted, from its last line on the standard error.
#[track_caller]
fn counted(finished: &Finished, name: &str) -> u64 {
    let line = finished.stderr.lines().last().unwrap_or_default();
    let words: Vec<_> = line.split(' ').collect();
    let at = words.iter().position(|word| *word == name);
    at.and_then(|at| words.get(at + 1)?.parse().ok()).unwrap_or_else(|| panic!("no {name}: {finished}"))
}

/// Calls above frames of std.
mod segments {
    use super::*;

    /// The same text as on an OS thread, under each environment; `least` segments with stress.
    #[track_caller]
    fn same(test: &str, least: u64) {
        let program = program(TMP, "segments");
        let run = |on, environment| run_with(&program, &[test, "--small", "--on", on], environment);
        let expected = run("os", NONE).success();
        for environment in [NONE, MOVE, BOTH, FREEZE] {
            let finished = run("spawn", environment);
            assert!(finished.status.success(), "{environment:?}: {finished}");
            assert_eq!(finished.stdout, expected, "{environment:?}: {finished}");
            let stress = environment != NONE;
            assert!(!stress || counted(&finished, "segments") >= least, "{environment:?}: {finished}");
            assert!(!stress || counted(&finished, "moves") > 0, "{environment:?}: {finished}");
        }
    }

    #[test]
    fn nested() {
        same("nested", 800);
    }

    #[test]
    fn deep() {
        same("deep", 2);
    }

    /// Registers, arguments on the stack, and results of all kinds.
    #[test]
    fn arguments() {
        same("arguments", 6);
    }

    #[test]
    fn panics() {
        same("panics", 20);
    }

    /// From the heap, a thread-local and a scoped thread into frames.
    #[test]
    fn references() {
        same("references", 60);
    }

    #[test]
    fn boundary() {
        same("boundary", 2);
    }

    #[test]
    fn waits() {
        same("waits", 2);
        let frozen = run_with(&program(TMP, "segments"), &["waits", "--small"], FREEZE);
        assert!(counted(&frozen, "freezes") >= 40, "on the segment: {frozen}");
    }

    #[test]
    fn one_that_grows_by_itself() {
        let finished = run_with(&program(TMP, "segments"), &["deep"], NONE);
        assert!(finished.status.success(), "{finished}");
        assert!(counted(&finished, "segments") >= 2 && counted(&finished, "moves") >= 4, "{finished}");
    }
}

/// Side stacks.
mod side {
    use super::*;

    #[track_caller]
    fn says(test: &str, expected: &[&str]) {
        says_with(NONE, test, expected);
    }

    #[track_caller]
    fn says_with(environment: &Environment, test: &str, expected: &[&str]) {
        let finished = run_with(&program(TMP, "side"), &[test], environment);
        assert!(finished.status.success(), "{finished}");
        let lines: Vec<_> = finished.stdout.lines().collect();
        assert_eq!(lines, expected, "{finished}");
    }

    #[test]
    fn threads_of_all_origins_have_one() {
        says("threads", &["std 101", "small 51", "pthread 101", "c11 101", "scoped 808", "blocking 101"]);
    }

    /// Also what a destructor of a thread-local does comes before that.
    #[test]
    fn those_of_threads_that_have_ended_are_unmapped() {
        let finished = run_with(&program(TMP, "side"), &["exits"], NONE);
        assert!(finished.status.success(), "{finished}");
        let more = finished.stdout.lines().find_map(|line| line.strip_prefix("more ")?.parse::<u64>().ok());
        assert!(more.is_some_and(|more| more < 50), "{finished}");
        assert!(finished.stdout.contains("ended 3520\n"), "{finished}");
    }

    #[test]
    fn handlers_use_that_of_whom_they_interrupt() {
        says("signals", &["computed 8400", "handled 1600"]);
    }

    #[test]
    fn a_child_goes_on_with_that_of_its_parent() {
        says("fork", &["child 1"]);
    }

    #[test]
    fn the_pointer_is_back_where_it_was_after_a_panic() {
        says("panics", &["os 1", "green 1", "differ 1"]);
    }

    /// Whatever came before, and in whatever order: each piece of a stack has a side stack that lasts.
    #[test]
    fn it_lasts_for_each_recursion() {
        for environment in [NONE, MOVE, BOTH, FREEZE] {
            says_with(environment, "recursions", &["equal 1", "segments 1", "moves 1"]);
        }
    }

    #[test]
    fn segments_are_given_back_by_one_that_runs_on() {
        says("left", &["first 1", "again 0", "later 1"]);
    }

    #[test]
    fn an_overflow_is_named() {
        let finished = run_with(&program(TMP, "side"), &["gap"], NONE);
        assert_eq!(finished.status.signal(), Some(libc::SIGABRT), "{finished}");
        assert!(finished.stderr.contains("green thread 'sudden' (id "), "{finished}");
        assert!(finished.stderr.contains("overflowed its side stack"), "{finished}");
    }

    #[test]
    fn it_grows_with_the_stack() {
        says("locals", &["small 20001", "page 2001", "large 301", "endless 1"]);
    }

    #[test]
    fn a_function_with_too_many_locals_has_none() {
        says("huge", &["huge 6", "again 21", "inlined 21"]);
    }

    /// What asks for them would take those of the OS thread for those of all its green threads.
    #[test]
    fn the_bounds_of_a_stack_that_grows_are_far() {
        says("bounds", &["main 1", "os 1", "green 1"]);
    }

    #[test]
    fn spawn_gives_copying_stacks() {
        says("mode", &["copying 1", "asked 2001"]);
    }
}
