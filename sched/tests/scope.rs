//! Scopes: std's behaviours, on both kinds of green threads and on OS threads, and parents whose stacks would move.

use std::backtrace::Backtrace;
use std::cell::Cell;
use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use morestack::{Builder, Runtime, Stack, StackOverflow, current, park, prologue, scope, sleep, spawn, yield_now};

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).freeze_after(Some(Duration::from_millis(1))).build().unwrap()
}

/// Runs `f` on an OS thread, and on green threads of both kinds, tied and untied, with one worker and with two.
fn everywhere(f: impl Fn() + Clone + Send + 'static) {
    f();
    for workers in [1, 2] {
        let rt = runtime(workers);
        rt.run(f.clone());
        // SAFETY: what these tests lend out they lend to scopes.
        unsafe { rt.go(f.clone()) }.join().unwrap();
    }
}

fn message(payload: Box<dyn std::any::Any + Send>) -> String {
    match payload.downcast::<&str>() {
        Ok(text) => text.to_string(),
        Err(payload) => *payload.downcast::<String>().unwrap(),
    }
}

#[test]
fn children_borrow_and_write() {
    everywhere(|| {
        let mut numbers: Vec<u64> = (0..1000).collect();
        let total = AtomicUsize::new(0);
        let lens = scope(|s| {
            for part in numbers.chunks_mut(100) {
                let total = &total;
                s.spawn(move || {
                    part.iter_mut().for_each(|n| *n *= 2);
                    yield_now();
                    total.fetch_add(part.len(), SeqCst);
                });
            }
            s.spawn(|| total.load(SeqCst)).join().unwrap()
        });
        assert!(lens <= 1000);
        assert_eq!((numbers.iter().sum::<u64>(), total.into_inner()), (999_000, 1000));
    });
}

#[test]
fn all_have_ended_when_it_returns() {
    everywhere(|| {
        let ended = AtomicUsize::new(0);
        scope(|s| {
            for i in 0..20 {
                let ended = &ended;
                s.spawn(move || {
                    sleep(Duration::from_micros(i * 50));
                    ended.fetch_add(1, SeqCst);
                });
            }
        });
        assert_eq!(ended.load(SeqCst), 20);
    });
}

#[test]
fn children_spawn_more() {
    fn tree<'scope>(s: &'scope morestack::Scope<'scope, '_>, n: usize, leaves: &'scope AtomicUsize) {
        if n == 0 {
            leaves.fetch_add(1, SeqCst);
        } else {
            s.spawn(move || tree(s, n - 1, leaves));
            s.spawn(move || tree(s, n - 1, leaves));
        }
    }
    everywhere(|| {
        let leaves = AtomicUsize::new(0);
        scope(|s| tree(s, 7, &leaves));
        assert_eq!(leaves.load(SeqCst), 128);
    });
}

#[test]
fn scopes_nest() {
    everywhere(|| {
        let mut outer = [0_u32; 4];
        scope(|s| {
            for (i, slot) in outer.iter_mut().enumerate() {
                s.spawn(move || {
                    let mut inner = [1_u32; 8];
                    scope(|s| inner.iter_mut().for_each(|n| drop(s.spawn(|| *n += 1))));
                    *slot = inner.iter().sum::<u32>() + i as u32;
                });
            }
            let mut here = 0;
            scope(|s| drop(s.spawn(|| here = 1)));
            assert_eq!(here, 1);
        });
        assert_eq!(outer, [16, 17, 18, 19]);
    });
}

#[test]
fn a_panic_of_a_child_that_nobody_joined() {
    everywhere(|| {
        let ended = AtomicBool::new(false);
        let payload = catch_unwind(AssertUnwindSafe(|| {
            scope(|s| {
                s.spawn(|| panic_any(1));
                s.spawn(|| {
                    sleep(Duration::from_millis(1));
                    ended.store(true, SeqCst);
                });
                5
            })
        }));
        assert_eq!(message(payload.unwrap_err()), "a scoped thread panicked");
        assert!(ended.load(SeqCst));
    });
}

#[test]
fn a_panic_of_a_child_that_was_joined_is_the_joiners() {
    everywhere(|| {
        let value = scope(|s| {
            let bad = s.spawn(|| panic_any("no"));
            assert_eq!(message(bad.join().unwrap_err()), "no");
            5
        });
        assert_eq!(value, 5);
        // One of two.
        let payload = catch_unwind(|| {
            scope(|s| {
                let bad = s.spawn(|| panic_any("no"));
                s.spawn(|| panic_any("neither"));
                bad.join().unwrap_err();
            })
        });
        assert_eq!(message(payload.unwrap_err()), "a scoped thread panicked");
    });
}

