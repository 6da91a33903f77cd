//! Other people's code computes the same on moving stacks: a selection. `--bin crates -- all` runs the rest.

use std::process::Command;
use std::time::Duration;

use morestack_tests::command::run_for;
use morestack_tests::crates::SHORT;

/// For builds on two busy cores with nothing built before.
const LIMIT: Duration = Duration::from_secs(1200);

#[test]
fn popular_crates_compute_the_same_on_moving_stacks() {
    let finished = run_for(LIMIT, Command::new(env!("CARGO_BIN_EXE_crates")).arg("short")).unwrap();
    let stdout = finished.success();
    let all = SHORT.len();
    assert!(stdout.ends_with(&format!("\n{all} of {all} as they should be\n")), "{stdout}");
}
