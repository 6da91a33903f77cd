//! `fork`: what a child process may do with the runtimes of its parent. Nothing, and it is told so.
//!
//! A child has one thread, the one that forked. No worker and no sysmon of its parent lives in it, and locks may be held by
//! threads that do not exist: in a process with threads only `exec` is safe after `fork`, whatever the program. So that a
//! child that does more does not wait for ever, it remembers that it is one:
//!
//! | in the child | |
//! |---|---|
//! | starting a runtime | an error, `Unsupported` |
//! | spawning on one of the parent's | one line on standard error, exit code 2; [`Builder::spawn`](crate::Builder::spawn) on the global one: an error |
//! | joining a green thread of the parent's | [`RuntimeStopped`](crate::RuntimeStopped), unless it had finished |
//! | dropping a runtime of the parent's | returns at once |
//!
//! A child that runs another program by `exec` (`std::process::Command`) is not concerned.

use std::io;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// This process is a child of one that had a runtime.
static FORKED: AtomicBool = AtomicBool::new(false);

/// Watches for forks from now on. Called before the first runtime starts.
pub(crate) fn watch() {
    extern "C" fn in_child() {
        FORKED.store(true, Relaxed);
    }
    static WATCHING: Once = Once::new();
    WATCHING.call_once(|| {
        // Without memory for it a child waits for ever where it would have been told: nothing that worked is lost.
        // SAFETY: the handler is async-signal-safe.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    });
}

#[inline(always)]
pub(crate) fn is_child() -> bool {
    FORKED.load(Relaxed)
}

/// Why not.
pub(crate) fn error() -> io::Error {
    let message = "in a child made by fork: the threads of its parent's runtimes are not there; use exec";
    io::Error::new(io::ErrorKind::Unsupported, message)
}
