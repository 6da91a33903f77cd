//! The arguments of one of cargo's commands: those that cargo reads, and those that it passes on.

use std::ffi::{OsStr, OsString};

use crate::cli::Options;

/// What stands behind a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// For cargo.
    own: Vec<OsString>,
    /// For the program or the test harness, from the `--` on where there is one.
    behind: Vec<OsString>,
}

/// The options of `cargo run` that have their value behind them. Of the others, the first word that is not an option is the program's.
const WITH_VALUE: [&str; 16] = [
    "-p",
    "--package",
    "--bin",
    "--example",
    "-F",
    "--features",
    "-j",
    "--jobs",
    "--profile",
    "--target",
    "--target-dir",
    "--manifest-path",
    "--message-format",
    "--color",
    "--config",
    "--exclude",
];

impl Arguments {
    pub(crate) fn new(command: &str, mut words: Vec<OsString>) -> Arguments {
        let mut end = words.iter().position(|word| word == "--").unwrap_or(words.len());
        if command == "run" {
            let is_value = |at: usize| at > 0 && WITH_VALUE.iter().any(|name| words[at - 1] == *name);
            let is_option = |at: usize| words[at].as_encoded_bytes().starts_with(b"-");
            end = (0..end).find(|at| !is_option(*at) && !is_value(*at)).unwrap_or(end);
        }
        let behind = words.split_off(end);
        Arguments { own: words, behind }
    }

    pub(crate) fn has(&self, names: &[&str]) -> bool {
        self.own.iter().any(|word| names.iter().any(|name| word == name))
    }

    pub(crate) fn is_verbose(&self) -> bool {
        self.has(&["-v", "-vv", "--verbose"])
    }

    /// The values of an option: `--name value` or `--name=value`.
    pub(crate) fn values(&self, name: &str) -> impl Iterator<Item = &OsStr> {
        self.own.iter().enumerate().filter_map(move |(at, word)| match after(word, name)? {
            Rest::Behind => self.own.get(at + 1).map(OsString::as_os_str),
            Rest::Joined(value) => Some(value),
        })
    }

    /// The words of these options and their values, as they are.
    pub(crate) fn only(&self, with_value: &[&str], alone: &[&str]) -> Vec<OsString> {
        let mut words = Vec::new();
        let mut given = self.own.iter();
        while let Some(word) = given.next() {
            match with_value.iter().find_map(|name| after(word, name)) {
                Some(Rest::Behind) => words.extend([word].into_iter().chain(given.next()).cloned()),
                Some(Rest::Joined(_)) => words.push(word.clone()),
                None if alone.iter().any(|name| word == name) => words.push(word.clone()),
                None => {}
            }
        }
        words
    }

    /// Without these options and their values.
    pub(crate) fn without(&self, with_value: &[&str], alone: &[&str]) -> Arguments {
        let mut own = Vec::new();
        let mut given = self.own.iter();
        while let Some(word) = given.next() {
            match with_value.iter().find_map(|name| after(word, name)) {
                Some(Rest::Behind) => drop(given.next()),
                Some(Rest::Joined(_)) => {}
                None if alone.iter().any(|name| word == name) => {}
                None => own.push(word.clone()),
            }
        }
        Arguments { own, behind: self.behind.clone() }
    }

    /// Takes out those of our options that cargo would refuse. Beside `--workspace`, `--exclude` is cargo's own.
    pub(crate) fn take(&mut self, options: &mut Options) -> Result<(), String> {
        const EXCLUDE: &str = "--exclude";
        const WORKSPACE_ONLY: &str = "--workspace-only";
        const NO_SIDE_STACK: &str = "--no-side-stack";
        options.workspace_only |= self.has(&[WORKSPACE_ONLY]);
        options.no_side_stack |= self.has(&[NO_SIDE_STACK]);
        let ours: &[&str] = if self.has(&["--workspace", "--all"]) { &[] } else { &[EXCLUDE] };
        for name in ours {
            if self.own.last().is_some_and(|word| word == name) {
                return Err(format!("{name}: the name of a package is missing"));
            }
            options.exclude.extend(self.values(name).map(|value| value.to_string_lossy().into_owned()));
        }
        *self = self.without(ours, &[WORKSPACE_ONLY, NO_SIDE_STACK]);
        Ok(())
    }

