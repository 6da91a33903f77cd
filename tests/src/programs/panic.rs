//! A panic under a hundred frames: caught, thrown again half-way, and every destructor on the way run in order.

use std::cell::RefCell;
use std::fmt::Write;
use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use morestack::prologue;

use super::{Size, hash};

/// Frames between the first and the one that panics.
const FRAMES: u32 = 100;

/// The frame that catches and throws again.
const RETHROWS: u32 = 50;

/// What happened, in order.
type Log = RefCell<String>;

#[prologue]
fn note(log: &Log, what: &str, number: u32) {
    writeln!(log.borrow_mut(), "{what} {number}").expect("a string takes all");
}

/// A local of each frame, with a destructor that calls functions with a prologue while the stack unwinds.
struct Local<'a> {
    log: &'a Log,
    frame: u32,
}

impl Drop for Local<'_> {
    #[prologue]
    fn drop(&mut self) {
        let sum = sum_to(black_box(8));
        note(self.log, "drop", self.frame * 100 + sum);
    }
}

#[prologue]
fn sum_to(n: u32) -> u32 {
    if n == 0 { 0 } else { n + black_box(sum_to(n - 1)) }
}

#[prologue]
fn descend(frame: u32, log: &Log, touched: &mut u32) -> u32 {
    let local = Local { log, frame };
    *touched += 1;
    if frame == FRAMES {
        note(log, "panic in", frame);
        std::panic::panic_any(frame);
    }
    let mut mine = 0;
    let below = if frame == RETHROWS {
        match catch_unwind(AssertUnwindSafe(|| descend(frame + 1, log, &mut mine))) {
            Ok(below) => below,
            Err(payload) => {
                // The locals that the frames below wrote to are whole after the catch.
                note(log, "rethrow after", mine);
                resume_unwind(payload)
            }
        }
    } else {
        descend(frame + 1, log, &mut mine)
    };
    note(local.log, "returned to", frame);
    below + mine
}

/// Deep enough to make the stack grow after a panic has passed over it.
#[prologue]
fn deepen(n: u32) -> u32 {
    let local = black_box([n; 64]);
    if n == 0 { 0 } else { deepen(n - 1) + (local[63] == n) as u32 }
}

pub(super) fn run(size: Size) -> String {
    let log = Log::default();
    for round in 0..size.pick(20, 3) {
        note(&log, "round", round);
        let mut touched = 0;
        let caught = catch_unwind(AssertUnwindSafe(|| descend(0, &log, &mut touched)));
        let frame = *caught.expect_err("a panic").downcast::<u32>().expect("its own payload");
        note(&log, "caught from", frame);
        assert_eq!(touched, 1);
        assert_eq!(deepen(round * 10), round * 10);
    }
    let log = log.into_inner();
    let rounds: Vec<&str> = log.split("round ").skip(1).collect();
    assert!(rounds.iter().all(|round| round.split_once('\n').unzip().1 == rounds[0].split_once('\n').unzip().1));
    format!("{}\n{:016x}", rounds[0], hash(&log))
}
