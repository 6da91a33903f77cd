//! Other people's code computes the same on moving stacks: a selection. `--bin crates -- all` runs the rest.

use std::process::Command;
use std::time::Duration;

use morestack_tests::command::run_for;

/// For builds on two busy cores with nothing built before.
const LIMIT: Duration = Duration::from_secs(1200);

#[test]
fn popular_crates_compute_the_same_on_moving_stacks() {
    let finished = run_for(LIMIT, Command::new(env!("CARGO_BIN_EXE_crates")).arg("short")).unwrap();
    let stdout = finished.success();
    assert!(stdout.ends_with("\n8 of 8 as they should be\n"), "{stdout}");
}
