//! `spawn`, `go` and `Builder`: making green threads.
//!
//! A green thread begins as a `G` with the closure behind it ([`crate::task`]). It gets its stack when it first runs: a
//! million queued spawns need no stacks at all.

use std::io::{self, Write};
use std::panic::Location;
use std::ptr::NonNull;
use std::sync::atomic::Ordering::SeqCst;

use morestack_asm::prologue;

use crate::g::{G, New, StackKind, new_ids};
use crate::join::JoinHandle;
use crate::ready::{Next, ready};
use crate::sched::Sched;
use crate::site::Site;
use crate::task::{self, Job};
use crate::{Runtime, config, fork, m, runtime, side};

/// What may be said of a green thread before it runs.
#[derive(Default)]
pub(crate) struct Attrs {
    name: Option<Box<str>>,
    stack: Option<StackKind>,
    /// The caller of a copying one.
    site: Option<&'static Location<'static>>,
    untied: bool,
}

impl Attrs {
    /// What `spawn` means, called at `site`.
    pub(crate) fn spawn(site: &'static Location<'static>) -> Attrs {
        Attrs { site: side::ON.then_some(site), ..Attrs::default() }
    }

    /// What `go` means, called at `site`.
    pub(crate) fn go(site: &'static Location<'static>) -> Attrs {
        Attrs { stack: Some(StackKind::copying(true)), site: Some(site), untied: true, ..Attrs::default() }
    }
}

/// Makes a green thread of `f` and queues it.
///
/// # Safety
///
/// It must have finished before anything that `f` and `T` borrow is gone. With a copying stack, or untied, the caller
/// keeps the contract of [`go`].
pub(crate) unsafe fn spawn_unchecked<F, T>(sched: &Sched, attrs: Attrs, f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    // SAFETY: by the contract.
    unsafe {
        if const { size_of::<F>() <= task::INLINE } {
            spawn_job(sched, attrs, f)
        } else {
            spawn_job(sched, attrs, Box::new(f))
        }
    }
}

/// The same for what is more than a closure, and lives in the task whatever its size.
///
/// # Safety
///
/// As for [`spawn_unchecked`].
#[inline]
pub(crate) unsafe fn spawn_job<F, T>(sched: &Sched, attrs: Attrs, f: F) -> JoinHandle<T>
where
    F: Job<T> + Send,
    T: Send,
{
    // A loop that spawns is preempted like any other.
    prologue!();
    if fork::is_child() {
        refuse(&fork::error());
    }
    let kind = attrs.stack.unwrap_or_else(|| StackKind::auto(sched));
    let m = m::current();
    let id = match m::enter(sched) {
        Some(m) => {
            m.p().stats.spawned_here.add(1);
            // SAFETY: the calling thread's M holds this P.
            unsafe { m.p().new_id() }
        }
        None => {
            sched.spawned_outside.fetch_add(1, SeqCst);
            new_ids(1)
        }
    };
    let new = New {
        sched: NonNull::from(sched),
        id,
        name: attrs.name,
        kind,
        site: attrs.site.and_then(Site::of),
        tied: !attrs.untied,
    };
    let g = |vtable| G::new(new, vtable);
    let (g, handle) = task::new(m, g, f);
    ready(sched, g, Next::Soon);
    // SAFETY: made just now, of an `F` that returns a `T`.
    unsafe { JoinHandle::new(handle) }
}

/// Runs `f` as a new green thread, as `std::thread::spawn` runs it as an OS thread.
///
/// The green thread has a stack of a fixed address range ([`RuntimeBuilder::stack_size`]), committed as it is touched.
/// Once it has started it stays on the OS thread that started it (*tied*). It runs on the caller's runtime, else on the
/// global one, which starts on first use.
///
/// # What it shares with its neighbours
///
/// The green threads of one worker take turns on one OS thread: whenever one waits, yields or is preempted. So do not let
/// that happen
///
/// - **while a `std::sync` lock is held, or a `OnceLock` or `LazyLock` of std's is being initialised**: another green thread of
///   the worker that wants it blocks the OS thread, and the owner with it, for ever. Those in [`sync`](crate::sync) park;
/// - **while a `RefCell` in a thread-local is borrowed**: another may find it borrowed and panic;
/// - **in the initialiser of a `thread_local!`, or inside of a thread-local that is set and restored around a call**
///   (`scoped-tls`): std and such crates take for granted that the OS thread does nothing else meanwhile, and memory is
///   corrupted where it does. Nothing in `spawn` can prevent this.
///
/// [`without_preemption`](crate::without_preemption) keeps a stretch of code whole.
///
/// If the global runtime cannot start (a bad `MORESTACK_*` variable, no threads to be had) the process ends with one
/// line that says why, and exit code 2; use [`Builder::spawn`] to handle that.
///
/// [`RuntimeBuilder::stack_size`]: crate::RuntimeBuilder::stack_size
///
/// ```
/// let words = vec!["green", "threads"];
/// let handle = morestack::spawn(move || words.join(" "));
/// assert_eq!(handle.join().unwrap(), "green threads");
/// ```
#[track_caller]
pub fn spawn<F, T>(f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    // SAFETY: everything is 'static, and the green thread is tied, and moves only if its frames say that it may.
    unsafe { spawn_unchecked(here_or_exit(), Attrs::spawn(Location::caller()), f) }
}

