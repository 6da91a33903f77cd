//! Benchmarks of Morestack, each beside its peers in the same run.
//!
//! ```text
//! cargo run --release -p morestack-bench -- NAME    one benchmark
//!                                           all     every benchmark
//!                                           list    their names
//!     --reps N       repetitions of each contender
//!     --quick        a tenth of the work, three repetitions: to see that it runs, not to compare
//!     --json FILE    all samples, for other tools
//! ```
//!
//! A number by itself says more of the machine than of the code. So every benchmark has peers that do the same work by
//! other means, and their repetitions are interleaved: what slows the machine down for a while slows down all of them.
//!
//! Bad arguments give one line and the exit code 2.
//!
//! What can be held to a budget is counted in instructions: `cargo bench -p morestack-bench --bench instructions`.

mod benchmarks;
mod child;
mod measure;
mod report;
mod table;

use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use benchmarks::{BENCHMARKS, Benchmark};
use measure::{Effort, measure};

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

    /// Write all samples to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

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
            println!("{name:<15} {about}");
        }
        return ExitCode::SUCCESS;
    }
    let chosen: Vec<&Benchmark> =
        BENCHMARKS.iter().filter(|benchmark| args.name == "all" || args.name == benchmark.name).collect();
    if chosen.is_empty() {
        let names: Vec<_> = BENCHMARKS.iter().map(|benchmark| benchmark.name).collect();
        return refuse(&format!("no benchmark is called {:?}: there are {}, all, list", args.name, names.join(", ")));
    }
    if let (Some(index), Some(operations)) = (args.contender, args.operations) {
        return child::run(chosen[0], index, operations);
    }
    // Before the benchmarks, so that nobody waits for them in vain.
    let json = match args.json.as_ref().map(File::create).transpose() {
        Ok(file) => file,
        Err(error) => return refuse(&format!("--json {}: {error}", args.json.unwrap_or_default().display())),
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
        let outcomes = measure(&mut contenders, effort);
        println!("{}", table::table(benchmark, &outcomes));
        results.push((benchmark, outcomes));
    }
    if let Some(file) = json
        && let Err(error) = report::write(file, effort, &results)
    {
        eprintln!("morestack-bench: --json: {error}");
        return ExitCode::FAILURE;
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
