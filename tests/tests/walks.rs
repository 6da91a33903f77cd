//! The stacks of programs that `cargo morestack` has built can be walked to their end, by the unwinder and by gdb: at a function's entry,
//! in the middle of the slow path, and where a call has gone to a segment.
//!
//! The functions are those of the fixtures' `backtrace.rs`.

use std::process::Command;

use morestack_tests::command::{Finished, bounded, run};
use morestack_tests::environment::{BOTH, Environment, MOVE, NONE, PREEMPT};
use morestack_tests::instrumented::Build::{self, Full, Prologues};
use morestack_tests::instrumented::{command_with, fixture};

const TMP: &str = env!("CARGO_TARGET_TMPDIR");

/// Whether the line of a frame names this function: the whole name.
fn names(line: &str, function: &str) -> bool {
    line.split([' ', '(']).any(|word| word.rsplit("::").next() == Some(function))
}

/// Runs the checks, which walk their stack and print it.
#[track_caller]
fn checks(build: Build, arguments: &[&str], environment: &Environment) -> Finished {
    let finished = run(bounded(&mut command_with(&fixture(TMP, build, "fixture-checks"), arguments, environment)));
    assert!(finished.status.success(), "{finished}");
    finished
}

/// The lines of frames that std has printed: `  12: name`. Each is followed by one with the place.
fn frames(text: &str) -> Vec<&str> {
    let is_frame = |line: &&str| line.trim_start().split_once(": ").is_some_and(|(n, _)| n.parse::<u32>().is_ok());
    text.lines().filter(is_frame).collect()
}

/// Lets the checks run in gdb as far as to this function, then has it do this; it finds nothing wrong with their stack.
#[track_caller]
fn gdb(build: Build, arguments: &[&str], environment: &Environment, function: &str, then: &[&str]) -> Finished {
    let mut command = Command::new("gdb");
    command.args(["-nx", "-batch", "-iex", "set debuginfod enabled off"]);
    command.args(["-ex", "set breakpoint pending off", "-ex", "set print frame-arguments none"]);
    command.args(["-ex", "handle SIGSEGV nostop noprint pass"]);
    command.args(["-ex", &format!("break {function}"), "-ex", "run"]);
    for each in then {
        command.args(["-ex", each]);
    }
    command.arg("--args").arg(fixture(TMP, build, "fixture-checks")).args(arguments);
    let finished = run(bounded(command.envs(environment.iter().copied())));
    assert!(finished.status.success(), "{finished}");
    let all = format!("{}{}", finished.stdout, finished.stderr).to_lowercase();
    for trouble in ["corrupt stack", "backtrace stopped", "cannot access memory", "frame identical", "inner to this"] {
        assert!(!all.contains(trouble), "gdb says {trouble:?}: {finished}");
    }
    finished
}

/// The lines of frames that gdb has printed.
fn gdb_frames(text: &str) -> Vec<&str> {
    text.lines().filter(|line| line.starts_with('#')).collect()
}

/// What gdb finds at the next call of `__morestack` behind this function, and at each of so many instructions from there on.
#[track_caller]
fn steps(build: Build, arguments: &[&str], environment: &Environment, function: &str, steps: usize) -> Finished {
    let there = ["delete", "set language c", "break *__morestack", "continue", "delete"];
    let step = ["echo walk\\n", "backtrace", "stepi"];
    let then: Vec<&str> = there.into_iter().chain(std::iter::repeat_n(step, steps).flatten()).collect();
    gdb(build, arguments, environment, function, &then)
}

/// The frames of each backtrace of [`steps`].
fn walks(text: &str) -> Vec<Vec<&str>> {
    text.split("walk\n").skip(1).map(gdb_frames).collect()
}

/// On a stack of one piece.
mod whole {
    use super::*;

    /// The functions, from the inside.
    const NAMES: [&str; 5] = ["innermost", "inner", "middle", "recurse", "outer"];

    /// Of the stack without the recursion.
    const MANY: usize = 100;

    /// Checks that these names appear in this order, in a walk that ends.
    #[track_caller]
    fn in_order(lines: &[&str], expected: &[&str], finished: &Finished) {
        let mut rest = lines;
        for name in expected {
            let found = rest.iter().position(|line| names(line, name));
            let Some(found) = found else { panic!("{name} is missing or out of order: {finished}") };
            rest = &rest[found + 1..];
        }
        let recursion = lines.iter().filter(|line| names(line, "recurse")).count();
        assert_eq!(recursion, 301, "{finished}");
        assert!(lines.len() - recursion < MANY, "the walk does not end: {finished}");
    }

