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
//! # Workers without a P
//!
//! A worker is an M, and usually it keeps its P for good. When one is stuck in the operating system, its P goes to another
//! ([`crate::hold`]), and then there are more workers than Ps. Those without stand in one of two further lists, under the
//! same lock:
//!
//! | list | | leaves it |
//! |---|---|---|
//! | idle | holds a P, has nothing to do, sleeps | woken for work; or *robbed* of its P, and then free |
//! | free | no P, nothing to do, sleeps | given a P that sysmon has taken; or wanting, for tied work; or retires |
//! | wanting | no P, and something that only it can run; sleeps | given a P, the oldest first |
//!
//! *No worker wants a P while another idles with one.* Whoever comes to want one takes that of an idle worker, under the lock
//! (`take_p`), and stands in `wanting` only where there is none. A worker that goes idle afterwards sees `n_wanting` in W4,
//! and gives its P away instead of sleeping.
//!
//! *Robbing loses no wake-up.* The robber comes back as a spinner, as if it had been woken in the place of the robbed: what
//! its `stop_spinning` sees covers what was submitted before. A worker that is robbed between W1 and W5 although its W4 has
//! found work tells the next (`wakep`).
//!
//! *Tied work for one without a P*: the sender takes it from `free` and does what wants a P does. It misses it in both lists
//! only before the worker looks into its inbox: after W3, or after the fence of `wait_for_p`. `n_free` is written before
//! `n_idle` goes down, so that who is robbed is in one of the counts.
//!
//! *Whoever is taken from a list gets a token*, by the one that took it, with a P or, when the runtime stops, without; but
//! from `free` to `wanting` it only changes its place. So a worker that wakes by itself and is in no list waits for its token.
//!
//! # Waiting awake
//!
//! To wake a thread that sleeps in the kernel takes a system call and, on virtual machines, 10 to 60 us. So W5 begins with
//! looking at the token for up to [`AWAKE`], if that is worth it. Nobody else can tell: the worker stands in the list as
//! one that sleeps, and is woken by the same token ([`crate::parker`]).
//!
//! It is worth it where sleeps are short: when at least [`SHORT_SLEEPS`] of a worker's last eight were ended by a token
//! within that time. For sleeps in the kernel the waker notes when that was. So a runtime that nobody wakes waits awake
//! once and then sleeps, one that only its timers wake five times, and one that gets a request per millisecond next to
//! never.
//!
//! *At most half of the workers* wait awake at a time, and none where there are more workers than processors: it would
//! take the time from those that work. One that lost its processor meanwhile was in somebody's way, and starts to count
//! anew.
//!
//! `loom.rs` checks this on models: two workers and a submitter, one worker and two submitters, an inbox and an alarm, and
//! two workers with one P.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::Instant;

use crate::atomics::{AtomicUsize, Cell, Mutex, MutexGuard, fence};
use crate::parker::Parker;
use crate::timers;

/// No P.
const NO_P: usize = usize::MAX;

/// How long a worker waits awake, in nanoseconds: about what a wake-up costs, so that in vain it does not cost much more
/// than to sleep at once (Karlin et al., "Empirical studies of competitive spinning", SOSP 1991).
const AWAKE: u64 = 50_000;

/// See "Waiting awake". Half: then awake is right more often than not.
const SHORT_SLEEPS: u32 = 4;

#[derive(Default)]
pub(crate) struct Idle {
    lists: Mutex<Lists>,
    /// The lengths of the lists, written under their lock.
    pub(crate) n_idle: AtomicUsize,
    n_free: AtomicUsize,
    pub(crate) n_wanting: AtomicUsize,
    /// Workers that search, or have been woken to. Ahead of that in Q4 only.
    pub(crate) n_spinning: AtomicUsize,
    /// Workers that wait awake.
    awake: AtomicUsize,
    processors: usize,
}

/// Workers, by their indices.
#[derive(Default)]
struct Lists {
    /// The last to come on top: its cache is the warmest.
    idle: Vec<usize>,
    free: Vec<usize>,
    wanting: VecDeque<usize>,
    /// Ps that nobody holds.
    spare: Vec<usize>,
}

