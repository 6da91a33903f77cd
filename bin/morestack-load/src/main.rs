//! `morestack-load`: drives Morestack's scheduler in-process with an open loop, and reports latency from the intended
//! arrival.
//!
//! | file | role |
//! |---|---|
//! | `cli` | options, and what is refused |
//! | `units` | times, sizes, shares and counts as people write them |
//! | `service` | the distribution of service demands |
//! | `trace` | arrivals and services from a file |
//! | `schedule` | which request arrives when, from the seed or a trace |
//! | `work` | the CPU work of a request, calibrated |
//! | `job` | what one request carries |
//! | `generator` | the open loop |
//! | `capacity` | the closed loop that finds what the workers can do |
//! | `executor` | Morestack, and the peers |
//! | `record` | histograms of latency and slowdown |
//! | `memory` | what is left, and the peak |
//! | `halt` | Ctrl-C |
//! | `contest` | one measurement: parts of a schedule, in turn on each executor |
//! | `run` `sweep` | the commands |
//! | `progress` | a bar on a terminal |
//! | `report` | the table, the JSON, the percentiles |
//! | `page` | charts, and the page they are on |
//! | `sink` | files |
//!
//! Exit codes: 0, all requests completed; 1, the run failed or lost requests; 2, the options were refused; 130, interrupted,
//! with the results so far. Every failure is one line on the standard error.

mod capacity;
mod cli;
mod contest;
mod executor;
mod generator;
mod halt;
mod job;
mod memory;
mod page;
mod progress;
mod record;
mod report;
mod run;
mod schedule;
mod service;
mod sink;
mod sweep;
mod trace;
mod units;
mod work;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use clap::Parser;
use clap::error::ErrorKind;

use crate::cli::{Cli, Command};

/// Why the program ends, and with which code.
#[derive(Debug)]
enum Failure {
    /// The options were refused.
    Refused(String),
    /// The run failed.
    Failed(String),
    /// The user ended it: what became of the results.
    Interrupted(&'static str),
}

impl Failure {
    fn unwritable(error: io::Error) -> Failure {
        Failure::Failed(format!("cannot write the report: {error}"))
    }
}

impl From<String> for Failure {
    fn from(line: String) -> Failure {
        Failure::Failed(line)
    }
}

fn main() -> ExitCode {
    let outcome = match parse() {
        Ok(Command::Run(options)) => options.check().map_err(Failure::Refused).and_then(|run| run::execute(&run)),
        Ok(Command::Sweep(options)) => {
            options.check().map_err(Failure::Refused).and_then(|sweep| sweep::execute(&sweep))
        }
        Err(code) => return code,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Refused(line)) => fail(&line, 2),
        Err(Failure::Failed(line)) => fail(&line, 1),
        Err(Failure::Interrupted(results)) => fail(&format!("interrupted: {results}"), halt::INTERRUPTED),
    }
}

/// The command of the command line, or the code to end with.
fn parse() -> Result<Command, ExitCode> {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    // A control character would be repeated in the error and could end its line.
    if let Some(argument) = arguments.iter().find(|a| a.to_string_lossy().contains(char::is_control)) {
        return Err(fail(&format!("{argument:?} contains a control character"), 2));
    }
    match Cli::try_parse_from(arguments) {
        Ok(cli) => Ok(cli.command),
        Err(error) => Err(match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                // Nothing is left to do if even that cannot be written.
                let _ = error.print();
                ExitCode::SUCCESS
            }
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                let _ = error.print();
                ExitCode::from(2)
            }
            _ => fail(&cli::one_line(&error), 2),
        }),
    }
}

fn fail(line: &str, code: u8) -> ExitCode {
    const RED: Style = AnsiColor::Red.on_default().bold();
    // Not the macro: it panics where the standard error is closed.
    let _ = writeln!(anstream::stderr(), "{RED}error:{RED:#} {line}");
    ExitCode::from(code)
}
