//! The life of a worker's OS thread: from a plain thread to an M, the scheduler loop, and back.
//!
//! The order matters on the way in: first the M and its g0, then `g`, then the live guard, then sysmon may write to it.
//! On the way out it is reversed, and the guard is left at 0: glibc reuses thread control blocks.
//!
//! A worker begins with a P or waits for one. It leaves when the runtime stops, and *retires* when it has had no P for
//! [`RETIRES_AFTER`] and nothing is tied to it.

use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;
use morestack_asm::{Signals, Stack, set_stackguard, setg, stackguard_slot, systemstack};

use crate::idle::Workers;
use crate::m::M;
use crate::p::P;
use crate::sched::Sched;
use crate::spawn::refuse;
use crate::{cancel, fault, fork, p, schedule};

/// Bytes of g0's stack, which is the OS thread's. The scheduler itself needs a few KB; what `blocking` runs is the rest for:
/// as much as std gives its threads.
const G0_STACK: usize = 2 << 20;

/// How long a thread is kept that nobody needs: as long as tokio keeps its blocking ones.
const RETIRES_AFTER: Duration = if cfg!(test) { Duration::from_millis(100) } else { Duration::from_secs(10) };

/// Why there is no thread.
pub(crate) enum NoThread {
    /// There may be no more.
    Limit,
    System(io::Error),
}

/// Starts a thread for one more M, which gets `p` or waits for one. Not if the runtime has stopped.
pub(crate) fn start(sched: &Arc<Sched>, p: Option<usize>) -> Result<(), NoThread> {
    let index = {
        let mut threads = sched.threads.lock();
        if threads.closed {
            return Ok(());
        }
        if threads.live >= sched.config.max_threads {
            return Err(NoThread::Limit);
        }
        threads.live += 1;
        sched.live_threads.store(threads.live, Relaxed);
        threads.starting += usize::from(p.is_none());
        threads.unused.pop().unwrap_or_else(|| sched.ms.push(CachePadded::new(M::new(sched.ms.count()))))
    };
    let name = format!("{}-{index}", sched.config.thread_name);
    let body = {
        let sched = sched.clone();
        move || {
            let m = &sched.ms[index];
            let exits = run(&sched, m, p);
            if !sched.stop_requested() {
                // Nobody waits for this one.
                drop(m.thread.lock().take());
            }
            end(&sched, index);
            if !exits {
                loop {
                    std::thread::park();
                }
            }
        }
    };
    // Locked until the handle is there: the thread may retire at once.
    let mut thread = sched.ms[index].thread.lock();
    match std::thread::Builder::new().name(name).stack_size(G0_STACK).spawn(body) {
        Ok(handle) => {
            *thread = Some(handle);
            Ok(())
        }
        Err(error) => {
            drop(thread);
            sched.threads.lock().starting -= usize::from(p.is_none());
            end(sched, index);
            Err(NoThread::System(error))
        }
    }
}

/// One thread less. What it wrote as an M is visible to whoever is the last.
fn end(sched: &Sched, index: usize) {
    let last = {
        let mut threads = sched.threads.lock();
        threads.live -= 1;
        sched.live_threads.store(threads.live, Relaxed);
        threads.unused.push(index);
        sched.stop_requested() && threads.close_if_empty()
    };
    if last {
        sched.set_stopped();
    }
}

/// Sees to it that `n` Ps are in use; or as many as could be, up to the one that no thread could be started for.
pub(crate) fn set_count(sched: &Arc<Sched>, n: usize) -> Result<(), (usize, NoThread)> {
    let _alone = sched.resizing.lock();
    let (before, unheld) = {
        let mut threads = sched.threads.lock();
        // The others that went out of use are held still, and come back into use where they are.
        let mut unheld: Vec<usize> = threads.retired.extract_if(.., |p| *p < n).collect();
        unheld.sort_unstable();
        while sched.ps.count() < n {
            unheld.push(sched.ps.push(CachePadded::new(P::new(sched.ps.count()))));
        }
        let before = sched.count();
        sched.set_count(n);
        (before, unheld)
    };
    // Those that sleep are to see that they are surplus; sysmon tells those that run.
    (n..before).for_each(|p| sched.idle.wake_holder(&**sched, p));
    for (at, &p) in unheld.iter().enumerate() {
        if sched.idle.give(&**sched, p, true) {
            continue;
        }
        if let Err(error) = start(sched, Some(p)) {
            sched.set_count(p);
            sched.threads.lock().retired.extend(&unheld[at..]);
            return Err((p, error));
        }
    }
    Ok(())
}

