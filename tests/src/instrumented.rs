//! Programs that `cargo morestack` builds, for the tests of automatic prologues.
//!
//! The tool is that of this workspace. What it builds goes where it always goes, so that a second run finds it done.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::command::{Finished, run};

/// The directory of all that cargo builds. `tmp` is that of cargo for tests (`CARGO_TARGET_TMPDIR`), which is in it.
fn target(tmp: &str) -> &Path {
    Path::new(tmp).parent().expect("a directory in the target directory")
}

fn tests() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Builds, and shows what was said if that fails.
fn succeed(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
}

/// `cargo morestack build`, with the tool built before.
fn morestack_build(tmp: &str, dir: &Path, arguments: &[&str]) {
    static TOOL: OnceLock<PathBuf> = OnceLock::new();
    let tool = TOOL.get_or_init(|| {
        let target = target(tmp);
        succeed(
            cargo()
                .current_dir(tests())
                .args(["build", "--release", "--locked", "--package", "cargo-morestack"])
                .env("CARGO_TARGET_DIR", target),
        );
        target.join("release/cargo-morestack")
    });
    let mut command = Command::new(tool);
    command.args(["morestack", "build", "--locked"]).args(arguments).current_dir(dir);
    succeed(command.env("CARGO_TARGET_DIR", target(tmp)));
}

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Where it puts what it builds with this profile.
fn built(tmp: &str, profile: &str) -> PathBuf {
    target(tmp).join("morestack").join(TARGET).join(profile)
}

fn fixtures() -> PathBuf {
    tests().join("fixtures/workspace")
}

/// A program of `fixtures/workspace`, or a library by its file's name.
pub fn fixture(tmp: &str, name: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| morestack_build(tmp, &fixtures(), &["--release"]));
    built(tmp, "release").join(name)
}

/// The one that aborts on panics.
pub fn aborting_fixture(tmp: &str) -> PathBuf {
    morestack_build(tmp, &fixtures(), &["--profile", "abort", "--package", "fixture-overflow"]);
    built(tmp, "abort").join("fixture-overflow")
}

/// As [`fixture`], but built by cargo itself.
pub fn plain_fixture(tmp: &str, name: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let mut command = cargo();
        command.args(["build", "--release", "--locked"]).current_dir(fixtures());
        succeed(command.env("CARGO_TARGET_DIR", target(tmp)));
    });
    target(tmp).join("release").join(name)
}

/// A program of this package, though it has attributes.
pub fn program(tmp: &str, name: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    let arguments = ["--release", "--package", env!("CARGO_PKG_NAME"), "--bin", "programs", "--bin", "differential"];
    BUILT.get_or_init(|| morestack_build(tmp, tests(), &arguments));
    built(tmp, "release").join(name)
}

/// Runs it with this environment, and no other of Morestack's.
#[track_caller]
pub fn run_with(program: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Finished {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"MORESTACK_") {
            command.env_remove(name);
        }
    }
    run(command.args(arguments).env_remove("RUST_BACKTRACE").envs(environment.iter().copied()))
}
