//! Nested functions in a green thread, for whoever wants to walk its stack: the program itself, or a debugger that stops
//! in `innermost`.

use std::backtrace::Backtrace;
use std::hint::black_box;

use clap::Parser;
use morestack::prologue;
use morestack_tests::on::On;

/// Prints a backtrace of nested functions in a green thread.
#[derive(Parser)]
struct Args {
    /// The kind of thread
    #[arg(long)]
    on: On,

    /// Frames of recursion below `outer`: enough of them make a copying stack move
    #[arg(long, default_value_t = 0)]
    deep: u32,
}

// The names appear in the tests. Each function does something after its call, so that none is a tail call, and takes its
// argument through memory, so that none is specialised.

#[inline(never)]
#[prologue]
fn outer(deep: u32) -> String {
    let text = recurse(black_box(deep));
    black_box(text)
}

#[inline(never)]
#[prologue]
fn recurse(deep: u32) -> String {
    let local = black_box([deep; 64]);
    let text = if deep == 0 { middle(black_box("frames")) } else { recurse(deep - 1) };
    black_box(local);
    black_box(text)
}

#[inline(never)]
fn middle(name: &str) -> String {
    let text = inner(black_box(name));
    black_box(text)
}

#[inline(never)]
#[prologue]
fn inner(name: &str) -> String {
    let text = innermost(black_box(name));
    black_box(text)
}

#[inline(never)]
fn innermost(name: &str) -> String {
    let text = Backtrace::force_capture().to_string();
    assert_eq!(black_box(name), "frames");
    black_box(text)
}

fn main() {
    let args = Args::parse();
    // SAFETY: no pointer to the stack outside it: std's backtrace is complete when `force_capture` returns.
    let ran = unsafe { args.on.run(1, move |_| outer(args.deep)) };
    println!("{}", ran.results[0]);
}
