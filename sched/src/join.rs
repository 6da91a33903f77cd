//! `JoinHandle`: waiting for a green thread's result.
//!
//! The result lies behind the `G` ([`crate::task`]). Whether it is there is said by one word in the `G`, which also says who
//! waits for that:
//!
//! ```text
//!         register                        finish
//!     NOBODY ───► a joiner's G ───────────────┐
//!       ├─────────────────────────────────────┼──► DONE
//!       └─► OTHER ────────────────────────────┘
//!    ◄──── withdraw, leave
//! ```
//!
//! # A joiner of the same runtime
//!
//! It changes NOBODY to itself and waits by the token of waits that end once ([`crate::token`]); `finish` swaps DONE in, and
//! notifies whom it finds. *No wake-up is lost*: of the compare-exchange and the swap one comes first; either the joiner
//! sees DONE and does not wait, or `finish` sees the joiner. *The joiner is there*: nobody else notifies that token, so from
//! its registration to the notification it stays in `join`, and its `G` needs no reference. For the same reason its handle
//! exists until the green thread is done. If it is [cancelled](crate::cancel) it changes itself back to NOBODY; where that
//! comes too late, it waits for the notification.
//!
//! # Any other joiner
//!
//! An OS thread, a green thread of another runtime, and one that blocks its worker in a destructor during a panic, wait by
//! `park`; a future waits by its `Waker`. What they leave is under a lock: in one critical section ([`leave`]) the joiner
//! goes from NOBODY to OTHER and leaves its handle; `finish`, when it finds OTHER, takes the handle under the lock. So when
//! a joiner sees in a critical section that the green thread is not done, and OTHER is there, `finish` has to wait for the
//! end of that section: until then the runtime is alive. This lets the joiner register the green thread with the runtime.
//! After `finish` the scheduler no longer touches the join state.
//!
//! A future may be polled again, with another waker, dropped, or joined by other means than it was polled by. Only the
//! holder of the one handle does any of that, so it meets nobody but `finish`:
//!
//! - *Again*: it replaces what it has left, in a critical section in which it sees that the green thread is not done. A
//!   `finish` that has not yet swapped then finds the new waker; one that has makes it see DONE.
//! - *Dropped, or joined from inside*: it [withdraws](withdraw), from OTHER to NOBODY, in a critical section that has taken the
//!   registration back before: afterwards the runtime may go. If it finds DONE, `finish` takes what was left.
//!
//! A waker that was replaced or withdrawn may still be woken, once: that is what spurious wake-ups are. It is woken, and
//! dropped, outside of the lock, by the worker on g0; it must not rely on a green thread's stack, and a panic of it is
//! caught.
//!
//! # A runtime that stops
//!
//! Green threads that have not finished when their runtime stops are abandoned: nobody will call `finish`. Joiners from
//! outside that runtime must not wait for ever. What they wait for is registered with the runtime, which wakes all of them
//! when it has stopped; they find that it has and return [`RuntimeStopped`]. `finish` takes the registration back.
//!
//! `loom.rs` checks all kinds of joiners on models.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::task::{Context, Poll, Waker};

use morestack_asm::prologue;
use parking_lot::Mutex;

use crate::atomics::AtomicPtr;
use crate::direct::{self, Direct};
use crate::g::{G, GRef};
use crate::task::{self, GArc};
use crate::thread::{self, Thread};
use crate::token::{PARKED, Token, wake};
use crate::{cancel, fork, future, m};

/// Whether a green thread is done, and who waits for that.
#[derive(Default)]
pub(crate) struct Join {
    pub(crate) word: Word,
    /// Most green threads never need it.
    pub(crate) others: Mutex<Option<Box<Others>>>,
}

#[derive(Default)]
pub(crate) struct Others {
    waiter: Option<Waiter>,
    /// Who to unpark while it blocks its OS thread in `park`, unwinding.
    pub(crate) os_thread: Option<std::thread::Thread>,
}

/// What a joiner has left.
#[derive(Clone)]
enum Waiter {
    Thread(Thread),
    Waker(Waker),
}

