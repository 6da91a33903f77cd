//! Options: what can be asked for, and what is refused.
//!
//! Three steps, and each refuses what only it can see:
//!
//! ```text
//!   clap      unknown and missing options, two that exclude each other
//!   parsers   one value: its form and its range
//!   config    values that do not fit together, or not this machine
//! ```
//!
//! Whatever is wrong, the answer is **one line** that names the value and what is allowed, and exit code 2. clap's own
//! errors span several lines with a usage text; [`one_line`] keeps what is wrong and the tip.

use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::executor;
use crate::memory;
use crate::service::{Class, Service};
use crate::units::{self, Share};

/// More workers than any machine has CPUs for; a typing error beyond.
const MAX_WORKERS: usize = 1024;

/// Arrivals per second. At more, the gap is below what the generator needs to submit one.
const MAX_RATE: f64 = 50e6;

/// Shares of capacity. Above 1 the queue grows for as long as the run lasts; above this nothing else is seen.
const MAX_LOAD: f64 = 1.5;

/// The shortest time slice the scheduler takes, in nanoseconds.
const MIN_SLICE: u64 = 20_000;

/// The longest time slice that is not a typing error for `off`, in nanoseconds.
const MAX_SLICE: u64 = 10_000_000_000;

/// The longest run, in nanoseconds: an hour. Histogram counts hold for longer, patience rarely.
const MAX_DURATION: u64 = 3_600_000_000_000;

/// The shallowest deep request, in bytes: less than this every request uses.
const MIN_DEEP: u64 = 1 << 10;

/// The deepest, in bytes: the next power of two is a green thread's largest stack.
const MAX_DEEP: u64 = 512 << 20;

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
    /// Drive the scheduler with Poisson arrivals and report latency from the intended arrival
    Run(Box<Options>),
}

/// The options of `run`, each by itself in range.
#[derive(Args)]
pub struct Options {
    /// Workers of the runtime [default: the CPUs there are, less one for the generator]
    #[arg(long, value_name = "N", value_parser = workers, allow_hyphen_values = true)]
    workers: Option<usize>,

    /// Arrivals per second, instead of --load
    #[arg(long, value_name = "R", value_parser = rate, allow_hyphen_values = true, conflicts_with = "load")]
    rate: Option<f64>,

    /// Arrivals as a share of the capacity, which is measured first [default: 0.7]
    #[arg(long, value_name = "L", value_parser = load, allow_hyphen_values = true)]
    load: Option<f64>,

    /// How long requests arrive and are measured
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration, allow_hyphen_values = true)]
    duration: u64,

    /// How long requests arrive before that, unmeasured
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = warmup, allow_hyphen_values = true)]
    warmup: u64,

    /// Service times: fixed:TIME, exp:MEAN, bimodal:SHORT,LONG,SHARE or fib:N
    #[arg(long, value_name = "S", default_value = "bimodal:5us,1ms,0.5%", allow_hyphen_values = true)]
    service: Service,

    /// Requests that recurse deep and how deep, SHARE:SIZE; 0 for none
    #[arg(long, value_name = "D", default_value = "1%:256KiB", value_parser = deep, allow_hyphen_values = true)]
    deep: DeepOption,

    /// Stacks of all requests [default: reserved, and copying for those that recurse deep]
    #[arg(long, value_name = "KIND")]
    stack: Option<StackKind>,

    /// How long a request runs before it can be preempted, or off
    #[arg(long, value_name = "TIME", default_value = "100us", value_parser = slice, allow_hyphen_values = true)]
    time_slice: SliceOption,

    /// Pin each worker to a CPU of its own, and the generator to another if there is one
    #[arg(long)]
    pin: bool,

    /// What the schedule derives from: the same seed and rate make the same requests arrive at the same times
    #[arg(long, value_name = "N", default_value = "1", value_parser = seed, allow_hyphen_values = true)]
    seed: u64,

    /// Write the results as JSON to a file, or to the standard output (-)
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Show progress on a terminal
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    progress: Progress,
}

/// Where requests run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StackKind {
    /// On stacks that start small and are copied to grow
    Copying,
    /// On address ranges that never move
    Reserved,
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

/// How many requests arrive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Offered {
    /// So many per second.
    Rate(f64),
    /// A share of the capacity.
    Load(f64),
}

/// A run, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Workers of the runtime.
    pub workers: usize,
    /// How many requests arrive.
    pub offered: Offered,
    /// How long they are measured, in nanoseconds.
    pub duration: u64,
    /// How long they arrive before that, in nanoseconds.
    pub warmup: u64,
    /// Their service times.
    pub service: Service,
    /// Those that recurse deep.
    pub deep: Option<Deep>,
    /// Stacks of all; none: reserved, and copying for the deep.
    pub stack: Option<StackKind>,
    /// The time slice; none: no preemption.
    pub time_slice: Option<Duration>,
    /// Whether workers are pinned.
    pub pin: bool,
    /// What the schedule derives from.
    pub seed: u64,
    /// Where the JSON goes.
    pub json: Option<PathBuf>,
    /// Whether progress may be shown.
    pub progress: Progress,
}

