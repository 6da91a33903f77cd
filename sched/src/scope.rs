//! `scope`: green threads that borrow from their parent.
//!
//! As `std::thread::scope`: what is spawned in a scope has ended before `scope` returns, also by a panic, so it may borrow
//! what outlives that call.
//!
//! ```text
//!   scope: running = 0                           child
//!   f(&scope) ── spawn: running + 1 ───────────► runs, stores its result, or drops it if the handle is gone
//!   while running != 0: park    ◄── unpark ───── running - 1, and if that was the last
//! ```
//!
//! # When a child is counted as ended
//!
//! After it is done with all that it may borrow: its closure and, if nobody wants it, its result. So the count is a
//! [`Running`], which leaves the closure before it runs, and is dropped after the result was stored ([`Job::run`]). A result that a
//! handle waits for is dropped by that handle, in the scope, or never. If the child never runs, for want of memory or because
//! its runtime stops, its closure is dropped, and the count behind it.
//!
//! The end is Release and the look at the count Acquire: what the children did to what they borrowed is visible to the parent.
//! The last child looks at the shared [`Data`] only, which is counted: the scope may be gone by then.
//!
//! # Panics
//!
//! As in std: if the scope's own closure panics, all are waited for, and the panic goes on. If a child has ended by a panic
//! that nobody took by joining it, `scope` panics; not for one that was cancelled. `panics` counts those: a child adds itself when it ends, and a join that
//! returns an error takes it off again.
//!
//! # The parent's stack
//!
//! From the first spawn on others hold pointers to the parent's frames. On a reserved stack, and on that of an OS thread,
//! these stay. A copying parent runs the scope on a [segment](crate::segment), and waits there: neither that nor its own
//! stack moves until all children have ended.
//!
//! # While it waits
//!
//! There is no way out of the wait: a parent that is [cancelled](crate::cancel) unwinds after it, and if `park` should unwind
//! the process is aborted. A parent that is a green thread, and whose
//! runtime stops, is abandoned like its children: nobody runs any more, and the frames that were lent stay. So a runtime
//! must not be stopped by a scope's own doing; and a scope in `blocking` or in a destructor during a panic keeps its worker, and
//! with it the end of the runtime, until the children have ended.

use std::any::Any;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use morestack_asm::prologue;

use crate::cancel::{self, Cancelled};
use crate::g::Payload;
use crate::join::{CancelHandle, JoinHandle, RuntimeStopped};
use crate::spawn::{self, Attrs, Builder};
use crate::task::{self, Job};
use crate::thread::{self, Thread};
use crate::{park, segment, worker};

/// More children than that are a leak in a loop, and the count must not wrap.
const MAX_RUNNING: usize = isize::MAX as usize;

/// A scope to spawn green threads in that borrow. See [`scope()`].
pub struct Scope<'scope, 'env: 'scope> {
    data: Arc<Data>,
    // Invariant in both, as in std: the scope of the children can be neither shortened nor extended.
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

/// What the scope and its children share.
struct Data {
    running: AtomicUsize,
    /// Children that have ended by a panic that nobody took.
    panics: AtomicUsize,
    parent: Thread,
}

/// A child that has not ended. Dropped before it was told how the child ended: it never ran.
struct Running {
    data: Arc<Data>,
    failed: bool,
}

impl Running {
    fn new(data: &Arc<Data>) -> Running {
        if data.running.fetch_add(1, Relaxed) > MAX_RUNNING {
            data.running.fetch_sub(1, Relaxed);
            panic!("too many green threads in a scope");
        }
        Running { data: data.clone(), failed: true }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.failed {
            self.data.panics.fetch_add(1, Relaxed);
        }
        if self.data.running.fetch_sub(1, Release) == 1 {
            self.data.parent.unpark();
        }
    }
}

/// Whether it ended by a panic, and not because it was asked to.
fn failed(payload: &Payload) -> bool {
    !payload.is::<Cancelled>()
}