impl Waiter {
    /// Outside of the lock.
    fn wake(self) {
        match self {
            Waiter::Thread(thread) => thread.unpark(),
            Waiter::Waker(waker) => future::wake_caught(waker),
        }
    }
}

pub(crate) const NOBODY: *mut G = ptr::null_mut();
// No addresses of a `G`: those are aligned.
pub(crate) const DONE: *mut G = ptr::without_provenance_mut(1);
pub(crate) const OTHER: *mut G = ptr::without_provenance_mut(2);

/// See the module header.
pub(crate) struct Word(pub(crate) AtomicPtr<G>);

impl Default for Word {
    fn default() -> Word {
        Word(AtomicPtr::new(NOBODY))
    }
}

impl Word {
    /// Who saw this sees the result.
    #[inline(always)]
    pub(crate) fn is_done(&self) -> bool {
        self.0.load(Acquire) == DONE
    }

    /// From NOBODY to `joiner`; false if it is done.
    pub(crate) fn register(&self, joiner: *mut G) -> bool {
        self.0.compare_exchange(NOBODY, joiner, AcqRel, Acquire).is_ok()
    }

    /// Whether something was left for `finish`. For the holder of the handle.
    #[inline(always)]
    fn is_other(&self) -> bool {
        self.0.load(Relaxed) == OTHER
    }

    /// From OTHER back to NOBODY; false if it is done.
    pub(crate) fn withdraw(&self) -> bool {
        self.leave(OTHER)
    }

    /// From `joiner` back to NOBODY; false if it is done.
    pub(crate) fn leave(&self, joiner: *mut G) -> bool {
        self.0.compare_exchange(joiner, NOBODY, AcqRel, Acquire).is_ok()
    }

    /// To DONE. Returns the state before.
    pub(crate) fn finish(&self) -> *mut G {
        self.0.swap(DONE, AcqRel)
    }

    /// The same for a green thread that its joiner has started directly: no other thread changes the word.
    #[inline(always)]
    pub(crate) fn set_joiner(&self, joiner: GRef) {
        self.0.store(joiner.as_ptr(), Relaxed);
    }

    #[inline(always)]
    pub(crate) fn set_done(&self) {
        // For those who only ask whether it is done.
        self.0.store(DONE, Release);
    }

    /// The joiner of the same runtime that waits.
    #[inline(always)]
    pub(crate) fn joiner(&self) -> Option<NonNull<G>> {
        NonNull::new(self.0.load(Relaxed)).filter(|g| ![DONE, OTHER].contains(&g.as_ptr()))
    }
}

/// Marks `g` as done and wakes its joiner. Called by the owner, once, after the result was stored.
pub(crate) fn finish(g: &G) {
    match g.join.word.finish() {
        NOBODY => {}
        OTHER => {
            let waiter = {
                let mut others = g.join.others.lock();
                // SAFETY: the caller owns `g`.
                unsafe { g.sched() }.joiners.remove(g.id);
                others.as_mut().and_then(|others| others.waiter.take())
            };
            if let Some(waiter) = waiter {
                waiter.wake();
            }
        }
        joiner => {
            // SAFETY: it waits for this very notification, see "The joiner is there"; after it, only PARKED says so.
            unsafe {
                let joiner = NonNull::new_unchecked(joiner);
                if Token::of_wait(joiner.as_ref()).notify() == PARKED {
                    wake(joiner);
                }
            }
        }
    }
}

/// Wakes who has left something for the end of `g`, which its runtime has stopped before.
pub(crate) fn wake_other(g: &G) {
    let waiter = g.join.others.lock().as_ref().and_then(|others| others.waiter.clone());
    if let Some(waiter) = waiter {
        waiter.wake();
    }
}

/// The error of [`JoinHandle::join`] for a green thread that did not finish because its runtime stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuntimeStopped;

impl fmt::Display for RuntimeStopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the runtime stopped before this green thread finished")
    }
}

impl std::error::Error for RuntimeStopped {}

