//! Benchmarks of Morestack, each beside its peers in the same run.
//!
//! ```text
//! cargo run --release -p morestack-bench -- NAME    one benchmark
//!                                           all     every benchmark
//!                                           list    their names
//!     --reps N         repetitions of each contender
//!     --quick          a tenth of the work, three repetitions: to see that it runs, not to compare
//!     --skip LIST      of all, not these
//!     --peers LIST     of the peers with a scheduler of their own only these, or none
//!     --json FILE      all samples, for other tools
//!     --markdown FILE  the tables as Markdown
//!     --baseline FILE  beside each median, that of an earlier run on this machine
//! ```
//!
//! Go is a peer where there is a `go` on the path: see `go.rs`.
//!
//! A number by itself says more of the machine than of the code. So every benchmark has peers that do the same work by
//! other means, and their repetitions are interleaved: what slows the machine down for a while slows down all of them.
//!
//! Bad arguments give one line and the exit code 2.
//!
//! What can be held to a budget is counted in instructions: `cargo bench -p morestack-bench --bench instructions`.

mod benchmarks;
mod built;
mod child;
mod go;
mod machine;
mod markdown;
mod measure;
mod peer;
mod report;
mod table;

use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use benchmarks::{BENCHMARKS, Benchmark};
use measure::{Effort, measure};
use peer::Peer;
use report::{Baseline, Report};

/// Benchmarks of Morestack, each beside its peers in the same run
#[derive(Parser)]
#[command(name = "morestack-bench")]
struct Args {
    /// A benchmark, `all` of them, or `list` for their names
    name: String,

    /// Repetitions of each contender
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    reps: Option<u32>,

    /// A tenth of the work, and three repetitions
    #[arg(long)]
    quick: bool,

    /// With `all`: but for these
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    skip: Vec<String>,

    /// Of the peers with a scheduler of their own only these, or `none` of them
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    peers: Option<Vec<Peer>>,

    /// Write all samples to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Write the tables to this file, as Markdown
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,

    /// Compare with the run that `--json` wrote to this file, on this machine
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,

    /// Run this contender once and print what it took: what a process of its own is started with
    #[arg(long, hide = true, value_name = "INDEX", requires = "operations")]
    contender: Option<usize>,

    /// Operations of that run
    #[arg(long, hide = true, value_name = "N", requires = "contender")]
    operations: Option<u64>,
}

/// The exit code for arguments that make no sense.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            print!("{error}");
            return ExitCode::SUCCESS;
        }
        Err(error) => return refuse(&one_line(&error.to_string())),
    };
    if args.name == "list" {
        for Benchmark { name, about, .. } in BENCHMARKS {
            println!("{name:<19} {about}");
        }
        return ExitCode::SUCCESS;
    }
    let names: Vec<_> = BENCHMARKS.iter().map(|benchmark| benchmark.name).collect();
    let is_known = |name: &str| name == "all" || names.contains(&name);
    if let Some(unknown) = args.skip.iter().chain([&args.name]).find(|name| !is_known(name)) {
        return refuse(&format!("no benchmark is called {unknown:?}: there are {}, all, list", names.join(", ")));
    }
    let is_chosen = |name: &str| args.name == name || args.name == "all" && !args.skip.iter().any(|skip| skip == name);
    let chosen: Vec<&Benchmark> = BENCHMARKS.iter().filter(|benchmark| is_chosen(benchmark.name)).collect();
    if let (Some(index), Some(operations)) = (args.contender, args.operations) {
        return child::run(chosen[0], index, operations);
    }
    // Before the benchmarks, so that nobody waits for them in vain.
    let created = |name, path: &Option<PathBuf>| {
        let create = |path: &PathBuf| File::create(path).map_err(|error| format!("{name} {}: {error}", path.display()));
        path.as_ref().map(create).transpose()
    };
    let read = |path: &PathBuf| Baseline::read(path).map_err(|error| format!("--baseline {}: {error}", path.display()));
    let baseline = match args.baseline.as_ref().map(read).transpose() {
        Ok(baseline) => baseline,
        Err(error) => return refuse(&error),
    };
    let (json, markdown) = match (created("--json", &args.json), created("--markdown", &args.markdown)) {
        (Ok(json), Ok(markdown)) => (json, markdown),
        (Err(error), _) | (_, Err(error)) => return refuse(&error),
    };

    let effort = Effort::new(args.reps, args.quick);
    let mut results = Vec::new();
    for benchmark in chosen {
        let mut contenders = (benchmark.contenders)();
        if contenders.is_empty() {
            println!("{}: {}\nnot measured: this program was built by cargo itself\n", benchmark.name, benchmark.about);
            continue;
        }
        child::isolate(benchmark, &mut contenders);
        if let Some(peers) = &args.peers {
            contenders.retain(|contender| peer::is_among(contender, peers));
        }
        let outcomes = measure(&mut contenders, effort);
        println!("{}", table::table(benchmark, &outcomes, baseline.as_ref()));
        results.push((benchmark, outcomes));
    }
    let report = Report::new(effort, &results);
    let written = [
        ("--json", json.map_or(Ok(()), |file| report.write(file))),
        ("--markdown", markdown.map_or(Ok(()), |file| markdown::write(file, effort, &results))),
    ];
    for (name, result) in written {
        if let Err(error) = result {
            eprintln!("morestack-bench: {name}: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Says what is wrong with the arguments, in one line.
fn refuse(message: &str) -> ExitCode {
    eprintln!("morestack-bench: {message}");
    ExitCode::from(USAGE)
}

/// What clap says before it explains the usage, on one line.
fn one_line(message: &str) -> String {
    let message = message.strip_prefix("error: ").unwrap_or(message);
    let lines = message.lines().take_while(|line| !line.is_empty());
    lines.map(str::trim).collect::<Vec<_>>().join(" ")
}
