//! Two hundred thousand green threads that all wait at the same time, each on its stack. Then all are woken and joined.
//!
//! Prints how many there were, what they cost in mappings and in memory, and how long it took.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use morestack::{JoinHandle, Runtime, park};

/// How many.
const COUNT: usize = 200_000;

/// Of each. Reserved: the stack stays what it is, however long its green thread waits.
const STACK: usize = 64 << 10;

static WAITING: AtomicUsize = AtomicUsize::new(0);

/// How many mappings the process has, of the `vm.max_map_count` that it may have.
fn mappings() -> usize {
    fs::read_to_string("/proc/self/maps").expect("the kernel's list").lines().count()
}

fn main() {
    let runtime = Runtime::builder().workers(4).stack_size(STACK).build().expect("a runtime");
    let before = mappings();
    let start = Instant::now();
    let handles: Vec<JoinHandle<usize>> = (0..COUNT)
        .map(|n| {
            runtime.spawn(move || {
                let local = n;
                WAITING.fetch_add(1, Ordering::SeqCst);
                park();
                local
            })
        })
        .collect();
    let mut waiting = 0;
    while waiting < COUNT {
        thread::sleep(Duration::from_millis(5));
        let before = std::mem::replace(&mut waiting, WAITING.load(Ordering::SeqCst));
        // Nothing happens any more: without guards for all, some have failed.
        if before == waiting && waiting + handles.iter().filter(|handle| handle.is_finished()).count() == COUNT {
            break;
        }
    }
    println!("waiting {}", WAITING.load(Ordering::SeqCst));
    println!("mappings {}", mappings() - before);
    println!("in_use_mib {}", morestack_stacks::stats().in_use_bytes >> 20);
    println!("peak_rss_kib {}", morestack_tests::usage::usage().ru_maxrss);
    handles.iter().for_each(|handle| handle.thread().unpark());
    let mut joined = 0;
    for (n, handle) in handles.into_iter().enumerate() {
        match handle.join() {
            Ok(value) => {
                assert_eq!(value, n);
                joined += 1;
            }
            Err(payload) => {
                let error = payload.downcast::<io::Error>().expect("the reason why there is no stack");
                assert!(error.to_string().contains("no guard page"), "{error}");
            }
        }
    }
    println!("joined {joined}");
    println!("ms {}", start.elapsed().as_millis());
    runtime.shutdown(Duration::from_secs(10)).expect("all have finished");
    println!("in_use_after {}", morestack_stacks::stats().in_use_bytes);
}
