//! Runs random programs on OS threads, on reserved stacks and on copying stacks, and compares the results.
//!
//! Prints one line of counts. On a mismatch it prints the seed of the program and exits with 1.

use std::io;
use std::process::ExitCode;

use clap::Parser;
use morestack_tests::differential::{Settings, compare, program, silence_panics};

/// Runs random programs on three kinds of threads and compares the results.
#[derive(Parser)]
struct Args {
    /// How many programs
    #[arg(long, default_value_t = 10_000)]
    programs: u64,

    /// The first program's seed; the others' follow it
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// How many programs run at the same time
    #[arg(long, default_value_t = 8)]
    threads: usize,

    /// Lend locals to the heap, to thread-locals and to other threads, too; compare OS threads and `spawn` only
    #[arg(long)]
    lent: bool,

    /// Print the program of this seed and run it alone
    #[arg(long, value_name = "SEED", conflicts_with_all = ["programs", "seed"])]
    one: Option<u64>,
}

fn main() -> io::Result<ExitCode> {
    let args = Args::parse();
    silence_panics();
    let settings = match args.one {
        Some(seed) => {
            print!("{}", program(seed, args.lent));
            Settings { seed, programs: 1, threads: 1, lent: args.lent }
        }
        None => Settings { seed: args.seed, programs: args.programs, threads: args.threads, lent: args.lent },
    };
    match compare(settings)? {
        Ok(counts) => {
            println!("{counts}");
            Ok(ExitCode::SUCCESS)
        }
        Err(mismatch) => {
            println!("{mismatch}");
            println!("replay: differential --one {}{}", mismatch.seed, if args.lent { " --lent" } else { "" });
            Ok(ExitCode::FAILURE)
        }
    }
}
