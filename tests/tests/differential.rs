//! Random programs compute the same on OS threads, on reserved stacks and on copying stacks: as they are, with the stack
//! moved at every prologue and old stacks inaccessible, moved and preempted at every prologue, and frozen at every wait. Those that
//! lend their locals to more than copying stacks allow for run on reserved stacks; `automatic` has them where all stacks move.
//!
//! The seeds are fixed and different in each test: 10,000 programs together. Unoptimised, stress takes some twenty times
//! as long, and there are 500.

use std::collections::HashMap;
use std::process::Command;

use morestack_tests::command::run;

/// The programs of a test, out of those of an optimised build.
const fn programs(optimised: u64) -> u64 {
    if cfg!(debug_assertions) { optimised / 20 } else { optimised }
}

/// What a run of the binary counted.
struct Counts(HashMap<String, u64>);

impl Counts {
    fn get(&self, name: &str) -> u64 {
        *self.0.get(name).unwrap_or_else(|| panic!("no count of {name}: {:?}", self.0))
    }

    /// At least so many of them for every 100 programs.
    #[track_caller]
    fn at_least(&self, percent: u64, name: &str) {
        let least = self.get("programs") * percent / 100;
        assert!(self.get(name) >= least, "{name}: fewer than {least}: {:?}", self.0);
    }
}

/// Compares `count` programs, and checks that they did what they are for.
#[track_caller]
fn same(seed: u64, count: u64, threads: usize, environment: &[(&str, &str)]) -> Counts {
    let mut command = Command::new(env!("CARGO_BIN_EXE_differential"));
    command.args(["--seed", &seed.to_string(), "--programs", &count.to_string(), "--threads", &threads.to_string()]);
    command.env_remove("MORESTACK_STRESS").env_remove("MORESTACK_EFENCE").env_remove("MORESTACK_STACK_DEBUG");
    let finished = run(command.envs(environment.iter().copied()));
    assert!(finished.status.success(), "{finished}");
    let words: Vec<&str> = finished.stdout.split_whitespace().collect();
    let pairs = words.chunks(2).map(|pair| (pair[0].to_owned(), pair[1].parse().expect("a number")));
    let counts = Counts(pairs.collect());
    assert_eq!(counts.get("programs"), count);
    assert_eq!(counts.get("reserved-moves"), 0, "a reserved stack moved");
    counts.at_least(4_000, "nodes");
    counts.at_least(800, "drops");
    counts.at_least(60, "panics");
    counts.at_least(100, "parks");
    counts.at_least(100, "reserved-parks");
    assert!(counts.get("depth") >= 100, "{:?}", counts.0);
    counts
}

#[test]
fn plain() {
    // Few grow: their spawn sites remember.
    same(1_000_000, programs(2_750), 8, &[]);
}

/// Reserved stacks that are preempted while others refer to locals there.
#[test]
fn lent() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_differential"));
    command.args(["--lent", "--seed", "5000000", "--programs", &programs(1_000).to_string()]);
    let finished = run(command.env("MORESTACK_STRESS", "preempt").env_remove("MORESTACK_EFENCE"));
    assert!(finished.status.success(), "{finished}");
}

#[test]
fn frozen() {
    let counts = same(4_000_000, programs(2_000), 8, &[("MORESTACK_STRESS", "freeze"), ("MORESTACK_EFENCE", "1")]);
    counts.at_least(100, "freezes");
    // They thaw onto small stacks, and grow anew.
    counts.at_least(20, "moves");
}

/// Two at a time: more wait for the lock of the address space, which every move under efence takes several times.
#[test]
fn moved() {
    let counts = same(2_000_000, programs(500), 2, &[("MORESTACK_STRESS", "move"), ("MORESTACK_EFENCE", "1")]);
    counts.at_least(20_000, "moves");
    counts.at_least(60, "shrinks");
}

#[test]
fn moved_and_preempted() {
    let counts = same(3_000_000, programs(4_750), 8, &[("MORESTACK_STRESS", "move,preempt,freeze")]);
    counts.at_least(40, "shrinks");
    counts.at_least(100, "freezes");
    counts.at_least(20_000, "moves");
    counts.at_least(20_000, "preemptions");
    counts.at_least(20_000, "reserved-preemptions");
}
