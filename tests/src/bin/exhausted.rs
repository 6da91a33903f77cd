//! Address space that runs out, under a limit of the operating system: those that find no stack end with an error, the
//! others go on, and what they give back is had by later ones.

use std::any::Any;
use std::io;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use morestack::{Builder, JoinHandle, Runtime, Stack, park, prologue};

/// Of address space (`RLIMIT_AS`). The stacks of each of the two kinds get a quarter.
const LIMIT: u64 = 4 << 30;

/// More than a gigabyte holds.
const STACKS: usize = 6000;
const STACK: usize = 256 << 10;

/// Copying ones, and what each wants: three times that is in a gigabyte.
const WIDE: usize = 8;

static WAITING: AtomicUsize = AtomicUsize::new(0);
static CAUGHT: AtomicUsize = AtomicUsize::new(0);

fn wait() {
    WAITING.fetch_add(1, Ordering::SeqCst);
    park();
}

/// Asks for a stack of 256 MiB and touches little of it.
#[prologue(frame = 200 << 20)]
fn wide() {
    wait();
}

/// Waits until each either waits or has failed.
fn settle<T>(handles: &[JoinHandle<T>]) {
    while WAITING.load(Ordering::SeqCst) + handles.iter().filter(|handle| handle.is_finished()).count() < handles.len()
    {
        thread::sleep(Duration::from_millis(1));
    }
    WAITING.store(0, Ordering::SeqCst);
}

fn reason(payload: Box<dyn Any + Send>) -> String {
    let error = payload.downcast::<io::Error>().expect("the reason why there is no stack");
    assert_eq!(error.kind(), io::ErrorKind::OutOfMemory, "{error}");
    error.to_string()
}

/// Wakes all, joins all, and prints how many there were of either kind, and the first error.
fn finish(what: &str, handles: Vec<JoinHandle<usize>>) {
    handles.iter().for_each(|handle| handle.thread().unpark());
    let (mut finished, mut refused) = (0, Vec::new());
    for (n, handle) in handles.into_iter().enumerate() {
        match handle.join() {
            Ok(value) => {
                assert_eq!(value, n);
                finished += 1;
            }
            Err(payload) => refused.push(reason(payload)),
        }
    }
    println!("{what} finished {finished}");
    println!("{what} refused {}", refused.len());
    if let Some(first) = refused.first() {
        println!("{what} error {first}");
    }
}

fn main() {
    let limit = libc::rlimit { rlim_cur: LIMIT, rlim_max: LIMIT };
    // SAFETY: `limit` is a live rlimit.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
    let runtime = Runtime::builder().workers(2).stack_size(STACK).build().expect("a runtime");

    let waits = |n| {
        runtime.spawn(move || {
            wait();
            n
        })
    };
    let handles: Vec<_> = (0..STACKS).map(waits).collect();
    settle(&handles);
    finish("reserved", handles);
    // As many as a gigabyte holds, again.
    let handles: Vec<_> = (0..STACKS / 2).map(waits).collect();
    settle(&handles);
    finish("again", handles);

    let handles: Vec<_> = runtime.run(|| {
        let grows = |n| {
            let grow = move || {
                if n % 2 == 0 {
                    wide();
                } else if let Err(payload) = catch_unwind(wide) {
                    // Half of them look at the error and go on.
                    reason(payload);
                    CAUGHT.fetch_add(1, Ordering::SeqCst);
                }
                n
            };
            let builder = Builder::new().name(format!("wide-{n}")).stack(Stack::Copying);
            // SAFETY: nothing keeps a pointer to the stack, nor borrows a thread-local.
            unsafe { builder.spawn_untied(grow) }.expect("settings that are allowed")
        };
        (0..WIDE).map(grows).collect()
    });
    settle(&handles);
    finish("copying", handles);
    println!("copying caught {}", CAUGHT.load(Ordering::SeqCst));
    runtime.shutdown(Duration::from_secs(10)).expect("all have finished");
    println!("in_use_bytes {}", morestack_stacks::stats().in_use_bytes);
}
