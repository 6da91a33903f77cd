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

/// Numbers to sort.
const NUMBERS: usize = 5000;

const STEPS: usize = 1500;

/// Rows and columns.
const SIZE: usize = 96;

/// The bodies of the programs. `$call` is the attribute of functions that are called, `$turn` of those that loop.
macro_rules! programs {
    ($module:ident, [$($call:meta)?], [$($turn:meta)?]) => {
        mod $module {
            use super::{Body, SIZE};

            $(#[$call])?
            #[inline(never)]
            pub(super) fn fib<const COPY: u64>(n: u64) -> u64 {
                if n < 2 { n + COPY } else { fib::<COPY>(n - 1) + fib::<COPY>(n - 2) }
            }

            $(#[$call])?
            #[inline(never)]
            pub(super) fn calls<const COPY: u64>(n: u64) -> u64 {
                if n < 2 {
                    return n + COPY;
                }
                calls::<COPY>(n - 1).checked_add(calls::<COPY>(n - 2)).expect("a small number")
            }

            $(#[$call])?
            #[inline(never)]
            pub(super) fn quicksort<const COPY: u64>(numbers: &mut [u64]) {
                let Some(last) = numbers.len().checked_sub(1) else { return };
                numbers.swap(last / 2, last);
                let pivot = numbers[last] + COPY;
                let mut middle = 0;
                for at in 0..last {
                    if numbers[at] + COPY < pivot {
                        numbers.swap(at, middle);
                        middle += 1;
                    }
                }
                numbers.swap(middle, last);
                let (low, high) = numbers.split_at_mut(middle);
                quicksort::<COPY>(low);
                quicksort::<COPY>(&mut high[1..]);
            }

            $(#[$turn])?
            #[inline(never)]
            pub(super) fn simulate<const COPY: u64>(bodies: &mut [Body; 5], steps: usize) {
                for _ in 0..steps {
                    step::<COPY>(bodies, 0.01);
                }
            }

            $(#[$call])?
            #[inline(never)]
            fn step<const COPY: u64>(bodies: &mut [Body; 5], time: f64) {
                for i in 0..bodies.len() {
                    for j in i + 1..bodies.len() {
                        let apart: [f64; 3] = std::array::from_fn(|axis| bodies[i].place[axis] - bodies[j].place[axis]);
                        let square = apart.iter().map(|x| x * x).sum::<f64>() + COPY as f64;
                        let pull = time / (square * square.sqrt());
                        let (mass, other) = (bodies[i].mass, bodies[j].mass);
                        for (axis, x) in apart.into_iter().enumerate() {
                            bodies[i].speed[axis] -= x * other * pull;
                            bodies[j].speed[axis] += x * mass * pull;
                        }
                    }
                }
                for body in bodies {
                    for axis in 0..3 {
                        body.place[axis] += time * body.speed[axis];
                    }
                }
            }

            $(#[$turn])?
            #[inline(never)]
            pub(super) fn matmul<const COPY: u64>(a: &[f64], b: &[f64], c: &mut [f64]) {
                for (a, c) in a.chunks_exact(SIZE).zip(c.chunks_exact_mut(SIZE)) {
                    for (a, b) in a.iter().zip(b.chunks_exact(SIZE)) {
                        let a = *a + COPY as f64;
                        for (c, b) in c.iter_mut().zip(b) {
                            *c += a * b;
                        }
                    }
                }
            }
        }
    };
}

programs!(plain, [], []);
programs!(checked, [morestack::prologue], [morestack::prologue(loops)]);

#[derive(Clone, Copy)]
struct Body {
    place: [f64; 3],
    speed: [f64; 3],
    mass: f64,
}

fn bodies() -> [Body; 5] {
    std::array::from_fn(|i| {
        let i = i as f64;
        Body { place: [i, 2.0 - i, i * 0.5], speed: [0.1 * i, 0.2, -0.1], mass: 1.0 / (1.0 + i) }
    })
}

fn numbers() -> Vec<u64> {
    let mut x = 88_172_645_463_325_252_u64;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x >> 8
    };
    (0..NUMBERS).map(|_| next()).collect()
}

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
