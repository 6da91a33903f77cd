//! Command lines: derived and built, with parsers of the program's own; help and errors.

use std::num::ParseIntError;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Arg, ArgAction, ArgGroup, Args, Command, CommandFactory, Parser, Subcommand, ValueEnum};

use crates::source::{Source, hash};

/// A tool for moving stacks
#[derive(Debug, Parser)]
#[command(name = "tool", version = "1.2", group = ArgGroup::new("how").args(["fast", "slow"]))]
struct Tool {
    /// Say more; may be given several times
    #[arg(short, long, action = ArgAction::Count, global = true)]
    verbose: u8,
    #[arg(long)]
    fast: bool,
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "3")]
    slow: u64,
    #[arg(long, value_delimiter = ',', num_args = 1..)]
    list: Vec<Kind>,
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Option<Sub>,
}

#[derive(Args, Debug)]
struct Place {
    #[arg(short = 'C', requires = "name")]
    dir: Option<std::path::PathBuf>,
    #[arg(long)]
    name: Option<String>,
}

#[derive(Clone, Debug, ValueEnum)]
enum Kind {
    /// The first
    One,
    #[value(alias = "zwei")]
    Two,
}

#[derive(Debug, Subcommand)]
enum Sub {
    /// Put one thing on another
    Push {
        things: Vec<String>,
        #[arg(last = true)]
        rest: Vec<String>,
    },
    #[command(subcommand)]
    More(Box<More>),
}

#[derive(Debug, Subcommand)]
enum More {
    Deep(Place),
}

fn seconds(text: &str) -> Result<u64, ParseIntError> {
    text.trim_end_matches('s').parse()
}

fn nested(depth: u32) -> Command {
    let name = ["level0", "level1", "level2", "level3", "level4", "level5", "level6", "level7"][depth as usize];
    let command = Command::new(name).about(format!("Level {depth}")).arg(
        Arg::new("n")
            .long("n")
            .value_parser(PossibleValuesParser::new(["1", "2", "3"]).map(|n| n.parse::<u32>().unwrap() * 10)),
    );
    if depth == 0 { command } else { command.subcommand(nested(depth - 1)).subcommand_required(true) }
}

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let mut out = String::new();
    let n = source.below(100);
    for line in [
        format!("-vv --slow {n}s --list one,zwei -C x --name y push a b{n} -- --c"),
        "more deep --name z -v".to_owned(),
        "--fast --slow 3".to_owned(),
        format!("--slow x{n}"),
        "-C dir".to_owned(),
        "--list three".to_owned(),
        "pusch".to_owned(),
        "--fst".to_owned(),
        "more".to_owned(),
        "help more deep".to_owned(),
        "--version".to_owned(),
    ] {
        match Tool::try_parse_from(["tool"].into_iter().chain(line.split(' '))) {
            Ok(tool) => out += &format!("{tool:?}\n"),
            Err(error) => out += &format!("{:?} {error}\n", error.kind()),
        }
    }
    let matches = nested(7)
        .try_get_matches_from("level7 level6 level5 level4 --n 2 level3 level2 level1 level0 --n 3".split(' '))
        .unwrap();
    let mut at = Some(&matches);
    let mut sum = 0;
    while let Some(matches) = at {
        sum += matches.get_one::<u32>("n").copied().unwrap_or(1);
        at = matches.subcommand().map(|(_, matches)| matches);
    }
    let help = Tool::command().render_long_help().to_string();
    format!("{out}{sum} {:x}\n{help}", hash(help.as_bytes()))
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
