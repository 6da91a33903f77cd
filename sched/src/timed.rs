//! Timed waits: a green thread waits for a token until a deadline.
//!
//! Such a wait has two kinds of wakers, the timer and those whom it waits for; a sleeper waits for nobody, but may be
//! [cancelled](crate::cancel). The entry owns nothing: it is a counted reference and the number of the wait, and may outlive
//! that.
//!
//! ```text
//!   Timers ── entry: the green thread, number     a timed wait: the entry has a reference to it
//!          ── entry: the green thread, OWNED      waits for memory: the entry owns it, whatever its tokens say
//! ```
//!
//! # Who ends the wait
//!
//! Whoever turns PARKED into something else ([`crate::token`]), so one of them. The timer does so only for PARKED or SCAN with
//! the number of its entry: what began later has another number, and what is over is neither. A number comes round after
//! 8191 timed waits of one green thread; therefore who was timed out looks at the clock.
//!
//! # When the entry is inserted
//!
//! After PARKED was published: before that, a thief of timers might find a wait that has not begun. From then on the green
//! thread may be anyone's, and may have ended; so the reference is taken before. The M does not need to own it: it is on g0,
//! holds its P, and inserts into that P's timers.
//!
//! *The timer is not forgotten*: the M is awake and schedules next, as in the proof of [`crate::timers`].
//!
//! # When the entry goes
//!
//! Nobody looks for it when the wait ends early: that costs a count at the P that has it. It is dropped
//!
//! 1. when its time comes;
//! 2. when about half of the entries of its heap are stale: then all of those go, at a few steps for each. A crowd of requests
//!    that are all answered long before their time leaves no more behind than there are others, and some tens;
//! 3. when the P goes out of use, or the runtime stops.
//!
//! An entry keeps the memory of its green thread, not the green thread: its stack, closure and result go when it ends.

use std::cell::Cell;
use std::ptr::NonNull;
use std::time::Instant;

use morestack_asm::{GHead, mcall};

use crate::g::{G, GRef, Status};
use crate::m::{self, M};
use crate::task::{self, GArc};
use crate::token::{PARKED, Seq, TIMED_OUT, Token};
use crate::{parked, schedule, timers};

/// An entry of the timers: one word, as the heaps move them. The upper 16 bits, which no address of a program has, say what it
/// is.
#[derive(Clone, Copy)]
pub(crate) struct Timer(NonNull<G>);

// SAFETY: what it refers to is owned by it, or counted, and a `G` is Send and Sync. It is copied within a heap only.
unsafe impl Send for Timer {}

const SHIFT: u32 = 48;
const OWNED: u16 = u16::MAX;

impl Timer {
    fn new(g: NonNull<G>, tag: u16) -> Timer {
        assert!(g.addr().get() >> SHIFT == 0, "an address of 48 bits");
        Timer(g.map_addr(|addr| addr | usize::from(tag) << SHIFT))
    }

    /// For `g`, which is the entry's and no waker's.
    pub(crate) fn owner(g: GRef) -> Timer {
        Timer::new(g.ptr(), OWNED)
    }

    /// For this wait of a green thread, with a reference to it.
    fn timed(g: GArc, seq: Seq) -> Timer {
        let timer = Timer::new(g.ptr(), seq.0);
        std::mem::forget(g);
        timer
    }

    fn tag(self) -> u16 {
        (self.0.addr().get() >> SHIFT) as u16
    }

    /// The number of the timed wait.
    fn seq(self) -> Option<Seq> {
        Some(Seq(self.tag())).filter(|seq| seq.0 != OWNED)
    }

    fn ptr(self) -> NonNull<G> {
        // SAFETY: the address of a `G`.
        unsafe { NonNull::new_unchecked(self.0.as_ptr().map_addr(|addr| addr & ((1 << SHIFT) - 1))) }
    }

    fn g(&self) -> &G {
        // SAFETY: the entry owns it, or has a count.
        unsafe { self.ptr().as_ref() }
    }

    /// Whether it is of a timed wait that is over.
    pub(crate) fn is_stale(self) -> bool {
        let in_wait = |seq| Token::of_wait(self.g()).is_in(seq) || Token::of(self.g()).is_in(seq);
        self.seq().is_some_and(|seq| !in_wait(seq))
    }

    /// It was taken from its heap and is not to fire: gives back what it counts. What it owns is left alone.
    pub(crate) fn release(self) {
        if self.seq().is_some() {
            // SAFETY: the entry's count, once: it is in no heap any more.
            unsafe { task::release(self.ptr(), 1) };
        }
    }

    /// Its time has come: it was taken from its heap. The green thread, if that is the caller's now.
    pub(crate) fn fire(self) -> Option<GRef> {
        let owned = match self.seq() {
            None => true,
            Some(seq) => {
                let time_out = |token: Token<'_>| token.time_out(seq);
                time_out(Token::of_wait(self.g())).or_else(|| time_out(Token::of(self.g()))) == Some(PARKED)
            }
        };
        // SAFETY: it was the entry's, or this took PARKED; with it comes the scheduler's count.
        let g = owned.then(|| unsafe { GRef::from_ptr(self.ptr()) });
        self.release();
        g
    }
}

/// What the waiter tells its M, and the M tells the waiter.
struct Wait {
    when: u64,
    token: fn(&G) -> Token<'_>,
    /// As long as is waited before stacks are frozen, and nobody will cut it short.
    long: bool,
    /// The P whose timers got the entry: a thief may have taken it to another since.
    p: Cell<usize>,
}

