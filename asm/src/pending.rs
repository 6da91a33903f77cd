//! A request for preemption that could not be answered where it was found, and waits for a function that may answer it.
//!
//! Until then every check fails. Most of them are in functions that are known by now: *closed*, such as may not be preempted. Those
//! go on at once, without a visit to g0, which costs ten times as much. So a request can be left pending for as long as a function
//! of a third party usually takes, and meets the next call of the program's own.
//!
//! It must not be for ever, since code runs slower meanwhile: it *rests* at a time that is set when it is first put off.
//!
//! # Who may touch what
//!
//! The OS thread whose it is: `newstack` on g0, and the slow path of a check, which only reads, in a signal handler, too. What is
//! closed is an address that a check returns to. If code is unmapped and other code is there later, that is taken for closed, too:
//! it is preempted later.
//!
//! A request pends for one green thread. Another, which has a request of its own, is seen by `newstack` before any check of it goes on
//! so: there may be more to do for it, such as to look at its side stack for the first time.

use core::ptr;

use crate::layout::GHead;

/// Addresses that are kept; a collision overwrites. Code that is between two calls of the program's own comes by some dozens of
/// checks, mostly. Plucked from thin air.
const CLOSED: usize = 256;

/// See the module header.
#[derive(Debug)]
pub struct Pending {
    /// Whose it is. It is compared, and never followed.
    of: *const GHead,
    /// The time stamp at which it rests; 0: nothing is pending.
    until: u64,
    closed: [usize; CLOSED],
}

impl Pending {
    /// Nothing.
    pub const NONE: Pending = Pending { of: ptr::null(), until: 0, closed: [0; CLOSED] };

    /// Puts a request to `of` off that was found by the check that returns to `ret`: in a closed function, or not. Whether it stays
    /// pending; if not, it is to be made anew.
    pub fn put_off(&mut self, of: *const GHead, ret: usize, closed: bool) -> bool {
        let now = stamp();
        if self.until == 0 || self.of != of {
            (self.of, self.until) = (of, now + PATIENCE);
        }
        if closed {
            self.closed[slot(ret)] = ret;
        }
        let stays = now < self.until;
        if !stays {
            self.until = 0;
        }
        stays
    }

    /// It was answered, or is of another slice.
    pub fn end(&mut self) {
        self.until = 0;
    }

    /// Whether the check of `of` that returns to `ret` need not be looked at.
    pub(crate) fn goes_on(&self, of: *const GHead, ret: usize) -> bool {
        self.of == of && self.closed[slot(ret)] == ret && stamp() < self.until
    }
}

/// Ticks of the time stamp counter for which a request stays pending: some 100 us, an eighth of the time until the next. Checks take ten
/// times as long meanwhile, so code of third parties that is nothing but calls is slowed down to a half for that time; all else less.
const PATIENCE: u64 = 250_000;

/// Fibonacci hashing.
fn slot(ret: usize) -> usize {
    ret.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (usize::BITS - CLOSED.ilog2())
}

fn stamp() -> u64 {
    // SAFETY: every x86-64 has the instruction.
    unsafe { core::arch::x86_64::_rdtsc() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_stays_pending_for_a_while_and_closed_functions_go_on() {
        let [one, other] = [GHead::new(), GHead::new()];
        let (one, other) = (&raw const one, &raw const other);
        let mut pending = Pending::NONE;
        assert!(!pending.goes_on(one, 7));
        assert!(pending.put_off(one, 7, true) && pending.put_off(one, 8, false));
        assert!(pending.goes_on(one, 7) && !pending.goes_on(one, 8) && !pending.goes_on(one, 9));
        assert!(!pending.goes_on(other, 7), "another's request");
        let started = stamp();
        while stamp() < started + PATIENCE {
            std::hint::spin_loop();
        }
        assert!(!pending.goes_on(one, 7));
        assert!(!pending.put_off(one, 7, true), "it does not rest");
        assert!(pending.put_off(one, 7, true), "the next one is not pending");
        pending.end();
        assert!(!pending.goes_on(one, 7));
        assert!(pending.put_off(other, 8, false) && pending.goes_on(other, 7), "what is closed is so for all");
    }
}
