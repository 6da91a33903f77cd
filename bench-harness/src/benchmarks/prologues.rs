//! What the checks of `cargo morestack` cost: the same programs, built by cargo and by it, run in turns.
//!
//! Nothing is preempted: the programs know of no scheduler. All builds have one unit of code generation per crate. What is compared
//! with has the same linker, too: that alone, by where it puts code, makes some percent. What cargo does by itself is there beside it.

use std::time::Duration;

use object::{Object, ObjectSection, SectionKind};

use super::{Benchmark, on};
use crate::built::{self, Build};
use crate::measure::{Contender, Unit};

pub(super) const BENCHMARK: Benchmark = Benchmark {
    name: "prologues",
    about: "programs that cargo morestack has built",
    operation: "run",
    unit: Unit::Nanoseconds,
    contenders,
};

pub(super) const SIZE: Benchmark = Benchmark {
    name: "prologues_size",
    about: "code of a program that cargo morestack has built",
    operation: "program",
    unit: Unit::Bytes,
    contenders: sizes,
};

const BUILDS: [(&str, Build); 4] = [
    ("plain", Build::Plain),
    ("plain, rustc's linker", Build::Default),
    ("prologues", Build::Prologues),
    ("prologues, side stacks", Build::SideStacks),
];

/// What the program can do, and how often for some fifty milliseconds.
const WORK: [(&str, u64); 6] =
    [("fib", 200), ("quicksort", 50), ("n-body", 400), ("matmul", 100), ("serde_json", 700), ("regex", 200)];

fn contenders() -> Vec<Contender> {
    let of = |(work, runs): (&'static str, u64)| {
        BUILDS.map(|(name, build)| {
            let run = on(
                move || built::program(build, "work"),
                move |program, runs: u64| {
                    let said = built::output(program, &[work, &runs.to_string()]);
                    Duration::from_nanos(said.trim().parse().expect("a number"))
                },
            );
            let contender = Contender::own(name, runs, run).in_group(work);
            if matches!(build, Build::Plain) { contender.into_peer() } else { contender }
        })
    };
    WORK.into_iter().flat_map(of).collect()
}

fn sizes() -> Vec<Contender> {
    let of = |(name, build): (&'static str, Build)| {
        let run = move |programs| programs * code(build);
        let contender = Contender::amount(name, 1, run);
        if matches!(build, Build::Plain) { contender.into_peer() } else { contender }
    };
    BUILDS.map(of).into()
}

/// Bytes of code, precompiled std's among them.
fn code(build: Build) -> u64 {
    let bytes = std::fs::read(built::program(build, "work")).expect("the program that was built");
    let file = object::File::parse(&*bytes).expect("an executable");
    file.sections().filter(|section| section.kind() == SectionKind::Text).map(|section| section.size()).sum()
}
