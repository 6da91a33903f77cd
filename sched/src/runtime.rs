//! `Runtime` and `RuntimeBuilder`: starting the workers, the global runtime, and the end.
//!
//! # The end
//!
//! When a runtime is dropped or shut down
//!
//! 1. `stop` is set; sleeping workers are woken, running green threads are asked for preemption as ever;
//! 2. each worker leaves its loop when its green thread next gives the thread back;
//! 3. on its way out it empties its queues. Green threads in the middle are abandoned: never resumed, their destructors
//!    not run, their memory kept, since others may point to it. For the same reason a worker that started abandoned tied
//!    green threads does not exit but sleeps: its thread-locals may be lent out;
//! 4. the last worker to leave sets `stopped`: joiners outside return `RuntimeStopped`. Then, as an ordinary OS thread, it
//!    drops the closures of the green threads that never ran, and ends those with `RuntimeStopped`;
//! 5. whoever ends the runtime waits for that, then for visitors. If nothing was abandoned it joins the threads, and the
//!    `Sched` is freed; else it stays, as handles of abandoned green threads refer to it.
//!
//! A worker that ends its own runtime cannot wait for itself: steps 1 to 4 happen without it, and the `Sched` stays.
//!
//! In a child made by `fork` nothing of this happens: see [`crate::fork`].

use std::fmt;
use std::io;
use std::mem;
use std::panic::{Location, resume_unwind};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::config::{self, Config};
use crate::g::StackKind;
use crate::idle::Workers;
use crate::join::JoinHandle;
use crate::metrics::Metrics;
use crate::sched::Sched;
use crate::spawn::{self, Attrs, Stack};
use crate::worker::NoThread;
use crate::{fault, fork, m, segment, sysmon, worker};

/// A set of OS threads that run green threads.
///
/// Most programs need none of their own: [`spawn`](crate::spawn) outside of any runtime uses a global one, which starts
/// on first use. See [`RuntimeBuilder`] for the settings.
///
/// # Dropping
///
/// Green threads that have not finished when their runtime is dropped are stopped at their next safepoint and never
/// resumed, as goroutines are when `main` returns: their destructors do not run. Those that never started are dropped.
/// Joining either gives [`RuntimeStopped`](crate::RuntimeStopped). To let them finish, join them or call
/// [`shutdown`](Runtime::shutdown). Dropping waits for the workers, so a green thread that never reaches a safepoint
/// keeps it from returning, and so does one that waits in `std` for a thread which joins a green thread of the same runtime;
/// dropped by one of its own green threads, a runtime does not wait.
///
/// # `fork`
///
/// A child made by `fork` has none of the threads of its parent's runtimes, and only `exec` is safe in it, as in every
/// program with threads. What it asks of this crate ends with an error that says so, and never in a wait.
///
/// ```
/// let runtime = morestack::Runtime::builder().workers(2).build()?;
/// let sum = runtime.run(|| {
///     let handles: Vec<_> = (0..100_u64).map(|i| morestack::spawn(move || i * i)).collect();
///     handles.into_iter().map(|h| h.join().unwrap()).sum::<u64>()
/// });
/// assert_eq!(sum, 328_350);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Runtime {
    sched: Arc<Sched>,
    sysmon: Option<std::thread::JoinHandle<()>>,
}

/// The green threads that had not finished when [`Runtime::shutdown`] ran out of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfinished {
    count: u64,
}

impl Unfinished {
    /// How many they were.
    pub fn count(&self) -> u64 {
        self.count
    }
}

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} green threads had not finished when their runtime was shut down", self.count)
    }
}

impl std::error::Error for Unfinished {}

impl Runtime {
    /// A runtime with the default settings.
    ///
    /// # Errors
    ///
    /// As [`RuntimeBuilder::build`].
    pub fn new() -> io::Result<Runtime> {
        Runtime::builder().build()
    }

    /// Settings for a runtime.
    pub fn builder() -> RuntimeBuilder {
        RuntimeBuilder { config: Config::default() }
    }

