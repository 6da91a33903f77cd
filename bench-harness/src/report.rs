//! All samples as JSON, and what an earlier run of this machine had.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::benchmarks::Benchmark;
use crate::machine::Machine;
use crate::measure::{Effort, Outcome};

/// A run, as `--json` writes it and `--baseline` reads it.
#[derive(Serialize, Deserialize)]
pub(crate) struct Report {
    /// Of this crate.
    version: String,
    machine: Machine,
    quick: bool,
    repetitions: u32,
    benchmarks: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    name: String,
    operation: String,
    /// What the numbers of the contenders are.
    unit: String,
    contenders: Vec<Contender>,
}

#[derive(Serialize, Deserialize)]
struct Contender {
    name: String,
    peer: bool,
    group: Option<String>,
    operations: u64,
    median: f64,
    min: f64,
    max: f64,
    ratio: Option<f64>,
    samples: Vec<f64>,
}

impl Entry {
    fn new(benchmark: &Benchmark, outcomes: &[Outcome]) -> Entry {
        Entry {
            name: benchmark.name.to_owned(),
            operation: benchmark.operation.to_owned(),
            unit: benchmark.unit.name().to_owned(),
            contenders: outcomes.iter().map(Contender::new).collect(),
        }
    }
}

impl Contender {
    fn new(outcome: &Outcome) -> Contender {
        Contender {
            name: outcome.name.to_owned(),
            peer: outcome.peer,
            group: outcome.group.map(str::to_owned),
            operations: outcome.operations,
            median: outcome.median,
            min: outcome.min,
            max: outcome.max,
            ratio: outcome.ratio,
            samples: outcome.samples.clone(),
        }
    }
}

impl Report {
    /// Of the benchmarks that ran here.
    pub(crate) fn new(effort: Effort, results: &[(&Benchmark, Vec<Outcome>)]) -> Report {
        Report {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            machine: Machine::this(),
            quick: effort.quick,
            repetitions: effort.reps,
            benchmarks: results.iter().map(|(benchmark, outcomes)| Entry::new(benchmark, outcomes)).collect(),
        }
    }

    pub(crate) fn write(&self, mut out: impl Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut out, self)?;
        writeln!(out)
    }
}

/// The medians of an earlier run.
pub(crate) struct Baseline(HashMap<(String, Option<String>, String), f64>);

impl Baseline {
    /// Reads the run that `--json` wrote to a file.
    ///
    /// # Errors
    ///
    /// There is none, or it is of another machine.
    pub(crate) fn read(path: &Path) -> Result<Baseline, String> {
        let text = fs::read(path).map_err(|error| error.to_string())?;
        let report: Report =
            serde_json::from_slice(&text).map_err(|error| format!("no run that --json wrote: {error}"))?;
        let this = Machine::this();
        if report.machine != this {
            return Err(format!("of another machine ({}); this is {this}", report.machine));
        }
        let medians = report.benchmarks.into_iter().flat_map(|Entry { name, contenders, .. }| {
            contenders.into_iter().map(move |c| ((name.clone(), c.group, c.name), c.median))
        });
        Ok(Baseline(medians.collect()))
    }

    /// The median of that contender then.
    pub(crate) fn median(&self, benchmark: &Benchmark, outcome: &Outcome) -> Option<f64> {
        let key = (benchmark.name.to_owned(), outcome.group.map(str::to_owned), outcome.name.to_owned());
        self.0.get(&key).copied()
    }
}
