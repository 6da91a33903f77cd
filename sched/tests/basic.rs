//! The life of green threads: spawn, run, wait, end.

use std::io;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use morestack::{Builder, Runtime, RuntimeStopped, Stack, StackOverflow, prologue};

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).time_slice(Some(Duration::from_micros(200))).build().unwrap()
}

#[test]
fn spawn_and_join_by_the_thousand_on_each_kind_of_stack() {
    for workers in [1, 2, 4] {
        let rt = runtime(workers);
        let sum: u64 = rt.run(|| {
            let tied: Vec<_> = (0..5000_u64).map(|i| morestack::spawn(move || i)).collect();
            // SAFETY: the closure keeps no address of a local.
            let untied: Vec<_> = (0..5000_u64).map(|i| unsafe { morestack::go(move || i) }).collect();
            tied.into_iter().chain(untied).map(|h| h.join().unwrap()).sum()
        });
        assert_eq!(sum, 2 * 4999 * 5000 / 2);
        let m = rt.metrics();
        assert_eq!((m.spawned, m.workers), (10_001, workers as u64));
        rt.shutdown(Duration::from_secs(10)).unwrap();
    }
}

#[test]
fn panics_stay_inside_and_come_back_from_join() {
    let rt = runtime(2);
    let handle = rt.spawn(|| -> u32 { resume_unwind(Box::new(41_u8)) });
    assert_eq!(*handle.join().unwrap_err().downcast::<u8>().unwrap(), 41);
    assert_eq!(rt.run(|| 1), 1);
}

#[test]
fn parked_threads_wake_from_anywhere_and_no_wake_up_is_lost() {
    let rt = runtime(2);
    const ROUNDS: u64 = 20_000;
    let ball = Arc::new(AtomicU64::new(0));
    let player = |parity: u64| {
        let ball = ball.clone();
        move || {
            let other: morestack::Thread = loop {
                if let Some(t) = PEERS.lock().unwrap()[1 - parity as usize].clone() {
                    break t;
                }
                morestack::yield_now();
            };
            loop {
                let n = ball.load(Ordering::Acquire);
                if n >= ROUNDS {
                    other.unpark();
                    return;
                }
                if n % 2 == parity {
                    ball.store(n + 1, Ordering::Release);
                    other.unpark();
                } else {
                    morestack::park();
                }
            }
        }
    };
    static PEERS: std::sync::Mutex<[Option<morestack::Thread>; 2]> = std::sync::Mutex::new([None, None]);
    // Green against green, and green against an OS thread.
    let a = rt.spawn(player(0));
    let b = rt.spawn(player(1));
    *PEERS.lock().unwrap() = [Some(a.thread().clone()), Some(b.thread().clone())];
    a.join().unwrap();
    b.join().unwrap();
    assert!(ball.load(Ordering::Relaxed) >= ROUNDS);
    *PEERS.lock().unwrap() = [None, None];
    ball.store(0, Ordering::Relaxed);
    let a = rt.spawn(player(0));
    *PEERS.lock().unwrap() = [Some(a.thread().clone()), Some(morestack::current())];
    player(1)();
    a.join().unwrap();
}

#[test]
fn a_sleeper_is_not_woken_by_unpark_and_keeps_the_token() {
    let rt = runtime(1);
    let handle = rt.spawn(|| {
        let start = Instant::now();
        morestack::sleep(Duration::from_millis(30));
        let slept = start.elapsed();
        morestack::park();
        slept
    });
    while !handle.is_finished() {
        handle.thread().unpark();
        std::thread::yield_now();
    }
    assert!(handle.join().unwrap() >= Duration::from_millis(30));
}

/// Whoever is preempted goes to the tail: all take turns.
#[test]
fn s13_the_preempted_take_turns() {
    const HOGS: usize = 4;
    let rt = runtime(1);
    let turns = Arc::new(std::sync::Mutex::new(Vec::new()));
    let handles: Vec<_> = (0..HOGS)
        .map(|me| {
            let turns = turns.clone();
            rt.spawn(move || {
                let start = Instant::now();
                loop {
                    {
                        // No safepoint while it is locked.
                        let mut turns = turns.lock().unwrap();
                        if turns.len() >= 60 || start.elapsed() > Duration::from_secs(20) {
                            return;
                        }
                        if turns.last() != Some(&me) {
                            turns.push(me);
                        }
                    }
                    morestack::checkpoint();
                }
            })
        })
        .collect();
    handles.into_iter().for_each(|handle| handle.join().unwrap());
    let turns = turns.lock().unwrap();
    assert_eq!(turns.len(), 60, "{turns:?}");
    // Once each has used up a slice.
    let settled = &turns[20..];
    assert!(settled.iter().zip(&settled[HOGS..]).all(|(one, next)| one == next), "{turns:?}");
}

