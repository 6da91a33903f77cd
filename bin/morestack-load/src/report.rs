//! The report: a table for people, JSON for programs. Both are views of one [`Report`].
//!
//! The JSON's keys are an interface: `workers offered_rps completed_rps latency_ns slowdown preemptions steals grows
//! shrinks bytes_copied freezes rss_peak_bytes`, and `arrivals completions classes seed service time_slice_ns load
//! capacity_rps`. Times are integers in nanoseconds, slowdowns are ratios, and what was not asked for or not measured is
//! `null`.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use crate::capacity::Capacity;
use crate::cli::{Config, Offered, StackKind};
use crate::record::{Hdr, SLOWDOWN_UNIT, Tally};
use crate::run::Outcome;
use crate::units::{self, count, three_digits, time};

/// The results of a run.
#[derive(Serialize)]
pub struct Report {
    workers: usize,
    offered_rps: f64,
    completed_rps: f64,
    latency_ns: Latency,
    slowdown: Slowdown,
    preemptions: u64,
    steals: u64,
    grows: u64,
    shrinks: u64,
    bytes_copied: u64,
    freezes: u64,
    rss_peak_bytes: u64,
    arrivals: u64,
    completions: u64,
    classes: Vec<ClassRow>,
    seed: u64,
    service: String,
    time_slice_ns: Option<u64>,
    load: Option<f64>,
    capacity_rps: Option<f64>,
    #[serde(skip)]
    setting: Vec<(&'static str, String)>,
    #[serde(skip)]
    peak_stacks: u64,
    #[serde(skip)]
    lag: Latency,
}

#[derive(Serialize)]
struct Latency {
    p50: u64,
    p90: u64,
    p99: u64,
    p999: u64,
    max: u64,
    mean: u64,
}

#[derive(Serialize)]
struct Slowdown {
    p50: f64,
    p99: f64,
    p999: f64,
}

#[derive(Serialize)]
struct ClassRow {
    name: &'static str,
    completions: u64,
    latency_ns: Latency,
    slowdown: Slowdown,
}

impl Latency {
    fn of(hdr: &Hdr) -> Latency {
        Latency {
            p50: hdr.value_at_quantile(0.5),
            p90: hdr.value_at_quantile(0.9),
            p99: hdr.value_at_quantile(0.99),
            p999: hdr.value_at_quantile(0.999),
            max: hdr.max(),
            mean: hdr.mean() as u64,
        }
    }
}

impl Slowdown {
    fn of(hdr: &Hdr) -> Slowdown {
        let at = |quantile| hdr.value_at_quantile(quantile) as f64 / SLOWDOWN_UNIT;
        Slowdown { p50: at(0.5), p99: at(0.99), p999: at(0.999) }
    }
}

impl Report {
    /// The results of a run that was asked for so.
    pub fn new(config: &Config, outcome: &Outcome) -> Report {
        let recording = &outcome.recording;
        let seconds = config.duration as f64 / 1e9;
        let completions = recording.all.latency.len();
        // Beyond capacity completions go on after the last arrival, and the rate is over all of that time.
        let until = recording.last.saturating_sub(config.warmup) as f64 / 1e9;
        let row = |class: &'static str, tally: &Tally| ClassRow {
            name: class,
            completions: tally.latency.len(),
            latency_ns: Latency::of(&tally.latency),
            slowdown: Slowdown::of(&tally.slowdown),
        };
        // One row would repeat the totals.
        let classes = match &recording.classes[..] {
            [_] => Vec::new(),
            rows => rows.iter().map(|(class, tally)| row(class.name(), tally)).collect(),
        };
        Report {
            workers: config.workers,
            offered_rps: outcome.issued.measured as f64 / seconds,
            completed_rps: completions as f64 / until.max(seconds),
            latency_ns: Latency::of(&recording.all.latency),
            slowdown: Slowdown::of(&recording.all.slowdown),
            preemptions: outcome.counters.preemptions,
            steals: outcome.counters.steals,
            grows: outcome.counters.grows,
            shrinks: outcome.counters.shrinks,
            bytes_copied: outcome.counters.bytes_copied,
            freezes: outcome.counters.freezes,
            rss_peak_bytes: outcome.rss_peak,
            arrivals: outcome.issued.measured,
            completions,
            classes,
            seed: config.seed,
            service: config.service.to_string(),
            time_slice_ns: config.time_slice.map(|slice| slice.as_nanos() as u64),
            load: match config.offered {
                Offered::Load(load) => Some(load),
                Offered::Rate(_) => None,
            },
            capacity_rps: outcome.capacity.map(|capacity| capacity.rps),
            setting: setting(config),
            peak_stacks: outcome.counters.peak_stacks,
            lag: Latency::of(&outcome.issued.lag),
        }
    }

    /// The table, with styles. The stream it is written to strips them where it is no terminal.
    pub fn table(&self) -> String {
        let mut table = Table::default();
        for (name, value) in &self.setting {
            table.row(name, value);
        }
        if let Some(capacity) = self.capacity_rps {
            table.row("capacity", &rps(capacity));
        }
        let load = self.load.map_or(String::new(), |load| format!(", load {load}"));
        table.row("offered", &format!("{}{load}", rps(self.offered_rps)));
        table.row("completed", &rps(self.completed_rps));
        table.gap();
        table.latencies(self);
        table.gap();
        table.row("preemptions", &count(self.preemptions));
        table.row("steals", &count(self.steals));
        table.row("grows", &count(self.grows));
        table.row("shrinks", &count(self.shrinks));
        table.row("freezes", &count(self.freezes));
        table.row("bytes copied", &units::size(self.bytes_copied));
        table.row("peak stacks", &count(self.peak_stacks));
        table.row("peak RSS", &units::size(self.rss_peak_bytes));
        let Latency { p50, p99, max, .. } = self.lag;
        let lag = format!("late by {} p50, {} p99, {} max", time(p50), time(p99), time(max));
        table.row("generator", &lag);
        table.arrivals(self.arrivals, self.completions);
        table.text
    }
}

