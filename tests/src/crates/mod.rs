//! Other people's code on moving stacks.
//!
//! ```text
//!   tests/crates             a workspace of its own: programs, each of which leans on a popular crate
//!   target/crates/plain      built by cargo
//!   target/crates/morestack  built by cargo morestack
//!   target/crates/suites     copies of published crates, with their own tests
//! ```
//!
//! | file | what it does |
//! |---|---|
//! | `build` | builds the programs, both ways |
//! | `programs` | runs each: on an OS thread, and on green threads whose stacks move; compares the texts |
//! | `suites` | runs the tests that crates publish, each on a moving stack |
//! | `cost` | sets the time and the size of the two builds beside each other |

pub mod build;
pub mod cost;
pub mod programs;
pub mod suites;

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Those that CI runs: they are built in a minute, and among them are those whose heap objects point at locals.
pub const SHORT: [&str; 6] = ["regex", "toml", "itertools", "nom", "crossbeam", "smallvec"];

/// The crates of the experiment that side stacks were chosen by; their cost is measured.
pub const FOURTEEN: [&str; 14] = [
    "serde_json",
    "flate2",
    "csv",
    "num-bigint",
    "pulldown-cmark",
    "sha2",
    "petgraph",
    "syn",
    "minijinja",
    "rhai",
    "sqlparser",
    "regex",
    "toml",
    "image",
];

/// How long a program or a suite may take under stress. The slowest take a minute on two busy cores.
pub const LIMIT: Duration = Duration::from_secs(600);

/// The repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests is in it")
}

/// Where all of this is built.
pub fn target() -> PathBuf {
    repository().join("target/crates")
}

/// What a scheduler did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Did {
    /// Moves to larger stacks, or under stress to others.
    pub grows: u64,
    /// By these.
    pub bytes_copied: u64,
    /// Stacks above frames that must not move.
    pub segments: u64,
    /// Stacks packed while they waited.
    pub freezes: u64,
    /// Times a thread made way for another at a function entry.
    pub preemptions: u64,
}

impl Did {
    /// From lines of names and numbers, as programs and suites write them: their sum.
    pub fn read(text: &str) -> Did {
        let mut did = Did::default();
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            for pair in words.chunks_exact(2) {
                let Ok(number) = pair[1].parse::<u64>() else { continue };
                match pair[0] {
                    "grows" => did.grows += number,
                    "bytes_copied" => did.bytes_copied += number,
                    "segments" => did.segments += number,
                    "freezes" => did.freezes += number,
                    "preemptions" => did.preemptions += number,
                    _ => {}
                }
            }
        }
        did
    }
}

/// What is printed for one crate; whether it is right.
#[derive(Debug)]
pub struct Row {
    /// Of the crate.
    pub name: String,
    /// What went wrong.
    pub result: Result<(), String>,
    /// Tests, in a suite.
    pub tests: Option<u64>,
    /// Under stress.
    pub did: Did,
    /// All runs together.
    pub time: Duration,
}

/// Prints the table and what went wrong; whether nothing did.
pub fn report(rows: &[Row]) -> bool {
    println!("\n{:<24}{:>8}{:>12}{:>10}{:>10}{:>8}  output", "crate", "tests", "moves", "copied", "segments", "time");
    for Row { name, result, tests, did, time } in rows {
        let tests = tests.map_or_else(String::new, |tests| tests.to_string());
        let copied = format!("{} MB", did.bytes_copied / 1_000_000);
        let word = if result.is_ok() { "equal" } else { "FAILED" };
        println!(
            "{name:<24}{tests:>8}{:>12}{copied:>10}{:>10}{:>7.1}s  {word}",
            did.grows,
            did.segments,
            time.as_secs_f64()
        );
    }
    let failed: Vec<&Row> = rows.iter().filter(|row| row.result.is_err()).collect();
    for row in &failed {
        if let Err(reason) = &row.result {
            println!("\n== {}: {reason}", row.name);
        }
    }
    println!("\n{} of {} as they should be", rows.len() - failed.len(), rows.len());
    failed.is_empty()
}