/// An owned permission to wait for a green thread and take its result, as `std::thread::JoinHandle`.
///
/// Dropping it detaches the green thread, which goes on running.
///
/// # As a future
///
/// Awaited, by any executor or by [`block_on`](crate::block_on), it waits without blocking the thread, for what
/// [`join`](JoinHandle::join) returns. Nothing is lost by dropping such an `.await` half-way if the handle is kept
/// (`(&mut handle).await`): it can be awaited again, or joined. The waker is woken by the worker on which the green thread
/// ends, or by who stops the runtime: it must not wait for a green thread itself.
///
/// ```
/// let handle = morestack::spawn(|| 6 * 7);
/// let doubled = async { handle.await.unwrap() * 2 };
/// assert_eq!(morestack::block_on(doubled), 84);
/// ```
pub struct JoinHandle<T> {
    thread: Thread,
    /// The type of the result behind the green thread.
    _result: PhantomData<T>,
}

// SAFETY: a handle gives away a T (hence T: Send) and otherwise only reads atomics and locks.
unsafe impl<T: Send> Send for JoinHandle<T> {}
// SAFETY: through a shared reference no T is reachable.
unsafe impl<T> Sync for JoinHandle<T> {}

impl<T> JoinHandle<T> {
    /// # Safety
    ///
    /// `g` is of a task with this type of result, and this is its one handle.
    pub(crate) unsafe fn new(g: GArc) -> JoinHandle<T> {
        JoinHandle { thread: Thread::green(g), _result: PhantomData }
    }

    fn g(&self) -> &GArc {
        self.thread.as_green().expect("a JoinHandle is of a green thread")
    }

