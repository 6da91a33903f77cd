//! What a worker and sysmon sleep on: a token, in one word.
//!
//! ```text
//!            unpark                     unpark, FUTEX_WAKE
//!   EMPTY ────────────► TOKEN ◄──────────────────────────── ASLEEP
//!     ▲ │                 │                                  │ ▲
//!     │ │                 │                                  │ │
//!     │ └─────────────────┼── about to sleep ────────────────┼─┘
//!     └───────────────────┴── taken; or the deadline ────────┘
//! ```
//!
//! One thread parks; any thread unparks. Tokens do not add up.
//!
//! Each arrow is one atomic operation on the word. Who goes to sleep makes it ASLEEP, and the kernel lets it sleep only if
//! it still is, which it looks at under the lock that a wake takes. `unpark` swaps: if it finds ASLEEP it wakes, and comes
//! either before that look, which then fails, or after it, and finds the sleeper. If it finds EMPTY, the thread is awake
//! and has yet to look at the word: that costs no system call, so a thread that waits awake is woken cheaply. At its
//! deadline the thread swaps too: a token that comes at the same time is either taken or stays for the next time.
//!
//! The swaps are Release to put and Acquire to take: what was written before `unpark` is seen after `park_until`.
//!
//! `loom.rs` has the model.

use std::hint::spin_loop;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Instant;

use crate::atomics::{Futex, yield_now};
use crate::timers;

pub(crate) const EMPTY: u32 = 0;
pub(crate) const TOKEN: u32 = 1;
pub(crate) const ASLEEP: u32 = 2;

/// Looks at the word between two at the clock: about 0.2 us, as a `pause` is 10 to 50 ns.
const LOOKS: u32 = 8;

/// Nanoseconds between two times that others may have the processor of who waits awake. A system call of 0.3 us each, where
/// nobody wants it.
const ALONE: u64 = 5_000;

/// A token to sleep for: `unpark` before `park_until` makes it return at once.
pub(crate) struct Parker {
    pub(crate) word: Futex,
    /// When it was last woken from the kernel's sleep. No part of the protocol: see [`crate::idle`], "Waiting awake".
    woken: AtomicU64,
}

impl Default for Parker {
    fn default() -> Parker {
        Parker { word: Futex::new(EMPTY), woken: AtomicU64::new(0) }
    }
}

impl Parker {
    fn take(&self) -> bool {
        self.word.value.swap(EMPTY, Acquire) == TOKEN
    }

    /// Takes the token, if it is there.
    pub(crate) fn poll(&self) -> bool {
        self.word.value.load(Relaxed) == TOKEN && self.take()
    }

    /// Waits awake until the token is there, and takes it; or until `end`, in the time of [`timers::now`]. True if it took
    /// the token.
    ///
    /// Now and then it lets others have the processor: who is to bring the token may have been put on this very one.
    pub(crate) fn spin_until(&self, end: u64) -> bool {
        let mut alone = timers::now() + ALONE;
        loop {
            for _ in 0..LOOKS {
                if self.poll() {
                    return true;
                }
                spin_loop();
            }
            let now = timers::now();
            if now >= end {
                return false;
            }
            if now >= alone {
                yield_now();
                alone = timers::now() + ALONE;
            }
        }
    }

    /// Sleeps until the token is there, and takes it; or until `deadline`. True if it took the token.
    pub(crate) fn park_until(&self, deadline: Option<Instant>) -> bool {
        if self.word.value.compare_exchange(EMPTY, ASLEEP, Relaxed, Relaxed).is_ok() {
            while self.word.wait(ASLEEP, deadline) && self.word.value.load(Relaxed) == ASLEEP {}
        }
        self.take()
    }

    pub(crate) fn unpark(&self) {
        if self.word.value.swap(TOKEN, Release) == ASLEEP {
            self.woken.store(timers::now(), Relaxed);
            self.word.wake();
        }
    }

    /// When the last sleep in the kernel was ended by a token.
    pub(crate) fn woken(&self) -> u64 {
        self.woken.load(Relaxed)
    }
}
