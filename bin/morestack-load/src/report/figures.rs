//! The figures of an outcome, as the JSON has them.

use serde::Serialize;

use crate::contest::Outcome;
use crate::record::{Hdr, Recording, SLOWDOWN_UNIT, Tally};

/// Latencies, in nanoseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Latency {
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
    pub mean: u64,
}

/// Latencies as multiples of the time that the work takes alone.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Slowdown {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
}

/// The requests of a class.
#[derive(Serialize)]
pub struct ClassRow {
    pub name: &'static str,
    pub completions: u64,
    pub latency_ns: Latency,
    pub slowdown: Slowdown,
}

/// What was measured of one contender.
#[derive(Serialize)]
pub struct Figures {
    pub offered_rps: f64,
    pub completed_rps: f64,
    pub latency_ns: Latency,
    pub slowdown: Option<Slowdown>,
    pub generator_error_ns: Latency,
    pub arrivals: u64,
    pub completions: u64,
    pub missing: u64,
    pub saturated: bool,
    pub classes: Vec<ClassRow>,
}

impl Latency {
    pub fn of(hdr: &Hdr) -> Latency {
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
    pub fn of(hdr: &Hdr) -> Slowdown {
        let at = |quantile| hdr.value_at_quantile(quantile) as f64 / SLOWDOWN_UNIT;
        Slowdown { p50: at(0.5), p99: at(0.99), p999: at(0.999) }
    }
}

impl ClassRow {
    fn of(name: &'static str, tally: &Tally) -> ClassRow {
        ClassRow {
            name,
            completions: tally.latency.len(),
            latency_ns: Latency::of(&tally.latency),
            slowdown: Slowdown::of(&tally.slowdown),
        }
    }
}

impl Figures {
    /// Those of an outcome. Where requests are empty there is nothing that a slowdown could be a multiple of.
    pub fn of(outcome: &Outcome, empty: bool) -> Figures {
        let recording = &outcome.recording;
        Figures {
            offered_rps: outcome.offered_rps(),
            completed_rps: outcome.completed_rps(),
            latency_ns: Latency::of(&recording.all.latency),
            slowdown: (!empty).then(|| Slowdown::of(&recording.all.slowdown)),
            generator_error_ns: Latency::of(&outcome.issued.lag),
            arrivals: outcome.issued.measured,
            completions: recording.all.latency.len(),
            missing: outcome.missing,
            saturated: outcome.saturated(),
            classes: classes(recording),
        }
    }
}

fn classes(recording: &Recording) -> Vec<ClassRow> {
    match &recording.classes[..] {
        // One row would repeat the totals.
        [_] => Vec::new(),
        rows => rows.iter().map(|(class, tally)| ClassRow::of(class.name(), tally)).collect(),
    }
}
