//! Popular crates at work: each program (`src/bin`) leans on one, and computes a text from a seed, the same wherever it runs.
//!
//! A program is built with the cargo feature of its name, so that one is built without the others. `morestack-tests` builds
//! them in every way, runs them, and compares.

pub mod source;

use std::panic::resume_unwind;
use std::process::exit;
use std::thread;
use std::time::{Duration, Instant};

use morestack::{Builder, Runtime, Stack};

/// How a program is called: where it runs; how many threads do at the same time; how many rounds each does, every one with another
/// seed; and, if the nanoseconds that these take are to be printed instead of the texts, how often.
const USAGE: &str = "usage: NAME os|spawn THREADS ROUNDS [SAMPLES]";

/// As much as the main thread has: address space, touched as far as it is used.
const STACK: usize = 8 << 20;

/// The kind of thread.
#[derive(Clone, Copy, PartialEq, Eq)]
enum On {
    /// A thread of the operating system.
    Os,
    /// A green thread, as `spawn` makes them.
    Spawn,
}

struct Args {
    on: On,
    threads: usize,
    rounds: u64,
    samples: Option<usize>,
}

impl Args {
    fn parse() -> Option<Args> {
        let mut words = std::env::args().skip(1);
        let on = match &*words.next()? {
            "os" => On::Os,
            "spawn" => On::Spawn,
            _ => return None,
        };
        let (threads, rounds) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let samples = words.next().map(|word| word.parse()).transpose().ok()?;
        Some(Args { on, threads, rounds, samples })
    }
}

/// How many may run at a time in one process.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    Many,
    /// The crate sets a thread-local for the length of a call that calls back, and takes for granted that nobody else comes
    /// to it on this OS thread meanwhile.
    One,
}

/// The program whose text for a seed this is.
pub fn main(most: Threads, text: fn(u64) -> String) {
    let Some(Args { on, threads, rounds, samples }) = Args::parse() else {
        eprintln!("{USAGE}");
        exit(2)
    };
    let threads = if most == Threads::One { 1 } else { threads };
    if let Some(samples) = samples {
        let sample = move |_| {
            let start = Instant::now();
            for round in 0..rounds {
                std::hint::black_box(text(std::hint::black_box(round)));
            }
            start.elapsed()
        };
        let times = on.run(1, move || (0..samples).map(sample).collect::<Vec<Duration>>());
        times[0].iter().for_each(|time| println!("{}", time.as_nanos()));
    } else {
        let texts = on.run(threads, move || (0..rounds).map(text).collect::<Vec<_>>().join("\n"));
        for (index, text) in texts.iter().enumerate() {
            println!("-- {index}\n{}", text.trim_end());
        }
    }
}

impl On {
    /// Runs `f` on so many threads at the same time. What the scheduler did is the last line on standard error.
    fn run<T: Send + 'static>(self, threads: usize, f: impl Fn() -> T + Clone + Send + 'static) -> Vec<T> {
        if self == On::Os {
            let start = |_| thread::Builder::new().stack_size(STACK).spawn(f.clone()).expect("a thread");
            let handles: Vec<_> = (0..threads).map(start).collect();
            return handles
                .into_iter()
                .map(|handle| handle.join().unwrap_or_else(|panic| resume_unwind(panic)))
                .collect();
        }
        let runtime = Runtime::new().expect("a runtime");
        // Where stacks do not grow, the default is too little for those that recurse.
        let stack = match runtime.stack_mode() {
            Stack::Reserved(_) => Stack::Reserved(STACK),
            _ => Stack::Auto,
        };
        let results = runtime.run(move || {
            let start = |_| Builder::new().stack(stack).spawn(f.clone()).expect("a green thread");
            let handles: Vec<_> = (0..threads).map(start).collect();
            handles.into_iter().map(|handle| handle.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
        });
        let m = runtime.metrics();
        eprintln!(
            "grows {} shrinks {} bytes_copied {} segments {} freezes {} preemptions {}",
            m.grows, m.shrinks, m.bytes_copied, m.segments, m.freezes, m.preemptions
        );
        results
    }
}
