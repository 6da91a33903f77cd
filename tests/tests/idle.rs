//! A runtime with nothing to do uses no processor time.

use std::process::Command;

use morestack_tests::command::run;

/// 0.5 % of the two seconds that the binary is idle, in microseconds.
const LIMIT: u64 = 10_000;

fn idle(state: &str) {
    let stdout = run(Command::new(env!("CARGO_BIN_EXE_idle")).arg(state)).success();
    let used: u64 = stdout.trim().parse().expect("microseconds");
    assert!(used < LIMIT, "{state}: {used} us of processor time in 2 s");
}

#[test]
fn fresh() {
    idle("fresh");
}

#[test]
fn after_work() {
    idle("worked");
}

#[test]
fn after_work_with_a_spinning_sysmon() {
    idle("spun");
}

#[test]
fn with_a_sleeper() {
    idle("sleeper");
}

#[test]
fn with_a_parked_thread() {
    idle("parked");
}
