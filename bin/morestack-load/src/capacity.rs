//! Capacity: how many requests per second the workers complete when they never run out of any.
//!
//! A closed loop: so many requests are in flight, and each that ends is replaced. They take the same way as in the run,
//! submitted from outside by one thread to a runtime of the same settings; what limits this limits the run. Latency
//! means nothing here.

use std::hint::spin_loop;
use std::time::{Duration, Instant};

use crate::cli::Config;
use crate::halt::Halt;
use crate::memory;
use crate::record::Recorder;

/// Requests in flight per worker: enough that a worker finds work while the generator looks away for some
/// microseconds, few enough that they are replaced while the caches still hold their stacks.
const IN_FLIGHT: u64 = 256;

/// The least of them per worker, however much memory each takes: one that runs, one that waits.
const LEAST_IN_FLIGHT: u64 = 2;

/// How long the loop runs before it is measured, in nanoseconds: stacks are made, caches fill.
const SETTLE: u64 = 250_000_000;

/// How long it is measured, in nanoseconds.
pub const MEASURE: u64 = 750_000_000;

/// How long at most, in nanoseconds, where services are so long that few complete.
const MEASURE_AT_MOST: u64 = 5_000_000_000;

/// Completions that are enough to stop, and those without which no rate can be told.
const ENOUGH: u64 = 1_000;
const LEAST: u64 = 30;

/// Between two looks at the completions. Looking takes the counters' cache lines away from the workers.
const PAUSE: Duration = Duration::from_micros(10);

/// What was found.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    /// Completions per second.
    pub rps: f64,
    /// Requests in flight meanwhile.
    pub in_flight: u64,
    /// How long it was measured, in nanoseconds.
    pub measured: u64,
    /// Requests submitted in all.
    pub issued: u64,
}

/// Runs the closed loop. `submit` starts one more request, which `recorder` counts when it ends.
pub fn measure(in_flight: u64, recorder: &Recorder, halt: &Halt, mut submit: impl FnMut()) -> Result<Capacity, String> {
    let mut issued = 0;
    // Keeps the loop closed until `done(nanoseconds, completions)`. Returns both, as they were then.
    let mut turn = |done: &dyn Fn(u64, u64) -> bool| loop {
        let completed = recorder.completed();
        let now = recorder.now();
        if done(now, completed) || halt.is_set() {
            return (now, completed);
        }
        while issued - completed < in_flight {
            submit();
            issued += 1;
        }
        let pause = Instant::now();
        while pause.elapsed() < PAUSE {
            spin_loop();
        }
    };
    let (from, before) = turn(&|now, _| now >= SETTLE);
    let (until, after) = turn(&|now, completed| match now - from {
        0..MEASURE => false,
        MEASURE..MEASURE_AT_MOST => completed - before >= ENOUGH,
        _ => true,
    });
    let (measured, completions) = (until - from, after - before);
    if completions < LEAST && !halt.is_set() {
        return Err(format!(
            "only {completions} requests completed in {:.1}s, too few to tell the capacity: give --rate instead of --load",
            measured as f64 / 1e9
        ));
    }
    Ok(Capacity { rps: completions as f64 * 1e9 / measured.max(1) as f64, in_flight, measured, issued })
}

/// How many requests to keep in flight: fewer where their stacks would take more than a quarter of what is left.
pub fn in_flight(config: &Config) -> u64 {
    let workers = config.workers as u64;
    let most = IN_FLIGHT * workers;
    let (Some(deep), Some(available)) = (config.deep, memory::available()) else {
        return most;
    };
    // Twice its size while it grows; and the share is a mean: at a time there may be more.
    let each = 4.0 * deep.bytes as f64 * deep.share.probability();
    let fit = (available as f64 / 4.0 / each) as u64;
    fit.clamp(LEAST_IN_FLIGHT * workers, most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Job;
    use crate::schedule::{Plan, Schedule};
    use crate::service::{Class, Service};
    use crate::work::Calibration;

    #[test]
    fn one_worker_completes_as_many_as_its_work_allows() {
        let service = Service::Fixed(50_000);
        let calibration = Calibration::measure(None, None);
        let recorder = Recorder::new(Instant::now(), &[Class::Ordinary]);
        let mut schedule = Schedule::new(Plan { seed: 1, rate: 1.0, service, deep: None });
        let found = measure(1, &recorder, &Halt::default(), || {
            let arrival = schedule.next().unwrap();
            Job::new(&arrival, false, &calibration).serve(&recorder);
        })
        .unwrap();
        // 50 us of work and 10 us of pause; a machine busy with other tests may be slow now, or while it calibrated.
        assert!(found.rps > 1_000.0 && found.rps < 40_000.0, "{found:?}");
        assert_eq!(recorder.completed(), found.issued);
    }
}
