//! `G`: a green thread, and who owns it when.
//!
//! A `G` is an `Arc`. The scheduler holds one count from spawn to exit, as a [`GRef`]; a `JoinHandle` and each `Thread`
//! hold others and never touch what the owner touches.
//!
//! # Ownership by status (S20)
//!
//! Exactly one party owns a green thread's head, stack and closure at any time. The owner alone changes the status.
//!
//! ```text
//!            spawn            execute                exit
//!     Idle ────────► Runnable ────────► Running ────────────► Dead
//!                     ▲    ▲             │  │ ▲ ▲
//!                     │    │     preempt │  │ │ │ grown
//!                     │    └─ Preempted ◄┘  │ │ └──► CopyStack
//!                     │ ready               │ │ token was there
//!                     └─────────── Waiting ◄┘─┘        (and, giving way, from Running to Runnable)
//! ```
//!
//! | status | owner |
//! |---|---|
//! | Idle | the spawner; no stack yet |
//! | Runnable | the queue it stands in: exactly one of a deque, a `runnext`, a `tied_next`, a tied queue, an inbox, the injector |
//! | Running | the M that runs it |
//! | Preempted, CopyStack | that M still, on g0 |
//! | Waiting | whoever may wake it: the holder of its park token ([`crate::park`]) or the timer it sleeps on |
//! | Dead | nobody: the stack is gone, only the ids and the join state are read |
//!
//! Ownership passes with the hand-over itself (a queue's push and pop, the park token's swap), which orders memory.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use morestack_asm::GHead;
use parking_lot::Mutex;

use crate::join::JoinState;
use crate::m::M;
use crate::sched::Sched;
use crate::site::Site;
use crate::sync;

/// The states of the diagram above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Status {
    Idle,
    Runnable,
    Running,
    Waiting,
    Preempted,
    CopyStack,
    Dead,
}

impl Status {
    const ALL: [Status; 7] = [
        Status::Idle,
        Status::Runnable,
        Status::Running,
        Status::Waiting,
        Status::Preempted,
        Status::CopyStack,
        Status::Dead,
    ];
}

/// How a green thread gets its stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StackKind {
    /// A fixed address range of so many bytes, committed as touched.
    Reserved(usize),
    /// Starts in the smallest class, moved to grow and to shrink.
    Copying,
}

/// What a green thread runs: the user's closure, wrapped so that it stores its result and does not unwind.
pub(crate) type Main = Box<dyn FnOnce() + Send>;

#[repr(C)]
pub(crate) struct G {
    /// First, so that a `*mut GHead` of a green thread is a `*const G`. The owner's.
    head: UnsafeCell<GHead>,
    status: AtomicU8,
    /// The park token: see [`crate::park`].
    pub(crate) token: sync::AtomicU8,
    pub(crate) kind: StackKind,
    /// Where it was spawned, for copying ones: remembers how large their stacks become.
    pub(crate) site: Option<&'static Site>,
    /// Bytes of the stack it started with. The owner's.
    pub(crate) first_size: Cell<usize>,
    /// Its stack has grown. The owner's.
    pub(crate) grew: Cell<bool>,
    /// Resumes only on the M that started it.
    pub(crate) tied: bool,
    /// The M that started it. Written once, by the first `execute`. The owner's.
    pub(crate) home: Cell<Option<NonNull<M>>>,
    /// It has used up a slice before. The owner's.
    pub(crate) long: Cell<bool>,
    /// Nesting depth of `without_preemption`. The running green thread's own.
    pub(crate) preempt_off: Cell<u32>,
    /// Taken by the first `execute`. The owner's.
    main: Cell<Option<Main>>,
    pub(crate) id: u64,
    pub(crate) name: Option<Box<str>>,
    /// The runtime it belongs to: valid until it is Dead ([`crate::sched`] has the proof).
    sched: NonNull<Sched>,
    pub(crate) join: Mutex<JoinState>,
}

// SAFETY: the fields that are not Sync (head, first_size, grew, home, long, preempt_off, main) are touched by the owner alone, and ownership
// passes only by the synchronised hand-overs of the module header. `main` is Send.
unsafe impl Send for G {}
// SAFETY: as above.
unsafe impl Sync for G {}

