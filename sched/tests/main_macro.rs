//! `#[morestack::test]`: results, options, failures. `#[morestack::main]` needs programs: they are in the crate `tests`.

use std::process::{Command, ExitCode};
use std::time::Duration;

use morestack::{current, spawn};

fn name() -> String {
    std::thread::current().name().unwrap_or_default().to_owned()
}

#[morestack::test]
fn runs_as_a_green_thread() {
    let me = current().id();
    assert_eq!(current().id(), me);
    assert_eq!(name().split('-').next(), Some("morestack"));
    assert_eq!(spawn(|| 6 * 7).join().unwrap(), 42);
}

#[morestack::test(workers = 1, time_slice = "off", thread_name = "mine", stack_size = 1 << 20, freeze_after = "2s",)]
fn takes_options() {
    assert_eq!(name(), "mine-0");
}

#[morestack::test(time_slice = "100us", max_stack_size = 1 << 20, max_threads = 1000, pin_workers = false)]
fn takes_the_others() -> ExitCode {
    morestack::sleep(Duration::from_micros(10));
    ExitCode::SUCCESS
}

#[morestack::test]
fn takes_results_that_are_not_send() -> Result<(), Box<dyn std::error::Error>> {
    let n: u32 = "12".parse()?;
    assert_eq!(n, 12);
    Ok(())
}

#[morestack::test]
async fn takes_async_functions() {
    let rc = std::rc::Rc::new(1);
    assert_eq!(spawn(|| 2).await.unwrap() + *rc, 3);
}

#[morestack::test]
#[should_panic(expected = "as it should")]
fn panics_come_out() {
    panic!("as it should");
}

#[morestack::test(workers = 0)]
#[should_panic(expected = "workers=0: allowed: a whole number")]
fn bad_values_are_named() {}

#[morestack::test]
#[ignore = "only looked at from outside"]
fn a_bad_exit_code() -> ExitCode {
    ExitCode::from(3)
}

#[test]
fn a_bad_exit_code_fails_a_test() {
    let me = std::env::current_exe().unwrap();
    let output = Command::new(me).args(["--ignored", "--exact", "a_bad_exit_code"]).output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("a_bad_exit_code") && said.contains("FAILED"), "{said}");
}