/// Runs green threads on the calling OS thread. False if the thread must not exit, ever: tied green threads that were
/// abandoned in the middle may have lent out what lives in its thread-locals.
fn run(sched: &Sched, m: &M, p: Option<usize>) -> bool {
    let _guard = AbortOnUnwind("a worker thread panicked outside of green threads");
    precise_timers();
    let signal_stack = fault::SignalStack::install();
    m.init(sched);
    // SAFETY: this is the M's own thread, and nothing runs on it yet.
    unsafe {
        let (head, g0) = (m.head.get(), m.g0.get());
        (*head).g0 = g0;
        (*head).gsignal = signal_stack.as_ref().map_or(Stack::NONE, fault::SignalStack::bounds);
        (*head).signals = Signals::here();
        (*g0).m = m.head_ptr();
        (*g0).set_stack(thread_stack());
        (*head).stackguard1 = (*g0).stackguard0;
        setg(g0);
        set_stackguard((*g0).stackguard0);
    }
    m.set_slot(stackguard_slot());

    let has_p = match p {
        Some(p) => {
            attach(m, p);
            true
        }
        None => {
            sched.threads.lock().starting -= 1;
            wait_for_p(m, false, || false)
        }
    };
    if has_p {
        schedule::run(m);
    }

    schedule::abandon_all(m);
    if let Some(p) = m.p_if_any() {
        // SAFETY: on g0 of the M that holds the P; nothing runs any more.
        unsafe { p.cache() }.clear();
        p.idle.store(true, Relaxed);
        m.set_p(None);
        sched.idle.put_back(sched, p.index);
    }
    m.blocks.clear();
    m.tid.store(0, Relaxed);
    m.pinned.set(None);
    m.set_slot(ptr::null());
    // SAFETY: this thread ceases to run green threads.
    unsafe {
        setg(ptr::null_mut());
        set_stackguard(0);
    }
    drop(signal_stack);
    m.started.get() == 0
}

/// `m` goes on with the P of this index, which it was given.
pub(crate) fn attach(m: &M, p: usize) {
    let sched = m.sched();
    if sched.config.pin_workers && m.pinned.replace(Some(p)) != Some(p) {
        sched.pin(p);
    }
    let p: &P = &sched.ps[p];
    if p.holder().is_some_and(|before| !ptr::eq(before, m)) {
        p.stats.handoffs.add(1);
    }
    m.set_p(Some(p));
    m.turn.set(p::stamp());
    p.next_slice(m.turn.get());
    p.idle.store(false, Relaxed);
    sched.sysmon.worker_woke();
}

/// Waits until `m`, which has no P, is given one; see [`Idle::wait_for_p`](crate::idle::Idle::wait_for_p). False if it shall
/// leave.
pub(crate) fn wait_for_p(m: &M, robbed: bool, wants: impl Fn() -> bool) -> bool {
    let sched = m.sched();
    let retires = (m.started.get() == 0).then(|| Instant::now() + RETIRES_AFTER);
    let comes_back = sched.idle.wait_for_p(sched, &m.sleep, robbed, wants, retires);
    if comes_back {
        attach(m, m.sleep.take_p().expect("who comes back has a P"));
    }
    comes_back
}

/// `m` comes in, and its P is gone: waits for another, with the green thread that it runs.
#[cold]
pub(crate) fn regain(m: &M) {
    if fork::is_child() {
        refuse(&fork::error());
    }
    // The room on the green thread's stack is its own.
    systemstack(|| {
        m.set_p(None);
        // When the runtime stops, those that leave give theirs away.
        while !wait_for_p(m, false, || true) {}
        m.sched().idle.stop_spinning(m.sched(), &m.sleep);
    });
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

/// Calls `f` in a frame that must not be left before: a cancellation waits, and a panic ends the process.
pub(crate) fn never_unwinding<R>(f: impl FnOnce() -> R) -> R {
    struct Abort;
    impl Drop for Abort {
        fn drop(&mut self) {
            std::process::abort();
        }
    }
    let guard = Abort;
    let result = cancel::never_here(f);
    std::mem::forget(guard);
    result
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

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    use std::time::{Duration, Instant};

    use crate::{Runtime, blocking, sleep, spawn};

    fn until(what: impl Fn() -> bool) {
        let start = Instant::now();
        while !what() {
            assert!(start.elapsed() < Duration::from_secs(20));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn threads_that_nobody_needs_retire_and_others_take_their_places() {
        let rt = Runtime::builder().workers(1).build().unwrap();
        let call = || blocking(|| std::thread::sleep(Duration::from_millis(20)));
        for _ in 0..3 {
            let many = Arc::new(AtomicBool::new(false));
            let calls =
                (0..8).map(|_| many.clone()).map(|many| rt.spawn(move || blocking(|| until(|| many.load(Relaxed)))));
            let calls: Vec<_> = calls.collect();
            until(|| rt.metrics().threads > 4);
            many.store(true, Relaxed);
            // Something stays tied to one of them.
            let tied = rt.spawn(move || {
                let tied = spawn(|| sleep(Duration::from_millis(300)));
                call();
                tied
            });
            calls.into_iter().for_each(|call| call.join().unwrap());
            let tied = tied.join().unwrap();
            until(|| rt.metrics().threads <= 2);
            tied.join().unwrap();
            until(|| rt.metrics().threads == 1);
        }
        assert!(rt.sched().ms.count() <= 11, "the Ms of those that retired are used again");
    }
}
