//! A row of the CSV: the settings, a load, a contender, a class of requests, and what was measured of them.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::cli::{Config, Deep, Traffic};
use crate::contest::{self, Outcome};
use crate::executor::{self, Contender};
use crate::record::Tally;
use crate::report::{Latency, Slowdown};
use crate::service::{Class, Service};
use crate::units::Share;

/// A row. The order of the fields is that of the columns.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Row {
    /// What built this program: `cargo` or `cargo morestack`.
    build: String,
    workers: usize,
    service: String,
    deep: String,
    stack: String,
    pin: bool,
    seed: u64,
    duration_ns: u64,
    warmup_ns: u64,
    /// What the load is a share of.
    pub capacity_rps: f64,
    /// That share.
    pub load_percent: f64,
    executor: String,
    time_slice_ns: Option<u64>,
    stacks: Option<String>,
    /// Whose latencies: `all`, or a class.
    pub class: String,
    offered_rps: f64,
    /// What was completed.
    pub completed_rps: f64,
    /// Whether that is less than what was offered.
    pub saturated: bool,
    /// How many were measured.
    pub requests: u64,
    /// Latencies.
    pub p50_ns: u64,
    p90_ns: u64,
    /// Latencies.
    pub p99_ns: u64,
    /// Latencies.
    pub p999_ns: u64,
    max_ns: u64,
    mean_ns: u64,
    /// The least and the most of the parts' 99th percentiles.
    pub p99_low_ns: u64,
    /// See above.
    pub p99_high_ns: u64,
    slowdown_p50: Option<f64>,
    slowdown_p99: Option<f64>,
    /// Slowdowns.
    pub slowdown_p999: Option<f64>,
    preemptions: u64,
    steals: u64,
    grows: u64,
    shrinks: u64,
    bytes_copied: u64,
    generator_error_p99_ns: u64,
    rss_peak_bytes: u64,
}

impl Row {
    /// Whether it is a contender's.
    pub fn is_of(&self, contender: &Contender) -> bool {
        self.executor == contender.kind.name() && self.time_slice_ns == contender.slice_ns()
    }

    /// Whether it is of a load.
    pub fn is_at(&self, load: Share) -> bool {
        self.load_percent == load.percent()
    }

    fn setting(&self) -> [(&'static str, String); 9] {
        [
            ("build", self.build.clone()),
            ("workers", self.workers.to_string()),
            ("service", self.service.clone()),
            ("deep", self.deep.clone()),
            ("stack", self.stack.clone()),
            ("pin", self.pin.to_string()),
            ("seed", self.seed.to_string()),
            ("duration_ns", self.duration_ns.to_string()),
            ("warmup_ns", self.warmup_ns.to_string()),
        ]
    }
}

/// The rows of a file; none if there is no file.
pub fn read(path: &Path) -> Result<Vec<Row>, String> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(format!("cannot read --csv {}: {error}", path.display())),
    };
    let rows = csv::Reader::from_reader(text.as_bytes()).into_deserialize().collect::<Result<_, _>>();
    rows.map_err(|error| format!("--csv {} is there and holds no sweep: {error}", path.display()))
}

/// Refuses the rows of another sweep.
pub fn check(rows: &[Row], config: &Config, path: &Path) -> Result<(), String> {
    let own = blank(config).setting();
    for row in rows {
        if let Some(((name, theirs), (_, own))) = row.setting().iter().zip(&own).find(|(theirs, own)| theirs != own) {
            return Err(format!(
                "--csv {} holds a sweep with {name} {theirs}, not {own}: name another file, or remove it",
                path.display()
            ));
        }
    }
    Ok(())
}

/// The CSV.
pub fn csv(rows: &[Row]) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.serialize(row).expect("a row is flat, and memory takes all");
    }
    let bytes = writer.into_inner().expect("memory takes all");
    String::from_utf8(bytes).expect("all fields are text")
}

/// The class that the table shows: what runs into what else there is.
pub fn main_class(config: &Config) -> &'static str {
    match config.traffic {
        Traffic::Poisson(Service::Bimodal { .. }) => Class::Short.name(),
        _ => "all",
    }
}

/// A contender's rows at a load: of all requests, and of each class if there are several.
pub fn of(config: &Config, capacity: f64, load: Share, contender: &Contender, outcome: &Outcome) -> Vec<Row> {
    let recording = &outcome.recording;
    let classes = recording.classes.iter().filter(|_| recording.classes.len() > 1);
    let classes = classes.map(|(class, tally)| (class.name(), tally));
    let empty = contest::is_empty(config);
    let row = |((class, tally), (low, high)): ((&str, &Tally), &(u64, u64))| {
        let Latency { p50, p90, p99, p999, max, mean } = Latency::of(&tally.latency);
        let slowdown = (!empty && !tally.slowdown.is_empty()).then(|| Slowdown::of(&tally.slowdown));
        Row {
            capacity_rps: capacity,
            load_percent: load.percent(),
            executor: contender.kind.name().into(),
            time_slice_ns: contender.slice_ns(),
            stacks: outcome.stacks.map(String::from),
            class: class.into(),
            offered_rps: outcome.offered_rps(),
            completed_rps: outcome.completed_rps(),
            saturated: outcome.saturated(),
            requests: tally.latency.len(),
            p50_ns: p50,
            p90_ns: p90,
            p99_ns: p99,
            p999_ns: p999,
            max_ns: max,
            mean_ns: mean,
            p99_low_ns: *low,
            p99_high_ns: *high,
            slowdown_p50: slowdown.map(|slowdown| slowdown.p50),
            slowdown_p99: slowdown.map(|slowdown| slowdown.p99),
            slowdown_p999: slowdown.map(|slowdown| slowdown.p999),
            preemptions: outcome.counters.preemptions,
            steals: outcome.counters.steals,
            grows: outcome.counters.grows,
            shrinks: outcome.counters.shrinks,
            bytes_copied: outcome.counters.bytes_copied,
            generator_error_p99_ns: outcome.issued.lag.value_at_quantile(0.99),
            rss_peak_bytes: outcome.rss_peak,
            ..blank(config)
        }
    };
    [("all", &recording.all)].into_iter().chain(classes).zip(&outcome.p99_ranges).map(row).collect()
}

/// A row with the settings alone.
fn blank(config: &Config) -> Row {
    Row {
        build: if executor::copying_by_build() { "cargo morestack" } else { "cargo" }.into(),
        workers: config.workers,
        service: config.service(),
        deep: Deep::text(config.deep),
        stack: config.stack.name().into(),
        pin: config.pin,
        seed: config.seed,
        duration_ns: config.duration,
        warmup_ns: config.warmup,
        capacity_rps: 0.0,
        load_percent: 0.0,
        executor: String::new(),
        time_slice_ns: None,
        stacks: None,
        class: String::new(),
        offered_rps: 0.0,
        completed_rps: 0.0,
        saturated: false,
        requests: 0,
        p50_ns: 0,
        p90_ns: 0,
        p99_ns: 0,
        p999_ns: 0,
        max_ns: 0,
        mean_ns: 0,
        p99_low_ns: 0,
        p99_high_ns: 0,
        slowdown_p50: None,
        slowdown_p99: None,
        slowdown_p999: None,
        preemptions: 0,
        steals: 0,
        grows: 0,
        shrinks: 0,
        bytes_copied: 0,
        generator_error_p99_ns: 0,
        rss_peak_bytes: 0,
    }
}
