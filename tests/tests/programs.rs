//! Every program gives the same text on an OS thread, on a reserved stack and on a copying stack: as it is, with the
//! stack moved at every prologue and old stacks inaccessible, preempted at every prologue, and frozen at every wait.

use std::process::Command;

use morestack_tests::command::{Finished, run};
use morestack_tests::environment::{BOTH, Environment, MOVE, PREEMPT};

/// A run of the binary.
fn program(name: &str, on: &str, args: &[&str], environment: &[(&str, &str)]) -> Finished {
    let mut command = Command::new(env!("CARGO_BIN_EXE_programs"));
    command.arg(name).args(["--on", on]).args(args).env_remove("RUST_BACKTRACE").envs(environment.iter().copied());
    let finished = run(&mut command);
    assert!(finished.status.success(), "{finished}");
    finished
}

/// What the scheduler did: moves, preemptions and freezes.
fn done(finished: &Finished) -> [u64; 3] {
    let line = finished.stderr.lines().last().unwrap_or_default();
    match line.split(' ').collect::<Vec<_>>()[..] {
        ["moves", moves, "preemptions", preemptions, "freezes", freezes] => {
            [moves, preemptions, freezes].map(|n| n.parse().unwrap_or_else(|_| panic!("not a number: {n}: {finished}")))
        }
        _ => panic!("no last line about the scheduler: {finished}"),
    }
}

/// Compares green threads under an environment with OS threads, and checks that the environment had its effect.
fn same(name: &str, args: &[&str], environment: &[(&str, &str)]) {
    let expected = program(name, "os", args, &[]).stdout;
    assert!(expected.starts_with(&format!("-- {name} 0\n")), "{expected}");
    let stress = environment.iter().find(|(name, _)| *name == "MORESTACK_STRESS").map_or("", |(_, stress)| stress);
    for on in ["spawn", "go"] {
        let finished = program(name, on, args, environment);
        assert_eq!(finished.stdout, expected, "{finished}");
        let [moves, preemptions, freezes] = done(&finished);
        assert!(on == "go" || moves + freezes == 0, "a reserved stack moved: {finished}");
        assert!(on != "go" || !stress.contains("move") || moves >= EVERY, "stacks did not move: {finished}");
        assert!(on != "go" || !stress.contains("freeze") || freezes >= WAITS, "stacks did not freeze: {finished}");
        assert!(!stress.contains("preempt") || preemptions >= EVERY, "nothing was preempted: {finished}");
    }
}

/// Prologues that every program passes at least, even when small.
const EVERY: u64 = 300;

/// Waits of the program that waits. Whether an operation has to wait is a matter of luck; it is never one in ten only.
const WAITS: u64 = EVERY / 10;

const FREEZE: &Environment =
    &[("MORESTACK_STRESS", "freeze"), ("MORESTACK_EFENCE", "1"), ("MORESTACK_STACK_DEBUG", "poison")];
const FREEZE_AND_MOVE: &Environment = &[("MORESTACK_STRESS", "freeze,move,preempt"), ("MORESTACK_EFENCE", "1")];

/// The tests of one program.
macro_rules! program {
    ($name:ident) => {
        mod $name {
            use super::*;

            #[test]
            fn plain() {
                same(stringify!($name), &[], &[]);
            }

            #[test]
            fn many() {
                same(stringify!($name), &["--small", "--threads", "16"], &[]);
            }

            #[test]
            fn moved() {
                same(stringify!($name), &["--small"], MOVE);
            }

            #[test]
            fn preempted() {
                same(stringify!($name), &["--small", "--threads", "8"], PREEMPT);
            }

            #[test]
            fn preempted_and_moved() {
                same(stringify!($name), &["--small", "--threads", "4"], BOTH);
            }
        }
    };
}

program!(recursion);
program!(sort);
program!(fmt);
program!(json);
program!(panic);
program!(deep64);
program!(iter);
program!(btree);
program!(hashmap);
program!(ring);

/// The one that waits.
mod waiting {
    use super::*;

    #[test]
    fn frozen() {
        same("ring", &["--small", "--threads", "8"], FREEZE);
    }

    /// Where a stack cannot be had to thaw onto, a green thread waits for it, and is not lost.
    #[test]
    fn frozen_without_memory() {
        let environment =
            [("MORESTACK_STRESS", "freeze"), ("MORESTACK_STACK_DEBUG", "fromsystem,fail=mmap/1@100..180")];
        let args = ["--small", "--threads", "8"];
        same("ring", &args, &environment);
        let finished = program("ring", "go", &args, &environment);
        assert!(
            finished.stderr.contains("waits for a stack, as others may from now on: no stack of 64 KiB"),
            "{finished}"
        );
    }

    #[test]
    fn frozen_and_moved() {
        same("ring", &["--small", "--threads", "4"], FREEZE_AND_MOVE);
    }
}
