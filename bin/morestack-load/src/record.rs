//! The record of completions: latencies and slowdowns, in histograms that do not slow down what they measure.
//!
//! A latency is the time from the **intended** arrival to completion. What a request waits before it is even spawned,
//! because the generator or the workers stall, is part of it: no coordinated omission. A slowdown is the latency over
//! the time that the work takes alone; 1.00 is perfect. Histograms hold integers, so they hold it times 100.
//!
//! # Stripes
//!
//! ```text
//!   stripes[cpu % n]: ┌ completed   read by the generator while the run goes on
//!                     └ Mutex ─ per class: latency, slowdown
//! ```
//!
//! A completion goes to the stripe of the CPU it runs on, so two of them meet at a lock only when the kernel moved or
//! interrupted one in between. The lock is a plain one that blocks its OS thread: no check lies between taking and
//! releasing it, so no green thread is preempted while it holds it.
//!
//! A completion is counted after it is recorded: once the count has reached the number of arrivals, the histograms hold
//! them all.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;
use hdrhistogram::Histogram;
use parking_lot::Mutex;

use crate::job::Job;
use crate::service::Class;

/// The largest latency told apart, in nanoseconds: ten minutes. Longer ones count as this.
const MAX_NS: u64 = 600_000_000_000;

/// Significant digits of a recorded value. Three cost 120 KB per histogram, four would cost ten times as much.
const DIGITS: u8 = 3;

/// Slowdowns are recorded in hundredths.
pub const SLOWDOWN_UNIT: f64 = 100.0;

/// A histogram of this program. Its counts saturate at four thousand million, more than an hour of anything.
pub type Hdr = Histogram<u32>;

/// An empty histogram of nanoseconds or of hundredths of slowdown.
pub fn histogram() -> Hdr {
    Hdr::new_with_bounds(1, MAX_NS, DIGITS).expect("the bounds are constants")
}

/// Latencies and slowdowns of some requests.
#[derive(Clone)]
pub struct Tally {
    /// In nanoseconds.
    pub latency: Hdr,
    /// In hundredths.
    pub slowdown: Hdr,
}

impl Tally {
    fn new() -> Tally {
        Tally { latency: histogram(), slowdown: histogram() }
    }

    fn add(&mut self, other: &Tally) {
        self.latency.add(&other.latency).expect("all have the same bounds");
        self.slowdown.add(&other.slowdown).expect("all have the same bounds");
    }
}

/// Where completions go.
pub struct Recorder {
    base: Instant,
    /// Nanoseconds from the base: when the run begins.
    origin: AtomicU64,
    classes: Vec<Class>,
    stripes: Box<[CachePadded<Stripe>]>,
}

struct Stripe {
    completed: AtomicU64,
    record: Mutex<Record>,
}

struct Record {
    classes: Vec<Tally>,
    last: u64,
}

/// All that was recorded.
pub struct Recording {
    /// Of every request.
    pub all: Tally,
    /// Of the requests of each class.
    pub classes: Vec<(Class, Tally)>,
    /// The last completion, in nanoseconds from the origin; 0 if there was none.
    pub last: u64,
}

impl Recording {
    /// Adds what another recorder of the same classes has recorded.
    pub fn add(&mut self, other: &Recording) {
        self.all.add(&other.all);
        for ((_, tally), (_, more)) in self.classes.iter_mut().zip(&other.classes) {
            tally.add(more);
        }
        self.last = self.last.max(other.last);
    }
}

impl Recorder {
    /// A recorder of these classes, for a run that begins at `origin`.
    pub fn new(origin: Instant, classes: &[Class]) -> Recorder {
        let stripe = || {
            CachePadded::new(Stripe {
                completed: AtomicU64::new(0),
                record: Mutex::new(Record { classes: vec![Tally::new(); classes.len()], last: 0 }),
            })
        };
        Recorder {
            base: origin,
            origin: AtomicU64::new(0),
            classes: classes.to_vec(),
            stripes: (0..num_cpus::get()).map(|_| stripe()).collect(),
        }
    }

    /// Forgets all, for a run that begins after `lead`. Nothing may be in flight.
    pub fn restart(&self, lead: Duration) {
        for stripe in &self.stripes {
            stripe.completed.store(0, Ordering::Relaxed);
            let mut record = stripe.record.lock();
            record.classes.fill_with(Tally::new);
            record.last = 0;
        }
        self.origin.store((self.base.elapsed() + lead).as_nanos() as u64, Ordering::Relaxed);
    }

