//! A sleeping green thread among never-yielding ones: the README's example.

use std::time::{Duration, Instant};

#[morestack::prologue] // here it may be preempted, and here its stack may grow
fn fib(n: u32) -> u64 {
    if n < 2 { u64::from(n) } else { fib(n - 1) + fib(n - 2) }
}

fn main() {
    // More work than workers, none of which yields.
    let hogs: Vec<_> = (0..16).map(|_| morestack::spawn(|| fib(32))).collect();
    // A thread that sleeps is not kept waiting by them.
    let start = Instant::now();
    morestack::spawn(|| morestack::sleep(Duration::from_millis(1))).join().unwrap();
    println!("slept {:?} among {} hogs", start.elapsed(), hogs.len());
    for hog in hogs {
        assert_eq!(hog.join().unwrap(), 2_178_309);
    }
}
