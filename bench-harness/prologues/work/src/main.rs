//! `work NAME OPERATIONS`: does it, and prints how many nanoseconds that took.
//!
//! Four copies of each of the small programs run in turn: where code lies in memory can matter more than a check does.

use std::hint::black_box;
use std::time::Instant;

use regex::Regex;
use serde::{Deserialize, Serialize};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(name), Some(Ok(operations))) = (arguments.next(), arguments.next().map(|n| n.parse::<u64>())) else {
        panic!("usage: work NAME OPERATIONS");
    };
    let mut operation: Box<dyn FnMut()> = match &*name {
        "fib" => Box::new(|| copies([fib::<0>, fib::<1>, fib::<2>, fib::<3>], |fib| _ = black_box(fib(black_box(20))))),
        "quicksort" => Box::new(|| {
            copies([quicksort::<0>, quicksort::<1>, quicksort::<2>, quicksort::<3>], |quicksort| {
                let mut numbers = numbers();
                quicksort(black_box(&mut numbers));
                assert!(numbers.is_sorted());
            })
        }),
        "n-body" => Box::new(|| {
            copies([step::<1>, step::<2>, step::<3>, step::<4>], |step| {
                let mut bodies = bodies();
                (0..500).for_each(|_| step(black_box(&mut bodies), 0.01));
                black_box(bodies);
            })
        }),
        "matmul" => {
            let (a, b) = (vec![1.5; SIZE * SIZE], vec![0.5; SIZE * SIZE]);
            Box::new(move || {
                copies([matmul::<0>, matmul::<1>, matmul::<2>, matmul::<3>], |matmul| {
                    let mut c = vec![0.0; SIZE * SIZE];
                    matmul(black_box(&a), black_box(&b), black_box(&mut c));
                    black_box(c);
                })
            })
        }
        "serde_json" => {
            let records: Vec<Record> = (0..100).map(Record::new).collect();
            Box::new(move || {
                let text = serde_json::to_string(black_box(&records)).expect("JSON");
                let back: Vec<Record> = serde_json::from_str(black_box(&text)).expect("the same");
                assert!(back == records);
            })
        }
        "regex" => {
            let pattern = Regex::new(r"(?i)\b([a-z]+)@([a-z]+)\.(com|org|net)\b").expect("a pattern");
            let text: String =
                (0..200).map(|i| format!("line {i}: user{i} wrote to name@host{i}.org, na@me.com\n")).collect();
            Box::new(move || {
                let found =
                    pattern.captures_iter(black_box(&text)).map(|c| c.get(2).map_or(0, |m| m.len())).sum::<usize>();
                assert_eq!(found, 400);
            })
        }
        _ => panic!("unknown: {name}"),
    };
    // Caches and predictors fill.
    operation();
    let started = Instant::now();
    (0..operations).for_each(|_| operation());
    println!("{}", started.elapsed().as_nanos());
}

fn copies<F>(copies: [F; 4], run: impl Fn(F)) {
    copies.into_iter().for_each(run);
}

#[inline(never)]
fn fib<const COPY: u64>(n: u64) -> u64 {
    if n < 2 { n + COPY } else { fib::<COPY>(n - 1) + fib::<COPY>(n - 2) }
}

fn numbers() -> Vec<u64> {
    let mut x = 88_172_645_463_325_252_u64;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x >> 8
    };
    (0..5000).map(|_| next()).collect()
}

#[inline(never)]
fn quicksort<const COPY: u64>(numbers: &mut [u64]) {
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

/// Rows and columns.
const SIZE: usize = 96;

#[inline(never)]
fn matmul<const COPY: u64>(a: &[f64], b: &[f64], c: &mut [f64]) {
    for (a, c) in a.chunks_exact(SIZE).zip(c.chunks_exact_mut(SIZE)) {
        for (a, b) in a.iter().zip(b.chunks_exact(SIZE)) {
            let a = *a + COPY as f64;
            for (c, b) in c.iter_mut().zip(b) {
                *c += a * b;
            }
        }
    }
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Record {
    id: u64,
    name: String,
    tags: Vec<String>,
    place: Option<(f64, f64)>,
    children: Vec<Record>,
}

impl Record {
    fn new(id: u64) -> Record {
        let children = if id % 10 == 0 { vec![Record::new(id + 1), Record::new(id + 2)] } else { Vec::new() };
        let tags = (0..id % 4).map(|n| format!("tag {n} of {id}")).collect();
        let place = (id % 3 == 0).then_some((id as f64 * 0.25, -1.5));
        Record { id, name: format!("record \"{id}\""), tags, place, children }
    }
}
