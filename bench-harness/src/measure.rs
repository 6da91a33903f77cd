//! How contenders are measured.
//!
//! ```text
//!   warm-up      A   B   C      not counted: caches, pools and branch predictors fill, threads start
//!   round 1      A   B   C  ─┐
//!   round 2      A   B   C   ├─ one sample each: time of the run / operations in it
//!   ...                     ─┘
//! ```
//!
//! Of the samples the median counts, since a disturbance makes a run slower and never faster by as much. The smallest and
//! the largest are given with it, unfiltered: a median whose spread is wide is not worth much.

use std::time::Duration;

/// One way to do the work of a benchmark.
pub(crate) struct Contender {
    /// What it is.
    pub(crate) name: &'static str,
    /// Whether it is something else than Morestack, to compare with.
    pub(crate) peer: bool,
    /// Operations of a full run.
    operations: u64,
    /// Does so many operations, checks that they were done, and gives the time that they took.
    run: Box<dyn FnMut(u64) -> Duration>,
}

impl Contender {
    /// Morestack's own way.
    pub(crate) fn own(name: &'static str, operations: u64, run: impl FnMut(u64) -> Duration + 'static) -> Contender {
        Contender { name, peer: false, operations, run: Box::new(run) }
    }

    /// Another way.
    pub(crate) fn peer(name: &'static str, operations: u64, run: impl FnMut(u64) -> Duration + 'static) -> Contender {
        Contender { name, peer: true, operations, run: Box::new(run) }
    }
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Samples of each contender.
    pub(crate) reps: u32,
    /// Whether each run does a tenth of its operations.
    pub(crate) quick: bool,
}

impl Effort {
    /// Repetitions of a benchmark: enough for a median that one disturbance, or two, cannot move.
    const REPS: u32 = 9;

    /// Repetitions in a hurry.
    const REPS_QUICK: u32 = 3;

    /// What the arguments ask for.
    pub(crate) fn new(reps: Option<u32>, quick: bool) -> Effort {
        Effort { reps: reps.unwrap_or(if quick { Self::REPS_QUICK } else { Self::REPS }), quick }
    }

    fn operations(self, contender: &Contender) -> u64 {
        if self.quick { contender.operations.div_ceil(10) } else { contender.operations }
    }
}

/// What was measured of a contender. Times are nanoseconds per operation.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) name: &'static str,
    pub(crate) peer: bool,
    pub(crate) operations: u64,
    /// In the order in which they were taken.
    pub(crate) samples: Vec<f64>,
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    /// The median as a multiple of the first peer's.
    pub(crate) ratio: Option<f64>,
}

/// Measures all contenders, in turns.
pub(crate) fn measure(contenders: &mut [Contender], effort: Effort) -> Vec<Outcome> {
    let mut samples = vec![Vec::new(); contenders.len()];
    for round in 0..=effort.reps {
        for (contender, samples) in contenders.iter_mut().zip(&mut samples) {
            let operations = effort.operations(contender);
            let time = (contender.run)(operations);
            // Round 0 is the warm-up.
            if round > 0 {
                samples.push(time.as_nanos() as f64 / operations as f64);
            }
        }
    }
    let outcome = |(contender, samples): (&Contender, Vec<f64>)| {
        let mut sorted = samples.clone();
        sorted.sort_by(f64::total_cmp);
        Outcome {
            name: contender.name,
            peer: contender.peer,
            operations: effort.operations(contender),
            median: median(&sorted),
            min: sorted[0],
            max: sorted[sorted.len() - 1],
            samples,
            ratio: None,
        }
    };
    let mut outcomes: Vec<Outcome> = contenders.iter().zip(samples).map(outcome).collect();
    let base = outcomes.iter().find(|outcome| outcome.peer).map(|peer| peer.median);
    for outcome in &mut outcomes {
        outcome.ratio = base.map(|base| outcome.median / base);
    }
    outcomes
}

/// The middle of what is sorted.
fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    /// Three contenders with given times per run, and the order in which they ran.
    fn run(effort: Effort) -> (Vec<Outcome>, String) {
        let order = Rc::new(RefCell::new(String::new()));
        let timed = |letter: char, times: &'static [u64]| {
            let (order, mut run) = (order.clone(), 0);
            move |operations: u64| {
                order.borrow_mut().push(letter);
                run += 1;
                Duration::from_nanos(times[run - 1] * operations)
            }
        };
        let mut contenders = [
            Contender::own("a", 1000, timed('a', &[900, 30, 10, 20])),
            Contender::peer("b", 10, timed('b', &[900, 40, 40, 40])),
            Contender::peer("c", 1, timed('c', &[900, 1, 3, 2])),
        ];
        let outcomes = measure(&mut contenders, effort);
        let order = order.borrow().clone();
        (outcomes, order)
    }

    #[test]
    fn interleaved_after_a_warm_up() {
        assert_eq!(run(Effort::new(Some(3), false)).1, "abcabcabcabc");
    }

    #[test]
    fn median_spread_and_ratio() {
        let (outcomes, _) = run(Effort::new(Some(3), false));
        let a = &outcomes[0];
        assert_eq!((a.median, a.min, a.max, a.ratio), (20.0, 10.0, 30.0, Some(0.5)));
        assert_eq!(a.samples, [30.0, 10.0, 20.0]);
        assert_eq!((outcomes[1].ratio, outcomes[2].ratio), (Some(1.0), Some(0.05)));
        assert_eq!(median(&[1.0, 2.0, 4.0, 8.0]), 3.0);
    }

    #[test]
    fn quick_is_a_tenth() {
        let (outcomes, order) = run(Effort::new(None, true));
        assert_eq!(outcomes.iter().map(|outcome| outcome.operations).collect::<Vec<_>>(), [100, 1, 1]);
        assert_eq!(order.len(), 3 * (1 + 3));
    }
}
