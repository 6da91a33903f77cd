//! Thousands of green threads while system calls of the stack allocator fail (`MORESTACK_STACK_DEBUG=fail=...`).
//!
//! Each must end with its value or with the error that names what could not be had. Prints how many did which, and whether
//! every destructor ran and every stack came back.

use std::any::Any;
use std::hint::black_box;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Parser;
use morestack::{Builder, JoinHandle, Runtime, Stack, prologue, yield_now};

/// Runs green threads that may be refused their stacks.
#[derive(Parser)]
struct Args {
    /// Frames of 8 KiB in the deepest recursion
    #[arg(long, default_value_t = 200)]
    deepest: u64,
}

/// Batches, one after the other, each joined before the next: stacks are freed and taken again.
const BATCHES: u64 = 4;

/// Green threads of a batch that each make another.
const BATCH: u64 = 800;

static MADE: AtomicU64 = AtomicU64::new(0);
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// What a closure owns: it must be dropped whether the closure runs or not.
struct Owned;

impl Owned {
    fn new() -> Owned {
        MADE.fetch_add(1, Ordering::Relaxed);
        Owned
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        DROPPED.fetch_add(1, Ordering::Relaxed);
    }
}

/// Sums 1 to `n`, in frames of 8 KiB and some, each with a destructor.
#[prologue(frame = 16 << 10)]
fn deep(n: u64) -> u64 {
    let _owned = Owned::new();
    let words = black_box([n; 1 << 10]);
    if n == 0 { 0 } else { deep(n - 1) + black_box(&words)[500] }
}

/// How often the others of a worker may run in between.
fn rest(n: u64) {
    for _ in 0..n % 4 {
        yield_now();
    }
}

type Outcome = Result<u64, Box<dyn Any + Send>>;

/// The `n`th green thread: one of each kind in turn. Its value is that of [`expected`].
fn start(n: u64, deepest: u64) -> JoinHandle<u64> {
    let owned = Owned::new();
    let depth = depth(n, deepest);
    let work = move || {
        let _owned = owned;
        rest(n);
        let sum = deep(depth);
        rest(n);
        n + sum
    };
    match n % 4 {
        // SAFETY: `deep` and `rest` keep no pointer to their stacks elsewhere, and touch no thread-local.
        1 => unsafe { morestack::go(work) },
        2 => Builder::new().stack(Stack::Reserved(1 << (16 + n % 8))).spawn(work).expect("a size that is allowed"),
        _ => morestack::spawn(work),
    }
}

/// Some frames; or `deepest`, on copying stacks only.
fn depth(n: u64, deepest: u64) -> u64 {
    if n % 16 == 1 { deepest } else { n % 9 }
}

fn expected(n: u64, deepest: u64) -> u64 {
    let depth = depth(n, deepest);
    n + depth * (depth + 1) / 2
}

/// Whether the green thread ended with its value; if not, with the error that names what could not be had.
fn is_right(expected: u64, outcome: Outcome) -> bool {
    match outcome {
        Ok(value) => {
            assert_eq!(value, expected);
            true
        }
        Err(payload) => {
            let error = payload.downcast::<io::Error>().expect("the reason why there is no stack");
            assert_eq!(error.kind(), io::ErrorKind::OutOfMemory, "{error}");
            assert!(error.to_string().starts_with("no stack of "), "{error}");
            false
        }
    }
}

fn main() {
    let deepest = Args::parse().deepest;
    let runtime = Runtime::builder().workers(4).build().expect("a runtime");
    let (mut right, mut refused) = (0, 0);
    for batch in 0..BATCHES {
        // From outside: this thread goes on, whatever fails.
        let numbers = batch * BATCH..(batch + 1) * BATCH;
        let parents: Vec<_> = numbers.clone().map(|n| runtime.spawn(move || start(n, deepest))).collect();
        for (n, parent) in numbers.zip(parents) {
            let outcome = parent.join().and_then(JoinHandle::join);
            *(if is_right(expected(n, deepest), outcome) { &mut right } else { &mut refused }) += 1;
        }
    }
    println!("right {right}");
    println!("refused {refused}");
    println!("grown {}", runtime.metrics().grows);
    runtime.shutdown(Duration::from_secs(10)).expect("all have finished");
    println!("dropped {}", MADE.load(Ordering::Relaxed) == DROPPED.load(Ordering::Relaxed));
    println!("in_use_bytes {}", morestack_stacks::stats().in_use_bytes);
}
