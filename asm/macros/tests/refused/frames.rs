use morestack_macros::prologue;

#[prologue(frame = 4096)]
#[track_caller]
fn caller() {}

fn main() {
    caller();
}
