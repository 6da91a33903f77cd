//! The command line: our options stand before cargo's command, or after it where cargo has none of that name.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Build a program with a stack check at the entry of every function.
///
/// In what is built so, green threads of the crate `morestack` can be preempted in every function of the workspace, and their
/// stacks can grow in every function. The arguments behind the command are cargo's.
#[derive(Debug, Parser)]
#[command(name = "cargo morestack", bin_name = "cargo morestack", version, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) options: Options,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Options {
    /// Leave third-party crates as they are
    #[arg(long)]
    pub(crate) workspace_only: bool,
    /// Leave this package as it is; may be given more than once
    #[arg(long, value_name = "CRATE")]
    pub(crate) exclude: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// cargo build; with -v, say how many functions have the check
    Build(Passed),
    /// cargo run
    Run(Passed),
    /// cargo test
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
    pub(crate) arguments: Vec<String>,
}

impl Command {
    /// Cargo's name for it, and its arguments; none for our own.
    pub(crate) fn passed(self) -> Option<(&'static str, Vec<String>)> {
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

impl Options {
    /// Takes those of our options out of cargo's arguments that cargo would refuse there.
    pub(crate) fn take_from(&mut self, arguments: &mut Vec<String>) {
        let end = arguments.iter().position(|a| a == "--").unwrap_or(arguments.len());
        // Beside these, `--exclude` is cargo's own.
        let of_cargo = arguments[..end].iter().any(|a| a == "--workspace" || a == "--all");
        let behind = arguments.split_off(end);
        let mut given = std::mem::take(arguments).into_iter();
        while let Some(argument) = given.next() {
            if argument == "--workspace-only" {
                self.workspace_only = true;
            } else if let Some(name) = argument.strip_prefix("--exclude=").filter(|_| !of_cargo) {
                self.exclude.push(name.to_owned());
            } else if argument == "--exclude" && !of_cargo {
                self.exclude.extend(given.next());
            } else {
                arguments.push(argument);
            }
        }
        arguments.extend(behind);
    }
}

/// The value of an option among cargo's arguments: `--name value` or `--name=value`, the last of them.
pub(crate) fn value_of<'a>(arguments: &'a [String], name: &str) -> Option<&'a str> {
    let end = arguments.iter().position(|a| a == "--").unwrap_or(arguments.len());
    let arguments = &arguments[..end];
    (0..arguments.len()).rev().find_map(|i| {
        let rest = arguments[i].strip_prefix(name)?;
        if rest.is_empty() { arguments.get(i + 1).map(String::as_str) } else { rest.strip_prefix('=') }
    })
}

/// Where cargo is: it says so to its subcommands.
pub(crate) fn cargo() -> PathBuf {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    fn taken(line: &str) -> (Options, String) {
        let (mut options, mut arguments) = (Options::default(), words(line));
        options.take_from(&mut arguments);
        (options, arguments.join(" "))
    }

    #[test]
    fn our_options_may_stand_behind_the_command() {
        let (options, rest) = taken("--release --workspace-only --exclude regex --exclude=syn -p a -- --exclude b");
        assert!(options.workspace_only);
        assert_eq!(options.exclude, ["regex", "syn"]);
        assert_eq!(rest, "--release -p a -- --exclude b");
    }

    #[test]
    fn beside_workspace_exclude_is_cargos() {
        let (options, rest) = taken("--workspace --exclude regex -- --workspace-only");
        assert!(!options.workspace_only && options.exclude.is_empty());
        assert_eq!(rest, "--workspace --exclude regex -- --workspace-only");
    }

    #[test]
    fn arguments_of_cargo_are_passed_on_as_they_are() {
        let cli =
            Cli::try_parse_from(words("morestack --exclude x run --release -p a --help -- --exclude y -v")).unwrap();
        assert_eq!(cli.options.exclude, ["x"]);
        let (name, arguments) = cli.command.passed().unwrap();
        assert_eq!((name, arguments.join(" ").as_str()), ("run", "--release -p a --help -- --exclude y -v"));
    }

    #[test]
    fn the_last_value_of_an_option_counts() {
        let arguments = words("--target a --target=b -- --target c");
        assert_eq!(value_of(&arguments, "--target"), Some("b"));
        assert_eq!(value_of(&arguments, "--target-dir"), None);
        assert_eq!(value_of(&words("--targets x"), "--target"), None);
    }
}
