//! Runs the tests that crates publish, each on a moving stack.
//!
//! libtest runs tests on OS threads, where nothing moves. So the sources that cargo has fetched are copied, and in the copy:
//!
//! - `#[test]` becomes `#[morestack::test]`, which runs the body as the first green thread of a runtime;
//! - that `morestack` is the package `tests/crates/suite`: the same attribute, and a line in a file for each test that says
//!   how often stacks moved;
//! - `Cargo.toml` loses its benchmarks, and the dependencies that only they have;
//! - what cannot run so is left out: `SUITES` has the reasons.
//!
//! All else is as it was published, but for documentation tests, which are not run. The copies are members of one workspace, so that
//! everything in them may be preempted, with one lock file, which is kept in `tests/crates/suites.lock`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use toml::{Table, Value};

use super::build::{self, morestack};
use super::{Did, LIMIT, Row, repository, target};
use crate::command::{Finished, run_for};

/// The tests of a crate.
struct Suite {
    name: &'static str,
    /// Development dependencies that it can do without.
    without: &'static [&'static str],
    /// Files that are left out.
    skip: &'static [&'static str],
}

impl Suite {
    const fn new(name: &'static str) -> Suite {
        Suite { name, without: &[], skip: &[] }
    }
}

const SUITES: &[Suite] = &[
    // trybuild looks at what rustc says of programs that are wrong: nothing runs.
    Suite { without: &["trybuild"], skip: &["tests/compiletest.rs"], ..Suite::new("serde_json") },
    Suite::new("regex-syntax"),
    // It runs the examples, which are programs of their own: nothing of them is on a green thread.
    Suite { skip: &["tests/tests.rs"], ..Suite::new("csv") },
    // Only the benchmarks use it.
    Suite { without: &["criterion"], ..Suite::new("itertools") },
    Suite::new("indexmap"),
    Suite::new("petgraph"),
    Suite::new("num-bigint"),
    Suite::new("bytes"),
    // It uses nom-language, which the published manifest does not name: as published, it does not compile.
    Suite { skip: &["tests/expression_ast.rs"], ..Suite::new("nom") },
];

/// The names of the suites.
pub fn names() -> impl Iterator<Item = &'static str> {
    SUITES.iter().map(|suite| suite.name)
}

fn dir() -> PathBuf {
    target().join("suites")
}

/// Copies and rewrites all of them: they are one workspace.
pub fn prepare() -> Result<(), String> {
    let metadata = build::metadata()?;
    let io = |error: io::Error| format!("{}: {error}", dir().display());
    for suite in SUITES {
        let package = metadata.packages.iter().find(|package| package.name.as_str() == suite.name);
        let package = package.ok_or_else(|| format!("no program depends on {}", suite.name))?;
        let from = package.manifest_path.parent().ok_or("a manifest without a directory")?;
        copy(suite, from.as_std_path()).map_err(io)?;
        manifest(suite)?;
    }
    let members: Vec<Value> = SUITES.iter().map(|suite| Value::from(suite.name)).collect();
    let mut profile = Table::new();
    profile.extend([("opt-level".to_owned(), Value::from(1)), ("debug".to_owned(), "line-tables-only".into())]);
    let workspace = Table::from_iter([("members".to_owned(), members.into()), ("resolver".to_owned(), "3".into())]);
    let profiles = Table::from_iter([("dev".to_owned(), profile.into())]);
    let root = Table::from_iter([("workspace".to_owned(), workspace.into()), ("profile".to_owned(), profiles.into())]);
    write(&dir().join("Cargo.toml"), &root.to_string()).map_err(io)?;
    let lock = build::workspace().join("suites.lock");
    write(&dir().join("Cargo.lock"), &fs::read_to_string(lock).map_err(io)?).map_err(io)
}

/// Files that are the same stay as they are, so that cargo builds nothing anew.
fn write(path: &Path, text: &str) -> io::Result<()> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) { Ok(()) } else { fs::write(path, text) }
}

