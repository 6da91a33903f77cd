//! Fork and join: children that run in place of their joiners, and all the ways in which they do not.

use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use morestack::{Builder, JoinHandle, Runtime, RuntimeStopped, Stack, StackOverflow, Thread, channel};

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().unwrap()
}

fn stressed() -> bool {
    std::env::var_os("MORESTACK_STRESS").is_some()
}

type Spawn = fn(Box<dyn FnOnce() -> u64 + Send>) -> JoinHandle<u64>;

const KINDS: [Spawn; 3] = [
    morestack::spawn,
    // SAFETY: what these tests run keeps no pointer to its stack, and borrows no thread-local.
    |f| unsafe { morestack::go(f) },
    // SAFETY: as above.
    |f| unsafe { Builder::new().stack(Stack::Auto).spawn_untied(f) }.unwrap(),
];

fn fib(n: u64, spawn: Spawn) -> u64 {
    if n < 2 {
        return n;
    }
    let first = spawn(Box::new(move || fib(n - 1, spawn)));
    let second = fib(n - 2, spawn);
    first.join().unwrap() + second
}

#[test]
fn a_recursion_that_forks_is_right_on_any_number_of_workers() {
    for workers in [1, 2, 4] {
        let rt = runtime(workers);
        for spawn in KINDS {
            assert_eq!(rt.run(|| fib(16, spawn)), 987);
        }
        let m = rt.metrics();
        assert_eq!(m.spawned, m.completed);
    }
}

#[test]
fn it_goes_depth_first() {
    let rt = runtime(1);
    for spawn in KINDS {
        assert_eq!(rt.run(|| fib(20, spawn)), 6765);
    }
    // Oldest first it would be thousands. At the end of a slice one more line of calls may begin.
    let m = rt.metrics();
    assert!(m.peak_stacks < 1000 || stressed(), "{m:?}");
    assert!(m.parks < m.spawned / 10 || stressed(), "{m:?}");
}

/// A tree of green threads that nobody joins, ten wide; each answers by a channel when its children have. What is counted is
/// the leaves, in the order in which they run.
fn tree(depth: u32, first: u64, spawn: Spawn, leaves: &'static AtomicU64) -> u64 {
    if depth == 0 {
        assert_eq!(first / 10, leaves.fetch_add(1, SeqCst) / 10, "after its cousins");
        return 1;
    }
    let (sender, receiver) = channel::bounded(10);
    for child in 0..10 {
        let sender = sender.clone();
        drop(spawn(Box::new(move || {
            sender.send(tree(depth - 1, first + 10_u64.pow(depth - 1) * ((child + 1) % 10), spawn, leaves)).unwrap();
            0
        })));
    }
    receiver.iter().take(10).sum()
}

/// The one that was spawned last begins, and then they come in the order of spawning; each with all that it spawns.
#[test]
fn a_tree_is_run_depth_first() {
    for spawn in KINDS {
        let rt = Runtime::builder().workers(1).time_slice(None).build().unwrap();
        let leaves: &AtomicU64 = Box::leak(Box::default());
        assert_eq!(rt.run(move || tree(3, 0, spawn, leaves)), 1000);
        let m = rt.metrics();
        // One of each level that waits, and one that runs. Breadth first it would be a hundred.
        assert!(m.peak_stacks <= 6 || stressed(), "{m:?}");
    }
}

#[test]
fn each_has_an_identity_and_a_stack_of_its_own() {
    fn here() -> (morestack::ThreadId, usize) {
        let local = 0_u8;
        (morestack::current().id(), ptr::from_ref(&local).addr())
    }
    runtime(1).run(|| {
        let mine = here();
        let (child, grandchild) = morestack::spawn(|| (here(), morestack::spawn(here).join().unwrap())).join().unwrap();
        assert_eq!(here().0, mine.0);
        for (one, other) in [(mine, child), (mine, grandchild), (child, grandchild)] {
            assert_ne!(one.0, other.0);
            assert!(one.1.abs_diff(other.1) >= 64 << 10, "on one stack");
        }
    });
}

#[test]
fn panics_and_overflows_come_back() {
    #[morestack::prologue]
    fn forever(n: u64) -> u64 {
        if n == u64::MAX { 0 } else { std::hint::black_box(forever(n + 1)) + 1 }
    }
    for workers in [1, 2] {
        runtime(workers).run(|| {
            for n in 0..100_u64 {
                let failed = morestack::spawn(move || {
                    let inner = morestack::spawn(move || std::panic::resume_unwind(Box::new(n))).join();
                    // Joining and spawning works between panics.
                    std::panic::resume_unwind(Box::new((*inner.unwrap_err().downcast::<u64>().unwrap(), n)));
                });
                assert_eq!(failed.join().unwrap_err().downcast_ref(), Some(&(n, n)));
            }
            assert!(morestack::spawn(|| forever(0)).join().unwrap_err().is::<StackOverflow>());
            assert_eq!(morestack::spawn(|| 1).join().unwrap(), 1);
        });
    }
}

