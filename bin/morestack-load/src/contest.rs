//! One measurement, from what was asked for to its outcome.
//!
//! ```text
//!   calibrate ─► [capacity] ─► part ─► part ─► ...            a part:  warm-up ─► measured ─► drain
//!                closed loop                                           └── open loop, one schedule ──┘
//! ```
//!
//! Each loop has an executor and a recorder of its own, so that nothing of the capacity measurement or of another part
//! (its stacks, its counters, its peak of memory) is in a part's figures.
//!
//! # Parts
//!
//! A run of one contender is one part. To compare several, the schedule is cut: each plays the first part, in turn, then
//! each the second, and so on. What disturbs the machine for a while disturbs all of them. The warm-up of a part is what
//! arrives before it.
//!
//! # Threads
//!
//! The generator is a thread; the one that called is free to show progress and to watch the memory. It halts the
//! generator when memory runs short or the user interrupts.
//!
//! # The end
//!
//! After the last arrival a part waits until as many requests have completed as were submitted. It gives up when
//! nothing at all completes for [`PATIENCE`]: then requests are lost, and the outcome says how many. A backlog that is
//! still being worked off is not a loss, however long it takes. After an interruption it waits for [`GRACE`]; what is
//! missing then is said to be missing.

use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use crate::Failure;
use crate::capacity::{self, Capacity};
use crate::cli::{Config, Offered, Traffic};
use crate::executor::{Contender, Counters, Executor};
use crate::generator::{self, Issued, Window};
use crate::halt::{self, Halt, Reason};
use crate::job::Job;
use crate::memory;
use crate::progress::Progress;
use crate::record::{Recorder, Recording};
use crate::schedule::{Plan, Schedule};
use crate::service::Service;
use crate::units;
use crate::work::Calibration;

/// How long a drain goes on without a completion: many times the longest service there is. Less under test, where it is
/// waited out.
const PATIENCE: Duration = Duration::from_millis(if cfg!(test) { 100 } else { 30_000 });

/// How long a drain goes on after an interruption: the user waits.
const GRACE: Duration = Duration::from_millis(500);

/// Between the start of the generator's thread and the first arrival: enough for the thread to be there.
const LEAD: Duration = Duration::from_millis(5);

/// Between two looks at progress and memory. Requests that take memory as fast as pages can be cleared take some hundred
/// MiB meanwhile.
const LOOK: Duration = Duration::from_millis(20);

/// How long a backlog takes, in nanoseconds, that is not a disturbance of the machine, in short parts; a twentieth of the
/// time in long ones.
const BACKLOG: u64 = 50_000_000;

/// Parts of a comparison: enough that a disturbance of some seconds does not hit one contender alone.
pub const PARTS: u64 = 5;

/// What is known before the first part.
pub struct Ground {
    /// What work costs.
    pub calibration: Calibration,
    /// What the capacity measurement found, if there was one.
    pub capacity: Option<Capacity>,
    /// Arrivals per second; none: a trace says when they are.
    pub rate: Option<f64>,
    /// Where completions go. Requests refer to it from green threads that may outlive a part if they hang; counting
    /// references instead would make all workers and the generator write to one cache line per request.
    pub recorder: &'static Recorder,
}

/// Which arrivals are played, in nanoseconds of the schedule.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// The first, unmeasured.
    pub from: u64,
    /// How long they are unmeasured.
    pub warmup: u64,
    /// How long they are measured after that.
    pub measured: u64,
}

impl Part {
    /// The parts of a schedule.
    pub fn cut(config: &Config, parts: u64) -> Vec<Part> {
        let at = |n| config.duration * n / parts;
        let part = |n| Part { from: at(n), warmup: config.warmup, measured: at(n + 1) - at(n) };
        (0..parts).map(part).collect()
    }

    /// How long it takes at least, in nanoseconds.
    pub fn length(&self) -> u64 {
        self.warmup + self.measured
    }
}

