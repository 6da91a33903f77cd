//! What `#[prologue]` costs the functions it is on.
//!
//! Programs without the attribute, on an OS thread, and the same source with it: there, and on a green thread. Slices are off:
//! no check fails. Four copies of each program run in turn, since where code lies in memory can matter more than a check
//! does: a loop of ten instructions takes up to a fifth longer in one place than in another.
//!
//! | program | has checks |
//! |---|---|
//! | fib | at each call, and a call is all that there is |
//! | fib, a loop | the same with one call of the two, which LLVM makes a loop of: sums may be made in any order. A check in front of a loop's condition keeps LLVM from moving the condition to the end of the loop: the most that a check costs |
//! | quicksort | at each call |
//! | n-body | at each step, of some 300 instructions, and in the loop around the steps: `loops` |
//! | matmul | in the two outer loops of three: `loops` |

use std::hint::black_box;
use std::time::{Duration, Instant};

use super::programs::{Body, SIZE, bodies, numbers, programs};
use super::{Benchmark, fib::number, on, runtime};
use crate::measure::{Contender, Unit};

pub(super) const BENCHMARK: Benchmark = Benchmark {
    name: "prologue",
    about: "programs with #[prologue], and without",
    operation: "run",
    unit: Unit::Nanoseconds,
    contenders,
};

/// Runs of each program: some ten milliseconds.
const RUNS: u64 = 20;

/// The 20th number takes 21,891 calls.
const FIB: u64 = 20;

const STEPS: usize = 1500;

programs!(plain, [], []);
programs!(checked, [morestack::prologue], [morestack::prologue(loops)]);

type Fib = fn(u64) -> u64;
type Quicksort = fn(&mut [u64]);
type Simulate = fn(&mut [Body; 5], usize);
type Matmul = fn(&[f64], &[f64], &mut [f64]);

/// All copies of all programs, with the attribute or without.
#[derive(Clone, Copy)]
struct Programs {
    fib: [Fib; 4],
    calls: [Fib; 4],
    quicksort: [Quicksort; 4],
    simulate: [Simulate; 4],
    matmul: [Matmul; 4],
}

macro_rules! all {
    ($module:ident) => {
        Programs {
            fib: [$module::fib::<0>, $module::fib::<1>, $module::fib::<2>, $module::fib::<3>],
            calls: [$module::calls::<0>, $module::calls::<1>, $module::calls::<2>, $module::calls::<3>],
            quicksort: [
                $module::quicksort::<0>,
                $module::quicksort::<1>,
                $module::quicksort::<2>,
                $module::quicksort::<3>,
            ],
            simulate: [$module::simulate::<1>, $module::simulate::<2>, $module::simulate::<3>, $module::simulate::<4>],
            matmul: [$module::matmul::<0>, $module::matmul::<1>, $module::matmul::<2>, $module::matmul::<3>],
        }
    };
}

const PLAIN: Programs = all!(plain);
const CHECKED: Programs = all!(checked);

impl Programs {
    fn fib(self) {
        check(self.fib);
    }

    fn calls(self) {
        check(self.calls);
    }

    fn quicksort(self) {
        for quicksort in self.quicksort {
            let mut numbers = numbers();
            quicksort(black_box(&mut numbers));
            assert!(numbers.is_sorted());
        }
    }

    fn simulate(self) {
        for simulate in self.simulate {
            let mut bodies = bodies();
            let momentum = |bodies: &[Body]| bodies.iter().map(|body| body.mass * body.speed[0]).sum::<f64>();
            let before = momentum(&bodies);
            simulate(black_box(&mut bodies), STEPS);
            assert!((momentum(&bodies) - before).abs() < 1e-9);
        }
    }

    fn matmul(self) {
        for (copy, matmul) in self.matmul.into_iter().enumerate() {
            let (a, b, mut c) = (vec![1.0; SIZE * SIZE], vec![0.5; SIZE * SIZE], vec![0.0; SIZE * SIZE]);
            matmul(black_box(&a), black_box(&b), &mut c);
            assert!(c.iter().all(|&c| c == (1 + copy) as f64 * 0.5 * SIZE as f64));
        }
    }
}

/// A copy adds its number at each leaf of the tree of calls.
fn check(copies: [Fib; 4]) {
    for (copy, fib) in copies.into_iter().enumerate() {
        let leaves = number(FIB + 1);
        assert_eq!(fib(black_box(FIB)), number(FIB) + copy as u64 * leaves);
    }
}

fn contenders() -> Vec<Contender> {
    type Run = fn(Programs);
    let programs: [(&str, Run); 5] = [
        ("fib", Programs::calls),
        ("fib, a loop", Programs::fib),
        ("quicksort", Programs::quicksort),
        ("n-body", Programs::simulate),
        ("matmul", Programs::matmul),
    ];
    let of = |(name, program): (&'static str, Run)| {
        [
            Contender::own("#[prologue], OS thread", RUNS, move |runs| timed(runs, || program(CHECKED))),
            Contender::own(
                "#[prologue], green thread",
                RUNS,
                on(|| runtime(1), move |runtime, runs| runtime.run(|| timed(runs, || program(CHECKED)))),
            ),
            Contender::peer("plain, OS thread", RUNS, move |runs| timed(runs, || program(PLAIN))),
        ]
        .map(|contender| contender.in_group(name))
    };
    programs.into_iter().flat_map(of).collect()
}

fn timed(runs: u64, run: impl Fn()) -> Duration {
    let begin = Instant::now();
    for _ in 0..runs {
        run();
    }
    begin.elapsed()
}
