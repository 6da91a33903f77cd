//! All samples as JSON.

use std::io::{self, Write};
use std::thread;

use serde::Serialize;

use crate::benchmarks::Benchmark;
use crate::measure::{Effort, Outcome};

#[derive(Serialize)]
struct Report<'a> {
    cpus: usize,
    quick: bool,
    repetitions: u32,
    benchmarks: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    name: &'a str,
    operation: &'a str,
    /// What the numbers of the contenders are.
    unit: &'a str,
    contenders: Vec<Contender<'a>>,
}

#[derive(Serialize)]
struct Contender<'a> {
    name: &'a str,
    peer: bool,
    group: Option<&'a str>,
    operations: u64,
    median: f64,
    min: f64,
    max: f64,
    ratio: Option<f64>,
    samples: &'a [f64],
}

impl<'a> Entry<'a> {
    fn new(benchmark: &Benchmark, outcomes: &'a [Outcome]) -> Entry<'a> {
        Entry {
            name: benchmark.name,
            operation: benchmark.operation,
            unit: benchmark.unit.name(),
            contenders: outcomes.iter().map(Contender::new).collect(),
        }
    }
}

impl<'a> Contender<'a> {
    fn new(outcome: &'a Outcome) -> Contender<'a> {
        Contender {
            name: outcome.name,
            peer: outcome.peer,
            group: outcome.group,
            operations: outcome.operations,
            median: outcome.median,
            min: outcome.min,
            max: outcome.max,
            ratio: outcome.ratio,
            samples: &outcome.samples,
        }
    }
}

/// Writes the outcomes of all benchmarks that ran.
pub(crate) fn write(mut out: impl Write, effort: Effort, results: &[(&Benchmark, Vec<Outcome>)]) -> io::Result<()> {
    let report = Report {
        cpus: thread::available_parallelism().map_or(0, usize::from),
        quick: effort.quick,
        repetitions: effort.reps,
        benchmarks: results.iter().map(|(benchmark, outcomes)| Entry::new(benchmark, outcomes)).collect(),
    };
    serde_json::to_writer_pretty(&mut out, &report)?;
    writeln!(out)
}