/// What came of a part, or of several.
pub struct Outcome {
    /// What was submitted.
    pub issued: Issued,
    /// Requests that did not complete, the warm-up's included.
    pub missing: u64,
    /// Whether the user ended it.
    pub interrupted: bool,
    /// How long arrivals were measured, in nanoseconds.
    pub measured: u64,
    /// How long it took to complete them, in nanoseconds: at least as long.
    pub completing: u64,
    /// What was recorded.
    pub recording: Recording,
    /// The least and the most of all parts' 99th percentiles of latency, in nanoseconds: of all requests, and of those of
    /// each class.
    pub p99_ranges: Vec<(u64, u64)>,
    /// How many parts there were, and in how many requests arrived faster than they could be completed.
    pub parts: u64,
    /// See above.
    pub saturated: u64,
    /// What the scheduler did from the end of the warm-up on.
    pub counters: Counters,
    /// The peak of resident memory, in bytes.
    pub rss_peak: u64,
    /// The stacks that requests ran on, if Morestack ran them.
    pub stacks: Option<&'static str>,
}

impl Outcome {
    /// Adds another part's.
    pub fn add(&mut self, other: &Outcome) {
        self.issued.add(&other.issued);
        self.missing += other.missing;
        self.interrupted |= other.interrupted;
        self.measured += other.measured;
        self.completing += other.completing;
        self.recording.add(&other.recording);
        for (own, (low, high)) in self.p99_ranges.iter_mut().zip(&other.p99_ranges) {
            *own = (own.0.min(*low), own.1.max(*high));
        }
        self.parts += other.parts;
        self.saturated += other.saturated;
        self.counters = self.counters.and(&other.counters);
        self.rss_peak = self.rss_peak.max(other.rss_peak);
    }

    /// Completions per second.
    pub fn completed_rps(&self) -> f64 {
        self.recording.all.latency.len() as f64 * 1e9 / self.completing.max(1) as f64
    }

    /// Measured arrivals per second.
    pub fn offered_rps(&self) -> f64 {
        self.issued.measured as f64 * 1e9 / self.measured.max(1) as f64
    }

    /// Whether requests arrived faster than they could be completed, in most parts. One may have met a disturbance.
    pub fn saturated(&self) -> bool {
        2 * self.saturated > self.parts
    }
}

/// Calibrates, and measures the capacity if the rate is a share of it.
pub fn prepare(config: &Config, offered: Offered, contender: Contender) -> Result<Ground, Failure> {
    let task = match &config.traffic {
        Traffic::Poisson(service) => service.task(),
        Traffic::Trace(_) => None,
    };
    let calibration = Calibration::measure(task, config.deep.map(|deep| deep.bytes));
    let recorder: &Recorder = Box::leak(Box::new(Recorder::new(Instant::now(), &config.classes())));
    let (capacity, rate) = match offered {
        Offered::Rate(rate) => (None, Some(rate)),
        Offered::Trace => (None, None),
        Offered::Load(load) => {
            let capacity = measure_capacity(config, contender, &calibration, recorder)?;
            (Some(capacity), Some(capacity.rps * load))
        }
    };
    Ok(Ground { calibration, capacity, rate, recorder })
}

