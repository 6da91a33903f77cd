//! What it costs to let the next one run.
//!
//! The contenders take turns on one processor. A yield is the whole way from one to the next: for a green thread the
//! scheduler's queue and a switch, for a coroutine the switch to its resumer and the one to the next coroutine, for a
//! task the return to its executor, the queue and a call, for an OS thread the system call. Every turn checks that
//! somebody else had the turn before.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use corosensei::{Coroutine, CoroutineResult};
use futures_lite::future;
use morestack::Runtime;

use super::peers::{self, Smol};
use super::{Benchmark, Start, on, runtime};
use crate::go;
use crate::measure::{Contender, Unit};

pub(super) const BENCHMARK: Benchmark = Benchmark {
    name: "yield",
    about: "letting the next one run, all on one processor",
    operation: "yield",
    unit: Unit::Nanoseconds,
    contenders,
};

/// A second at a microsecond each, and far more than the threads that have to be started for it.
const YIELDS: u64 = 1_000_000;

fn contenders() -> Vec<Contender> {
    let green = |threads, start| on(|| runtime(1), move |runtime, yields| green(runtime, threads, yields, start));
    let tokio = |tasks| on(|| peers::tokio(1), move |runtime, yields| tokio_tasks(runtime, tasks, yields));
    let smol = |tasks| on(|| peers::smol(1), move |executor, yields| smol_tasks(executor, tasks, yields));
    let may = |threads| peers::may(1, move |yields| may_coroutines(threads, yields));
    let mut contenders = vec![
        Contender::own("2 green threads, spawn", YIELDS, green(2, Start::Spawn)),
        Contender::own("2 green threads, go", YIELDS, green(2, Start::Go)),
        Contender::own("1000 green threads, spawn", YIELDS, green(1000, Start::Spawn)),
        Contender::own("1000 green threads, go", YIELDS, green(1000, Start::Go)),
        Contender::peer("2 coroutines (corosensei)", YIELDS, coroutines),
        Contender::peer("2 tasks (tokio)", YIELDS, tokio(2)),
        Contender::peer("1000 tasks (tokio)", YIELDS, tokio(1000)),
        Contender::peer("2 tasks (smol)", YIELDS, smol(2)),
        Contender::peer("1000 tasks (smol)", YIELDS, smol(1000)),
        Contender::peer("2 coroutines (may)", YIELDS, may(2)).fresh(),
        Contender::peer("1000 coroutines (may)", YIELDS, may(1000)).fresh(),
        Contender::peer("2 OS threads on one core", YIELDS / 10, os_threads),
    ];
    contenders.extend(go::peer("yield2", 1, YIELDS).map(|go| go.named("2 goroutines (Go)")));
    contenders.extend(go::peer("yield1000", 1, YIELDS).map(|go| go.named("1000 goroutines (Go)")));
    contenders
}

/// Who had the last turn, and how often it went to another.
#[derive(Default)]
struct Turns {
    last: AtomicU64,
    changes: AtomicU64,
}

impl Turns {
    /// Takes the turn. A plain load and store each: only one runs at a time.
    fn take(&self, me: u64) {
        if self.last.load(Relaxed) != me {
            self.last.store(me, Relaxed);
            self.changes.store(self.changes.load(Relaxed) + 1, Relaxed);
        }
    }

    /// Checks that `yields` yields changed the turn, but for the few while threads start and end.
    fn check(&self, yields: u64) {
        let changes = self.changes.load(Relaxed);
        assert!(changes + yields / 100 + 2 >= yields, "{yields} yields, but {changes} turns");
    }
}

/// So many yields of each thread, numbered from 1.
fn turns(me: u64, each: u64, turns: &Turns, mut next: impl FnMut()) -> u64 {
    let mut done = 0;
    while done < each {
        turns.take(me);
        next();
        done += 1;
    }
    done
}

fn green(runtime: &Runtime, threads: u64, yields: u64, start: Start) -> Duration {
    let each = yields / threads;
    runtime.run(move || {
        let shared = Arc::new(Turns::default());
        let started = Instant::now();
        let handles: Vec<_> = (1..=threads)
            .map(|me| {
                let shared = shared.clone();
                // SAFETY: the closure lends nothing of its stack to anybody.
                unsafe { start.start(move || turns(me, each, &shared, morestack::yield_now)) }
            })
            .collect();
        let done: u64 = handles.into_iter().map(|handle| handle.join().expect("no panic")).sum();
        let time = started.elapsed();
        assert_eq!(done, each * threads);
        shared.check(done);
        time
    })
}