/// The closure of a child, and the count of it. Dropped in this order.
pub(crate) struct Child<F> {
    f: F,
    running: Running,
}

impl<F: FnOnce() -> T, T> Job<T> for Child<F> {
    fn run(self, store: impl FnOnce(Result<T, Payload>)) {
        let Child { f, mut running } = self;
        let result = catch_unwind(AssertUnwindSafe(|| {
            cancel::point();
            f()
        }));
        running.failed = result.as_ref().is_err_and(failed);
        store(result);
        drop(running);
    }
}

/// Runs `f` with a scope, in which green threads can be spawned that borrow from the caller, and waits for all of them.
///
/// As `std::thread::scope`, on the calling runtime. It may be called anywhere, on both kinds of stack: a copying one
/// ([`go`](crate::go)) does not move meanwhile. There `f` runs on a stack of the size that [`spawn`](crate::spawn) gives.
///
/// While it waits for children it uses up tokens of [`park`](crate::park()), like std's. As there, it may return before the
/// destructors of the children's [task-locals](crate::task_local!) have run, unless they were joined.
///
/// In [`blocking`](crate::blocking()) and in a destructor during a panic the worker itself waits. If its runtime is dropped
/// meanwhile, the children do not end, and the drop waits for ever.
///
/// # Panics
///
/// If `f` does, with its payload; if a green thread of the scope panicked and was not joined. After all have ended.
///
/// ```
/// let mut words = vec!["green", "threads"];
/// let (mut first, mut rest) = (0, 0);
/// morestack::scope(|s| {
///     s.spawn(|| first = words[0].len());
///     s.spawn(|| rest = words[1..].iter().map(|w| w.len()).sum());
/// });
/// words.push("borrow");
/// assert_eq!((first, rest), (5, 7));
/// ```
pub fn scope<'env, F, T>(f: F) -> T
where
    F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
{
    prologue!();
    segment::unmoved(|| here(f))
}

/// On a stack that does not move.
fn here<'env, F, T>(f: F) -> T
where
    F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
{
    let data = Data { running: AtomicUsize::new(0), panics: AtomicUsize::new(0), parent: thread::current() };
    let scope = Scope { data: Arc::new(data), scope: PhantomData, env: PhantomData };
    let result = catch_unwind(AssertUnwindSafe(|| f(&scope)));
    // Children borrow: this frame must not be left.
    worker::never_unwinding(|| {
        while scope.data.running.load(Acquire) != 0 {
            park::park();
        }
    });
    match result {
        Err(payload) => resume_unwind(payload),
        Ok(_) if scope.data.panics.load(Relaxed) != 0 => panic!("a scoped thread panicked"),
        Ok(result) => result,
    }
}

impl<'scope> Scope<'scope, '_> {
    /// Runs `f` as a new green thread of this scope, as [`spawn`](crate::spawn): tied, on a reserved stack. It may borrow what
    /// outlives the scope, and the scope itself, to spawn more.
    ///
    /// ```
    /// let text = String::from("borrowed");
    /// let len = morestack::scope(|s| s.spawn(|| s.spawn(|| text.len()).join().unwrap()).join().unwrap());
    /// assert_eq!(len, 8);
    /// ```
    pub fn spawn<F, T>(&'scope self, f: F) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        // SAFETY: `here` does not return before it has ended: see "When a child is counted as ended". It is tied and does not
        // move.
        unsafe { self.spawn_on(spawn::here_or_exit(), Attrs::default(), f) }
    }

    /// # Safety
    ///
    /// As for [`spawn::spawn_job`], but that it may borrow for `'scope`.
    unsafe fn spawn_on<F, T>(
        &'scope self,
        sched: &crate::sched::Sched,
        attrs: Attrs,
        f: F,
    ) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        let running = Running::new(&self.data);
        // SAFETY: by the contract, and it is counted until then.
        let handle = unsafe {
            if const { size_of::<F>() <= task::INLINE } {
                spawn::spawn_job(sched, attrs, Child { f, running })
            } else {
                spawn::spawn_job(sched, attrs, Child { f: Box::new(f), running })
            }
        };
        ScopedJoinHandle { handle, data: self.data.clone(), scope: PhantomData }
    }
}

