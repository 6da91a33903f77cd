//! What it costs a green thread of `spawn` to grow to 1 MiB for the first time, in a program with side stacks, where its frames are
//! walked and what is lent lies elsewhere. Beside it the same program in contract mode (`cargo morestack --no-side-stack`), where `go` moves
//! whatever is there and `spawn` reserves.
//!
//! What one green thread has learned is known to the next of its spawn site. So each growth is the first of a site, in a process that
//! has done nothing before: on `fresh` memory, where most of the time goes into page faults, or on `warm` memory, where one of another
//! site has been as deep. All use as much of the stack that moves, whose frames are smaller where there is a side stack, so there are
//! more of them. A sample is the median of some processes.

use super::{Benchmark, on};
use crate::built::{self, Build};
use crate::measure::{Contender, Unit};

pub(super) const BENCHMARK: Benchmark = Benchmark {
    name: "growth",
    about: "a green thread that recurses to 1 MiB, the first of its spawn site, in programs that cargo morestack has built",
    operation: "thread",
    unit: Unit::Nanoseconds,
    contenders,
};

/// Processes of a sample.
const PROCESSES: u64 = 21;

fn contenders() -> Vec<Contender> {
    let of = |memory: &'static str| {
        let contender = |name, build, start: &'static str| {
            let run = on(
                move || built::program(build, "growth"),
                move |program, processes: u64| {
                    let run = |_| built::output(program, &[start, memory]).trim().parse().expect("a number");
                    let mut took: Vec<u64> = (0..processes).map(run).collect();
                    took.sort_unstable();
                    // The harness divides by as much.
                    processes * took[took.len() / 2]
                },
            );
            Contender::amount(name, PROCESSES, run).in_group(memory)
        };
        [
            contender("spawn, side stacks", Build::SideStacks, "spawn"),
            contender("go, contract mode", Build::Prologues, "go").into_peer(),
            contender("spawn, contract mode: reserved", Build::Prologues, "reserved"),
        ]
    };
    ["fresh", "warm"].into_iter().flat_map(of).collect()
}
