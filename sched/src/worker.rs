//! The life of a worker's OS thread: from a plain thread to an M, the scheduler loop, and back.
//!
//! The order matters on the way in: first the M and its g0, then `g`, then the live guard, then sysmon may write to it.
//! On the way out it is reversed, and the guard is left at 0: glibc reuses thread control blocks.

use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::ptr;

use morestack_asm::{STACK_GUARD, Stack, set_stackguard, setg, stackguard_slot};

use crate::m::M;
use crate::sched::Sched;
use crate::{fault, schedule};

/// Bytes of g0's stack, which is the OS thread's. The scheduler itself needs a few KB; destructors of closures that were
/// dropped before they ran, and panic messages, are what the rest is for.
pub(crate) const G0_STACK: usize = 512 << 10;

/// Runs green threads on the calling OS thread until the runtime stops. False if the thread must not exit, ever: tied
/// green threads that were abandoned in the middle may have lent out what lives in its thread-locals.
pub(crate) fn run(sched: &Sched, m: &M) -> bool {
    let _guard = AbortOnUnwind("a worker thread panicked outside of green threads");
    let p = &sched.ps[m.index];
    if sched.config.pin_workers {
        pin(m.index);
    }
    precise_timers();
    let signal_stack = fault::SignalStack::install();
    m.init(sched, p);
    // SAFETY: this is the M's own thread, and nothing runs on it yet.
    unsafe {
        let (head, g0) = (m.head.get(), m.g0.get());
        (*head).g0 = g0;
        (*head).gsignal = signal_stack.as_ref().map_or(Stack::NONE, fault::SignalStack::bounds);
        (*g0).m = m.head_ptr();
        (*g0).stack = thread_stack();
        (*g0).stackguard0 = (*g0).stack.lo + STACK_GUARD;
        (*head).stackguard1 = (*g0).stackguard0;
        setg(g0);
        set_stackguard((*g0).stackguard0);
    }
    m.set_slot(stackguard_slot());

    schedule::run(m);

    schedule::abandon_all(m);
    // SAFETY: on the thread of `m`, which holds its P; nothing runs any more.
    unsafe { p.cache() }.clear();
    m.set_slot(ptr::null());
    // SAFETY: this thread ceases to run green threads.
    unsafe {
        setg(ptr::null_mut());
        set_stackguard(0);
    }
    drop(signal_stack);
    m.started.get() == 0
}

/// Nothing unwinds out of the scheduler: it would leave a thread behind that sysmon writes to and others wait for.
pub(crate) struct AbortOnUnwind(pub(crate) &'static str);

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = writeln!(io::stderr(), "morestack: fatal: {}", self.0);
            std::process::abort();
        }
    }
}

/// The bounds of the calling OS thread's stack; where they cannot be had, no lower bound.
fn thread_stack() -> Stack {
    let mut attr = MaybeUninit::<libc::pthread_attr_t>::uninit();
    let (mut lo, mut size) = (ptr::null_mut(), 0);
    // SAFETY: plain calls with out-parameters; `attr` is initialised by the first and destroyed.
    unsafe {
        if libc::pthread_getattr_np(libc::pthread_self(), attr.as_mut_ptr()) == 0 {
            libc::pthread_attr_getstack(attr.as_ptr(), &mut lo, &mut size);
            libc::pthread_attr_destroy(attr.as_mut_ptr());
        }
    }
    Stack { lo: lo as usize, hi: lo as usize + size }
}

/// Asks for wake-ups that are not delayed: the default slack of 50 us is half a short slice.
pub(crate) fn precise_timers() {
    // SAFETY: affects the calling thread only. A failure leaves the default.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
}

/// Asks to be run soon after waking, in return for running briefly at a time: for sysmon, which works for a microsecond
/// when it wakes. Without it the kernel may let a busy thread finish its own slice of 3 ms first. Kernels before 6.12
/// ignore the request.
pub(crate) fn short_slices() {
    /// The least that the kernel takes, in nanoseconds.
    const RUNTIME: u64 = 100_000;
    // SAFETY: plain system calls on the calling thread, with a buffer of the size that is named. A failure leaves
    // everything as it was.
    unsafe {
        let mut attr = MaybeUninit::<libc::sched_attr>::zeroed().assume_init();
        let size = size_of::<libc::sched_attr>() as u32;
        if libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attr, size, 0) == 0
            && attr.sched_policy == libc::SCHED_OTHER as u32
        {
            attr.sched_runtime = RUNTIME;
            libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0);
        }
    }
}

/// Binds the calling thread to the CPU whose turn it is. Where the CPUs cannot be had it stays unbound.
fn pin(index: usize) {
    if let Some(cores) = core_affinity::get_core_ids().filter(|c| !c.is_empty()) {
        core_affinity::set_for_current(cores[index % cores.len()]);
    }
}
