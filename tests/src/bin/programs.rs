//! Runs one of the test programs on one or several threads of a kind, and prints what each of them computed. The last
//! line of standard error says what the scheduler did meanwhile.

use clap::Parser;
use clap::builder::PossibleValuesParser;
use morestack_tests::on::On;
use morestack_tests::programs::{PROGRAMS, Size};

/// Runs a test program and prints its result.
#[derive(Parser)]
struct Args {
    /// Which program
    #[arg(value_parser = PossibleValuesParser::new(PROGRAMS.iter().map(|program| program.name)))]
    name: String,

    /// Where it runs
    #[arg(long)]
    on: On,

    /// How many run at the same time
    #[arg(long, default_value_t = 1)]
    threads: usize,

    /// Do less, for runs under MORESTACK_STRESS
    #[arg(long)]
    small: bool,
}

fn main() {
    let args = Args::parse();
    let size = if args.small { Size::Small } else { Size::Full };
    let program = PROGRAMS.iter().find(|program| program.name == args.name).expect("clap knows the names");
    let run = program.run;
    // SAFETY: the programs keep the contract of `go`. Their module says so, and every one is written to it.
    let ran = unsafe { args.on.run(args.threads, move |_| run(size)) };
    for (index, result) in ran.results.iter().enumerate() {
        println!("-- {} {index}\n{}", program.name, result.trim_end());
    }
    if let Some(metrics) = ran.metrics {
        eprintln!("moves {} preemptions {} freezes {}", metrics.grows, metrics.preemptions, metrics.freezes);
    }
}
