//! `blocking`: calls that block the OS thread.
//!
//! The function runs on g0, with the M in an announced call ([`crate::hold`]): it is as good as on an OS thread of its own,
//! with the stack of one, and may use the runtime from outside. Its P stays with the M until sysmon takes it
//! ([`crate::retake`]), so a short call costs next to nothing. If the last call of this M was long, and others wait, the M
//! gives its P away at once.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use morestack_asm::{prologue, systemstack};

use crate::m::{self, M};
use crate::{p, worker};

/// Ticks of the time stamp counter from which on a call was long: about 50 us, what it takes to wake another thread.
const LONG: u64 = 150_000;

/// Calls `f`, which may block the OS thread: reads a file, waits for a child process, locks what other OS threads lock,
/// computes in C for a while. Other green threads go on meanwhile, on another OS thread if need be.
///
/// As Go's system calls: short ones cost nanoseconds. Where one takes longer, and other green threads wait for a worker,
/// an additional OS thread takes over for it, one of at most [`RuntimeBuilder::max_threads`]. Only the green threads that are
/// *tied* to this one ([`spawn`](crate::spawn)) wait until it has returned.
///
/// `f` runs on the OS thread itself: [`current`](crate::current) is that, with a stack of 2 MiB; what it waits for by this
/// crate blocks it as it does any OS thread, and it is not preempted. Outside of green threads, and in a destructor during
/// a panic, this only calls `f`.
///
/// # Panics
///
/// If `f` does, with its payload.
///
/// ```
/// let hosts = morestack::spawn(|| morestack::blocking(|| std::fs::read_to_string("/etc/hosts")));
/// println!("{} bytes", hosts.join().unwrap()?.len());
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// [`RuntimeBuilder::max_threads`]: crate::RuntimeBuilder::max_threads
pub fn blocking<R>(f: impl FnOnce() -> R) -> R {
    prologue!();
    if m::resting_g().is_none() {
        return f();
    }
    systemstack(|| call(f)).unwrap_or_else(|payload| resume_unwind(payload))
}

/// On g0.
fn call<R>(f: impl FnOnce() -> R) -> Result<R, Box<dyn Any + Send>> {
    let m = m::current().expect("a green thread runs on an M");
    m.come_in();
    if m.blocks_long.get() && m.sched().lacks_workers() {
        give_away(m);
    }
    let start = p::stamp();
    m.hold.begin_call();
    let result = catch_unwind(AssertUnwindSafe(f));
    let held = m.hold.end_call();
    m.blocks_long.set(p::stamp().wrapping_sub(start) > LONG);
    if held {
        // What it waited for does not count.
        m.p().next_slice(0);
    } else {
        worker::regain(m);
    }
    m.hold.go_out();
    result
}

/// If there is another M that can have it.
fn give_away(m: &M) {
    let (sched, p) = (m.sched(), m.p());
    sched.idle.stop_spinning(sched, &m.sleep);
    if sched.idle.give(sched, p.index, true) {
        m.set_p(None);
    }
}
