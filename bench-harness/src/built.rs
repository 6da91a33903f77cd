//! Programs that are built for a benchmark: those of `bench-harness/prologues`, by cargo and by `cargo morestack`.
//!
//! It is this workspace's tool. All is built in release mode below the directory that this program was built in, when it is first
//! needed; cargo knows what is there already.

use std::path::{Path, PathBuf};
use std::process::Command;

/// How a program is built.
#[derive(Clone, Copy)]
pub(crate) enum Build {
    /// By cargo itself.
    Default,
    /// The same, with the linker that `cargo morestack` has rustc use.
    Plain,
    /// With prologues alone.
    Prologues,
    /// With prologues and side stacks.
    SideStacks,
}

/// The program of this name.
pub(crate) fn program(build: Build, name: &str) -> PathBuf {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR"));
    let this = std::env::current_exe().expect("the path of this program");
    let tool = this.ancestors().nth(2).expect("a directory of cargo's");
    let target = tool.join("prologues");
    let cargo = || Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let (mut command, directory) = match build {
        Build::Default => (cargo(), target.join("default")),
        Build::Plain => {
            let mut command = cargo();
            command.env("RUSTFLAGS", "-Clinker-features=-lld");
            (command, target.join("plain"))
        }
        _ => {
            let mut command = cargo();
            command.args(["build", "--release", "--locked", "--package", "cargo-morestack"]).current_dir(sources);
            succeed(&mut command, tool);
            let mut command = Command::new(tool.join("release/cargo-morestack"));
            command.arg("morestack");
            match build {
                Build::Prologues => command.arg("--no-side-stack"),
                _ => &mut command,
            };
            (command, target.join(if matches!(build, Build::Prologues) { "checks" } else { "side-stacks" }))
        }
    };
    command.args(["build", "--release", "--locked"]).current_dir(sources.join("prologues"));
    succeed(&mut command, &directory);
    let built = match build {
        Build::Default | Build::Plain => directory.join("release"),
        _ => directory.join("morestack/x86_64-unknown-linux-gnu/release"),
    };
    built.join(name)
}

/// What it builds goes into this directory.
fn succeed(command: &mut Command, directory: &Path) {
    let output = command.env("CARGO_TARGET_DIR", directory).output().expect("cargo starts");
    let said = || String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, said());
}

/// What it prints.
pub(crate) fn output(program: &Path, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect("what was built starts");
    assert!(output.status.success(), "{} {arguments:?}: {}", program.display(), output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}
