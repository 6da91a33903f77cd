use morestack_macros::prologue;

#[prologue]
const fn constant() -> u32 {
    1
}

#[prologue]
async fn asynchronous() {}

trait Walk {
    #[prologue]
    fn walk(&self);
}

#[prologue]
struct Data;

fn main() {
    constant();
}