/// What the protocol has of each worker.
pub(crate) struct SleepState {
    index: usize,
    /// Whether it is counted in `n_spinning`. Its own thread's.
    pub(crate) spinning: Cell<bool>,
    /// The P that it holds while it stands in a list, or comes back with; else NO_P. Its own thread's, but under the lock
    /// while it is in a list, and of the one that took it from there until its token is sent.
    p: AtomicUsize,
    /// A bit for each of its last sleeps: whether it was short. Its own thread's.
    short: Cell<u8>,
    pub(crate) parker: Parker,
}

impl SleepState {
    pub(crate) fn new(index: usize) -> SleepState {
        SleepState {
            index,
            spinning: Cell::new(false),
            p: AtomicUsize::new(NO_P),
            short: Cell::new(0),
            parker: Parker::default(),
        }
    }

    /// Back with a token: as a spinner, with a P; or, when the runtime stops, with none.
    fn has_token(&self) -> bool {
        let has_p = self.p.load(Relaxed) != NO_P;
        self.spinning.set(has_p);
        has_p
    }

    /// Takes the P that the calling worker came back with; none if the runtime stops.
    pub(crate) fn take_p(&self) -> Option<usize> {
        Some(self.p.swap(NO_P, Relaxed)).filter(|p| *p != NO_P)
    }
}

/// The runtime as the protocol sees it.
pub(crate) trait Workers {
    /// How many may run at a time: the number of Ps.
    fn count(&self) -> usize;

    /// That of the worker with this index.
    fn sleep_state(&self, index: usize) -> &SleepState;

    /// Whether there is work that any worker may take.
    fn has_work(&self) -> bool;

    /// Whether all are to leave.
    fn stopping(&self) -> bool;
}

/// How a sleep went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sleep {
    /// There was work.
    Stayed,
    /// It slept. Its P may be another than before, and if the runtime stops it may have none.
    Slept,
    /// It has no P: [`Idle::wait_for_p`] is next.
    Robbed,
}

impl Idle {
    pub(crate) fn new(processors: usize) -> Idle {
        Idle { processors, ..Idle::default() }
    }

