//! Blocking and waking a green thread: `park`, `park_timeout`, `unpark`, `yield_now`, `sleep`.
//!
//! Each green thread has a token, as `std::thread` has; [`crate::token`] has the protocol.
//!
//! A sleeper waits with the other word: `unpark` during a sleep leaves a token and does not cut the sleep short, as with
//! `std::thread::sleep`.
//!
//! # While unwinding
//!
//! The unwinder's state and the panic count are the OS thread's. A green thread that parks in a destructor during a
//! panic therefore blocks its OS thread (PARKED_OS) instead of leaving it; `yield_now` does nothing then. The handle of
//! that OS thread stays where it is when it has been used: a waker may be late, and the next one needs it then.

use std::time::{Duration, Instant};

use morestack_asm::{GHead, McallFn, mcall, prologue, switch, switch_publishing};

use crate::g::{G, GRef, Status};
use crate::m::{self, M};
use crate::ready::{Next, ready_here};
use crate::task::GArc;
use crate::token::{PARKED, PARKED_OS, TIMED_OUT, Token, wake};
use crate::{cancel, parked, schedule, timed};

/// Blocks the calling thread until its token is made available by [`Thread::unpark`](crate::Thread::unpark), and takes
/// it. Returns at once if it is available already.
///
/// As `std::thread::park`, on green threads too: those leave their OS thread to others. It may return without a token,
/// so call it in a loop that checks what is waited for. On an OS thread it is `std::thread::park`.
///
/// In a destructor during a panic it blocks the worker, with all green threads that are tied to it: the state of a panic
/// belongs to the OS thread. What is waited for there must not depend on one of them.
///
/// ```
/// use std::sync::atomic::{AtomicBool, Ordering};
/// static READY: AtomicBool = AtomicBool::new(false);
///
/// let waiter = morestack::spawn(|| {
///     while !READY.load(Ordering::Acquire) {
///         morestack::park();
///     }
/// });
/// READY.store(true, Ordering::Release);
/// waiter.thread().unpark();
/// waiter.join().unwrap();
/// ```
pub fn park() {
    let Some(whole) = m::current_g_ptr() else {
        return std::thread::park();
    };
    // SAFETY: the calling green thread.
    let g = unsafe { whole.as_ref() };
    cancel::point_of(g);
    let token = Token::of(g);
    if token.take() {
        return;
    }
    if std::thread::panicking() {
        return park_os(g, None);
    }
    // SAFETY: on a green thread, not unwinding; unparkers know this token.
    unsafe { wait_for(GRef::from_ptr(whole), token, park_m) };
    token.clear();
    cancel::point_of(g);
}

/// As [`park`], for `duration` at most.
///
/// As `std::thread::park_timeout`: it does not say which of the two it was, and may return without a token before the time is
/// over.
///
/// ```
/// use std::time::{Duration, Instant};
/// let waiter = morestack::spawn(|| {
///     let start = Instant::now();
///     morestack::park_timeout(Duration::from_secs(60));
///     start.elapsed()
/// });
/// waiter.thread().unpark();
/// assert!(waiter.join().unwrap() < Duration::from_secs(60));
/// ```
pub fn park_timeout(duration: Duration) {
    let Some(g) = m::current_g() else {
        return std::thread::park_timeout(duration);
    };
    let Some(deadline) = Instant::now().checked_add(duration) else {
        // Further than the clock reaches.
        return park();
    };
    cancel::point_of(g);
    let token = Token::of(g);
    if token.take() {
        return;
    }
    if std::thread::panicking() {
        return park_os(g, Some(deadline));
    }
    while Instant::now() < deadline {
        timed::rest_until(|g| Token::of(g), deadline);
        if token.clear() != TIMED_OUT {
            break;
        }
    }
    cancel::point_of(g);
}

unsafe fn park_m(head: *mut GHead, _: usize) {
    // SAFETY: the green thread that called `mcall` on this M, which owns it.
    let (g, m) = unsafe { (GRef::from_head(head), m::of(head)) };
    rest(m, g, Token::of(&g));
}

/// Lets the calling green thread `g` wait for `token`, from here on its waker's; returns when it runs again, or if the token is there.
/// `on_g0` does the same by `mcall`.
///
/// # Safety
///
/// It does not unwind. One party will put the token there, at any time.
#[inline]
pub(crate) unsafe fn wait_for(g: GRef, token: Token<'_>, on_g0: McallFn) {
    debug_assert_eq!(m::current_g_ptr(), Some(g.ptr()));
    let next = m::enter_current().and_then(|m| schedule::follower(&m, g));
    // SAFETY: by the contract; the next one was taken from its queue for this thread.
    unsafe {
        match next {
            Some(next) => {
                if !switch_publishing(g.head_ptr(), next.head_ptr(), token.as_ptr(), PARKED) {
                    schedule::no_follower(g, next);
                }
            }
            None => _ = mcall(on_g0, 0),
        }
    }
}

/// Lets the calling green thread wait for its wait token.
///
/// # Safety
///
/// For `mcall`, on a green thread that does not unwind and that one other party will notify.
pub(crate) unsafe fn wait_m(head: *mut GHead, _: usize) {
    // SAFETY: the green thread that called `mcall` on this M, which owns it.
    let (g, m) = unsafe { (GRef::from_head(head), m::of(head)) };
    rest(m, g, Token::of_wait(&g));
}

/// Lets `g` wait for `token`, from here on its waker's; or resumes it if the token is there already.
fn rest(m: &M, g: GRef, token: Token<'_>) {
    if !begin_rest(m, g, token) {
        schedule::resume(m, g);
    }
}

