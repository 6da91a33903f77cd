//! Which request arrives when, and what it asks for. All of it derives from the seed.
//!
//! Arrivals are a Poisson process: the gaps between them are exponential and independent, as those of many unrelated
//! clients are. The whole future is fixed before the run begins, whatever the system under load does; that is what
//! makes the loop open.
//!
//! # Streams
//!
//! One seed feeds three independent streams of one ChaCha generator:
//!
//! ```text
//!   seed ──┬── stream 0: gaps       in units of the mean gap, scaled by the rate
//!          ├── stream 1: services
//!          └── stream 2: deep or not
//! ```
//!
//! So a pair of runs that differ in one setting differ in that alone: turning deep requests off does not move an
//! arrival, and another rate stretches the same sequence. ChaCha, not `StdRng`: its output is fixed for good, and a
//! schedule can be repeated with a later build.
//!
//! Requests are drawn as they are needed. A schedule that is kept takes memory in proportion to the run, and would be
//! the largest part of the peak RSS that the report shows.

use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Bernoulli, Distribution, Exp1};

use crate::service::{Class, Demand, Service};
use crate::trace::Trace;
use crate::units::Share;

/// What a schedule is made of.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Where all randomness comes from.
    pub seed: u64,
    /// Mean arrivals per second.
    pub rate: f64,
    /// How service demands are distributed.
    pub service: Service,
    /// The share of requests that recurse deep.
    pub deep: Option<Share>,
}

/// One arrival.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arrival {
    /// Nanoseconds from the start of the run: the intended arrival.
    pub at: u64,
    /// The service it asks for.
    pub demand: Demand,
    /// The row of the report it belongs to.
    pub class: Class,
}

/// The sequence of arrivals: of a plan without end, of a trace as long as that is.
pub struct Schedule {
    source: Source,
    depths: ChaCha8Rng,
    deep: Bernoulli,
}

enum Source {
    Poisson {
        service: Service,
        gaps: Box<ChaCha8Rng>,
        services: Box<ChaCha8Rng>,
        mean_gap: f64,
        // A float, because gaps round to integers with an error that adds up: at 50M arrivals a second half a nanosecond
        // is 2.5% of a gap. A run of hours still has sub-nanosecond steps.
        at: f64,
    },
    Trace {
        requests: Arc<[(u64, u64)]>,
        next: usize,
    },
}

impl Schedule {
    /// The schedule of a plan.
    pub fn new(plan: Plan) -> Schedule {
        let source = Source::Poisson {
            service: plan.service,
            gaps: Box::new(stream(plan.seed, 0)),
            services: Box::new(stream(plan.seed, 1)),
            mean_gap: 1e9 / plan.rate,
            at: 0.0,
        };
        Schedule::of(source, plan.seed, plan.deep)
    }

    /// That of a trace, with a share of deep requests from the seed.
    pub fn replay(trace: &Trace, seed: u64, deep: Option<Share>) -> Schedule {
        Schedule::of(Source::Trace { requests: trace.requests(), next: 0 }, seed, deep)
    }

    fn of(source: Source, seed: u64, deep: Option<Share>) -> Schedule {
        let share = deep.map_or(0.0, Share::probability);
        Schedule { source, depths: stream(seed, 2), deep: Bernoulli::new(share).expect("a share is a probability") }
    }

    /// What comes from a time on, which becomes the new start.
    pub fn from(self, start: u64) -> impl Iterator<Item = Arrival> {
        let later = self.skip_while(move |arrival| arrival.at < start);
        later.map(move |arrival| Arrival { at: arrival.at - start, ..arrival })
    }
}

fn stream(seed: u64, n: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(n);
    rng
}

impl Source {
    fn draw(&mut self) -> Option<Arrival> {
        match self {
            Source::Poisson { service, gaps, services, mean_gap, at } => {
                let gap: f64 = gaps.sample(Exp1);
                *at += gap * *mean_gap;
                let (demand, class) = service.draw(services);
                Some(Arrival { at: *at as u64, demand, class })
            }
            Source::Trace { requests, next } => {
                let (at, own) = *requests.get(*next)?;
                *next += 1;
                Some(Arrival { at, demand: Demand::Time(own), class: Class::Ordinary })
            }
        }
    }
}

impl Iterator for Schedule {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        let arrival = self.source.draw()?;
        let deep = self.deep.sample(&mut self.depths);
        Some(Arrival { class: if deep { Class::Deep } else { arrival.class }, ..arrival })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::parse_share;

    fn plan() -> Plan {
        Plan {
            seed: 7,
            rate: 100_000.0,
            service: "bimodal:5us,1ms,0.5%".parse().unwrap(),
            deep: Some(parse_share("1%").unwrap()),
        }
    }

    fn first(plan: Plan, n: usize) -> Vec<Arrival> {
        Schedule::new(plan).take(n).collect()
    }

    #[test]
    fn the_seed_decides_everything() {
        assert_eq!(first(plan(), 10_000), first(plan(), 10_000));
        let other = Plan { seed: 8, ..plan() };
        assert_ne!(first(plan(), 10), first(other, 10));
    }

    #[test]
    fn a_schedule_is_the_same_in_every_build() {
        let head: Vec<u64> = first(plan(), 4).iter().map(|a| a.at).collect();
        assert_eq!(head, [1_583, 6_326, 27_813, 31_876]);
    }

    #[test]
    fn settings_are_independent() {
        let shallow = first(Plan { deep: None, ..plan() }, 1_000);
        let deep = first(plan(), 1_000);
        assert!(shallow.iter().zip(&deep).all(|(a, b)| a.at == b.at && a.demand == b.demand));
        assert!(deep.iter().any(|a| a.class == Class::Deep));
        assert!(shallow.iter().all(|a| a.class != Class::Deep));

        let half = first(Plan { rate: 50_000.0, ..plan() }, 1_000);
        assert!(half.iter().zip(&deep).all(|(a, b)| a.at.abs_diff(2 * b.at) <= 2 && a.demand == b.demand));
    }

    #[test]
    fn a_part_is_the_rest_of_the_whole() {
        let whole = first(plan(), 1_000);
        let start = whole[400].at;
        let part: Vec<Arrival> = Schedule::new(plan()).from(start).take(600).collect();
        let rest = whole[400..].iter().map(|arrival| Arrival { at: arrival.at - start, ..*arrival });
        assert!(part.iter().copied().eq(rest));
    }

    #[test]
    fn gaps_and_shares_are_as_asked_for() {
        let n = 200_000;
        let arrivals = first(plan(), n);
        assert!(arrivals.is_sorted_by_key(|a| a.at));
        let mean_gap = arrivals[n - 1].at as f64 / n as f64;
        assert!((mean_gap / 10_000.0 - 1.0).abs() < 0.02, "{mean_gap}");
        // Poisson: the share of gaps above the mean is 1/e.
        let long_gaps = arrivals.windows(2).filter(|w| w[1].at - w[0].at > 10_000).count();
        assert!((long_gaps as f64 / n as f64 - 0.3679).abs() < 0.01, "{long_gaps}");
        let share = |class| arrivals.iter().filter(|a| a.class == class).count() as f64 / n as f64;
        assert!((share(Class::Deep) - 0.01).abs() < 0.002);
        assert!((share(Class::Long) - 0.005).abs() < 0.001);
    }
}