#[test]
fn a_panic_of_the_scopes_closure_waits_for_the_children() {
    everywhere(|| {
        let ended = AtomicUsize::new(0);
        let payload = catch_unwind(AssertUnwindSafe(|| {
            scope(|s| {
                for _ in 0..5 {
                    s.spawn(|| {
                        sleep(Duration::from_millis(1));
                        ended.fetch_add(1, SeqCst);
                    });
                }
                // Its payload, and not that of a child's.
                s.spawn(|| panic_any("a child's"));
                panic_any("its own");
            })
        }));
        assert_eq!(message(payload.unwrap_err()), "its own");
        assert_eq!(ended.load(SeqCst), 5);
    });
}

/// A result that borrows is dropped before the scope ends, whoever drops it.
#[test]
fn results_are_dropped_in_the_scope() {
    struct Looks<'a>(&'a AtomicUsize);
    impl Drop for Looks<'_> {
        fn drop(&mut self) {
            sleep(Duration::from_micros(100));
            self.0.fetch_add(1, SeqCst);
        }
    }
    everywhere(|| {
        let drops = AtomicUsize::new(0);
        scope(|s| {
            // Detached at once, and when it has ended.
            s.spawn(|| Looks(&drops));
            let late = s.spawn(|| Looks(&drops));
            while !late.is_finished() {
                yield_now();
            }
            drop(late);
            // By another child.
            let handle = s.spawn(|| Looks(&drops));
            s.spawn(move || drop(handle.join().unwrap()));
        });
        assert_eq!(drops.load(SeqCst), 3);
        // One that nobody drops does not keep the scope from ending.
        scope(|s| std::mem::forget(s.spawn(|| Looks(&drops))));
        assert_eq!(drops.load(SeqCst), 3);
    });
}

/// Closures of every size are dropped in the scope, too.
#[test]
fn large_closures() {
    everywhere(|| {
        let (sum, numbers) = (AtomicUsize::new(0), [1_usize; 64]);
        scope(|s| {
            for _ in 0..10 {
                let sum = &sum;
                s.spawn(move || sum.fetch_add(numbers.iter().sum(), SeqCst));
            }
        });
        assert_eq!(sum.into_inner(), 640);
    });
}

#[test]
fn handles_and_builders() {
    everywhere(|| {
        let text = String::from("borrowed");
        scope(|s| {
            let child = Builder::new().name("child").stack(Stack::Reserved(1 << 20)).spawn_scoped(s, || {
                park();
                (text.len(), current().name().map(str::to_owned))
            });
            let child = child.unwrap();
            assert_eq!(child.thread().name(), Some("child"));
            assert!(!child.is_finished());
            child.thread().unpark();
            assert_eq!(child.join().unwrap(), (8, Some("child".to_owned())));
            let error = Builder::new().stack(Stack::Copying).spawn_scoped(s, || ()).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
        });
    });
}

#[test]
fn the_parent_is_itself_in_its_scope() {
    everywhere(|| {
        let me = current();
        scope(|s| {
            assert_eq!(current().id(), me.id());
            // It can be unparked by the handle from outside of the scope.
            s.spawn(|| me.unpark());
            park();
        });
        assert_eq!(current().id(), me.id());
    });
}

/// Frames with references up the stack, and a look at `lent` at each.
#[prologue]
fn frames(n: u64, above: &mut [u64; 4], lent: &[AtomicUsize; 4]) -> u64 {
    let mut mine = [n; 4];
    above[(n % 4) as usize] += n;
    lent[(n % 4) as usize].fetch_add(1, SeqCst);
    let below = if n == 0 { 1 } else { frames(n - 1, &mut mine, lent) };
    above[0] ^= below;
    mine.iter().fold(below, |sum, word| black_box(sum.wrapping_mul(31).wrapping_add(*word)))
}

/// A copying parent calls deep, waits, and is preempted, in its scope and before and after it, while children read and
/// write what it has lent out.
#[test]
fn a_copying_parent_does_not_move_while_it_lends() {
    let expected = {
        let (mut top, lent) = ([0; 4], Default::default());
        (frames(50, &mut top, &lent), top)
    };
    let rt = runtime(2);
    let parents: Vec<_> = (0..20_u64)
        .map(|i| {
            // SAFETY: what is lent out is lent to the scope.
            unsafe {
                rt.go(move || {
                    let (mut before, mut top, mut after) = ([0; 4], [0; 4], [0; 4]);
                    let lent: [AtomicUsize; 4] = Default::default();
                    let stop = AtomicBool::new(false);
                    let cell = Cell::new(0_u64);
                    assert_eq!((frames(50, &mut before, &lent), before), expected);
                    let result = scope(|s| {
                        /// The children end also if an assertion fails.
                        struct Stop<'a>(&'a AtomicBool);
                        impl Drop for Stop<'_> {
                            fn drop(&mut self) {
                                self.0.store(true, SeqCst);
                            }
                        }
                        let _stop = Stop(&stop);
                        let address = &raw const lent as usize;
                        for _ in 0..3 {
                            s.spawn(|| {
                                while !stop.load(SeqCst) {
                                    lent[0].fetch_add(1, SeqCst);
                                    yield_now();
                                }
                            });
                        }
                        let result = frames(50, &mut top, &lent);
                        // Long enough to be frozen elsewhere.
                        sleep(Duration::from_millis(if i % 4 == 0 { 10 } else { 0 }));
                        for _ in 0..10 {
                            yield_now();
                            cell.set(cell.get() ^ i ^ s.spawn(|| frames(5, &mut [0; 4], &lent)).join().unwrap());
                            morestack::checkpoint();
                        }
                        assert_eq!(&raw const lent as usize, address, "it moved while it lent");
                        result
                    });
                    assert_eq!((result, top), expected);
                    assert_eq!((frames(50, &mut after, &lent), after), expected);
                    assert_eq!(cell.get(), 0, "ten times the same");
                })
            }
        })
        .collect();
    for parent in parents {
        parent.join().unwrap();
    }
}

