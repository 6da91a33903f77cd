//! What a computation loses by being preempted.
//!
//! Two threads on one processor compute a Fibonacci number each, by a recursion with a check in every call. What counts is
//! the processor time of the threads that compute, so that others on the machine do not; where the name says so, that of
//! the whole process, which adds the thread that ends the slices.
//!
//! # Two costs
//!
//! Preemption itself is a failed check, two switches, and what they do to the caches. Apart from that, a processor may be
//! faster where a branch was never taken. With AMD's predictor (Zen 4) a function that does little but call takes up to a
//! sixth longer once its check has failed, for milliseconds, whether it is preempted or not: the branch now has a place in
//! the predictor's table, and takes a part of a cycle each time. So the first peer is a computation whose checks fail as
//! often, and which is not preempted: the ratio to it is what preemption costs, and that of "slices off" says what the
//! processor adds. An OS thread that computes the one number and then the other is what both begin with.
//!
//! The cost is a small part of the whole, and processors change their speed by more. Runs are short, so that all contenders
//! see the same changes; a hundred repetitions make the medians fit for comparison.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use core_affinity::CoreId;
use morestack::Runtime;
use morestack_asm::{STACK_PREEMPT, stackguard_slot};

use super::Benchmark;
use super::fib::{inner_calls, number, within};
use crate::measure::{Contender, Unit};

pub(super) const BENCHMARK: Benchmark = Benchmark {
    name: "preemption_cost",
    about: "two threads that compute on one processor, and are preempted",
    operation: "call",
    unit: Unit::Nanoseconds,
    contenders,
};

/// Some thirty milliseconds for both threads: three hundred short slices.
const N: u64 = 33;

const THREADS: u64 = 2;

/// Inner calls of each of two computations that take longer than a slice of a millisecond.
const WARM_UP: u64 = 1_000_000;

/// Until a runtime's threads have begun. On a machine that is busy with other things they wait for their turn.
const PATIENCE: Duration = Duration::from_secs(10);

fn contenders() -> Vec<Contender> {
    let calls = THREADS * calls(inner_calls(N));
    let micros = |us| Some(Duration::from_micros(us));
    let own = |slice: Option<u64>| move |calls| green(calls, slice.and_then(micros), Whose::Thread);
    vec![
        Contender::own("slices off", calls, own(None)),
        Contender::own("1 ms slice", calls, own(Some(1000))),
        Contender::own("100 us slice", calls, own(Some(100))),
        Contender::own("100 us slice, whole process", calls, move |calls| green(calls, micros(100), Whose::Process)),
        Contender::peer("checks fail every 100 us, slices off", calls, checks_fail),
        Contender::peer("OS thread, in turn", calls, in_turn),
        Contender::peer("2 OS threads on one core", calls, os_threads),
    ]
}

/// All calls where so many call again.
fn calls(inner: u64) -> u64 {
    2 * inner + 1
}

#[morestack::prologue]
fn fib(n: u64) -> u64 {
    if n < 2 { n } else { fib(n - 1) + fib(n - 2) }
}

/// Whose processor time.
#[derive(Clone, Copy)]
enum Whose {
    Thread,
    Process,
}

impl Whose {
    fn time(self) -> Duration {
        let clock = match self {
            Whose::Thread => libc::CLOCK_THREAD_CPUTIME_ID,
            Whose::Process => libc::CLOCK_PROCESS_CPUTIME_ID,
        };
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: writes `time`.
        assert_eq!(unsafe { libc::clock_gettime(clock, &mut time) }, 0, "a clock that Linux has");
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }

    fn taken<T>(self, run: impl FnOnce() -> T) -> (T, Duration) {
        let before = self.time();
        (run(), self.time() - before)
    }
}

