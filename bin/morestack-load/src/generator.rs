//! The generator: an OS thread of its own that submits every request at its intended arrival.
//!
//! ```text
//!   intended   |  |      | |          |    |  |  |             time ─►
//!   submitted  |  |      | |          ▒▒▒▒▒▒▒▒|||   |          ▒ the generator was held up:
//!                                                                 all that came due meanwhile goes out at once
//! ```
//!
//! The loop is open. The generator never waits for the system under load, and being late moves nothing: a request keeps
//! its intended arrival, and its latency counts from there. How late the generator was is recorded too, because a report
//! whose tail is the generator's own says nothing about the scheduler.
//!
//! # Waiting
//!
//! Far from an arrival it sleeps, with the kernel's timer slack at its least. The last [`SPIN`] it spins: a wake-up from
//! sleep takes tens of microseconds. At a rate with shorter gaps it spins throughout, which is why workers leave it a
//! CPU.

use std::time::{Duration, Instant};

use crate::halt::Halt;
use crate::record::{Hdr, histogram};
use crate::schedule::Arrival;

/// How long before an arrival sleeping ends, in nanoseconds. Wake-ups on virtual machines were seen to take 50 us. Too
/// short makes arrivals late, and the report shows it; too long only burns the generator's own CPU.
const SPIN: u64 = 60_000;

/// What a run submitted.
pub struct Issued {
    /// All requests, the warm-up's included.
    pub total: u64,
    /// Those after the warm-up.
    pub measured: u64,
    /// The generator's error: how late they were submitted, in nanoseconds.
    pub lag: Hdr,
    /// Until when arrivals were submitted, in nanoseconds from the beginning: to the end of the window, or to the halt.
    pub until: u64,
}

impl Issued {
    /// Adds another part's.
    pub fn add(&mut self, other: &Issued) {
        self.total += other.total;
        self.measured += other.measured;
        self.lag.add(&other.lag).expect("all have the same bounds");
        self.until = self.until.max(other.until);
    }
}

/// When a run begins, is measured and ends.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// The beginning.
    pub origin: Instant,
    /// The end of the warm-up, in nanoseconds from the beginning.
    pub warm: u64,
    /// The end of arrivals, in nanoseconds from the beginning.
    pub end: u64,
}

/// Submits the schedule's requests at their intended arrivals until the window or the schedule ends, or until `halt` is set.
///
/// `submit` gets each arrival, and whether it is measured.
pub fn drive(
    schedule: impl Iterator<Item = Arrival>,
    window: Window,
    halt: &Halt,
    mut submit: impl FnMut(&Arrival, bool),
) -> Issued {
    least_timer_slack();
    let mut issued = Issued { total: 0, measured: 0, lag: histogram(), until: window.end };
    for arrival in schedule.take_while(|arrival| arrival.at < window.end) {
        let now = wait_until(window.origin, arrival.at);
        if halt.is_set() {
            issued.until = now.min(window.end);
            break;
        }
        let measured = arrival.at >= window.warm;
        if measured {
            issued.measured += 1;
            issued.lag.saturating_record(now - arrival.at);
        }
        submit(&arrival, measured);
        issued.total += 1;
    }
    issued
}

/// Waits until `at` nanoseconds after the origin. Returns the nanoseconds that have passed then.
fn wait_until(origin: Instant, at: u64) -> u64 {
    loop {
        // 0 before the origin, so a sleep may end early: it is repeated.
        let now = origin.elapsed().as_nanos() as u64;
        if now >= at {
            return now;
        }
        let left = at - now;
        if left > SPIN {
            std::thread::sleep(Duration::from_nanos(left - SPIN));
        } else {
            std::hint::spin_loop();
        }
    }
}

/// Asks the kernel to end this thread's sleeps when they are due, not up to 50 us later.
fn least_timer_slack() {
    // SAFETY: PR_SET_TIMERSLACK takes a number and changes nothing but the timers of the calling thread.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::halt::Reason;
    use crate::job::Job;
    use crate::record::Recorder;
    use crate::schedule::{Plan, Schedule};
    use crate::service::{Class, Service};
    use crate::work::Calibration;

    const MS: u64 = 1_000_000;

    fn schedule(rate: f64) -> Schedule {
        Schedule::new(Plan { seed: 1, rate, service: Service::Fixed(1_000), deep: None })
    }

    fn window(warm: u64, end: u64) -> Window {
        Window { origin: Instant::now(), warm, end }
    }

    #[test]
    fn a_stalled_generator_cannot_hide() {
        let calibration = Calibration::measure(None, None);
        let window = window(0, 100 * MS);
        let recorder = Recorder::new(window.origin, &[Class::Ordinary]);
        let mut stalled = false;
        let issued = drive(schedule(2_000.0), window, &Halt::default(), |arrival, measured| {
            if !stalled {
                std::thread::sleep(Duration::from_millis(50));
                stalled = true;
            }
            Job::new(arrival, measured, &calibration).serve(&recorder);
        });
        let latency = recorder.recording().all.latency;
        assert_eq!(latency.len(), issued.measured);
        assert!(latency.max() >= 49 * MS, "{}", latency.max());
        // At 2000/s about 60 arrivals were due in the first 30 ms of the stall: each waited for 20 ms at least.
        // Counted from the submission, one request alone would show the stall.
        let held_up = latency.len() - latency.count_between(0, 19 * MS);
        assert!(held_up >= 40, "{held_up}");
        assert!(issued.lag.max() >= 49 * MS, "{}", issued.lag.max());
    }

    #[test]
    fn arrivals_are_on_time_and_in_the_window() {
        let expected = schedule(5_000.0).take_while(|a| a.at < 100 * MS).count() as u64;
        let window = window(40 * MS, 100 * MS);
        let mut seen = Vec::new();
        let issued = drive(schedule(5_000.0), window, &Halt::default(), |arrival, measured| {
            let now = window.origin.elapsed().as_nanos() as u64;
            assert!(now >= arrival.at);
            seen.push((arrival.at, measured));
        });
        assert_eq!(issued.total, expected);
        assert_eq!(seen.len() as u64, expected);
        assert!(seen.iter().all(|(at, measured)| *measured == (*at >= 40 * MS)));
        assert_eq!(issued.lag.len(), issued.measured);
    }

    #[test]
    fn a_halt_ends_the_run() {
        let halt = Halt::default();
        let mut submitted = 0;
        let issued = drive(schedule(1e6), window(0, 1_000 * MS), &halt, |_, _| {
            submitted += 1;
            if submitted == 10 {
                halt.set(Reason::Interrupted);
            }
        });
        assert_eq!((issued.total, issued.measured), (10, 10));
    }
}