    fn start(config: Config) -> io::Result<Runtime> {
        if fork::is_child() {
            return Err(fork::error());
        }
        config::debug_env()?;
        fault::install()?;
        fork::watch();
        morestack_asm::detect_vectors();
        let sched = Arc::new(Sched::new(config));
        // Threads that did start are stopped by the drop of `runtime`.
        let mut runtime = Runtime { sched, sysmon: None };
        let sched = &runtime.sched;
        for p in 0..sched.count() {
            worker::start(sched, Some(p)).map_err(|error| no_worker(p, sched.count(), error))?;
        }
        let name = format!("{}-sysmon", sched.config.thread_name);
        let sysmon = {
            let sched = sched.clone();
            move || {
                let _guard = worker::AbortOnUnwind("the sysmon thread panicked");
                worker::precise_timers();
                worker::short_slices();
                sysmon::run(&sched);
            }
        };
        let started = std::thread::Builder::new().name(name).spawn(sysmon);
        let error = |e: io::Error| io::Error::new(e.kind(), format!("cannot start the sysmon thread: {e}"));
        runtime.sysmon = Some(started.map_err(error)?);
        Ok(runtime)
    }

    /// Runs `f` as a green thread and waits for its result. `f` may borrow: the caller waits until it has finished.
    ///
    /// Green threads that `f` spawned and did not join go on after it.
    ///
    /// # Panics
    ///
    /// If `f` panics, with the same payload. If no stack can be allocated for it.
    pub fn run<F, T>(&self, f: F) -> T
    where
        F: FnOnce() -> T + Send,
        T: Send,
    {
        // What `f` borrows from a copying green thread must stay where it is.
        segment::unmoved(|| run_on(&self.sched, f))
    }

    /// What kind of stack its green threads get that ask for none: [`Stack::Copying`] in a program that `cargo morestack` built, with side
    /// stacks and no third-party crate left out; else [`Stack::Reserved`] with its size.
    ///
    /// ```
    /// let runtime = morestack::Runtime::builder().stack_size(1 << 20).build()?;
    /// // No documentation test is built by `cargo morestack`.
    /// assert_eq!(runtime.stack_mode(), morestack::Stack::Reserved(1 << 20));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn stack_mode(&self) -> Stack {
        match StackKind::auto(&self.sched) {
            StackKind::Reserved(class) => Stack::Reserved(class.size()),
            StackKind::Copying | StackKind::Contract => Stack::Copying,
        }
    }

    /// [`spawn`](crate::spawn) on this runtime, from any thread.
    #[track_caller]
    pub fn spawn<F, T>(&self, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        // SAFETY: everything is 'static, and the green thread is tied, and moves only if its frames say that it may.
        unsafe { spawn::spawn_unchecked(&self.sched, Attrs::spawn(Location::caller()), f) }
    }

    /// [`go`](crate::go) on this runtime, from any thread.
    ///
    /// # Safety
    ///
    /// The contract of [`go`](crate::go).
    #[track_caller]
    pub unsafe fn go<F, T>(&self, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        // SAFETY: everything is 'static; the caller keeps the contract.
        unsafe { spawn::spawn_unchecked(&self.sched, Attrs::go(Location::caller()), f) }
    }

    /// Runs green threads on `n` OS threads at a time from now on, as Go's `GOMAXPROCS`. From any thread.
    ///
    /// More begin at once. Of fewer, each stops at the end of its time slice; green threads that are tied to its thread go on
    /// in turn with those of the others. Slower than one per CPU that the process has: it is for services that share a
    /// machine, and whose share changes.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if `n` is not allowed, naming what is; the operating system's error where a thread cannot be started:
    /// then as many run as could be had.
    ///
    /// ```
    /// let runtime = morestack::Runtime::builder().workers(1).build()?;
    /// runtime.set_workers(2)?;
    /// assert_eq!(runtime.metrics().workers, 2);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_workers(&self, n: usize) -> io::Result<()> {
        self.sched.config.check_resize(n)?;
        worker::set_count(&self.sched, n).map_err(|(p, error)| no_worker(p, n, error))
    }

    /// What it has done so far.
    pub fn metrics(&self) -> Metrics {
        Metrics::read(&self.sched)
    }

    /// Waits until all its green threads have finished, at most for `timeout`, then ends it as dropping does.
    ///
    /// # Errors
    ///
    /// How many had not finished.
    ///
    /// # Panics
    ///
    /// When called by one of its own green threads, which would wait for itself.
    pub fn shutdown(self, timeout: Duration) -> Result<(), Unfinished> {
        assert!(!self.is_mine(), "Runtime::shutdown called by one of its own green threads");
        self.sched.drain.wait(&self.sched, Instant::now().checked_add(timeout));
        // Now, not after: dropping ends those that never ran.
        let unfinished = self.sched.unfinished();
        drop(self);
        match unfinished {
            0 => Ok(()),
            count => Err(Unfinished { count }),
        }
    }

    pub(crate) fn sched(&self) -> &Sched {
        &self.sched
    }

    /// Whether the calling thread is one of its workers.
    fn is_mine(&self) -> bool {
        m::current_of(&self.sched).is_some()
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("config", &self.sched.config).finish_non_exhaustive()
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if fork::is_child() {
            // Nobody else is there, and somebody who is not may hold a lock.
            mem::forget(self.sched.clone());
            return mem::forget(self.sysmon.take());
        }
        self.sched.request_stop();
        if self.is_mine() {
            mem::forget(self.sched.clone());
            return;
        }
        if self.sched.threads.lock().close_if_empty() {
            // No thread could be started.
            self.sched.set_stopped();
        }
        self.sched.wait_until_left();
        self.sched.wait_for_visitors();
        if self.sched.unfinished() != 0 {
            // Abandoned green threads refer to it, and some of the threads stay.
            mem::forget(self.sched.clone());
            return;
        }
        let workers = self.sched.ms.iter().filter_map(|(_, m)| m.thread.lock().take());
        for thread in workers.chain(self.sysmon.take()) {
            // One that panics aborts the process.
            let _ = thread.join();
        }
    }
}

