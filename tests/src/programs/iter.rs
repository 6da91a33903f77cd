//! Iterators over arrays on the stack, and trait objects on the stack. An iterator holds the end of its array, one past
//! the last element; a trait object is a pointer to a local beside a pointer to code.

use std::fmt::Write;

use morestack::prologue;

use super::{Size, Source};

/// Something that takes numbers.
trait Sink {
    fn take(&mut self, x: u64);
    fn result(&self) -> u64;
}

/// Adds up.
#[derive(Default)]
struct Sum(u64);

impl Sink for Sum {
    #[prologue]
    fn take(&mut self, x: u64) {
        self.0 = self.0.wrapping_add(x);
    }

    #[prologue]
    fn result(&self) -> u64 {
        self.0
    }
}

/// Keeps the last eight, in an array of its own.
#[derive(Default)]
struct Last {
    ring: [u64; 8],
    taken: usize,
}

impl Sink for Last {
    #[prologue]
    fn take(&mut self, x: u64) {
        self.ring[self.taken % 8] = x;
        self.taken += 1;
    }

    #[prologue]
    fn result(&self) -> u64 {
        self.ring.iter().fold(0, |sum, x| sum.rotate_left(5) ^ x)
    }
}

/// Passes on to two others.
struct Both<'a>(&'a mut dyn Sink, &'a mut dyn Sink);

impl Sink for Both<'_> {
    #[prologue]
    fn take(&mut self, x: u64) {
        self.0.take(x);
        self.1.take(x ^ 1);
    }

    #[prologue]
    fn result(&self) -> u64 {
        self.0.result() ^ self.1.result().rotate_left(1)
    }
}

#[prologue]
fn twist(x: u64) -> u64 {
    x.rotate_left(7).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[prologue]
fn drain(numbers: &mut dyn Iterator<Item = u64>, sink: &mut dyn Sink) -> usize {
    let mut taken = 0;
    for x in numbers {
        sink.take(twist(x));
        taken += 1;
    }
    taken
}

/// Nests `depth` sinks around one another, each on a frame of its own.
#[prologue]
fn nest(numbers: &mut dyn Iterator<Item = u64>, sink: &mut dyn Sink, depth: usize) -> usize {
    if depth == 0 {
        return drain(numbers, sink);
    }
    let mut mine = Last::default();
    let taken = nest(numbers, &mut Both(sink, &mut mine), depth - 1);
    assert_eq!(mine.taken, taken);
    taken
}

/// Borrowing adapters, several deep, over one array.
#[prologue]
fn adapters(source: &mut Source) -> [u64; 6] {
    let array: [u64; 100] = std::array::from_fn(|_| source.next());
    let offsets = [1_u64, 2, 3, 5, 8, 13, 21];
    let mut calls = 0;
    let mapped: u64 = array
        .iter()
        .zip(offsets.iter().cycle())
        .map(|(x, offset)| {
            calls += 1;
            twist(x + offset % 7)
        })
        .filter(|x| !twist(*x).is_multiple_of(3))
        .fold(0, |sum, x| sum ^ x);
    let windows = array.windows(3).map(|w| twist(w[0]) ^ w[2]).max().unwrap_or(0);
    let backwards = array
        .chunks_exact(7)
        .rev()
        .map(|chunk| chunk.iter().map(|&x| twist(x)).min().unwrap_or(0))
        .fold(0, u64::wrapping_add);
    let mut peekable = array.iter().copied().skip_while(|&x| !twist(x).is_multiple_of(5)).step_by(3).peekable();
    let peeked = peekable.peek().copied().unwrap_or(0) ^ peekable.last().unwrap_or(0);
    let mut owned = array.into_iter();
    let (front, back) = (owned.next().map_or(0, twist), owned.next_back().map_or(0, twist));
    let middle = owned.as_slice().iter().position(|&x| twist(x).is_multiple_of(31)).unwrap_or(99);
    [mapped, windows, backwards, peeked, front ^ back, calls << 32 | middle as u64]
}

pub(super) fn run(size: Size) -> String {
    let mut source = Source::new(4);
    let mut result = String::new();
    for round in 0..size.pick(20, 2) {
        let array: [u64; 64] = std::array::from_fn(|_| source.next());
        let mut sum = Sum::default();
        let mut numbers = array.iter().copied().chain(array.iter().rev().map(|&x| twist(x)));
        let taken = nest(&mut numbers, &mut sum, round);
        writeln!(result, "{taken} {:016x} {:x?}", sum.result(), adapters(&mut source)).expect("a string takes all");
    }
    result
}
