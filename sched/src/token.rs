//! The park token: who wakes a green thread that waits, and who may touch its stack meanwhile (S16, the Scan bit of S20).
//!
//! Each green thread has two words of this kind. One is the token of [`park`](mod@crate::park), which anybody may make
//! available at any time. The other is for waits that end once, by one party: a timer, the completion of a channel
//! operation, or the end of what is joined. The protocol is the same.
//!
//! A word is a state, and for a wait with a deadline its number, from 1 on, while it is PARKED or SCAN: 3 bits and 13.
//!
//! ```text
//!   waiter               on g0, at rest                   waker, anywhere         scanner (sysmon)
//!   ──────               ──────────────                   ───────────────         ────────────────
//!   NOTIFIED → EMPTY:    Waiting, then EMPTY → PARKED     prev = swap NOTIFIED    PARKED → SCAN, or leave it
//!     return             failed: run it again             prev PARKED: ready(g)   touch the stack
//!   else switch                                           prev SCAN: leave it     SCAN → PARKED
//!   ...                                                     to the scanner        failed: ready(g)
//!   swap EMPTY
//! ```
//!
//! *No wake-up is lost.* A waker swaps. Either the publishing compare-exchange sees NOTIFIED and the waiter goes on; or
//! the waker sees PARKED and makes the green thread runnable; or it sees SCAN, and then the scanner's second
//! compare-exchange sees NOTIFIED and does that in its place. The waiter takes the token itself when it runs again, by a
//! swap with Acquire, so everything that happened before *any* wake-up until then is visible to it.
//!
//! *Nobody wakes twice.* PARKED is replaced by one swap only, and it or SCAN only once for each time it was published:
//! whoever replaces PARKED by NOTIFIED, or finds that SCAN was, owns the green thread.
//!
//! *The stack is at rest.* PARKED is published on g0, after the context was saved. SCAN comes after PARKED only, and while
//! it is there nobody else owns the green thread: a waker that comes meanwhile waits for nothing, it leaves its work
//! behind. So a scanner that the operating system takes off its CPU delays one green thread, and no other thread.
//!
//! # Waits that several may end
//!
//! A *contested* wait of the second word has several wakers: the operations of several channels, and a timer
//! ([`crate::timed`]). They do not swap: each [claims](Token::claim) the end by a compare-exchange from EMPTY, PARKED or SCAN
//! to NOTIFIED, or the timer to TIMED_OUT.
//!
//! *One of them ends it.* Nothing leads from NOTIFIED or TIMED_OUT but the waiter's own reset, which comes when no waker can
//! find it any more: it has taken itself out of all queues. So the first claim succeeds and all later ones fail. Who
//! claimed from PARKED owns the green thread; from EMPTY the waiter finds out when it publishes, from SCAN the scanner does.
//!
//! *A timer ends the wait that it was set for*: the entry may outlive that, and it claims only from PARKED or SCAN with its own
//! number. Numbers come round after 8191 waits; so a waiter that was timed out looks at the clock, and waits again if it is
//! too early. This applies to `park` with a deadline, too; there unparkers swap as ever, and no waker has anything to lose.
//!
//! A wait for a lock has a waker that swaps and may have a timer beside it: [`crate::sync`], in `queue`, has its rules.
//!
//! # Cancellation
//!
//! A wait of the second word may also be interrupted, by [`crate::cancel`], without an agreement with those who would end it.
//! It turns EMPTY, PARKED or SCAN into CANCELLED. From PARKED it owns the green thread then; from SCAN the scanner does; and
//! CANCELLED that was put in place of EMPTY keeps the next wait from being published.
//!
//! The waiter leaves its queue, under the lock of that. If it was still there, nobody knows of the wait any more. If not, it
//! was dequeued, and the one who did so is going to swap: the waiter then takes CANCELLED away, unless NOTIFIED is there
//! already, and [waits for that](crate::cancel::rest). *A late wake-up ends no later wait*, since none begins before.
//! The claimers of a contested wait come too late, as after any other claim.
//!
//! `loom.rs` checks all this: two wakers and a scanner; an operation, a timer, and a second wait that the timer must
//! not end; an operation, a canceller, and a second wait.

use std::ptr::NonNull;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::atomics::AtomicU16;
use crate::g::{G, GRef, Status};
use crate::ready::{Next, ready};