// clap takes an `Option` field for an optional argument. These two are required ones whose value may be `none`.
type DeepOption = Setting<Deep>;
type SliceOption = Setting<Duration>;

/// A value, or the word that turns it off.
#[derive(Clone, Copy, Debug)]
pub enum Setting<T> {
    /// The value.
    On(T),
    /// None.
    Off,
}

impl<T> Setting<T> {
    fn on(self) -> Option<T> {
        match self {
            Setting::On(value) => Some(value),
            Setting::Off => None,
        }
    }
}

impl Config {
    /// The classes of the run's requests: the rows of its report.
    pub fn classes(&self) -> Vec<Class> {
        let deep = self.deep.map(|_| Class::Deep);
        self.service.classes().iter().copied().chain(deep).collect()
    }
}

impl Options {
    /// The run they ask for, or why there cannot be one.
    pub fn config(self) -> Result<Config, String> {
        let cpus = num_cpus::get();
        let config = Config {
            workers: self.workers.unwrap_or((cpus - 1).max(1)),
            offered: match (self.rate, self.load) {
                (Some(rate), _) => Offered::Rate(rate),
                (None, load) => Offered::Load(load.unwrap_or(0.7)),
            },
            duration: self.duration,
            warmup: self.warmup,
            service: self.service,
            deep: self.deep.on(),
            stack: self.stack,
            time_slice: self.time_slice.on(),
            pin: self.pin,
            seed: self.seed,
            json: self.json,
            progress: self.progress,
        };
        if config.pin && config.workers > cpus {
            let workers = config.workers;
            return Err(format!("--pin with --workers {workers}: there are {cpus} CPUs to pin to"));
        }
        if let Offered::Rate(rate) = config.offered {
            let arrivals = rate * config.duration as f64 / 1e9;
            if arrivals < 1.0 {
                let duration = units::exact_time(config.duration);
                return Err(format!("--rate {rate} for {duration} is less than one arrival"));
            }
        }
        if let Some(deep) = config.deep {
            config.check_deep(deep)?;
        }
        Ok(config)
    }
}

impl Config {
    fn check_deep(&self, deep: Deep) -> Result<(), String> {
        let depth = units::exact_size(deep.bytes);
        if self.stack == Some(StackKind::Reserved) && deep.bytes > executor::RESERVED_DEPTH {
            let room = units::exact_size(executor::RESERVED_DEPTH);
            return Err(format!(
                "--deep {}:{depth} with --stack reserved: at most {room} fit a reserved stack",
                deep.share
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

fn workers(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n @ 1..=MAX_WORKERS) => Ok(n),
        _ => Err(format!("workers are a number from 1 to {MAX_WORKERS}")),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    units::parse_decimal(text)
        .filter(|rate| *rate > 0.0 && *rate <= MAX_RATE)
        .ok_or_else(|| format!("a rate is a number of arrivals per second above 0, at most {MAX_RATE}"))
}

fn load(text: &str) -> Result<f64, String> {
    units::parse_decimal(text)
        .filter(|load| *load > 0.0 && *load <= MAX_LOAD)
        .ok_or_else(|| format!("a load is a share of capacity above 0, at most {MAX_LOAD}"))
}

fn duration(text: &str) -> Result<u64, String> {
    match units::parse_time(text)? {
        0 => Err("a duration is longer than 0".into()),
        ns => bounded(ns),
    }
}

fn warmup(text: &str) -> Result<u64, String> {
    bounded(units::parse_time(text)?)
}

fn bounded(ns: u64) -> Result<u64, String> {
    if ns > MAX_DURATION {
        return Err(format!("at most {} are allowed", units::exact_time(MAX_DURATION)));
    }
    Ok(ns)
}

fn slice(text: &str) -> Result<SliceOption, String> {
    if text == "off" {
        return Ok(Setting::Off);
    }
    let ns = units::parse_time(text).map_err(|error| format!("{error}, or off"))?;
    if !(MIN_SLICE..=MAX_SLICE).contains(&ns) {
        let (min, max) = (units::exact_time(MIN_SLICE), units::exact_time(MAX_SLICE));
        return Err(format!("a time slice is from {min} to {max}, or off"));
    }
    Ok(Setting::On(Duration::from_nanos(ns)))
}

fn deep(text: &str) -> Result<DeepOption, String> {
    if text == "0" {
        return Ok(Setting::Off);
    }
    let Some((share, size)) = text.split_once(':') else {
        return Err("deep requests are SHARE:SIZE, like 1%:256KiB, or 0 for none".into());
    };
    let share = units::parse_share(share)?;
    let bytes = units::parse_size(size)?;
    if !(MIN_DEEP..=MAX_DEEP).contains(&bytes) {
        let (min, max) = (units::exact_size(MIN_DEEP), units::exact_size(MAX_DEEP));
        return Err(format!("deep requests recurse from {min} to {max}"));
    }
    if share.probability() == 0.0 {
        return Ok(Setting::Off);
    }
    Ok(Setting::On(Deep { share, bytes }))
}

fn seed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("a seed is a number from 0 to {}", u64::MAX))
}
