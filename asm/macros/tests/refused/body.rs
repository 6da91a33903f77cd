extern crate self as morestack;

use morestack_macros::prologue;

pub mod __private {
    macro_rules! prologue { ($($_arg:tt)*) => {}; }
    pub(crate) use prologue;
}

#[prologue]
fn tail() -> u32 {
    "text"
}

#[prologue(frame = 4096)]
fn framed(x: u32) -> u32 {
    x + missing
}

fn main() {}