/// The time of so many calls in two recursions, as `run` says it: of the largest number that takes no more, in proportion.
fn measured(operations: u64, run: impl FnOnce(u64) -> ([u64; THREADS as usize], Duration)) -> Duration {
    let (n, inner) = within(operations / THREADS / 2);
    let (results, time) = run(black_box(n));
    assert_eq!(results, [number(n); THREADS as usize]);
    time.mul_f64(operations as f64 / (THREADS * calls(inner)) as f64)
}

fn core() -> Option<CoreId> {
    core_affinity::get_core_ids()?.into_iter().next()
}

/// A new one for each run. Its threads have begun: slices end.
fn runtime(slice: Option<Duration>) -> Runtime {
    let runtime = Runtime::builder().workers(1).pin_workers(true).time_slice(slice).build().expect("a runtime");
    runtime.run(|| ());
    let started = Instant::now();
    while slice.is_some() && runtime.metrics().preemptions == 0 {
        assert!(started.elapsed() < PATIENCE, "slices do not end");
        runtime.run(|| both(within(WARM_UP).0));
    }
    runtime
}

/// The work, on a worker.
fn both(n: u64) -> [u64; THREADS as usize] {
    let both = [(); THREADS as usize].map(|()| morestack::spawn(move || fib(n)));
    both.map(|handle| handle.join().expect("no panic"))
}

fn on_worker(runtime: &Runtime, operations: u64, whose: Whose) -> Duration {
    measured(operations, |n| runtime.run(|| whose.taken(|| both(n))))
}

fn green(operations: u64, slice: Option<Duration>, whose: Whose) -> Duration {
    let runtime = runtime(slice);
    let before = runtime.metrics().preemptions;
    let time = on_worker(&runtime, operations, whose);
    let preemptions = runtime.metrics().preemptions - before;
    match slice {
        // Not so many on a machine that is busy with other things.
        Some(slice) => {
            assert!(preemptions >= (time.as_nanos() / slice.as_nanos() / 100) as u64, "{preemptions} preemptions")
        }
        None => assert_eq!(preemptions, 0, "slices are off"),
    }
    time
}

/// As without slices, but somebody makes checks fail as sysmon would. The scheduler knows of no request and goes on.
fn checks_fail(operations: u64) -> Duration {
    /// The word that the checks of a worker compare with.
    struct Guard(*const AtomicUsize);
    // SAFETY: an atomic, for as long as the worker lives.
    unsafe impl Send for Guard {}

    let runtime = runtime(None);
    let guard = runtime.run(|| Guard(stackguard_slot()));
    let (started, done) = (Barrier::new(2), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            let guard = guard;
            // SAFETY: affects the calling thread only.
            unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
            started.wait();
            while !done.load(Relaxed) {
                thread::sleep(Duration::from_micros(100));
                // SAFETY: the worker lives until the runtime is dropped. A check that fails finds a `newstack` on green
                // threads, and code on g0 has no checks.
                unsafe { (*guard.0).store(STACK_PREEMPT, Relaxed) };
            }
        });
        started.wait();
        let time = on_worker(&runtime, operations, Whose::Thread);
        done.store(true, Relaxed);
        time
    })
}

fn in_turn(operations: u64) -> Duration {
    let run = move || {
        assert!(core().is_none_or(core_affinity::set_for_current), "a core to run on");
        measured(operations, |n| Whose::Thread.taken(|| [n; THREADS as usize].map(fib)))
    };
    thread::spawn(run).join().expect("no panic")
}

fn os_threads(operations: u64) -> Duration {
    let begin = Arc::new(Barrier::new(THREADS as usize));
    measured(operations, |n| {
        let both = [(); THREADS as usize].map(|()| {
            let begin = begin.clone();
            thread::spawn(move || {
                assert!(core().is_none_or(core_affinity::set_for_current), "a core to run on");
                begin.wait();
                Whose::Thread.taken(|| fib(n))
            })
        });
        let both = both.map(|handle| handle.join().expect("no panic"));
        (both.map(|(result, _)| result), both.map(|(_, time)| time).into_iter().sum())
    })
}
