//! `G`: a green thread, and who owns it when.
//!
//! A `G` is counted ([`crate::task`]). The scheduler holds one count from spawn to exit, as a [`GRef`]; a `JoinHandle` and
//! each `Thread` hold others and never touch what the owner touches.
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
//!                                   │  ▲
//!                              scan ▼  │ scanned
//!                                 CopyStack
//! ```
//!
//! | status | owner |
//! |---|---|
//! | Idle | the spawner; no stack yet |
//! | Runnable | the queue it stands in: exactly one of a deque, a `runnext`, what is young, a `tied_next`, a tied queue, an inbox, the injector |
//! | Running | the M that runs it, or what it joins ([`crate::direct`]) |
//! | Preempted | that M still, on g0 |
//! | Waiting | whoever may wake it: who takes PARKED out of its token ([`crate::token`]) |
//! | CopyStack | from Running: its M, on g0. From Waiting: sysmon, as the scanner that put SCAN into the token |
//! | Dead | nobody: the stack is gone, only the ids and the join state are read |
//!
//! Ownership passes with the hand-over itself (a queue's push and pop, the park token's swap), which orders memory.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};

use crate::atomics;
use crate::channel::Sudog;
use crate::join::Join;
use crate::local::Locals;
use crate::m::M;
use crate::parked::Place;
use crate::sched::Sched;
use crate::side::{self, Side};
use crate::site::Site;
use crate::task::{FIRST_REFS, GArc, VTable};
use crate::token::Seq;
use morestack_asm::GHead;
use morestack_stacks::Frozen;

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
    /// A fixed address range of this size, committed as touched.
    Reserved(Class),
    /// Starts in the smallest class, moved to grow and to shrink when its frames say that they may ([`crate::side`]).
    Copying,
    /// The same, but it is the spawner who says that it may be moved at any prologue. In programs without side stacks.
    Contract,
}

impl StackKind {
    /// What those get that ask for nothing.
    #[inline(always)]
    pub(crate) fn auto(sched: &Sched) -> StackKind {
        if side::IN_ALL { StackKind::Copying } else { StackKind::reserved(sched.config.stack_size) }
    }

    /// A copying stack, asked for by who keeps the contract of `go`, or not.
    pub(crate) fn copying(contract: bool) -> StackKind {
        if contract && !side::ON { StackKind::Contract } else { StackKind::Copying }
    }

    /// A reserved stack of so many bytes, a size class.
    pub(crate) fn reserved(size: usize) -> StackKind {
        StackKind::Reserved(Class(size.ilog2() as u8))
    }
}

/// A size class: a power of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Class(u8);

impl Class {
    /// In bytes.
    pub(crate) fn size(self) -> usize {
        1 << self.0
    }
}

/// What a switch touches comes first, in two lines of the cache; and there are no gaps: a million of them wait in some
/// programs.
#[repr(C)]
pub(crate) struct G {
    /// First, so that a `*mut GHead` of a green thread is a `*const G`. The owner's.
    head: UnsafeCell<GHead>,
    status: AtomicU8,
    /// What became of the result: see [`crate::task`].
    pub(crate) fate: AtomicU8,
    /// Resumes only on the M that started it.
    pub(crate) tied: bool,
    /// It has used up a slice before. The owner's.
    pub(crate) long: Cell<bool>,
    /// Its stack has grown. The owner's.
    pub(crate) grew: Cell<bool>,
    /// The logarithm of the size of the stack that it started with. The owner's.
    pub(crate) first_log: Cell<u8>,
    /// It runs on a [segment](crate::segment). The owner's.
    pub(crate) on_segment: Cell<bool>,
    /// Preemptions since its stack changed its size. The owner's.
    pub(crate) calm: Cell<u8>,
    /// The park token, and that of waits which end once: see [`crate::token`].
    pub(crate) token: atomics::AtomicU16,
    pub(crate) wait: atomics::AtomicU16,
    /// Its last wait with a deadline. The owner's.
    pub(crate) seq: Cell<Seq>,
    /// Nesting depth of `without_preemption`. The running green thread's own.
    pub(crate) preempt_off: Cell<u16>,
    /// Its stack, packed; until it is thawed, the head names the stack that it had. The owner's.
    pub(crate) frozen: Cell<Option<Frozen>>,
    /// The M that started it. Written once, by the first `execute`. The owner's.
    pub(crate) home: Cell<Option<NonNull<M>>>,
    /// The runtime it belongs to: valid until it is Dead ([`crate::sched`] has the proof).
    sched: NonNull<Sched>,
    pub(crate) kind: StackKind,
    /// Whether sysmon looks at it now and then while it waits, and where it finds it: see [`crate::parked`].
    pub(crate) place: Place,
    /// Its [task-locals](crate::local), once it has used one. The running green thread's own.
    pub(crate) locals: Cell<Option<NonNull<Locals>>>,
    /// A [waker](crate::future) of it was woken.
    pub(crate) woken: AtomicBool,
    /// It was [cancelled](crate::cancel).
    pub(crate) cancelled: AtomicBool,
    /// It has switched to what it joins, and comes back when that ends: see [`crate::direct`]. Its M's.
    pub(crate) unsettled: Cell<bool>,
    /// Nesting depth of what a cancellation must not unwind. The running green thread's own.
    pub(crate) shield: Cell<u16>,
    /// References, and what is behind the `G` in memory: see [`crate::task`].
    pub(crate) refs: AtomicUsize,
    pub(crate) vtable: &'static VTable,
    pub(crate) join: Join,
    /// Where it was spawned, for copying ones: remembers how large their stacks become.
    pub(crate) site: Option<&'static Site>,
    /// What it queues with for a channel, once it has: see [`crate::channel`]. The owner's.
    pub(crate) sudog: Cell<Option<NonNull<Sudog>>>,
    pub(crate) id: u64,
    pub(crate) name: Option<Box<str>>,
    pub(crate) side: Side,
}