/// Lets `g` wait for `token`, from here on its waker's; false if the token is there already.
#[inline(always)]
pub(crate) fn begin_rest(m: &M, g: GRef, token: Token<'_>) -> bool {
    // Before it is published: afterwards it is the waker's.
    parked::note(m, g);
    g.set_status(Status::Running, Status::Waiting);
    let published = token.publish(PARKED);
    if !published {
        g.set_status(Status::Waiting, Status::Running);
    }
    published
}

fn park_os(g: &G, deadline: Option<Instant>) {
    let me = std::thread::current();
    g.join.others.lock().get_or_insert_default().os_thread = Some(me);
    let token = Token::of(g);
    if token.publish(PARKED_OS) {
        while token.state() == PARKED_OS {
            match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => std::thread::park(),
                Some(Duration::ZERO) => break,
                Some(left) => std::thread::park_timeout(left),
            }
        }
    }
    token.clear();
}

/// Makes the token of `g` available, and the green thread runnable if it waits for it: true.
pub(crate) fn unpark(g: &GArc) -> bool {
    let before = Token::of(g).notify();
    match before {
        // SAFETY: this notification took PARKED.
        PARKED => unsafe { wake(g.ptr()) },
        PARKED_OS => {
            if let Some(thread) = g.join.others.lock().as_ref().and_then(|others| others.os_thread.as_ref()) {
                thread.unpark();
            }
        }
        _ => {}
    }
    before == PARKED
}

/// Gives way to the other runnable green threads: the caller goes to the tail of its run queue. On an OS thread it is
/// `std::thread::yield_now`. In a destructor during a panic it does nothing.
pub fn yield_now() {
    let Some(g) = m::current_g_ptr() else {
        return std::thread::yield_now();
    };
    if std::thread::panicking() {
        return;
    }
    // SAFETY: the green thread that runs here; the scheduler's count goes with it to the queue.
    let g = unsafe { GRef::from_ptr(g) };
    cancel::point_of(&g);
    let next = m::enter_current().and_then(|m| schedule::directly(&m, g));
    // SAFETY: on a green thread, not unwinding; it is queued once.
    unsafe {
        match next {
            Some(next) => switch(g.head_ptr(), next.head_ptr()),
            None => mcall(gosched_m, 0),
        }
    };
}

unsafe fn gosched_m(head: *mut GHead, _: usize) {
    // SAFETY: the green thread that called `mcall` on this M, which owns it.
    let (g, m) = unsafe { (GRef::from_head(head), m::of(head)) };
    g.set_status(Status::Running, Status::Runnable);
    ready_here(m, g, Next::Tail);
}

/// A preemption point by hand: for loops that call no function marked [`prologue`](macro@crate::prologue).
///
/// It costs one comparison. On threads without green threads it does nothing.
///
/// # Panics
///
/// Unwinds with a [`StackOverflow`](crate::StackOverflow) where less room is left on the stack than unchecked code may
/// need and the stack cannot grow.
#[inline(always)]
pub fn checkpoint() {
    prologue!();
}

/// Blocks the calling thread for `duration`. Other green threads run meanwhile. On an OS thread it is
/// `std::thread::sleep`.
///
/// ```
/// use std::time::{Duration, Instant};
/// let start = Instant::now();
/// morestack::spawn(|| morestack::sleep(Duration::from_millis(2))).join().unwrap();
/// assert!(start.elapsed() >= Duration::from_millis(2));
/// ```
pub fn sleep(duration: Duration) {
    match Instant::now().checked_add(duration) {
        Some(deadline) => sleep_until(deadline),
        // Further than the clock reaches: for ever.
        None => loop {
            sleep(Duration::from_secs(1 << 30));
        },
    }
}

/// Blocks the calling thread until `deadline`; not at all if that has passed. See [`sleep`].
pub fn sleep_until(deadline: Instant) {
    while let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|d| !d.is_zero()) {
        let Some((m, g)) = m::current().zip(m::resting_g()) else {
            std::thread::sleep(left);
            continue;
        };
        // SAFETY: the calling green thread.
        let g = unsafe { g.as_ref() };
        let long = m.sched().config.freeze_after.is_some_and(|after| left >= after);
        cancel::begin_contest(g);
        timed::sleep_until(long, deadline);
        if cancel::end_contest(g) {
            cancel::raise();
        }
    }
}

/// Runs `f` without preempting it: a request that arrives meanwhile is answered when `f` has returned. Nests.
///
/// For code that holds a `std::sync` lock, initialises a `OnceLock` or a `thread_local!`, or keeps a borrow of a
/// thread-local, and calls functions that carry checks meanwhile: others on the same worker would find it locked, half
/// made or borrowed. `f` may still park, sleep or yield by its own call. On an OS thread it only calls `f`.
///
/// # Panics
///
/// If `f` does; preemption is allowed again then.
pub fn without_preemption<R>(f: impl FnOnce() -> R) -> R {
    struct Allow;
    impl Allow {
        fn change(by: i16) -> u16 {
            m::current_g().map_or(1, |g| {
                let depth = g.preempt_off.get().checked_add_signed(by);
                g.preempt_off.set(depth.expect("without_preemption nests less deep"));
                g.preempt_off.get()
            })
        }
    }
    impl Drop for Allow {
        fn drop(&mut self) {
            if Allow::change(-1) == 0 {
                crate::newstack::rearm();
                cancel::unshielded();
            }
        }
    }
    Allow::change(1);
    let _allow = Allow;
    f()
}