fn copy(suite: &Suite, from: &Path) -> io::Result<()> {
    let to = dir().join(suite.name);
    let mut ahead = vec![PathBuf::new()];
    while let Some(part) = ahead.pop() {
        fs::create_dir_all(to.join(&part))?;
        for entry in fs::read_dir(from.join(&part))? {
            let entry = entry?;
            let part = part.join(entry.file_name());
            let skipped = suite.skip.iter().any(|skip| part == Path::new(skip));
            if skipped || part.starts_with("benches") || part == Path::new("Cargo.lock") {
                continue;
            }
            if entry.file_type()?.is_dir() {
                ahead.push(part);
            } else if part.extension().is_some_and(|extension| extension == "rs") {
                write(&to.join(&part), &on_green_threads(&fs::read_to_string(entry.path())?))?;
            } else {
                fs::copy(entry.path(), to.join(&part))?;
            }
        }
    }
    Ok(())
}

/// Each test of a source becomes one of a green thread. As `#[test]` does, it vanishes where no tests are built.
fn on_green_threads(source: &str) -> String {
    source.replace("#[test]", "#[cfg(test)] #[morestack::test]")
}

fn manifest(suite: &Suite) -> Result<(), String> {
    let path = dir().join(suite.name).join("Cargo.toml");
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut table: Table = text.parse().map_err(|error| format!("{}: {error}", path.display()))?;
    for key in ["bench", "profile", "workspace", "lints"] {
        table.remove(key);
    }
    if let Some(tests) = table.get_mut("test").and_then(Value::as_array_mut) {
        let is_skipped =
            |test: &Value| test.get("path").and_then(Value::as_str).is_some_and(|path| suite.skip.contains(&path));
        tests.retain(|test| !is_skipped(test));
    }
    let dependencies = table.entry("dev-dependencies").or_insert_with(|| Table::new().into());
    let dependencies = dependencies.as_table_mut().ok_or("dev-dependencies are no table")?;
    for name in suite.without {
        dependencies.remove(*name).ok_or_else(|| format!("{} does not depend on {name}", suite.name))?;
    }
    let shim = repository().join("tests/crates/suite").to_string_lossy().into_owned();
    let morestack = Table::from_iter([("package".to_owned(), Value::from("suite")), ("path".to_owned(), shim.into())]);
    dependencies.insert("morestack".to_owned(), morestack.into());
    write(&path, &table.to_string()).map_err(|error| format!("{}: {error}", path.display()))
}

/// Runs a suite.
pub fn check(tool: &Path, name: &str) -> Row {
    let suite = SUITES.iter().find(|suite| suite.name == name).expect("one of `names`");
    let start = Instant::now();
    let (mut did, mut tests) = (Did::default(), 0);
    let result = run(tool, suite, &mut did, &mut tests);
    Row { name: format!("{name} (suite)"), result, tests: Some(tests), did, time: start.elapsed() }
}

fn run(tool: &Path, suite: &Suite, did: &mut Did, tests: &mut u64) -> Result<(), String> {
    let directory = dir().join(suite.name);
    let test = |more: &[&str]| {
        let mut command = morestack(tool);
        command.args(["test", "--locked", "--lib", "--tests"]).args(more).current_dir(&directory);
        // As cargo has it for crates of a registry.
        command.env("RUSTFLAGS", "--cap-lints=allow");
        // A property takes as long for one input as it does for hundreds where nothing moves.
        command.env("QUICKCHECK_TESTS", "5");
        command
    };
    build::succeed(&mut test(&["--no-run"]))?;
    let moves = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
    let mut command: Command = test(&["--no-fail-fast"]);
    command.args(["--", "--test-threads=2"]);
    command.env("MORESTACK_STRESS", "move").env("MORESTACK_EFENCE", "1").env("CRATES_SUITE_METRICS", moves.path());
    let finished: Finished = run_for(LIMIT, &mut command)?;
    *did = Did::read(&fs::read_to_string(moves.path()).map_err(|error| error.to_string())?);
    for line in finished.stdout.lines().filter_map(|line| line.strip_prefix("test result: ")) {
        let passed = line.split_once(". ").and_then(|(_, rest)| rest.split(' ').next()).and_then(|n| n.parse().ok());
        *tests += passed.unwrap_or(0);
    }
    if !finished.status.success() {
        return Err(finished.to_string());
    }
    if *tests == 0 || did.grows < *tests {
        return Err(format!("{tests} tests, and {did:?}"));
    }
    Ok(())
}
