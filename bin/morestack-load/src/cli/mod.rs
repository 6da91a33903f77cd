//! Options: what can be asked for, and what is refused.
//!
//! Three steps, and each refuses what only it can see:
//!
//! ```text
//!   clap           unknown and missing options, two that exclude each other
//!   values         one value: its form and its range
//!   run, sweep     values that do not fit together, or not this machine
//! ```
//!
//! Whatever is wrong, the answer is **one line** that names the value and what is allowed, and exit code 2. clap's own
//! errors span several lines with a usage text; [`one_line`] keeps what is wrong and the tip.

mod run;
mod sweep;
mod values;

use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::executor::{self, Contender, Kind};
use crate::memory;
use crate::service::{Class, Service};
use crate::trace::Trace;
use crate::units::{self, Share};

pub use self::run::{Offered, Run};
pub use self::sweep::Sweep;

/// Open-loop load generator for Morestack's scheduler.
#[derive(Parser)]
#[command(name = "morestack-load", version, subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Drive the scheduler with Poisson arrivals or a trace, and report latency from the intended arrival
    Run(Box<run::Options>),
    /// Latency over load: several time slices and several executors, from little load to almost all
    Sweep(Box<sweep::Options>),
}

/// The options of both commands.
#[derive(Args)]
struct Common {
    /// Workers of the runtime [default: the CPUs there are, less one for the generator]
    #[arg(long, value_name = "N", value_parser = values::workers, allow_hyphen_values = true)]
    workers: Option<usize>,

    /// Service times: fixed:TIME, exp:MEAN, bimodal:SHORT,LONG,SHARE, fib:N, json, sha256, sha256:SIZE or empty
    #[arg(long, value_name = "S", default_value = "bimodal:5us,1ms,0.5%", allow_hyphen_values = true)]
    service: Service,

    /// Requests that recurse deep and how deep, SHARE:SIZE; 0 for none [default: 1%:256KiB, of a trace none]
    #[arg(long, value_name = "D", value_parser = values::deep, allow_hyphen_values = true)]
    deep: Option<Switch<Deep>>,

    /// Stacks of requests: auto is what `spawn` gives, reserved in a plain build and copying in one by `cargo morestack`
    #[arg(long, value_name = "KIND", default_value = "auto")]
    stack: StackKind,

    /// Pin each worker to a CPU of its own, and the generator to another if there is one
    #[arg(long)]
    pin: bool,

    /// What the schedule derives from: the same seed and rate make the same requests arrive at the same times
    #[arg(long, value_name = "N", default_value = "1", value_parser = values::seed, allow_hyphen_values = true)]
    seed: u64,

    /// Draw the results into a page for a browser
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Show progress on a terminal
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    progress: Progress,
}

/// Where requests run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StackKind {
    /// What `spawn` gives: reserved in a plain build, copying in one by `cargo morestack`
    Auto,
    /// On stacks that start small and are copied to grow
    Copying,
    /// On address ranges that never move
    Reserved,
}

impl StackKind {
    /// Its name as an option.
    pub fn name(self) -> &'static str {
        match self {
            StackKind::Auto => "auto",
            StackKind::Copying => "copying",
            StackKind::Reserved => "reserved",
        }
    }
}

/// When progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Progress {
    /// If the standard error is a terminal
    Auto,
    /// Never
    Never,
}

/// Requests that recurse deep.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Deep {
    /// How many of all.
    pub share: Share,
    /// Bytes of stack they use.
    pub bytes: u64,
}

impl Deep {
    /// What is deep where nothing else is asked for.
    fn usual() -> Deep {
        Deep { share: units::parse_share("1%").expect("a share"), bytes: 256 << 10 }
    }

    /// As it is written.
    pub fn text(deep: Option<Deep>) -> String {
        match deep {
            Some(deep) => format!("{}:{}", deep.share, units::exact_size(deep.bytes)),
            None => "none".into(),
        }
    }
}

/// A value, or the word that turns it off. clap takes an `Option` field for an argument that may be left out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Switch<T> {
    /// The value.
    On(T),
    /// None.
    Off,
}

impl<T> Switch<T> {
    fn on(self) -> Option<T> {
        match self {
            Switch::On(value) => Some(value),
            Switch::Off => None,
        }
    }
}

