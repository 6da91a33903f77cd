//! The page of a sweep: latency over load, as papers on scheduling draw it.

use super::row::{Row, main_class};
use crate::cli::Sweep;
use crate::contest::{self, PARTS};
use crate::executor::Contender;
use crate::page::chart::{Chart, Point, Series, Tick};
use crate::page::scale::Domain;
use crate::page::{Page, Table, class, legend_of, ratio_ticks, time_cell, time_ticks};
use crate::report::{self, rps};
use crate::units::{ratio, time};

/// What a chart shows of a row.
struct Metric {
    class: &'static str,
    name: &'static str,
    of: fn(&Row) -> Option<f64>,
    /// Whether it is a time; a ratio otherwise.
    time: bool,
    /// Whether the parts' range is of it.
    range: bool,
}

const P50: Metric = latency("all", "p50 latency", |row| Some(row.p50_ns as f64));
const P99: Metric = Metric { range: true, ..latency("all", "p99 latency", |row| Some(row.p99_ns as f64)) };
const P999: Metric = latency("all", "p99.9 latency", |row| Some(row.p999_ns as f64));
const SLOWDOWN: Metric = Metric { time: false, ..latency("all", "p99.9 slowdown", |row| row.slowdown_p999) };
const SHORT: Metric = Metric { class: "short", ..P99 };
const LONG: Metric = Metric { class: "long", ..P99 };

const fn latency(class: &'static str, name: &'static str, of: fn(&Row) -> Option<f64>) -> Metric {
    Metric { class, name, of, time: true, range: false }
}

/// The page of the rows that there are.
pub fn page(sweep: &Sweep, rows: &[Row]) -> String {
    let config = &sweep.config;
    let mut setting = report::setting(config, None, None);
    let capacity = rows.first().map(|row| row.capacity_rps);
    setting.extend(capacity.map(|capacity| ("capacity", rps(capacity))));
    let mut page = Page::new(&format!("Latency over load: {}", config.service()), &setting);
    let metrics = match main_class(config) {
        "short" => vec![SHORT, SLOWDOWN, LONG, P50],
        _ if contest::is_empty(config) => vec![P50, P99, P999],
        _ => vec![P99, SLOWDOWN, P50, P999],
    };
    let charts: Vec<Chart> = metrics.iter().map(|metric| chart(sweep, rows, metric, capacity)).collect();
    page.legend(&legend_of(&charts[0].series));
    page.charts(&charts);
    page.note(&format!(
        "Poisson arrivals, the same for all: each load was cut into {PARTS} parts that every executor played in turn. Latency \
         counts from the intended arrival to completion; slowdown is latency over the time that the work takes alone. A cross \
         marks a load that an executor could not keep up with; it was not asked for higher ones. 100% is what Morestack \
         completes with time slices off when it never runs out of requests. Point at a mark for its figures."
    ));
    page.table(&format!("p99 latency of {} requests", main_class(config)), &table(sweep, rows));
    page.finish()
}

fn chart(sweep: &Sweep, rows: &[Row], metric: &Metric, capacity: Option<f64>) -> Chart {
    let series: Vec<Series> = sweep.contenders.iter().map(|contender| line(sweep, rows, metric, contender)).collect();
    let kept_up = series.iter().flat_map(|series| &series.points).filter(|point| !point.saturated);
    let values =
        kept_up.flat_map(|point| [Some(point.y), point.range.map(|(low, _)| low), point.range.map(|(_, high)| high)]);
    let y = Domain::log(values.flatten());
    let capacity = capacity.map_or(String::new(), |capacity| format!(" (100% = {})", rps(capacity)));
    let whose = if metric.class == "all" { "all".to_string() } else { format!("the {}", metric.class) };
    Chart {
        title: format!("{} of {whose} requests", metric.name),
        subtitle: if metric.range {
            format!("lower is better; bars: the lowest and the highest of {PARTS} parts")
        } else {
            "lower is better".into()
        },
        x: Domain::linear(0.0, 100.0),
        x_ticks: (0..=10).map(|tenth| -> Tick { (f64::from(tenth * 10), Some(format!("{}%", tenth * 10))) }).collect(),
        x_label: format!("offered load, % of capacity{capacity}"),
        y_ticks: if metric.time { time_ticks(&y) } else { ratio_ticks(&y) },
        y,
        y_label: format!("{}, log scale", if metric.time { "latency" } else { "slowdown" }),
        series,
    }
}

fn line(sweep: &Sweep, rows: &[Row], metric: &Metric, contender: &Contender) -> Series {
    let mut own: Vec<&Row> = rows
        .iter()
        .filter(|row| row.is_of(contender) && row.class == metric.class && row.requests > 0)
        .filter(|row| sweep.loads.iter().any(|load| row.is_at(*load)))
        .collect();
    own.sort_by(|a, b| a.load_percent.total_cmp(&b.load_percent));
    let point = |row: &&Row| {
        let y = (metric.of)(row)?;
        let value = if metric.time { time(y as u64) } else { format!("{}x", ratio(y)) };
        let load = row.load_percent;
        let note = match row.saturated {
            true => format!("{contender} at {load}%: overload, it completes only {}", rps(row.completed_rps)),
            false => format!("{contender} at {load}%: {value}"),
        };
        Some(Point {
            x: load,
            y,
            range: metric.range.then_some((row.p99_low_ns as f64, row.p99_high_ns as f64)),
            note: Some(note),
            saturated: row.saturated,
        })
    };
    Series {
        name: contender.to_string(),
        class: class(contender, &sweep.contenders),
        points: own.iter().filter_map(point).collect(),
    }
}

fn table(sweep: &Sweep, rows: &[Row]) -> Table {
    let main = main_class(&sweep.config);
    let loads: Vec<String> = sweep.loads.iter().map(|load| load.to_string()).collect();
    let row = |contender: &Contender| {
        let cell = |load| {
            let row = rows.iter().find(|row| row.is_of(contender) && row.is_at(load) && row.class == main);
            match row {
                Some(row) if row.saturated => "overload".into(),
                Some(row) => time_cell(row.requests, row.p99_ns),
                None => "-".into(),
            }
        };
        let cells = [contender.to_string()].into_iter().chain(sweep.loads.iter().map(|load| cell(*load)));
        (class(contender, &sweep.contenders), cells.collect())
    };
    Table { head: [String::new()].into_iter().chain(loads).collect(), rows: sweep.contenders.iter().map(row).collect() }
}
