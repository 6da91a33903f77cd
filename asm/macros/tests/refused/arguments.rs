use morestack_macros::prologue;

#[prologue(depth = 3)]
fn unknown() {}

#[prologue(frame)]
fn valueless() {}

#[prologue(frame = 1, frame = 2)]
fn twice() {}

#[prologue(4096)]
fn nameless() {}

fn main() {
    unknown();
}