impl fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").field("running", &self.data.running.load(Relaxed)).finish_non_exhaustive()
    }
}

/// An owned permission to wait for a green thread of a [`scope()`], as `std::thread::ScopedJoinHandle`.
///
/// Dropping it detaches the green thread from it; the scope waits all the same.
pub struct ScopedJoinHandle<'scope, T> {
    handle: JoinHandle<T>,
    data: Arc<Data>,
    scope: PhantomData<&'scope mut &'scope ()>,
}

impl<T> ScopedJoinHandle<'_, T> {
    /// Waits for the green thread and returns its result, as [`JoinHandle::join`]. What is returned as an error does not make
    /// the scope panic.
    ///
    /// # Errors
    ///
    /// As [`JoinHandle::join`].
    ///
    /// ```
    /// morestack::scope(|s| {
    ///     let failed = s.spawn(|| std::panic::resume_unwind(Box::new("no")));
    ///     assert_eq!(failed.join().unwrap_err().downcast_ref(), Some(&"no"));
    /// });
    /// ```
    pub fn join(self) -> Result<T, Box<dyn Any + Send + 'static>> {
        prologue!();
        let Some(result) = self.handle.end() else {
            return Err(Box::new(RuntimeStopped));
        };
        if result.as_ref().is_err_and(failed) {
            // It has added itself before it ended.
            self.data.panics.fetch_sub(1, Relaxed);
        }
        result
    }

    /// Whether the green thread has finished: `join` will not wait.
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }

    /// Ends the green thread, as [`JoinHandle::cancel`]. The scope waits for its end, and does not panic for it.
    ///
    /// ```
    /// let first = morestack::scope(|s| {
    ///     let (sender, receiver) = morestack::channel::bounded(1);
    ///     let racers = [5, 3000].map(|ms| {
    ///         let sender = sender.clone();
    ///         s.spawn(move || {
    ///             morestack::sleep(std::time::Duration::from_millis(ms));
    ///             sender.send(ms).unwrap();
    ///         })
    ///     });
    ///     let first = receiver.recv();
    ///     racers.each_ref().map(|racer| racer.cancel());
    ///     first
    /// });
    /// assert_eq!(first, Ok(5));
    /// ```
    pub fn cancel(&self) {
        self.handle.cancel();
    }

    /// The right to do the same, apart from this handle, as [`JoinHandle::cancel_handle`].
    pub fn cancel_handle(&self) -> CancelHandle {
        self.handle.cancel_handle()
    }

    /// The green thread's handle, to unpark or name it.
    pub fn thread(&self) -> &Thread {
        self.handle.thread()
    }
}

impl<T> fmt::Debug for ScopedJoinHandle<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopedJoinHandle").field("thread", self.thread()).finish_non_exhaustive()
    }
}

impl Builder {
    /// As [`Scope::spawn`].
    ///
    /// # Errors
    ///
    /// As [`Builder::spawn`].
    ///
    /// ```
    /// let text = String::from("borrowed");
    /// morestack::scope(|s| {
    ///     let child = morestack::Builder::new().name("reader").spawn_scoped(s, || text.len())?;
    ///     assert_eq!(child.thread().name(), Some("reader"));
    ///     assert_eq!(child.join().unwrap(), 8);
    ///     Ok::<(), std::io::Error>(())
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn spawn_scoped<'scope, F, T>(
        self,
        scope: &'scope Scope<'scope, '_>,
        f: F,
    ) -> io::Result<ScopedJoinHandle<'scope, T>>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        let (sched, attrs) = self.safe()?;
        // SAFETY: as in `Scope::spawn`.
        Ok(unsafe { scope.spawn_on(sched, attrs, f) })
    }
}
