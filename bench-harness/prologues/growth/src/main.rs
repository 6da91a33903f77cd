//! `growth START MEMORY`: a green thread recurses until 1 MiB of its stack is in use, and comes back. Prints how many nanoseconds that
//! took, from its spawn to its join.
//!
//! START is `spawn`, `go` or `reserved`. The thread is the first of its spawn site, so a copying stack begins in the smallest class. On
//! `fresh` memory it is also the first of the process to go deep; on `warm` memory one of another site did so before, and has left its
//! stacks.

use std::arch::asm;
use std::hint::black_box;
use std::time::{Duration, Instant};

use morestack::{Builder, Runtime, Stack};

/// Bytes of the stack in use, in frames of the recursion.
const DEPTH: usize = 1 << 20;

/// A reserved stack that has room for that.
const RESERVED: usize = 2 * DEPTH;

/// What a frame lends to the next one.
struct Lent {
    depth: u64,
    visits: u64,
    last: u64,
}

/// Numbers that live across the call, an array that is indexed in place, and what is lent to the call: with side stacks, that alone is
/// on the side stack. Returns how many frames there were, and where the last one is.
#[inline(never)]
fn descend(frames: u64, above: &mut Lent, seed: u64) -> (u64, usize) {
    let mut counts = [seed, frames, 1, 2];
    counts[(seed & 3) as usize] ^= frames;
    above.visits += 1;
    above.last = frames;
    if frames == 1 {
        return (1, here());
    }
    let mut mine = Lent { depth: above.depth + 1, visits: 0, last: 0 };
    let (mixed, turned) = (seed.wrapping_mul(0x9E37_79B9_7F4A_7C15), seed.rotate_left(7));
    let (below, lowest) = descend(frames - 1, &mut mine, mixed ^ turned);
    assert!(mine.visits == 1 && mine.last == frames - 1 && mine.depth == above.depth + 1);
    black_box(counts[(mixed & 3) as usize] ^ turned);
    (below + mine.visits, lowest)
}

fn recurse(frames: u64) -> (u64, usize) {
    let (there, lowest) = descend(black_box(frames), &mut Lent { depth: 0, visits: 0, last: 0 }, black_box(1));
    assert_eq!(there, frames);
    (there, lowest)
}

/// Where the stack pointer is.
#[inline(always)]
fn here() -> usize {
    let sp: usize;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rsp", out(reg) sp, options(nomem, nostack, preserves_flags)) };
    sp
}

/// As many frames as take [`DEPTH`] bytes in this build: what a hundred of them take is the difference that they make.
fn frames() -> u64 {
    let [few, many] = [100, 200].map(|frames| here() - recurse(frames).1);
    (DEPTH as u64 * 100).div_ceil((many - few) as u64)
}

/// What a green thread takes from its spawn to its join. The caller is its spawn site.
#[track_caller]
fn once(start: &str, frames: u64) -> Duration {
    let deep = move || recurse(frames).0;
    let started = Instant::now();
    let handle = match start {
        "spawn" => morestack::spawn(deep),
        // SAFETY: a frame keeps a reference to the frame above it, and nothing else refers to any.
        "go" => unsafe { morestack::go(deep) },
        _ => Builder::new().stack(Stack::Reserved(RESERVED)).spawn(deep).expect("a size that is allowed"),
    };
    assert_eq!(handle.join().expect("no panic"), frames);
    started.elapsed()
}

/// How often a stack was too small: it was copied, or continued on a segment.
fn grown(runtime: &Runtime) -> u64 {
    let metrics = runtime.metrics();
    metrics.grows + metrics.segments
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (start, warm) = match arguments[..] {
        [start @ ("spawn" | "go" | "reserved"), "fresh"] => (start.to_owned(), false),
        [start @ ("spawn" | "go" | "reserved"), "warm"] => (start.to_owned(), true),
        _ => panic!("usage: growth spawn|go|reserved fresh|warm"),
    };
    let copying = start != "reserved";
    let frames = frames();
    let runtime = Runtime::builder().workers(1).time_slice(None).build().expect("a runtime");
    // A site of its own: the worker runs.
    runtime.run(|| morestack::spawn(|| black_box(1)).join().expect("no panic"));
    let run = |once: fn(&str, u64) -> Duration| {
        let (start, before) = (start.clone(), grown(&runtime));
        let took = runtime.run(move || once(&start, frames));
        assert_eq!(grown(&runtime) > before, copying);
        took
    };
    if warm {
        run(|start, frames| once(start, frames));
    }
    println!("{}", run(|start, frames| once(start, frames)).as_nanos());
}
