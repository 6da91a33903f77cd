//! What a frame costs that is reached by a deep recursion for the first time, and the second.
//!
//! The first time, the spawn site is unknown and nothing lies in the large lists: the stack begins in the smallest class,
//! is copied at each doubling, and every page of every one of them is touched first by this run. So each sample is a
//! process of its own. The second time is a new green thread of the same site in the same process. It must not grow.
//!
//! The peers are an OS thread that has the whole stack from the start, the first time and again on the same stack, and
//! the bare page faults of as much memory: no recursion can cost less on memory that was never touched. As many frames
//! that stay in the caches tell how much of the rest is the memory's: on the way back each return needs its address from
//! there, and beyond the depth that the processor predicts returns for, few of them are on their way at a time.

use std::hint::black_box;
use std::ptr;
use std::thread;
use std::time::{Duration, Instant};

use morestack::Runtime;

use super::recursion::{frame, recurse};
use super::{Benchmark, runtime};
use crate::measure::{Contender, Unit};

pub(super) const BENCHMARK: Benchmark = Benchmark {
    name: "deep_recursion",
    about: "a recursion of a million frames of about 100 bytes, on fresh memory and again",
    operation: "frame",
    unit: Unit::Nanoseconds,
    contenders,
};

/// 100 MB of stack, more or less.
const FRAMES: u64 = 1_000_000;

/// Bytes of an OS thread's stack for what runs before the recursion.
const STACK_MORE: usize = 1 << 20;

/// Frames of a recursion that stays in the processor's caches.
const SHALLOW: u64 = 1000;

fn contenders() -> Vec<Contender> {
    vec![
        Contender::own("go, first", FRAMES, |frames| green(frames, 1)).fresh(),
        Contender::own("go, second", FRAMES, |frames| green(frames, 2)).fresh(),
        Contender::peer("OS thread, first", FRAMES, |frames| os_thread(frames, 1)).fresh(),
        Contender::peer("OS thread, again", FRAMES, |frames| os_thread(frames, 2)).fresh(),
        Contender::peer("OS thread, 1000 deep at a time", FRAMES, shallow).fresh(),
        Contender::peer("page faults, 4 KiB", FRAMES, |frames| faults(frames, 4 << 10)).fresh(),
        Contender::peer("page faults, 2 MiB", FRAMES, |frames| faults(frames, 2 << 20)).fresh(),
    ]
}

/// The time of the last of so many green threads of one site.
fn green(frames: u64, times: u32) -> Duration {
    let runtime = runtime(1);
    // Another site: the worker runs, the cache is filled.
    // SAFETY: the closure has nothing on its stack.
    unsafe { runtime.run(|| morestack::go(|| black_box(1)).join().expect("no panic")) };
    let mut last = Duration::ZERO;
    for time in 1..=times {
        last = once(&runtime, frames, time);
    }
    last
}

fn once(runtime: &Runtime, frames: u64, time: u32) -> Duration {
    let before = runtime.metrics().grows;
    let (deep, took) = runtime.run(move || {
        let started = Instant::now();
        // SAFETY: the recursion keeps references to its frames in its frames only.
        let deep = unsafe { morestack::go(move || recurse(frames, || ())) }.join().expect("no panic");
        (deep, started.elapsed())
    });
    deep.check(frames);
    let grows = runtime.metrics().grows - before;
    assert_eq!(grows > 0, time == 1, "grown {grows} times, the time {time}");
    took
}

/// The time of the last of so many recursions on one stack.
fn os_thread(frames: u64, times: u32) -> Duration {
    let size = (frames * frame()) as usize + STACK_MORE;
    let run = move || {
        let once = || {
            let started = Instant::now();
            let deep = recurse(frames, || ());
            let time = started.elapsed();
            deep.check(frames);
            time
        };
        let mut last = Duration::ZERO;
        for _ in 0..times {
            last = once();
        }
        last
    };
    let handle = thread::Builder::new().stack_size(size).spawn(run).expect("a thread");
    handle.join().expect("no panic")
}

/// As many frames, a few at a time.
fn shallow(frames: u64) -> Duration {
    let started = Instant::now();
    for done in (0..frames).step_by(SHALLOW as usize) {
        let frames = SHALLOW.min(frames - done);
        recurse(frames, || ()).check(frames);
    }
    started.elapsed()
}

/// A word written to each page of as much memory as the frames need, from the top down.
fn faults(frames: u64, page: usize) -> Duration {
    let size = ((frames * frame()) as usize).next_multiple_of(page);
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new private mapping at an address of the kernel's choice touches nothing that exists.
    let mapped = unsafe { libc::mmap(ptr::null_mut(), size + page, protection, flags, -1, 0) };
    assert_ne!(mapped, libc::MAP_FAILED, "an anonymous mapping");
    let base = mapped.cast::<u8>().map_addr(|addr| addr.next_multiple_of(page));
    let advice = if page > 4 << 10 { libc::MADV_HUGEPAGE } else { libc::MADV_NOHUGEPAGE };
    // A kernel that is built without huge pages refuses. Then both are 4 KiB.
    // SAFETY: the range is the mapping's.
    unsafe { libc::madvise(base.cast(), size, advice) };
    let started = Instant::now();
    let mut sum = 0;
    for at in (0..size).step_by(page).rev() {
        // SAFETY: within the mapping, which is this function's.
        unsafe {
            base.add(at).write_volatile(1);
            sum += u64::from(base.add(at).read_volatile());
        }
    }
    let time = started.elapsed();
    assert_eq!(sum, (size / page) as u64);
    // SAFETY: nothing refers to it any more.
    assert_eq!(unsafe { libc::munmap(mapped, size + page) }, 0);
    time
}
