//! A lock for some tens of nanoseconds: that of a channel, and that of an inbox.
//!
//! ```text
//!   lock     false → true, by a compare-exchange: took it          one atomic instruction
//!            it is true: wait, look, try again
//!   unlock   a plain store of false                                 none
//! ```
//!
//! Nobody sleeps on it, so nobody has to be woken: unlocking need not look for that. On x86-64 the store costs next to nothing,
//! where an atomic instruction waits until all earlier stores are done. Locking acquires, unlocking releases; `loom.rs` has the
//! model.
//!
//! # What may be done under it
//!
//! Little, and nothing of the user's: no code that waits, switches, may be preempted, or unwinds. Memory may be allocated.
//!
//! # Who finds it locked
//!
//! waits for [`FIRST`] before it looks again, and twice as long each time after that. This is longer than the lock is held, on
//! purpose. What costs is not the wait, but to have the line of the cache taken back and forth between two processors, some 130 ns
//! each time, and with it what the lock protects. A holder that is left alone for a while does many operations meanwhile, each
//! for a tenth of that: a receiver drains the channel, or a sender fills it. In the benchmark `fanin`, with two workers, a message
//! takes 340 ns where the first wait is 10 ns, and 60 ns where it is 400.
//!
//! After [`SPINS`] rounds the holder may have lost its processor: the waiter gives its own away, [`YIELDS`] times. Then it sleeps in
//! between: a holder of lower priority may not be run as long as anybody else wants to.
//!
//! It is not fair. Those who wait here want to do an operation that others do in turn, so who is overtaken again and again finds
//! the lock free when the others wait for *them*: the channel is full, or empty.

use std::hint::spin_loop;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
#[cfg(not(loom))]
use std::thread::{sleep, yield_now};
#[cfg(not(loom))]
use std::time::Duration;

use crate::atomics::AtomicBool;
#[cfg(not(loom))]
use crate::p::stamp;

#[cfg(loom)]
pub(crate) use parking_lot::{Mutex, MutexGuard, RawMutex};

/// Ticks of the time stamp counter: about 0.4 us. See "Who finds it locked"; with half as much a message takes 70 ns, with a
/// quarter 90 ns, with twice as much as long.
#[cfg(not(loom))]
const FIRST: u64 = 1 << 10;

/// Looks after each wait. Where the holder does one operation after the other the lock is free in between, half of the time; so one
/// look fails often, and this many in a row only where the holder does not run.
const LOOKS: u32 = if cfg!(loom) { 1 } else { 4 };

/// Rounds of waiting awake, 6 us together: more than the longest critical sections, those of `select!` with many arms.
#[cfg(not(loom))]
const SPINS: u32 = 4;

/// Rounds of giving the processor away. Plucked from thin air.
#[cfg(not(loom))]
const YIELDS: u32 = 16;

/// How long to sleep: a wake-up by the clock costs about as much.
#[cfg(not(loom))]
const SLEEP: Duration = Duration::from_micros(50);

/// See the module header.
pub(crate) struct RawSpin(AtomicBool);

/// With a value.
#[cfg(not(loom))]
pub(crate) type Mutex<T> = lock_api::Mutex<RawSpin, T>;
#[cfg(not(loom))]
pub(crate) type MutexGuard<'a, T> = lock_api::MutexGuard<'a, RawSpin, T>;
#[cfg(not(loom))]
pub(crate) type RawMutex = RawSpin;

impl RawSpin {
    #[cfg(all(test, loom))]
    pub(crate) fn new() -> RawSpin {
        RawSpin(AtomicBool::new(false))
    }

    #[inline(always)]
    fn try_acquire(&self) -> bool {
        self.0.compare_exchange(false, true, Acquire, Relaxed).is_ok()
    }

    #[inline(always)]
    pub(crate) fn acquire(&self) {
        if !self.try_acquire() {
            self.acquire_slow();
        }
    }

    #[cold]
    #[inline(never)]
    fn acquire_slow(&self) {
        for round in 0.. {
            pause(round);
            for _ in 0..LOOKS {
                // The load is cheaper where it fails.
                if !self.0.load(Relaxed) && self.try_acquire() {
                    return;
                }
                spin_loop();
            }
        }
    }

    /// By the holder.
    #[inline(always)]
    pub(crate) fn release(&self) {
        self.0.store(false, Release);
    }

    /// Seeded: what was done under it is not released with it.
    #[cfg(all(test, loom))]
    pub(crate) fn release_relaxed(&self) {
        self.0.store(false, Relaxed);
    }
}

/// See "Who finds it locked".
#[cfg(not(loom))]
fn pause(round: u32) {
    if round < SPINS {
        let (start, ticks) = (stamp(), FIRST << round);
        while stamp().wrapping_sub(start) < ticks {
            spin_loop();
        }
    } else if round < SPINS + YIELDS {
        yield_now();
    } else {
        sleep(SLEEP);
    }
}

/// The others go on.
#[cfg(loom)]
fn pause(_: u32) {
    crate::atomics::yield_now();
}

// SAFETY: it is taken by one compare-exchange from false, and set back to false by its holder only.
#[cfg(not(loom))]
unsafe impl lock_api::RawMutex for RawSpin {
    const INIT: RawSpin = RawSpin(AtomicBool::new(false));
    type GuardMarker = lock_api::GuardNoSend;

    #[inline(always)]
    fn lock(&self) {
        self.acquire();
    }

    #[inline]
    fn try_lock(&self) -> bool {
        self.try_acquire()
    }

    #[inline(always)]
    unsafe fn unlock(&self) {
        self.release();
    }
}
