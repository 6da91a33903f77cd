//! A green thread's stack can be walked to its end: by the unwinder, and by gdb.

use std::process::Command;

use morestack_tests::command::{Finished, run};

const FRAMES: &str = env!("CARGO_BIN_EXE_frames");

/// Of the stack without the recursion: std's capture, five functions, and what runs a green thread.
const MANY: usize = 100;

/// The functions of the binary, from the inside. A build with line tables only has no paths before the names.
const NAMES: [&str; 5] = ["innermost", "inner", "middle", "recurse", "outer"];

/// Whether the line of a frame names this function: the whole name, since `inner` is the start of `innermost`.
fn names(line: &str, function: &str) -> bool {
    line.split([' ', '(']).any(|word| word.strip_prefix("frames::").unwrap_or(word) == function)
}

/// Checks that the names appear in this order, and gives the number of frames of `recurse`.
#[track_caller]
fn in_order(trace: &str, is_frame: impl Fn(&str) -> bool, finished: &Finished) -> usize {
    let lines: Vec<&str> = trace.lines().filter(|line| is_frame(line)).collect();
    let mut rest = &lines[..];
    for name in NAMES {
        let found = rest.iter().position(|line| names(line, name));
        let Some(found) = found else { panic!("{name} is missing or out of order: {finished}") };
        rest = &rest[found + 1..];
    }
    let recursion = lines.iter().filter(|line| names(line, "recurse")).count();
    assert!(lines.len() - recursion < MANY, "the walk does not end: {finished}");
    recursion
}

fn unwinder(on: &str, deep: usize) {
    let finished = run(Command::new(FRAMES).args(["--on", on, "--deep", &deep.to_string()]));
    assert!(finished.status.success(), "{finished}");
    // `  12: name`, followed by a line with the place.
    let is_frame = |line: &str| line.trim_start().split_once(": ").is_some_and(|(n, _)| n.parse::<u32>().is_ok());
    assert_eq!(in_order(&finished.stdout, is_frame, &finished), deep + 1, "{finished}");
}

fn gdb(on: &str, deep: usize) {
    let present = Command::new("gdb").arg("--version").output().is_ok_and(|output| output.status.success());
    assert!(present, "this test needs gdb: install it (Debian, Ubuntu: apt-get install gdb)");
    let mut command = Command::new("gdb");
    command.args(["-nx", "-batch", "-iex", "set debuginfod enabled off"]);
    command.args(["-ex", "set breakpoint pending off", "-ex", "set print frame-arguments none"]);
    // One of the two names exists, as above. gdb says that the other does not, and goes on.
    command.args(["-ex", "break frames::innermost", "-ex", "break innermost", "-ex", "run", "-ex", "backtrace"]);
    command.args(["--args", FRAMES, "--on", on, "--deep", &deep.to_string()]);
    let finished = run(&mut command);
    assert!(finished.status.success(), "{finished}");
    let all = format!("{}{}", finished.stdout, finished.stderr).to_lowercase();
    for trouble in ["corrupt stack", "backtrace stopped", "cannot access memory", "frame identical", "inner to this"] {
        assert!(!all.contains(trouble), "gdb says {trouble:?}: {finished}");
    }
    assert_eq!(in_order(&finished.stdout, |line| line.starts_with('#'), &finished), deep + 1, "{finished}");
}

#[test]
fn unwinder_on_a_reserved_stack() {
    unwinder("spawn", 0);
}

#[test]
fn unwinder_on_a_copying_stack() {
    unwinder("go", 0);
}

#[test]
fn unwinder_on_a_stack_that_moved() {
    unwinder("go", 300);
}

#[test]
fn gdb_on_a_reserved_stack() {
    gdb("spawn", 0);
}

#[test]
fn gdb_on_a_copying_stack() {
    gdb("go", 0);
}

#[test]
fn gdb_on_a_stack_that_moved() {
    gdb("go", 300);
}
