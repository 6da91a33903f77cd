//! What a waker of `block_on` costs, counted: one unpark, one poll, no memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::task::{Poll, Waker};

use morestack::{Runtime, block_on, spawn, yield_now};

/// Counts what each OS thread allocates.
struct Counting;

thread_local!(static ALLOCATIONS: Cell<u64> = const { Cell::new(0) });

// SAFETY: those of the system.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: by the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: by the contract.
        unsafe { System.dealloc(ptr, layout) };
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[inline(never)]
fn allocations() -> u64 {
    ALLOCATIONS.get()
}

/// One that waits is woken again and again, by several wakers each time: it runs, and polls, once for each time.
#[test]
fn a_wake_up_is_one_unpark() {
    const TIMES: u64 = 1000;
    let rt = Runtime::builder().workers(1).build().unwrap();
    rt.run(|| {
        let (polls, kept) = (Arc::new(AtomicU64::new(0)), Arc::new(OnceLock::<Waker>::new()));
        let waits = spawn({
            let (polls, kept) = (polls.clone(), kept.clone());
            move || {
                block_on(poll_fn(|cx| {
                    kept.get_or_init(|| cx.waker().clone());
                    if polls.fetch_add(1, SeqCst) == TIMES { Poll::Ready(()) } else { Poll::Pending }
                }));
            }
        });
        while rt.metrics().parks == 0 {
            yield_now();
        }
        let waker = kept.get().unwrap();
        let (parks, before) = (rt.metrics().parks, allocations());
        for time in 1..=TIMES {
            assert_eq!(polls.load(SeqCst), time);
            let others = [waker.clone(), waker.clone()];
            waker.wake_by_ref();
            others.into_iter().for_each(Waker::wake);
            while polls.load(SeqCst) == time {
                yield_now();
            }
        }
        let (allocated, after) = (allocations() - before, rt.metrics().parks);
        waits.join().unwrap();
        // It has been waiting when the first came, and was ready with the last.
        assert_eq!((after - parks, polls.load(SeqCst), allocated), (TIMES - 1, TIMES + 1, 0));
    });
}
