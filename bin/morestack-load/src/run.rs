//! One run, from its options to its outcome.
//!
//! ```text
//!   calibrate ─► [capacity] ─► warm-up ─► measured ─► drain ─► outcome
//!                closed loop   └── open loop, one schedule ──┘
//! ```
//!
//! Each loop has a runtime and a recorder of its own, so that nothing of the capacity measurement (its stacks, its
//! counters, its peak of memory) is in the run's figures.
//!
//! # Threads
//!
//! The generator is a thread; the one that called is free to show progress and to watch the memory. It halts the
//! generator when memory runs short.
//!
//! # The end
//!
//! After the last arrival the run waits until as many requests have completed as were submitted. It gives up when
//! nothing at all completes for [`PATIENCE`]: then requests are lost, and the outcome says how many. A backlog that is
//! still being worked off is not a loss, however long it takes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use crate::capacity::{self, Capacity};
use crate::cli::{Config, Offered};
use crate::executor::{Counters, Executor};
use crate::generator::{self, Issued, Window};
use crate::job::Job;
use crate::memory;
use crate::progress::Progress;
use crate::record::{Recorder, Recording};
use crate::schedule::{Plan, Schedule};
use crate::units;
use crate::work::Calibration;

/// How long a drain goes on without a completion: many times the longest service there is. Less under test, where it is
/// waited out.
const PATIENCE: Duration = Duration::from_millis(if cfg!(test) { 100 } else { 30_000 });

/// Between the start of the generator's thread and the first arrival: enough for the thread to be there.
const LEAD: Duration = Duration::from_millis(5);

/// Between two looks at progress and memory. Requests that take memory as fast as pages can be cleared take some hundred
/// MiB meanwhile.
const LOOK: Duration = Duration::from_millis(20);

/// What came of a run.
pub struct Outcome {
    /// What the capacity measurement found, if there was one.
    pub capacity: Option<Capacity>,
    /// What was submitted.
    pub issued: Issued,
    /// Requests that did not complete, the warm-up's included.
    pub lost: u64,
    /// What was recorded.
    pub recording: Recording,
    /// What the scheduler did from the end of the warm-up on.
    pub counters: Counters,
    /// The peak of resident memory, in bytes.
    pub rss_peak: u64,
}

/// Runs what the options ask for. `found` is told the capacity as soon as it is known.
pub fn run(config: &Config, found: impl FnOnce(&Capacity)) -> Result<Outcome, String> {
    let calibration = Calibration::measure(&config.service, config.deep.map(|deep| deep.bytes));
    let (capacity, rate) = match config.offered {
        Offered::Rate(rate) => (None, rate),
        Offered::Load(load) => {
            let capacity = measure_capacity(config, &calibration)?;
            found(&capacity);
            (Some(capacity), capacity.rps * load)
        }
    };
    memory::reset_peak_rss();
    open_loop(config, &calibration, capacity, rate)
}

fn measure_capacity(config: &Config, calibration: &Calibration) -> Result<Capacity, String> {
    let executor = Executor::new(config)?;
    let recorder = recorder(config, Duration::ZERO);
    let mut schedule = Schedule::new(plan(config, 1.0));
    let in_flight = capacity::in_flight(config);
    let progress = Progress::new(config.progress, "capacity", capacity::MEASURE);

    let capacity = supervise(config, recorder, &progress, |halt| {
        let capacity = capacity::measure(in_flight, recorder, halt, || {
            let arrival = schedule.next().expect("a schedule is endless");
            // Recorded like any other: recording is part of what a request costs.
            executor.submit(Job::new(&arrival, true, calibration), recorder);
        })?;
        match drain(capacity.issued, recorder, halt) {
            0 => Ok(capacity),
            lost => Err(lost_line(lost, capacity.issued)),
        }
    });
    match capacity.flatten() {
        Ok(capacity) => executor.shutdown().map(|()| capacity),
        Err(line) => {
            executor.abandon();
            Err(line)
        }
    }
}

fn open_loop(
    config: &Config,
    calibration: &Calibration,
    capacity: Option<Capacity>,
    rate: f64,
) -> Result<Outcome, String> {
    let executor = Executor::new(config)?;
    let recorder = recorder(config, LEAD);
    let window = Window { origin: recorder.origin(), warm: config.warmup, end: config.warmup + config.duration };
    let progress = Progress::new(config.progress, "run", window.end);

    let phase = supervise(config, recorder, &progress, |halt| {
        let mut before = None;
        let schedule = Schedule::new(plan(config, rate));
        let issued = generator::drive(schedule, window, halt, |arrival, measured| {
            if measured && before.is_none() {
                before = Some(executor.counters());
            }
            executor.submit(Job::new(arrival, measured, calibration), recorder);
        });
        let lost = drain(issued.total, recorder, halt);
        (issued, lost, before.unwrap_or_default())
    });
    let (issued, lost, before) = match phase {
        Ok(ended) => ended,
        Err(line) => {
            executor.abandon();
            return Err(line);
        }
    };
    let outcome = Outcome {
        capacity,
        issued,
        lost,
        recording: recorder.recording(),
        counters: executor.counters().since(&before),
        rss_peak: memory::peak_rss(),
    };
    if lost == 0 {
        executor.shutdown()?;
    } else {
        executor.abandon();
    }
    Ok(outcome)
}