/// Where requests come from.
#[derive(Clone, Debug)]
pub enum Traffic {
    /// Poisson arrivals of a service.
    Poisson(Service),
    /// Those of a file.
    Trace(Trace),
}

/// What is the same for all that is measured by one command.
#[derive(Clone, Debug)]
pub struct Config {
    /// Workers of the runtime.
    pub workers: usize,
    /// Where requests come from.
    pub traffic: Traffic,
    /// How long they are measured, in nanoseconds.
    pub duration: u64,
    /// How long they arrive before that, in nanoseconds.
    pub warmup: u64,
    /// Those that recurse deep.
    pub deep: Option<Deep>,
    /// Stacks of all.
    pub stack: StackKind,
    /// Whether workers are pinned.
    pub pin: bool,
    /// What the schedule derives from.
    pub seed: u64,
    /// Whether progress may be shown.
    pub progress: Progress,
}

impl Config {
    /// The classes of its requests: the rows of its report.
    pub fn classes(&self) -> Vec<Class> {
        let deep = self.deep.map(|_| Class::Deep);
        let own = match &self.traffic {
            Traffic::Poisson(service) => service.classes(),
            Traffic::Trace(_) => &[Class::Ordinary],
        };
        own.iter().copied().chain(deep).collect()
    }

    /// The service, as it is written.
    pub fn service(&self) -> String {
        match &self.traffic {
            Traffic::Poisson(service) => service.to_string(),
            Traffic::Trace(trace) => format!("trace {}", trace.path().display()),
        }
    }

    /// Refuses what does not fit this machine.
    fn check(&self, contenders: &[Contender]) -> Result<(), String> {
        let cpus = num_cpus::get();
        if self.pin && self.workers > cpus {
            let workers = self.workers;
            return Err(format!("--pin with --workers {workers}: there are {cpus} CPUs to pin to"));
        }
        let mut seen = Vec::new();
        for contender in contenders {
            if seen.contains(contender) {
                return Err(format!("{contender} is asked for twice"));
            }
            seen.push(*contender);
        }
        if executor::copying_by_build() && contenders.iter().any(|contender| contender.kind == Kind::May) {
            return Err("may in a program that `cargo morestack` built: it switches stacks and knows nothing of side \
                        stacks; compare with it in a plain build"
                .into());
        }
        self.deep.map_or(Ok(()), |deep| self.check_deep(deep))
    }

    fn check_deep(&self, deep: Deep) -> Result<(), String> {
        let depth = units::exact_size(deep.bytes);
        if executor::reserved(self.stack) && deep.bytes > executor::RESERVED_DEPTH {
            let room = units::exact_size(executor::RESERVED_DEPTH);
            return Err(format!(
                "--deep {}:{depth} with --stack {}: at most {room} fit a reserved stack, copying ones take more",
                deep.share,
                self.stack.name()
            ));
        }
        // A copying stack is up to twice as large as what it holds, and while it grows the old one, half of that, is
        // there too. Every worker may be at this point at once.
        let need = (deep.bytes * 3).saturating_mul(self.workers as u64);
        match memory::available() {
            Some(available) if need > available => Err(format!(
                "--deep {}:{depth} on {} workers takes {} of memory, and {} are available",
                deep.share,
                self.workers,
                units::size(need),
                units::size(available)
            )),
            _ => Ok(()),
        }
    }
}

/// Refuses the standard output where a file is asked for.
fn check_file(option: &str, path: Option<&Path>) -> Result<(), String> {
    match path {
        Some(path) if path == Path::new("-") => {
            Err(format!("{option} -: it takes the name of a file, the standard output has the table"))
        }
        _ => Ok(()),
    }
}

fn workers_or_default(workers: Option<usize>) -> usize {
    workers.unwrap_or((num_cpus::get() - 1).max(1))
}

/// clap's error as one line: its first paragraph, which says what is wrong and lists what is allowed, and its tip.
pub fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let mut paragraphs = text.split("\n\n").map(|p| p.split_whitespace().collect::<Vec<_>>().join(" "));
    let mut line = paragraphs.next().unwrap_or_default();
    if let Some(tip) = paragraphs.find(|paragraph| paragraph.starts_with("tip: ")) {
        line = format!("{line}, {}", &tip["tip: ".len()..]);
    } else if matches!(error.kind(), ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand) {
        line += ", --help lists what is allowed";
    }
    line.strip_prefix("error: ").unwrap_or(&line).to_string()
}