    /// When the run begins.
    pub fn origin(&self) -> Instant {
        self.base + Duration::from_nanos(self.origin.load(Ordering::Relaxed))
    }

    /// Nanoseconds since the run began; 0 before.
    pub fn now(&self) -> u64 {
        // Whoever runs a request was handed it after the origin was stored.
        (self.base.elapsed().as_nanos() as u64).saturating_sub(self.origin.load(Ordering::Relaxed))
    }

    /// Records the end of a job: it is now.
    // Never inlined into a function with a check: on an untied green thread the compiler could otherwise use the
    // address of a thread-local from before a migration.
    #[inline(never)]
    pub fn complete(&self, job: &Job) {
        let now = self.now();
        let stripe = &self.stripes[current_cpu() % self.stripes.len()];
        if job.measured {
            let latency = now.saturating_sub(job.intended);
            let slowdown = latency.saturating_mul(SLOWDOWN_UNIT as u64) / job.own;
            let row = self.classes.iter().position(|class| *class == job.class);
            let row = row.expect("a recorder has the classes of its schedule");
            let mut record = stripe.record.lock();
            record.classes[row].latency.saturating_record(latency);
            record.classes[row].slowdown.saturating_record(slowdown);
            record.last = record.last.max(now);
        }
        // Release: who reads the count finds the record.
        stripe.completed.fetch_add(1, Ordering::Release);
    }

    /// How many jobs have ended, recorded or not.
    pub fn completed(&self) -> u64 {
        let counts = self.stripes.iter().map(|s| s.completed.load(Ordering::Acquire));
        counts.sum()
    }

    /// All that was recorded so far.
    pub fn recording(&self) -> Recording {
        let mut all = Tally::new();
        let mut classes: Vec<(Class, Tally)> = self.classes.iter().map(|class| (*class, Tally::new())).collect();
        let mut last = 0;
        for stripe in &self.stripes {
            let record = stripe.record.lock();
            for ((_, sum), tally) in classes.iter_mut().zip(&record.classes) {
                sum.add(tally);
                all.add(tally);
            }
            last = last.max(record.last);
        }
        Recording { all, classes, last }
    }
}

fn current_cpu() -> usize {
    // SAFETY: it takes nothing and only reads where the kernel keeps the number of the CPU.
    let cpu = unsafe { libc::sched_getcpu() };
    // -1 where the kernel cannot tell: one stripe for all is slow, not wrong.
    usize::try_from(cpu).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Arrival;
    use crate::service::Demand;
    use crate::work::Calibration;

    fn job(intended: u64, class: Class, measured: bool, calibration: &Calibration) -> Job {
        let arrival = Arrival { at: intended, demand: Demand::Time(1_000), class };
        Job::new(&arrival, measured, calibration)
    }

    #[test]
    fn many_threads_lose_nothing() {
        let calibration = Calibration::measure(None, None);
        let recorder = Recorder::new(Instant::now(), &[Class::Short, Class::Long]);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for i in 0..1_000 {
                        let class = if i % 10 == 0 { Class::Long } else { Class::Short };
                        job(0, class, i >= 100, &calibration).serve(&recorder);
                    }
                });
            }
        });
        assert_eq!(recorder.completed(), 4_000);
        let recording = recorder.recording();
        assert_eq!(recording.all.latency.len(), 3_600);
        assert_eq!(recording.classes[0].1.latency.len(), 3_240);
        assert_eq!(recording.classes[1].1.slowdown.len(), 360);
        assert!(recording.last > 0 && recording.last <= recorder.now());
    }

    #[test]
    fn latency_and_slowdown_agree() {
        let calibration = Calibration::measure(None, None);
        let origin = Instant::now() - Duration::from_millis(50);
        let recorder = Recorder::new(origin, &[Class::Ordinary]);
        let job = job(10_000_000, Class::Ordinary, true, &calibration);
        recorder.complete(&job);
        let all = recorder.recording().all;
        assert!(all.latency.max() >= 39_900_000, "{}", all.latency.max());
        let expected = all.latency.max() as f64 / job.own as f64;
        let slowdown = all.slowdown.max() as f64 / SLOWDOWN_UNIT;
        assert!((slowdown / expected - 1.0).abs() < 0.01, "{slowdown} {expected}");
    }
}
