//! Who waits for a lock, in which order, and the wait itself.
//!
//! ```text
//!   lock ── waiters: atomics::Mutex ── Queue ─► Entry ─► Entry        (in the heap)
//!                                                │
//!                                                └─► the green thread, or the OS thread
//! ```
//!
//! A wait is ended once, by whoever dequeues its [`Entry`]: that one says how it ended and wakes the waiter. A green thread
//! rests meanwhile on the wait token of [`crate::token`], which has the proof that a wake-up before it is at rest is not
//! lost; an OS thread, and a green thread that unwinds or is in [`blocking`](crate::blocking()), blocks the OS thread.
//! Or the waiter leaves early, and dequeues its entry itself.
//!
//! An entry is in the heap: the stack of its waiter may be moved or frozen while it waits. It has no address of that stack.
//!
//! # Who may touch what
//!
//! | what | who |
//! |---|---|
//! | the queue, the links | whoever holds the lock of the queue |
//! | `outcome` | written by whoever dequeues it, under the lock of the queue; read by the waiter, under it or when it was woken |
//! | `wants`, `os`, `waiter` | written by the waiter before it queues; readable by the others until it is woken |
//!
//! A waiter frees its entry when it was woken, not before: whoever dequeued it wakes it once, after the last access. The
//! links of entries that were dequeued [together](Batch) are those of who dequeued them.
//!
//! # Leaving early
//!
//! A wait has two parties that may end it: the lock, by dequeuing the entry, and what the waiter has beside it
//! ([`Until`]): a timer, or a [canceller](crate::cancel). They do not know of each other. Which of them it was is decided by
//! the lock of the queue.
//!
//! ```text
//!   block(until) ── NOTIFIED ──────────────────────────────────────────────► Dequeued: how
//!        │
//!        └─ Early ──► under the lock of the queue: leave
//!                       it is queued: remove it, repair the word ──────────► it has left; nobody will wake it
//!                       it was dequeued: block(DEQUEUED), outside of the lock,
//!                       for the wake-up, which has come or is on its way ──► as if it had come in time
//! ```
//!
//! So a lock handles one thing: that a wait which was removed is not to leave anything behind. What came at the last moment
//! is kept: nothing that was given, a permit or a notification, is lost or has to be passed on.
//!
//! *The word of a green thread.* Whoever dequeued the entry swaps NOTIFIED in, as for any wait; the timer turns PARKED or
//! SCAN, with the number of the wait, into TIMED_OUT. If the timer was first the swap finds TIMED_OUT, and wakes nobody: the
//! waiter runs already, or is made to by the timer or the scanner. If the swap was first the timer finds no number. So the
//! green thread is made runnable once for each time that it rested.
//!
//! *The notification is not lost.* Nothing overwrites NOTIFIED but the waiter, when it has seen it: the timer does not, and
//! the waiter takes TIMED_OUT back by a compare-exchange to EMPTY ([`Token::reopen`]), which fails if NOTIFIED has come. The
//! same goes for CANCELLED. So the word is EMPTY, NOTIFIED, or CANCELLED, which is taken back before the next wait, when
//! `block` returns Early, whatever it was that came first. Then it
//!
//! * is removed: nobody has the right to notify any more, and the word stays as it is; or
//! * was dequeued: one notification is there or will come, and `block(DEQUEUED)` is a wait for it like any other. The timer
//!   of the first does not end it: it has no number.
//!
//! *No notification is left to the next wait* of the same green thread: the word is reset when NOTIFIED was seen, and each
//! wait that was dequeued sees it.
//!
//! An OS thread does not take TIMED_OUT back: its word is for one wait, and no waker looks at what it replaces.
//!
//! `loom.rs` has models of all this: a green thread's word with a waker, a timer and a scanner, and the locks with OS threads.

use std::hint::spin_loop;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use morestack_asm::{STACK_GUARD, STACK_PREEMPT, stackguard};

use crate::atomics::Cell;
use crate::cancel;
use crate::channel::{OsWaiter, Waiter, Waker};
use crate::g::GRef;
use crate::idle::Workers;
use crate::links::{Linked, Links, List};
use crate::m;
use crate::park::checkpoint;
use crate::timed;
use crate::token::Token;

/// When a waiter leaves early, if nobody has dequeued it before.
#[derive(Clone, Copy)]
pub(crate) struct Until {
    time: Time,
    /// When it is cancelled, too.
    cancelled: bool,
}

#[derive(Clone, Copy)]
enum Time {
    Never,
    At(Instant),
    After(Duration),
}

impl Until {
    /// Not.
    pub(crate) const DEQUEUED: Until = Until { time: Time::Never, cancelled: false };
    /// When it is [cancelled](crate::cancel): it is to unwind then.
    pub(crate) const CANCELLED: Until = Until { time: Time::Never, cancelled: true };

    /// At the deadline, and when it is cancelled.
    pub(crate) fn at(deadline: Instant) -> Until {
        Until { time: Time::At(deadline), cancelled: true }
    }