impl G {
    pub(crate) fn new(
        sched: NonNull<Sched>,
        id: u64,
        name: Option<Box<str>>,
        kind: StackKind,
        site: Option<&'static Site>,
        tied: bool,
        main: Main,
    ) -> Arc<G> {
        Arc::new(G {
            head: UnsafeCell::new(GHead::new()),
            status: AtomicU8::new(Status::Idle as u8),
            token: sync::AtomicU8::new(0),
            kind,
            site,
            first_size: Cell::new(0),
            grew: Cell::new(false),
            tied,
            home: Cell::new(None),
            long: Cell::new(false),
            preempt_off: Cell::new(0),
            main: Cell::new(Some(main)),
            id,
            name,
            sched,
            join: Mutex::new(JoinState::default()),
        })
    }

    /// The green thread whose head this is.
    ///
    /// # Safety
    ///
    /// `head` is the head of a `G` (not of g0) that outlives `'a`.
    #[inline(always)]
    pub(crate) unsafe fn from_head<'a>(head: *mut GHead) -> &'a G {
        // SAFETY: `head` is the first field of a repr(C) struct.
        unsafe { &*head.cast::<G>() }
    }

    /// The head, for the owner.
    #[inline(always)]
    pub(crate) fn head(&self) -> *mut GHead {
        self.head.get()
    }

    #[inline(always)]
    pub(crate) fn status(&self) -> Status {
        Status::ALL[self.status.load(Ordering::Relaxed) as usize]
    }

    /// Changes the status; for the owner. Relaxed: the hand-over that follows orders it.
    #[inline(always)]
    pub(crate) fn set_status(&self, from: Status, to: Status) {
        debug_assert_eq!(self.status(), from, "green thread {}", self.id);
        self.status.store(to as u8, Ordering::Relaxed);
    }

    /// The closure, once; for the owner.
    pub(crate) fn take_main(&self) -> Option<Main> {
        self.main.take()
    }

    /// The runtime of a green thread that is not Dead.
    ///
    /// # Safety
    ///
    /// The caller owns the green thread, or holds its join lock and has seen that it is not done.
    #[inline(always)]
    pub(crate) unsafe fn sched(&self) -> &Sched {
        // SAFETY: a runtime is not freed before all its green threads are Dead.
        unsafe { self.sched.as_ref() }
    }

    /// The name, or a stand-in for messages.
    pub(crate) fn label(&self) -> &str {
        self.name.as_deref().unwrap_or("<unnamed>")
    }
}

/// The scheduler's count of a `G`: whoever holds it owns the green thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GRef(NonNull<G>);

// SAFETY: `G` is Send, and a GRef is moved, not shared: see "Ownership by status".
unsafe impl Send for GRef {}

impl GRef {
    pub(crate) fn new(g: Arc<G>) -> GRef {
        // SAFETY: `Arc::into_raw` is never null.
        GRef(unsafe { NonNull::new_unchecked(Arc::into_raw(g).cast_mut()) })
    }

    /// # Safety
    ///
    /// The caller owns the green thread of this head and hands its count over.
    #[inline(always)]
    pub(crate) unsafe fn from_head(head: *mut GHead) -> GRef {
        // SAFETY: heads are never null.
        GRef(unsafe { NonNull::new_unchecked(head.cast::<G>()) })
    }

    /// The head, as a pointer to the whole `G`.
    #[inline(always)]
    pub(crate) fn head_ptr(self) -> *mut GHead {
        self.0.as_ptr().cast()
    }

    #[inline(always)]
    pub(crate) fn as_ptr(self) -> *mut G {
        self.0.as_ptr()
    }

    /// # Safety
    ///
    /// `ptr` came from `as_ptr` and its count is handed over.
    #[inline(always)]
    pub(crate) unsafe fn from_ptr(ptr: NonNull<G>) -> GRef {
        GRef(ptr)
    }

    /// The last of the scheduler: gives the count back.
    pub(crate) fn into_arc(self) -> Arc<G> {
        // SAFETY: the count that `new` turned into a GRef; GRefs are moved, so this happens once.
        unsafe { Arc::from_raw(self.0.as_ptr()) }
    }
}

impl std::ops::Deref for GRef {
    type Target = G;
    #[inline(always)]
    fn deref(&self) -> &G {
        // SAFETY: the count that this GRef stands for keeps it alive.
        unsafe { self.0.as_ref() }
    }
}

/// The next of a process-wide sequence of green-thread and thread ids, from 1.
///
/// `block` ids at once: a P takes a block, so that spawns do not meet on one cache line.
pub(crate) fn new_ids(block: u64) -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(block, Ordering::Relaxed)
}

/// The payload of a panic, or what else ended a green thread.
pub(crate) type Payload = Box<dyn Any + Send + 'static>;