/// A destructor that joins while its green thread unwinds.
#[test]
fn a_join_in_a_destructor_during_a_panic() {
    struct Joins(Option<JoinHandle<u64>>, mpsc::Sender<u64>);
    impl Drop for Joins {
        fn drop(&mut self) {
            // On this worker there is nobody else to run it: it was started.
            self.1.send(self.0.take().unwrap().join().unwrap()).unwrap();
        }
    }
    let rt = runtime(2);
    let (tx, rx) = mpsc::channel();
    let failed = rt.spawn(move || {
        morestack::spawn(move || {
            let done = morestack::spawn(|| 7);
            while !done.is_finished() {
                morestack::yield_now();
            }
            let _joins = Joins(Some(done), tx);
            std::panic::resume_unwind(Box::new("x"));
        })
        .join()
    });
    assert!(failed.join().unwrap().is_err());
    assert_eq!(rx.recv().unwrap(), 7);
}

/// A chain of green threads, each joining the next; the last does `f`.
fn chain(n: u64, spawn: Spawn, f: impl FnOnce() -> u64 + Send + 'static) -> u64 {
    if n == 0 {
        return f();
    }
    spawn(Box::new(move || chain(n - 1, spawn, f) + 1)).join().unwrap()
}

#[test]
fn a_child_that_parks_leaves_a_chain_of_joiners_waiting() {
    for (workers, spawn) in [1, 2].into_iter().flat_map(|workers| KINDS.map(|spawn| (workers, spawn))) {
        let rt = runtime(workers);
        let (tx, rx) = mpsc::channel::<Thread>();
        let ready = Arc::new(AtomicBool::new(false));
        let others = Arc::new(AtomicU64::new(0));
        let joined = {
            let (ready, others) = (ready.clone(), others.clone());
            rt.spawn(move || {
                let other = spawn(Box::new(move || others.fetch_add(1, SeqCst)));
                let sum = chain(20, spawn, move || {
                    tx.send(morestack::current()).unwrap();
                    while !ready.load(SeqCst) {
                        morestack::park();
                    }
                    100
                });
                other.join().unwrap() + sum
            })
        };
        let parked = rx.recv().unwrap();
        // Others run while all of these wait.
        rt.run(|| {
            while others.load(SeqCst) == 0 {
                morestack::yield_now()
            }
        });
        assert!(!joined.is_finished());
        ready.store(true, SeqCst);
        parked.unpark();
        assert_eq!(joined.join().unwrap(), 120);
    }
}

#[test]
fn children_may_yield_sleep_and_join_others() {
    for workers in [1, 2, 3] {
        let rt = runtime(workers);
        for spawn in KINDS {
            rt.run(|| {
                for n in 0..50 {
                    let sibling = spawn(Box::new(move || n));
                    let sum = chain(3, spawn, move || {
                        morestack::yield_now();
                        if n % 10 == 0 {
                            morestack::sleep(Duration::from_micros(50));
                        }
                        sibling.join().unwrap()
                    });
                    assert_eq!(sum, n + 3);
                }
            });
        }
    }
}

#[test]
fn many_are_joined_in_any_order() {
    for (workers, spawn) in [1, 2, 4].into_iter().flat_map(|workers| KINDS.map(|spawn| (workers, spawn))) {
        runtime(workers).run(|| {
            for count in [1, 2, 3, 15, 16, 17, 18, 19, 40, 1000] {
                let mut handles: Vec<_> = (0..count).map(|n| (n, spawn(Box::new(move || n)))).collect();
                for turn in 0..count as usize {
                    // From the front, from the back, from the middle.
                    let at = [0, handles.len() - 1, handles.len() / 2][turn % 3];
                    let (n, handle) = handles.remove(at);
                    assert_eq!(handle.join().unwrap(), n);
                }
            }
        });
    }
}

/// The other worker takes children while their parent is about to join them.
#[test]
fn children_that_are_stolen_meanwhile() {
    let rt = runtime(2);
    let ran = Arc::new(AtomicUsize::new(0));
    for spawn in KINDS {
        let before = ran.load(SeqCst);
        rt.run(|| {
            for n in 0..20_000_u64 {
                let ran = ran.clone();
                let child = spawn(Box::new(move || {
                    ran.fetch_add(1, SeqCst);
                    n
                }));
                for _ in 0..n % 512 {
                    std::hint::spin_loop();
                }
                assert_eq!(child.join().unwrap(), n);
            }
        });
        assert_eq!(ran.load(SeqCst) - before, 20_000, "each runs once");
    }
}

#[test]
fn a_runtime_that_stops_in_between() {
    for spawn in KINDS {
        let rt = runtime(1);
        let (tx, rx) = mpsc::channel();
        let joined = rt.spawn(move || {
            chain(10, spawn, move || {
                tx.send(()).unwrap();
                loop {
                    morestack::park();
                }
            })
        });
        let waiter = thread::spawn(move || joined.join());
        rx.recv().unwrap();
        drop(rt);
        assert!(waiter.join().unwrap().unwrap_err().is::<RuntimeStopped>());
    }
}

