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
//! What others steal from the deque makes the tickets too high: a tied green thread then waits for as many later ones, or
//! until the deque is empty.

use std::collections::VecDeque;

use crate::g::GRef;

#[derive(Default)]
pub(crate) struct Tied {
    queue: VecDeque<(GRef, u64)>,
    /// Shared green threads taken by this worker so far.
    taken: u64,
}

impl Tied {
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// To the tail, behind the `shared` green threads that wait in the deque.
    pub(crate) fn push_back(&mut self, g: GRef, shared: usize) {
        self.queue.push_back((g, self.taken + shared as u64));
    }

    /// The first, if its turn has come.
    pub(crate) fn pop_due(&mut self) -> Option<GRef> {
        let (_, ticket) = self.queue.front()?;
        if *ticket <= self.taken { self.pop_front() } else { None }
    }

    /// The first.
    pub(crate) fn pop_front(&mut self) -> Option<GRef> {
        self.queue.pop_front().map(|(g, _)| g)
    }

    /// The worker took a shared one.
    pub(crate) fn count_shared(&mut self) {
        self.taken += 1;
    }
}
