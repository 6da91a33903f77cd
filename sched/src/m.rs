//! `M`: an OS thread that runs green threads (S22).
//!
//! An M has a scheduler stack (g0: the OS thread's own), a signal stack, and the queues of the green threads that are
//! tied to it: those it started and must resume itself.
//!
//! | field | who |
//! |---|---|
//! | `head`, `g0`, the `Cell`s, `tied`, `blocks` | its own OS thread |
//! | `hold`, `curg`, `behind`, `tid` | written by its own thread; sysmon reads them, and claims its P: see [`crate::hold`] |
//! | `inbox` | any thread puts tied green threads in that were made ready elsewhere; its own takes them out |
//! | `sleep` | its own thread sleeps, any thread wakes: see [`crate::idle`] |
//! | `slot` | set and cleared by its own thread, written through by sysmon, under the lock: sysmon never writes into the control block of a thread that has exited |
//! | `thread` | has a lock: who starts the thread, and who waits for it to exit |
//!
//! An M exists as long as its runtime. Its thread may retire, and another take its place later: then nothing is tied to it.
//!
//! `tied_next` is to the tied what [`runnext`](crate::p) is to the rest, except that nobody steals from it.
//!
//! # References to the current M
//!
//! [`current`] reads `g` anew by assembly. Its result is right until the calling green thread switches: an untied one may
//! continue on another M. Code that switches must not keep it across.
//!
//! What belongs to its P is reached on g0, or by a green thread through [`Inside`], which keeps the P from being taken away.
//! If that has happened already, a green thread does without; it waits for a P where it comes to g0 next.

use std::cell::{Cell, UnsafeCell};
use std::io;
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicUsize};
use std::thread::JoinHandle;

use morestack_asm::{GHead, MHead, STACK_PREEMPT, Stack, getg};

use crate::atomics::{AtomicBool, Mutex, SpinMutex};
use crate::blocks::Blocks;
use crate::g::{G, GRef};
use crate::hold::Hold;
use crate::idle::SleepState;
use crate::metrics::StackLot;
use crate::newstack::newstack;
use crate::p::P;
use crate::sched::Sched;
use crate::tied::Tied;
use crate::worker;

#[repr(C)]
pub(crate) struct M {
    /// First, so that a `*mut MHead` is a `*const M`.
    pub(crate) head: UnsafeCell<MHead>,
    pub(crate) g0: UnsafeCell<GHead>,
    pub(crate) index: usize,
    sched: Cell<Option<NonNull<Sched>>>,
    /// The P it holds. The same after sysmon has taken it, until it comes in; none where it knows.
    p: Cell<Option<NonNull<P>>>,
    pub(crate) hold: Hold,
    /// The green thread to go on with, without scheduling.
    resume: Cell<Option<GRef>>,
    /// Why the stack of that green thread did not grow: it takes this when it is resumed, and unwinds with it.
    pub(crate) refusal: Cell<Option<io::Error>>,
    curg: AtomicPtr<G>,
    /// Joiners behind the green thread that runs: see [`crate::direct`].
    pub(crate) direct: Cell<u32>,
    pub(crate) tied_next: Cell<Option<GRef>>,
    tied: UnsafeCell<Tied>,
    pub(crate) tick: Cell<u32>,
    /// Tied green threads that it started and that have not finished.
    pub(crate) started: Cell<u64>,
    /// Tied green threads that are ready, but for those in the inbox: see [`note_tied`](M::note_tied).
    pub(crate) behind: AtomicUsize,
    /// The kernel's number of its thread; 0 while it has none.
    pub(crate) tid: AtomicI32,
    /// The last call of [`blocking`](crate::blocking()) was long.
    pub(crate) blocks_long: Cell<bool>,
    /// The time stamp when it got its P.
    pub(crate) turn: Cell<u64>,
    /// The P whose CPU it is bound to.
    pub(crate) pinned: Cell<Option<usize>>,
    /// The slice in which a request was put off last.
    pub(crate) put_off: Cell<u32>,
    /// The last green thread ran to the end of its slice.
    pub(crate) slice_over: Cell<bool>,
    /// The green thread gave the thread back from within one of the runtime's own calls, where this is [in](crate::hold).
    pub(crate) was_in: Cell<bool>,
    /// It goes on there.
    pub(crate) stays_in: Cell<bool>,
    pub(crate) rng: Cell<u64>,
    pub(crate) lot: StackLot,
    pub(crate) blocks: Blocks,
    pub(crate) inbox: Inbox<GRef>,
    pub(crate) sleep: SleepState,
    slot: Mutex<Slot>,
    pub(crate) thread: Mutex<Option<JoinHandle<()>>>,
}

struct Slot(*const AtomicUsize);
// SAFETY: written through only under the lock, while the thread whose word it is lives.
unsafe impl Send for Slot {}

// SAFETY: the table in the module header says which fields other threads reach; those are Sync themselves.
unsafe impl Sync for M {}
// SAFETY: an M is made by one thread and then used by another, its own.
unsafe impl Send for M {}