    /// The same; the timeout [begins](Until::begin) when there is something to wait for.
    pub(crate) fn after(timeout: Duration) -> Until {
        Until { time: Time::After(timeout), cancelled: true }
    }

    /// The same, but not when it is cancelled.
    pub(crate) fn not_cancelled(self) -> Until {
        Until { cancelled: false, ..self }
    }

    /// A wait begins that may consist of several.
    pub(crate) fn begin(self) -> Until {
        let time = match self.time {
            // Further than the clock reaches: not.
            Time::After(timeout) => Instant::now().checked_add(timeout).map_or(Time::Never, Time::At),
            time => time,
        };
        Until { time, ..self }
    }

    fn deadline(self) -> Option<Instant> {
        match self.begin().time {
            Time::At(deadline) => Some(deadline),
            _ => None,
        }
    }
}

/// For one that has waited, and may be unwound: does that if it was cancelled. Whether it got what it waited for.
pub(crate) fn or_unwind(got: bool) -> bool {
    if !got {
        cancel::point();
    }
    got
}

/// What ended a wait.
pub(crate) enum How {
    Dequeued(Outcome),
    /// The waiter wants to leave, and has to look whether it was dequeued meanwhile: [`Queue::leave`].
    Early,
}

/// How a wait ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Not yet: it is queued. After it: it has left.
    Waiting,
    /// What it waited for may be had now; others may be faster.
    Woken,
    /// What it waited for is its own.
    Granted,
}

/// A wait. See the module's header for who may touch what.
pub(crate) struct Entry {
    links: Links<Entry>,
    waiter: Waiter,
    outcome: Cell<Outcome>,
    /// How much of it, where that can be said.
    pub(crate) wants: usize,
}

impl Linked for Entry {
    fn links(&self) -> &Links<Entry> {
        &self.links
    }
}

/// The wait of the calling thread, which owns the entry.
pub(crate) struct Wait {
    entry: NonNull<Entry>,
    /// Unless a green thread rests.
    os: Option<NonNull<OsWaiter>>,
}

impl Wait {
    pub(crate) fn new(wants: usize) -> Wait {
        let (waiter, os) = match m::resting_g() {
            Some(g) => (Waiter::Green(g), None),
            None => {
                let os = NonNull::from(Box::leak(Box::new(OsWaiter::new())));
                (Waiter::Os(os), Some(os))
            }
        };
        let (links, outcome) = (Links::default(), Cell::new(Outcome::Waiting));
        let entry = NonNull::from(Box::leak(Box::new(Entry { links, waiter, outcome, wants })));
        Wait { entry, os }
    }

    /// Waits until somebody has dequeued it, or as long as `until` says. The caller has queued it, and holds no lock of a
    /// queue.
    pub(crate) fn block(&self, until: Until) -> How {
        let notified = match self.os {
            // SAFETY: this wait's own, freed when it is dropped.
            Some(os) => unsafe { os.as_ref() }.wait(until.deadline()),
            None => rest(until),
        };
        // SAFETY: this wait's own.
        let entry = unsafe { self.entry.as_ref() };
        // Whoever dequeued it is done with it.
        if notified { How::Dequeued(entry.outcome.get()) } else { How::Early }
    }

    /// The same where it makes no difference how it was dequeued: false if it has left, which is what `leave` does, with
    /// [`Queue::leave`], under the lock of the queue.
    pub(crate) fn block_or_leave(&self, until: Until, leave: impl FnOnce() -> Outcome) -> bool {
        match self.block(until) {
            How::Early if leave() == Outcome::Waiting => return false,
            How::Early => _ = self.block(Until::DEQUEUED),
            How::Dequeued(_) => {}
        }
        true
    }
}

/// The calling green thread, which does not unwind, waits until it is notified: then true. Otherwise it may be notified from
/// then on; its wait token is EMPTY or, if it was cancelled, CANCELLED.
fn rest(until: Until) -> bool {
    // SAFETY: the calling green thread.
    let g = unsafe { GRef::from_ptr(m::current_g_ptr().expect("a green thread goes on as one")) };
    let Some(deadline) = until.deadline() else {
        // SAFETY: on a green thread, not unwinding; whoever dequeues the entry notifies it.
        return unsafe { cancel::rest(g, until.cancelled) };
    };
    loop {
        if Instant::now() >= deadline {
            cancel::rearm(&g);
            return false;
        }
        timed::rest_until(|g| Token::of_wait(g), deadline);
        if let Some(notified) = cancel::outcome(&g, until.cancelled) {
            return notified;
        }
        // Its own timer, or that of another wait with the same number.
        Token::of_wait(&g).reopen();
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        // SAFETY: leaked by `new`. The entry was never queued, or was dequeued by the one who woke the waiter, or has left.
        unsafe {
            drop(Box::from_raw(self.entry.as_ptr()));
            if let Some(os) = self.os {
                drop(Box::from_raw(os.as_ptr()));
            }
        }
    }
}

