extern crate self as morestack;

use morestack_macros::prologue;

#[path = "../../../../sched/src/outline.rs"]
mod outline;

pub mod __private {
    macro_rules! prologue { ($($_arg:tt)*) => {}; }
    pub(crate) use prologue;

    pub use crate::outline::Outline;
}

#[prologue(frame = 4096)]
fn local() -> &'static str {
    let text = String::new();
    &text
}

#[prologue(frame = 4096)]
fn argument(text: String) -> &'static str {
    &text
}

#[prologue(frame = 4096)]
fn moved(text: String) -> (String, String) {
    (text, text)
}

#[prologue(frame = 4096)]
fn immutable(text: String) {
    text.push('x');
}

fn main() {}
