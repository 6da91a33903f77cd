//! Task-locals: std's behaviours of `thread_local!`, for green threads of both kinds, OS threads, and futures.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use morestack::{AccessError, Runtime, block_on, blocking, sleep, spawn, task_local, yield_now};

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().unwrap()
}

/// Runs `f` on an OS thread of its own, and on green threads of both kinds, to their ends.
fn everywhere(f: impl Fn() + Clone + Send + 'static) {
    std::thread::spawn(f.clone()).join().unwrap();
    let rt = runtime(2);
    rt.run(f.clone());
    // SAFETY: these tests keep no pointers to their stacks elsewhere.
    unsafe { rt.go(f) }.join().unwrap();
}

#[test]
fn each_has_its_own() {
    task_local! {
        static NUMBER: Cell<usize> = const { Cell::new(7) };
        static TEXT: RefCell<String> = RefCell::new(String::from("a"))
    }
    everywhere(|| {
        assert_eq!(NUMBER.get(), 7);
        let handles: Vec<_> = (0..100)
            .map(|i| {
                spawn(move || {
                    assert_eq!((NUMBER.replace(i), TEXT.with_borrow(String::len)), (7, 1));
                    TEXT.with_borrow_mut(|text| text.push_str(&i.to_string()));
                    yield_now();
                    sleep(Duration::from_micros(10));
                    assert_eq!((NUMBER.get(), TEXT.take()), (i, format!("a{i}")));
                    NUMBER.set(NUMBER.take() + 1);
                    TEXT.set("b".to_owned());
                    assert_eq!((NUMBER.get(), TEXT.replace(String::new())), (i + 1, "b".to_owned()));
                })
            })
            .collect();
        handles.into_iter().for_each(|handle| handle.join().unwrap());
        assert_eq!((NUMBER.get(), TEXT.with_borrow(String::clone)), (7, "a".to_owned()));
    });
}

#[test]
fn made_once_and_lazily_and_dropped_before_join_returns() {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    static DROPPED: AtomicUsize = AtomicUsize::new(0);
    struct Counted;
    impl Drop for Counted {
        fn drop(&mut self) {
            // On its own stack: it may wait.
            sleep(Duration::from_micros(100));
            yield_now();
            DROPPED.fetch_add(1, SeqCst);
        }
    }
    task_local!(static COUNTED: Counted = {
        MADE.fetch_add(1, SeqCst);
        yield_now();
        Counted
    });
    let rt = runtime(2);
    rt.run(|| ());
    assert_eq!(MADE.load(SeqCst), 0);
    for i in 1..=50 {
        let used = || (0..3).for_each(|_| COUNTED.with(|_| ()));
        match i % 3 {
            0 => rt.spawn(used).join().unwrap(),
            // SAFETY: it keeps no pointers to its stack elsewhere.
            1 => unsafe { rt.go(used) }.join().unwrap(),
            _ => rt.run(move || spawn(used).join().unwrap()),
        }
        assert_eq!((MADE.load(SeqCst), DROPPED.load(SeqCst)), (i, i));
    }
    let panics = rt.spawn(|| {
        COUNTED.with(|_| ());
        panic_any(1);
    });
    assert!(panics.join().is_err());
    assert_eq!((MADE.load(SeqCst), DROPPED.load(SeqCst)), (51, 51));
}

#[test]
fn dropped_in_reverse_order_and_usable_in_destructors() {
    struct Notes(&'static str, Arc<Mutex<Vec<String>>>);
    impl Drop for Notes {
        fn drop(&mut self) {
            let others = [FIRST.try_with(|_| ()), SECOND.try_with(|_| ())].map(|r| r.is_ok());
            let number = NUMBER.try_with(Cell::get);
            self.1.lock().unwrap().push(format!("{} {others:?} {number:?}", self.0));
        }
    }
    task_local! {
        static FIRST: RefCell<Option<Notes>> = const { RefCell::new(None) };
        static SECOND: RefCell<Option<Notes>> = const { RefCell::new(None) };
        static NUMBER: Cell<u32> = const { Cell::new(3) };
    }
    let notes = Arc::new(Mutex::new(Vec::new()));
    let (one, other) = (notes.clone(), notes.clone());
    spawn(move || {
        FIRST.set(Some(Notes("first", one)));
        SECOND.set(Some(Notes("second", other)));
    })
    .join()
    .unwrap();
    assert_eq!(*notes.lock().unwrap(), ["second [true, false] Ok(3)", "first [false, false] Err(AccessError)"]);
    assert_eq!(AccessError.to_string(), "the task-local was destroyed already");
}

#[test]
fn initialisers_that_fail_or_use_the_key() {
    task_local! {
        static FAILS: Cell<u32> = panic_any("no");
        static RECURSES: Cell<u32> = {
            if DEPTH.replace(1) == 0 {
                assert_eq!(RECURSES.get(), 10);
            }
            Cell::new(DEPTH.replace(2) * 10)
        };
        static DEPTH: Cell<u32> = const { Cell::new(0) };
    }
    everywhere(|| {
        for _ in 0..2 {
            let payload = catch_unwind(|| FAILS.get()).unwrap_err();
            assert_eq!(payload.downcast_ref(), Some(&"no"));
        }
        // `set` needs no initialiser.
        FAILS.set(4);
        assert_eq!(FAILS.get(), 4);
        assert_eq!((RECURSES.get(), DEPTH.get()), (10, 2));
    });
}

#[test]
fn references_stay_right_while_others_are_made() {
    task_local! {
        static A: [u64; 4] = [1, 2, 3, 4];
        static B: Vec<u64> = (0..100).collect();
        static C: () = ();
        static D: Box<u8> = Box::new(9);
    }
    everywhere(|| {
        let sum = A.with(|a| {
            let sum = B.with(|b| C.with(|()| D.with(|d| b.iter().sum::<u64>() + u64::from(**d))));
            yield_now();
            a.iter().sum::<u64>() + sum
        });
        assert_eq!(sum, 10 + 4950 + 9);
    });
}

#[test]
fn of_the_os_thread_in_blocking_and_of_the_green_thread_in_futures() {
    task_local!(static MINE: Cell<u32> = const { Cell::new(0) });
    runtime(1).run(|| {
        MINE.set(1);
        blocking(|| assert_eq!(MINE.replace(2), 0));
        block_on(async {
            assert_eq!(MINE.get(), 1);
            assert_eq!(spawn(|| MINE.get()).await.unwrap(), 0);
            MINE.set(3);
        });
        assert_eq!(MINE.get(), 3);
        morestack::scope(|s| {
            assert_eq!((MINE.get(), s.spawn(|| MINE.get()).join().unwrap()), (3, 0));
        });
        assert_eq!(blocking(|| MINE.get()), 2);
    });
}

/// Values that may not be shared or sent stay with their green thread.
#[test]
fn values_need_be_neither_send_nor_sync() {
    use std::rc::Rc;
    task_local!(static RC: Rc<Cell<u32>> = Rc::new(Cell::new(0)));
    let rt = runtime(2);
    let handles: Vec<_> = (0..50)
        .map(|_| {
            rt.spawn(|| {
                let mine = RC.with(Rc::clone);
                for _ in 0..20 {
                    mine.set(mine.get() + 1);
                    yield_now();
                }
                RC.with(|rc| rc.get())
            })
        })
        .collect();
    assert!(handles.into_iter().all(|handle| handle.join().unwrap() == 20));
    let rc = catch_unwind(AssertUnwindSafe(|| RC.with(Rc::strong_count)));
    assert_eq!(rc.unwrap(), 1);
}