/// The same while children are started directly all the time.
#[test]
fn a_runtime_that_stops_among_joins() {
    for spawn in KINDS {
        let rt = runtime(2);
        let (tx, rx) = mpsc::channel();
        let joined = rt.spawn(move || {
            for n in 0.. {
                if fib(5, spawn) != 5 {
                    return n;
                }
                if n == 100 {
                    tx.send(()).unwrap();
                }
            }
            0
        });
        rx.recv().unwrap();
        drop(rt);
        assert!(joined.join().unwrap_err().is::<RuntimeStopped>());
    }
}

/// `join` waits for its green thread only: a token for `park` is not used up by it.
#[test]
fn a_token_outlives_a_join() {
    for slow in [false, true] {
        runtime(1).run(|| {
            morestack::current().unpark();
            let child = morestack::spawn(move || {
                if slow {
                    morestack::sleep(Duration::from_millis(1));
                }
            });
            child.join().unwrap();
            morestack::park();
        });
    }
}

/// One that forks and joins in a loop does not keep the others of its worker waiting, with slices and without.
#[test]
fn others_get_their_turn() {
    for slice in [Some(Duration::from_millis(1)), None] {
        let rt = Runtime::builder().workers(1).time_slice(slice).build().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let forks = {
            let stop = stop.clone();
            rt.spawn(move || {
                let mut joined = 0;
                while !stop.load(SeqCst) {
                    joined += morestack::spawn(|| 1).join().unwrap();
                }
                joined
            })
        };
        let turns = rt.spawn(|| (0..20).for_each(|_| morestack::yield_now()));
        turns.join().unwrap();
        let late = rt.spawn(|| {
            let asked = Instant::now();
            morestack::sleep(Duration::from_millis(2));
            asked.elapsed()
        });
        let late = late.join().unwrap();
        assert!(late < Duration::from_secs(1), "{late:?}");
        stop.store(true, SeqCst);
        assert!(forks.join().unwrap() > 0);
    }
}

/// A tree that grows at one end for ever, of which some have always just been spawned, does not keep the others waiting, with
/// slices and without.
#[test]
fn others_get_their_turn_beside_a_tree() {
    static STOP: AtomicBool = AtomicBool::new(false);
    static ALIVE: AtomicUsize = AtomicUsize::new(0);
    fn grow() {
        while ALIVE.load(SeqCst) < 40 && !STOP.load(SeqCst) {
            ALIVE.fetch_add(1, SeqCst);
            morestack::spawn(grow);
        }
        ALIVE.fetch_sub(1, SeqCst);
    }
    for slice in [Some(Duration::from_millis(1)), None] {
        let rt = Runtime::builder().workers(1).time_slice(slice).build().unwrap();
        STOP.store(false, SeqCst);
        ALIVE.store(1, SeqCst);
        rt.spawn(grow);
        for _ in 0..20 {
            let begun = Instant::now();
            // Not started, from outside; then tied.
            rt.spawn(|| (0..5).for_each(|_| morestack::yield_now())).join().unwrap();
            assert!(begun.elapsed() < Duration::from_secs(1));
        }
        // SAFETY: it keeps no pointer to its stack.
        let untied = unsafe { rt.go(|| (0..20).for_each(|_| morestack::yield_now())) };
        untied.join().unwrap();
        assert_ne!(ALIVE.load(SeqCst), 0);
        STOP.store(true, SeqCst);
        rt.shutdown(Duration::from_secs(10)).unwrap();
    }
}

/// Joiners that waited behind a direct child are frozen like others when that takes long.
#[test]
fn joiners_of_one_that_sleeps_are_frozen() {
    let rt = Runtime::builder().workers(1).freeze_after(Some(Duration::from_millis(1))).build().unwrap();
    // SAFETY: `chain` keeps no pointer to its stack.
    let sum = unsafe {
        rt.go(|| {
            chain(8, KINDS[1], || {
                morestack::sleep(Duration::from_millis(100));
                5
            })
        })
    };
    assert_eq!(sum.join().unwrap(), 13);
    let m = rt.metrics();
    assert!(m.freezes >= 8, "{m:?}");
}

#[test]
fn results_are_dropped_once() {
    static DROPPED: AtomicUsize = AtomicUsize::new(0);
    struct Counts;
    impl Drop for Counts {
        fn drop(&mut self) {
            DROPPED.fetch_add(1, SeqCst);
        }
    }
    let rt = runtime(2);
    rt.run(|| {
        for n in 0..300 {
            let handle = morestack::spawn(move || {
                if n % 4 == 3 {
                    morestack::yield_now();
                }
                Counts
            });
            match n % 3 {
                0 => drop(handle),
                1 => drop(handle.join()),
                _ => {
                    while !handle.is_finished() {
                        morestack::yield_now();
                    }
                }
            }
        }
    });
    rt.shutdown(Duration::from_secs(10)).unwrap();
    assert_eq!(DROPPED.load(SeqCst), 300);
}
