//! `#[morestack::main]`: how a program runs and ends.

use std::process::{Command, Output};

fn program(argument: &str, variable: (&str, &str)) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_main_macro"));
    command.arg(argument).env(variable.0, variable.1).env("RUST_BACKTRACE", "0").output().unwrap()
}

#[test]
fn main_runs_on_the_global_runtime_and_ends_the_process() {
    let output = program("", ("NOTHING", ""));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.starts_with("on example-") && said.contains("elsewhere true"), "{said}");
}

#[test]
fn main_ends_as_without_the_attribute() {
    let failed = program("fail", ("NOTHING", ""));
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    assert!(String::from_utf8_lossy(&failed.stderr).contains("Error: \"it failed\""), "{failed:?}");
    let panicked = program("panic", ("NOTHING", ""));
    assert_eq!(panicked.status.code(), Some(101), "{panicked:?}");
    assert!(String::from_utf8_lossy(&panicked.stderr).contains("it panicked"), "{panicked:?}");
}

#[test]
fn main_says_what_is_wrong_with_its_settings() {
    let output = program("", ("MORESTACK_STACK_SIZE", "tiny"));
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("morestack: MORESTACK_STACK_SIZE=tiny"), "{output:?}");
}
