//! A runtime with nothing to do for two seconds. Prints the processor time it used meanwhile, in microseconds.

use std::hint::black_box;
use std::thread;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use morestack::Runtime;
use morestack_tests::usage::cpu_time;

/// Measures the processor time of an idle runtime.
#[derive(Parser)]
struct Args {
    /// What happened before, and what is outstanding
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum State {
    /// Nothing ever ran
    Fresh,
    /// Work on all workers, done
    Worked,
    /// The same, where sysmon waits awake while there is work
    Spun,
    /// The same, and a green thread that sleeps for an hour
    Sleeper,
    /// The same, and a green thread that waits for somebody to unpark it
    Parked,
}

/// How long the runtime is idle.
const IDLE: Duration = Duration::from_secs(2);

/// Time for what is still going on after the last join: workers that look for more work before they sleep.
const SETTLE: Duration = Duration::from_millis(200);

fn main() {
    let state = Args::parse().state;
    let runtime = Runtime::builder().workers(4).spin_sysmon(state == State::Spun).build().expect("a runtime");
    if state != State::Fresh {
        runtime.run(|| {
            let work = |n: u64| (0..100_000).fold(n, |x, _| black_box(x.rotate_left(5) ^ n));
            let handles: Vec<_> = (0..1000).map(|n| morestack::spawn(move || work(n))).collect();
            handles.into_iter().for_each(|handle| assert!(handle.join().is_ok()));
        });
    }
    let waiting = match state {
        State::Fresh | State::Worked | State::Spun => None,
        State::Sleeper => Some(runtime.spawn(|| morestack::sleep(Duration::from_secs(3600)))),
        State::Parked => Some(runtime.spawn(morestack::park)),
    };
    thread::sleep(SETTLE);
    let before = cpu_time();
    thread::sleep(IDLE);
    let used = cpu_time() - before;
    if let Some(waiting) = &waiting {
        assert!(!waiting.is_finished(), "it should still wait");
    }
    println!("{}", used.as_micros());
    // Without shutting down: the sleeper would be waited for.
    std::process::exit(0);
}
