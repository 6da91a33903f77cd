//! A child made by `fork` cannot use its parent's runtimes, and is told so instead of waiting for ever.

use std::io::ErrorKind;
use std::sync::Mutex;
use std::time::Duration;

use morestack::{Builder, Runtime, RuntimeStopped};

/// One test at a time: what one holds while another forks stays locked in that child.
static ONE: Mutex<()> = Mutex::new(());

/// The exit code of a child that does `f`, whose result is the code unless it ends by itself.
fn child(f: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child calls functions of this crate, which is what is tested, and ends without running anything else.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork");
    if pid == 0 {
        // SAFETY: plain system calls; a child that waits for ever is killed.
        unsafe {
            libc::alarm(20);
            libc::_exit(f());
        }
    }
    let mut status = 0;
    // SAFETY: waits for the child made above.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { -libc::WTERMSIG(status) }
}

fn runtime() -> Runtime {
    Runtime::builder().workers(2).build().unwrap()
}

#[test]
fn starting_a_runtime_is_an_error() {
    let _one = ONE.lock();
    let rt = runtime();
    assert_eq!(rt.run(|| 1), 1);
    let code = child(|| match Runtime::new() {
        Err(error) if error.kind() == ErrorKind::Unsupported && error.to_string().contains("fork") => 11,
        _ => 1,
    });
    assert_eq!(code, 11);
    let code = child(|| match Builder::new().spawn(|| ()) {
        Err(error) if error.kind() == ErrorKind::Unsupported => 12,
        _ => 1,
    });
    assert_eq!(code, 12);
    assert_eq!(rt.run(|| 2), 2, "the parent goes on");
}

#[test]
fn spawning_ends_the_child() {
    let _one = ONE.lock();
    let rt = runtime();
    assert_eq!(rt.run(|| 1), 1);
    assert_eq!(child(|| rt.run(|| 1)), 2, "exit code");
    assert_eq!(rt.run(|| 2), 2);
}

#[test]
fn joining_does_not_wait() {
    let _one = ONE.lock();
    let rt = runtime();
    let sleeper = rt.spawn(|| morestack::sleep(Duration::from_millis(300)));
    let done = rt.spawn(|| 7);
    while !done.is_finished() {
        std::thread::yield_now();
    }
    let (mut sleeper, mut done) = (Some(sleeper), Some(done));
    let code = child(|| match (sleeper.take().unwrap().join(), done.take().unwrap().join()) {
        (Err(payload), Ok(7)) if payload.is::<RuntimeStopped>() => 13,
        _ => 1,
    });
    assert_eq!(code, 13);
    sleeper.unwrap().join().unwrap();
    assert_eq!(done.unwrap().join().unwrap(), 7);
}

#[test]
fn dropping_a_runtime_returns() {
    let _one = ONE.lock();
    let mut rt = Some(runtime());
    let code = child(|| {
        drop(rt.take());
        14
    });
    assert_eq!(code, 14);
    assert_eq!(rt.unwrap().run(|| 3), 3);
}
