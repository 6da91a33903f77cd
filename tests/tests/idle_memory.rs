//! S5: a runtime with nothing to do gives the stacks that it kept for the next back to the system.
//!
//! In a process of its own: the allocator is the process's.

use std::time::{Duration, Instant};

use morestack::{Runtime, prologue};
use morestack_stacks::stats;

/// Bytes of memory that the process has in use.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux has it");
    pages.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("a number of pages") * 4096
}

/// Touches 24 KiB of the stack, and waits for all the others to have done so.
#[prologue]
fn touch() {
    let bytes = std::hint::black_box([1_u8; 24 << 10]);
    morestack::sleep(Duration::from_millis(50));
    std::hint::black_box(&bytes);
}

#[test]
fn s05_idle_workers_clear_their_caches_and_the_pool_is_swept() {
    const THREADS: usize = 2000;
    let runtime = Runtime::builder().workers(4).stack_size(128 << 10).build().expect("a runtime");
    let before = resident();
    let handles: Vec<_> = (0..THREADS).map(|_| runtime.spawn(touch)).collect();
    handles.into_iter().for_each(|handle| handle.join().expect("no panic"));
    let all = THREADS * (24 << 10);
    assert!(stats().reserved.iter().sum::<usize>() >= 60, "stacks are kept for the next");

    // A second until the caches are cleared, and two sweeps a second apart.
    let start = Instant::now();
    let mut kept = usize::MAX;
    while start.elapsed() < Duration::from_secs(20) && (kept > all / 10 || stats().cached.iter().sum::<usize>() > 0) {
        std::thread::sleep(Duration::from_millis(100));
        kept = resident().saturating_sub(before);
    }
    assert_eq!(stats().cached.iter().sum::<usize>(), 0, "no worker keeps any");
    assert!(kept <= all / 10, "{kept} of {all} bytes");
    assert_eq!(runtime.run(|| 7), 7, "and it goes on");
}
