//! Starts cargo with wrappers in place of rustc and rustdoc.
//!
//! Everything is built for an explicit target, which is how cargo keeps build scripts, proc-macros and what they stand on apart
//! from the program; and in a directory of its own, `target/morestack`, so that it does not stand in the way of plain builds.
//! The user's configuration, `RUSTFLAGS` and profiles are cargo's to apply, as ever.

use std::ffi::OsString;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::cli::{self, Options};
use crate::graph::Graph;
use crate::settings::{self, Settings};
use crate::wrapper::exit_code;
use crate::{TARGET, coverage, support};

/// The names that this program is called by in their place.
pub(crate) const RUSTC_WRAPPER: &str = "morestack-rustc";
pub(crate) const RUSTDOC_WRAPPER: &str = "morestack-rustdoc";

/// Runs cargo's command. The error is one line.
pub(crate) fn run(mut options: Options, command: cli::Command) -> Result<ExitCode, String> {
    let (name, mut arguments) = command.passed().expect("our own commands are done elsewhere");
    options.take_from(&mut arguments);
    if let Some(target) = cli::value_of(&arguments, "--target").filter(|target| *target != TARGET) {
        return Err(format!("--target {target}: allowed: {TARGET}, where green threads run"));
    }
    let cargo = cli::cargo();
    let graph = Graph::load(&cargo, &arguments)?;
    let dir = graph.target_dir().join("morestack");
    let settings = Settings::new(&options, &graph, dir.join("support"))?;
    let tools = tools(&settings.dir).map_err(|error| format!("{}: {error}", settings.dir.display()))?;
    let status = invoke(&cargo, &settings, &tools, &dir).arg(name).args(&arguments).status();
    let status = status.map_err(|error| format!("cannot start {}: {error}", cargo.display()))?;
    let verbose = arguments.iter().take_while(|a| *a != "--").any(|a| matches!(a.as_str(), "-v" | "-vv" | "--verbose"));
    if status.success() && name == "build" && verbose {
        coverage::report(invoke(&cargo, &settings, &tools, &dir), &arguments)?;
    }
    Ok(exit_code(status))
}

/// Links to this program under the names of the wrappers.
fn tools(dir: &Path) -> std::io::Result<PathBuf> {
    let tools = dir.join("bin");
    std::fs::create_dir_all(&tools)?;
    let program = std::env::current_exe()?;
    for name in [RUSTC_WRAPPER, RUSTDOC_WRAPPER] {
        let link = tools.join(name);
        if std::fs::read_link(&link).is_ok_and(|old| old == program) {
            continue;
        }
        // Somebody else may be about to use the old one.
        let new = tempfile::Builder::new().prefix(name).make_in(&tools, |path| symlink(&program, path))?;
        new.persist(&link).map_err(|error| error.error)?;
    }
    Ok(tools)
}

fn invoke(cargo: &Path, settings: &Settings, tools: &Path, dir: &Path) -> Command {
    let mut command = Command::new(cargo);
    command
        .env("RUSTC_WRAPPER", tools.join(RUSTC_WRAPPER))
        .env("RUSTDOC", tools.join(RUSTDOC_WRAPPER))
        // It would keep rustc's version, which is ours to change.
        .env("CARGO_CACHE_RUSTC_INFO", "0")
        .env("CARGO_BUILD_TARGET", TARGET)
        .env("CARGO_TARGET_DIR", dir)
        .env(settings::VARIABLE, settings.to_json());
    command
}

/// In rustdoc's place: examples are linked with what was built.
pub(crate) fn rustdoc(words: Vec<OsString>) -> ExitCode {
    let run = || {
        let settings = Settings::from_environment()?;
        let mut command = Command::new(&settings.rustdoc);
        if words.iter().any(|word| word == "--test") {
            let library = support::library(&settings)?;
            command.args(["-Clinker-features=-lld", "-L"]);
            let mut search = OsString::from("native=");
            search.push(&library.dir);
            command.arg(search).arg(format!("-Clink-arg=-l{}", library.name));
        }
        let status = command.args(&words).status();
        status.map(exit_code).map_err(|error| format!("cannot start {}: {error}", settings.rustdoc.display()))
    };
    run().unwrap_or_else(|error: String| {
        eprintln!("error: cargo morestack: {error}");
        ExitCode::FAILURE
    })
}
