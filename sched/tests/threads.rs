//! When OS threads cannot be had; and what the metrics say of those that there are.
//!
//! Each test that takes memory away from its process runs in one of its own.

mod common;

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use common::alone;
use morestack::{Runtime, blocking, spawn};

/// Leaves this process so many MiB of address space; with none, as much as it likes. A worker's stack takes 2.
fn leave(mib: Option<u64>) {
    // A thread of std's panics that finds no room for its signal stack when it starts: those there are have started by then.
    std::thread::sleep(Duration::from_millis(50));
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = status.split(' ').next().unwrap().parse().unwrap();
    let limit = mib.map_or(libc::RLIM_INFINITY, |mib| pages * 4096 + (mib << 20));
    let limit = libc::rlimit { rlim_cur: limit, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: a plain system call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
}

#[test]
fn a_runtime_without_its_threads_is_an_error_that_costs_nothing() {
    alone("a_runtime_without_its_threads_is_an_error_that_costs_nothing", || {
        let other = Runtime::builder().workers(1).build().unwrap();
        assert_eq!(other.run(|| spawn(|| 5).join().unwrap()), 5);
        leave(Some(12));
        let error = Runtime::builder().workers(64).build().unwrap_err().to_string();
        assert!(error.starts_with("cannot start worker thread ") && error.contains(" of 64: "), "{error}");
        // Those that did start are gone: their memory can be had again.
        let error = Runtime::builder().workers(64).build().unwrap_err().to_string();
        assert!(error.starts_with("cannot start worker thread "), "{error}");
        assert_eq!(other.run(|| 6), 6);
        leave(None);
        assert_eq!(Runtime::builder().workers(64).build().unwrap().run(|| 7), 7);
    });
}

#[test]
fn workers_that_cannot_be_added_leave_those_that_can() {
    alone("workers_that_cannot_be_added_leave_those_that_can", || {
        let rt = Runtime::builder().workers(2).build().unwrap();
        rt.run(|| ());
        leave(Some(12));
        let error = rt.set_workers(64).unwrap_err().to_string();
        assert!(error.starts_with("cannot start worker thread ") && error.contains(" of 64: "), "{error}");
        let workers = rt.metrics().workers;
        assert!((2..64).contains(&workers), "{workers}");
        leave(None);
        rt.set_workers(64).unwrap();
        assert_eq!(rt.metrics().workers, 64);
        let sum: u64 = rt.run(|| {
            let handles: Vec<_> = (0..1000).map(|i| spawn(move || i)).collect();
            handles.into_iter().map(|h| h.join().unwrap()).sum()
        });
        assert_eq!(sum, 499_500);
    });
}

#[test]
fn a_call_that_nobody_can_take_over_for_keeps_its_worker() {
    let said = alone("a_call_that_nobody_can_take_over_for_keeps_its_worker", || {
        let rt = Runtime::builder().workers(1).build().unwrap();
        rt.run(|| spawn(|| ()).join().unwrap());
        leave(Some(1));
        let calls: Vec<_> =
            (0..5).map(|i| rt.spawn(move || blocking(|| std::thread::sleep(Duration::from_millis(i))))).collect();
        calls.into_iter().for_each(|call| call.join().unwrap());
        assert_eq!(rt.metrics().threads, 1);
    });
    assert_eq!(
        said.matches("no OS thread takes over for one that blocks (cannot start a thread: ").count(),
        1,
        "{said}"
    );
}

/// A green thread that panics while its runtime stops, on a worker that is waited for.
#[test]
fn a_panic_while_the_runtime_stops_is_that_of_its_green_thread() {
    struct Drops(Arc<AtomicBool>);
    impl Drop for Drops {
        fn drop(&mut self) {
            // Where green threads that are not unwinding are abandoned.
            morestack::yield_now();
            morestack::checkpoint();
            self.0.store(true, SeqCst);
        }
    }
    let rt = Runtime::builder().workers(2).build().unwrap();
    let (inside, is_inside) = mpsc::channel();
    let dropped = Arc::new(AtomicBool::new(false));
    let handle = {
        let drops = Drops(dropped.clone());
        rt.spawn(move || {
            let _drops = drops;
            inside.send(()).unwrap();
            std::thread::sleep(Duration::from_millis(50));
            std::panic::resume_unwind(Box::new("late"));
        })
    };
    is_inside.recv().unwrap();
    drop(rt);
    assert!(dropped.load(SeqCst), "its destructors ran");
    assert_eq!(handle.join().unwrap_err().downcast_ref(), Some(&"late"));
}

/// The CPUs that the calling thread may run on.
fn cpus() -> Vec<usize> {
    // SAFETY: an all-zero set is valid, and the calls are given one.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        assert_eq!(libc::sched_getaffinity(0, size_of_val(&set), &mut set), 0);
        (0..libc::CPU_SETSIZE as usize).filter(|&cpu| libc::CPU_ISSET(cpu, &set)).collect()
    }
}

#[test]
fn a_worker_keeps_its_cpu_when_another_thread_takes_it_over() {
    let all = cpus();
    let rt = Runtime::builder().workers(1).pin_workers(true).build().unwrap();
    assert_eq!(rt.run(cpus), all[..1]);
    let (send, recv) = mpsc::channel();
    let blocked = rt.spawn(move || blocking(|| recv.recv().unwrap()));
    let other = rt.spawn(move || {
        send.send(()).unwrap();
        cpus()
    });
    assert_eq!(other.join().unwrap(), all[..1]);
    blocked.join().unwrap();
}

#[test]
fn the_metrics_of_the_workers_add_up() {
    let rt = Runtime::builder().workers(2).build().unwrap();
    let (inside, is_inside) = mpsc::channel();
    let release = Arc::new(AtomicBool::new(false));
    // Both workers are busy, and one has queued something.
    let hogs: Vec<_> = (0..2)
        .map(|hog| {
            let (inside, release) = (inside.clone(), release.clone());
            rt.spawn(move || {
                let handles: Vec<_> = (0..10 * hog).map(|_| spawn(|| ())).collect();
                inside.send(()).unwrap();
                while !release.load(SeqCst) {
                    std::hint::spin_loop();
                }
                handles.into_iter().for_each(|h| h.join().unwrap());
            })
        })
        .collect();
    is_inside.iter().take(2).count();
    let outside = rt.spawn(|| ());
    let metrics = rt.metrics();
    assert_eq!((metrics.workers, metrics.threads, metrics.per_worker.len()), (2, 2, 2));
    assert_eq!(metrics.injected, 1);
    assert_eq!(metrics.per_worker.iter().map(|w| w.queued).sum::<u64>(), 10);
    assert!(metrics.per_worker.iter().all(|w| w.slices > 0));
    release.store(true, SeqCst);
    hogs.into_iter().for_each(|h| h.join().unwrap());
    outside.join().unwrap();
    let metrics = rt.metrics();
    assert_eq!(metrics.completed, 13);
    assert_eq!(metrics.per_worker.iter().map(|w| w.completed).sum::<u64>(), 13);
    assert_eq!(metrics.per_worker.iter().map(|w| w.queued).sum::<u64>(), 0);
}
