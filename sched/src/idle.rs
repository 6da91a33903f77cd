//! Who sleeps, who searches, and how nobody sleeps through work.
//!
//! A worker without work *spins* (looks through all queues) for a short while, then is *idle*: it stands in the list here
//! and its thread sleeps. The protocol is Go's, with the roles below.
//!
//! ```text
//!   submit                              worker that found nothing
//!   ──────                              ─────────────────────────
//!   Q1  put work into a queue           W1  stand in the list (n_idle + 1)
//!   Q2  fence                           W2  if spinning: n_spinning - 1
//!   Q3  n_spinning > 0 or n_idle == 0:  W3  fence
//!       done                            W4  look through all queues again;
//!   Q4  take one from the list,             work there: leave the list, spin
//!       n_spinning + 1, wake it         W5  sleep
//! ```
//!
//! *No lost wake-up.* The fences order Q1 before Q3 and W1, W2 before W4. If the submitter's Q3 misses this worker's W1
//! (it reads n_idle before), then the worker's W4 sees the submitter's Q1. If Q3 sees a spinner, that spinner has yet to do
//! its W2, and looks at all queues in its W4 after it, or finds other work first: then it calls `stop_spinning`, which,
//! when it was the last spinner, fences, and wakes another in its stead if there is work. So while work is queued, either
//! somebody spins, or everybody is busy.
//!
//! Q4 counts a spinner before there is one, and meanwhile others rely on it. If the list is empty, the count is taken back
//! before the list's lock is free again. At that moment nobody is idle. Whoever does W1 later does W3 after the Q2 of
//! those that relied on the count, so its W4 sees their work.
//!
//! *No double wake.* A worker is woken by whoever takes it from the list, under the lock, and by nobody else. A worker
//! that wants to leave (W4, or its alarm) and is not in the list any more has been taken: its token is on the way, and it
//! waits for that, so a token never stays behind.
//!
//! *Tied work* (an inbox) has one possible worker. The sender does Q1, Q2, and takes exactly this worker from the list if
//! it stands there; W4 includes the inbox.
//!
//! *At most half of the busy spin*: more would only fight over the same few entries. Those that may not spin skip to W1.
//!
//! A worker taken from the list for untied work comes back spinning, already counted in Q4: in between, other submitters
//! see a spinner and need not wake another one. This is the chain that spreads a burst: each woken worker that finds
//! work, and was the last spinner, wakes the next.
//!
//! `loom.rs` checks this on models: two workers and a submitter, one worker and two submitters, an inbox and an alarm.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::Instant;

use crate::m::Parker;
use crate::sync::{AtomicUsize, Cell, Mutex, fence};

#[derive(Default)]
pub(crate) struct Idle {
    /// The indices of the sleeping workers, the last to come on top: its cache is the warmest.
    list: Mutex<Vec<usize>>,
    /// The list's length, written under its lock.
    pub(crate) n_idle: AtomicUsize,
    /// Workers that search, or have been woken to. Ahead of that in Q4 only.
    pub(crate) n_spinning: AtomicUsize,
}

/// What the protocol has of each worker.
pub(crate) struct SleepState {
    index: usize,
    /// Whether it is counted in `n_spinning`. Its own thread's.
    pub(crate) spinning: Cell<bool>,
    pub(crate) parker: Parker,
}

impl SleepState {
    pub(crate) fn new(index: usize) -> SleepState {
        SleepState { index, spinning: Cell::new(false), parker: Parker::default() }
    }
}

/// The runtime as the protocol sees it.
pub(crate) trait Workers {
    /// How many there are.
    fn count(&self) -> usize;

    /// That of the worker with this index.
    fn sleep_state(&self, index: usize) -> &SleepState;

    /// Whether there is work that any worker may take.
    fn has_work(&self) -> bool;
}

impl Idle {
    /// Q2-Q4: after work was put where any worker finds it.
    #[inline]
    pub(crate) fn wakep(&self, workers: &impl Workers) {
        fence(SeqCst);
        if self.n_idle.load(SeqCst) == 0 || self.n_spinning.load(SeqCst) != 0 {
            return;
        }
        self.wake_spinner(workers);
    }

