//! The page of a run: latency over percentiles, drawn so that each further nine takes as much room as the one before.

use super::Report;
use crate::contest::Outcome;
use crate::executor::Contender;
use crate::page::chart::{Chart, Point, Series, Tick};
use crate::page::scale::{Domain, Scale};
use crate::page::{Page, Table, class, legend_of, time_cell, time_ticks};
use crate::record::{Hdr, Recording};
use crate::units::{count, ratio as ratio_text, time};

use super::figures::{Latency, Slowdown};

/// Steps in which half of what is left to 100% is passed: smooth at any size.
const STEPS: u32 = 10;

/// The percentiles that are marked.
const MARKS: [(f64, &str); 5] = [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"), (0.9999, "p99.99")];

impl Report {
    /// The page.
    pub fn page(&self, outcomes: &[(Contender, Outcome)]) -> String {
        let mut setting = self.setting.clone();
        setting.push(("offered", super::rps(self.figures.offered_rps)));
        if let Some(capacity) = self.capacity_rps {
            setting.push(("capacity", super::rps(capacity)));
        }
        if self.compare.is_empty() {
            setting.push(("completed", super::rps(self.figures.completed_rps)));
        }
        let mut page = Page::new(&format!("Latency of {}", self.service), &setting);
        if self.interrupted {
            page.note("Interrupted: these are the results so far, and what had not completed is not among them.");
        }
        let charts = charts(outcomes);
        page.legend(&legend_of(&charts[0].series));
        page.charts(&charts);
        page.table("Latency", &table(outcomes, self.figures.slowdown.is_none()));
        let Latency { p50, p99, max, .. } = self.figures.generator_error_ns;
        page.note(&format!(
            "Latency counts from the intended arrival to completion. The generator was late by {} at the median, {} at p99, {} at \
             most; that is part of the latencies.",
            time(p50),
            time(p99),
            time(max)
        ));
        page.finish()
    }
}

/// One chart with a line per class, or, of several contenders, one per class with a line per contender.
fn charts(outcomes: &[(Contender, Outcome)]) -> Vec<Chart> {
    let contenders: Vec<Contender> = outcomes.iter().map(|(contender, _)| *contender).collect();
    if let [(_, outcome)] = outcomes {
        let series = rows(&outcome.recording).into_iter().map(|(name, hdr)| line(name, name.into(), hdr));
        return vec![chart("Latency by percentile", series.collect())];
    }
    let chart_of = |(index, (name, _)): (usize, &(&str, &Hdr))| {
        let series = outcomes.iter().map(|(contender, outcome)| {
            let (_, hdr) = rows(&outcome.recording)[index];
            line(&contender.to_string(), class(contender, &contenders), hdr)
        });
        let title = match *name {
            "all" => "Latency by percentile, all requests".into(),
            name => format!("Latency by percentile, {name} requests"),
        };
        chart(&title, series.collect())
    };
    rows(&outcomes[0].1.recording).iter().enumerate().map(chart_of).collect()
}

/// All requests, and those of each class if there are several.
fn rows(recording: &Recording) -> Vec<(&'static str, &Hdr)> {
    let classes = recording.classes.iter().filter(|_| recording.classes.len() > 1);
    let classes = classes.map(|(class, tally)| (class.name(), &tally.latency));
    [("all", &recording.all.latency)].into_iter().chain(classes).collect()
}

fn line(name: &str, class: String, hdr: &Hdr) -> Series {
    // The greatest of n has no percentile of its own: it is where one in n is.
    let most = hdr.len().max(1) as f64;
    let point = |quantile: f64, value: u64, note: Option<&str>| Point {
        x: (1.0 / (1.0 - quantile)).min(most),
        y: value as f64,
        range: None,
        note: note.map(|note| format!("{name}, {note}: {}", time(value))),
        saturated: false,
    };
    let steps = hdr.iter_quantiles(STEPS).map(|step| point(step.quantile(), step.value_iterated_to(), None));
    let marks = MARKS.iter().filter(|(quantile, _)| 1.0 / (1.0 - quantile) <= most);
    let marks = marks.map(|(quantile, name)| point(*quantile, hdr.value_at_quantile(*quantile), Some(name)));
    let max = (!hdr.is_empty()).then(|| point(1.0, hdr.max(), Some("max")));
    let mut points: Vec<Point> = steps.chain(marks).chain(max).collect();
    points.sort_by(|a, b| a.x.total_cmp(&b.x).then(a.y.total_cmp(&b.y)));
    Series { name: name.into(), class, points }
}

fn chart(title: &str, series: Vec<Series>) -> Chart {
    let points = || series.iter().flat_map(|series| &series.points);
    let y = Domain::log(points().map(|point| point.y));
    let high = points().map(|point| point.x).fold(10.0, f64::max);
    let x = Domain { scale: Scale::Log, low: 1.0, high };
    Chart {
        title: title.into(),
        subtitle: "from the intended arrival to completion; lower is better".into(),
        x_ticks: percentiles(high),
        x,
        x_label: "percentile".into(),
        y_ticks: time_ticks(&y),
        y,
        y_label: "latency, log scale".into(),
        series,
    }
}

/// 0%, 50%, 90%, 99%, ...
fn percentiles(high: f64) -> Vec<Tick> {
    let labels = ["0%", "50%", "90%", "99%", "99.9%", "99.99%", "99.999%", "99.9999%"];
    let at = [1.0, 2.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6];
    // 0% and 50% are close where there are many nines.
    let ticks = at.into_iter().zip(labels).filter(|(at, _)| *at <= high && (*at > 1.0 || high < 3e4));
    ticks.map(|(at, label)| (at, Some(label.to_string()))).collect()
}

fn table(outcomes: &[(Contender, Outcome)], empty: bool) -> Table {
    let head = ["", "requests", "p50", "p90", "p99", "p99.9", "max", "mean", "slowdown p50", "p99", "p99.9"];
    let contenders: Vec<Contender> = outcomes.iter().map(|(contender, _)| *contender).collect();
    let mut table = Table { head: head.map(String::from).to_vec(), rows: Vec::new() };
    for (contender, outcome) in outcomes {
        let recording = &outcome.recording;
        let classes = recording.classes.iter().filter(|_| recording.classes.len() > 1);
        let classes = classes.map(|(class, tally)| (class.name(), tally));
        for (name, tally) in [("all", &recording.all)].into_iter().chain(classes) {
            let (text, look) = match outcomes.len() {
                1 => (name.to_string(), name.to_string()),
                _ => (format!("{contender}, {name}"), class(contender, &contenders)),
            };
            let n = tally.latency.len();
            let Latency { p50, p90, p99, p999, max, mean } = Latency::of(&tally.latency);
            let mut cells = vec![text, count(n)];
            cells.extend([p50, p90, p99, p999, max, mean].map(|ns| time_cell(n, ns)));
            let slowdown = Slowdown::of(&tally.slowdown);
            let ratios = [slowdown.p50, slowdown.p99, slowdown.p999];
            cells.extend(ratios.map(|ratio| if empty || n == 0 { "-".into() } else { ratio_text(ratio) }));
            table.rows.push((look, cells));
        }
    }
    table
}
