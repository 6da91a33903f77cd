//! The command `run`: from the options to the report.

use std::io::Write;
use std::path::PathBuf;

use crate::Failure;
use crate::cli::Run;
use crate::contest::{self, Outcome};
use crate::executor::Contender;
use crate::halt;
use crate::progress::Progress;
use crate::report::{self, Report};
use crate::sink::Sink;

/// Where everything goes but the table. All are open before the run, so that one that cannot be written is known in time.
struct Sinks {
    json: Option<Sink>,
    html: Option<Sink>,
    hgrm: Vec<(Contender, Sink)>,
}

impl Sinks {
    fn open(run: &Run) -> Result<Sinks, Failure> {
        let open = |option, path: &Option<PathBuf>| {
            path.as_deref().map(|path| Sink::open(option, path)).transpose().map_err(Failure::Refused)
        };
        let mut hgrm = Vec::new();
        for contender in run.contenders.iter().filter(|_| run.hgrm.is_some()) {
            let path = run.hgrm.as_deref().expect("there is a path");
            // A plotter draws one curve per file.
            let path = match run.contenders.len() {
                1 => path.to_path_buf(),
                _ => path.with_extension(format!("{}.hgrm", contender.kind.name())),
            };
            hgrm.push((*contender, Sink::open("--hgrm", &path).map_err(Failure::Refused)?));
        }
        Ok(Sinks { json: open("--json", &run.json)?, html: open("--html", &run.html)?, hgrm })
    }
}

/// Runs it.
pub fn execute(run: &Run) -> Result<(), Failure> {
    let sinks = Sinks::open(run)?;
    // JSON on the standard output is for a program to read: the table moves aside.
    let mut out: Box<dyn Write> = match sinks.json {
        Some(Sink::Stdout) => Box::new(anstream::stderr()),
        _ => Box::new(anstream::stdout()),
    };
    halt::listen().map_err(|error| Failure::Failed(format!("cannot listen for signals: {error}")))?;
    let ground = contest::prepare(&run.config, run.offered, run.contenders[0])?;
    if let Some(capacity) = &ground.capacity {
        writeln!(out, "{}\n", report::capacity_line(capacity)).map_err(Failure::unwritable)?;
    }
    let (config, contenders) = (&run.config, &run.contenders);
    let alone = contenders.len() == 1;
    let parts = if alone { 1 } else { contest::PARTS };
    let mut progress = Progress::new(config.progress, contest::length(config, parts, contenders.len()));
    let label = |contender: &Contender| if alone { "run".into() } else { contender.to_string() };
    let outcomes = contest::contest(config, &ground, contenders, parts, &mut progress, &mut 0, label)?;
    drop(progress);
    let played = run.contenders.iter().zip(outcomes);
    let outcomes: Vec<(Contender, Outcome)> = played.filter_map(|(c, outcome)| Some((*c, outcome?))).collect();
    if outcomes.first().is_none_or(|(_, own)| own.interrupted && own.issued.measured == 0) {
        return Err(Failure::Interrupted("before anything was measured"));
    }

    let report = Report::new(run, &ground, &outcomes);
    write!(out, "{}", report::table(&report)).and_then(|()| out.flush()).map_err(Failure::unwritable)?;
    if let Some(sink) = sinks.json {
        sink.write(&report.json()).map_err(Failure::unwritable)?;
    }
    if let Some(sink) = sinks.html {
        sink.write(&report.page(&outcomes)).map_err(Failure::unwritable)?;
    }
    for (contender, sink) in sinks.hgrm {
        if let Some((_, outcome)) = outcomes.iter().find(|(played, _)| *played == contender) {
            sink.write(&report::hgrm(&outcome.recording.all.latency)).map_err(Failure::unwritable)?;
        }
    }
    if outcomes.iter().any(|(_, outcome)| outcome.interrupted) {
        return Err(Failure::Interrupted("the results are those so far"));
    }
    match outcomes.iter().find(|(_, outcome)| outcome.missing > 0) {
        None => Ok(()),
        Some((contender, outcome)) => {
            let line = contest::lost_line(outcome.missing, outcome.issued.total);
            Err(Failure::Failed(format!("{contender}: {line}")))
        }
    }
}
