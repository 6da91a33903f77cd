//! How contenders are measured.
//!
//! ```text
//!   warm-up      A   B   C      not counted: caches, pools and branch predictors fill, threads start
//!   round 1      A   B   C  ─┐
//!   round 2      A   B   C   ├─ one sample each: time of the run, or memory after it / operations in it
//!   ...                     ─┘
//! ```
//!
//! Of the samples the median counts, since a disturbance makes a run slower and never faster by as much. The smallest and
//! the largest are given with it, unfiltered: a median whose spread is wide is not worth much.
//!
//! The ratio is to the first peer; in a benchmark that has groups, to the fastest peer of the contender's group.

use std::time::Duration;

/// One way to do the work of a benchmark.
pub(crate) struct Contender {
    /// What it is.
    pub(crate) name: &'static str,
    /// Whether it is something else than Morestack, to compare with.
    pub(crate) peer: bool,
    /// What it is compared within; none where all contenders do the same work.
    pub(crate) group: Option<&'static str>,
    /// Whether each run needs a process that has done nothing before: see [`crate::child`].
    pub(crate) fresh: bool,
    /// Operations of a full run.
    operations: u64,
    /// Does so many operations, checks that they were done, and says what they took.
    run: Run,
}

/// A run of so many operations: what they took, in the unit of the benchmark.
type Run = Box<dyn FnMut(u64) -> u64>;

/// What a benchmark measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Nanoseconds,
    Bytes,
    /// The time that a request took as a multiple of the time that its work takes alone.
    Slowdown,
}

impl Unit {
    /// Its name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Unit::Nanoseconds => "ns",
            Unit::Bytes => "bytes",
            Unit::Slowdown => "slowdown",
        }
    }
}

impl Contender {
    /// Morestack's own way.
    pub(crate) fn own(
        name: &'static str,
        operations: u64,
        mut run: impl FnMut(u64) -> Duration + 'static,
    ) -> Contender {
        Contender::amount(name, operations, move |operations| run(operations).as_nanos() as u64)
    }

    /// The same, in the unit of the benchmark.
    pub(crate) fn amount(name: &'static str, operations: u64, run: impl FnMut(u64) -> u64 + 'static) -> Contender {
        Contender { name, peer: false, group: None, fresh: false, operations, run: Box::new(run) }
    }

    /// Another way.
    pub(crate) fn peer(name: &'static str, operations: u64, run: impl FnMut(u64) -> Duration + 'static) -> Contender {
        Contender::own(name, operations, run).into_peer()
    }

    /// Something else than Morestack.
    pub(crate) fn into_peer(self) -> Contender {
        Contender { peer: true, ..self }
    }

    /// The same under another name.
    pub(crate) fn named(self, name: &'static str) -> Contender {
        Contender { name, ..self }
    }

    /// One of those that are compared with each other only.
    pub(crate) fn in_group(self, group: &'static str) -> Contender {
        Contender { group: Some(group), ..self }
    }

    /// One whose every run begins in a process of its own.
    pub(crate) fn fresh(self) -> Contender {
        Contender { fresh: true, ..self }
    }

    /// Does so many operations.
    pub(crate) fn run(&mut self, operations: u64) -> u64 {
        (self.run)(operations)
    }

    /// Has another function do what the run does.
    pub(crate) fn run_by(&mut self, run: impl FnMut(u64) -> u64 + 'static) {
        self.run = Box::new(run);
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

/// What was measured of a contender: so many units per operation.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) name: &'static str,
    pub(crate) peer: bool,
    pub(crate) group: Option<&'static str>,
    pub(crate) operations: u64,
    /// In the order in which they were taken.
    pub(crate) samples: Vec<f64>,
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    /// The median as a multiple of the peer's: see the module's header.
    pub(crate) ratio: Option<f64>,
}

/// Measures all contenders, in turns.
pub(crate) fn measure(contenders: &mut [Contender], effort: Effort) -> Vec<Outcome> {
    let mut samples = vec![Vec::new(); contenders.len()];
    for round in 0..=effort.reps {
        for (contender, samples) in contenders.iter_mut().zip(&mut samples) {
            let operations = effort.operations(contender);
            let taken = contender.run(operations);
            // Round 0 is the warm-up.
            if round > 0 {
                samples.push(taken as f64 / operations as f64);
            }
        }
    }
    let outcome = |(contender, samples): (&Contender, Vec<f64>)| {
        let mut sorted = samples.clone();
        sorted.sort_by(f64::total_cmp);
        Outcome {
            name: contender.name,
            peer: contender.peer,
            group: contender.group,
            operations: effort.operations(contender),
            median: median(&sorted),
            min: sorted[0],
            max: sorted[sorted.len() - 1],
            samples,
            ratio: None,
        }
    };
    let mut outcomes: Vec<Outcome> = contenders.iter().zip(samples).map(outcome).collect();
    let bases: Vec<_> = outcomes.iter().map(|outcome| base(&outcomes, outcome.group)).collect();
    for (outcome, base) in outcomes.iter_mut().zip(bases) {
        outcome.ratio = base.map(|base| outcome.median / base);
    }
    outcomes
}

/// The median to compare with.
fn base(outcomes: &[Outcome], group: Option<&'static str>) -> Option<f64> {
    let mut peers = outcomes.iter().filter(|outcome| outcome.peer && outcome.group == group).map(|peer| peer.median);
    if group.is_some() { peers.min_by(f64::total_cmp) } else { peers.next() }
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
    fn in_a_group_the_fastest_peer_is_the_measure() {
        let fixed = |nanos| move |operations| Duration::from_nanos(nanos * operations);
        let mut contenders = [
            Contender::own("a", 1, fixed(6)).in_group("one"),
            Contender::peer("b", 1, fixed(8)).in_group("one"),
            Contender::peer("c", 1, fixed(4)).in_group("one"),
            Contender::own("d", 1, fixed(6)).in_group("two"),
            Contender::peer("e", 1, fixed(3)).in_group("two"),
        ];
        let ratios: Vec<_> = measure(&mut contenders, Effort::new(Some(1), false)).iter().map(|o| o.ratio).collect();
        assert_eq!(ratios, [1.5, 2.0, 1.0, 2.0, 1.0].map(Some));
    }

    #[test]
    fn quick_is_a_tenth() {
        let (outcomes, order) = run(Effort::new(None, true));
        assert_eq!(outcomes.iter().map(|outcome| outcome.operations).collect::<Vec<_>>(), [100, 1, 1]);
        assert_eq!(order.len(), 3 * (1 + 3));
    }
}