/// Lets the calling green thread wait for a token, until `deadline`. It does not take the token, and may return too early.
///
/// Not while unwinding.
pub(crate) fn rest_until(token: fn(&G) -> Token<'_>, deadline: Instant) {
    rest_for(token, deadline, false);
}

/// The same, where nobody ends the wait but the timer, and a canceller. `long`: its stack may be frozen at once.
pub(crate) fn sleep_until(long: bool, deadline: Instant) {
    rest_for(|g| Token::of_wait(g), deadline, long);
}

fn rest_for(token: fn(&G) -> Token<'_>, deadline: Instant, long: bool) {
    let wait = Wait { when: timers::nanos(deadline), token, long, p: Cell::new(0) };
    // SAFETY: on a green thread, not unwinding; `rest_until_m` leaves it to those who end the wait.
    unsafe { mcall(rest_until_m, &raw const wait as usize) };
    let Some((g, sched)) = m::current_g().zip(m::current_sched()) else { return };
    if token(g).state() != TIMED_OUT {
        let p = wait.p.get();
        let drop_stale = |timer: Timer| {
            let stale = timer.is_stale();
            if stale {
                timer.release();
            }
            stale
        };
        // None if its P was taken.
        let m = m::enter_current();
        let holds = m.as_ref().is_some_and(|m| m.p().index == p);
        // SAFETY: `m` holds the P that it says it holds, and keeps it.
        unsafe { sched.ps[p].timers.ended(g.tied, holds, drop_stale) };
    }
}

unsafe fn rest_until_m(head: *mut GHead, wait: usize) {
    // SAFETY: the green thread that called `mcall` on this M, which owns it; `wait` is on its stack, which is where it was.
    let (g, m, wait) = unsafe { (GRef::from_head(head), m::of(head), &*(wait as *const Wait)) };
    wait.p.set(m.p().index);
    let (when, token, seq) = (wait.when, wait.token, g.seq.get().next());
    g.seq.set(seq);
    // From here on `wait` may be elsewhere.
    if wait.long {
        parked::note_long(m, g)
    } else {
        parked::note(m, g)
    }
    rest(m, g, token, when, seq);
}

/// Lets `g` wait for the token until `when`, from here on its waker's; or resumes it if the token is there already.
fn rest(m: &M, g: GRef, token: fn(&G) -> Token<'_>, when: u64, seq: Seq) {
    g.set_status(Status::Running, Status::Waiting);
    // SAFETY: this M owns it until it is published.
    let counted = unsafe { GArc::of(g.ptr()) };
    let tied = g.tied;
    if token(&g).publish_timed(seq) {
        // SAFETY: on the thread of `m`, which holds its P.
        unsafe { m.p().timers.insert(when, Timer::timed(counted, seq), tied) };
    } else {
        g.set_status(Status::Waiting, Status::Running);
        schedule::resume(m, g);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::Duration;

    use crate::channel::bounded;
    use crate::{JoinHandle, Runtime, m};

    const LONG: Duration = Duration::from_secs(3600);

    fn start(rt: &Runtime, tied: bool, f: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
        // SAFETY: the tests' closures lend nothing of their stacks to anybody but channels.
        if tied { rt.spawn(f) } else { unsafe { rt.go(f) } }
    }

    fn entries(rt: &Runtime) -> usize {
        rt.run(|| m::current().expect("a worker").p().timers.len())
    }

    /// One after another, and a crowd at once: answered long before their time, they leave next to nothing in the timers, and
    /// no green thread that has ended.
    #[test]
    fn waits_that_end_early_leave_nothing_behind() {
        const CROWD: usize = 2000;
        for tied in [true, false] {
            let rt = Runtime::builder().workers(1).build().unwrap();
            let (sender, receiver) = bounded(0);
            let client =
                start(&rt, tied, move || (0..10_000).for_each(|n| assert_eq!(receiver.recv_timeout(LONG), Ok(n))));
            let server = start(&rt, tied, move || (0..10_000).for_each(|n| sender.send(n).unwrap()));
            [client, server].into_iter().for_each(|handle| handle.join().unwrap());
            let left = entries(&rt);
            assert!(left <= 200, "{left}");

            let (sender, receiver) = bounded::<()>(0);
            let crowd: Vec<_> = (0..CROWD)
                .map(|_| {
                    let receiver = receiver.clone();
                    start(&rt, tied, move || assert!(receiver.recv_timeout(LONG).is_err_and(|e| e.is_disconnected())))
                })
                .collect();
            while entries(&rt) < CROWD {}
            drop(sender);
            crowd.into_iter().for_each(|handle| handle.join().unwrap());
            let left = entries(&rt);
            assert!(left <= 200, "{left}");
        }
    }

    /// A stale entry whose time comes while the same green thread waits again does nothing.
    #[test]
    fn the_timer_of_a_wait_that_is_over_does_not_end_the_next() {
        for tied in [true, false] {
            let rt = Runtime::builder().workers(1).build().unwrap();
            let ms = Duration::from_millis;
            let (sender, receiver) = bounded(0);
            let client = start(&rt, tied, move || {
                for n in 0..20 {
                    assert_eq!(receiver.recv_timeout(ms(20)), Ok(n));
                }
                // The entries of those fall due now.
                assert_eq!(receiver.recv_timeout(ms(200)), Ok(20));
                crate::park_timeout(ms(1));
                assert_eq!(receiver.recv(), Ok(21));
            });
            (0..20).for_each(|n| sender.send(n).unwrap());
            std::thread::sleep(ms(60));
            sender.send(20).unwrap();
            std::thread::sleep(ms(10));
            sender.send(21).unwrap();
            client.join().unwrap();
        }
    }
}