#[test]
fn a_hog_is_preempted_on_one_worker() {
    let rt = runtime(1);
    #[prologue]
    fn work() {
        std::hint::black_box(0);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let hogs: Vec<_> = (0..3)
        .map(|_| {
            let stop = stop.clone();
            rt.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    work();
                }
            })
        })
        .collect();
    rt.run(|| morestack::sleep(Duration::from_millis(5)));
    assert!(rt.metrics().preemptions > 0);
    assert!(rt.metrics().preemptions_requested > 0);
    stop.store(true, Ordering::Relaxed);
    for hog in hogs {
        hog.join().unwrap();
    }
}

#[test]
fn s12_without_preemption_defers_and_then_answers() {
    let rt = Runtime::builder().workers(1).time_slice(Some(Duration::from_micros(100))).build().unwrap();
    let (during, after) = rt.run(|| {
        let ran = Arc::new(AtomicBool::new(false));
        let other = {
            let ran = ran.clone();
            morestack::spawn(move || ran.store(true, Ordering::Relaxed))
        };
        let spin = |d: Duration| {
            let start = Instant::now();
            while start.elapsed() < d {
                morestack::checkpoint();
            }
        };
        let spin_until = |happened: &dyn Fn() -> bool| {
            let limit = Instant::now() + Duration::from_secs(10);
            while !happened() && Instant::now() < limit {
                spin(Duration::from_micros(100));
            }
        };
        let during = morestack::without_preemption(|| {
            spin_until(&|| rt.metrics().preemptions_deferred > 0);
            ran.load(Ordering::Relaxed)
        });
        spin_until(&|| ran.load(Ordering::Relaxed));
        let after = ran.load(Ordering::Relaxed);
        other.join().unwrap();
        (during, after)
    });
    assert_eq!((during, after), (false, true));
    assert!(rt.metrics().preemptions_deferred > 0);
}

#[prologue]
fn deep(n: u64, above: &mut u64) -> u64 {
    let mut mine = [n; 16];
    *above += 1;
    let below = if n == 0 { 0 } else { deep(n - 1, &mut mine[3]) };
    assert_eq!(mine[3], n + u64::from(n != 0));
    below + mine[0]
}

#[test]
fn a_go_thread_grows_and_shrinks() {
    let rt = Runtime::builder().workers(2).freeze_after(Some(Duration::from_millis(1))).build().unwrap();
    // SAFETY: `deep` keeps references to locals on the stack only.
    let sum = unsafe {
        rt.go(|| {
            let mut sum = 0;
            for _ in 0..3 {
                let mut top = 0;
                sum += deep(50_000, &mut top);
                assert_eq!(top, 1);
                // Asked to shrink once in a millisecond.
                for _ in 0..300 {
                    morestack::sleep(Duration::from_micros(50));
                }
            }
            sum
        })
    };
    assert_eq!(sum.join().unwrap(), 3 * 50_000 * 50_001 / 2);
    let m = rt.metrics();
    assert!(m.grows >= 6 && m.shrinks >= 6 && m.bytes_copied > 1 << 20, "{m:?}");
}

#[test]
fn s14_over_the_maximum_is_an_error_of_that_green_thread() {
    let rt = Runtime::builder().workers(1).max_stack_size(1 << 20).build().unwrap();
    // SAFETY: as above.
    let error = unsafe { rt.go(|| deep(1 << 40, &mut 0)) }.join().unwrap_err();
    assert_eq!(error.downcast::<StackOverflow>().unwrap().limit(), 1 << 20);
    let error = rt.spawn(|| deep(1 << 40, &mut 0)).join().unwrap_err();
    assert_eq!(error.downcast::<StackOverflow>().unwrap().limit(), 256 << 10);
    assert_eq!(rt.run(|| deep(100, &mut 0)), 5050);
}

#[test]
fn parking_while_unwinding_blocks_and_returns() {
    struct Joins(Option<morestack::JoinHandle<u32>>);
    impl Drop for Joins {
        fn drop(&mut self) {
            morestack::yield_now();
            morestack::sleep(Duration::from_millis(1));
            assert_eq!(self.0.take().unwrap().join().unwrap(), 7);
        }
    }
    let rt = runtime(2);
    let outer = rt.spawn(|| {
        let inner = morestack::spawn(|| {
            morestack::sleep(Duration::from_millis(5));
            7
        });
        // Lets the other worker take it.
        std::thread::sleep(Duration::from_millis(2));
        let _joins = Joins(Some(inner));
        resume_unwind(Box::new("out"))
    });
    let error: Result<(), _> = outer.join();
    assert_eq!(*error.unwrap_err().downcast::<&str>().unwrap(), "out");
}

