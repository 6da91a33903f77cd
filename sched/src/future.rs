//! `block_on` and `spawn_future`: futures on green threads.
//!
//! A green thread, or an OS thread, drives one future: it polls, parks, and polls again when its waker was woken. The waker
//! is the thread itself: a count of its `G`, or an `Arc`. To wake it is a swap and an unpark.
//!
//! ```text
//!   block_on                                waker, anywhere
//!   ────────                                ───────────────
//!   woken = false                           if !swap(woken, true):
//!   poll ── Pending ─► while !take(woken):     unpark
//!     ▲                    park
//!     └──────────────────────┘
//! ```
//!
//! *No wake-up is lost.* The flag is apart from the park token, which `poll` may use up: what is polled may park for
//! something else. A wake-up from the beginning of a poll on sets the flag. Either the loop then finds it and does not park;
//! or whoever set it first puts a token there after that, and `park` returns. Later ones find the flag set and leave it at
//! that: the first one's token is there or comes.
//!
//! *Nested.* A poll may call `block_on` itself. Both have the one flag, so the inner may take what was for the outer.
//! Therefore each sets the flag when it ends, and the outer polls once too often.
//!
//! *Moving stacks.* A future that is polled is pinned: wakers and lists in the heap may point into it. It may also borrow
//! from its caller's frames, so it can as little lie in the heap while those move. A copying green thread therefore drives it
//! on a [segment](crate::segment).

use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Wake, Waker};

use morestack_asm::prologue;

use crate::g::G;
use crate::join::JoinHandle;
use crate::task::GArc;
use crate::thread::{self, Inner, OsThread};
use crate::{cancel, park, segment};

/// Runs `future` to its end on the calling thread, and returns its output. A green thread is parked while it waits, and others
/// run meanwhile; an OS thread blocks.
///
/// Nothing else is needed for futures of any origin, as long as they wake their waker: channels, [`JoinHandle`]s, timers that
/// have threads of their own. Those of tokio's I/O want to be polled inside of its runtime (`Handle::enter`).
///
/// It may be called again by what it polls. As with [`park`](crate::park()), in a destructor during a panic it blocks the
/// worker. A copying stack ([`go`](crate::go)) does not move meanwhile: the future runs on a stack of the size that
/// [`spawn`](crate::spawn) gives, and may borrow from the caller.
///
/// # Panics
///
/// If `future` does.
///
/// ```
/// let answer = morestack::spawn(|| morestack::block_on(async { 6 * 7 }));
/// assert_eq!(morestack::block_on(answer).unwrap(), 42);
/// ```
pub fn block_on<F: Future>(future: F) -> F::Output {
    prologue!();
    segment::unmoved(|| drive(pin!(future)))
}

/// Runs `future` as a new green thread, as [`spawn`](crate::spawn) runs a function.
///
/// ```
/// let handle = morestack::spawn_future(async { "done" });
/// assert_eq!(handle.join().unwrap(), "done");
/// ```
pub fn spawn_future<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    crate::spawn(move || block_on(future))
}

/// Wakes somebody else's task. A waker that panics is not the caller's affair; and that the caller is
/// [cancelled](crate::cancel) is not the task's.
pub(crate) fn wake_caught(waker: Waker) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| cancel::never_here(|| waker.wake()))) {
        // The panic hook has reported it. The payload's destructor might panic again.
        std::mem::forget(payload);
    }
}

fn drive<F: Future>(mut future: Pin<&mut F>) -> F::Output {
    /// See "Nested".
    struct Woken<'a>(&'a AtomicBool);
    impl Drop for Woken<'_> {
        fn drop(&mut self) {
            self.0.store(true, Relaxed);
        }
    }
    let me = thread::current().into_inner();
    let woken = Woken(match &me {
        Inner::Green(g) => &g.woken,
        Inner::Os(os) => os.woken(),
    });
    let waker = waker(me.clone());
    let mut cx = Context::from_waker(&waker);
    loop {
        // Acquire, for what its wakers did before: it is polled now.
        woken.0.swap(false, Acquire);
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
        while !woken.0.load(Relaxed) {
            park::park();
        }
    }
}

fn waker(thread: Inner) -> Waker {
    match thread {
        // SAFETY: the count is handed over to the waker, whose functions keep the contract of `RawWaker`: the green thread
        // is Send and Sync, and lives as long as a count of it.
        Inner::Green(g) => unsafe { Waker::from_raw(raw(g)) },
        Inner::Os(os) => os.into(),
    }
}

impl Wake for OsThread {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken().swap(true, AcqRel) {
            self.unpark();
        }
    }
}

/// The waker of a green thread: its data is the `G`, and stands for a count.
static VTABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake_by_ref, drop_waker);

fn raw(g: GArc) -> RawWaker {
    RawWaker::new(ManuallyDrop::new(g).ptr().as_ptr().cast_const().cast(), &VTABLE)
}

/// The count that a waker stands for.
///
/// # Safety
///
/// `data` is a waker's, which hands its count over, or keeps it and does not use it meanwhile.
unsafe fn counted(data: *const ()) -> GArc {
    // SAFETY: by the contract; a waker's data is never null.
    unsafe { GArc::from_counted(NonNull::new_unchecked(data.cast_mut().cast::<G>())) }
}

unsafe fn clone(data: *const ()) -> RawWaker {
    // SAFETY: the waker keeps its count.
    let g = ManuallyDrop::new(unsafe { counted(data) });
    raw(GArc::clone(&g))
}

unsafe fn wake(data: *const ()) {
    // SAFETY: the waker hands its count over.
    wake_green(&unsafe { counted(data) });
}

unsafe fn wake_by_ref(data: *const ()) {
    // SAFETY: the waker keeps its count.
    wake_green(&ManuallyDrop::new(unsafe { counted(data) }));
}

unsafe fn drop_waker(data: *const ()) {
    // SAFETY: the waker hands its count over.
    drop(unsafe { counted(data) });
}

fn wake_green(g: &GArc) {
    if !g.woken.swap(true, AcqRel) {
        park::unpark(g);
    }
}
