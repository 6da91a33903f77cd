//! Cancellation: unwinding a green thread from outside, where it waits or at a safepoint.
//!
//! ```text
//!   cancel, anywhere                          the green thread
//!   ────────────────                          ────────────────
//!   cancelled = true, once                    waits: PARKED → CANCELLED was done to it: leaves its queue, unwinds
//!   unpark                                    is about to wait: CANCELLED is there, and so it does not: the same
//!   wait word: EMPTY, PARKED, SCAN            runs: a safepoint that fails looks at the wait word
//!              → CANCELLED
//!   not seen to wait: left to sysmon
//! ```
//!
//! The request is in two places. `cancelled` is for ever. CANCELLED in the wait word ([`crate::token`]) is what is looked
//! at, by code that looks at this word anyway: a request that nobody makes costs nothing.
//!
//! *Armed*: where `cancelled` is set, the wait word of a green thread that runs is CANCELLED, or soon will be. So the next wait
//! is not begun, and after [`Cancelled`] was caught neither is the one after. A wake-up may write over CANCELLED, and a wait that
//! must not be interrupted takes it away: so each wait, when it is over, [puts it back](rearm), as the end of a
//! [shield](never_here) does.
//!
//! *Soon*: a canceller that finds NOTIFIED comes between the end of a wait and the moment in which the waiter takes notice;
//! it cannot arm the word then. And one that finds EMPTY has a green thread before it that runs, and may go on to do so. Both
//! leave it to sysmon, in [`LISTED`], and try once more. sysmon arms the word at one of its looks, and fails the next
//! safepoint of the green thread at each look that finds it running. *It does not sleep meanwhile*: while NOTIFIED is there,
//! the green thread is runnable or runs; its worker is, or will be, busy, and sysmon looks at least [`LINGER`] times after that
//! was so. The second try comes after the entry is in the list; so if it finds NOTIFIED, these looks are still ahead.
//!
//! # Where it is raised
//!
//! By the green thread itself, in a call that waits, after it has left the queue that it waited in, or at a safepoint in
//! [`crate::newstack`]; not while it unwinds, in [`without_preemption`](crate::without_preemption), under a shield of the
//! runtime's, or after its closure has returned. In `blocking` it is not on its own stack, and waits as an OS thread does.
//!
//! [`LINGER`]: crate::sysmon::LINGER

use std::fmt;
use std::panic::resume_unwind;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use parking_lot::Mutex;

use crate::g::{G, GRef, Status};
use crate::park::{self, wait_for, wait_m};
use crate::sched::Sched;
use crate::task::GArc;
use crate::token::{NOTIFIED, PARKED, SCAN, Token, wake};
use crate::{m, newstack};

/// What a green thread unwinds with that was [cancelled](crate::JoinHandle::cancel), and what its `join` returns as the error.
///
/// ```
/// let sleeper = morestack::spawn(|| morestack::sleep(std::time::Duration::MAX));
/// sleeper.cancel();
/// assert!(sleeper.join().unwrap_err().is::<morestack::Cancelled>());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancelled;

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the green thread was cancelled")
    }
}

impl std::error::Error for Cancelled {}

/// A green thread that was cancelled, and was not seen to wait.
struct Listed {
    g: GArc,
    /// Its wait word was CANCELLED once.
    armed: bool,
}

/// Of all runtimes: a canceller has no right to touch that of the green thread.
static LISTED: Mutex<Vec<Listed>> = Mutex::new(Vec::new());
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Entries that a look of sysmon's looks at, at most.
const LOOKED_AT: usize = 256;

/// Requests that `g` unwinds.
pub(crate) fn cancel(g: &GArc) {
    if g.join.word.is_done() || g.cancelled.swap(true, Relaxed) {
        return;
    }
    // The one that finds this has the other, too.
    let armed = interrupt(g);
    let unparked = park::unpark(g);
    if armed == Some(Was::Waiting) || unparked {
        return;
    }
    {
        let mut listed = LISTED.lock();
        listed.push(Listed { g: g.clone(), armed: armed.is_some() });
        COUNT.store(listed.len(), Relaxed);
    }
    if armed.is_none() {
        interrupt(g);
    }
}

/// What the canceller found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Was {
    Waiting,
    Elsewhere,
}

/// Interrupts the present wait, or the next. None if that is not possible now.
fn interrupt(g: &GArc) -> Option<Was> {
    let before = Token::of_wait(g).cancel()?;
    if before == PARKED {
        // SAFETY: PARKED was taken.
        unsafe { wake(g.ptr()) };
    }
    // From SCAN it is woken by the scanner.
    Some(if [PARKED, SCAN].contains(&before) { Was::Waiting } else { Was::Elsewhere })
}

