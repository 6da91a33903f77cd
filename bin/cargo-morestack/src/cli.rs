//! The command line. Our options stand before cargo's command, or behind it.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Build a program with a stack check at the entry of every function.
///
/// In what is built so, green threads of the crate `morestack` can be preempted in every function of the workspace, and their
/// stacks can grow in every function. It is built for x86_64-unknown-linux-gnu, into target/morestack.
#[derive(Debug, Parser)]
#[command(name = "cargo morestack", bin_name = "cargo morestack", version, disable_help_subcommand = true, after_help = HELP)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) options: Options,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const HELP: &str = "\
The arguments behind a command are cargo's; the options may stand there, too, but that beside
--workspace an --exclude is cargo's own.

The same can be written in morestack.toml beside the workspace's Cargo.toml, or there as
[workspace.metadata.morestack] or [package.metadata.morestack]:
    workspace-only = true
    exclude = [\"regex\"]
    side-stack = false

Exit codes: cargo's own; 2, the options or settings were refused; of doctor: 1, it does not work here.";

#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Options {
    /// Leave third-party crates as they are; `spawn` gives reserved stacks then, as in a plain build
    #[arg(long)]
    pub(crate) workspace_only: bool,
    /// Leave this package as it is, with the same effect on `spawn`; may be given more than once
    #[arg(long, value_name = "CRATE")]
    pub(crate) exclude: Vec<String>,
    /// Leave locals where they are: `spawn` gives reserved stacks then, as in a plain build, and only `go` copies
    #[arg(long)]
    pub(crate) no_side_stack: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// cargo build; with -v, say how many functions have the check
    Build(Passed),
    /// cargo run
    Run(Passed),
    /// cargo test; code in doc comments itself is compiled without checks
    Test(Passed),
    /// cargo nextest
    Nextest(Passed),
    /// cargo bench
    Bench(Passed),
    /// cargo check, which makes no code and so instruments nothing
    Check(Passed),
    /// Whether this toolchain, linker and C library can do it: compiles, runs and disassembles a function
    Doctor,
}

#[derive(Clone, Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Passed {
    /// Arguments for cargo
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    pub(crate) arguments: Vec<OsString>,
}

impl Cli {
    /// Ends the program where the options are wrong or help is asked for.
    pub(crate) fn read(mut words: Vec<OsString>) -> Cli {
        // clap would swallow a `--` that comes first, and it means something to cargo.
        let behind = words.split_off(words.iter().position(|word| word == "--").unwrap_or(words.len()));
        let mut cli = Cli::parse_from(words);
        if let Some(passed) = cli.command.arguments() {
            passed.extend(behind);
        }
        cli
    }
}

impl Command {
    fn arguments(&mut self) -> Option<&mut Vec<OsString>> {
        match self {
            Command::Build(passed)
            | Command::Run(passed)
            | Command::Test(passed)
            | Command::Nextest(passed)
            | Command::Bench(passed)
            | Command::Check(passed) => Some(&mut passed.arguments),
            Command::Doctor => None,
        }
    }

    /// Cargo's name for it, and its arguments; none for our own.
    pub(crate) fn passed(self) -> Option<(&'static str, Vec<OsString>)> {
        Some(match self {
            Command::Build(passed) => ("build", passed.arguments),
            Command::Run(passed) => ("run", passed.arguments),
            Command::Test(passed) => ("test", passed.arguments),
            Command::Nextest(passed) => ("nextest", passed.arguments),
            Command::Bench(passed) => ("bench", passed.arguments),
            Command::Check(passed) => ("check", passed.arguments),
            Command::Doctor => return None,
        })
    }
}

/// Where cargo is: it says so to its subcommands.
pub(crate) fn cargo() -> PathBuf {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_of_cargo_are_passed_on_as_they_are() {
        for rest in ["", "--release -p a --help -- --exclude y -v", "-- -v", "a b -v"] {
            let line = format!("morestack --exclude x run {rest}");
            let cli = Cli::read(line.split_whitespace().map(OsString::from).collect());
            assert_eq!(cli.options.exclude, ["x"]);
            let (name, arguments) = cli.command.passed().unwrap();
            let words: Vec<_> = arguments.iter().map(|word| word.to_str().unwrap()).collect();
            assert_eq!((name, words.join(" ").as_str()), ("run", rest));
        }
    }

    #[test]
    fn the_definition_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