    /// Waits for the green thread and returns its result. A green thread that waits is parked; an OS thread blocks.
    ///
    /// In a destructor during a panic the worker itself is blocked ([`park`](crate::park())): joining a green thread there
    /// that is tied to the same worker waits for ever, or until the runtime stops.
    ///
    /// # Errors
    ///
    /// The payload of what ended it:
    ///
    /// | payload | |
    /// |---|---|
    /// | of the panic | it panicked |
    /// | [`StackOverflow`](crate::StackOverflow) | it needed more stack than it may have |
    /// | `std::io::Error`, `OutOfMemory` | no stack for it could be had when it first ran, or no larger one when its copying stack was to grow; the message names the size and the reason |
    /// | [`Cancelled`](crate::Cancelled) | it was [cancelled](JoinHandle::cancel) |
    /// | [`RuntimeStopped`] | its runtime stopped before it finished |
    ///
    /// # Panics
    ///
    /// If the result was taken before, by awaiting the handle.
    ///
    /// ```
    /// let handle = morestack::spawn(|| 6 * 7);
    /// assert_eq!(handle.join().unwrap(), 42);
    ///
    /// let failed = morestack::spawn(|| std::panic::resume_unwind(Box::new("no")));
    /// assert_eq!(failed.join().unwrap_err().downcast_ref(), Some(&"no"));
    /// ```
    pub fn join(self) -> Result<T, Box<dyn Any + Send + 'static>> {
        prologue!();
        self.end().unwrap_or_else(|| Err(Box::new(RuntimeStopped)))
    }

    /// The same; none if its runtime has stopped before it ended.
    pub(crate) fn end(self) -> Option<Result<T, Box<dyn Any + Send + 'static>>> {
        let end = wait(self.g());
        if end == End::Stopped {
            return None;
        }
        // What `drop` would look for is taken here.
        let handle = ManuallyDrop::new(self);
        // SAFETY: it is done, and this is the one handle, for results of this type.
        let result = unsafe { task::take(handle.g()) };
        // SAFETY: the handle is not used again; the scheduler's count comes with `Reaped`.
        unsafe { task::release(handle.g().ptr(), if end == End::Reaped { 2 } else { 1 }) };
        Some(result.unwrap_or_else(|| Err(Box::new(RuntimeStopped))))
    }

    /// Whether the green thread has finished: `join` will not wait.
    pub fn is_finished(&self) -> bool {
        self.g().join.word.is_done()
    }

    /// Ends the green thread, where it next waits or comes to a safepoint: it unwinds there with [`Cancelled`], running
    /// destructors, and that is what `join` returns. If it has finished, this does nothing. It does not wait for the end.
    ///
    /// | where it is | what happens |
    /// |---|---|
    /// | not started | its closure is dropped, on its own stack |
    /// | in [`park`](crate::park()), [`sleep`](crate::sleep), `join`, [`block_on`](crate::block_on), a channel operation, `select!`, or waiting for what is in [`sync`](crate::sync) | it leaves the queue, and unwinds; an operation that was completed before counts |
    /// | running | the next such wait, [`yield_now`](crate::yield_now), or within a few time slices a [`#[prologue]`](macro@crate::prologue) or [`checkpoint`](crate::checkpoint) |
    /// | in [`without_preemption`](crate::without_preemption), in a destructor during a panic | not there: afterwards |
    /// | in [`blocking`](crate::blocking()), at the end of a [`scope`](crate::scope()), in [`Runtime::run`](crate::Runtime::run), in the initialiser of a [`LazyLock`](crate::sync::LazyLock) | when that has returned |
    ///
    /// Whoever catches the payload ends by its next wait all the same. The payload is no panic: no message is printed. A value
    /// that was to be sent is dropped; one that was received is not lost. Where panics abort the process (`panic = "abort"`), so does this.
    ///
    /// ```
    /// use morestack::channel::bounded;
    ///
    /// let (sender, receiver) = bounded::<u32>(0);
    /// let server = morestack::spawn(move || receiver.iter().sum::<u32>());
    /// sender.send(1).unwrap();
    /// server.cancel();
    /// assert!(server.join().unwrap_err().is::<morestack::Cancelled>());
    /// assert!(sender.send(2).is_err()); // the receiver was dropped
    /// ```
    ///
    /// [`Cancelled`]: crate::Cancelled
    pub fn cancel(&self) {
        cancel::cancel(self.g());
    }

    /// The right to do the same, apart from this handle: for others, while one waits in [`join`](JoinHandle::join).
    ///
    /// ```
    /// use std::time::Duration;
    /// use morestack::{Cancelled, sleep, spawn};
    ///
    /// let slow = spawn(|| sleep(Duration::from_secs(3600)));
    /// let limit = slow.cancel_handle();
    /// spawn(move || {
    ///     sleep(Duration::from_millis(2));
    ///     limit.cancel();
    /// });
    /// assert!(slow.join().unwrap_err().is::<Cancelled>());
    /// ```
    pub fn cancel_handle(&self) -> CancelHandle {
        CancelHandle { thread: self.thread.clone() }
    }

    /// The green thread's handle, to unpark or name it.
    pub fn thread(&self) -> &Thread {
        &self.thread
    }
}

/// The right to cancel a green thread, and not to take its result: see [`JoinHandle::cancel_handle`]. It keeps neither the green
/// thread nor its result.
#[derive(Clone, Debug)]
pub struct CancelHandle {
    thread: Thread,
}

impl CancelHandle {
    fn g(&self) -> &GArc {
        self.thread.as_green().expect("a CancelHandle is of a green thread")
    }

    /// Ends the green thread, as [`JoinHandle::cancel`].
    pub fn cancel(&self) {
        cancel::cancel(self.g());
    }

    /// Whether the green thread has finished.
    pub fn is_finished(&self) -> bool {
        self.g().join.word.is_done()
    }

    /// The green thread's handle.
    pub fn thread(&self) -> &Thread {
        &self.thread
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        if self.g().join.word.is_other() {
            withdraw(self.g());
        }
        task::detach(self.g());
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, Box<dyn Any + Send + 'static>>;

    /// # Panics
    ///
    /// If it has returned the result before.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let g = self.g();
        let end = if g.join.word.is_done() {
            Some(End::Done)
        } else if fork::is_child() {
            Some(End::Stopped)
        } else {
            let inside = is_inside(g);
            let blocks = inside && m::resting_g().is_none();
            leave(g, blocks, Waiter::Waker(cx.waker().clone()))
        };
        Poll::Ready(match end {
            None => return Poll::Pending,
            Some(End::Stopped) => Err(Box::new(RuntimeStopped)),
            // SAFETY: it is done, and this is the one handle, for results of this type.
            Some(_) => unsafe { task::take(g) }.unwrap_or_else(|| Err(Box::new(RuntimeStopped))),
        })
    }
}

