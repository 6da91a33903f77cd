//! The barrier. All of it is under one lock: who comes last takes the queue and starts the next turn.

use std::fmt;

use super::queue::{Outcome, Queue, Until, Wait};
use crate::atomics::Mutex;
use crate::cancel;

/// Where a number of threads wait for each other, again and again. As std's.
///
/// ```
/// use std::sync::Arc;
/// use morestack::sync::Barrier;
///
/// let barrier = Arc::new(Barrier::new(3));
/// let runners: Vec<_> = (0..3)
///     .map(|_| {
///         let barrier = barrier.clone();
///         morestack::spawn(move || barrier.wait().is_leader())
///     })
///     .collect();
/// assert_eq!(runners.into_iter().filter_map(|runner| runner.join().unwrap().then_some(())).count(), 1);
/// ```
pub struct Barrier {
    turn: Mutex<Turn>,
    threads: usize,
}

struct Turn {
    /// Those that have come.
    arrived: usize,
    queue: Queue,
}

/// What [`Barrier::wait`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarrierWaitResult(bool);

impl Barrier {
    /// A barrier for so many threads. For none it is as good as for one.
    pub const fn new(threads: usize) -> Barrier {
        Barrier { turn: Mutex::new(Turn { arrived: 0, queue: Queue::new() }), threads }
    }

    /// Waits until as many threads have come as the barrier is for. Then it begins anew.
    ///
    /// In a destructor during a panic it blocks the worker, as [`park`](crate::park()) does.
    pub fn wait(&self) -> BarrierWaitResult {
        let mut turn = self.turn.lock();
        turn.arrived += 1;
        if turn.arrived < self.threads {
            let wait = Wait::new(0);
            turn.queue.push(&wait);
            drop(turn);
            if !wait.block_or_leave(Until::CANCELLED, || self.leave(&wait)) {
                cancel::raise();
            }
            return BarrierWaitResult(false);
        }
        turn.arrived = 0;
        let others = turn.queue.take(Outcome::Granted);
        drop(turn);
        others.wake();
        BarrierWaitResult(true)
    }

    /// Ends the caller's wait early, as if it had not come, if that is possible.
    #[cold]
    fn leave(&self, wait: &Wait) -> Outcome {
        let mut turn = self.turn.lock();
        let outcome = turn.queue.leave(wait);
        if outcome == Outcome::Waiting {
            turn.arrived -= 1;
        }
        outcome
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Barrier { .. }")
    }
}

impl BarrierWaitResult {
    /// Whether this is the thread that came last: one of them all.
    pub fn is_leader(&self) -> bool {
        self.0
    }
}
