//! How late a request for preemption is answered in a program that `cargo morestack` has built: four threads that compute on one
//! worker, in slices of 100 us.
//!
//! Code of the program's own answers at the next call. What calls a third party, for some tens of microseconds at a time, does so when
//! it calls a function of its own again. Lateness is counted in classes that double: what is given is the end of one.
//!
//! The worker and sysmon each need a processor: on a machine that is busy with other things one waits for the other.

use super::{Benchmark, on};
use crate::built::{self, Build};
use crate::measure::{Contender, Unit};

pub(super) const BENCHMARK: Benchmark = Benchmark {
    name: "preemption_lateness",
    about: "from the request to the preemption, with automatic checks",
    operation: "request",
    unit: Unit::Nanoseconds,
    contenders,
};

/// Milliseconds of a run.
const RUN: u64 = 1000;

fn contenders() -> Vec<Contender> {
    let of = |name, kind: &'static str, share: f64| {
        let run = on(
            || built::program(Build::Prologues, "lateness"),
            move |program, millis: u64| {
                let said = built::output(program, &[kind, &millis.to_string()]);
                // The harness divides by as much.
                millis * quantile(&said, share)
            },
        );
        Contender::amount(name, RUN, run)
    };
    vec![
        of("own code, half", "own", 0.5),
        of("own code, 99 of 100", "own", 0.99),
        of("third party's code, half", "third-party", 0.5),
        of("third party's code, 99 of 100", "third-party", 0.99),
    ]
}

/// The end of the class up to which there are so many of all. A line is the end of a class and a count.
fn quantile(said: &str, share: f64) -> u64 {
    let pair =
        |line: &str| line.split_once(' ').and_then(|(end, count)| Some((end.parse().ok()?, count.parse().ok()?)));
    let classes: Vec<(u64, u64)> = said.lines().filter_map(pair).collect();
    let all: u64 = classes.iter().map(|(_, count)| count).sum();
    let mut seen = 0;
    let reached = classes.iter().find(|(_, count)| {
        seen += count;
        seen as f64 >= share * all as f64
    });
    reached.map_or(0, |(end, _)| *end)
}
