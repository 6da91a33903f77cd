//! The queue of an M's tied green threads, merged by order of arrival with what any worker may take.
//!
//! A worker has two queues: this one, and its P's deque, which the injector feeds. If they simply took turns, one long
//! computation that is preempted again and again would get every other turn, a whole slice each, while short requests
//! wait in the deque: preemption would gain next to nothing over first come, first served. So each entry here carries a
//! ticket: how many shared green threads this worker will have taken when those that were queued before it are gone.
//!
//! ```text
//!   tied      T1 (ticket 102)   T2 (ticket 105)          taken so far: 100
//!   deque     a  b  c  d  e                               order: a b T1 c d e T2
//! ```
//!
//! # The long
//!
//! A green thread that has used up two slices has shown that it is long, and most of those in the deque are short. So it
//! lets [`OVERTAKE`] later ones pass: its ticket is that much higher. This is the idea of feedback scheduling (Corbato's, of
//! 1962) with a bound: a stream of new ones delays the long, but cannot starve them. Tied ones that come back again and again
//! pass them, too, and are counted like the others.
//!
//! # Accuracy
//!
//! What others steal from the deque makes the tickets too high: a tied green thread then waits for as many later ones, or
//! until the deque is empty.

use std::collections::VecDeque;

use crate::g::GRef;

/// See "The long". As many requests of a few microseconds take about as long as a slice or two; where all are long, a
/// long one waits for so many slices more. Fewer let long ones in between short ones that came soon after.
const OVERTAKE: u64 = 64;

pub(crate) struct Tied<T = GRef> {
    /// In each, tickets rise.
    queue: VecDeque<(T, u64)>,
    long: VecDeque<(T, u64)>,
    /// Shared green threads taken by this worker so far.
    taken: u64,
    /// Tied ones that were taken while some long one waited.
    passed: u64,
}

impl<T> Tied<T> {
    pub(crate) fn new() -> Tied<T> {
        Tied { queue: VecDeque::new(), long: VecDeque::new(), taken: 0, passed: 0 }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.queue.len() + self.long.len()
    }

    /// To the tail, behind the `shared` green threads that wait in the deque.
    #[inline]
    pub(crate) fn push_back(&mut self, g: T, shared: usize) {
        self.queue.push_back((g, self.taken + shared as u64));
    }

    /// The same for one that is long.
    pub(crate) fn push_long(&mut self, g: T, shared: usize) {
        self.long.push_back((g, self.taken + self.passed + shared as u64 + OVERTAKE));
    }

    /// The first, if its turn has come.
    #[inline]
    pub(crate) fn pop_due(&mut self) -> Option<T> {
        if self.due()? { self.pop_front() } else { None }
    }

    /// The first.
    pub(crate) fn pop_front(&mut self) -> Option<T> {
        let long = self.long_is_first();
        let queue = if long { &mut self.long } else { &mut self.queue };
        let first = queue.pop_front().map(|(g, _)| g);
        // It passes those that are long.
        self.passed += u64::from(!long && first.is_some() && !self.long.is_empty());
        first
    }

    fn due(&self) -> Option<bool> {
        Some(match self.long_is_first() {
            true => self.long.front()?.1 <= self.taken + self.passed,
            false => self.queue.front()?.1 <= self.taken,
        })
    }

    /// Takes the first if `wanted`, and puts `g` at the tail, where the worker has nothing but this queue to look at. None,
    /// and nothing has changed, where there is none, or where some are long.
    #[inline]
    pub(crate) fn rotate(&mut self, g: T, wanted: impl FnOnce(&T) -> bool) -> Option<T> {
        if !self.long.is_empty() || !wanted(&self.queue.front()?.0) {
            return None;
        }
        let first = self.queue.pop_front().map(|(g, _)| g);
        self.queue.push_back((g, self.taken));
        first
    }

    /// The worker took a shared one. One that is long itself is no reason to wait: it counts for all that may pass.
    pub(crate) fn count_shared(&mut self, long: bool) {
        self.taken += if long { OVERTAKE } else { 1 };
    }

    /// Whether the first of the long has the lower ticket.
    #[inline]
    fn long_is_first(&self) -> bool {
        let Some((_, long)) = self.long.front() else { return false };
        self.queue.front().is_none_or(|(_, ticket)| *long <= self.passed + ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a worker runs, in order, when `shared` green threads wait in its deque and nothing comes in addition.
    fn order(tied: &mut Tied<char>, shared: &str) -> String {
        let mut shared = shared.chars();
        let mut order = String::new();
        loop {
            let next = tied
                .pop_due()
                .or_else(|| shared.next().inspect(|_| tied.count_shared(false)))
                .or_else(|| tied.pop_front());
            match next {
                Some(g) => order.push(g),
                None => return order,
            }
        }
    }

    #[test]
    fn first_come_first_served() {
        let mut tied = Tied::new();
        tied.push_back('1', 2);
        tied.push_back('2', 5);
        assert_eq!(order(&mut tied, "abcde"), "ab1cde2");
        assert_eq!(tied.len(), 0);
        // What was taken before does not count again.
        tied.push_back('3', 1);
        assert_eq!(order(&mut tied, "fg"), "f3g");
    }

    #[test]
    fn rotation_keeps_the_order() {
        let mut tied = Tied::new();
        assert_eq!(tied.rotate('0', |_| true), None);
        tied.push_back('1', 0);
        tied.push_back('2', 0);
        assert_eq!(tied.rotate('0', |first| *first == '2'), None);
        assert_eq!(tied.rotate('0', |first| *first == '1'), Some('1'));
        assert_eq!(order(&mut tied, ""), "20");
        tied.push_back('1', 0);
        tied.push_long('L', 0);
        assert_eq!(tied.rotate('0', |_| true), None, "the long have tickets to compare");
    }

    #[test]
    fn those_that_come_back_do_not_starve_the_long() {
        let mut tied = Tied::new();
        tied.push_long('L', 0);
        tied.push_back('y', 0);
        let passed = (0..=2 * OVERTAKE).find(|_| {
            let next = tied.pop_due().or_else(|| tied.pop_front()).unwrap();
            tied.push_back(next, 0);
            next == 'L'
        });
        assert_eq!(passed, Some(OVERTAKE));
    }

    #[test]
    fn the_long_take_turns_with_the_long() {
        let mut tied = Tied::new();
        tied.push_long('L', 3);
        tied.count_shared(true);
        assert_eq!(tied.pop_due(), None, "three were there before");
        (0..3).for_each(|_| tied.count_shared(false));
        assert_eq!(tied.pop_due(), Some('L'));
    }

    #[test]
    fn the_long_let_so_many_pass_and_no_more() {
        let mut tied = Tied::new();
        tied.push_long('L', 0);
        tied.push_back('1', 3);
        let shared = "x".repeat(OVERTAKE as usize + 10);
        let order = order(&mut tied, &shared);
        assert_eq!(order.find('1'), Some(3), "not behind the long");
        assert_eq!(order.find('L'), Some(OVERTAKE as usize), "the other tied one passed it, too");
    }

    #[test]
    fn with_nothing_shared_the_long_take_turns() {
        let mut tied = Tied::new();
        for g in ['L', 'M'] {
            tied.push_long(g, 0);
        }
        tied.push_back('1', 0);
        assert_eq!(order(&mut tied, ""), "1LM");
    }
}