#[test]
fn dropping_a_runtime_ends_waiting_joiners() {
    let rt = runtime(2);
    let never = rt.spawn(|| {
        loop {
            morestack::park();
        }
    });
    let asleep = rt.spawn(|| morestack::sleep(Duration::from_secs(3600)));
    let hog = rt.spawn(|| {
        loop {
            morestack::checkpoint();
        }
    });
    let unstarted: Vec<_> = (0..100).map(|_| rt.spawn(|| std::thread::sleep(Duration::from_micros(100)))).collect();
    let outside = std::thread::spawn(move || never.join());
    std::thread::sleep(Duration::from_millis(5));
    drop(rt);
    let stopped = |r: Result<(), Box<dyn std::any::Any + Send>>| r.unwrap_err().is::<RuntimeStopped>();
    assert!(stopped(outside.join().unwrap()));
    assert!(stopped(asleep.join()));
    let hog: Result<(), _> = hog.join();
    assert!(stopped(hog));
    for handle in unstarted {
        if let Err(e) = handle.join() {
            assert!(e.is::<RuntimeStopped>());
        }
    }
}

#[test]
fn shutdown_waits_and_counts() {
    let rt = runtime(2);
    let done = Arc::new(AtomicU64::new(0));
    for _ in 0..100 {
        let done = done.clone();
        rt.spawn(move || {
            morestack::sleep(Duration::from_millis(10));
            done.fetch_add(1, Ordering::Relaxed);
        });
    }
    rt.shutdown(Duration::from_secs(10)).unwrap();
    assert_eq!(done.load(Ordering::Relaxed), 100);

    let rt = runtime(1);
    rt.spawn(morestack::park);
    rt.run(|| ());
    assert_eq!(rt.shutdown(Duration::from_millis(20)).unwrap_err().count(), 1);
}

#[test]
fn a_runtime_dropped_by_its_own_green_thread_does_not_hang() {
    let (tx, rx) = std::sync::mpsc::channel::<Runtime>();
    let rt = runtime(1);
    let handle = rt.spawn(move || drop(rx.recv().unwrap()));
    tx.send(rt).unwrap();
    // It ran to its end, or was stopped at it.
    let _ = handle.join();
}

#[test]
fn run_borrows_and_nests() {
    let (a, b) = (runtime(1), runtime(2));
    let text = String::from("borrowed");
    let n = a.run(|| b.run(|| text.len()) + a.run(|| 1));
    assert_eq!(n, 9);
}

#[test]
fn a_builder_spawns_on_the_runtime_that_it_is_given() {
    let (rt, other) = (runtime(1), runtime(1));
    let builder = |name: &str| Builder::new().name(name).stack(Stack::Reserved(1 << 17));
    let name = || morestack::current().name().map(str::to_owned);
    let handle = builder("tied").spawn_on(&rt, name).unwrap();
    assert_eq!(handle.join().unwrap().as_deref(), Some("tied"));
    // SAFETY: the closure keeps no address of a local.
    let handle = unsafe { Builder::new().name("copying").stack(Stack::Copying).spawn_untied_on(&rt, name) }.unwrap();
    assert_eq!(handle.join().unwrap().as_deref(), Some("copying"));
    let copying = Builder::new().stack(Stack::Copying).spawn_on(&rt, name);
    assert_eq!(copying.unwrap_err().kind(), io::ErrorKind::Unsupported);
    assert_eq!((rt.metrics().spawned, other.metrics().spawned), (2, 0));
}

#[test]
fn bad_settings_name_the_value_and_what_is_allowed() {
    let check = |b: morestack::RuntimeBuilder, parts: &[&str]| {
        let error = b.build().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        for part in parts {
            assert!(error.to_string().contains(part), "{error}");
        }
    };
    let b = Runtime::builder;
    check(b().workers(5000), &["workers=5000", "1024"]);
    check(b().time_slice(Some(Duration::from_nanos(5))), &["time_slice=5ns", "20us", "off"]);
    check(b().stack_size(1), &["stack_size=1 B", "64"]);
    check(b().max_stack_size(usize::MAX), &["max_stack_size", "1"]);
    check(b().thread_name("a\0b"), &["thread_name", "NUL"]);
    let error = morestack::Builder::new().stack(morestack::Stack::Copying).spawn(|| ()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    let error = morestack::Builder::new().stack(morestack::Stack::Reserved(3)).spawn(|| ()).unwrap_err();
    assert!(error.to_string().contains("stack size=3 B"), "{error}");
}