/// sysmon's look at those of its runtime.
pub(crate) fn look(sched: &Sched) {
    if COUNT.load(Relaxed) == 0 {
        return;
    }
    let mut listed = LISTED.lock();
    let looked_at = listed.len().min(LOOKED_AT);
    let mut gone = Vec::new();
    for at in (0..looked_at).rev() {
        let Listed { g, armed } = &mut listed[at];
        if g.join.word.is_done() {
            gone.push(listed.swap_remove(at));
        } else if g.belongs_to(sched) {
            *armed = *armed || interrupt(g).is_some();
            // It may run elsewhere by now, or have ended: then the check fails in vain.
            if g.status() == Status::Running
                && let Some(m) = sched.ps().filter_map(|p| p.holder()).find(|m| m.curg() == g.ptr().as_ptr())
            {
                m.poison();
            }
        }
    }
    let others = looked_at.saturating_sub(gone.len());
    listed.rotate_left(others);
    COUNT.store(listed.len(), Relaxed);
    drop(listed);
}

/// The runtime has stopped.
pub(crate) fn forget(sched: &Sched) {
    let mut listed = LISTED.lock();
    let gone: Vec<_> = listed.extract_if(.., |entry| entry.g.belongs_to(sched)).collect();
    COUNT.store(listed.len(), Relaxed);
    drop(listed);
    drop(gone);
}

/// Unwinds the calling green thread, if it was cancelled and may be.
#[inline(always)]
pub(crate) fn point() {
    if let Some(g) = m::current_g() {
        point_of(g);
    }
}

/// The same for `g`, which is the calling one.
#[inline(always)]
pub(crate) fn point_of(g: &G) {
    if Token::of_wait(g).is_cancelled() {
        point_slow(g);
    }
}

#[cold]
fn point_slow(g: &G) {
    if may_raise(g) && !std::thread::panicking() {
        raise();
    }
}

/// Whether `g`, which does not unwind, may be unwound. By its owner.
pub(crate) fn may_raise(g: &G) -> bool {
    g.shield.get() == 0 && g.preempt_off.get() == 0
}

/// Unwinds the calling green thread.
#[cold]
pub(crate) fn raise() -> ! {
    resume_unwind(Box::new(Cancelled))
}

/// Lets the calling green thread `g` wait until its wait is notified: true. If it is interrupted and `may_leave`, false: then it
/// may be notified all the same.
///
/// # Safety
///
/// It does not unwind; whoever is to end the wait knows of it, and notifies it once.
#[inline]
pub(crate) unsafe fn rest(g: GRef, may_leave: bool) -> bool {
    loop {
        // SAFETY: by the contract.
        unsafe { wait_for(g, Token::of_wait(&g), wait_m) };
        if let Some(notified) = outcome(&g, may_leave) {
            return notified;
        }
    }
}

/// The same for one that has rested already. None if it has to rest again; where a timer has ended that, the caller takes
/// notice.
#[inline]
pub(crate) fn outcome(g: &G, may_leave: bool) -> Option<bool> {
    let token = Token::of_wait(g);
    if token.state() == NOTIFIED {
        token.reset();
        // CANCELLED may have been there before.
        rearm(g);
        return Some(true);
    }
    outcome_of_cancelled(g, may_leave)
}

#[cold]
fn outcome_of_cancelled(g: &G, may_leave: bool) -> Option<bool> {
    let token = Token::of_wait(g);
    if token.is_cancelled() && may_leave && may_raise(g) {
        return Some(false);
    }
    token.uncancel();
    None
}

/// A contested wait of the calling green thread `g`, or a sleep, is about to begin. Unwinds it instead, if it was cancelled and
/// may be.
pub(crate) fn begin_contest(g: &G) {
    if Token::of_wait(g).is_cancelled() {
        point_slow(g);
        Token::of_wait(g).uncancel();
    }
}

/// It is over: nobody knows of it any more. Whether the green thread is to be unwound.
pub(crate) fn end_contest(g: &G) -> bool {
    if Token::of_wait(g).is_cancelled() {
        return may_raise(g);
    }
    Token::of_wait(g).reset();
    rearm(g);
    false
}

/// Interrupts the next wait of the calling green thread, if it was cancelled.
#[inline(always)]
pub(crate) fn rearm(g: &G) {
    if g.cancelled.load(Relaxed) {
        // Unless it is there already.
        let _ = Token::of_wait(g).cancel();
    }
}

/// Calls `f`, in which the calling green thread is not unwound by a cancellation.
pub(crate) fn never_here<R>(f: impl FnOnce() -> R) -> R {
    struct Shield;
    impl Drop for Shield {
        fn drop(&mut self) {
            if let Some(g) = m::current_g() {
                g.shield.set(g.shield.get() - 1);
            }
            unshielded();
        }
    }
    if let Some(g) = m::current_g() {
        g.shield.set(g.shield.get() + 1);
    }
    let _shield = Shield;
    f()
}

/// A shield of the calling green thread is gone: what was deferred is due.
#[inline]
pub(crate) fn unshielded() {
    if let Some(g) = m::current_g()
        && g.cancelled.load(Relaxed)
    {
        rearm(g);
        newstack::fail_next_check();
    }
}

/// The closure of `g` has returned. By its owner.
#[inline(always)]
pub(crate) fn never_again(g: &G) {
    g.shield.set(1);
}
