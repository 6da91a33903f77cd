//! The outcomes as Markdown: a table for each benchmark.

use std::io::{self, Write};

use crate::benchmarks::Benchmark;
use crate::machine::Machine;
use crate::measure::{Effort, Outcome};
use crate::table::number;

/// Writes the tables of all benchmarks that ran.
pub(crate) fn write(mut out: impl Write, effort: Effort, results: &[(&Benchmark, Vec<Outcome>)]) -> io::Result<()> {
    writeln!(out, "{}. Medians of {}; least and most in brackets.", Machine::this(), effort.reps)?;
    for (benchmark, outcomes) in results {
        let unit = benchmark.unit.name();
        writeln!(out, "\n## {}\n\n{}; {unit} per {}.\n", benchmark.name, benchmark.about, benchmark.operation)?;
        writeln!(out, "| | {unit} | | ratio |\n|---|---:|---:|---:|")?;
        let mut group = None;
        for outcome in outcomes {
            if let Some(name) = outcome.group
                && group.replace(name) != Some(name)
            {
                writeln!(out, "| *{name}* | | | |")?;
            }
            let name = if outcome.peer { outcome.name.to_owned() } else { format!("**{}**", outcome.name) };
            let [median, min, max] = [outcome.median, outcome.min, outcome.max].map(number);
            let ratio = outcome.ratio.map_or(String::new(), number);
            writeln!(out, "| {name} | {median} | ({min} to {max}) | {ratio} |")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Unit;

    #[test]
    fn a_table_for_each() {
        let benchmark = Benchmark {
            name: "switch",
            about: "one way and another",
            operation: "switch",
            unit: Unit::Nanoseconds,
            contenders: Vec::new,
        };
        let outcome = |name, peer, group| Outcome {
            name,
            peer,
            group,
            operations: 1,
            samples: vec![],
            median: 5.0,
            min: 2.5,
            max: 100.0,
            ratio: Some(0.5),
        };
        let outcomes = vec![outcome("ours", false, Some("far")), outcome("another", true, Some("far"))];
        let mut text = Vec::new();
        write(&mut text, Effort::new(Some(3), false), &[(&benchmark, outcomes)]).expect("memory takes it");
        let expected = "Medians of 3; least and most in brackets.

## switch

one way and another; ns per switch.

| | ns | | ratio |
|---|---:|---:|---:|
| *far* | | | |
| **ours** | 5.00 | (2.50 to 100) | 0.50 |
| another | 5.00 | (2.50 to 100) | 0.50 |
";
        let text = String::from_utf8(text).expect("UTF-8");
        assert!(text.ends_with(expected), "{text}");
    }
}