/// The scope of a copying parent has the room of a reserved stack; what goes deeper overflows, and is caught.
#[test]
fn a_copying_parent_overflows_in_its_scope_only() {
    #[prologue]
    fn deep(n: u64) -> u64 {
        let mine = black_box([n; 16]);
        if n == 0 { 0 } else { deep(n - 1) + mine[3] / n }
    }
    let rt = Runtime::builder().workers(1).stack_size(128 << 10).build().unwrap();
    // SAFETY: nothing is lent out.
    let handle = unsafe {
        rt.go(|| {
            assert_eq!(deep(2_000), 2_000);
            let overflow = catch_unwind(|| scope(|_| deep(2_000))).unwrap_err();
            assert_eq!(overflow.downcast_ref::<StackOverflow>().unwrap().limit(), 128 << 10);
            assert_eq!(scope(|_| deep(100)), 100);
            // The segments are given back: more of them than there would be memory for.
            (0..1000).for_each(|_| scope(|_| ()));
            deep(2_000)
        })
    };
    assert_eq!(handle.join().unwrap(), 2_000);
    assert!(rt.metrics().peak_stacks < 10);
}

#[test]
fn a_backtrace_shows_both_stacks() {
    #[inline(never)]
    fn in_the_scope() -> String {
        Backtrace::force_capture().to_string()
    }
    #[inline(never)]
    fn around_the_scope() -> String {
        scope(|_| in_the_scope()) + ""
    }
    everywhere(|| {
        let text = around_the_scope();
        let (inner, outer) = (text.find("in_the_scope").unwrap(), text.find("around_the_scope").expect(&text));
        assert!(inner < outer, "{text}");
    });
}

#[test]
fn in_a_destructor_during_a_panic() {
    struct Scopes<'a>(&'a AtomicUsize);
    impl Drop for Scopes<'_> {
        fn drop(&mut self) {
            let mut sum = 0;
            scope(|s| drop(s.spawn(|| sum = 5)));
            self.0.fetch_add(sum, SeqCst);
        }
    }
    fn body() {
        let total = AtomicUsize::new(0);
        catch_unwind(AssertUnwindSafe(|| {
            let _scopes = Scopes(&total);
            panic_any(1);
        }))
        .unwrap_err();
        assert_eq!(total.load(SeqCst), 5);
    }
    body();
    let rt = runtime(2);
    rt.run(body);
    // SAFETY: what is lent out is lent to a scope, during a panic, when no stack moves.
    unsafe { rt.go(body) }.join().unwrap();
}

#[test]
fn in_blocking_and_in_futures() {
    everywhere(|| {
        let mut n = 0;
        morestack::blocking(|| scope(|s| drop(s.spawn(|| n += 1))));
        morestack::block_on(async {
            yield_now();
            scope(|s| drop(s.spawn(|| n += 1)));
        });
        assert_eq!(n, 2);
    });
}

/// Many small scopes, whose last children end at any time: the wake-up is not lost, and nothing stays behind.
#[test]
fn scopes_meet_ends() {
    everywhere(|| {
        let counter = Arc::new(());
        for i in 0..1000_usize {
            let mut results = [0; 3];
            scope(|s| {
                let counter = counter.clone();
                for (j, slot) in results.iter_mut().enumerate() {
                    let counter = counter.clone();
                    s.spawn(move || *slot = i + j + Arc::strong_count(&counter).min(1));
                }
            });
            assert_eq!(results, [i + 1, i + 2, i + 3]);
        }
        assert_eq!(Arc::strong_count(&counter), 1);
    });
}

#[test]
fn the_children_run_on_the_parents_runtime() {
    let rt = Runtime::builder().workers(1).thread_name("mine").build().unwrap();
    rt.run(|| {
        let name = || std::thread::current().name().map(str::to_owned);
        assert_eq!(scope(|s| s.spawn(name).join().unwrap()).as_deref(), Some("mine-0"));
        spawn(move || assert_eq!(scope(|s| s.spawn(name).join().unwrap()).as_deref(), Some("mine-0"))).join().unwrap();
    });
}

#[test]
fn refused() {
    trybuild::TestCases::new().compile_fail("tests/refused/*.rs");
}
