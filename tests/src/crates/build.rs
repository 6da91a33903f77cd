//! Builds the programs.

use std::path::{Path, PathBuf};
use std::process::Command;

use cargo_metadata::{Metadata, MetadataCommand};

use super::{repository, target};

/// Who builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Builder {
    /// Cargo alone, quickly: for what a program is expected to compute.
    Expected,
    /// Cargo alone.
    Plain,
    /// `cargo morestack`: checks and side stacks.
    Morestack,
    /// `cargo morestack --no-side-stack`: checks alone.
    Checks,
}

impl Builder {
    /// Where its programs are.
    pub fn dir(self) -> PathBuf {
        target().join(match self {
            Builder::Expected => "plain/expected",
            Builder::Plain => "plain/release",
            Builder::Morestack => "morestack/x86_64-unknown-linux-gnu/release",
            Builder::Checks => "checks/x86_64-unknown-linux-gnu/release",
        })
    }

    /// Builds these programs. `tool` is `cargo-morestack`.
    pub fn build(self, tool: &Path, names: &[String]) -> Result<(), String> {
        let mut command = match self {
            Builder::Expected | Builder::Plain => cargo(),
            Builder::Morestack | Builder::Checks => morestack(tool),
        };
        command.arg("build").args((self == Builder::Checks).then_some("--no-side-stack"));
        let dir = match self {
            Builder::Expected | Builder::Plain => "plain",
            Builder::Morestack => "morestack",
            Builder::Checks => "checks",
        };
        let profile = if self == Builder::Expected { "expected" } else { "release" };
        command.args(["--locked", "--profile", profile, "--features", &names.join(",")]);
        command.arg("--target-dir").arg(target().join(dir));
        for name in names {
            command.args(["--bin", name]);
        }
        succeed(command.current_dir(workspace()))
    }
}

/// The workspace of the programs.
pub fn workspace() -> PathBuf {
    repository().join("tests/crates")
}

/// Cargo, as if it were called by hand.
pub fn cargo() -> Command {
    clean(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// `cargo morestack`, whose program is `tool`.
pub fn morestack(tool: &Path) -> Command {
    let mut command = clean(tool);
    command.arg("morestack");
    command
}

/// Without what the cargo that runs this has set.
fn clean(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let of_cargo = text.starts_with("CARGO_") && !["CARGO_HOME", "CARGO_NET_OFFLINE"].contains(&&*text);
        if of_cargo || text.starts_with("MORESTACK_") || ["CARGO", "RUSTFLAGS", "RUST_BACKTRACE"].contains(&&*text) {
            command.env_remove(name);
        }
    }
    command
}

/// Runs it, with its output where ours goes.
pub fn succeed(command: &mut Command) -> Result<(), String> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{command:?}: {status}")),
        Err(error) => Err(format!("cannot start {command:?}: {error}")),
    }
}

/// Builds `cargo-morestack`, and says where it is.
pub fn tool() -> Result<PathBuf, String> {
    succeed(cargo().args(["build", "--release", "--locked", "-p", "cargo-morestack"]).current_dir(repository()))?;
    Ok(repository().join("target/release/cargo-morestack"))
}

/// What cargo knows of the programs and their crates.
pub fn metadata() -> Result<Metadata, String> {
    MetadataCommand::new()
        .manifest_path(workspace().join("Cargo.toml"))
        .other_options(["--locked".to_owned(), "--all-features".to_owned()])
        .exec()
        .map_err(|error| error.to_string())
}

/// The names of all programs.
pub fn names() -> Result<Vec<String>, String> {
    let metadata = metadata()?;
    let package = metadata.root_package().ok_or("tests/crates has no package")?;
    Ok(package.targets.iter().filter(|target| target.is_bin()).map(|target| target.name.clone()).collect())
}
