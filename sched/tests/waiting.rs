//! The stacks of green threads that wait for long: frozen, shrunk and given back while others wake them (S16, S18, S20,
//! S23).

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use morestack::channel::{RecvError, bounded, unbounded};
use morestack::{Metrics, Runtime, prologue};

fn runtime(workers: usize, freeze_after: Option<Duration>) -> Runtime {
    Runtime::builder().workers(workers).freeze_after(freeze_after).build().unwrap()
}

/// As often as is allowed.
const SOON: Option<Duration> = Some(Duration::from_millis(1));

/// Waits until the metrics are as they should be.
#[track_caller]
fn until(runtime: &Runtime, what: &str, done: impl Fn(&Metrics) -> bool) {
    let start = Instant::now();
    while !done(&runtime.metrics()) {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}: {:?}", runtime.metrics());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Three ordinary frames with references up the stack; `wait` at the end.
#[prologue]
fn frames(n: u64, above: &mut [u64; 4], wait: &dyn Fn()) -> u64 {
    let mut mine = [n; 4];
    above[(n % 4) as usize] += n;
    let below = if n == 0 {
        wait();
        1
    } else {
        frames(n - 1, &mut mine, wait)
    };
    above[0] ^= below;
    mine.iter().fold(below, |sum, word| black_box(sum.wrapping_mul(31).wrapping_add(*word)))
}

/// What `frames` computes when nothing goes wrong.
fn expected(n: u64) -> (u64, [u64; 4]) {
    let mut top = [n; 4];
    (frames(n, &mut top, &|| ()), top)
}

#[test]
fn s20_those_that_wait_for_long_are_frozen_and_thaw_unchanged() {
    let rt = runtime(2, SOON);
    let go = Arc::new(AtomicBool::new(false));
    let handles: Vec<_> = (0..1000_u64)
        .map(|i| {
            let go = go.clone();
            // SAFETY: `frames` keeps references to locals on the stack only.
            unsafe {
                rt.go(move || {
                    let mut top = [i % 8; 4];
                    let sum = frames(i % 8, &mut top, &|| {
                        while !go.load(SeqCst) {
                            morestack::park();
                        }
                    });
                    (sum, top)
                })
            }
        })
        .collect();
    until(&rt, "frozen", |m| m.freezes == 1000);
    // All wait, and all are frozen: nobody holds a stack.
    assert!(morestack_stacks::stats().frozen_bytes >= 1000 * 100);
    go.store(true, SeqCst);
    for (i, handle) in handles.into_iter().enumerate() {
        handle.thread().unpark();
        assert_eq!(handle.join().unwrap(), expected(i as u64 % 8));
    }
}

/// One that says that it will sleep for so long does not wait for sysmon, which would come in an hour here.
#[test]
fn long_sleeps_freeze_at_once() {
    let rt = runtime(1, Some(Duration::from_secs(3600)));
    let nap = |secs| {
        let nap = move || morestack::sleep(Duration::from_secs(secs));
        // SAFETY: nothing is borrowed.
        drop(unsafe { rt.go(nap) });
        drop(rt.spawn(nap));
    };
    nap(3500);
    nap(3700);
    nap(3700);
    until(&rt, "asleep", |m| m.parks == 6);
    assert_eq!(rt.metrics().freezes, 2);
}

#[test]
fn what_was_frozen_at_once_thaws_unchanged() {
    let rt = runtime(2, SOON);
    let naps = || morestack::sleep(2 * SOON.expect("a time"));
    // SAFETY: `frames` keeps references to locals on the stack only.
    let nappers = (0..200_u64).map(|i| unsafe {
        rt.go(move || {
            let mut top = [i % 8; 4];
            (frames(i % 8, &mut top, &naps), top)
        })
    });
    let nappers: Vec<_> = nappers.collect();
    for (i, handle) in nappers.into_iter().enumerate() {
        assert_eq!(handle.join().unwrap(), expected(i as u64 % 8));
    }
    assert!(rt.metrics().freezes >= 200, "{:?}", rt.metrics());
}

/// A wait is long when the same one is seen twice: those that wait again and again are not.
#[test]
fn short_waits_do_not_freeze() {
    let rt = runtime(1, Some(Duration::from_millis(500)));
    // SAFETY: nothing is borrowed.
    let handle = unsafe {
        rt.go(|| {
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(1600) {
                morestack::sleep(Duration::from_millis(2));
            }
        })
    };
    handle.join().unwrap();
    assert_eq!(rt.metrics().freezes, 0);
}

#[test]
fn never_where_it_is_off() {
    let rt = runtime(1, None);
    // SAFETY: nothing is borrowed.
    unsafe { rt.go(|| morestack::sleep(Duration::from_millis(100))) }.join().unwrap();
    rt.spawn(|| morestack::sleep(Duration::from_millis(100))).join().unwrap();
    let m = rt.metrics();
    assert_eq!((m.freezes, m.given_back, m.shrinks), (0, 0, 0));
}

#[test]
fn sleepers_are_frozen_and_wake_in_time() {
    let rt = runtime(1, SOON);
    let handles: Vec<_> = (0..200_u64)
        .map(|i| {
            // SAFETY: as above.
            unsafe {
                rt.go(move || {
                    let start = Instant::now();
                    let wait = Duration::from_millis(20 + i);
                    let mut top = [5; 4];
                    let sum = frames(5, &mut top, &|| morestack::sleep(wait));
                    assert!(start.elapsed() >= wait);
                    (sum, top)
                })
            }
        })
        .collect();
    assert!(handles.into_iter().all(|handle| handle.join().unwrap() == expected(5)));
    assert!(rt.metrics().freezes >= 200, "{:?}", rt.metrics());
}

/// A value of several words: a torn or a lost write shows.
type Value = [u64; 6];

fn value(n: u64) -> Value {
    [n, n ^ 1, n << 8, !n, n.wrapping_mul(n), 7]
}

#[test]
fn s16_a_frozen_receiver_gets_its_value_and_a_frozen_sender_gives_its() {
    let rt = runtime(2, SOON);
    let (to_green, from_us) = bounded::<Value>(0);
    let (to_us, from_green) = bounded::<Value>(0);
    let handles: Vec<_> = (0..100)
        .map(|_| {
            let (receiver, sender) = (from_us.clone(), to_us.clone());
            // SAFETY: as above.
            unsafe {
                rt.go(move || {
                    let mut got = receiver.recv().unwrap();
                    got[5] += 1;
                    sender.send(got).unwrap();
                })
            }
        })
        .collect();
    until(&rt, "receivers", |m| m.freezes == 100);
    (0..100).for_each(|n| to_green.send(value(n)).unwrap());
    until(&rt, "senders", |m| m.freezes == 200);
    let mut got: Vec<_> = (0..100).map(|_| from_green.recv().unwrap()).collect();
    got.sort_unstable();
    let mut all: Vec<_> = (0..100).map(value).collect();
    all.iter_mut().for_each(|value| value[5] += 1);
    all.sort_unstable();
    assert_eq!(got, all);
    handles.into_iter().for_each(|handle| handle.join().unwrap());
}

#[test]
fn a_frozen_receiver_is_woken_when_the_channel_is_disconnected() {
    let rt = runtime(1, SOON);
    let (sender, receiver) = unbounded::<String>();
    // SAFETY: nothing is borrowed.
    let waits = unsafe { rt.go(move || (receiver.recv(), receiver.recv())) };
    until(&rt, "frozen", |m| m.freezes == 1);
    sender.send("last".to_owned()).unwrap();
    until(&rt, "again", |m| m.freezes == 2);
    drop(sender);
    assert_eq!(waits.join().unwrap(), (Ok("last".to_owned()), Err(RecvError)));
}

/// Rings of green threads that pass values on as fast as they can, while sysmon freezes and shrinks whoever it finds
/// waiting, and OS threads push values in and take them out.
#[test]
fn s16_no_value_is_lost_while_stacks_move() {
    const RINGS: u64 = 8;
    const LINKS: usize = 20;
    const VALUES: u64 = 300;
    let rt = runtime(3, SOON);
    let passed = Arc::new(AtomicUsize::new(0));
    let mut ends = Vec::new();
    let mut handles = Vec::new();
    for ring in 0..RINGS {
        let (first, mut receiver) = bounded::<Value>(0);
        for link in 0..LINKS {
            let (sender, next) = bounded::<Value>(link % 3);
            let (passed, from) = (passed.clone(), std::mem::replace(&mut receiver, next));
            // SAFETY: as above.
            handles.push(unsafe {
                rt.go(move || {
                    for got in from {
                        passed.fetch_add(1, SeqCst);
                        let mut top = [1; 4];
                        assert_eq!(frames(1, &mut top, &|| sender.send(got).unwrap()), expected(1).0);
                        assert_eq!(top, expected(1).1);
                    }
                })
            });
        }
        ends.push(std::thread::spawn(move || {
            for n in 0..VALUES {
                first.send(value(ring << 32 | n)).unwrap();
                // Long enough for some of the links to be frozen.
                std::thread::sleep(Duration::from_micros(n % 7 * 700));
                assert_eq!(receiver.recv().unwrap(), value(ring << 32 | n));
            }
        }));
    }
    ends.into_iter().for_each(|end| end.join().unwrap());
    handles.into_iter().for_each(|handle| handle.join().unwrap());
    assert_eq!(passed.load(SeqCst), (RINGS * VALUES) as usize * LINKS);
    assert!(rt.metrics().freezes >= 1000, "{:?}", rt.metrics());
}

#[prologue]
fn deep(n: u32) -> u32 {
    let mine = black_box([n; 100]);
    if n == 0 { 0 } else { deep(n - 1) + u32::from(mine[99] == n) }
}

/// Uses so much of its stack, 20 KiB, that it is not frozen.
#[prologue(frame = 48 << 10)]
fn wide(wait: impl Fn()) -> u64 {
    let mut words = [3_u64; 2560];
    black_box(&mut words);
    wait();
    black_box(&words).iter().sum()
}

#[test]
fn s18_a_large_stack_shrinks_while_its_green_thread_waits() {
    let rt = runtime(1, SOON);
    // SAFETY: `deep` and `wide` keep nothing anywhere else.
    let handle = unsafe {
        rt.go(|| {
            assert_eq!(deep(20_000), 20_000);
            wide(morestack::park)
        })
    };
    // From 16 MiB, which hold 20,000 frames.
    until(&rt, "halved again and again", |m| m.shrinks >= 5);
    until(&rt, "given back", |m| m.given_back == 1);
    assert_eq!(rt.metrics().freezes, 0, "too much to freeze");
    handle.thread().unpark();
    assert_eq!(handle.join().unwrap(), 3 * 2560);
}

#[test]
fn s18_one_that_runs_now_and_then_shrinks_at_a_wait() {
    // Longer than a busy machine keeps it from running: or it is frozen.
    let rt = runtime(1, Some(Duration::from_millis(50)));
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    // SAFETY: as above.
    let handle = unsafe {
        rt.go(move || {
            assert_eq!(deep(2_000), 2_000);
            while !stopped.load(SeqCst) {
                morestack::sleep(Duration::from_micros(100));
            }
        })
    };
    until(&rt, "shrunk", |m| m.shrinks >= 4);
    stop.store(true, SeqCst);
    handle.join().unwrap();
}

/// What never waits is asked at the end of its slices.
#[test]
fn s18_one_that_never_waits_shrinks_at_a_prologue() {
    let rt = Runtime::builder().workers(1).time_slice(Some(Duration::from_micros(50))).build().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    // SAFETY: as above.
    let handle = unsafe {
        rt.go(move || {
            assert_eq!(deep(2_000), 2_000);
            while !stopped.load(SeqCst) {
                morestack::checkpoint();
            }
        })
    };
    until(&rt, "shrunk", |m| m.shrinks >= 4);
    stop.store(true, SeqCst);
    handle.join().unwrap();
}

/// Pages of `[lo, hi)` that are memory.
fn resident(lo: usize, hi: usize) -> usize {
    let mut pages = vec![0_u8; (hi - lo) / 4096];
    // SAFETY: one byte for each page of the range.
    assert_eq!(unsafe { libc::mincore(lo as *mut _, hi - lo, pages.as_mut_ptr()) }, 0);
    pages.iter().filter(|page| *page & 1 != 0).count()
}

#[test]
fn s23_a_reserved_stack_gives_its_unused_pages_back() {
    let rt = runtime(1, SOON);
    let at = Arc::new(AtomicUsize::new(0));
    let here = at.clone();
    let handle = rt.spawn(move || {
        let local = black_box([1_u64; 8]);
        here.store((&raw const local) as usize, SeqCst);
        // 128 of its 256 KiB.
        assert_eq!(deep(250), 250);
        morestack::park();
        assert_eq!(deep(250), 250);
        black_box(local).iter().sum::<u64>()
    });
    until(&rt, "given back", |m| m.given_back == 1);
    let page = at.load(SeqCst) / 4096 * 4096;
    assert_eq!(resident(page - (96 << 10), page - (8 << 10)), 0, "below the frames that wait");
    assert_eq!(resident(page, page + 4096), 1, "where they are");
    handle.thread().unpark();
    assert_eq!(handle.join().unwrap(), 8);
}

/// Frozen ones in the middle of things when their runtime goes: nothing is touched that is gone.
#[test]
fn a_runtime_with_frozen_green_threads_can_be_dropped() {
    let rt = runtime(2, SOON);
    let handles: Vec<_> = (0..50)
        .map(|_| {
            // SAFETY: nothing is borrowed.
            unsafe { rt.go(morestack::park) }
        })
        .collect();
    until(&rt, "frozen", |m| m.freezes == 50);
    let threads: Vec<_> = handles.iter().map(|handle| handle.thread().clone()).collect();
    let wakers = std::thread::spawn(move || threads.iter().for_each(morestack::Thread::unpark));
    drop(rt);
    wakers.join().unwrap();
    for handle in handles {
        match handle.join() {
            Ok(()) => {}
            Err(payload) => assert!(payload.is::<morestack::RuntimeStopped>()),
        }
    }
}

/// A receiver's slot lies in its block while it is frozen, and a block is aligned for words only.
#[test]
fn s16_a_frozen_receiver_gets_a_value_of_any_alignment() {
    #[repr(align(64))]
    struct Line([u64; 8]);
    let rt = runtime(1, SOON);
    let (sender, receiver) = bounded::<Line>(0);
    let handles: Vec<_> = (0..50)
        .map(|_| {
            let receiver = receiver.clone();
            // SAFETY: nothing is borrowed.
            unsafe { rt.go(move || receiver.recv().unwrap().0[3]) }
        })
        .collect();
    until(&rt, "frozen", |m| m.freezes == 50);
    (0..50).for_each(|n| assert!(sender.send(Line([n; 8])).is_ok()));
    assert_eq!(handles.into_iter().map(|handle| handle.join().unwrap()).sum::<u64>(), 49 * 50 / 2);
}

/// The stack does not shrink below what the prologue asks for in which the slice ends.
#[test]
fn s18_a_shrink_at_a_prologue_leaves_room_for_its_frame() {
    #[prologue(frame = 310_000)]
    fn large(n: u64) -> u64 {
        let mut bytes = [0_u8; 300_000];
        let bytes = black_box(&mut bytes);
        bytes[299_999] = n as u8;
        u64::from(bytes[299_999])
    }
    let rt = Runtime::builder().workers(1).time_slice(Some(Duration::from_micros(50))).build().unwrap();
    // SAFETY: nothing is borrowed.
    let handle = unsafe {
        rt.go(|| {
            assert_eq!(deep(1_500), 1_500);
            let start = Instant::now();
            (0_u64..).take_while(|_| start.elapsed() < Duration::from_millis(300)).all(|n| large(n) == n % 256)
        })
    };
    assert!(handle.join().unwrap());
}

/// Who never has to wait in a channel is preempted there.
#[test]
fn a_green_thread_that_talks_to_itself_is_preempted() {
    let rt = Runtime::builder().workers(1).time_slice(Some(Duration::from_micros(200))).build().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let hog = rt.spawn(move || {
        let (sender, receiver) = unbounded();
        while !stopped.load(SeqCst) {
            sender.send(1).unwrap();
            assert_eq!(receiver.recv(), Ok(1));
        }
    });
    rt.spawn(move || stop.store(true, SeqCst)).join().unwrap();
    hog.join().unwrap();
}

/// The frames of a channel operation are as large as its values, and there is room made for them.
#[test]
fn large_values_make_a_copying_stack_grow() {
    const BYTES: usize = 40_000;
    // Room for the value here, and as much again for each copy that an unoptimised build makes.
    #[prologue(frame = 8 * BYTES)]
    fn add(receiver: &morestack::channel::Receiver<[u8; BYTES]>) -> usize {
        let value = receiver.recv().unwrap();
        usize::from(value[0]) + value.len()
    }
    let rt = runtime(1, None);
    for capacity in [0, 1] {
        let (sender, receiver) = bounded::<[u8; BYTES]>(capacity);
        // SAFETY: nothing is borrowed.
        let handle = unsafe { rt.go(move || add(&receiver)) };
        sender.send([1; BYTES]).unwrap();
        assert_eq!(handle.join().unwrap(), BYTES + 1);
    }
}

/// sysmon does not sleep through a long slice.
#[test]
fn s23_stacks_are_swept_however_long_a_slice_is() {
    let rt =
        Runtime::builder().workers(1).time_slice(Some(Duration::from_secs(3600))).freeze_after(SOON).build().unwrap();
    // SAFETY: nothing is borrowed.
    let handle = unsafe { rt.go(morestack::park) };
    until(&rt, "frozen", |m| m.freezes == 1);
    handle.thread().unpark();
    handle.join().unwrap();
}