/// The line that tells of the capacity as soon as it is found.
pub fn capacity_line(capacity: &Capacity) -> String {
    format!(
        "capacity: {} (closed loop, {} in flight, measured for {})",
        rps(capacity.rps),
        count(capacity.in_flight),
        time(capacity.measured)
    )
}

fn setting(config: &Config) -> Vec<(&'static str, String)> {
    let cpus = num_cpus::get();
    let mut workers = config.workers.to_string();
    if config.pin {
        workers += ", pinned";
    }
    if config.workers >= cpus {
        let _ = write!(workers, " ({cpus} CPUs: none left for the generator)");
    }
    let stacks = match (config.stack, config.deep) {
        (Some(StackKind::Copying), _) => "copying",
        (Some(StackKind::Reserved), _) | (None, None) => "reserved",
        (None, Some(_)) => "reserved, copying for deep requests",
    };
    let deep = match config.deep {
        Some(deep) => format!("{}:{}", deep.share, units::exact_size(deep.bytes)),
        None => "none".into(),
    };
    let slice = match config.time_slice {
        Some(slice) => units::exact_time(slice.as_nanos() as u64),
        None => "off".into(),
    };
    vec![
        ("workers", workers),
        ("service", config.service.to_string()),
        ("deep", deep),
        ("stacks", stacks.into()),
        ("time slice", slice),
        ("seed", config.seed.to_string()),
    ]
}

fn rps(rate: f64) -> String {
    if rate < 100.0 { format!("{} rps", three_digits(rate)) } else { format!("{} rps", count(rate.round() as u64)) }
}

/// Width of the names at the left.
const NAME: usize = 14;

/// Widths of the columns of latencies and slowdowns, and of the number of requests before them.
const COLUMN: usize = 9;
const REQUESTS: usize = 12;

const HEAD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();

#[derive(Default)]
struct Table {
    text: String,
}

// Writing to a string cannot fail. Styles go around padded text: their bytes would count as width.
impl Table {
    fn row(&mut self, name: &str, value: &str) {
        let _ = writeln!(self.text, "{DIM}{name:<NAME$}{DIM:#}{value}");
    }

    fn gap(&mut self) {
        self.text.push('\n');
    }

    fn latencies(&mut self, report: &Report) {
        let _ = write!(self.text, "{HEAD}{:<NAME$}{:>REQUESTS$}", "latency", "requests");
        for column in ["p50", "p90", "p99", "p99.9", "max", "mean"] {
            let _ = write!(self.text, "{column:>COLUMN$}");
        }
        let _ = write!(self.text, "   slowdown");
        for column in ["p50", "p99", "p99.9"] {
            let _ = write!(self.text, "{column:>COLUMN$}");
        }
        let _ = writeln!(self.text, "{HEAD:#}");
        self.latency("all", report.completions, &report.latency_ns, &report.slowdown);
        for row in &report.classes {
            self.latency(row.name, row.completions, &row.latency_ns, &row.slowdown);
        }
    }

    fn latency(&mut self, name: &str, requests: u64, latency: &Latency, slowdown: &Slowdown) {
        let _ = write!(self.text, "{DIM}{name:<NAME$}{DIM:#}{:>REQUESTS$}", count(requests));
        // Zeros would read as very fast.
        let known = |value: String| if requests == 0 { "-".to_string() } else { value };
        let Latency { p50, p90, p99, p999, max, mean } = *latency;
        for ns in [p50, p90, p99, p999, max, mean] {
            let _ = write!(self.text, "{:>COLUMN$}", known(time(ns)));
        }
        let _ = write!(self.text, "{:11}", "");
        for ratio in [slowdown.p50, slowdown.p99, slowdown.p999] {
            let _ = write!(self.text, "{:>COLUMN$}", known(three_digits(ratio)));
        }
        self.gap();
    }

    fn arrivals(&mut self, arrivals: u64, completions: u64) {
        let (style, relation, verdict) = match arrivals.checked_sub(completions) {
            Some(0) => (GOOD, "=", "nothing lost".to_string()),
            lost => (BAD, "!=", format!("{} lost", count(lost.unwrap_or(0)))),
        };
        let value =
            format!("{} {relation} completions {}, {style}{verdict}{style:#}", count(arrivals), count(completions));
        self.row("arrivals", &value);
    }
}

/// Where the JSON goes.
pub enum Sink {
    /// The standard output.
    Stdout,
    /// A file.
    File(File),
}

impl Sink {
    /// Opens it, so that a file that cannot be written is known before the run. What the file holds stays until there
    /// is something to replace it.
    pub fn open(path: &Path) -> io::Result<Sink> {
        if path == Path::new("-") {
            return Ok(Sink::Stdout);
        }
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        Ok(Sink::File(file))
    }

    /// Writes the report.
    pub fn write(self, report: &Report) -> io::Result<()> {
        let mut json = serde_json::to_string_pretty(report)?;
        json.push('\n');
        match self {
            Sink::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(json.as_bytes())?;
                stdout.flush()
            }
            Sink::File(mut file) => {
                // A pipe or a device has no length to set.
                if file.metadata()?.is_file() {
                    file.set_len(0)?;
                }
                file.write_all(json.as_bytes())
            }
        }
    }
}
