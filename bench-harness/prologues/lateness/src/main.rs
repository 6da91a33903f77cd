//! `lateness KIND MILLISECONDS`: threads that compute on one worker for so long, in slices of 100 us. Prints how late requests for
//! preemption were answered: for each class its end in nanoseconds, and how many there were; and what was deferred.

use std::hint::black_box;
use std::time::{Duration, Instant};

use morestack::Runtime;

/// Calls, and nothing else.
#[inline(never)]
fn fib(n: u64) -> u64 {
    if n < 2 { n } else { fib(n - 1) + fib(n - 2) }
}

/// Some 30 us in functions of a third party's, between two calls of this crate's own.
#[inline(never)]
fn json(text: &str) -> usize {
    let value: serde_json::Value = serde_json::from_str(text).expect("JSON");
    value.to_string().len()
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(kind), Some(Ok(millis))) = (arguments.next(), arguments.next().map(|n| n.parse::<u64>())) else {
        panic!("usage: lateness KIND MILLISECONDS");
    };
    let item = r#"{"name": "an item", "tags": ["a", "b", "c"], "place": [1.5, -2.25], "count": 12345}"#;
    let text: &'static str = Box::leak(format!("[{}]", vec![item; 20].join(",")).into_boxed_str());
    let work: fn(&str) = match &*kind {
        "own" => |_| _ = black_box(fib(black_box(15))),
        "third-party" => |text| _ = black_box(json(black_box(text))),
        _ => panic!("unknown: {kind}"),
    };
    let slice = Some(Duration::from_micros(100));
    let runtime = Runtime::builder().workers(1).time_slice(slice).build().expect("a runtime");
    let until = Instant::now() + Duration::from_millis(millis);
    let rounds: u64 = runtime.run(move || {
        let hog = move || {
            let mut rounds = 0;
            while Instant::now() < until {
                work(text);
                rounds += 1;
            }
            rounds
        };
        let hogs: Vec<_> = (0..4).map(|_| morestack::spawn(hog)).collect();
        hogs.into_iter().map(|hog| hog.join().expect("no panic")).sum::<u64>()
    });
    let metrics = runtime.metrics();
    for (end, count) in metrics.preemption_lateness.classes() {
        println!("{} {count}", u64::try_from(end.as_nanos()).unwrap_or(u64::MAX));
    }
    println!(
        "rounds {rounds}\nrequested {}\npreemptions {}\ndeferred {}",
        metrics.preemptions_requested, metrics.preemptions, metrics.preemptions_deferred
    );
}
