//! How long a short request waits behind a long one.
//!
//! ```text
//!   generator   ─|──|─|────|──|──►   Poisson arrivals, 5 us of work each, and 1 ms of one in 200
//!   worker       ▪  ▪ ▪    ████████  a short one that arrives now waits for a millisecond, or for a slice
//! ```
//!
//! The loop is open: an OS thread of its own submits each request when it is due, whatever becomes of the others, and
//! latency counts from the intended arrival. A slowdown is the latency as a multiple of the time that the work takes alone.
//! What counts is the 99th percentile of the short requests' slowdowns. The load is the share of the time that the worker
//! is busy with the requests' work alone. All contenders have the same arrivals.
//!
//! The work is a number of rounds, counted out beforehand, with a check in between now and then. A limit by the clock
//! would let a request that is preempted get away with less.
//!
//! One disturbance of the machine decides a 99th percentile. So a run consists of several that are independent of each
//! other, and the median of theirs is what it gives.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use std::sync::mpsc::{TryRecvError, channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use core_affinity::CoreId;
use morestack::Runtime;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::Exp1;

use super::{Benchmark, Start, on};
use crate::measure::{Contender, Unit};

pub(super) const BENCHMARK: Benchmark = Benchmark {
    name: "tail_latency",
    about: "requests of 5 us and one in 200 of 1 ms, on one worker",
    operation: "short request, p99",
    unit: Unit::Slowdown,
    contenders,
};

/// Requests of a run: one to two seconds.
const REQUESTS: u64 = 100_000;

/// Independent parts of a run.
const PARTS: u64 = 5;

/// Nanoseconds of work.
const SHORT: u64 = 5_000;
const LONG: u64 = 1_000_000;

/// One request in so many is long.
const RARE: u32 = 200;

/// Rounds between two checks: about 100 ns.
const CHUNK: u64 = 64;

/// Between the start of the generator and the first arrival.
const LEAD: Duration = Duration::from_millis(1);

/// Until all requests are done, after the last arrival.
const PATIENCE: Duration = Duration::from_secs(10);

fn contenders() -> Vec<Contender> {
    let groups = [(0.5, "50% load"), (0.7, "70% load")];
    groups.into_iter().flat_map(|(load, name)| group(load).into_iter().map(move |c| c.in_group(name))).collect()
}

fn group(load: f64) -> Vec<Contender> {
    let green = |slice: Option<u64>, start| {
        let make = move || {
            let slice = slice.map(Duration::from_micros);
            Runtime::builder().workers(1).pin_workers(true).time_slice(slice).build().expect("a runtime")
        };
        on(make, move |runtime, requests| green(runtime, requests, load, start))
    };
    vec![
        Contender::amount("go, 100 us slice", REQUESTS, green(Some(100), Start::Go)),
        Contender::amount("spawn, 100 us slice", REQUESTS, green(Some(100), Start::Spawn)),
        Contender::amount("go, slices off", REQUESTS, green(None, Start::Go)),
        Contender::amount(
            "tokio",
            REQUESTS,
            on(tokio, move |tokio, requests| {
                measure(requests, load, |part, request| {
                    let part = part.clone();
                    tokio.spawn(async move { part.serve(request) });
                })
            }),
        )
        .into_peer(),
        Contender::amount("OS thread, first come first served", REQUESTS, move |requests| fcfs(requests, load))
            .into_peer(),
    ]
}

/// The worker's core, and the generator's.
fn cores() -> Option<(CoreId, CoreId)> {
    let cores = core_affinity::get_core_ids().filter(|cores| cores.len() > 1)?;
    Some((cores[0], cores[cores.len() - 1]))
}

fn pin(core: impl FnOnce((CoreId, CoreId)) -> CoreId) {
    assert!(cores().is_none_or(|cores| core_affinity::set_for_current(core(cores))), "a core to run on");
}

fn burn(rounds: u64) -> u64 {
    (0..rounds.div_ceil(CHUNK)).fold(1, |n, _| chunk(n))
}

#[morestack::prologue]
#[inline(never)]
fn chunk(n: u64) -> u64 {
    (0..CHUNK).fold(black_box(n), |n, _| n.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1))
}

/// Rounds of so much work: nanoseconds on a thread that nothing disturbs.
fn rounds(nanos: u64) -> u64 {
    const ROUNDS: u64 = 4_000 * CHUNK;
    const SAMPLES: usize = 51;
    static NANOS: OnceLock<f64> = OnceLock::new();
    let per_round = NANOS.get_or_init(|| {
        let sample = || {
            let started = Instant::now();
            black_box(burn(ROUNDS));
            started.elapsed().as_nanos() as f64 / ROUNDS as f64
        };
        let measure = move || {
            pin(|(worker, _)| worker);
            let mut samples = [(); SAMPLES].map(|()| sample());
            samples.sort_by(f64::total_cmp);
            samples[SAMPLES / 2]
        };
        thread::spawn(measure).join().expect("no panic")
    });
    (nanos as f64 / per_round) as u64
}

