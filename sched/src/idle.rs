//! Who sleeps, who searches, and how nobody sleeps through work.
//!
//! A worker without work *spins* (looks through all queues) for a short while, then is *idle*: it stands in the list here
//! and its thread sleeps. The protocol is Go's, with the roles below.
//!
//! ```text
//!   submit                              worker that found nothing
//!   ──────                              ─────────────────────────
//!   S1  put work into a queue           W1  stand in the list (n_idle + 1)
//!   S2  fence                           W2  if spinning: n_spinning - 1
//!   S3  n_spinning > 0 or n_idle == 0:  W3  fence
//!       done                            W4  look through all queues again;
//!   S4  take one from the list,             work there: leave the list, spin
//!       n_spinning + 1, wake it         W5  sleep
//! ```
//!
//! *No lost wake-up.* The fences order S1 before S3 and W1, W2 before W4. If the submitter's S3 misses this worker's W1
//! (it reads n_idle before), then the worker's W4 sees the submitter's S1. If S3 sees a spinner, that spinner has yet to do
//! its W2, and looks at all queues in its W4 after it, or finds other work first: then it calls `stop_spinning`, which,
//! when it was the last spinner, wakes another in its stead if there is work. So while work is queued, either somebody
//! spins, or everybody is busy.
//!
//! *No double wake.* A worker is woken by whoever takes it from the list, under the lock, and by nobody else. A worker
//! that wants to leave (W4, or its alarm) and is not in the list any more has been taken: its token is on the way, and it
//! waits for that, so a token never stays behind.
//!
//! *Tied work* (an inbox) has one possible worker. The sender does S1, S2, and takes exactly this worker from the list if
//! it stands there; W4 includes the inbox.
//!
//! *At most half of the busy spin*: more would only fight over the same few entries. Those that may not spin skip to W1.
//!
//! A worker taken from the list for untied work comes back spinning, already counted in S4: in between, other submitters
//! see a spinner and need not wake another one. This is the chain that spreads a burst: each woken worker that finds
//! work, and was the last spinner, wakes the next.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicUsize, fence};

use parking_lot::Mutex;

use crate::m::M;
use crate::sched::Sched;

#[derive(Default)]
pub(crate) struct Idle {
    /// The indices of the sleeping Ms, the last to come on top: its cache is the warmest.
    list: Mutex<Vec<usize>>,
    /// The list's length, written under its lock.
    n_idle: AtomicUsize,
    n_spinning: AtomicUsize,
}

impl Idle {
    /// S2-S4: after work was put where any worker finds it.
    #[inline]
    pub(crate) fn wakep(&self, sched: &Sched) {
        fence(SeqCst);
        if self.n_idle.load(SeqCst) == 0 || self.n_spinning.load(SeqCst) != 0 {
            return;
        }
        self.wake_spinner(sched);
    }

    #[cold]
    fn wake_spinner(&self, sched: &Sched) {
        // Of several submitters one wakes; the others rely on the spinner it brings.
        if self.n_spinning.compare_exchange(0, 1, SeqCst, SeqCst).is_err() {
            return;
        }
        let taken = {
            let mut list = self.list.lock();
            let taken = list.pop();
            self.n_idle.store(list.len(), SeqCst);
            taken
        };
        match taken {
            Some(index) => sched.ms[index].parker.unpark(),
            None => {
                self.n_spinning.fetch_sub(1, SeqCst);
            }
        }
    }

    /// S2-S4 for tied work: after it was put into the inbox of `m`.
    pub(crate) fn wake_tied(&self, m: &M) {
        fence(SeqCst);
        if self.n_idle.load(SeqCst) == 0 || !self.leave(m) {
            return;
        }
        // It comes back as a spinner, like all that are woken.
        self.n_spinning.fetch_add(1, SeqCst);
        m.parker.unpark();
    }

    /// Whether `m` may search the others' queues; it is counted as spinning then.
    pub(crate) fn start_spinning(&self, sched: &Sched, m: &M) -> bool {
        if !m.spinning.get() {
            let busy = sched.ps.len() - self.n_idle.load(Relaxed);
            if 2 * self.n_spinning.load(Relaxed) >= busy {
                return false;
            }
            self.n_spinning.fetch_add(1, SeqCst);
            m.spinning.set(true);
        }
        true
    }

    /// `m` found work: if it was the last that searched, another one is woken, for what else there may be.
    #[inline]
    pub(crate) fn stop_spinning(&self, sched: &Sched, m: &M) {
        if m.spinning.replace(false) && self.n_spinning.fetch_sub(1, SeqCst) == 1 && sched.has_work() {
            self.wakep(sched);
        }
    }

    /// W1, W2, W3.
    pub(crate) fn enter(&self, m: &M) {
        {
            let mut list = self.list.lock();
            list.push(m.index);
            self.n_idle.store(list.len(), SeqCst);
        }
        if m.spinning.replace(false) {
            self.n_spinning.fetch_sub(1, SeqCst);
        }
        fence(SeqCst);
    }

    /// Takes `m` off the list; false if a waker has done so.
    fn leave(&self, m: &M) -> bool {
        let mut list = self.list.lock();
        let Some(at) = list.iter().rposition(|&i| i == m.index) else {
            return false;
        };
        list.remove(at);
        self.n_idle.store(list.len(), SeqCst);
        true
    }

    /// `m`, in the list, does not want to sleep (W4), or its alarm rang. It comes back as a spinner either way.
    pub(crate) fn cancel(&self, m: &M) {
        if self.leave(m) {
            self.n_spinning.fetch_add(1, SeqCst);
        } else {
            m.parker.park_until(None);
        }
        m.spinning.set(true);
    }

    /// Takes all off the list and wakes them: the runtime stops.
    pub(crate) fn wake_all(&self, sched: &Sched) {
        let all = {
            let mut list = self.list.lock();
            let all = std::mem::take(&mut *list);
            self.n_idle.store(0, SeqCst);
            all
        };
        for index in all {
            self.n_spinning.fetch_add(1, SeqCst);
            sched.ms[index].parker.unpark();
        }
    }
}
