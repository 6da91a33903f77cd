//! Starts cargo with wrappers in place of rustc and rustdoc.
//!
//! Everything is built for an explicit target, which is how cargo keeps build scripts, proc-macros and what they stand on apart
//! from the program; and in a directory of its own, `target/morestack`, so that it does not stand in the way of plain builds.
//! The user's configuration, `RUSTFLAGS` and profiles are cargo's to apply, as ever.
//!
//! ```text
//!   target/morestack/cargo-morestack/
//!       libmorestack_support.a         what programs are linked with
//!       incremental/                   what rustc keeps of the first pass
//!       2f0c…/settings.json            for each choice of settings: what the wrappers need to know,
//!       2f0c…/morestack-rustc          and links to this program, under the names that tell it what to be
//!       2f0c…/morestack-rustdoc
//! ```
//!
//! All of this is said in arguments of cargo, not in variables: programs and tests that it runs may call cargo themselves, and
//! mean a plain one. As the wrapper's path tells the settings, cargo's cache of what rustc says of itself tells them apart, too.

use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::arguments::Arguments;
use crate::cli::{self, Options};
use crate::graph::Graph;
use crate::settings::{self, Settings};
use crate::support::Library;
use crate::wrapper::{self, exit_code};
use crate::{TARGET, configuration, coverage};

/// The names that this program is called by in their place.
pub(crate) const RUSTC_WRAPPER: &str = "morestack-rustc";
pub(crate) const RUSTDOC_WRAPPER: &str = "morestack-rustdoc";

/// The directory, in cargo's target directory, of all that is not cargo's.
const DIR: &str = "cargo-morestack";

/// Runs cargo's command. The error is one line.
pub(crate) fn run(mut options: Options, command: cli::Command) -> Result<ExitCode, String> {
    let (name, words) = command.passed().expect("our own commands are done elsewhere");
    let mut arguments = Arguments::new(name, words);
    arguments.take(&mut options)?;
    let cargo = cli::cargo();
    let mut command = Command::new(&cargo);
    command.arg(name);
    let mut builds = !arguments.has(&["-h", "--help"]);
    if name == "nextest" {
        let own = arguments.take_command();
        builds &=
            own.as_ref().is_some_and(|own| ["run", "r", "list", "bench", "archive"].iter().any(|name| own == name));
        command.args(own);
    }
    if !builds {
        return replace(command.args(arguments.words()));
    }
    let prepared = Prepared::new(&cargo, &options, &arguments)?;
    prepared.apply(&mut command, &arguments);
    if name != "build" || !arguments.is_verbose() {
        // Signals, the terminal and the exit code are the child's then.
        return replace(command.args(arguments.words()));
    }
    let status = command.args(arguments.words()).status().map_err(|error| cannot_start(&command, &error))?;
    if status.success() {
        let quiet = arguments.without(&["--message-format"], &["-v", "-vv", "--verbose", "--timings"]);
        let mut command = Command::new(&cargo);
        command.args(["build", "--message-format=json"]);
        prepared.apply(&mut command, &quiet);
        coverage::report(command.args(quiet.words()))?;
    }
    Ok(exit_code(status))
}

fn replace(command: &mut Command) -> Result<ExitCode, String> {
    let error = command.exec();
    Err(cannot_start(command, &error))
}

fn cannot_start(command: &Command, error: &std::io::Error) -> String {
    format!("cannot start {}: {error}", command.get_program().display())
}

/// What is there before cargo starts.
struct Prepared {
    target_dir: PathBuf,
    tools: PathBuf,
}