fn coroutines(yields: u64) -> Duration {
    let each = yields / 2;
    let shared = Arc::new(Turns::default());
    let mut coroutines = [1, 2].map(|me| {
        let shared = shared.clone();
        Coroutine::new(move |yielder, ()| turns(me, each, &shared, || yielder.suspend(())))
    });
    let started = Instant::now();
    let mut done = 0;
    while coroutines.iter().any(|coroutine| !coroutine.done()) {
        for coroutine in &mut coroutines {
            if let CoroutineResult::Return(turns) = coroutine.resume(()) {
                done += turns;
            }
        }
    }
    let time = started.elapsed();
    assert_eq!(done, each * 2);
    shared.check(done);
    time
}

/// As [`turns`], of a task.
async fn task_turns<F: Future<Output = ()>>(me: u64, each: u64, turns: Arc<Turns>, next: fn() -> F) -> u64 {
    let mut done = 0;
    while done < each {
        turns.take(me);
        next().await;
        done += 1;
    }
    done
}

fn tokio_tasks(runtime: &tokio::runtime::Runtime, tasks: u64, yields: u64) -> Duration {
    let each = yields / tasks;
    peers::run_tokio(runtime, async move {
        let shared = Arc::new(Turns::default());
        let started = Instant::now();
        let task = |me| tokio::spawn(task_turns(me, each, shared.clone(), tokio::task::yield_now));
        let tasks: Vec<_> = (1..=tasks).map(task).collect();
        let expected = each * tasks.len() as u64;
        let mut done = 0;
        for task in tasks {
            done += task.await.expect("no panic");
        }
        let time = started.elapsed();
        assert_eq!(done, expected);
        // Those that have yielded since it last looked run in the reverse order: the last of them has two turns in a row.
        shared.check(done / 2);
        time
    })
}

fn smol_tasks(executor: Smol, tasks: u64, yields: u64) -> Duration {
    let each = yields / tasks;
    peers::run_smol(executor, async move {
        let shared = Arc::new(Turns::default());
        let started = Instant::now();
        let task = |me| executor.spawn(task_turns(me, each, shared.clone(), future::yield_now));
        let tasks: Vec<_> = (1..=tasks).map(task).collect();
        let expected = each * tasks.len() as u64;
        let mut done = 0;
        for task in tasks {
            done += task.await;
        }
        let time = started.elapsed();
        assert_eq!(done, expected);
        shared.check(done);
        time
    })
}

fn may_coroutines(threads: u64, yields: u64) -> Duration {
    let each = yields / threads;
    let shared = Arc::new(Turns::default());
    let started = Instant::now();
    let handles: Vec<_> = (1..=threads)
        .map(|me| {
            let shared = shared.clone();
            peers::go_may(move || turns(me, each, &shared, may::coroutine::yield_now))
        })
        .collect();
    let done: u64 = handles.into_iter().map(|handle| handle.join().expect("no panic")).sum();
    let time = started.elapsed();
    assert_eq!(done, each * threads);
    shared.check(done);
    time
}

fn os_threads(yields: u64) -> Duration {
    let each = yields / 2;
    let core = core_affinity::get_core_ids().and_then(|cores| cores.into_iter().next());
    // The third is this thread, which starts the clock.
    let begin = Arc::new(Barrier::new(3));
    let shared = Arc::new(Turns::default());
    let handles = [1, 2].map(|me| {
        let (begin, shared) = (begin.clone(), shared.clone());
        thread::spawn(move || {
            assert!(core.is_none_or(core_affinity::set_for_current), "a core to run on");
            begin.wait();
            turns(me, each, &shared, thread::yield_now)
        })
    });
    begin.wait();
    let started = Instant::now();
    let done: u64 = handles.into_iter().map(|handle| handle.join().expect("no panic")).sum();
    let time = started.elapsed();
    // The kernel decides who runs next. It may be the one that yielded.
    assert_eq!(done, each * 2);
    time
}
