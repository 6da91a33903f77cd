//! Small programs, with a check in their functions or without.
//!
//! The benchmark `prologue` has them with the attribute and without; `bench-harness/prologues`, which is built in several ways, without.
//!
//! Of each function there are copies, one for each `COPY`, whose number is in what they compute: so no two of them are made one.

/// Numbers to sort.
const NUMBERS: usize = 5000;

/// Rows and columns.
pub(crate) const SIZE: usize = 96;

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

            #[allow(dead_code, reason = "not all benchmarks run it")]
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
pub(crate) use programs;

#[derive(Clone, Copy)]
pub(crate) struct Body {
    pub(crate) place: [f64; 3],
    pub(crate) speed: [f64; 3],
    pub(crate) mass: f64,
}

pub(crate) fn bodies() -> [Body; 5] {
    std::array::from_fn(|i| {
        let i = i as f64;
        Body { place: [i, 2.0 - i, i * 0.5], speed: [0.1 * i, 0.2, -0.1], mass: 1.0 / (1.0 + i) }
    })
}

pub(crate) fn numbers() -> Vec<u64> {
    let mut x = 88_172_645_463_325_252_u64;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x >> 8
    };
    (0..NUMBERS).map(|_| next()).collect()
}