impl M {
    pub(crate) fn new(index: usize) -> M {
        M {
            head: UnsafeCell::new(MHead::new(newstack)),
            g0: UnsafeCell::new(GHead::new()),
            index,
            sched: Cell::new(None),
            p: Cell::new(None),
            hold: Hold::new(),
            resume: Cell::new(None),
            refusal: Cell::new(None),
            curg: AtomicPtr::new(ptr::null_mut()),
            direct: Cell::new(0),
            tied_next: Cell::new(None),
            tied: UnsafeCell::new(Tied::new()),
            tick: Cell::new(0),
            started: Cell::new(0),
            behind: AtomicUsize::new(0),
            tid: AtomicI32::new(0),
            blocks_long: Cell::new(false),
            turn: Cell::new(0),
            pinned: Cell::new(None),
            put_off: Cell::new(0),
            slice_over: Cell::new(false),
            was_in: Cell::new(false),
            stays_in: Cell::new(false),
            rng: Cell::new(0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(index as u64 + 1)),
            lot: StackLot::default(),
            blocks: Blocks::new(),
            inbox: Inbox::new(),
            sleep: SleepState::new(index),
            slot: Mutex::new(Slot(ptr::null())),
            thread: Mutex::default(),
        }
    }

    /// Ties it to the runtime that it works for. By its own thread, first.
    pub(crate) fn init(&self, sched: &Sched) {
        self.sched.set(Some(NonNull::from(sched)));
        // SAFETY: plain system call.
        self.tid.store(unsafe { libc::gettid() }, Relaxed);
    }

    #[inline(always)]
    pub(crate) fn sched(&self) -> &Sched {
        // SAFETY: a runtime outlives the threads that run it.
        unsafe { self.sched.get().expect("an M that runs has a runtime").as_ref() }
    }

    /// The pointer that heads keep: of the whole M.
    #[inline(always)]
    pub(crate) fn head_ptr(&self) -> *mut MHead {
        ptr::from_ref(self).cast::<MHead>().cast_mut()
    }

    /// The P it holds.
    #[inline(always)]
    pub(crate) fn p(&self) -> &P {
        self.p_if_any().expect("an M that runs green threads holds a P")
    }

    /// The same, for an M that may have none. On its own thread, or under a claim.
    #[inline(always)]
    pub(crate) fn p_if_any(&self) -> Option<&P> {
        // SAFETY: Ps live as long as their runtime.
        self.p.get().map(|p| unsafe { p.as_ref() })
    }

    /// It holds this P, or none, from now on.
    pub(crate) fn set_p(&self, p: Option<&P>) {
        self.p.set(p.map(NonNull::from));
        match p {
            Some(p) => {
                self.hold.held();
                p.holder.store(ptr::from_ref(self).cast_mut(), Release);
            }
            None => self.hold.gave(),
        }
    }

    /// For the length of a call by a green thread of this M: what belongs to the P may be touched. None if the P is gone.
    #[inline(always)]
    fn inside(&self) -> Option<Inside<'_>> {
        let was_out = self.hold.is_out();
        if was_out && !self.hold.come_in() {
            self.hold.go_out();
            return None;
        }
        Some(Inside { m: self, was_out })
    }

    /// A green thread's code has been running and does no more. Waits for a P if its own is gone: so not where a lock is held.
    #[inline(always)]
    pub(crate) fn come_in(&self) {
        if !self.hold.come_in() {
            worker::regain(self);
        }
    }

    /// The green thread that it runs.
    #[inline(always)]
    pub(crate) fn set_curg(&self, g: Option<GRef>) {
        self.curg.store(g.map_or(ptr::null_mut(), GRef::as_ptr), Relaxed);
    }

    #[inline(always)]
    pub(crate) fn curg(&self) -> *mut G {
        self.curg.load(Relaxed)
    }

    /// Goes on with `g` at once, in the slice it has.
    pub(crate) fn resume(&self, g: GRef) {
        debug_assert!(self.resume.get().is_none());
        self.resume.set(Some(g));
    }

    #[inline(always)]
    pub(crate) fn take_resume(&self) -> Option<GRef> {
        self.resume.take()
    }

    /// The queue of its tied green threads.
    ///
    /// # Safety
    ///
    /// On its own thread, and no other reference to the queue is in use.
    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "exclusive by the contract")]
    pub(crate) unsafe fn tied(&self) -> &mut Tied {
        // SAFETY: by the contract.
        unsafe { &mut *self.tied.get() }
    }

    /// Says how many tied green threads are ready, for sysmon. After each change, before green threads run again.
    #[inline(always)]
    pub(crate) fn note_tied(&self) {
        // SAFETY: on its own thread; no other reference to the queue is in use.
        let queued = unsafe { self.tied() }.len();
        self.behind.store(queued + usize::from(self.tied_next.get().is_some()), Relaxed);
    }

    /// Lets sysmon poison the guard of the calling thread, or no longer.
    pub(crate) fn set_slot(&self, slot: *const AtomicUsize) {
        self.slot.lock().0 = slot;
    }

    /// The bounds of its signal stack. On its own thread.
    pub(crate) fn signal_stack(&self) -> Stack {
        // SAFETY: set before the first green thread runs.
        unsafe { (*self.head.get()).gsignal }
    }

    /// Makes the next prologue check on its thread fail. For sysmon.
    pub(crate) fn poison(&self) {
        let slot = self.slot.lock();
        // SAFETY: non-null only while its thread lives, and the lock keeps it from leaving.
        if let Some(guard) = unsafe { slot.0.as_ref() } {
            guard.store(STACK_PREEMPT, Relaxed);
        }
    }

    /// A random number below `n` (xorshift64: any generator is random enough to pick a victim).
    pub(crate) fn random(&self, n: usize) -> usize {
        let mut x = self.rng.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.rng.set(x);
        (x % n as u64) as usize
    }
}

