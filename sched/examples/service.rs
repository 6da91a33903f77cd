//! A service in plain Rust, with no attribute anywhere: short requests beside long computations and deep recursion.
//!
//! ```sh
//! cargo run --release -p morestack --example service              # the long keep the short waiting
//! cargo morestack run --release -p morestack --example service    # they are preempted
//! ```

use std::time::{Duration, Instant};

/// Long computations, more than there are workers.
const HOGS: u32 = 8;

/// Short requests, and the time from one to the next.
const REQUESTS: u32 = 100;
const EVERY: Duration = Duration::from_micros(500);

fn fib(n: u32) -> u64 {
    if n < 2 { u64::from(n) } else { fib(n - 1) + fib(n - 2) }
}

/// A tree as deep as it is large, which is walked by recursion.
struct List {
    value: u64,
    next: Option<Box<List>>,
}

fn sum(list: &List) -> u64 {
    list.value + list.next.as_deref().map_or(0, sum)
}

/// A request: hardly any work, but it has to get its turn.
fn handle(arrived: Instant) -> Duration {
    arrived.elapsed()
}

fn main() {
    let hogs: Vec<_> = (0..HOGS).map(|_| morestack::spawn(|| fib(36))).collect();
    let requests = (0..REQUESTS).map(|_| {
        std::thread::sleep(EVERY);
        let arrived = Instant::now();
        morestack::spawn(move || handle(arrived))
    });
    let requests: Vec<_> = requests.collect();
    let mut waits: Vec<Duration> = requests.into_iter().map(|request| request.join().expect("it returns")).collect();
    waits.sort();
    let at = |share: usize| waits[waits.len() * share / 100];
    println!(
        "{REQUESTS} requests beside {HOGS} hogs: half of them waited less than {:?}, 90 % less than {:?}",
        at(50),
        at(90)
    );
    for hog in hogs {
        assert_eq!(hog.join().expect("it returns"), 14_930_352);
    }
    let deep = morestack::spawn(|| {
        let list = (0..1000).fold(None, |next, value| Some(Box::new(List { value, next })));
        list.as_deref().map(sum)
    });
    println!("the sum of the list is {:?}", deep.join().expect("it returns"));
}