const EMPTY: u16 = 0;
pub(crate) const NOTIFIED: u16 = 1;
/// At rest: its waker owns it.
pub(crate) const PARKED: u16 = 2;
/// Its OS thread waits, with the green thread on it.
pub(crate) const PARKED_OS: u16 = 3;
/// At rest, and a scanner owns it.
pub(crate) const SCAN: u16 = 4;
/// Its deadline has passed.
pub(crate) const TIMED_OUT: u16 = 5;
/// It was interrupted, or is to be when it begins.
pub(crate) const CANCELLED: u16 = 6;

/// Bits of the state; the number of the wait is above.
const STATE_BITS: u32 = 3;
const STATE: u16 = (1 << STATE_BITS) - 1;

/// The number of a wait with a deadline: not 0, and 13 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seq(pub(crate) u16);

impl Seq {
    /// The greatest.
    const MOST: u16 = u16::MAX >> STATE_BITS;

    /// The one after it.
    pub(crate) fn next(self) -> Seq {
        Seq(self.0 % Seq::MOST + 1)
    }
}

/// One of the two words, and its changes of state.
#[derive(Clone, Copy)]
pub(crate) struct Token<'a>(pub(crate) &'a AtomicU16);

impl<'a> Token<'a> {
    /// That of `park`.
    #[inline(always)]
    pub(crate) fn of(g: &'a G) -> Token<'a> {
        Token(&g.token)
    }

    /// That of waits which end once.
    #[inline(always)]
    pub(crate) fn of_wait(g: &'a G) -> Token<'a> {
        Token(&g.wait)
    }

    /// Takes it if it is there.
    #[inline(always)]
    pub(crate) fn take(self) -> bool {
        // Mostly it is not there, and to look is cheaper.
        self.0.load(Relaxed) == NOTIFIED && self.0.compare_exchange(NOTIFIED, EMPTY, Acquire, Relaxed).is_ok()
    }

    /// From EMPTY to `parked`, PARKED or PARKED_OS; false if it is there.
    #[inline(always)]
    pub(crate) fn publish(self, parked: u16) -> bool {
        self.0.compare_exchange(EMPTY, parked, AcqRel, Acquire).is_ok()
    }

    /// For the same by [`switch_publishing`](morestack_asm::switch_publishing), which takes EMPTY for 0.
    #[inline(always)]
    pub(crate) fn as_ptr(self) -> *const std::sync::atomic::AtomicU16 {
        const _: () = assert!(EMPTY == 0);
        // Models do not switch.
        std::ptr::from_ref(self.0).cast()
    }

    /// The same for a wait with a deadline.
    #[inline(always)]
    pub(crate) fn publish_timed(self, seq: Seq) -> bool {
        self.publish(PARKED | seq.0 << STATE_BITS)
    }

    /// Takes it, there or not. Returns the state before.
    #[inline(always)]
    pub(crate) fn clear(self) -> u16 {
        self.0.swap(EMPTY, Acquire) & STATE
    }

    /// Takes that of a wait that is over: no waker looks at it any more. See [`crate::cancel`] for who else does.
    #[inline(always)]
    pub(crate) fn reset(self) {
        self.0.store(EMPTY, Relaxed);
    }

    /// Takes back that it was ended by something else than a notification: EMPTY, unless one has come.
    pub(crate) fn reopen(self) {
        let word = self.0.load(Relaxed);
        if word & STATE != NOTIFIED {
            let _ = self.0.compare_exchange(word, EMPTY, Relaxed, Relaxed);
        }
    }

    /// Puts it there. Returns the state before.
    #[inline(always)]
    pub(crate) fn notify(self) -> u16 {
        self.0.swap(NOTIFIED, AcqRel) & STATE
    }

    /// Ends a contested wait, as NOTIFIED or TIMED_OUT, or interrupts any. Returns the state before, as [`notify`](Self::notify); none if somebody
    /// else has ended it.
    pub(crate) fn claim(self, end: u16) -> Option<u16> {
        let mut word = self.0.load(Relaxed);
        loop {
            if matches!(word & STATE, NOTIFIED | TIMED_OUT | CANCELLED) {
                return None;
            }
            match self.0.compare_exchange(word, end, AcqRel, Relaxed) {
                Ok(_) => return Some(word & STATE),
                Err(now) => word = now,
            }
        }
    }

    /// Ends the wait of this number, at its deadline. Returns the state before; none if that wait is over.
    pub(crate) fn time_out(self, seq: Seq) -> Option<u16> {
        let mut word = self.0.load(Relaxed);
        loop {
            if word >> STATE_BITS != seq.0 {
                return None;
            }
            match self.0.compare_exchange(word, TIMED_OUT, AcqRel, Relaxed) {
                Ok(_) => return Some(word & STATE),
                Err(now) => word = now,
            }
        }
    }

    /// Interrupts the present wait, or the next. Returns the state before; none if a wait is over, and its waiter has not taken
    /// notice yet.
    pub(crate) fn cancel(self) -> Option<u16> {
        self.claim(CANCELLED).or_else(|| (self.state() == CANCELLED).then_some(CANCELLED))
    }

    /// From CANCELLED to EMPTY, unless a wake-up came.
    pub(crate) fn uncancel(self) {
        // Then it is NOTIFIED.
        let _ = self.0.compare_exchange(CANCELLED, EMPTY, Relaxed, Relaxed);
    }

    /// Whether the present wait, or the next, is interrupted.
    #[inline(always)]
    pub(crate) fn is_cancelled(self) -> bool {
        self.0.load(Relaxed) == CANCELLED
    }

    /// Whether the wait of this number goes on.
    pub(crate) fn is_in(self, seq: Seq) -> bool {
        self.0.load(Relaxed) >> STATE_BITS == seq.0
    }

    /// The state.
    #[inline(always)]
    pub(crate) fn state(self) -> u16 {
        self.0.load(Acquire) & STATE
    }

    /// Takes the right to touch the stack, from whoever would wake it.
    pub(crate) fn scan(self) -> bool {
        let word = self.0.load(Relaxed);
        word & STATE == PARKED && self.0.compare_exchange(word, word ^ PARKED ^ SCAN, AcqRel, Relaxed).is_ok()
    }

    /// Gives that right back; false if a wake-up came meanwhile, which is the caller's to carry out then.
    pub(crate) fn end_scan(self) -> bool {
        let word = self.0.load(Acquire);
        word & STATE == SCAN && self.0.compare_exchange(word, word ^ SCAN ^ PARKED, Release, Acquire).is_ok()
    }

    /// Whether it is at rest, as far as can be told from outside.
    pub(crate) fn is_parked(self) -> bool {
        self.0.load(Relaxed) & STATE == PARKED
    }
}

/// Whether `g` is at rest, as far as can be told without taking it.
pub(crate) fn is_at_rest(g: &G) -> bool {
    Token::of(g).is_parked() || Token::of_wait(g).is_parked()
}

/// The right to touch the stack of a green thread that waits. While it exists nobody else owns that green thread.
pub(crate) struct Scan {
    g: NonNull<G>,
    token: fn(&G) -> Token<'_>,
}

impl Scan {
    /// Takes it, if `g` is at rest.
    ///
    /// # Safety
    ///
    /// `g` is a pointer to the whole task, which is alive for the length of the call.
    pub(crate) unsafe fn of(g: NonNull<G>) -> Option<Scan> {
        let tokens: [fn(&G) -> Token<'_>; 2] = [|g| Token::of(g), |g| Token::of_wait(g)];
        // SAFETY: alive by the contract.
        let token = tokens.into_iter().find(|token| token(unsafe { g.as_ref() }).scan())?;
        let scan = Scan { g, token };
        scan.g().set_status(Status::Waiting, Status::CopyStack);
        Some(scan)
    }

    pub(crate) fn g(&self) -> &G {
        // SAFETY: owned by this scan, so the scheduler's count keeps it.
        unsafe { self.g.as_ref() }
    }
}

impl Drop for Scan {
    fn drop(&mut self) {
        self.g().set_status(Status::CopyStack, Status::Waiting);
        if !(self.token)(self.g()).end_scan() {
            // SAFETY: a wake-up came meanwhile, and left it to this scan.
            unsafe { wake(self.g) };
        }
    }
}

/// Makes a green thread runnable whose wait is over.
///
/// # Safety
///
/// The caller owns it: it found PARKED when it notified, or SCAN gone when it ended a scan. `g` is a pointer to the whole
/// task.
#[inline]
pub(crate) unsafe fn wake(g: NonNull<G>) {
    // SAFETY: the caller owns the green thread, and with it the scheduler's count.
    let g = unsafe { GRef::from_ptr(g) };
    g.set_status(Status::Waiting, Status::Runnable);
    // SAFETY: as above.
    ready(unsafe { g.sched() }, g, Next::Soon);
}