/// Those who wait. Everything under the lock that it lies behind. What is in it is valid: its waiter waits.
pub(crate) struct Queue(List<Entry>);

impl Queue {
    pub(crate) const fn new() -> Queue {
        Queue(List::new())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How much the first wants.
    pub(crate) fn first_wants(&self) -> Option<usize> {
        self.0.iter().next().map(|first| first.wants)
    }

    /// At the end. The caller lets go of the lock and then blocks.
    pub(crate) fn push(&mut self, wait: &Wait) {
        // SAFETY: the caller's wait, not queued; its waiter frees it when it was dequeued and woken, or has left.
        unsafe { self.0.push_back(wait.entry) };
    }

    /// At the front: one that has waited before.
    pub(crate) fn push_front(&mut self, wait: &Wait) {
        // SAFETY: as above.
        unsafe { self.0.push_front(wait.entry) };
    }

    /// Dequeues the first: the caller is to wake it.
    pub(crate) fn pop(&mut self, outcome: Outcome) -> Option<Waker> {
        let first = self.0.pop_front()?;
        first.outcome.set(outcome);
        Some(first.waiter.waker())
    }

    /// Dequeues all.
    pub(crate) fn take(&mut self, outcome: Outcome) -> Batch {
        self.0.iter().for_each(|entry| entry.outcome.set(outcome));
        Batch(std::mem::replace(&mut self.0, List::new()))
    }

    /// The caller's wait, which is to end early. If it is in this queue, it is removed: Waiting. Otherwise what it was dequeued
    /// with: the caller waits for its wake-up when it has let go of the lock.
    pub(crate) fn leave(&mut self, wait: &Wait) -> Outcome {
        // SAFETY: this wait's own.
        let entry = unsafe { wait.entry.as_ref() };
        let outcome = entry.outcome.get();
        if outcome == Outcome::Waiting {
            // SAFETY: in this queue, as nobody has dequeued it.
            unsafe { self.0.remove(entry) };
        }
        outcome
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.0.iter().count()
    }
}

/// Those that were dequeued together, and that the caller is to wake: outside of the lock.
pub(crate) struct Batch(List<Entry>);

impl Batch {
    pub(crate) fn wake(mut self) {
        while let Some(first) = self.0.pop_front() {
            first.waiter.waker().wake();
        }
    }
}

/// Rounds of looking at a lock before waiting in its queue; each has twice as many pauses as the one before, of 10 to 50 ns.
/// A green thread looks once more: to park costs little, and who looks slows the holder, whose cache line that is. In the
/// benchmark `mutex`, with two workers and `go`, 15 pauses take a quarter to a half longer than one.
const ROUNDS: u32 = 1;

/// The same for an OS thread, whose wake-up is a system call: 63 pauses, 1 to 3 us.
const OS_ROUNDS: u32 = 6;

/// Looks again for a while.
pub(crate) struct Spin {
    round: u32,
    rounds: u32,
}

impl Spin {
    pub(crate) fn new() -> Spin {
        let rounds = match m::current_sched() {
            _ if cfg!(loom) => 0,
            None => OS_ROUNDS,
            // On the only worker nobody lets go of it meanwhile; an OS thread might, but seldom has it.
            Some(sched) if sched.count() == 1 => 0,
            Some(_) => ROUNDS,
        };
        Spin { round: 0, rounds }
    }

    /// Waits a little; false if it is time to wait otherwise.
    pub(crate) fn again(&mut self) -> bool {
        let more = self.round < self.rounds;
        if more {
            (0..1_u32 << self.round).for_each(|_| spin_loop());
            self.round += 1;
        }
        more
    }
}

/// A safepoint that never unwinds: it may be preempted here, if there is room for that.
///
/// Locking is one, since code that does little else might never come to another, and a green thread that is preempted here
/// does not hold what it is about to lock. It must not unwind as others do (with a
/// [`StackOverflow`](crate::StackOverflow), say): `MutexGuard::unlocked` and [`Condvar::wait`](super::Condvar::wait) lock
/// again for a guard that exists.
#[inline(always)]
pub(crate) fn safepoint() {
    if stackguard() == STACK_PREEMPT {
        answer();
    }
}

/// The same, but that it unwinds a green thread that was cancelled.
#[inline(always)]
pub(crate) fn safepoint_or_unwind() {
    if stackguard() == STACK_PREEMPT {
        answer_or_unwind();
    }
}

#[cold]
#[inline(never)]
fn answer_or_unwind() {
    answer();
    cancel::point();
}

#[cold]
#[inline(never)]
fn answer() {
    /// Frames between here and `newstack`'s look at the room, with plenty to spare.
    const FRAMES: usize = 1 << 10;
    let here = 0_u8;
    // On g0, where `blocking` runs its closure, the request is not for the caller.
    let Some(g) = m::current_g() else { return };
    // SAFETY: the calling green thread.
    let lo = unsafe { (*g.head()).stack.lo };
    if &raw const here as usize > lo + STACK_GUARD + FRAMES {
        cancel::never_here(checkpoint);
    }
}
