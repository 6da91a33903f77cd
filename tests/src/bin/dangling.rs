//! Breaks the contract of `go` on purpose: a closure in the heap holds a pointer to a local, and the stack moves.
//!
//! Under `MORESTACK_EFENCE=1` the call of that closure must fault, and the report must say what happened.

use std::hint::black_box;

use morestack::{Runtime, prologue};

/// Makes the stack grow well beyond its first size, so that it moves.
#[prologue]
fn grow(n: usize) -> usize {
    let local = black_box([n; 64]);
    if n == 0 { 0 } else { grow(n - 1) + usize::from(local[63] == n) }
}

/// Its local stays behind when the stack moves; the closure's pointer to it is in the heap, where nobody adjusts it.
#[prologue]
fn dangling() -> u64 {
    let mut local = 1;
    let mut closure: Box<dyn FnMut() -> u64 + '_> = Box::new(|| {
        local += 1;
        local
    });
    // The closure and the box must exist in memory: without this the compiler sees through both.
    let closure = black_box(&mut closure);
    closure();
    println!("grown by {} frames", grow(4000));
    let local = closure();
    println!("the closure ran");
    local
}

fn main() {
    let runtime = Runtime::builder().workers(1).build().expect("a runtime");
    let result = runtime.run(|| {
        // SAFETY: none. The contract is broken, which is what this program is for.
        let handle = unsafe { morestack::go(dangling) };
        handle.join().expect("no panic")
    });
    println!("local is {result}");
}