    /// How many of so many workers may wait awake.
    fn max_awake(&self, workers: usize) -> usize {
        if self.processors > 1 && workers <= self.processors { workers.div_ceil(2) } else { 0 }
    }

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
        let mut lists = self.lists.lock();
        let Some(index) = lists.idle.pop() else {
            // Under the lock: see "No lost wake-up".
            self.n_spinning.fetch_sub(1, SeqCst);
            return;
        };
        self.n_idle.store(lists.idle.len(), SeqCst);
        drop(lists);
        workers.sleep_state(index).parker.unpark();
    }

    /// Q2-Q4 for tied work: after it was put into the inbox of `worker`.
    pub(crate) fn wake_tied(&self, workers: &impl Workers, worker: &SleepState) {
        fence(SeqCst);
        if self.n_idle.load(SeqCst) == 0 && self.n_free.load(SeqCst) == 0 {
            return;
        }
        if self.leave(worker) {
            self.wake(worker);
        } else {
            self.demand(workers, worker);
        }
    }

    /// Wakes one that was taken from a list. It comes back as a spinner, like all that are woken.
    fn wake(&self, worker: &SleepState) {
        self.n_spinning.fetch_add(1, SeqCst);
        worker.parker.unpark();
    }

    /// Whether the calling worker may search the others' queues; it is counted as spinning then.
    pub(crate) fn start_spinning(&self, workers: &impl Workers, me: &SleepState) -> bool {
        if !me.spinning.get() {
            let busy = workers.count().saturating_sub(self.n_idle.load(Relaxed));
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

    /// W1 to W5 for a worker that holds `p`, with `work` for W4; if it comes to W5, asks `alarm` how long to sleep at most.
    /// The calling worker comes back as a spinner, unless it was robbed.
    pub(crate) fn sleep(
        &self,
        workers: &impl Workers,
        me: &SleepState,
        p: usize,
        work: impl FnOnce() -> bool,
        alarm: impl FnOnce() -> Option<Instant>,
    ) -> Sleep {
        me.p.store(p, Relaxed);
        self.enter(me);
        if work() || self.n_wanting.load(Relaxed) != 0 {
            if self.cancel(me) {
                return Sleep::Stayed;
            }
            // Its work may be untied, and the robber may have looked before.
            self.wakep(workers);
            return Sleep::Robbed;
        }
        if self.wait(workers, me, alarm()) {
            me.has_token();
        } else if !self.cancel(me) {
            return Sleep::Robbed;
        }
        Sleep::Slept
    }

    /// W5: until the token is there, and takes it; or until `deadline`. True if it took the token.
    fn wait(&self, workers: &impl Workers, me: &SleepState, deadline: Option<Instant>) -> bool {
        let most = self.max_awake(workers.count());
        if most == 0 {
            return me.parker.park_until(deadline);
        }
        let sleeps = me.short.get();
        let end = timers::now() + AWAKE;
        if sleeps.count_ones() >= SHORT_SLEEPS
            && let Some(woken) = self.wait_awake(most, me, deadline.map_or(end, |d| end.min(timers::nanos(d))))
        {
            let lost_processor = !woken && timers::now() > end + AWAKE;
            me.short.set(if lost_processor { 0 } else { sleeps << 1 | u8::from(woken) });
            return woken || me.parker.park_until(deadline);
        }
        let woken = me.parker.park_until(deadline);
        me.short.set(sleeps << 1 | u8::from(woken && me.parker.woken() <= end));
        woken
    }

    /// None if enough others do so.
    fn wait_awake(&self, most: usize, me: &SleepState, end: u64) -> Option<bool> {
        let enough = self.awake.fetch_add(1, Relaxed) >= most;
        let woken = (!enough).then(|| me.parker.spin_until(end));
        self.awake.fetch_sub(1, Relaxed);
        woken
    }

    /// W1, W2, W3.
    pub(crate) fn enter(&self, me: &SleepState) {
        {
            let mut lists = self.lists.lock();
            lists.idle.push(me.index);
            self.n_idle.store(lists.idle.len(), SeqCst);
        }
        if me.spinning.replace(false) {
            self.n_spinning.fetch_sub(1, SeqCst);
        }
        fence(SeqCst);
    }

    /// Takes `worker` off the idle list; false if a waker or a robber has done so.
    pub(crate) fn leave(&self, worker: &SleepState) -> bool {
        let mut lists = self.lists.lock();
        let left = remove(&mut lists.idle, worker.index);
        self.n_idle.store(lists.idle.len(), SeqCst);
        left
    }

    /// The calling worker found work in W4, or its alarm rang. It comes back as a spinner; or it was robbed: false.
    fn cancel(&self, me: &SleepState) -> bool {
        if self.leave(me) {
            self.n_spinning.fetch_add(1, SeqCst);
            me.spinning.set(true);
        } else if self.lists.lock().free.contains(&me.index) {
            return false;
        } else {
            me.parker.park_until(None);
            me.has_token();
        }
        true
    }

    /// Waits for a P, which the calling worker does not have. It is in a list already, or has been taken from it, if it was
    /// `robbed`. `wants` says whether it has something to run. It comes back as a spinner. False if it shall leave: the runtime
    /// stops, or nobody has wanted it until `retires`.
    pub(crate) fn wait_for_p(
        &self,
        workers: &impl Workers,
        me: &SleepState,
        robbed: bool,
        wants: impl Fn() -> bool,
        mut retires: Option<Instant>,
    ) -> bool {
        if !robbed {
            let mut lists = self.lists.lock();
            lists.free.push(me.index);
            self.n_free.store(lists.free.len(), SeqCst);
        }
        fence(SeqCst);
        if wants() {
            self.demand(workers, me);
        } else if workers.stopping() && self.leave_free(me) {
            return false;
        }
        loop {
            if me.parker.park_until(retires) {
                return me.has_token();
            }
            if self.leave_free(me) {
                return false;
            }
            // A P is on its way.
            retires = None;
        }
    }

    fn leave_free(&self, me: &SleepState) -> bool {
        let mut lists = self.lists.lock();
        let left = remove(&mut lists.free, me.index);
        self.n_free.store(lists.free.len(), SeqCst);
        left
    }

    /// Gets a P for `worker`, if it is free: at once, or when it is its turn.
    fn demand(&self, workers: &impl Workers, worker: &SleepState) {
        let mut lists = self.lists.lock();
        if !remove(&mut lists.free, worker.index) {
            return;
        }
        match self.take_p(workers, &mut lists) {
            Some(p) => self.hand(workers, lists, worker.index, p),
            None => {
                self.n_free.store(lists.free.len(), SeqCst);
                lists.wanting.push_back(worker.index);
                self.n_wanting.store(lists.wanting.len(), SeqCst);
            }
        }
    }

    /// A P that nobody needs: one that nobody holds, or that of the worker which has been idle for the longest.
    fn take_p(&self, workers: &impl Workers, lists: &mut MutexGuard<'_, Lists>) -> Option<usize> {
        if let Some(p) = lists.spare.pop() {
            return Some(p);
        }
        if lists.idle.is_empty() {
            return None;
        }
        let robbed = lists.idle.remove(0);
        lists.free.push(robbed);
        self.n_free.store(lists.free.len(), SeqCst);
        self.n_idle.store(lists.idle.len(), SeqCst);
        Some(workers.sleep_state(robbed).p.swap(NO_P, Relaxed))
    }

    /// Gives `p` to a worker that waits for one; to a free one only if `free`. False, and nothing has changed, if there is none.
    pub(crate) fn give(&self, workers: &impl Workers, p: usize, free: bool) -> bool {
        let mut lists = self.lists.lock();
        let next = lists.wanting.pop_front().or_else(|| if free { lists.free.pop() } else { None });
        next.map(|index| self.hand(workers, lists, index, p)).is_some()
    }

    /// Whether `give` would find one, as far as can be told from outside.
    pub(crate) fn can_give(&self) -> bool {
        self.n_free.load(Relaxed) != 0 || self.n_wanting.load(Relaxed) != 0
    }

    /// Puts `p` where whoever comes to want one finds it: its worker leaves.
    pub(crate) fn put_back(&self, workers: &impl Workers, p: usize) {
        let mut lists = self.lists.lock();
        match lists.wanting.pop_front() {
            Some(index) => self.hand(workers, lists, index, p),
            None => lists.spare.push(p),
        }
    }

    /// Hands `p` to a worker that was taken out of `lists`.
    fn hand(&self, workers: &impl Workers, lists: MutexGuard<'_, Lists>, index: usize, p: usize) {
        self.n_free.store(lists.free.len(), SeqCst);
        self.n_wanting.store(lists.wanting.len(), SeqCst);
        let worker = workers.sleep_state(index);
        worker.p.store(p, Relaxed);
        drop(lists);
        self.wake(worker);
    }

    /// Wakes the worker that idles with `p`, if one does.
    pub(crate) fn wake_holder(&self, workers: &impl Workers, p: usize) {
        fence(SeqCst);
        let mut lists = self.lists.lock();
        let Some(at) = lists.idle.iter().position(|&index| workers.sleep_state(index).p.load(Relaxed) == p) else {
            return;
        };
        let index = lists.idle.remove(at);
        self.n_idle.store(lists.idle.len(), SeqCst);
        drop(lists);
        self.wake(workers.sleep_state(index));
    }

    /// Takes all that have nothing to run off their lists and wakes them: the runtime stops.
    pub(crate) fn wake_all(&self, workers: &impl Workers) {
        let (idle, free) = {
            let mut lists = self.lists.lock();
            self.n_idle.store(0, SeqCst);
            self.n_free.store(0, SeqCst);
            (std::mem::take(&mut lists.idle), std::mem::take(&mut lists.free))
        };
        for index in idle {
            self.wake(workers.sleep_state(index));
        }
        for index in free {
            workers.sleep_state(index).parker.unpark();
        }
    }
}

/// Takes `index` out of a list of workers; false if it is not in it. From the end: the last to come are the first to go.
fn remove(list: &mut Vec<usize>, index: usize) -> bool {
    let at = list.iter().rposition(|&i| i == index);
    at.is_some_and(|at| list.remove(at) == index)
}