    #[test]
    fn by_the_unwinder() {
        for build in [Prologues, Full] {
            for (on, environment) in [("spawn", NONE), ("go", NONE), ("go", BOTH)] {
                let finished = checks(build, &["backtrace", on], environment);
                in_order(&frames(&finished.stdout), &NAMES, &finished);
            }
        }
    }

    /// Up to where it leaves the green thread's stack there are more.
    const STEPS: usize = 30;

    /// At the first instruction of the slow path, and at each from there on: `innermost` has no frame yet, and its caller stands at the
    /// call.
    #[test]
    fn by_gdb_from_within_the_slow_path() {
        for on in ["spawn", "go"] {
            let finished = steps(Prologues, &["backtrace", on], PREEMPT, "innermost", STEPS);
            let walks = walks(&finished.stdout);
            assert_eq!(walks.len(), STEPS, "{finished}");
            for lines in walks {
                assert!(names(lines[0], "__morestack"), "{finished}");
                in_order(&lines, &NAMES[1..], &finished);
            }
        }
    }
}

/// Of which parts are on segments: above `fmt::write`, which is precompiled, and above another one.
mod segments {
    use super::*;

    /// The functions from the inside to the first of a green thread, and how many frames each has.
    const FRAMES: [(&str, usize); 8] = [
        ("deepest", 1),
        ("top", 110),
        ("write", 1),
        ("above", 100),
        ("write", 1),
        ("below", 10),
        ("outermost", 1),
        ("gostart", 1),
    ];

    /// Frames of these functions in the order of the walk, how many there are of each in a row. Those of others are left out.
    fn in_rows(lines: &[&str]) -> Vec<(&'static str, usize)> {
        let mut rows: Vec<(&str, usize)> = Vec::new();
        for (name, _) in lines.iter().filter_map(|line| FRAMES.iter().find(|(name, _)| names(line, name))) {
            match rows.last_mut() {
                Some((last, count)) if last == name => *count += 1,
                _ => rows.push((name, 1)),
            }
        }
        rows
    }

    /// Checks a walk from `deepest` on, which leads through two segments at least.
    #[track_caller]
    fn all(lines: &[&str], finished: &Finished) {
        let deepest = lines.iter().position(|line| names(line, "deepest"));
        let Some(deepest) = deepest else { panic!("no deepest: {finished}") };
        assert_eq!(in_rows(&lines[deepest..]), FRAMES, "{finished}");
        assert!(lines.iter().filter(|line| names(line, "__morestack")).count() >= 2, "{finished}");
    }

    #[test]
    fn by_the_unwinder() {
        for environment in [NONE, MOVE, BOTH] {
            let finished = checks(Full, &["backtrace-segments", "capture"], environment);
            all(&frames(&finished.stdout), &finished);
        }
    }

    #[test]
    fn by_the_hook_of_a_panic() {
        let finished = checks(Full, &["backtrace-segments", "panic"], &[("RUST_BACKTRACE", "full")]);
        assert!(finished.stdout.contains("panicked 1\n"), "{finished}");
        all(&frames(&finished.stderr), &finished);
    }

    #[test]
    fn by_gdb() {
        let finished = gdb(Full, &["backtrace-segments", "capture"], NONE, "deepest", &["backtrace"]);
        all(&gdb_frames(&finished.stdout), &finished);
    }

    /// More than a call across the boundary has, and its return.
    const STEPS: usize = 150;

    /// On the way back from `deepest`, `again` is called across the boundary: at each instruction on the way there and back, what is
    /// below is the same.
    #[test]
    fn by_gdb_from_within_a_call_to_one() {
        let finished = steps(Full, &["backtrace-segments", "capture"], NONE, "deepest", STEPS);
        let walks = walks(&finished.stdout);
        // It has come back where the caller goes on.
        let back = walks.iter().position(|lines| names(lines[0], "top"));
        let Some(back) = back else { panic!("it does not come back: {finished}") };
        assert!(
            walks[..back].iter().any(|lines| names(lines[0], "again") && names(lines[1], "__morestack")),
            "{finished}"
        );
        let expected = in_rows(&walks[back]);
        let (top, rest) = (expected[0], &expected[1..]);
        assert!(top.0 == "top" && top.1 < FRAMES[1].1 && rest == &FRAMES[2..], "{expected:?}: {finished}");
        for lines in &walks[..back] {
            assert_eq!(in_rows(lines), expected, "{lines:#?}: {finished}");
        }
    }
}
