//! What the tests share that need a process of their own.

use std::process::{Command, Output};

const ROLE: &str = "MORESTACK_TEST_CHILD";

/// Whether this is such a process.
pub fn is_child() -> bool {
    std::env::var_os(ROLE).is_some()
}

/// Runs the tests of this binary with `which` in their names once more, with stacks that move or freeze wherever they can.
#[allow(dead_code, reason = "each test binary uses its part")]
pub fn under_stress(which: &str) {
    if is_child() || std::env::var_os("MORESTACK_STRESS").is_some() {
        return;
    }
    for stress in ["move", "freeze", "move,preempt,freeze"] {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let output = command.arg(which).env(ROLE, "1").env("MORESTACK_STRESS", stress).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{stress}: {}: {}", output.status, String::from_utf8_lossy(&said));
    }
}

/// Runs one test of this binary again, in a process of its own.
#[allow(dead_code, reason = "as above")]
pub fn child(test: &str) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(ROLE, "1").output().unwrap()
}

/// Runs `body`, which is the rest of `test`, in a process of its own. What it says on standard error.
#[allow(dead_code, reason = "as above")]
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