/// Runs `f` as a new green thread on a *copying* stack, *untied*: the smallest and the most mobile.
///
/// Its stack starts in the smallest class, or with what the green threads of this very call came to need; it doubles by
/// being copied elsewhere at a prologue ([`#[prologue]`](macro@crate::prologue)) and is halved while it waits. It may
/// continue on any worker after each safepoint.
///
/// # Safety
///
/// A *safepoint* is a call of a function marked `#[prologue]`, and every call of this crate. Whenever the green thread
/// is at a safepoint, from the start of `f` to its end:
///
/// 1. **No pointer into its stack exists outside of it**: none in the heap (a `Box<dyn FnMut>` that captured `&mut local`,
///    a `Vec<&Local>`), none in a static or a thread-local, none with another thread.
/// 2. **Every pointer on its stack into its stack is a plain, aligned word**: not packed, not split, not hidden in an
///    integer by arithmetic; and no integer there looks like an address of its stack by chance of the program's making.
/// 3. **No borrow of a thread-local, and nothing that is bound to its OS thread, is held**: no `LocalKey::with` around the
///    safepoint, no `Ref` or `Rc` of a thread-local, no `std` lock guard (their owner is the OS thread).
/// 4. **No foreign code is in the middle of it that breaks 1 to 3**: callbacks from C, or from a crate that keeps
///    references to locals in the heap around the callback (regex, toml and image do).
///
/// Test it: run the program under `MORESTACK_STRESS=move MORESTACK_EFENCE=1`. Every pointer that was left behind then
/// ends in a message that names the green thread and the stack that was moved. `docs/soundness.md` has the reasons.
///
/// ```
/// #[morestack::prologue]
/// fn depth(n: u32, above: &mut u64) -> u64 {
///     let mut mine = u64::from(n);
///     *above += 1;
///     if n == 0 { mine } else { depth(n - 1, &mut mine) + mine }
/// }
///
/// // SAFETY: `depth` keeps references to locals on the stack only, and touches no thread-local.
/// let handle = unsafe { morestack::go(|| depth(20_000, &mut 0)) };
/// assert_eq!(handle.join().unwrap(), 200_030_000);
/// ```
#[track_caller]
pub unsafe fn go<F, T>(f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    // SAFETY: everything is 'static; the caller keeps the contract.
    unsafe { spawn_unchecked(here_or_exit(), Attrs::go(Location::caller()), f) }
}

/// The runtime of the caller, or the global one; a global one that cannot start ends the process.
pub(crate) fn here_or_exit<'a>() -> &'a Sched {
    runtime::here().unwrap_or_else(|error| refuse(&error))
}

/// Ends the process, where there is no way to return an error.
#[cold]
pub(crate) fn refuse(error: &io::Error) -> ! {
    // Nobody may be reading.
    let _ = writeln!(io::stderr(), "morestack: {error}");
    if fork::is_child() {
        // Exit handlers may want locks that nobody holds any more.
        // SAFETY: a plain system call.
        unsafe { libc::_exit(2) };
    }
    std::process::exit(2)
}

/// The kinds of stack that a [`Builder`] may ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stack {
    /// What the runtime gives to [`spawn`](crate::spawn): see [`Runtime::stack_mode`](crate::Runtime::stack_mode).
    #[default]
    Auto,
    /// A fixed address range of so many bytes, rounded up to a power of two.
    Reserved(usize),
    /// One that is copied to grow and to shrink: see [`go`].
    Copying,
}

