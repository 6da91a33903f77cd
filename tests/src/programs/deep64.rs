//! 64 MiB of stack, in frames of 4 KiB that write into each other.

use std::hint::black_box;

use morestack::prologue;

use super::Size;

/// The array of a frame.
const BYTES: usize = 4096;

/// What `descend` asks for: the array, and some 200 bytes of temporaries and saved registers in an unoptimised build, with
/// room to spare.
const DESCEND: usize = BYTES + 512;

type Words = [u64; BYTES / 8];

/// Writes into the caller's array, and gives the sum of all arrays from here down, as their callees left them.
#[prologue(frame = DESCEND)]
fn descend(level: usize, levels: usize, above: &mut Words) -> u64 {
    let mut words: Words = [level as u64; BYTES / 8];
    above[level % (BYTES / 8)] += 1;
    let below = if level + 1 < levels { descend(level + 1, levels, black_box(&mut words)) } else { 0 };
    black_box(&words).iter().fold(below, |sum, word| sum.wrapping_add(*word))
}

pub(super) fn run(size: Size) -> String {
    let mib = size.pick(64, 2);
    let levels = (mib << 20) / BYTES;
    let mut first: Words = [0; BYTES / 8];
    let sum = descend(0, levels, &mut first);
    // Every level adds 1 to the array above it. The last array has no callee.
    let expected = (0..levels as u64).sum::<u64>() * (BYTES as u64 / 8) + levels as u64 - 1;
    assert_eq!(sum, expected);
    assert_eq!(first[0], 1);
    format!("{levels} frames of {BYTES} bytes: {sum}")
}