fn measure_capacity(
    config: &Config,
    contender: Contender,
    calibration: &Calibration,
    recorder: &'static Recorder,
) -> Result<Capacity, Failure> {
    let executor = Executor::new(config, contender)?;
    let mut schedule = schedule(config, Some(1.0));
    let in_flight = capacity::in_flight(config);
    let mut progress = Progress::new(config.progress, capacity::MEASURE);
    progress.begin("capacity".into(), 0);
    recorder.restart(Duration::ZERO);

    let ended = supervise(config, recorder, &progress, |halt| {
        let capacity = capacity::measure(in_flight, recorder, halt, || {
            let arrival = schedule.next().expect("the schedule of a service is endless");
            // Recorded like any other: recording is part of what a request costs.
            executor.submit(Job::new(&arrival, true, calibration), recorder);
        })?;
        match drain(capacity.issued, recorder, halt) {
            0 => Ok(capacity),
            lost => Err(lost_line(lost, capacity.issued)),
        }
    });
    let capacity = match ended {
        Ok((_, Some(Reason::Interrupted))) => Err(Failure::Interrupted("before anything was measured")),
        Ok((capacity, _)) => capacity.map_err(Failure::Failed),
        Err(failure) => Err(failure),
    };
    match capacity {
        Ok(capacity) => {
            executor.shutdown()?;
            Ok(capacity)
        }
        Err(failure) => {
            executor.abandon();
            Err(failure)
        }
    }
}

/// Plays a part of the schedule on a contender.
pub fn play(
    config: &Config,
    ground: &Ground,
    contender: Contender,
    part: Part,
    progress: &Progress,
) -> Result<Outcome, Failure> {
    memory::reset_peak_rss();
    let executor = Executor::new(config, contender)?;
    let recorder = ground.recorder;
    let mut arrivals = schedule(config, ground.rate).from(part.from).peekable();
    // What comes before the part is drawn now, not when the first arrival is due.
    arrivals.peek();
    recorder.restart(LEAD);
    let window = Window { origin: recorder.origin(), warm: part.warmup, end: part.length() };

    let ended = supervise(config, recorder, progress, |halt| {
        let mut before = None;
        let issued = generator::drive(arrivals, window, halt, |arrival, measured| {
            if measured && before.is_none() {
                before = Some(executor.counters());
            }
            executor.submit(Job::new(arrival, measured, &ground.calibration), recorder);
        });
        let missing = drain(issued.total, recorder, halt);
        (issued, missing, before.unwrap_or_default())
    });
    let ((issued, missing, before), reason) = match ended {
        Ok(ended) => ended,
        Err(failure) => {
            executor.abandon();
            return Err(failure);
        }
    };
    let recording = recorder.recording();
    let measured = issued.until.saturating_sub(part.warmup);
    // Beyond capacity completions go on after the last arrival.
    let completing = measured.max(recording.last.saturating_sub(part.warmup));
    let tallies = [&recording.all].into_iter().chain(recording.classes.iter().map(|(_, tally)| tally));
    let p99 = tallies.map(|tally| tally.latency.value_at_quantile(0.99)).map(|p99| (p99, p99));
    let outcome = Outcome {
        missing,
        interrupted: reason == Some(Reason::Interrupted),
        measured,
        completing,
        p99_ranges: p99.collect(),
        parts: 1,
        saturated: (completing - measured > BACKLOG.max(measured / 20)).into(),
        counters: executor.counters().since(&before),
        rss_peak: memory::peak_rss(),
        stacks: executor.stacks(),
        issued,
        recording,
    };
    if missing == 0 {
        executor.shutdown()?;
    } else {
        executor.abandon();
    }
    Ok(outcome)
}

/// How long a contest takes at least, in nanoseconds.
pub fn length(config: &Config, parts: u64, contenders: usize) -> u64 {
    (config.duration + parts * config.warmup) * contenders as u64
}

