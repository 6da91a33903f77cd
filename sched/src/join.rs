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
//! ```
//!
//! # A joiner of the same runtime
//!
//! It changes NOBODY to itself and waits by the token of waits that end once ([`crate::token`]); `finish` swaps DONE in, and
//! notifies whom it finds. *No wake-up is lost*: of the compare-exchange and the swap one comes first; either the joiner
//! sees DONE and does not wait, or `finish` sees the joiner. *The joiner is there*: nobody else notifies that token, so from
//! its registration to the notification it stays in `join`, and its `G` needs no reference. For the same reason its handle
//! exists until the green thread is done.
//!
//! # Any other joiner
//!
//! An OS thread, a green thread of another runtime, and one that blocks its worker in a destructor during a panic, wait by
//! `park`. What they leave is under a lock: in one critical section the joiner goes from NOBODY to OTHER and leaves its
//! handle; `finish`, when it finds OTHER, takes the handle under the lock. So when a joiner sees in a critical section that
//! the green thread is not done, `finish` has to wait for the end of that section: until then the runtime is alive. This
//! lets the joiner register itself with the runtime. After `finish` the scheduler no longer touches the join state.
//!
//! # A runtime that stops
//!
//! Green threads that have not finished when their runtime stops are abandoned: nobody will call `finish`. Joiners from
//! outside that runtime must not wait for ever. They are registered with the runtime, which wakes all of them when it has
//! stopped; they find that it has and return [`RuntimeStopped`]. `finish` takes the registration back.
//!
//! `loom.rs` checks both kinds of joiners on models.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use morestack_asm::{GHead, mcall, prologue};
use parking_lot::Mutex;

use crate::atomics::AtomicPtr;
use crate::g::{G, GRef};
use crate::task::{self, GArc};
use crate::thread::{self, Thread};
use crate::token::{PARKED, Token, wake};
use crate::{direct, fork, m, park};

/// Whether a green thread is done, and who waits for that.
#[derive(Default)]
pub(crate) struct Join {
    pub(crate) word: Word,
    pub(crate) others: Mutex<Others>,
}

#[derive(Default)]
pub(crate) struct Others {
    waiter: Option<Thread>,
    /// Who to unpark while it blocks its OS thread in `park`, unwinding.
    pub(crate) os_thread: Option<std::thread::Thread>,
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

    /// To DONE. Returns the state before.
    pub(crate) fn finish(&self) -> *mut G {
        self.0.swap(DONE, AcqRel)
    }

    /// The same for a green thread that its joiner has started directly: no other thread looks at the word.
    #[inline(always)]
    pub(crate) fn set_joiner(&self, joiner: GRef) {
        self.0.store(joiner.as_ptr(), Relaxed);
    }

    #[inline(always)]
    pub(crate) fn set_done(&self) {
        self.0.store(DONE, Relaxed);
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
                others.waiter.take()
            };
            if let Some(waiter) = waiter {
                waiter.unpark();
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
    /// | [`RuntimeStopped`] | its runtime stopped before it finished |
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
        let end = wait(self.g());
        if end == End::Stopped {
            return Err(Box::new(RuntimeStopped));
        }
        // What `drop` would look for is taken here.
        let handle = ManuallyDrop::new(self);
        // SAFETY: it is done, and this is the one handle, for results of this type.
        let result = unsafe { task::take(handle.g()) };
        // SAFETY: the handle is not used again; the scheduler's count comes with `Reaped`.
        unsafe { task::release(handle.g().ptr(), if end == End::Reaped { 2 } else { 1 }) };
        result.unwrap_or_else(|| Err(Box::new(RuntimeStopped)))
    }

    /// Whether the green thread has finished: `join` will not wait.
    pub fn is_finished(&self) -> bool {
        self.g().join.word.is_done()
    }

    /// The green thread's handle, to unpark or name it.
    pub fn thread(&self) -> &Thread {
        &self.thread
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        task::detach(self.g());
    }
}

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
    // A pointer that may dangle: only compared.
    let inside = m::current().is_some_and(|m| g.belongs_to(m.sched()));
    // None in `blocking`, too.
    match m::current_g_ptr().filter(|_| inside && !std::thread::panicking()) {
        // SAFETY: the calling green thread; the scheduler's count is its own.
        Some(me) => wait_inside(g, unsafe { GRef::from_ptr(me) }),
        None => wait_outside(g, inside),
    }
}

/// For `me`, the calling green thread, of the same runtime.
fn wait_inside(g: &GArc, me: GRef) -> End {
    if direct::join(g, me) {
        return End::Reaped;
    }
    if !g.join.word.is_done() && g.join.word.register(me.as_ptr()) {
        // SAFETY: on a green thread, not unwinding; `wait_m` leaves it to `finish`.
        unsafe { mcall(wait_m, 0) };
        Token::of_wait(&me).reset();
    }
    End::Done
}

unsafe fn wait_m(head: *mut GHead, _: usize) {
    // SAFETY: the green thread that called `mcall` on this M, which owns it.
    let (g, m) = unsafe { (GRef::from_head(head), m::of(head)) };
    park::rest(m, g, Token::of_wait(&g));
}

/// For any other thread; `blocks` if it is one of the same runtime's all the same, which keeps its worker from leaving.
#[cold]
fn wait_outside(g: &GArc, blocks: bool) -> End {
    loop {
        {
            let mut others = g.join.others.lock();
            let registers = g.join.word.register(OTHER);
            if g.join.word.is_done() {
                return End::Done;
            }
            // SAFETY: not done, and the lock is held: see "Any other joiner".
            let sched = unsafe { g.sched() };
            if registers {
                let me = thread::current();
                sched.joiners.insert(g.id, me.clone());
                others.waiter = Some(me);
            }
            // After the registration: whoever stops the runtime looks at the list after it has said so.
            if sched.is_stopped() || blocks && sched.stop_requested() {
                return End::Stopped;
            }
        }
        crate::park();
    }
}