    /// Takes the first word if it is not an option: the command of a command.
    pub(crate) fn take_command(&mut self) -> Option<OsString> {
        let first = self.own.first()?;
        (!first.as_encoded_bytes().starts_with(b"-")).then(|| self.own.remove(0))
    }

    pub(crate) fn words(&self) -> impl Iterator<Item = &OsString> {
        self.own.iter().chain(&self.behind)
    }
}

/// Where the value of an option stands.
enum Rest<'a> {
    Behind,
    Joined(&'a OsStr),
}

/// If this word is the option.
fn after<'a>(word: &'a OsStr, name: &str) -> Option<Rest<'a>> {
    use std::os::unix::ffi::OsStrExt;
    let rest = word.as_bytes().strip_prefix(name.as_bytes())?;
    if rest.is_empty() {
        return Some(Rest::Behind);
    }
    let joined = match (rest.strip_prefix(b"="), name.starts_with("--")) {
        (Some(value), _) => value,
        (None, false) => rest,
        (None, true) => return None,
    };
    Some(Rest::Joined(OsStr::from_bytes(joined)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(command: &str, line: &str) -> Arguments {
        Arguments::new(command, line.split_whitespace().map(OsString::from).collect())
    }

    fn line(words: &[OsString]) -> String {
        words.join(OsStr::new(" ")).into_string().unwrap()
    }

    fn taken(command: &str, given: &str) -> (Options, String) {
        let (mut options, mut arguments) = (Options::default(), arguments(command, given));
        arguments.take(&mut options).unwrap();
        (options, line(&arguments.words().cloned().collect::<Vec<_>>()))
    }

    #[test]
    fn our_options_may_stand_behind_the_command() {
        let (options, rest) =
            taken("build", "--release --workspace-only --exclude regex --exclude=syn -p a -- --exclude b");
        assert!(options.workspace_only);
        assert_eq!(options.exclude, ["regex", "syn"]);
        assert_eq!(rest, "--release -p a -- --exclude b");
    }

    #[test]
    fn beside_workspace_exclude_is_cargos() {
        let (options, rest) = taken("test", "--workspace --exclude regex -- --workspace-only");
        assert!(!options.workspace_only && options.exclude.is_empty());
        assert_eq!(rest, "--workspace --exclude regex -- --workspace-only");
    }

    #[test]
    fn a_name_must_follow() {
        let error = arguments("build", "--release --exclude").take(&mut Options::default()).unwrap_err();
        assert!(error.contains("missing"), "{error}");
    }

    #[test]
    fn what_the_program_gets_is_not_ours() {
        let (options, rest) = taken("run", "--bin a --exclude x -q sync --exclude target -v --workspace-only");
        assert_eq!(options.exclude, ["x"]);
        assert!(!options.workspace_only);
        assert_eq!(rest, "--bin a -q sync --exclude target -v --workspace-only");
        assert!(!arguments("run", "sync -v").is_verbose());
        // A filter of tests is not a program.
        assert_eq!(taken("test", "name --exclude x").0.exclude, ["x"]);
    }

    #[test]
    fn values_are_read_in_every_way_of_writing() {
        let given = arguments("build", "--target a --target=b --targets c -Fx -F y -- --target d");
        assert_eq!(given.values("--target").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(given.values("--target-dir").count(), 0);
        assert_eq!(given.values("-F").collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!(line(&given.only(&["--target", "-F"], &[])), "--target a --target=b -Fx -F y");
        assert_eq!(line(&given.without(&["--target", "-F"], &["c"]).own), "--targets");
    }

    #[test]
    fn a_command_of_a_command_comes_first() {
        let mut nextest = arguments("nextest", "run -p a");
        assert_eq!(nextest.take_command().unwrap(), "run");
        assert_eq!(nextest.take_command(), None);
    }
}