impl Prepared {
    fn new(cargo: &Path, options: &Options, arguments: &Arguments) -> Result<Prepared, String> {
        if let Some(target) = arguments.values("--target").find(|target| *target != TARGET) {
            return Err(format!("--target {}: allowed: {TARGET}, where green threads run", target.display()));
        }
        let graph = Graph::load(cargo, arguments)?;
        let target_dir = match arguments.values("--target-dir").last() {
            Some(dir) => std::path::absolute(dir).map_err(|error| format!("--target-dir: {error}"))?,
            None => graph.target_dir().join("morestack"),
        };
        // An empty one is none, whatever the configuration says.
        let program = |variable: &str, key: &str| {
            let given = std::env::var(variable).ok().or_else(|| configuration::build(key, arguments));
            given.filter(|program| !program.is_empty())
        };
        if let Some(wrapper) = program("RUSTC_WRAPPER", "rustc-wrapper") {
            eprintln!("note: the rustc wrapper {wrapper:?} is not used: cargo morestack stands in its place");
        }
        let chosen = configuration::build("target", arguments).filter(|target| target != TARGET);
        if let (Some(target), None) = (chosen, arguments.values("--target").next()) {
            eprintln!("note: build.target, {target}, is not used: all is built for {TARGET}, where green threads run");
        }
        let dir = target_dir.join(DIR);
        let rustc = program("RUSTC", "rustc").unwrap_or_else(|| "rustc".to_owned());
        let rustdoc = program("RUSTDOC", "rustdoc").unwrap_or_else(|| "rustdoc".to_owned());
        let settings = Settings::new(options, &graph, rustdoc, |side_stacks| Library::make(&dir, &rustc, side_stacks))?;
        let tools = tools(&dir, &settings).map_err(|error| format!("{}: {error}", dir.display()))?;
        Ok(Prepared { target_dir, tools })
    }

    /// Says it to cargo, in front of the user's arguments.
    fn apply(&self, command: &mut Command, arguments: &Arguments) {
        // They would count for more than the arguments.
        command.env_remove("RUSTC_WRAPPER").env_remove("RUSTDOC");
        for (key, name) in [("rustc-wrapper", RUSTC_WRAPPER), ("rustdoc", RUSTDOC_WRAPPER)] {
            let path = toml::Value::String(self.tools.join(name).to_string_lossy().into_owned());
            command.arg("--config").arg(format!("build.{key}={path}"));
        }
        if arguments.values("--target").next().is_none() {
            command.args(["--target", TARGET]);
        }
        if arguments.values("--target-dir").next().is_none() {
            command.arg("--target-dir").arg(&self.target_dir);
        }
    }
}

/// The directory of the wrappers of these settings.
fn tools(dir: &Path, settings: &Settings) -> std::io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let text = settings.to_json();
    let mut hasher = DefaultHasher::new();
    (&text, &program).hash(&mut hasher);
    let tools = dir.join(format!("{:016x}", hasher.finish()));
    if tools.exists() {
        return Ok(tools);
    }
    std::fs::create_dir_all(dir)?;
    let scratch = tempfile::Builder::new().prefix("new-").tempdir_in(dir)?;
    for name in [RUSTC_WRAPPER, RUSTDOC_WRAPPER] {
        symlink(&program, scratch.path().join(name))?;
    }
    std::fs::write(scratch.path().join(settings::FILE_NAME), text)?;
    // If it is there by now, somebody else has put the same there.
    match std::fs::rename(scratch.path(), &tools) {
        Err(error) if !tools.exists() => Err(error),
        _ => Ok(tools),
    }
}

/// In rustdoc's place: examples are linked with what was built.
pub(crate) fn rustdoc(words: Vec<OsString>) -> ExitCode {
    let run = || {
        let settings = Settings::beside(&words[0])?;
        let mut command = Command::new(&settings.rustdoc);
        if words.iter().any(|word| word == "--test") {
            command.args(wrapper::LINKING).arg("-L").arg(settings.support.search());
            command.arg(format!("-Clink-arg=-Wl,--whole-archive,-l{},--no-whole-archive", Library::NAME));
        }
        replace(command.args(&words[1..]))
    };
    run().unwrap_or_else(|error: String| {
        // Nobody may be reading.
        let _ = writeln!(std::io::stderr(), "error: cargo morestack: {error}");
        ExitCode::FAILURE
    })
}
