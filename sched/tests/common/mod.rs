//! What the tests share that need a process of their own.

use std::process::{Command, Output};

const ROLE: &str = "MORESTACK_TEST_CHILD";

/// Whether this is such a process.
pub fn is_child() -> bool {
    std::env::var_os(ROLE).is_some()
}

/// Runs one test of this binary again, in a process of its own.
pub fn child(test: &str) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(ROLE, "1").output().unwrap()
}

/// Runs `body`, which is the rest of `test`, in a process of its own. What it says on standard error.
#[allow(dead_code, reason = "each test binary uses its part")]
pub fn alone(test: &str, body: fn()) -> String {
    if is_child() {
        body();
        std::process::exit(0);
    }
    let output = child(test);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    said
}
