//! Counters: written by one thread each, read by anyone, never locked.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

use crate::idle::Workers;
use crate::p::P;
use crate::sched::Sched;

/// A counter with one writer: a load and a store, not an atomic addition, so that it costs what a plain one does. Who reads
/// a count sees what was done before it was counted.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// For the one writer.
    #[inline(always)]
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Release);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Acquire)
    }
}

macro_rules! metrics {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The counters of a P; the holder of the P writes. And those of sysmon.
        #[derive(Default)]
        pub(crate) struct PStats {
            $(pub(crate) $name: Counter,)*
            lateness: [Counter; LATENESS],
            answers: [Counter; LATENESS],
        }

        /// What one worker of a [`Runtime`](crate::Runtime) has done, and what waits for it: see [`Metrics`].
        ///
        /// A worker here is the right to run green threads, which passes from one OS thread to another where one blocks: Go's P.
        #[derive(Clone, Debug, Default)]
        #[non_exhaustive]
        pub struct WorkerMetrics {
            /// Green threads in its run queue, which others may take. Those that are tied to its OS thread are not among them.
            pub queued: u64,
            /// As [`Metrics::preemptions_requested`].
            pub preemptions_requested: u64,
            /// Time slices that it began, modulo 2^32. A green thread that hands over to another shares its slice.
            pub slices: u64,
            $($(#[$doc])* pub $name: u64,)*
            /// As [`Metrics::timer_lateness`].
            pub timer_lateness: Lateness,
            /// As [`Metrics::preemption_lateness`].
            pub preemption_lateness: Lateness,
        }

        /// What a [`Runtime`](crate::Runtime) has done since it started.
        ///
        /// The counters are read one after another while the runtime goes on: each is right, their sums may be off by
        /// what happened in between. Nobody waits for that.
        #[derive(Clone, Debug, Default)]
        #[non_exhaustive]
        pub struct Metrics {
            /// OS threads that run green threads at a time.
            pub workers: u64,
            /// OS threads for green threads that there are: the workers, those that are blocked, and some to spare.
            pub threads: u64,
            /// Green threads from outside that no worker has taken yet.
            pub injected: u64,
            /// Time slices that sysmon wanted to end: they were over, and somebody waited. Those that ended by themselves before the
            /// next prologue are among them.
            pub preemptions_requested: u64,
            /// Green threads spawned.
            pub spawned: u64,
            /// Most stacks that were in use at a time, give or take 16 per worker.
            pub peak_stacks: u64,
            $($(#[$doc])* pub $name: u64,)*
            /// By how much sleepers were made runnable after their time, one entry per sleep that ended. What they then waited
            /// for their turn is not in it.
            pub timer_lateness: Lateness,
            /// From the request for preemption to the prologue at which it was answered, one entry per preemption.
            pub preemption_lateness: Lateness,
            /// The same for each worker. What sysmon did is in the sums only.
            pub per_worker: Vec<WorkerMetrics>,
        }

        impl WorkerMetrics {
            fn read(p: &P) -> WorkerMetrics {
                let of = |counters| {
                    let mut lateness = Lateness::default();
                    lateness.add(counters);
                    lateness
                };
                WorkerMetrics {
                    queued: p.queued() as u64,
                    preemptions_requested: p.requests.get(),
                    slices: u64::from(p.schedtick.load(Relaxed)),
                    timer_lateness: of(&p.stats.lateness),
                    preemption_lateness: of(&p.stats.answers),
                    $($name: p.stats.$name.get(),)*
                }
            }
        }

        impl Metrics {
            pub(crate) fn read(sched: &Sched) -> Metrics {
                let mut m = Metrics {
                    workers: sched.count() as u64,
                    threads: sched.live_threads.load(Relaxed) as u64,
                    injected: sched.injector.len() as u64,
                    preemptions_requested: sched.ps().map(|p| p.requests.get()).sum(),
                    per_worker: sched.ps().take(sched.count()).map(WorkerMetrics::read).collect(),
                    spawned: sched.spawned_outside.load(Relaxed),
                    peak_stacks: sched.stacks.peak(),
                    ..Metrics::default()
                };
                for stats in sched.ps().map(|p| &p.stats).chain([&sched.sweep_stats]) {
                    m.spawned += stats.spawned_here.get();
                    $(m.$name += stats.$name.get();)*
                    m.timer_lateness.add(&stats.lateness);
                    m.preemption_lateness.add(&stats.answers);
                }
                m
            }
        }
    };
}

metrics! {
    /// Of those spawned: by green threads of this runtime.
    spawned_here,
    /// Green threads that finished, by returning or by panicking.
    completed,
    /// Green threads taken off their thread at a prologue because their time slice was over.
    preemptions,
    /// Checks that failed for a request for preemption and could not answer it: while unwinding, in `without_preemption`, in code of
    /// third parties that `cargo morestack` built.
    preemptions_deferred,
    /// Times another OS thread took this worker over, because its own was blocked, or to give it back.
    handoffs,
    /// Times a worker took from another's queue: one green thread or half of them.
    steals,
    /// Times a green thread gave its OS thread back to wait: parks and sleeps.
    parks,
    /// Stacks grown by copying.
    grows,
    /// Stacks shrunk by copying.
    shrinks,
    /// Bytes copied by growing and shrinking.
    bytes_copied,
    /// Segments allocated, for functions called above a frame that must not move.
    segments,
    /// Stacks of green threads that waited for long, packed into small blocks ([`freeze_after`]).
    ///
    /// [`freeze_after`]: crate::RuntimeBuilder::freeze_after
    freezes,
    /// Stacks of green threads that waited for longer still, of which the unused pages were given back to the system.
    given_back,
}

/// Classes of lateness: below 1 us, and then doubling up to 4 s. What is later is in the last, too.
const LATENESS: usize = 24;

impl PStats {
    /// A sleeper was made runnable so many nanoseconds after its time. For the one writer.
    #[inline]
    pub(crate) fn late(&self, nanos: u64) {
        self.lateness[class(nanos)].add(1);
    }

    /// A request for preemption was answered after so many nanoseconds. For the one writer.
    pub(crate) fn answered(&self, nanos: u64) {
        self.answers[class(nanos)].add(1);
    }
}

fn class(nanos: u64) -> usize {
    let class = u64::BITS - (nanos / 1000).leading_zeros();
    (class as usize).min(LATENESS - 1)
}

/// A histogram of durations, in classes that double: [`Metrics::timer_lateness`], [`Metrics::preemption_lateness`].
///
/// ```
/// use std::time::Duration;
///
/// let runtime = morestack::Runtime::new()?;
/// runtime.run(|| (0..10).for_each(|_| morestack::sleep(Duration::from_micros(100))));
/// let late = runtime.metrics().timer_lateness;
/// assert_eq!(late.count(), 10);
/// println!("half of them by less than {:?}", late.quantile(0.5));
/// for (below, count) in late.classes() {
///     println!("< {below:?}: {count}");
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lateness([u64; LATENESS]);

impl Lateness {
    fn add(&mut self, counters: &[Counter; LATENESS]) {
        self.0.iter_mut().zip(counters).for_each(|(sum, counter)| *sum += counter.get());
    }

    /// How many there are in all.
    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The classes, from the lowest: what its durations are below, and how many they are. The first is below 1 us, each
    /// other begins where the one before ends. The last has no end but [`Duration::MAX`].
    pub fn classes(&self) -> impl Iterator<Item = (Duration, u64)> {
        let ends = (0..LATENESS - 1).map(|i| Duration::from_micros(1 << i)).chain([Duration::MAX]);
        ends.zip(self.0)
    }

    /// The end of the class up to which there are `share` of all, from 0 to 1; zero where there are none.
    pub fn quantile(&self, share: f64) -> Duration {
        let wanted = share * self.count() as f64;
        let mut seen = 0;
        self.classes()
            .filter(|(_, count)| *count > 0)
            .find(|(_, count)| {
                seen += count;
                seen as f64 >= wanted
            })
            .map_or(Duration::ZERO, |(below, _)| below)
    }
}

/// Stacks in use and their high-water mark, over all workers of a runtime.
///
/// Each P counts by itself and hands over in lots of `LOT`, so that a spawn does not touch a shared cache line.
#[derive(Default)]
pub(crate) struct StackGauge {
    live: std::sync::atomic::AtomicI64,
    peak: AtomicU64,
}

/// A P's part of a `StackGauge`; the holder's.
#[derive(Default)]
pub(crate) struct StackLot(std::cell::Cell<i64>);

/// Plucked from thin air: small beside any interesting peak, large enough to keep the shared line cold.
const LOT: i64 = 16;

impl StackGauge {
    /// One stack more (`+1`) or less (`-1`) at the P whose lot this is.
    ///
    /// The shared line is written once per lot and for each new peak: rarely once a program has warmed up.
    #[inline]
    pub(crate) fn add(&self, lot: &StackLot, by: i64) {
        let mut mine = lot.0.get() + by;
        let mut live = self.live.load(Relaxed);
        if mine.abs() >= LOT {
            live = self.live.fetch_add(mine, Relaxed) + mine;
            mine = 0;
        }
        lot.0.set(mine);
        let estimate = (live + mine).max(0) as u64;
        if estimate > self.peak.load(Relaxed) {
            self.peak.fetch_max(estimate, Relaxed);
        }
    }

    /// One stack less, at no P.
    pub(crate) fn remove(&self) {
        self.live.fetch_sub(1, Relaxed);
    }

    fn peak(&self) -> u64 {
        self.peak.load(Relaxed)
    }
}