/// Settings for a green thread, as `std::thread::Builder`.
///
/// ```
/// let handle = morestack::Builder::new()
///     .name("parser")
///     .stack(morestack::Stack::Reserved(1 << 20))
///     .spawn(|| morestack::current().name().map(str::to_owned))?;
/// assert_eq!(handle.join().unwrap().as_deref(), Some("parser"));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a Builder does nothing until it spawns"]
pub struct Builder {
    name: Option<String>,
    stack: Stack,
}

impl Builder {
    /// No name, the runtime's stack.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// A name, for messages and for [`Thread::name`](crate::Thread::name).
    pub fn name(mut self, name: impl Into<String>) -> Builder {
        self.name = Some(name.into());
        self
    }

    /// The kind of its stack.
    pub fn stack(mut self, stack: Stack) -> Builder {
        self.stack = stack;
        self
    }

    /// What was asked for, at `site`.
    fn attrs(self, untied: bool, site: &'static Location<'static>) -> io::Result<Attrs> {
        let stack = match self.stack {
            Stack::Auto => None,
            Stack::Reserved(size) => Some(StackKind::reserved(config::check_stack("stack size", size)?)),
            Stack::Copying => Some(StackKind::copying(untied)),
        };
        let copying = stack.map_or(side::IN_ALL, |kind| !matches!(kind, StackKind::Reserved(_)));
        let site = copying.then_some(site);
        Ok(Attrs { name: self.name.map(String::into_boxed_str), stack, site, untied })
    }

    /// As [`spawn`].
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a stack size that is not allowed; `Unsupported` for [`Stack::Copying`], which safe code may not
    /// have: see [`Builder::spawn_untied`]; what keeps the global runtime from starting.
    pub fn spawn<F, T>(self, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let (sched, attrs) = self.safe()?;
        // SAFETY: everything is 'static, and the green thread is tied and does not move.
        Ok(unsafe { spawn_unchecked(sched, attrs, f) })
    }

    /// As [`Runtime::spawn`], from any thread.
    ///
    /// # Errors
    ///
    /// As [`Builder::spawn`].
    ///
    /// ```
    /// let runtime = morestack::Runtime::builder().workers(1).build()?;
    /// let parser = morestack::Builder::new().name("parser").spawn_on(&runtime, || 6 * 7)?;
    /// assert_eq!(parser.thread().name(), Some("parser"));
    /// assert_eq!(parser.join().unwrap(), 42);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn spawn_on<F, T>(self, runtime: &Runtime, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let attrs = self.safe_attrs()?;
        // SAFETY: as in `spawn`.
        Ok(unsafe { spawn_unchecked(runtime.sched(), attrs, f) })
    }

    /// The runtime, and what safe code may have of what was asked for.
    pub(crate) fn safe<'a>(self) -> io::Result<(&'a Sched, Attrs)> {
        let attrs = self.safe_attrs()?;
        Ok((runtime::here()?, attrs))
    }

    fn safe_attrs(self) -> io::Result<Attrs> {
        if self.stack == Stack::Copying && !side::ON {
            let message = "a copying stack by `spawn` needs a program that `cargo morestack` built: in this one its caller would have \
                           to promise what `spawn_untied` and `go` ask for";
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        }
        self.attrs(false, Location::caller())
    }

    /// As [`go`], with either kind of stack.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a stack size that is not allowed; what keeps the global runtime from starting.
    ///
    /// # Safety
    ///
    /// The contract of [`go`]; with a stack that is not [`Stack::Copying`], its third point only.
    #[track_caller]
    pub unsafe fn spawn_untied<F, T>(self, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        // SAFETY: everything is 'static; the caller keeps the contract.
        Ok(unsafe { spawn_unchecked(runtime::here()?, self.attrs(true, Location::caller())?, f) })
    }

    /// As [`Runtime::go`], from any thread, with either kind of stack.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a stack size that is not allowed.
    ///
    /// # Safety
    ///
    /// As for [`Builder::spawn_untied`].
    #[track_caller]
    pub unsafe fn spawn_untied_on<F, T>(self, runtime: &Runtime, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        // SAFETY: everything is 'static; the caller keeps the contract.
        Ok(unsafe { spawn_unchecked(runtime.sched(), self.attrs(true, Location::caller())?, f) })
    }
}
