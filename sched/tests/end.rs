//! The end of a runtime, with green threads in every state that make it hard: lending, unwinding, never started, and
//! destructors that wait, spawn and panic.

use std::panic::panic_any;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use morestack::{JoinHandle, Runtime, RuntimeStopped};

/// A runtime whose one worker is busy until the returned function is called, so that what is spawned next does not start.
fn busy() -> (Runtime, impl FnOnce()) {
    let rt = Runtime::builder().workers(1).build().unwrap();
    let (started, has_started) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    rt.spawn(move || {
        started.send(()).unwrap();
        // Blocks the OS thread.
        let _ = released.recv();
    });
    has_started.recv().unwrap();
    (rt, move || drop(release))
}

/// Ends `rt`, whose worker is let go when that has begun.
fn end(rt: Runtime, release: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(20));
            release();
        });
        drop(rt);
    });
}

#[test]
fn a_thread_local_that_is_lent_out_outlives_the_runtime_of_the_lender() {
    struct Canary(AtomicU64);
    impl Drop for Canary {
        fn drop(&mut self) {
            self.0.store(0xDEAD, SeqCst);
        }
    }
    thread_local!(static CANARY: Canary = const { Canary(AtomicU64::new(42)) });
    let borrower = Arc::new(Runtime::builder().workers(1).build().unwrap());
    let lender = Runtime::builder().workers(1).build().unwrap();
    let (lent, is_lent) = mpsc::channel();
    let (dropped, is_dropped) = mpsc::channel::<()>();
    let (read, was_read) = mpsc::channel();
    let handle = {
        let borrower = borrower.clone();
        lender.spawn(move || {
            CANARY.with(|canary| {
                borrower.run(move || {
                    lent.send(()).unwrap();
                    is_dropped.recv().unwrap();
                    read.send(canary.0.load(SeqCst)).unwrap();
                })
            })
        })
    };
    is_lent.recv().unwrap();
    drop(lender);
    // Time for the lender's worker to exit, if it did.
    std::thread::sleep(Duration::from_millis(50));
    dropped.send(()).unwrap();
    assert_eq!(was_read.recv().unwrap(), 42);
    assert!(handle.join().unwrap_err().is::<RuntimeStopped>());
}

#[test]
fn destructors_of_what_never_ran_may_panic_and_so_may_their_payloads() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("a payload's destructor");
        }
    }
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            panic_any(Bomb);
        }
    }
    let (rt, release) = busy();
    let panics = Panics;
    let handle = rt.spawn(move || std::mem::forget(panics));
    end(rt, release);
    assert!(handle.join().unwrap_err().is::<RuntimeStopped>());
}

#[test]
fn destructors_of_what_never_ran_may_join() {
    struct Joins(Option<JoinHandle<()>>);
    impl Drop for Joins {
        fn drop(&mut self) {
            let error = self.0.take().unwrap().join().unwrap_err();
            assert!(error.is::<RuntimeStopped>());
        }
    }
    let (rt, release) = busy();
    let parked = rt.spawn(morestack::park);
    let joins = Joins(Some(parked));
    rt.spawn(move || drop(joins));
    end(rt, release);
}

#[test]
fn destructors_of_what_never_ran_may_spawn() {
    static RAN: AtomicBool = AtomicBool::new(false);
    struct Spawns;
    impl Drop for Spawns {
        fn drop(&mut self) {
            // On the global runtime: this one is gone.
            morestack::spawn(|| RAN.store(true, SeqCst)).join().unwrap();
        }
    }
    let (rt, release) = busy();
    let spawns = Spawns;
    rt.spawn(move || drop(spawns));
    end(rt, release);
    assert!(RAN.load(SeqCst));
}

#[test]
fn shutdown_counts_what_never_ran() {
    let (rt, release) = busy();
    for _ in 0..100 {
        rt.spawn(|| ());
    }
    let unfinished = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(20));
            release();
        });
        rt.shutdown(Duration::ZERO).unwrap_err()
    });
    assert_eq!(unfinished.count(), 101);
}

#[test]
fn a_join_in_a_destructor_during_a_panic_ends_with_the_runtime() {
    static WAITS: AtomicBool = AtomicBool::new(false);
    struct Joins(Option<JoinHandle<()>>);
    impl Drop for Joins {
        fn drop(&mut self) {
            WAITS.store(true, SeqCst);
            let _ = self.0.take().unwrap().join();
        }
    }
    let rt = Runtime::builder().workers(2).build().unwrap();
    let never = rt.spawn(|| {
        loop {
            morestack::park();
        }
    });
    rt.spawn(move || {
        let _joins = Joins(Some(never));
        std::panic::resume_unwind(Box::new(()));
    });
    while !WAITS.load(SeqCst) {
        std::thread::yield_now();
    }
    assert_eq!(rt.shutdown(Duration::from_millis(50)).unwrap_err().count(), 2);
}
