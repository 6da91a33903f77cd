use morestack_macros::prologue;

#[prologue(loops)]
fn unreadable() {
    for x in 0..3 {
        do x;
    }
}

#[prologue(loops = 3)]
fn valued() {}

fn main() {
    unreadable();
}
