//! Runs programs, and compares.
//!
//! Expected is what cargo's build computes on an OS thread, without optimisation. The other build runs on green threads made by `spawn`: as it
//! is, and under stress.

use std::process::Command;
use std::time::Instant;

use super::build::Builder;
use super::{Did, LIMIT, Row};
use crate::command::{Finished, run_for};

/// A way to run a program of green threads.
struct Way {
    stress: &'static str,
    efence: bool,
    threads: usize,
}

/// The last has everything: what waits is frozen, too.
const WAYS: [Way; 4] = [
    Way { stress: "", efence: false, threads: 1 },
    Way { stress: "move", efence: true, threads: 1 },
    Way { stress: "preempt", efence: false, threads: 3 },
    Way { stress: "move,preempt,freeze", efence: true, threads: 2 },
];

/// Texts that each thread computes.
const ROUNDS: &str = "2";

/// Function entries that every program passes at least. Some are almost nothing but precompiled code of std's, and other threads.
const MOVES: u64 = 80;

/// Runs a program that [`Builder::Expected`] and [`Builder::Morestack`] have built.
pub fn check(name: &str) -> Row {
    let start = Instant::now();
    let mut did = Did::default();
    let result = compare(name, &mut did);
    Row { name: name.to_owned(), result, tests: None, did, time: start.elapsed() }
}

/// Adds up what was done under stress that moves.
fn compare(name: &str, sum: &mut Did) -> Result<(), String> {
    let one = program(Builder::Expected, name, &["os", "1", ROUNDS], &[])?.stdout;
    let text = one.strip_prefix("-- 0\n").filter(|text| !text.is_empty()).ok_or("it printed nothing")?;
    for Way { stress, efence, threads } in WAYS {
        let environment = [("MORESTACK_STRESS", stress), ("MORESTACK_EFENCE", if efence { "1" } else { "0" })];
        let threads = threads.to_string();
        let finished = program(Builder::Morestack, name, &["spawn", &threads, ROUNDS], &environment)?;
        // Programs that must be alone on their OS thread run once.
        let ran = finished.stdout.lines().filter(|line| is_start(line)).count();
        let expected: String = (0..ran).map(|index| format!("-- {index}\n{text}")).collect();
        if finished.stdout != expected || ran == 0 {
            return Err(format!(
                "another text than on an OS thread; stress {stress:?}\n{finished}\n--- expected\n{text}"
            ));
        }
        let did = Did::read(finished.stderr.lines().last().unwrap_or_default());
        if !stress.contains("move") {
            continue;
        }
        if did.grows < MOVES || did.bytes_copied < did.grows {
            return Err(format!("stacks did not move: {did:?}; stress {stress:?}\n{finished}"));
        }
        sum.grows += did.grows;
        sum.bytes_copied += did.bytes_copied;
        sum.segments += did.segments;
    }
    Ok(())
}

/// Whether a text begins behind this line.
fn is_start(line: &str) -> bool {
    line.strip_prefix("-- ").is_some_and(|index| index.parse::<usize>().is_ok())
}

fn program(builder: Builder, name: &str, args: &[&str], environment: &[(&str, &str)]) -> Result<Finished, String> {
    let mut command = Command::new(builder.dir().join(name));
    command.args(args).env_remove("RUST_BACKTRACE").envs(environment.iter().copied());
    let finished = run_for(LIMIT, &mut command)?;
    if finished.status.success() { Ok(finished) } else { Err(finished.to_string()) }
}