/// The error for a worker that did not start.
fn no_worker(p: usize, n: usize, error: NoThread) -> io::Error {
    let said = format!("cannot start worker thread {} of {n}", p + 1);
    match error {
        NoThread::Limit => io::Error::other(format!("{said}: there are max_threads already")),
        NoThread::System(e) => io::Error::new(e.kind(), format!("{said}: {e}")),
    }
}

/// Settings of a [`Runtime`]; each has a default.
///
/// | setting | default | allowed |
/// |---|---|---|
/// | `workers` | the CPUs this process may use, by affinity and cgroup | 1 to 1024 |
/// | `max_threads` | 10,000 | from the number of workers to 32,768 |
/// | `pin_workers` | no | |
/// | `time_slice` | 1 ms | none, or 20 us to 1 h |
/// | `spin_sysmon` | no | |
/// | `stack_size` | 256 KiB | 64 KiB to 1 GiB, rounded up to a power of two |
/// | `max_stack_size` | 1 GiB | the same |
/// | `freeze_after` | 100 ms | none, or 1 ms to 1 h |
/// | `thread_name` | `morestack` | no NUL |
#[derive(Clone, Debug)]
pub struct RuntimeBuilder {
    config: Config,
}

impl RuntimeBuilder {
    /// OS threads that run green threads at a time.
    pub fn workers(mut self, n: usize) -> Self {
        self.config.workers = n;
        self
    }

    /// The most OS threads that the runtime has, with those that are [`blocking`](crate::blocking()). A green thread that blocks
    /// when there are so many keeps its worker.
    pub fn max_threads(mut self, n: usize) -> Self {
        self.config.max_threads = n;
        self
    }

    /// Binds each worker to one CPU, in turn.
    pub fn pin_workers(mut self, yes: bool) -> Self {
        self.config.pin_workers = yes;
        self
    }

    /// How long a green thread may run, when others wait, before it is preempted at a prologue; `None`: for ever.
    pub fn time_slice(mut self, slice: Option<Duration>) -> Self {
        self.config.time_slice = slice;
        self
    }

    /// Whether the thread that ends time slices waits for their ends awake. For slices of 50 us and less: each is then as long
    /// as it should be, and it takes a CPU of its own while any worker is busy. When all are idle it sleeps as ever. It has
    /// nothing to do where slices are off.
    ///
    /// Leave it a CPU: with as many workers as CPUs it gets in their way.
    pub fn spin_sysmon(mut self, yes: bool) -> Self {
        self.config.spin_sysmon = yes;
        self
    }

