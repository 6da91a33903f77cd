//! `cargo morestack`: builds a program with a stack check at the entry of every function, on stable Rust.
//!
//! | file | role |
//! |---|---|
//! | `cli` | our options and cargo's arguments |
//! | `settings` | what is written where, and passed on to the wrappers |
//! | `graph` | the packages: the workspace's, the scheduler's, the others |
//! | `cargo` | starts cargo with the wrappers in place |
//! | `wrapper` | in rustc's place: the two passes |
//! | `rustc` | an invocation of rustc, read and changed |
//! | `listing` | the functions of a crate |
//! | `symbols` | who wrote a function |
//! | `support` | the library that every program is linked with |
//! | `coverage` | how many functions of a program have the check |
//! | `doctor` | whether it works here |
//!
//! Exit codes: cargo's own; 2, the options or settings were refused.

mod cargo;
mod cli;
mod coverage;
mod doctor;
mod graph;
mod listing;
mod rustc;
mod settings;
mod support;
mod symbols;
mod wrapper;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

/// The only target that green threads run on.
pub(crate) const TARGET: &str = "x86_64-unknown-linux-gnu";

fn main() -> ExitCode {
    let mut words = std::env::args_os();
    let name = words.next().unwrap_or_default();
    let role = Path::new(&name).file_name().unwrap_or_default().to_owned();
    if role == cargo::RUSTC_WRAPPER {
        return wrapper::main(words.collect());
    }
    if role == cargo::RUSTDOC_WRAPPER {
        return cargo::rustdoc(words.collect());
    }
    // Cargo puts its name for us before our arguments.
    let words: Vec<OsString> = words.collect();
    let skipped = usize::from(words.first().is_some_and(|word| word == "morestack"));
    let cli = Cli::parse_from(std::iter::once(name).chain(words.into_iter().skip(skipped)));
    let result = match cli.command {
        Command::Doctor => doctor::run(),
        command => cargo::run(cli.options, command),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::from(2)
    })
}
