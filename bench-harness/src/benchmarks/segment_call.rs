//! What a call costs across the boundary between a stack and a segment.
//!
//! In a program that `cargo morestack` built with side stacks, a function that is called above a frame which must not move runs on
//! a segment where its stack has no room. Here precompiled code of std calls back; from there the green thread goes so deep that the next
//! call finds no room, and makes that call many times. Beside it, the same calls where there is room.

use std::cell::Cell;
use std::fmt::{self, Display, Write};
use std::hint::black_box;
use std::time::{Duration, Instant};

use super::{Benchmark, moves, runtime};
use crate::measure::{Contender, Unit};

pub(super) const BENCHMARK: Benchmark = Benchmark {
    name: "segment_call",
    about: "a call from a stack to a segment and back, in a program that `cargo morestack` built",
    operation: "call",
    unit: Unit::Nanoseconds,
    contenders,
};

const CALLS: u64 = 10_000_000;

fn contenders() -> Vec<Contender> {
    if !moves() {
        return Vec::new();
    }
    vec![
        Contender::own("across the boundary", CALLS, |calls| run(calls, true)),
        Contender::peer("within the stack", CALLS, |calls| run(calls, false)),
    ]
}

/// Calls `f` from within `fmt::write`, which is precompiled.
fn above<R>(f: impl FnOnce() -> R) -> R {
    struct Once<F, R>(Cell<Option<F>>, Cell<Option<R>>);
    impl<F: FnOnce() -> R, R> Display for Once<F, R> {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.1.set(self.0.take().map(|f| f()));
            Ok(())
        }
    }
    let once = Once(Cell::new(Some(f)), Cell::new(None));
    write!(String::new(), "{once}").expect("a string takes it");
    once.1.take().expect("it was called")
}

/// A function with a frame, and hardly any work.
#[inline(never)]
fn callee(n: u64) -> u64 {
    black_box(nothing(n)) + 1
}

#[inline(never)]
fn nothing(n: u64) -> u64 {
    n
}

/// Where the stack pointer is.
#[inline(always)]
fn here() -> usize {
    let sp: usize;
    // SAFETY: reads a register.
    unsafe { std::arch::asm!("mov {}, rsp", out(reg) sp, options(nomem, nostack)) };
    sp
}

/// The same in a function that is called.
#[inline(never)]
fn there() -> usize {
    black_box(nothing(1));
    here()
}

/// Goes down until what is called is on another stack, and calls. Or calls at once.
#[inline(never)]
fn descend(calls: u64, across: bool) -> (Duration, u64) {
    if across && there().abs_diff(here()) < 1 << 12 {
        return black_box(descend(calls, across));
    }
    let started = Instant::now();
    let sum = (0..calls).map(callee).sum();
    (started.elapsed(), sum)
}

fn run(calls: u64, across: bool) -> Duration {
    let runtime = runtime(1);
    let (time, sum) = runtime.run(move || above(move || descend(calls, across)));
    assert_eq!(sum, calls * (calls + 1) / 2);
    let segments = runtime.metrics().segments;
    assert_eq!(segments > 0, across, "{segments} segments");
    time
}
