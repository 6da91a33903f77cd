//! The command `sweep`: latency over load.
//!
//! ```text
//!   capacity ─► 10%: 5 parts, in turn on each contender ─► 20%: ... ─► 95%
//!                                                      └► CSV, page, a row of the table
//! ```
//!
//! 100% is what Morestack completes with time slices off, in a closed loop: the same number of requests per second for all
//! contenders. One that does not keep up with a load is not asked for a higher one.
//!
//! # Going on
//!
//! The CSV is the state. After each load it is replaced as a whole by a longer one. A sweep that finds a file of the same
//! settings takes the capacity and all loads and contenders from it that it holds, and measures the others. So an interrupted
//! sweep goes on where it stopped, and a finished one takes further loads or executors.

mod page;
mod row;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anstyle::Style;

use crate::Failure;
use crate::cli::{Offered, Sweep};
use crate::contest::{self, Ground, Outcome, PARTS};
use crate::executor::{Contender, Kind};
use crate::halt;
use crate::progress::Progress;
use crate::report::{self, Cell};
use crate::units::{Share, time};

use self::row::Row;

/// What the loads are shares of the capacity of.
const REFERENCE: Contender = Contender { kind: Kind::Morestack, slice: None };

/// Runs it.
pub fn execute(sweep: &Sweep) -> Result<(), Failure> {
    let mut out = anstream::stdout();
    let config = &sweep.config;
    let mut rows = row::read(&sweep.csv).map_err(Failure::Refused)?;
    row::check(&rows, config, &sweep.csv).map_err(Failure::Refused)?;
    save(sweep, &rows)?;
    halt::listen().map_err(|error| Failure::Failed(format!("cannot listen for signals: {error}")))?;

    write!(out, "{}", report::rows(&report::setting(config, None, None))).map_err(Failure::unwritable)?;
    let known = rows.first().map(|row| row.capacity_rps);
    let offered = known.map_or(Offered::Load(1.0), Offered::Rate);
    let mut ground = contest::prepare(config, offered, REFERENCE)?;
    let line = match (&ground.capacity, known) {
        (Some(capacity), _) => report::capacity_line(capacity),
        (None, known) => {
            format!("capacity: {} (from {})", report::rps(known.unwrap_or_default()), sweep.csv.display())
        }
    };
    writeln!(out, "{line}\n").map_err(Failure::unwritable)?;

    let capacity = ground.rate.expect("a sweep has a rate");
    let table = Table::new(sweep);
    writeln!(out, "{}", table.head()).map_err(Failure::unwritable)?;
    let measured = measure(sweep, &mut ground, capacity, &mut rows, |rows, load, progress| {
        save(sweep, rows)?;
        let line = table.row(rows, load);
        progress.suspend(|| writeln!(out, "{line}").and_then(|()| out.flush())).map_err(Failure::unwritable)
    });
    if matches!(measured, Ok(()) | Err(Failure::Interrupted(_))) {
        let (csv, html) = (sweep.csv.display(), sweep.html.display());
        writeln!(out, "\n{html} has the picture, {csv} the figures.").map_err(Failure::unwritable)?;
    }
    measured
}

/// Measures what the rows lack. `done` is told after each load.
fn measure(
    sweep: &Sweep,
    ground: &mut Ground,
    capacity: f64,
    rows: &mut Vec<Row>,
    mut done: impl FnMut(&[Row], Share, &Progress) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let config = &sweep.config;
    let steps: usize = sweep.loads.iter().map(|load| lacking(sweep, rows, *load).len()).sum();
    let mut progress = Progress::new(config.progress, contest::length(config, PARTS, steps));
    let mut passed = 0;
    for load in &sweep.loads {
        let contenders = lacking(sweep, rows, *load);
        if contenders.is_empty() {
            done(rows, *load, &progress)?;
            continue;
        }
        ground.rate = Some(capacity * load.probability());
        let label = |contender: &Contender| format!("{load} {contender}");
        let outcomes = contest::contest(config, ground, &contenders, PARTS, &mut progress, &mut passed, label)?;
        let outcomes: Vec<Outcome> = outcomes.into_iter().flatten().collect();
        if outcomes.iter().any(|outcome| outcome.interrupted) {
            return Err(Failure::Interrupted("the loads above are kept, the same command goes on after them"));
        }
        for (contender, outcome) in contenders.iter().zip(&outcomes) {
            if outcome.missing > 0 {
                let line = contest::lost_line(outcome.missing, outcome.issued.total);
                return Err(Failure::Failed(format!("{load} {contender}: {line}")));
            }
            rows.extend(row::of(config, capacity, *load, contender, outcome));
        }
        // Those that have fallen out will not be measured at the loads to come.
        let rest = sweep.loads.iter().filter(|other| other.probability() > load.probability());
        let steps: usize = rest.map(|load| lacking(sweep, rows, *load).len()).sum();
        progress.plan(passed + contest::length(config, PARTS, steps));
        done(rows, *load, &progress)?;
    }
    Ok(())
}

/// Who is to be measured at a load: neither has been, nor fell out at a lower one.
fn lacking(sweep: &Sweep, rows: &[Row], load: Share) -> Vec<Contender> {
    let settled = |contender: &Contender| {
        let mut own = rows.iter().filter(|row| row.is_of(contender));
        own.any(|row| row.is_at(load) || (row.saturated && row.load_percent < load.percent()))
    };
    sweep.contenders.iter().copied().filter(|contender| !settled(contender)).collect()
}

fn save(sweep: &Sweep, rows: &[Row]) -> Result<(), Failure> {
    let refused = |option: &str, path: &Path, error: io::Error| {
        Failure::Refused(format!("cannot write {option} {}: {error}", path.display()))
    };
    replace(&sweep.csv, &row::csv(rows)).map_err(|error| refused("--csv", &sweep.csv, error))?;
    replace(&sweep.html, &page::page(sweep, rows)).map_err(|error| refused("--html", &sweep.html, error))
}

/// Replaces a file as a whole: whoever reads it meanwhile, or after a crash, finds the old one or the new one.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    let new: PathBuf = path.with_file_name(name);
    fs::write(&new, text)?;
    fs::rename(&new, path).inspect_err(|_| drop(fs::remove_file(&new)))
}

/// The table: a row per load, a column per contender.
struct Table<'a> {
    sweep: &'a Sweep,
    class: &'static str,
}

impl Table<'_> {
    fn new(sweep: &Sweep) -> Table<'_> {
        Table { sweep, class: row::main_class(&sweep.config) }
    }

    fn width(contender: &Contender) -> usize {
        contender.to_string().len().max(9) + 2
    }

    fn head(&self) -> String {
        const HEAD: Style = Style::new().bold();
        let columns = self.sweep.contenders.iter().map(|c| format!("{:>1$}", c.to_string(), Self::width(c)));
        format!("{HEAD}p99 latency of {} requests\nload  {}{HEAD:#}", self.class, columns.collect::<String>())
    }

    fn row(&self, rows: &[Row], load: Share) -> String {
        let cell = |contender: &Contender| {
            let row = rows.iter().find(|row| row.is_of(contender) && row.is_at(load) && row.class == self.class);
            let cell = match row {
                Some(row) if row.saturated => Cell { text: "overload".into(), bad: true },
                Some(row) => Cell { text: time(row.p99_ns), bad: false },
                None => Cell { text: "-".into(), bad: false },
            };
            cell.padded(Self::width(contender))
        };
        format!("{:<6}{}", load.to_string(), self.sweep.contenders.iter().map(cell).collect::<String>())
    }
}
