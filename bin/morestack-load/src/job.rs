//! What one request carries, and what it does when it runs.

use crate::record::Recorder;
use crate::schedule::Arrival;
use crate::service::Class;
use crate::work::{Calibration, Work};

/// A request, ready to run.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    /// The intended arrival, in nanoseconds from the recorder's origin.
    pub intended: u64,
    /// How long its work takes alone, in nanoseconds.
    pub own: u64,
    /// The row of the report it belongs to.
    pub class: Class,
    /// Whether it is recorded. Those of the warm-up are not.
    pub measured: bool,
    work: Work,
}

impl Job {
    /// The job of an arrival.
    pub fn new(arrival: &Arrival, measured: bool, calibration: &Calibration) -> Job {
        let deep = arrival.class == Class::Deep;
        let (work, own) = calibration.work(arrival.demand, deep);
        Job { intended: arrival.at, own, class: arrival.class, measured, work }
    }

    /// Does the work and records its end.
    pub fn serve(self, recorder: &Recorder) {
        self.work.run();
        recorder.complete(&self);
    }
}
