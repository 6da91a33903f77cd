//! What it costs to find out whether a stack may move, for each of its frames.
//!
//! In a program that `cargo morestack` built with side stacks, the frames of a stack are looked at before it moves. Here a green thread
//! stands some thousand frames deep and has them looked at from its worker's system stack, many times. Beside it, the unwinder that panics
//! and backtraces use, over the same frames.

use std::ffi::{c_int, c_void};
use std::hint::black_box;
use std::time::{Duration, Instant};

use morestack_asm::{GHead, gogo, mcall};
use morestack_stacks::{Frames, frames};

use super::{Benchmark, moves, runtime};
use crate::measure::{Contender, Unit};

pub(super) const BENCHMARK: Benchmark = Benchmark {
    name: "walk",
    about: "whether a stack may move, in a program that `cargo morestack` built",
    operation: "frame",
    unit: Unit::Nanoseconds,
    contenders,
};

/// Functions that call each other in turns, as many as deep stacks of services have different ones.
const FUNCTIONS: usize = 64;

/// Frames of a stack: as many as the smallest has room for.
const DEPTH: usize = 8 * FUNCTIONS;

/// Frames of a run: some ten milliseconds.
const FRAMES: u64 = 500 * DEPTH as u64;

fn contenders() -> Vec<Contender> {
    if !moves() {
        return Vec::new();
    }
    vec![
        Contender::own("morestack", FRAMES, |frames| run(frames, walks)),
        Contender::peer("_Unwind_Backtrace", FRAMES, |frames| run(frames, backtraces)),
    ]
}

/// So many walks of the calling green thread's stack: what they took.
type Walks = fn(u64) -> Duration;

fn run(frames: u64, walks: Walks) -> Duration {
    let runs = frames / DEPTH as u64;
    let (depth, time) = runtime(1).run(move || descend::<0>(DEPTH, runs, walks));
    assert_eq!(depth, DEPTH);
    time
}

type Descend = fn(usize, u64, Walks) -> (usize, Duration);

/// The next function down, a different one for each `N`.
#[inline(never)]
fn descend<const N: usize>(depth: usize, runs: u64, walks: Walks) -> (usize, Duration) {
    // A number of its own, so that no two of them are made one.
    black_box(N);
    if depth == 1 {
        return (1, walks(runs));
    }
    let (deeper, time) = black_box(NEXT[N])(depth - 1, runs, walks);
    (deeper + 1, time)
}

macro_rules! next {
    ($($n:literal)*) => { [$(descend::<{ (1 + $n) % FUNCTIONS }>),*] };
}

static NEXT: [Descend; FUNCTIONS] = next!(
    0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31
    32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63
);

fn walks(runs: u64) -> Duration {
    /// On g0, about `g`, which goes on afterwards.
    unsafe fn walk(g: *mut GHead, runs: usize) {
        let started = Instant::now();
        for _ in 0..runs {
            // SAFETY: suspended, and its worker runs this.
            let found = unsafe { frames(black_box(g)) };
            assert_eq!(found, Frames::Movable);
        }
        let took = started.elapsed();
        // SAFETY: on g0; its context was saved a moment ago. What it asks for next is passed on.
        unsafe {
            (*g).sched.ret = took.as_nanos() as usize;
            let next = gogo(g);
            (next.f)(next.g, next.arg);
        }
    }
    // SAFETY: on a green thread, which `walk` resumes.
    Duration::from_nanos(unsafe { mcall(walk, runs as usize) } as u64)
}

fn backtraces(runs: u64) -> Duration {
    unsafe extern "C" {
        fn _Unwind_Backtrace(trace: extern "C" fn(*mut c_void, *mut c_void) -> c_int, arg: *mut c_void) -> c_int;
    }
    extern "C" fn count(_: *mut c_void, count: *mut c_void) -> c_int {
        // SAFETY: the counter below.
        unsafe { *count.cast::<usize>() += 1 };
        0
    }
    let started = Instant::now();
    for _ in 0..runs {
        let mut found = 0usize;
        // SAFETY: as the unwinder wants it.
        unsafe { _Unwind_Backtrace(count, (&raw mut found).cast()) };
        assert!(found >= DEPTH, "{found} frames");
    }
    started.elapsed()
}
