//! `M`: an OS thread that runs green threads (S22).
//!
//! An M has a scheduler stack (g0: the OS thread's own), a signal stack, and the queues of the green threads that are
//! tied to it: those it started and must resume itself.
//!
//! | field | who |
//! |---|---|
//! | `head`, `g0`, the `Cell`s, `tied` | its own OS thread |
//! | `inbox` | any thread puts tied green threads in that were made ready elsewhere; its own takes them out |
//! | `sleep` | its own thread sleeps, any thread wakes: see [`crate::idle`] |
//! | `slot` | set and cleared by its own thread, written through by sysmon, under the lock: sysmon never writes into the control block of a thread that has exited |
//!
//! `tied_next` is to the tied what [`runnext`](crate::p) is to the rest, except that nobody steals from it.
//!
//! # References to the current M
//!
//! [`current`] reads `g` anew by assembly. Its result is right until the calling green thread switches: an untied one may
//! continue on another M. Code that switches must not keep it across.

use std::cell::{Cell, UnsafeCell};
use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Instant;

use morestack_asm::{GHead, MHead, Morebuf, STACK_PREEMPT, Stack, getg};

use crate::g::{G, GRef};
use crate::idle::SleepState;
use crate::metrics::StackLot;
use crate::newstack::newstack;
use crate::p::P;
use crate::sched::Sched;
use crate::sync::{AtomicBool, Condvar, Mutex};
use crate::tied::Tied;

#[repr(C)]
pub(crate) struct M {
    /// First, so that a `*mut MHead` is a `*const M`.
    pub(crate) head: UnsafeCell<MHead>,
    pub(crate) g0: UnsafeCell<GHead>,
    pub(crate) index: usize,
    sched: Cell<Option<NonNull<Sched>>>,
    /// The P it holds while it runs.
    p: Cell<Option<NonNull<P>>>,
    /// The green thread to go on with, without scheduling.
    resume: Cell<Option<GRef>>,
    /// Why the stack of that green thread did not grow: it takes this when it is resumed, and unwinds with it.
    pub(crate) refusal: Cell<Option<io::Error>>,
    pub(crate) curg: Cell<Option<GRef>>,
    pub(crate) tied_next: Cell<Option<GRef>>,
    tied: UnsafeCell<Tied>,
    pub(crate) tick: Cell<u32>,
    /// Tied green threads that it started and that have not finished.
    pub(crate) started: Cell<u64>,
    /// The last green thread ran to the end of its slice.
    pub(crate) slice_over: Cell<bool>,
    pub(crate) rng: Cell<u64>,
    pub(crate) lot: StackLot,
    pub(crate) inbox: Inbox<GRef>,
    pub(crate) sleep: SleepState,
    slot: Mutex<Slot>,
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
            head: UnsafeCell::new(MHead {
                g0: ptr::null_mut(),
                gsignal: Stack::NONE,
                morebuf: Morebuf { pc: 0, sp: 0 },
                stackguard1: 0,
                newstack,
            }),
            g0: UnsafeCell::new(GHead::new()),
            index,
            sched: Cell::new(None),
            p: Cell::new(None),
            resume: Cell::new(None),
            refusal: Cell::new(None),
            curg: Cell::new(None),
            tied_next: Cell::new(None),
            tied: UnsafeCell::new(Tied::new()),
            tick: Cell::new(0),
            started: Cell::new(0),
            slice_over: Cell::new(false),
            rng: Cell::new(0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(index as u64 + 1)),
            lot: StackLot::default(),
            inbox: Inbox::new(),
            sleep: SleepState::new(index),
            slot: Mutex::new(Slot(ptr::null())),
        }
    }

    /// Ties it to the runtime that it works for. By its own thread, first.
    pub(crate) fn init(&self, sched: &Sched, p: &P) {
        self.sched.set(Some(NonNull::from(sched)));
        self.p.set(Some(NonNull::from(p)));
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
        // SAFETY: Ps live as long as their runtime.
        unsafe { self.p.get().expect("an M that runs green threads holds a P").as_ref() }
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

    /// Lets sysmon poison the guard of the calling thread, or no longer.
    pub(crate) fn set_slot(&self, slot: *const AtomicUsize) {
        self.slot.lock().0 = slot;
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

/// The runtime of the calling thread, if it is one of a runtime's.
pub(crate) fn current_sched<'a>() -> Option<&'a Sched> {
    current().map(|m| m.sched())
}

/// Tied green threads that other threads made ready.
pub(crate) struct Inbox<T> {
    queue: Mutex<Vec<T>>,
    /// Read without the lock by the owner: it misses an entry only while the sender has yet to look for a sleeper.
    full: AtomicBool,
}

impl<T> Inbox<T> {
    pub(crate) fn new() -> Inbox<T> {
        Inbox { queue: Mutex::new(Vec::new()), full: AtomicBool::new(false) }
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

    pub(crate) fn drain(&self, take: impl FnMut(T)) {
        let mut queue = self.queue.lock();
        queue.drain(..).for_each(take);
        self.full.store(false, Relaxed);
    }
}

/// A token to sleep for: `unpark` before `park` makes it return at once.
#[derive(Default)]
pub(crate) struct Parker {
    token: Mutex<bool>,
    wake: Condvar,
}

impl Parker {
    /// Sleeps until the token is there, and takes it; or until `deadline`. True if it took the token.
    pub(crate) fn park_until(&self, deadline: Option<Instant>) -> bool {
        let mut token = self.token.lock();
        while !*token {
            match deadline {
                Some(deadline) => {
                    if self.wake.wait_until(&mut token, deadline).timed_out() {
                        break;
                    }
                }
                None => self.wake.wait(&mut token),
            }
        }
        std::mem::take(&mut *token)
    }

    pub(crate) fn unpark(&self) {
        *self.token.lock() = true;
        self.wake.notify_one();
    }
}