// No future is in it.
impl<T> Unpin for JoinHandle<T> {}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("thread", &self.thread).finish_non_exhaustive()
    }
}

/// How a wait ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// The green thread is done.
    Done,
    /// It is done, and the scheduler's count of it is the caller's.
    Reaped,
    /// It never will be: its runtime has stopped.
    Stopped,
}

fn wait(g: &GArc) -> End {
    if g.join.word.is_done() {
        return End::Done;
    }
    if fork::is_child() {
        return End::Stopped;
    }
    let inside = is_inside(g);
    match m::resting_g().filter(|_| inside) {
        // SAFETY: the calling green thread; the scheduler's count is its own.
        Some(me) => wait_inside(g, unsafe { GRef::from_ptr(me) }),
        None => wait_outside(g, inside),
    }
}

/// Whether the calling thread is one of the runtime of `g`.
fn is_inside(g: &GArc) -> bool {
    // A pointer that may dangle: only compared.
    m::current().is_some_and(|m| g.belongs_to(m.sched()))
}

/// For `me`, the calling green thread, of the same runtime.
fn wait_inside(g: &GArc, me: GRef) -> End {
    if g.join.word.is_other() {
        // It was polled before.
        withdraw(g);
    }
    cancel::point_of(&me);
    let rested = match direct::join(g, me) {
        Direct::Reaped => return End::Reaped,
        Direct::Settled => cancel::outcome(&me, true),
        Direct::No if g.join.word.is_done() || !g.join.word.register(me.as_ptr()) => return End::Done,
        Direct::No => None,
    };
    // SAFETY: on a green thread, not unwinding; `finish` notifies whom it finds in the word.
    let notified = rested.unwrap_or_else(|| unsafe { cancel::rest(me, true) });
    if !notified {
        if g.join.word.leave(me.as_ptr()) {
            cancel::raise();
        }
        // It ended before that.
        // SAFETY: as above.
        unsafe { cancel::rest(me, false) };
    }
    End::Done
}

/// For any other thread; `blocks` if it is one of the same runtime's all the same, which keeps its worker from leaving.
#[cold]
fn wait_outside(g: &GArc, blocks: bool) -> End {
    loop {
        if let Some(end) = leave(g, blocks, Waiter::Thread(thread::current())) {
            return end;
        }
        crate::park();
    }
}

/// Leaves `waiter` for `finish`, in place of what was left before; or says how it ended.
fn leave(g: &GArc, blocks: bool, waiter: Waiter) -> Option<End> {
    // Dropped outside of the lock: a waker's destructor may do anything.
    let _replaced;
    let mut others = g.join.others.lock();
    let first = g.join.word.register(OTHER);
    if g.join.word.is_done() {
        drop(others);
        return Some(End::Done);
    }
    // SAFETY: not done, and the lock is held: see "Any other joiner".
    let sched = unsafe { g.sched() };
    if first {
        sched.joiners.insert(g.id, g.clone());
    }
    _replaced = others.get_or_insert_default().waiter.replace(waiter);
    // After the registration: whoever stops the runtime looks at the list after it has said so.
    let stopped = sched.is_stopped() || blocks && sched.stop_requested();
    drop(others);
    stopped.then_some(End::Stopped)
}

/// Takes back what was left for `finish`, if that has not come for it.
#[cold]
fn withdraw(g: &GArc) {
    // As in `leave`.
    let _left;
    let mut others = g.join.others.lock();
    if g.join.word.is_done() {
        return;
    }
    // Before NOBODY is there: see "Dropped, or joined from inside".
    // SAFETY: OTHER was there, not done is seen, and the lock is held.
    unsafe { g.sched() }.joiners.remove(g.id);
    if g.join.word.withdraw() {
        _left = others.as_mut().and_then(|others| others.waiter.take());
    }
    drop(others);
}
