extern crate self as morestack;

use morestack_macros::prologue;

pub mod __private {
    macro_rules! prologue { ($($_arg:tt)*) => {}; }
    pub(crate) use prologue;

    pub struct Outline<R>(std::marker::PhantomData<R>);

    impl<R> Outline<R> {
        pub fn new() -> Self {
            Outline(std::marker::PhantomData)
        }

        pub fn returned(&self) -> R {
            unreachable!()
        }

        pub fn run(self, body: impl FnOnce() -> R) -> R {
            body()
        }
    }
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