/// With what comes behind it for a small closure and result, a [block](crate::blocks); and that, with malloc's own word, is
/// 256 bytes.
#[cfg(not(any(loom, morestack_side_stacks)))]
const _: () = assert!(size_of::<G>() <= 232);

// SAFETY: the fields that are not Sync (head, long, grew, first_log, on_segment, calm, seq, preempt_off, frozen, home, locals,
// unsettled, shield, sudog, side) are touched by the owner alone, and ownership passes only by the synchronised hand-overs of the module header. `place`
// has rules of its own, in its module.
unsafe impl Send for G {}
// SAFETY: as above.
unsafe impl Sync for G {}

/// What is said of a green thread when it is made.
pub(crate) struct New {
    pub(crate) sched: NonNull<Sched>,
    pub(crate) id: u64,
    pub(crate) name: Option<Box<str>>,
    pub(crate) kind: StackKind,
    pub(crate) site: Option<&'static Site>,
    pub(crate) tied: bool,
}

impl G {
    /// For [`crate::task::new`].
    pub(crate) fn new(new: New, vtable: &'static VTable) -> G {
        G {
            head: UnsafeCell::new(GHead::new()),
            refs: AtomicUsize::new(FIRST_REFS),
            vtable,
            sched: new.sched,
            home: Cell::new(None),
            kind: new.kind,
            site: new.site,
            frozen: Cell::new(None),
            sudog: Cell::new(None),
            id: new.id,
            name: new.name,
            join: Join::default(),
            place: Place::default(),
            locals: Cell::new(None),
            on_segment: Cell::new(false),
            woken: AtomicBool::new(false),
            cancelled: AtomicBool::new(false),
            unsettled: Cell::new(false),
            shield: Cell::new(0),
            preempt_off: Cell::new(0),
            calm: Cell::new(0),
            status: AtomicU8::new(Status::Idle as u8),
            token: atomics::AtomicU16::new(0),
            wait: atomics::AtomicU16::new(0),
            seq: Cell::default(),
            fate: AtomicU8::new(0),
            tied: new.tied,
            long: Cell::new(false),
            grew: Cell::new(false),
            first_log: Cell::new(0),
            side: Side::default(),
        }
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

    /// The runtime of a green thread that is not Dead.
    ///
    /// # Safety
    ///
    /// The caller owns the green thread, or has seen that it is not done and keeps it so ([`crate::join`]).
    #[inline(always)]
    pub(crate) unsafe fn sched(&self) -> &Sched {
        // SAFETY: a runtime is not freed before all its green threads are Dead.
        unsafe { self.sched.as_ref() }
    }

    /// Whether `sched` is its runtime. One that is Dead may have had another at the same address.
    #[inline(always)]
    pub(crate) fn belongs_to(&self, sched: &Sched) -> bool {
        std::ptr::eq(self.sched.as_ptr(), sched)
    }

    /// Whether its stack may move, as far as its kind says. For the owner.
    #[inline(always)]
    pub(crate) fn moves(&self) -> bool {
        !matches!(self.kind, StackKind::Reserved(_)) && !self.on_segment.get()
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

    /// The whole green thread.
    #[inline(always)]
    pub(crate) fn ptr(self) -> NonNull<G> {
        self.0
    }

    /// # Safety
    ///
    /// `ptr` came from `as_ptr` and its count is handed over.
    #[inline(always)]
    pub(crate) unsafe fn from_ptr(ptr: NonNull<G>) -> GRef {
        GRef(ptr)
    }

    /// The last of the scheduler: gives the count back.
    pub(crate) fn into_arc(self) -> GArc {
        // SAFETY: the count that this stands for. GRefs are moved, so this happens once.
        unsafe { GArc::from_counted(self.0) }
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
