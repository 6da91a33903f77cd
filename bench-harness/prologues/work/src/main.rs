//! `work NAME OPERATIONS`: does it, and prints how many nanoseconds that took.
//!
//! Four copies of each of the small programs run in turn: where code lies in memory can matter more than a check does.

use std::hint::black_box;
use std::time::Instant;

use regex::Regex;
use serde::{Deserialize, Serialize};

use plain::{fib, matmul, quicksort, simulate};
use programs::{Body, SIZE, bodies, numbers, programs};

#[path = "../../../src/benchmarks/programs.rs"]
mod programs;

programs!(plain, [], []);

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
            copies([simulate::<1>, simulate::<2>, simulate::<3>, simulate::<4>], |simulate| {
                let mut bodies = bodies();
                simulate(black_box(&mut bodies), 500);
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
