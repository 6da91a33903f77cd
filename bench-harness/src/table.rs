//! The outcome of a benchmark as an aligned table, with the name of each group above its rows.

use std::fmt::Write;

use crate::benchmarks::Benchmark;
use crate::measure::Outcome;
use crate::report::Baseline;

/// The table, with the benchmark's name above it. With a baseline, the last column is the median as a multiple of the one then.
pub(crate) fn table(benchmark: &Benchmark, outcomes: &[Outcome], baseline: Option<&Baseline>) -> String {
    let then = if baseline.is_some() { "then" } else { "" };
    let head = ["", "median", "min", "max", "ratio", then].map(str::to_owned);
    let row = |outcome: &Outcome| {
        let ratio = outcome.ratio.map_or(String::from("-"), number);
        let then = baseline.map_or(String::new(), |baseline| {
            baseline.median(benchmark, outcome).map_or(String::from("-"), |then| number(outcome.median / then))
        });
        [outcome.name.to_owned(), number(outcome.median), number(outcome.min), number(outcome.max), ratio, then]
    };
    let rows: Vec<[String; 6]> = std::iter::once(head).chain(outcomes.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);

    let grouped = outcomes.iter().any(|outcome| outcome.group.is_some());
    let first = outcomes.iter().find(|outcome| outcome.peer).map_or("", |peer| peer.name);
    let base = if grouped { "the fastest peer of each group" } else { first };
    let mut text = format!(
        "{}: {}\n{} per {}, ratio to: {base}\n",
        benchmark.name,
        benchmark.about,
        benchmark.unit.name(),
        benchmark.operation
    );
    let mut group = None;
    // The head belongs to no outcome.
    for (row, outcome) in rows.iter().zip(std::iter::once(None).chain(outcomes.iter().map(Some))) {
        if let Some(name) = outcome.and_then(|outcome| outcome.group)
            && group.replace(name) != Some(name)
        {
            writeln!(text, "  {name}").expect("a string takes all");
        }
        let mut line = format!("  {:<width$}", row[0], width = width(0));
        for (column, cell) in row.iter().enumerate().skip(1) {
            write!(line, "  {cell:>width$}", width = width(column)).expect("a string takes all");
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// Three digits that say something, whatever the size.
pub(crate) fn number(n: f64) -> String {
    match n {
        0.0 => String::from("0"),
        n if n < 0.1 => format!("{n:.5}"),
        n if n < 10.0 => format!("{n:.2}"),
        n if n < 100.0 => format!("{n:.1}"),
        n => format!("{n:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Unit;

    #[test]
    fn aligned() {
        let benchmark = Benchmark {
            name: "switch",
            about: "one way and another",
            operation: "switch",
            unit: Unit::Nanoseconds,
            contenders: Vec::new,
        };
        let outcome = |name, peer, median, ratio| Outcome {
            name,
            peer,
            group: None,
            operations: 1,
            samples: vec![],
            median,
            min: median / 2.0,
            max: median * 100.0,
            ratio: Some(ratio),
        };
        let outcomes = [outcome("ours", false, 5.0, 0.5), outcome("another", true, 10.0, 1.0)];
        let mut groups = outcomes.iter().map(|o| outcome(o.name, o.peer, o.median, 1.0)).collect::<Vec<_>>();
        groups.iter_mut().zip(["10 KiB", "20 KiB"]).for_each(|(outcome, group)| outcome.group = Some(group));
        let expected = "\
switch: one way and another
ns per switch, ratio to: another
           median   min   max  ratio
  ours       5.00  2.50   500   0.50
  another    10.0  5.00  1000   1.00
";
        assert_eq!(table(&benchmark, &outcomes, None), expected);
        let expected = "\
switch: one way and another
ns per switch, ratio to: the fastest peer of each group
           median   min   max  ratio
  10 KiB
  ours       5.00  2.50   500   1.00
  20 KiB
  another    10.0  5.00  1000   1.00
";
        assert_eq!(table(&benchmark, &groups, None), expected);
    }
}
