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

/// Builds. The error is what was said.
fn succeed(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("cannot start {command:?}: {error}"))?;
    let said = || format!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(()) } else { Err(said()) }
}

/// What is built once, well or not.
type Once = OnceLock<Result<(), String>>;

#[track_caller]
fn once(built: &Once, build: impl FnOnce() -> Result<(), String>) {
    if let Err(said) = built.get_or_init(build) {
        panic!("{said}");
    }
}

/// How a program is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// By cargo itself.
    Plain,
    /// With prologues, without side stacks: `spawn` gives reserved stacks.
    Prologues,
    /// With all that `cargo morestack` does.
    Full,
}

/// `cargo build` or `cargo morestack build`, with the tool built before.
fn build(tmp: &str, how: Build, dir: &Path, arguments: &[&str]) -> Result<(), String> {
    static TOOL: Once = OnceLock::new();
    let mut command = if how == Build::Plain {
        cargo()
    } else {
        TOOL.get_or_init(|| {
            let mut command = cargo();
            command.args(["build", "--release", "--locked", "--package", "cargo-morestack"]).current_dir(tests());
            succeed(command.env("CARGO_TARGET_DIR", target(tmp)))
        })
        .clone()?;
        let mut command = Command::new(target(tmp).join("release/cargo-morestack"));
        command.arg("morestack").args((how == Build::Prologues).then_some("--no-side-stack"));
        command
    };
    command.args(["build", "--locked"]).args(arguments).current_dir(dir);
    succeed(command.env("CARGO_TARGET_DIR", directory(tmp, how)))
}

/// The directory of what is built so: of programs with side stacks and without the files have the same names.
fn directory(tmp: &str, how: Build) -> PathBuf {
    if how == Build::Prologues { Path::new(tmp).join("prologues") } else { target(tmp).to_owned() }
}

/// Where what is built with this profile is put.
fn built(tmp: &str, how: Build, profile: &str) -> PathBuf {
    let directory = directory(tmp, how);
    match how {
        Build::Plain => directory.join(profile),
        _ => directory.join("morestack/x86_64-unknown-linux-gnu").join(profile),
    }
}

fn fixtures() -> PathBuf {
    tests().join("fixtures/workspace")
}

/// A program of `fixtures/workspace`, or a library by its file's name.
pub fn fixture(tmp: &str, how: Build, name: &str) -> PathBuf {
    static BUILT: [Once; 3] = [const { OnceLock::new() }; 3];
    once(&BUILT[how as usize], || build(tmp, how, &fixtures(), &["--release"]));
    built(tmp, how, "release").join(name)
}

/// The one that aborts on panics.
pub fn aborting_fixture(tmp: &str) -> PathBuf {
    let arguments = ["--profile", "abort", "--package", "fixture-overflow"];
    once(&OnceLock::new(), || build(tmp, Build::Prologues, &fixtures(), &arguments));
    built(tmp, Build::Prologues, "abort").join("fixture-overflow")
}

/// A program of this package, though some have attributes.
pub fn program(tmp: &str, name: &str) -> PathBuf {
    static BUILT: Once = OnceLock::new();
    let arguments = ["--release", "--package", env!("CARGO_PKG_NAME")];
    let programs = ["programs", "differential", "segments", "side"].map(|name| ["--bin", name]);
    let arguments: Vec<_> = arguments.into_iter().chain(programs.into_iter().flatten()).collect();
    once(&BUILT, || build(tmp, Build::Full, tests(), &arguments));
    built(tmp, Build::Full, "release").join(name)
}

/// Runs it with this environment, and no other of Morestack's.
#[track_caller]
pub fn run_with(program: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Finished {
    run(&mut command_with(program, arguments, environment))
}

/// The command that [`run_with`] runs.
pub fn command_with(program: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"MORESTACK_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).env_remove("RUST_BACKTRACE").envs(environment.iter().copied());
    command
}