/// The M that runs the green thread of this head.
///
/// # Safety
///
/// `head` is running, or was suspended by the calling thread just now.
#[inline(always)]
pub(crate) unsafe fn of<'a>(head: *mut GHead) -> &'a M {
    // SAFETY: `m` points to the head of an M that lives as long as its thread.
    unsafe { &*(*head).m.cast::<M>() }
}

/// The M of the calling OS thread.
#[inline(always)]
pub(crate) fn current<'a>() -> Option<&'a M> {
    let g = getg();
    // SAFETY: a non-null `g` is running on this thread.
    (!g.is_null()).then(|| unsafe { of(g) })
}

/// The M of the calling OS thread, if it works for this runtime.
#[inline(always)]
pub(crate) fn current_of<'a>(sched: &Sched) -> Option<&'a M> {
    current().filter(|m| ptr::eq(m.sched(), sched))
}

/// The M of the calling OS thread with its P, if it works for this runtime. None also in `blocking`, and where its P has been
/// taken: then the caller is as good as from outside. This does not wait.
#[inline(always)]
pub(crate) fn enter<'a>(sched: &Sched) -> Option<Inside<'a>> {
    current_of(sched).filter(|m| !m.hold.in_call()).and_then(M::inside)
}

/// The same for the calling green thread and its runtime.
#[inline(always)]
pub(crate) fn enter_current<'a>() -> Option<Inside<'a>> {
    current().filter(|m| !m.hold.in_call()).and_then(M::inside)
}

/// The same, but waits for a P. By a green thread, with no lock held.
#[inline(always)]
pub(crate) fn enter_waiting<'a>() -> Inside<'a> {
    let m = current().expect("a green thread runs on an M");
    m.come_in();
    Inside { m, was_out: true }
}

/// An M that holds its P and keeps it until this is dropped. No switch happens meanwhile.
pub(crate) struct Inside<'a> {
    m: &'a M,
    was_out: bool,
}

impl Deref for Inside<'_> {
    type Target = M;
    #[inline(always)]
    fn deref(&self) -> &M {
        self.m
    }
}

impl Drop for Inside<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.was_out {
            self.m.hold.go_out();
        }
    }
}

/// The calling green thread; none on OS threads and on g0.
#[inline(always)]
pub(crate) fn current_g<'a>() -> Option<&'a G> {
    // SAFETY: it is running on this thread.
    current_g_ptr().map(|g| unsafe { g.as_ref() })
}

/// The same, as the pointer to the whole of it that the scheduler has.
#[inline(always)]
pub(crate) fn current_g_ptr() -> Option<NonNull<G>> {
    let g = getg();
    // SAFETY: a non-null `g` is running on this thread; it is a green thread's head if it is not g0.
    NonNull::new(g).filter(|_| unsafe { of(g).g0.get() != g }).map(NonNull::cast)
}

/// The calling green thread, if it may leave its OS thread: not while it unwinds. None in `blocking`, too.
pub(crate) fn resting_g() -> Option<NonNull<G>> {
    current_g_ptr().filter(|_| !std::thread::panicking())
}

/// The runtime of the calling thread, if it is one of a runtime's.
pub(crate) fn current_sched<'a>() -> Option<&'a Sched> {
    current().map(|m| m.sched())
}

/// Tied green threads that other threads made ready.
pub(crate) struct Inbox<T> {
    queue: SpinMutex<Vec<T>>,
    /// Read without the lock by the owner: it misses an entry only while the sender has yet to look for a sleeper.
    full: AtomicBool,
}

impl<T> Inbox<T> {
    pub(crate) fn new() -> Inbox<T> {
        Inbox { queue: SpinMutex::new(Vec::new()), full: AtomicBool::new(false) }
    }

    pub(crate) fn push(&self, g: T) {
        let mut queue = self.queue.lock();
        queue.push(g);
        self.full.store(true, Release);
    }

    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        !self.full.load(Acquire)
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.lock().len()
    }

    pub(crate) fn drain(&self, take: impl FnMut(T)) {
        let mut queue = self.queue.lock();
        queue.drain(..).for_each(take);
        self.full.store(false, Relaxed);
    }
}
