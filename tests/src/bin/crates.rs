//! Other people's code on moving stacks: `all`, `short`, `suites`, `cost`, or names of crates.

use std::process::ExitCode;

use clap::Parser;
use morestack_tests::crates::build::{self, Builder};
use morestack_tests::crates::{FOURTEEN, Row, SHORT, cost, programs, report, suites};

/// Build programs that lean on popular crates, by cargo and by cargo morestack, run them on OS threads and on green threads
/// whose stacks move, and compare what they compute; run the crates' own tests on moving stacks.
#[derive(Parser)]
struct Args {
    /// all: every program; short: some, as in CI; suites: the crates' own tests; cost: what it costs; list: the names; or names
    #[arg(required = true)]
    what: Vec<String>,
    /// With `suites`: of these crates only
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// With `cost`: how often each program is timed
    #[arg(long, default_value_t = 11)]
    samples: usize,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether all is as it should be.
fn run(args: &Args) -> Result<bool, String> {
    let all = build::names()?;
    let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    match args.what.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["list"] => {
            all.iter().for_each(|name| println!("{name}"));
            suites::names().for_each(|name| println!("{name} (suite)"));
            Ok(true)
        }
        ["suites"] => {
            if let Some(unknown) = args.only.iter().find(|name| !suites::names().any(|suite| suite == **name)) {
                return Err(format!("no suite {unknown:?}: `list` names them"));
            }
            let tool = build::tool()?;
            suites::prepare()?;
            let chosen =
                suites::names().filter(|name| args.only.is_empty() || args.only.iter().any(|only| only == name));
            Ok(checked(chosen.map(|name| suites::check(&tool, name))))
        }
        ["cost"] => {
            let (tool, names) = (build::tool()?, own(&FOURTEEN));
            for builder in [Builder::Plain, Builder::Checks, Builder::Morestack] {
                builder.build(&tool, &names)?;
            }
            cost::measure(&names, args.samples).map(|()| true)
        }
        ["all"] => compare(&all),
        ["short"] => compare(&own(&SHORT)),
        ref names => match names.iter().find(|name| !all.iter().any(|known| known == *name)) {
            Some(unknown) => Err(format!("no program {unknown:?}: `list` names them")),
            None => compare(&own(names)),
        },
    }
}

fn compare(names: &[String]) -> Result<bool, String> {
    let tool = build::tool()?;
    for builder in [Builder::Expected, Builder::Morestack] {
        builder.build(&tool, names)?;
    }
    Ok(checked(names.iter().map(|name| programs::check(name))))
}

/// Says how far it is, then prints the table.
fn checked(rows: impl Iterator<Item = Row>) -> bool {
    let rows: Vec<Row> =
        rows.inspect(|row| eprintln!("{} {}", row.name, if row.result.is_ok() { "equal" } else { "FAILED" })).collect();
    report(&rows)
}
