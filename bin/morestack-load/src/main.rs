//! `morestack-load`: drives Morestack's scheduler in-process with an open loop, and reports latency from the intended
//! arrival.
//!
//! | file | role |
//! |---|---|
//! | `cli` | options, and what is refused |
//! | `units` | times, sizes, shares and counts as people write them |
//! | `service` | the distribution of service demands |
//! | `schedule` | which request arrives when, from the seed |
//! | `work` | the CPU work of a request, calibrated |
//! | `job` | what one request carries |
//! | `generator` | the open loop |
//! | `capacity` | the closed loop that finds what the workers can do |
//! | `executor` | the scheduler under load |
//! | `record` | histograms of latency and slowdown |
//! | `memory` | what is left, and the peak |
//! | `run` | one run, from its options to its outcome |
//! | `progress` | a bar on a terminal |
//! | `report` | the table and the JSON |
//!
//! Exit codes: 0, all requests completed; 1, the run failed or lost requests; 2, the options were refused. Every failure
//! is one line on the standard error.

mod capacity;
mod cli;
mod executor;
mod generator;
mod job;
mod memory;
mod progress;
mod record;
mod report;
mod run;
mod schedule;
mod service;
mod units;
mod work;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use clap::Parser;
use clap::error::ErrorKind;

use crate::cli::{Cli, Command, Config};
use crate::report::{Report, Sink};

/// Why the program ends, and with which code.
enum Failure {
    /// The options were refused.
    Refused(String),
    /// The run failed.
    Failed(String),
}

fn main() -> ExitCode {
    let options = match parse() {
        Ok(Command::Run(options)) => options,
        Err(code) => return code,
    };
    let outcome = options.config().map_err(Failure::Refused).and_then(|config| execute(&config));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Refused(line)) => fail(&line, 2),
        Err(Failure::Failed(line)) => fail(&line, 1),
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

fn execute(config: &Config) -> Result<(), Failure> {
    let sink = match &config.json {
        Some(path) => Some(
            Sink::open(path)
                .map_err(|error| Failure::Refused(format!("cannot write --json {}: {error}", path.display())))?,
        ),
        None => None,
    };
    // JSON on the standard output is for a program to read: the table moves aside.
    let mut out: Box<dyn Write> = match sink {
        Some(Sink::Stdout) => Box::new(anstream::stderr()),
        _ => Box::new(anstream::stdout()),
    };
    let mut said = Ok(());
    let outcome = run::run(config, |capacity| said = writeln!(out, "{}\n", report::capacity_line(capacity)));
    said.map_err(unwritable)?;
    let outcome = outcome.map_err(Failure::Failed)?;
    let report = Report::new(config, &outcome);
    write!(out, "{}", report.table()).and_then(|()| out.flush()).map_err(unwritable)?;
    if let Some(sink) = sink {
        sink.write(&report).map_err(unwritable)?;
    }
    match outcome.lost {
        0 => Ok(()),
        lost => Err(Failure::Failed(run::lost_line(lost, outcome.issued.total))),
    }
}

fn unwritable(error: io::Error) -> Failure {
    Failure::Failed(format!("cannot write the report: {error}"))
}

fn fail(line: &str, code: u8) -> ExitCode {
    const RED: Style = AnsiColor::Red.on_default().bold();
    // Not the macro: it panics where the standard error is closed.
    let _ = writeln!(anstream::stderr(), "{RED}error:{RED:#} {line}");
    ExitCode::from(code)
}