/// Plays all parts on all contenders, in turn. Ends early when the user interrupts or a request is lost: what there
/// is of each is given then, none of one that had no turn. `done` is how much of the progress lies behind, in nanoseconds.
pub fn contest(
    config: &Config,
    ground: &Ground,
    contenders: &[Contender],
    parts: u64,
    progress: &mut Progress,
    done: &mut u64,
    label: impl Fn(&Contender) -> String,
) -> Result<Vec<Option<Outcome>>, Failure> {
    let mut outcomes: Vec<Option<Outcome>> = contenders.iter().map(|_| None).collect();
    for part in Part::cut(config, parts) {
        for (outcome, contender) in outcomes.iter_mut().zip(contenders) {
            progress.begin(label(contender), *done);
            let played = play(config, ground, *contender, part, progress)?;
            *done += part.length();
            let ends = played.interrupted || played.missing > 0;
            match outcome {
                Some(sum) => sum.add(&played),
                None => *outcome = Some(played),
            }
            if ends {
                return Ok(outcomes);
            }
        }
    }
    Ok(outcomes)
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

/// Runs a phase on a thread of its own, and meanwhile shows progress and watches the memory and the user. A phase that is
/// told to halt for lack of memory has failed, whatever it returns.
fn supervise<T: Send>(
    config: &Config,
    recorder: &Recorder,
    progress: &Progress,
    phase: impl FnOnce(&Halt) -> T + Send,
) -> Result<(T, Option<Reason>), Failure> {
    let halt = Halt::default();
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
                halt.set(Reason::Memory);
            }
            if halt::interrupted() {
                halt.set(Reason::Interrupted);
            }
        }
        let result = generator.join().map_err(|_| "the generator panicked".to_string())?;
        match halt.reason() {
            Some(Reason::Memory) => Err(Failure::Failed(
                "memory ran short: more requests arrive than complete, lower --rate, --load or --deep".into(),
            )),
            reason => Ok((result, reason)),
        }
    })
}

/// Pins the calling thread to the last CPU, if the workers leave it. They are pinned from the first on.
fn keep_clear_of(workers: usize) {
    let cpus = core_affinity::get_core_ids().unwrap_or_default();
    if let Some(last) = cpus.last().filter(|_| workers < cpus.len()) {
        core_affinity::set_for_current(*last);
    }
}

/// Waits for `issued` completions. Returns how many are missing when nothing happens any more, or soon after a halt.
fn drain(issued: u64, recorder: &Recorder, halt: &Halt) -> u64 {
    let mut completed = recorder.completed();
    let mut last_progress = Instant::now();
    let mut halted = None;
    while completed < issued && last_progress.elapsed() < PATIENCE {
        match halt.reason() {
            Some(Reason::Memory) => break,
            Some(Reason::Interrupted) if halted.get_or_insert_with(Instant::now).elapsed() >= GRACE => break,
            _ => thread::sleep(Duration::from_millis(1)),
        }
        let now = recorder.completed();
        if now > completed {
            completed = now;
            last_progress = Instant::now();
        }
    }
    issued - completed
}

fn schedule(config: &Config, rate: Option<f64>) -> Schedule {
    let deep = config.deep.map(|deep| deep.share);
    match &config.traffic {
        Traffic::Poisson(service) => {
            let rate = rate.expect("a service has a rate");
            Schedule::new(Plan { seed: config.seed, rate, service: *service, deep })
        }
        Traffic::Trace(trace) => Schedule::replay(trace, config.seed, deep),
    }
}