/// The line that reports a loss.
pub fn lost_line(lost: u64, issued: u64) -> String {
    format!(
        "{} of {} requests did not complete: none did in the last {}s",
        units::count(lost),
        units::count(issued),
        PATIENCE.as_secs()
    )
}

/// Runs a phase on a thread of its own, and meanwhile shows progress and watches the memory. A phase that is told to
/// halt has failed, whatever it returns.
fn supervise<T: Send>(
    config: &Config,
    recorder: &Recorder,
    progress: &Progress,
    phase: impl FnOnce(&AtomicBool) -> T + Send,
) -> Result<T, String> {
    let halt = AtomicBool::new(false);
    thread::scope(|scope| {
        let generator = thread::Builder::new().name("generator".into());
        let generator: ScopedJoinHandle<T> = generator
            .spawn_scoped(scope, || {
                if config.pin {
                    keep_clear_of(config.workers);
                }
                phase(&halt)
            })
            .map_err(|error| format!("cannot start the generator's thread: {error}"))?;
        while !generator.is_finished() {
            thread::sleep(LOOK);
            progress.show(recorder.now(), recorder.completed());
            if memory::is_short() {
                halt.store(true, Ordering::Relaxed);
            }
        }
        let result = generator.join().map_err(|_| "the generator panicked".to_string())?;
        if halt.load(Ordering::Relaxed) {
            return Err("memory ran short: more requests arrive than complete, lower --rate, --load or --deep".into());
        }
        Ok(result)
    })
}

/// Pins the calling thread to the last CPU, if the workers leave it. They are pinned from the first on.
fn keep_clear_of(workers: usize) {
    let cpus = core_affinity::get_core_ids().unwrap_or_default();
    if let Some(last) = cpus.last().filter(|_| workers < cpus.len()) {
        core_affinity::set_for_current(*last);
    }
}

/// Waits for `issued` completions. Returns how many are missing when nothing happens any more, or at a halt.
fn drain(issued: u64, recorder: &Recorder, halt: &AtomicBool) -> u64 {
    let mut completed = recorder.completed();
    let mut last_progress = Instant::now();
    while completed < issued && last_progress.elapsed() < PATIENCE && !halt.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(1));
        let now = recorder.completed();
        if now > completed {
            completed = now;
            last_progress = Instant::now();
        }
    }
    issued - completed
}

/// A recorder whose run begins after `lead`. Requests refer to it from green threads that may outlive the run if they
/// hang; counting references instead would make all workers and the generator write to one cache line per request.
fn recorder(config: &Config, lead: Duration) -> &'static Recorder {
    Box::leak(Box::new(Recorder::new(Instant::now() + lead, &config.classes())))
}

fn plan(config: &Config, rate: f64) -> Plan {
    Plan { seed: config.seed, rate, service: config.service, deep: config.deep.map(|deep| deep.share) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Arrival;
    use crate::service::{Class, Demand, Service};

    fn completed(n: u64) -> Recorder {
        let calibration = Calibration::measure(&Service::Fixed(1_000), None);
        let recorder = Recorder::new(Instant::now(), &[Class::Ordinary]);
        let arrival = Arrival { at: 0, demand: Demand::Time(1_000), class: Class::Ordinary };
        for _ in 0..n {
            Job::new(&arrival, true, &calibration).serve(&recorder);
        }
        recorder
    }

    #[test]
    fn a_drain_ends_with_the_last_completion() {
        let (recorder, halt) = (completed(3), AtomicBool::new(false));
        let begun = Instant::now();
        assert_eq!(drain(3, &recorder, &halt), 0);
        assert!(begun.elapsed() < PATIENCE);
    }

    #[test]
    fn a_loss_is_found_when_patience_ends() {
        let (recorder, halt) = (completed(3), AtomicBool::new(false));
        let begun = Instant::now();
        assert_eq!(drain(5, &recorder, &halt), 2);
        assert!(begun.elapsed() >= PATIENCE);

        halt.store(true, Ordering::Relaxed);
        let begun = Instant::now();
        assert_eq!(drain(5, &recorder, &halt), 2);
        assert!(begun.elapsed() < PATIENCE);
    }
}
