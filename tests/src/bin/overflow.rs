//! Recursion without end: its green thread ends with a `StackOverflow`, and the others go on.
//!
//! Prints what was thrown, whether every frame's destructor ran, and whether the neighbours finished.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Parser;
use morestack::{JoinHandle, Runtime, StackOverflow, prologue, yield_now};
use morestack_tests::on::On;

/// Overflows the stack of a green thread, twice, and prints how that ended.
#[derive(Parser)]
struct Args {
    /// The kind of green thread
    #[arg(long)]
    on: On,
}

/// The size that the recursion overflows, of either kind of stack.
const MAX: usize = 1 << 20;

static ENTERED: AtomicU64 = AtomicU64::new(0);
static DROPPED: AtomicU64 = AtomicU64::new(0);

struct Local;

impl Drop for Local {
    fn drop(&mut self) {
        DROPPED.fetch_add(1, Ordering::Relaxed);
    }
}

#[prologue]
#[expect(unconditional_recursion, reason = "that is the point")]
fn forever(n: u64) -> u64 {
    let words = black_box([n; 16]);
    ENTERED.fetch_add(1, Ordering::Relaxed);
    let _local = Local;
    forever(n + 1) + black_box(words)[3]
}

/// Deep, but not too deep: that must still work afterwards.
#[prologue]
fn deep(n: u64) -> u64 {
    let words = black_box([n; 16]);
    if n == 0 { 0 } else { deep(n - 1) + black_box(words)[3] }
}

/// Green threads of both kinds that work while others overflow: as many rounds as `rounds` says, each with a turn for all
/// others of the worker.
fn neighbours(rounds: u64) -> Vec<JoinHandle<u64>> {
    let work = move || (0..rounds).map(|n| deep(n % 50) + n).inspect(|_| yield_now()).sum::<u64>();
    // SAFETY: `deep` keeps no pointer to its stack elsewhere, and nothing borrows a thread-local.
    (0..100).map(|n| if n % 2 == 0 { morestack::spawn(work) } else { unsafe { morestack::go(work) } }).collect()
}

fn main() {
    let on = Args::parse().on;
    let runtime = Runtime::builder().stack_size(MAX).max_stack_size(MAX).build().expect("a runtime");
    runtime.run(move || {
        let rounds = 300;
        let neighbours = neighbours(rounds);
        for _ in 0..2 {
            let handle = match on {
                On::Os => panic!("an OS thread's overflow ends the process"),
                On::Spawn => morestack::spawn(|| forever(0)),
                // SAFETY: `forever` keeps no pointer to its stack elsewhere.
                On::Go => unsafe { morestack::go(|| forever(0)) },
            };
            let payload = handle.join().expect_err("recursion without end");
            let overflow = payload.downcast_ref::<StackOverflow>().expect("a StackOverflow");
            assert_eq!(overflow.limit(), MAX);
            println!("{overflow}");
            let (entered, dropped) = (ENTERED.load(Ordering::Relaxed), DROPPED.load(Ordering::Relaxed));
            println!("deep: {}, all dropped: {}", entered > 1000, entered == dropped);
        }
        // 500 frames of 600 bytes in an unoptimised build: some 300 KiB.
        println!("after: {}", deep(500));
        let expected = (0..rounds).map(|n| (0..=n % 50).sum::<u64>() + n).sum::<u64>();
        let fine = neighbours.into_iter().all(|neighbour| neighbour.join().is_ok_and(|sum| sum == expected));
        println!("neighbours: {fine}");
    });
}
