//! Whether an M may touch the P that it holds, and how the P of one that is stuck is taken away (S23).
//!
//! The runtime's own code touches the P: on g0, and in calls that green threads make. The code of green threads does not.
//! So an M is *out* while that runs, and *in* otherwise. While it is out its P may be taken: from a green thread in
//! [`blocking`](crate::blocking()), or in a system call that nobody announced.
//!
//! ```text
//!   the M                                     sysmon
//!   ─────                                     ──────
//!   goes out   O1  OUT or CALL, Release       C1  HELD → CLAIMED; not HELD: give up
//!                                             C2  heavy fence
//!   comes in   I1  IN                         C3  IN? Acquire. Yes: CLAIMED → HELD, give up
//!              I2  light fence                C4  give the P to another M and CLAIMED → TAKEN;
//!              I3  HELD: goes on                  or, as there is none, → HELD
//!                  CLAIMED: waits a little
//!                  TAKEN: waits for a P
//! ```
//!
//! *One holder.* The fences order I1 before I3 and C1 before C3. So either I3 sees the claim, and the M waits until sysmon
//! has made up its mind; or C3 sees that the M is in, and sysmon gives up. What the M did to the P before O1 is visible
//! after C3, and to whoever gets the P from sysmon.
//!
//! *Which P*: sysmon finds the M by a P, and the M may have changed its P since. So the M's own word counts, which is at
//! rest while the claim stands.
//!
//! *What the M runs stays.* While the claim stands the M cannot come in, so no green thread that it runs is freed, even if it
//! ends directly ([`crate::direct`]) and another goes on: sysmon may read its name.
//!
//! *The fences.* Coming in is on the path of every spawn and wake-up, claims are rare. So the light fence only keeps the
//! compiler from reordering, and the heavy one makes all other CPUs execute a fence: `membarrier(2)`. The kernel may not
//! have it; then only announced calls lose their P. From those (CALL) the M comes in by a real fence, so a real one is
//! enough on both sides, provided that C3 finds CALL and not OUT.
//!
//! `loom.rs` has the model, with both fences as full ones.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};

use crate::atomics::{AtomicU8, fence, heavy_fence, light_fence, yield_now};
use crate::fork;

const IN: u8 = 0;
const OUT: u8 = 1;
/// Out, in an announced call.
const CALL: u8 = 2;

const HELD: u8 = 0;
const CLAIMED: u8 = 1;
const TAKEN: u8 = 2;

pub(crate) struct Hold {
    place: AtomicU8,
    claim: AtomicU8,
}

impl Hold {
    pub(crate) fn new() -> Hold {
        Hold { place: AtomicU8::new(IN), claim: AtomicU8::new(HELD) }
    }

    /// O1. By its own thread, like what follows, up to `claim`.
    #[inline(always)]
    pub(crate) fn go_out(&self) {
        self.place.store(OUT, Release);
    }

    /// O1, for an announced call.
    pub(crate) fn begin_call(&self) {
        self.place.store(CALL, Release);
    }

    /// I1 to I3. False if its P was taken: then it has to get one, and call [`held`](Self::held).
    #[inline(always)]
    pub(crate) fn come_in(&self) -> bool {
        self.place.store(IN, Relaxed);
        light_fence();
        self.claim.load(Acquire) == HELD || self.still_held()
    }

    /// I1 to I3, after an announced call.
    pub(crate) fn end_call(&self) -> bool {
        self.place.store(IN, Relaxed);
        fence(SeqCst);
        self.still_held()
    }

    #[cold]
    fn still_held(&self) -> bool {
        loop {
            match self.claim.load(Acquire) {
                HELD => return true,
                TAKEN => return false,
                // Whoever was to decide is not there.
                _ if fork::is_child() => return false,
                _ => yield_now(),
            }
        }
    }

    /// Whether it is out, in a call or not.
    #[inline(always)]
    pub(crate) fn is_out(&self) -> bool {
        self.place.load(Relaxed) != IN
    }

    /// Whether it is in an announced call.
    #[inline(always)]
    pub(crate) fn in_call(&self) -> bool {
        self.place.load(Relaxed) == CALL
    }

    /// Whether its P is gone. For sysmon.
    pub(crate) fn is_taken(&self) -> bool {
        self.claim.load(Relaxed) == TAKEN
    }

    /// It gave its P away itself, while it was in; or knows that it was taken. Not by a plain store: sysmon may be about to find
    /// out that it is in.
    pub(crate) fn gave(&self) {
        while self.still_held() && self.claim.compare_exchange(HELD, TAKEN, Relaxed, Relaxed).is_err() {}
    }

    /// It has a P again.
    pub(crate) fn held(&self) {
        self.claim.store(HELD, Relaxed);
    }

    /// C1 to C3. None if it is in, or holds nothing. For sysmon.
    pub(crate) fn claim(&self) -> Option<Claim<'_>> {
        self.claim.compare_exchange(HELD, CLAIMED, AcqRel, Relaxed).ok()?;
        let claim = Claim(self);
        let heavy = heavy_fence();
        let place = self.place.load(Acquire);
        (place == CALL || place == OUT && heavy).then_some(claim)
    }
}

/// Keeps the M from coming in.
pub(crate) struct Claim<'a>(&'a Hold);

impl Claim<'_> {
    /// C4: the P is another's, or will be.
    pub(crate) fn take(self) {
        self.0.claim.store(TAKEN, Release);
        std::mem::forget(self);
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.0.claim.store(HELD, Release);
    }
}