/// Whether requests take no time by themselves, so that there is no slowdown.
pub fn is_empty(config: &Config) -> bool {
    matches!(config.traffic, Traffic::Poisson(Service::Empty))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::executor::{self, Kind, copying_by_build};
    use crate::schedule::Arrival;
    use crate::service::{Class, Demand};

    fn completed(n: u64) -> Recorder {
        let calibration = Calibration::measure(None, None);
        let recorder = Recorder::new(Instant::now(), &[Class::Ordinary]);
        let arrival = Arrival { at: 0, demand: Demand::Time(1_000), class: Class::Ordinary };
        for _ in 0..n {
            Job::new(&arrival, true, &calibration).serve(&recorder);
        }
        recorder
    }

    #[test]
    fn a_drain_ends_with_the_last_completion() {
        let (recorder, halt) = (completed(3), Halt::default());
        let begun = Instant::now();
        assert_eq!(drain(3, &recorder, &halt), 0);
        assert!(begun.elapsed() < PATIENCE);
    }

    #[test]
    fn a_loss_is_found_when_patience_ends() {
        let (recorder, halt) = (completed(3), Halt::default());
        let begun = Instant::now();
        assert_eq!(drain(5, &recorder, &halt), 2);
        assert!(begun.elapsed() >= PATIENCE);

        halt.set(Reason::Memory);
        let begun = Instant::now();
        assert_eq!(drain(5, &recorder, &halt), 2);
        assert!(begun.elapsed() < PATIENCE);
    }

    fn config(duration: u64) -> Config {
        Config {
            workers: 2,
            traffic: Traffic::Poisson(Service::Fixed(1_000)),
            duration,
            warmup: 1_000,
            deep: None,
            stack: crate::cli::StackKind::Auto,
            pin: false,
            seed: 1,
            progress: crate::cli::Progress::Never,
        }
    }

    /// Holds up a worker until as many are held up as there are, and `STALL` from then on. Nothing preempts it: it has no
    /// checks, and in a program by `cargo morestack` preemption is off.
    fn stall(held_up: &'static AtomicUsize, workers: usize) {
        let wait = || {
            held_up.fetch_add(1, Ordering::Relaxed);
            while held_up.load(Ordering::Relaxed) < workers {
                std::hint::spin_loop();
            }
            let begun = Instant::now();
            while begun.elapsed() < STALL {
                std::hint::spin_loop();
            }
        };
        if copying_by_build() { morestack::without_preemption(wait) } else { wait() }
    }

    const STALL: Duration = Duration::from_millis(200);

    #[test]
    fn a_stall_of_all_workers_shows_in_the_tail() {
        const MS: u64 = 1_000_000;
        const RATE: f64 = 2_000.0;
        let calibration = Calibration::measure(None, None);
        // The kernel shares the CPUs among OS threads: two that spin do not stop the others.
        for kind in [Kind::Morestack, Kind::Tokio, Kind::Rayon, Kind::May] {
            if !executor::available().contains(&kind) {
                continue;
            }
            let config = config(1_000 * MS);
            let contender = Contender { kind, slice: Some(Duration::from_micros(100)) };
            let executor = Executor::new(&config, contender).unwrap();
            let recorder: &Recorder = Box::leak(Box::new(Recorder::new(Instant::now(), &[Class::Ordinary])));
            recorder.restart(LEAD);
            let window = Window { origin: recorder.origin(), warm: 0, end: config.duration };
            let held_up: &AtomicUsize = Box::leak(Box::default());
            let workers = config.workers;
            let mut stalled = false;
            let halt = Halt::default();
            let issued = generator::drive(schedule(&config, Some(RATE)), window, &halt, |arrival, measured| {
                if arrival.at >= 300 * MS && !stalled {
                    (0..workers).for_each(|_| executor.run(move || stall(held_up, workers)));
                    stalled = true;
                }
                executor.submit(Job::new(arrival, measured, &calibration), recorder);
            });
            let deadline = Instant::now() + Duration::from_secs(10);
            while recorder.completed() < issued.total && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(1));
            }
            let latency = recorder.recording().all.latency;
            executor.shutdown().unwrap();
            assert_eq!(latency.len(), issued.measured, "{kind:?}");
            assert!(latency.value_at_quantile(0.999) >= 180 * MS, "{kind:?}: {}", latency.value_at_quantile(0.999));
            // All that arrive in the first half wait for the other: about 200. Were a request counted from its start, or the
            // next one held back, it would be one per worker.
            let waited = latency.len() - latency.count_between(0, 100 * MS);
            assert!(waited >= 150, "{kind:?}: {waited}");
        }
    }

    #[test]
    fn the_parts_are_the_whole() {
        let config = config(1_000_000_007);
        let parts = Part::cut(&config, PARTS);
        let mut at = config.warmup;
        for part in &parts {
            assert_eq!(part.from + part.warmup, at);
            at += part.measured;
        }
        assert_eq!(at, config.warmup + config.duration);
    }
}
