//! A million green threads with next to nothing to do: spawned, then joined. Each gets a stack when it first runs, so few
//! stacks exist at any time.

use morestack::Runtime;

/// How many.
const COUNT: u64 = 1_000_000;

fn main() {
    let runtime = Runtime::new().expect("a runtime");
    let sum: u64 = runtime.run(|| {
        let handles: Vec<_> = (0..COUNT).map(|n| morestack::spawn(move || n)).collect();
        handles.into_iter().map(|handle| handle.join().expect("no panic")).sum()
    });
    let metrics = runtime.metrics();
    println!("sum {sum}");
    println!("spawned {}", metrics.spawned);
    println!("completed {}", metrics.completed);
    println!("peak_stacks {}", metrics.peak_stacks);
    println!("peak_rss_kib {}", peak_rss_kib());
}

/// The most memory the process ever had resident.
fn peak_rss_kib() -> i64 {
    morestack_tests::usage::usage().ru_maxrss
}