    /// Bytes of address space for the stack of a green thread made by [`spawn`](crate::spawn). Only touched pages cost
    /// memory.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.config.stack_size = bytes;
        self
    }

    /// Bytes that the stack of a green thread made by [`go`](crate::go) may grow to.
    pub fn max_stack_size(mut self, bytes: usize) -> Self {
        self.config.max_stack_size = bytes;
        self
    }

    /// How long a green thread waits before its stack is made small; `None`: never. The stack of [`go`](crate::go) is then
    /// *frozen*: only the used bytes are kept, until it is woken. That of [`spawn`](crate::spawn) gives its unused pages
    /// back to the system after ten times as long.
    ///
    /// It takes between one and two such intervals; who [sleeps](crate::sleep) for one at least, is frozen at once. A
    /// shorter one saves memory in programs with many green threads that
    /// wait briefly, and costs each wait a microsecond or so.
    pub fn freeze_after(mut self, wait: Option<Duration>) -> Self {
        self.config.freeze_after = wait;
        self
    }

    /// The workers' names: this, a hyphen and a number.
    pub fn thread_name(mut self, name: impl Into<String>) -> Self {
        self.config.thread_name = name.into();
        self
    }

    /// Starts it.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a setting that is not allowed, naming it, the value and what is allowed; also for such a value
    /// in `MORESTACK_STRESS`, `MORESTACK_EFENCE` or `MORESTACK_STACK_DEBUG`. The operating system's error where a thread
    /// cannot be started.
    ///
    /// ```
    /// let error = morestack::Runtime::builder().workers(0).build().unwrap_err();
    /// assert_eq!(error.to_string(), "workers=0: allowed: a whole number from 1 to 1024");
    /// ```
    pub fn build(self) -> io::Result<Runtime> {
        Runtime::start(self.config.check()?)
    }
}

impl From<Config> for RuntimeBuilder {
    fn from(config: Config) -> RuntimeBuilder {
        RuntimeBuilder { config }
    }
}

/// [`Runtime::run`], on a runtime that nobody shuts down meanwhile.
pub(crate) fn run_on<F, T>(sched: &Sched, f: F) -> T
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    // SAFETY: joined before this returns, so nothing that `f` borrows is gone while it runs; the runtime cannot be
    // shut down meanwhile: it is static, or borrowed where that takes it by value.
    let handle = unsafe { spawn::spawn_unchecked(sched, Attrs::default(), f) };
    // While `f` borrows, this frame must not be left, by a panic of the waiting either.
    let result = worker::never_unwinding(|| handle.join());
    result.unwrap_or_else(|payload| resume_unwind(payload))
}

/// The global runtime, or why it did not start.
static GLOBAL: OnceLock<Result<Runtime, (io::ErrorKind, String)>> = OnceLock::new();

/// The global runtime, started on first use.
pub(crate) fn global() -> io::Result<&'static Sched> {
    global_or(|| Config::from_env().and_then(Runtime::start))
}

/// The same, with other settings than those of the environment. An error if it runs already.
pub(crate) fn start_global(set: fn(RuntimeBuilder) -> RuntimeBuilder) -> io::Result<&'static Sched> {
    let mut started = false;
    let sched = global_or(|| {
        started = true;
        set(Config::from_env()?.into()).build()
    })?;
    if started { Ok(sched) } else { Err(io::Error::other("the global runtime was started before main")) }
}

fn global_or(start: impl FnOnce() -> io::Result<Runtime>) -> io::Result<&'static Sched> {
    match GLOBAL.get_or_init(|| start().map_err(|e| (e.kind(), e.to_string()))) {
        Ok(runtime) => Ok(&runtime.sched),
        Err((kind, message)) => Err(io::Error::new(*kind, message.clone())),
    }
}

/// The runtime that `spawn` means here: the calling green thread's, else the global one.
pub(crate) fn here<'a>() -> io::Result<&'a Sched> {
    if fork::is_child() {
        return Err(fork::error());
    }
    match m::current_sched() {
        Some(sched) => Ok(sched),
        None => global(),
    }
}
