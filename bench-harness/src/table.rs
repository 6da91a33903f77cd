//! The outcome of a benchmark as an aligned table.

use std::fmt::Write;

use crate::benchmarks::Benchmark;
use crate::measure::Outcome;

/// The table, with the benchmark's name above it.
pub(crate) fn table(benchmark: &Benchmark, outcomes: &[Outcome]) -> String {
    let head = ["", "median", "min", "max", "ratio"].map(str::to_owned);
    let row = |outcome: &Outcome| {
        let ratio = outcome.ratio.map_or(String::from("-"), number);
        [outcome.name.to_owned(), number(outcome.median), number(outcome.min), number(outcome.max), ratio]
    };
    let rows: Vec<[String; 5]> = std::iter::once(head).chain(outcomes.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);

    let base = outcomes.iter().find(|outcome| outcome.peer).map_or("", |peer| peer.name);
    let mut text =
        format!("{}: {}\nns per {}, ratio to: {base}\n", benchmark.name, benchmark.about, benchmark.operation);
    for row in &rows {
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
fn number(n: f64) -> String {
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

    #[test]
    fn aligned() {
        let benchmark =
            Benchmark { name: "switch", about: "one way and another", operation: "switch", contenders: Vec::new };
        let outcome = |name, peer, median, ratio| Outcome {
            name,
            peer,
            operations: 1,
            samples: vec![],
            median,
            min: median / 2.0,
            max: median * 100.0,
            ratio: Some(ratio),
        };
        let outcomes = [outcome("ours", false, 5.0, 0.5), outcome("another", true, 10.0, 1.0)];
        let expected = "\
switch: one way and another
ns per switch, ratio to: another
           median   min   max  ratio
  ours       5.00  2.50   500   0.50
  another    10.0  5.00  1000   1.00
";
        assert_eq!(table(&benchmark, &outcomes), expected);
    }
}
