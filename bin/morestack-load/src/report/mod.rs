//! The report of a run: a table for people, JSON for programs, percentiles for a plotter, a page for a browser. All are
//! views of one [`Report`].
//!
//! The JSON's keys are an interface, described in `docs/load.md`: keys are added, none is taken away or changes its
//! meaning. Times are integers in nanoseconds, slowdowns and ratios are numbers, and what was not asked for or cannot be told
//! is `null`.

mod figures;
mod hgrm;
mod page;
mod table;

use serde::Serialize;

use crate::cli::{Config, Deep, Offered, Run, StackKind};
use crate::contest::{self, Ground, Outcome};
use crate::executor::Contender;
use crate::units::exact_time;

pub use self::figures::{Figures, Latency, Slowdown};
pub use self::hgrm::hgrm;
pub use self::table::{Cell, capacity_line, rows, rps, table};

/// The results of a run.
#[derive(Serialize)]
pub struct Report {
    executor: &'static str,
    workers: usize,
    #[serde(flatten)]
    figures: Figures,
    preemptions: u64,
    steals: u64,
    grows: u64,
    shrinks: u64,
    bytes_copied: u64,
    freezes: u64,
    peak_stacks: u64,
    rss_peak_bytes: u64,
    stacks: Option<&'static str>,
    seed: u64,
    service: String,
    deep: Option<String>,
    pin: bool,
    time_slice_ns: Option<u64>,
    warmup_ns: u64,
    measured_ns: u64,
    load: Option<f64>,
    capacity_rps: Option<f64>,
    interrupted: bool,
    compare: Vec<Peer>,
    #[serde(skip)]
    setting: Vec<(&'static str, String)>,
    #[serde(skip)]
    own: Contender,
    #[serde(skip)]
    p99_ranges: Vec<(u64, u64)>,
}

/// A peer's results.
#[derive(Serialize)]
struct Peer {
    executor: &'static str,
    #[serde(flatten)]
    figures: Figures,
    rss_peak_bytes: u64,
    p99_range_ns: [u64; 2],
    ratio: Ratio,
    #[serde(skip)]
    p99_ranges: Vec<(u64, u64)>,
}

/// A peer's latencies over Morestack's.
#[derive(Clone, Copy, Serialize)]
pub struct Ratio {
    p50: Option<f64>,
    p90: Option<f64>,
    p99: Option<f64>,
    p999: Option<f64>,
}

impl Ratio {
    fn of(peer: &Latency, own: &Latency) -> Ratio {
        let ratio = |peer: u64, own: u64| (own > 0).then(|| peer as f64 / own as f64);
        Ratio {
            p50: ratio(peer.p50, own.p50),
            p90: ratio(peer.p90, own.p90),
            p99: ratio(peer.p99, own.p99),
            p999: ratio(peer.p999, own.p999),
        }
    }
}

impl Report {
    /// The results of a run: the first outcome is Morestack's, the others are those of the peers that had their turn.
    pub fn new(run: &Run, ground: &Ground, outcomes: &[(Contender, Outcome)]) -> Report {
        let config = &run.config;
        let empty = contest::is_empty(config);
        let (own, outcome) = &outcomes[0];
        let figures = Figures::of(outcome, empty);
        let peer = |(contender, outcome): &(Contender, Outcome)| {
            let peer = Figures::of(outcome, empty);
            Peer {
                executor: contender.kind.name(),
                ratio: Ratio::of(&peer.latency_ns, &figures.latency_ns),
                figures: peer,
                rss_peak_bytes: outcome.rss_peak,
                p99_range_ns: outcome.p99_ranges[0].into(),
                p99_ranges: outcome.p99_ranges.clone(),
            }
        };
        Report {
            executor: own.kind.name(),
            workers: config.workers,
            compare: outcomes[1..].iter().map(peer).collect(),
            preemptions: outcome.counters.preemptions,
            steals: outcome.counters.steals,
            grows: outcome.counters.grows,
            shrinks: outcome.counters.shrinks,
            bytes_copied: outcome.counters.bytes_copied,
            freezes: outcome.counters.freezes,
            peak_stacks: outcome.counters.peak_stacks,
            rss_peak_bytes: outcome.rss_peak,
            stacks: outcome.stacks,
            seed: config.seed,
            service: config.service(),
            deep: config.deep.map(|deep| Deep::text(Some(deep))),
            pin: config.pin,
            time_slice_ns: own.slice_ns(),
            warmup_ns: config.warmup,
            measured_ns: outcome.measured,
            load: match run.offered {
                Offered::Load(load) => Some(load),
                Offered::Rate(_) | Offered::Trace => None,
            },
            capacity_rps: ground.capacity.map(|capacity| capacity.rps),
            interrupted: outcomes.iter().any(|(_, outcome)| outcome.interrupted),
            setting: setting(config, Some(*own), outcome.stacks),
            own: *own,
            p99_ranges: outcome.p99_ranges.clone(),
            figures,
        }
    }

    /// The JSON.
    pub fn json(&self) -> String {
        let json = serde_json::to_string_pretty(self).expect("keys are strings, and no number is infinite");
        json + "\n"
    }
}

/// What was asked for, in rows of name and value.
pub fn setting(config: &Config, own: Option<Contender>, stacks: Option<&str>) -> Vec<(&'static str, String)> {
    let cpus = num_cpus::get();
    let mut workers = config.workers.to_string();
    if config.pin {
        workers += ", pinned";
    }
    if config.workers >= cpus {
        workers += &format!(" ({cpus} CPUs: none left for the generator)");
    }
    let stacks = stacks.map(|stacks| match config.stack {
        StackKind::Auto => format!("{stacks} (auto)"),
        _ => stacks.to_string(),
    });
    let slice = own.map(|own| own.slice_ns().map_or("off".into(), exact_time));
    let rows = [
        ("workers", Some(workers)),
        ("service", Some(config.service())),
        ("deep", Some(Deep::text(config.deep))),
        ("stacks", stacks),
        ("time slice", slice),
        ("seed", Some(config.seed.to_string())),
    ];
    rows.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}
