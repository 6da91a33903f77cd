//! The table, with styles. The stream it is written to strips them where it is no terminal, or where `NO_COLOR` says so.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};

use super::{Figures, Latency, Peer, Ratio, Report, Slowdown};
use crate::capacity::Capacity;
use crate::units::{self, count, three_digits, time};

/// Width of the names at the left.
const NAME: usize = 16;

/// Widths of the columns of latencies and slowdowns, and of the number of requests before them.
const COLUMN: usize = 9;
const REQUESTS: usize = 12;

const HEAD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();

/// The line that tells of the capacity as soon as it is found.
pub fn capacity_line(capacity: &Capacity) -> String {
    format!(
        "capacity: {} (closed loop, {} in flight, measured for {})",
        rps(capacity.rps),
        count(capacity.in_flight),
        time(capacity.measured)
    )
}

/// Writes a rate.
pub fn rps(rate: f64) -> String {
    if rate < 100.0 { format!("{} rps", three_digits(rate)) } else { format!("{} rps", count(rate.round() as u64)) }
}

/// Rows of name and value.
pub fn rows(rows: &[(&'static str, String)]) -> String {
    let mut table = Table::default();
    for (name, value) in rows {
        table.row(name, value);
    }
    table.text
}

/// A cell of a table, right-aligned in so many characters. Styles go around padded text: their bytes would count as width.
pub struct Cell {
    /// What it says.
    pub text: String,
    /// Whether that is a failure.
    pub bad: bool,
}

impl Cell {
    /// Padded and styled.
    pub fn padded(&self, width: usize) -> String {
        let style = if self.bad { BAD } else { Style::new() };
        format!("{style}{:>width$}{style:#}", self.text)
    }
}

/// The table of a report.
pub fn table(report: &Report) -> String {
    let mut table = Table::default();
    for (name, value) in &report.setting {
        table.row(name, value);
    }
    if let Some(capacity) = report.capacity_rps {
        table.row("capacity", &rps(capacity));
    }
    let load = report.load.map_or(String::new(), |load| format!(", load {load}"));
    table.row("offered", &format!("{}{load}", rps(report.figures.offered_rps)));
    if report.compare.is_empty() {
        table.row("completed", &rps(report.figures.completed_rps));
        table.gap();
        table.latencies(&report.figures);
    } else {
        table.row("schedule", &format!("the same for all, in {} parts, in turn", crate::contest::PARTS));
        table.gap();
        table.comparison(report);
    }
    table.gap();
    table.row("preemptions", &count(report.preemptions));
    table.row("steals", &count(report.steals));
    table.row("grows", &count(report.grows));
    table.row("shrinks", &count(report.shrinks));
    table.row("freezes", &count(report.freezes));
    table.row("bytes copied", &units::size(report.bytes_copied));
    table.row("peak stacks", &count(report.peak_stacks));
    table.row("peak RSS", &units::size(report.rss_peak_bytes));
    let Latency { p50, p99, max, .. } = report.figures.generator_error_ns;
    let error = format!("late by {} p50, {} p99, {} max (part of the latencies)", time(p50), time(p99), time(max));
    table.row("generator", &error);
    table.arrivals(report);
    table.text
}

#[derive(Default)]
struct Table {
    text: String,
}

// Writing to a string cannot fail.
impl Table {
    fn row(&mut self, name: &str, value: &str) {
        let _ = writeln!(self.text, "{DIM}{name:<NAME$}{DIM:#}{value}");
    }

    fn gap(&mut self) {
        self.text.push('\n');
    }

    fn latencies(&mut self, figures: &Figures) {
        self.head("latency");
        let _ = write!(self.text, "{HEAD}   slowdown");
        for column in ["p50", "p99", "p99.9"] {
            let _ = write!(self.text, "{column:>COLUMN$}");
        }
        let _ = writeln!(self.text, "{HEAD:#}");
        self.latency("all", figures.completions, &figures.latency_ns);
        self.slowdowns(figures.completions, figures.slowdown.as_ref());
        for row in &figures.classes {
            self.latency(row.name, row.completions, &row.latency_ns);
            self.slowdowns(row.completions, Some(&row.slowdown));
        }
    }

    fn head(&mut self, name: &str) {
        let _ = write!(self.text, "{HEAD}{name:<NAME$}{:>REQUESTS$}", "requests");
        for column in ["p50", "p90", "p99", "p99.9", "max", "mean"] {
            let _ = write!(self.text, "{column:>COLUMN$}");
        }
        let _ = write!(self.text, "{HEAD:#}");
    }

    fn latency(&mut self, name: &str, requests: u64, latency: &Latency) {
        let _ = write!(self.text, "{DIM}{name:<NAME$}{DIM:#}{:>REQUESTS$}", count(requests));
        // Zeros would read as very fast.
        let known = |value: String| if requests == 0 { "-".to_string() } else { value };
        let Latency { p50, p90, p99, p999, max, mean } = *latency;
        for ns in [p50, p90, p99, p999, max, mean] {
            let _ = write!(self.text, "{:>COLUMN$}", known(time(ns)));
        }
    }

    fn slowdowns(&mut self, requests: u64, slowdown: Option<&Slowdown>) {
        let _ = write!(self.text, "{:11}", "");
        let ratios = slowdown.filter(|_| requests > 0).map(|slowdown| [slowdown.p50, slowdown.p99, slowdown.p999]);
        for ratio in ratios.map_or([None; 3], |ratios| ratios.map(Some)) {
            let _ = write!(self.text, "{:>COLUMN$}", ratio.map_or("-".into(), units::ratio));
        }
        self.gap();
    }

    /// A block for all requests and for each class, a row for each contender.
    fn comparison(&mut self, report: &Report) {
        self.head("latency");
        let _ = write!(self.text, "{HEAD}   {:<19}  over morestack's", "p99 of the parts");
        for column in ["p50", "p99", "p99.9"] {
            let _ = write!(self.text, "{column:>COLUMN$}");
        }
        let _ = writeln!(self.text, "{HEAD:#}");
        let all = |figures: &Figures| (figures.completions, figures.latency_ns);
        self.block(report, "all", 0, all);
        for (index, row) in report.figures.classes.iter().enumerate() {
            self.block(report, row.name, index + 1, move |figures| {
                let row = &figures.classes[index];
                (row.completions, row.latency_ns)
            });
        }
    }

    fn block(&mut self, report: &Report, name: &str, range: usize, pick: impl Fn(&Figures) -> (u64, Latency)) {
        let _ = writeln!(self.text, "{HEAD}{name}{HEAD:#}");
        let (requests, own) = pick(&report.figures);
        self.latency(&format!("  {}", report.own), requests, &own);
        let between = |ranges: &[(u64, u64)]| format!("{} to {}", time(ranges[range].0), time(ranges[range].1));
        let _ = writeln!(self.text, "   {}", between(&report.p99_ranges));
        for Peer { executor, figures, p99_ranges, .. } in &report.compare {
            let (requests, latency) = pick(figures);
            self.latency(&format!("  {executor}"), requests, &latency);
            let _ = write!(self.text, "   {:<19}  {:16}", between(p99_ranges), "");
            if requests > 0 {
                self.ratios(&Ratio::of(&latency, &own));
            }
            if figures.saturated {
                let _ = write!(self.text, "  {BAD}completes only {}{BAD:#}", rps(figures.completed_rps));
            }
            self.gap();
        }
    }

    fn ratios(&mut self, ratio: &Ratio) {
        for ratio in [ratio.p50, ratio.p99, ratio.p999] {
            let text = ratio.map_or("-".into(), |ratio| format!("{}x", units::ratio(ratio)));
            // Within a tenth they are the same to any reader of a noisy machine.
            let style = match ratio {
                Some(ratio) if ratio > 1.1 => GOOD,
                Some(ratio) if ratio < 0.9 => BAD,
                _ => Style::new(),
            };
            let _ = write!(self.text, "{style}{text:>COLUMN$}{style:#}");
        }
    }

    fn arrivals(&mut self, report: &Report) {
        let Figures { arrivals, completions, missing, .. } = report.figures;
        let (style, relation, verdict) = match arrivals.checked_sub(completions) {
            Some(0) => (GOOD, "=", "nothing lost".to_string()),
            _ if report.interrupted => {
                (BAD, "!=", format!("{} had not completed, and are not counted", count(missing)))
            }
            lost => (BAD, "!=", format!("{} lost", count(lost.unwrap_or(0)))),
        };
        let value =
            format!("{} {relation} completions {}, {style}{verdict}{style:#}", count(arrivals), count(completions));
        self.row("arrivals", &value);
        if report.interrupted {
            self.row("interrupted", &format!("{BAD}after {} of measurement{BAD:#}", time(report.measured_ns)));
        }
    }
}
