extern crate self as morestack;

use morestack_macros::{prologue, with_prologue};

#[path = "../../../../sched/src/outline.rs"]
mod outline;

pub mod __private {
    macro_rules! prologue { ($($_arg:tt)*) => {}; }
    pub(crate) use prologue;

    pub use crate::outline::Outline;
}

#[prologue]
fn tail() -> u32 {
    "text"
}

#[prologue(frame = 4096)]
fn framed(x: u32) -> u32 {
    x + missing
}

#[prologue(frame = 4096)]
fn framed_tail() -> u32 {
    "text"
}

#[prologue(frame = 4096)]
fn framed_return(x: bool) -> u32 {
    if x {
        return "text";
    }
    1
}

#[prologue(frame = 4096)]
fn framed_nothing() -> u32 {}

#[prologue(loops)]
fn looped() {
    for x in 0..3 {
        drop(x + "text");
    }
}

fn main() {
    let closure = with_prologue!(frame = 4096, |x: u32| -> u32 { x.missing() });
    closure("text");
}