    #[cold]
    fn wake_spinner(&self, workers: &impl Workers) {
        // Of several submitters one wakes; the others rely on the spinner it brings.
        if self.n_spinning.compare_exchange(0, 1, SeqCst, SeqCst).is_err() {
            return;
        }
        let mut list = self.list.lock();
        let Some(index) = list.pop() else {
            // Under the lock: see "No lost wake-up".
            self.n_spinning.fetch_sub(1, SeqCst);
            return;
        };
        self.n_idle.store(list.len(), SeqCst);
        drop(list);
        workers.sleep_state(index).parker.unpark();
    }

    /// Q2-Q4 for tied work: after it was put into the inbox of `worker`.
    pub(crate) fn wake_tied(&self, worker: &SleepState) {
        fence(SeqCst);
        if self.n_idle.load(SeqCst) == 0 || !self.leave(worker) {
            return;
        }
        // It comes back as a spinner, like all that are woken.
        self.n_spinning.fetch_add(1, SeqCst);
        worker.parker.unpark();
    }

    /// Whether the calling worker may search the others' queues; it is counted as spinning then.
    pub(crate) fn start_spinning(&self, workers: &impl Workers, me: &SleepState) -> bool {
        if !me.spinning.get() {
            let busy = workers.count() - self.n_idle.load(Relaxed);
            if 2 * self.n_spinning.load(Relaxed) >= busy {
                return false;
            }
            self.n_spinning.fetch_add(1, SeqCst);
            me.spinning.set(true);
        }
        true
    }

    /// The calling worker found work: if it was the last that searched, another one is woken, for what else there may be.
    #[inline]
    pub(crate) fn stop_spinning(&self, workers: &impl Workers, me: &SleepState) {
        if me.spinning.replace(false) && self.n_spinning.fetch_sub(1, SeqCst) == 1 {
            // As W3: those that still saw this spinner did Q1 before.
            fence(SeqCst);
            if workers.has_work() {
                self.wakep(workers);
            }
        }
    }

    /// W1 to W5, with `work` for W4; if it comes to W5, asks `alarm` how long to sleep at most. The calling worker comes
    /// back as a spinner. False if it did not sleep.
    pub(crate) fn sleep(
        &self,
        me: &SleepState,
        work: impl FnOnce() -> bool,
        alarm: impl FnOnce() -> Option<Instant>,
    ) -> bool {
        self.enter(me);
        if work() {
            self.cancel(me);
            return false;
        }
        if me.parker.park_until(alarm()) {
            me.spinning.set(true);
        } else {
            self.cancel(me);
        }
        true
    }

    /// W1, W2, W3.
    pub(crate) fn enter(&self, me: &SleepState) {
        {
            let mut list = self.list.lock();
            list.push(me.index);
            self.n_idle.store(list.len(), SeqCst);
        }
        if me.spinning.replace(false) {
            self.n_spinning.fetch_sub(1, SeqCst);
        }
        fence(SeqCst);
    }

    /// Takes `worker` off the list; false if a waker has done so.
    pub(crate) fn leave(&self, worker: &SleepState) -> bool {
        let mut list = self.list.lock();
        let Some(at) = list.iter().rposition(|&i| i == worker.index) else {
            return false;
        };
        list.remove(at);
        self.n_idle.store(list.len(), SeqCst);
        true
    }

    /// The calling worker found work in W4, or its alarm rang. It comes back as a spinner either way.
    fn cancel(&self, me: &SleepState) {
        if self.leave(me) {
            self.n_spinning.fetch_add(1, SeqCst);
        } else {
            me.parker.park_until(None);
        }
        me.spinning.set(true);
    }

    /// Takes all off the list and wakes them: the runtime stops.
    pub(crate) fn wake_all(&self, workers: &impl Workers) {
        let all = {
            let mut list = self.list.lock();
            let all = std::mem::take(&mut *list);
            self.n_idle.store(0, SeqCst);
            all
        };
        for index in all {
            self.n_spinning.fetch_add(1, SeqCst);
            workers.sleep_state(index).parker.unpark();
        }
    }
}