/// A request's work, and what comes of it.
#[derive(Clone, Copy)]
struct Work {
    rounds: u64,
    result: u64,
}

impl Work {
    fn new(nanos: u64) -> Work {
        let rounds = rounds(nanos);
        Work { rounds, result: burn(rounds) }
    }
}

#[derive(Clone, Copy)]
struct Request {
    index: usize,
    /// Nanoseconds from the origin: the intended arrival.
    at: u64,
    long: bool,
}

/// A part of a run.
struct Part {
    origin: Instant,
    works: [Work; 2],
    /// Nanoseconds from the intended arrival to the end, of each request.
    latency: Box<[AtomicU64]>,
    done: AtomicU64,
}

impl Part {
    fn serve(&self, request: Request) {
        let work = self.works[usize::from(request.long)];
        assert_eq!(burn(work.rounds), work.result);
        let latency = self.origin.elapsed().as_nanos() as u64 - request.at;
        self.latency[request.index].store(latency, Relaxed);
        self.done.fetch_add(1, Release);
    }
}

/// Poisson arrivals, and what kind they are.
fn requests(count: u64, load: f64, seed: u64) -> Vec<Request> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let service = SHORT as f64 + (LONG - SHORT) as f64 / f64::from(RARE);
    let mut at = 0.0;
    let request = |index| {
        at += rng.sample::<f64, _>(Exp1) * service / load;
        Request { index, at: at as u64, long: rng.random_ratio(1, RARE) }
    };
    (0..count as usize).map(request).collect()
}

/// The 99th percentile of the short requests' slowdowns, as the harness wants it: for all requests together.
fn measure(count: u64, load: f64, mut submit: impl FnMut(&Arc<Part>, Request) + Send) -> u64 {
    let each = count.div_ceil(PARTS);
    let mut p99: Vec<f64> = (1..=PARTS).map(|seed| part(&requests(each, load, seed), &mut submit)).collect();
    p99.sort_by(f64::total_cmp);
    (p99[p99.len() / 2] * count as f64) as u64
}

fn part(requests: &[Request], submit: &mut (impl FnMut(&Arc<Part>, Request) + Send)) -> f64 {
    let part = Arc::new(Part {
        works: [SHORT, LONG].map(Work::new),
        latency: requests.iter().map(|_| AtomicU64::new(0)).collect(),
        done: AtomicU64::new(0),
        origin: Instant::now() + LEAD,
    });
    let generate = || {
        pin(|(_, generator)| generator);
        for &request in requests {
            let due = part.origin + Duration::from_nanos(request.at);
            // The gaps are too short to sleep.
            while Instant::now() < due {
                std::hint::spin_loop();
            }
            submit(&part, request);
        }
    };
    thread::scope(|scope| scope.spawn(generate).join().expect("no panic"));
    let ended = Instant::now();
    while part.done.load(Acquire) < requests.len() as u64 {
        assert!(ended.elapsed() < PATIENCE, "requests are lost");
        thread::sleep(Duration::from_millis(1));
    }
    let short = requests.iter().filter(|request| !request.long);
    let mut latencies: Vec<u64> = short.map(|request| part.latency[request.index].load(Relaxed)).collect();
    latencies.sort_unstable();
    latencies[latencies.len() * 99 / 100] as f64 / SHORT as f64
}

fn green(runtime: &Runtime, requests: u64, load: f64, start: Start) -> u64 {
    measure(requests, load, |part, request| {
        let part = part.clone();
        let serve = move || part.serve(request);
        match start {
            Start::Spawn => drop(runtime.spawn(serve)),
            // SAFETY: the references it holds are to the heap.
            Start::Go => drop(unsafe { runtime.go(serve) }),
        }
    })
}

/// Not the one of a single thread: that would run where the generator does.
fn tokio() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).on_thread_start(|| pin(|(worker, _)| worker)).build().expect("a runtime of tokio's")
}

/// A thread that looks at a queue, without ever sleeping.
fn fcfs(requests: u64, load: f64) -> u64 {
    let (sender, queue) = channel::<(Arc<Part>, Request)>();
    let server = thread::spawn(move || {
        pin(|(worker, _)| worker);
        loop {
            match queue.try_recv() {
                Ok((part, request)) => part.serve(request),
                Err(TryRecvError::Empty) => std::hint::spin_loop(),
                Err(TryRecvError::Disconnected) => break,
            }
        }
    });
    let slowdown = measure(requests, load, |part, request| sender.send((part.clone(), request)).expect("a server"));
    drop(sender);
    server.join().expect("no panic");
    slowdown
}
