//! Joins, parallel iterators and scopes, from a thread that is not the pool's: it waits, and lends its locals out.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::ThreadPoolBuilder;
use rayon::prelude::*;

use crates::source::{Source, hash};

fn sort<T: Ord + Send>(items: &mut [T]) {
    if items.len() < 2 {
        return;
    }
    let last = items.len() - 1;
    let mut middle = 0;
    for i in 0..last {
        if items[i] <= items[last] {
            items.swap(i, middle);
            middle += 1;
        }
    }
    items.swap(middle, last);
    let (left, right) = items.split_at_mut(middle);
    rayon::join(|| sort(left), || sort(&mut right[1..]));
}

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let pool = ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    let mut numbers: Vec<u64> = (0..300).map(|_| source.below(10_000)).collect();
    let words = source.words(100);
    pool.install(|| sort(&mut numbers));
    let (visited, names) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let squares: Vec<u64> = pool.install(|| {
        numbers
            .par_iter()
            .filter(|n| **n % 3 != 0)
            .map(|n| {
                visited.fetch_add(1, Ordering::Relaxed);
                n * n
            })
            .collect()
    });
    pool.scope(|scope| {
        for (i, word) in words.split(' ').enumerate().step_by(9) {
            let names = &names;
            scope.spawn(move |scope| {
                names.lock().unwrap().push((i, word.to_uppercase()));
                scope.spawn(move |_| names.lock().unwrap().push((i + 1000, word.chars().rev().collect())));
            });
        }
    });
    let mut names = names.into_inner().unwrap();
    names.par_sort_by(|a, b| b.1.len().cmp(&a.1.len()).then_with(|| a.cmp(b)));
    let sum = pool.install(|| {
        squares
            .par_chunks(7)
            .map(|part| part.iter().fold(0u64, |a, b| a ^ b.rotate_left(3)))
            .reduce(|| 0, u64::wrapping_add)
    });
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        pool.install(|| numbers.par_iter().enumerate().for_each(|(i, _)| assert!(i != 77, "at {i}")));
    }));
    let message = panicked.unwrap_err().downcast_ref::<String>().cloned();
    let found = pool.install(|| words.par_split(' ').map(str::len).max());
    format!(
        "{} {sum} {message:?} {found:?} {names:?} {:x}",
        visited.into_inner(),
        hash(format!("{numbers:?}").as_bytes())
    )
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
