//! How deep code without prologue checks goes: what `STACK_GUARD` must have room for.
//!
//! Each row paints the stack below itself, runs once, and looks for the deepest word that changed. The first run and the
//! second differ where something is set up on first use. Run it in both profiles, and with `RUST_BACKTRACE=1`:
//!
//! ```sh
//! cargo run --release -p morestack --example stack_depth
//! ```

use std::backtrace::Backtrace;
use std::collections::HashMap;
use std::hint::black_box;
use std::panic::{catch_unwind, resume_unwind};
use std::sync::{Condvar, Mutex, RwLock};
use std::time::{Duration, Instant};

/// Painted below each row: more than anything here needs.
const PAINTED: usize = 180 << 10;

/// Not painted: the frames of the painting loop itself.
const MARGIN: usize = 512;

const PAINT: u64 = 0x5041_494e_5445_4421;

/// Bytes of stack below its own frame that `f` changed.
#[inline(never)]
fn depth(f: fn()) -> usize {
    let anchor = 0_u64;
    let top = (&raw const anchor as usize - MARGIN) & !7;
    let bottom = top - PAINTED;
    for word in (bottom..top).step_by(8) {
        // SAFETY: below this frame and within the stack, which is larger than all this; nothing is live there.
        unsafe { (word as *mut u64).write_volatile(PAINT) };
    }
    f();
    // SAFETY: as above.
    let deepest = (bottom..top).step_by(8).find(|word| unsafe { (*word as *const u64).read_volatile() } != PAINT);
    &raw const anchor as usize - deepest.unwrap_or(top)
}

/// What a service calls, by name.
const ROWS: &[(&str, fn())] = &[
    ("malloc, 1 B to 1 MiB", || (0..20).for_each(|bits| drop(black_box(vec![1_u8; 1 << bits])))),
    ("format! of floats", || drop(black_box(format!("{:?} {:>20.10}", [1.5_f64; 10], 1e300)))),
    ("println!", || println!("{:<24} (printed by the row println!)", "")),
    ("HashMap growth", || drop(black_box((0..10_000).map(|i| (i, i.to_string())).collect::<HashMap<_, _>>()))),
    ("sort of 10,000", || {
        let mut numbers: Vec<u64> = (0..10_000).map(|x| x * 7919 % 10_007).collect();
        numbers.sort();
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        black_box(numbers);
    }),
    ("file I/O", || drop(black_box(std::fs::read_to_string("/proc/self/status")))),
    ("getaddrinfo", || drop(black_box(std::net::ToSocketAddrs::to_socket_addrs("localhost:80").map(Iterator::count)))),
    ("std::sync primitives", || {
        let (mutex, condvar, lock) = (Mutex::new(1), Condvar::new(), RwLock::new(2));
        let guard = mutex.lock().expect("not poisoned");
        drop(black_box(condvar.wait_timeout(guard, Duration::from_micros(10))));
        black_box((*lock.read().expect("not poisoned"), Instant::now()));
    }),
    ("std::thread::spawn + join", || std::thread::spawn(|| ()).join().expect("no panic")),
    ("unwinding, no message", || drop(black_box(catch_unwind(|| resume_unwind(Box::new(1)))))),
    ("panic! and its message", || drop(black_box(catch_unwind(|| panic!("a row that panics: {}", black_box(1)))))),
    ("backtrace, captured", || drop(black_box(Backtrace::force_capture()))),
    ("backtrace, printed", || drop(black_box(Backtrace::force_capture().to_string()))),
];

fn main() -> std::io::Result<()> {
    let rows = || ROWS.iter().map(|(_, f)| depth(*f)).collect::<Vec<_>>();
    let both = move || (rows(), rows());
    let handle = morestack::Builder::new().stack(morestack::Stack::Reserved(512 << 10)).spawn(both)?;
    let (first, second) = handle.join().expect("no row panics");
    println!("{:<28} {:>10} {:>10}", "bytes of stack", "first", "second");
    for ((name, _), (first, second)) in ROWS.iter().zip(first.iter().zip(&second)) {
        println!("{name:<28} {first:>10} {second:>10}");
    }
    Ok(())
}
