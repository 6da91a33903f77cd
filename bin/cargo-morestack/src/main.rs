//! `cargo morestack`: builds a program with a stack check at the entry of every function, on stable Rust.
//!
//! | file | role |
//! |---|---|
//! | `cli` | our options |
//! | `arguments` | cargo's arguments |
//! | `configuration` | cargo's configuration |
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

mod arguments;
mod cargo;
mod cli;
mod configuration;
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

use crate::cli::{Cli, Command};

/// The only target that green threads run on.
pub(crate) const TARGET: &str = "x86_64-unknown-linux-gnu";

fn main() -> ExitCode {
    let mut words: Vec<OsString> = std::env::args_os().collect();
    let name = words.first().cloned().unwrap_or_default();
    let role = Path::new(&name).file_name().unwrap_or_default();
    if role == cargo::RUSTC_WRAPPER {
        return wrapper::main(words);
    }
    if role == cargo::RUSTDOC_WRAPPER {
        return cargo::rustdoc(words);
    }
    // Cargo puts its name for us before our arguments.
    if words.get(1).is_some_and(|word| word == "morestack") {
        words.remove(1);
    }
    let cli = Cli::read(words);
    let result = match cli.command {
        Command::Doctor => doctor::run(),
        command => cargo::run(cli.options, command),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::from(2)
    })
}
