//! The memory of a green thread: one allocation for its `G`, its closure, and its result.
//!
//! ```text
//!   Task<F, T>   ┌──────────────────────────────────────┬──────────────────────────┐
//!                │ G: refs, vtable, head, status, ...   │ body: closure, or result │
//!                └──────────────────────────────────────┴──────────────────────────┘
//!                  ▲ GArc, GRef: know of the G only; the vtable knows the types
//! ```
//!
//! The closure and the result share their place: the one has moved to the green thread's stack before the other is there.
//! A closure of more than [`INLINE`] bytes is boxed, so that it does not keep its place for as long as a handle exists. Tasks
//! that are small, as most are then, lie in [blocks](crate::blocks) of one size.
//!
//! # Who may touch the body
//!
//! | body | who |
//! |---|---|
//! | the closure | the scheduler: the owner of the green thread |
//! | nothing yet, while it runs | the green thread, which stores the result once |
//! | the result | the `JoinHandle`, after it saw that the green thread is done ([`crate::join`]) |
//!
//! A result that nobody wants is dropped by the last of the two that know: `fate` says which of RESULT, by the green
//! thread, and DETACHED, by the handle, is there already. Each adds its own by one atomic step, so exactly one of them
//! finds the other. A handle that is waited with needs no such step: it is there until the green thread is done. A
//! destructor therefore runs on the green thread, or where the handle was dropped, and never on g0.
//!
//! # Pointers to it
//!
//! What reaches the body, or frees it, goes through a pointer that came from the allocation: a [`GRef`], a [`GArc`], or the
//! `g` of a thread, never through a `&G`, which is the right to the `G` alone.
//!
//! # Counting
//!
//! `refs` counts the scheduler, from spawn to exit, and each handle. It is `Arc`'s protocol: an addition needs no
//! order, since it is made from a reference that exists; a subtraction releases what was done through that reference, and
//! the last acquires all of it before the memory goes.

use std::cell::UnsafeCell;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::fence;

use crate::g::{G, GRef, Payload};
use crate::m::{self, M};
use crate::{blocks, cancel};

/// The result was stored.
const RESULT: u8 = 1;
/// The handle is gone.
const DETACHED: u8 = 2;

/// A poll has taken the result.
const TAKEN: u8 = 4;

/// The largest closure that lives in the task itself. A few captured words and handles; a line of the cache.
pub(crate) const INLINE: usize = 64;

/// More references than that are a leak in a loop, and the count must not wrap.
const MAX_REFS: usize = isize::MAX as usize;

#[repr(C)]
struct Task<F, T> {
    /// First, so that a pointer to it is one to the task.
    g: G,
    body: UnsafeCell<Body<F, T>>,
}

/// What is in it follows from the table above. A union, because the frame that runs the closure waits under all others:
/// without a tag to keep up it is half as large.
union Body<F, T> {
    closure: ManuallyDrop<F>,
    result: ManuallyDrop<Result<T, Payload>>,
}

/// What can be done to a body without knowing its types.
pub(crate) struct VTable {
    run: unsafe fn(NonNull<G>),
    fail: unsafe fn(NonNull<G>, Payload),
    drop_closure: unsafe fn(NonNull<G>),
    drop_result: unsafe fn(NonNull<G>),
    /// Moves the result into an `Option<Result<T, Payload>>`.
    take: unsafe fn(NonNull<G>, NonNull<()>),
    free: unsafe fn(NonNull<G>),
}

/// What a green thread runs.
pub(crate) trait Job<T> {
    /// Gives its result to `store`, which may drop it. On the green thread.
    fn run(self, store: impl FnOnce(Result<T, Payload>));
}

impl<F: FnOnce() -> T, T> Job<T> for F {
    #[inline(always)]
    fn run(self, store: impl FnOnce(Result<T, Payload>)) {
        // As std's threads: the payload is the joiner's to look at.
        store(catch_unwind(AssertUnwindSafe(|| {
            // It may have been cancelled before it began.
            cancel::point();
            self()
        })));
    }
}

impl<F: Job<T>, T> Task<F, T> {
    const VTABLE: VTable = VTable {
        run: Self::run,
        fail: Self::fail,
        drop_closure: Self::drop_closure,
        drop_result: Self::drop_result,
        take: Self::take,
        free: Self::free,
    };

    /// The body, for who may touch it.
    ///
    /// # Safety
    ///
    /// `g` is the `G` of such a task, alive; the caller may touch the body, by the table in the module's header.
    #[inline(always)]
    unsafe fn body<'a>(g: NonNull<G>) -> &'a mut Body<F, T> {
        // SAFETY: `g` is the first field; exclusive by the contract.
        unsafe { &mut *g.cast::<Task<F, T>>().as_ref().body.get() }
    }

    const fn fits_block() -> bool {
        size_of::<Self>() <= blocks::LAYOUT.size() && align_of::<Self>() <= blocks::LAYOUT.align()
    }

    unsafe fn run(g: NonNull<G>) {
        // SAFETY: by the owner, which is the green thread itself, and once: the closure is there until here.
        let f = unsafe { ManuallyDrop::take(&mut Self::body(g).closure) };
        // SAFETY: by the owner; neither closure nor result is there.
        f.run(|result| unsafe { Self::store(g, result) });
    }

    unsafe fn fail(g: NonNull<G>, payload: Payload) {
        // SAFETY: by the owner; neither closure nor result is there.
        unsafe { Self::store(g, Err(payload)) };
    }

    /// Stores the result, or drops it if nobody wants it.
    #[inline(always)]
    unsafe fn store(g: NonNull<G>, result: Result<T, Payload>) {
        // SAFETY: alive by the contract, and the owner's.
        cancel::never_again(unsafe { g.as_ref() });
        // SAFETY: by the owner; nothing is overwritten.
        unsafe { Self::body(g).result = ManuallyDrop::new(result) };
        // SAFETY: alive by the contract. What follows is not the owner's, unless the handle is gone.
        let alive = unsafe { g.as_ref() };
        // A handle that is waited with is not dropped meanwhile: see `crate::join`.
        if alive.join.word.joiner().is_some() {
            alive.fate.store(RESULT, Relaxed);
        } else if alive.fate.fetch_or(RESULT, AcqRel) & DETACHED != 0 {
            // SAFETY: both have come, this one last.
            unsafe { Self::drop_result(g) };
        }
    }

    unsafe fn drop_closure(g: NonNull<G>) {
        // SAFETY: the closure is there, by the contract, and is not looked at again.
        unsafe { ManuallyDrop::drop(&mut Self::body(g).closure) };
    }

    #[inline(never)]
    unsafe fn drop_result(g: NonNull<G>) {
        // SAFETY: the result is there, by the contract, and is not looked at again.
        unsafe { ManuallyDrop::drop(&mut Self::body(g).result) };
    }

    unsafe fn take(g: NonNull<G>, to: NonNull<()>) {
        // SAFETY: the result is there, by the contract, and is not looked at again; `to` is such an option.
        unsafe {
            let result = ManuallyDrop::take(&mut Self::body(g).result);
            *to.cast::<Option<Result<T, Payload>>>().as_mut() = Some(result);
        }
    }

    unsafe fn free(g: NonNull<G>) {
        // SAFETY: `new` made it of a block or a box, and the last reference is gone. The body is empty: the closure went when the green
        // thread started or ended, the result with the handle.
        unsafe {
            let task = g.cast::<Task<F, T>>();
            if const { Self::fits_block() } {
                task.drop_in_place();
                match m::current() {
                    Some(m) => m.blocks.free(task.cast()),
                    None => blocks::delete(task.cast()),
                }
            } else {
                drop(Box::from_raw(task.as_ptr()));
            }
        }
    }
}

/// Makes a green thread of `f`: the scheduler's reference, and one for its handle. `m` is the calling thread's.
#[inline]
pub(crate) fn new<F: Job<T>, T>(m: Option<&M>, g: impl FnOnce(&'static VTable) -> G, f: F) -> (GRef, GArc) {
    let body = Body::<F, T> { closure: ManuallyDrop::new(f) };
    let task = Task { g: g(&Task::<F, T>::VTABLE), body: UnsafeCell::new(body) };
    let g = if const { Task::<F, T>::fits_block() } {
        let block = m.map_or_else(blocks::new, |m| m.blocks.alloc()).cast::<Task<F, T>>();
        // SAFETY: a new block, which it fits.
        unsafe { block.write(task) };
        block.cast::<G>()
    } else {
        NonNull::from(Box::leak(Box::new(task))).cast::<G>()
    };
    // SAFETY: `refs` begins with two: see `G::new`.
    unsafe { (GRef::from_ptr(g), GArc(g)) }
}

/// How many references a new task has.
pub(crate) const FIRST_REFS: usize = 2;

/// Runs the closure of `g`, on its own stack, and stores the result.
///
/// # Safety
///
/// By the green thread itself, once.
#[inline(always)]
pub(crate) unsafe fn run(g: NonNull<G>) {
    // SAFETY: by the contract; the vtable is of its task.
    unsafe { (g.as_ref().vtable.run)(g) };
}

/// Stores a payload in place of a result.
///
/// # Safety
///
/// By the owner of a green thread that will not run; its closure is gone.
pub(crate) unsafe fn fail(g: GRef, payload: Payload) {
    // SAFETY: as above.
    unsafe { (g.vtable.fail)(g.ptr(), payload) };
}

/// Drops the closure.
///
/// # Safety
///
/// By the owner of a green thread that has not run.
pub(crate) unsafe fn drop_closure(g: GRef) {
    // SAFETY: as above.
    unsafe { (g.vtable.drop_closure)(g.ptr()) };
}

/// Takes the result, if there is one.
///
/// # Safety
///
/// By the one handle of a green thread that is done, whose result is a `T`.
///
/// # Panics
///
/// If it was taken before.
pub(crate) unsafe fn take<T>(g: &GArc) -> Option<Result<T, Payload>> {
    let mut result = None;
    let fate = g.fate.load(Relaxed);
    assert!(fate & TAKEN == 0, "the result of this green thread was taken before");
    // Without one it never ran.
    if fate & RESULT != 0 {
        // Done: only the handle looks at it from here on.
        g.fate.store(TAKEN, Relaxed);
        // SAFETY: by the contract; it is there, and nobody looks for it again.
        unsafe { (g.vtable.take)(g.0, NonNull::from(&mut result).cast()) };
    }
    result
}

/// The handle goes: a result that it has not taken is dropped, now or when there is one.
pub(crate) fn detach(g: &GArc) {
    if g.fate.fetch_or(DETACHED, AcqRel) & RESULT != 0 {
        // SAFETY: both have come, this one last.
        unsafe { (g.vtable.drop_result)(g.0) };
    }
}

/// Gives `count` references back.
///
/// # Safety
///
/// They are the caller's, and not used again.
#[inline]
pub(crate) unsafe fn release(g: NonNull<G>, count: usize) {
    // SAFETY: kept alive by the caller's references.
    let alive = unsafe { g.as_ref() };
    // Nobody can add to a count of which all is the caller's: then it need not be changed.
    if alive.refs.load(Acquire) == count || alive.refs.fetch_sub(count, Release) == count {
        fence(Acquire);
        // SAFETY: those were the last references. The vtable is static.
        unsafe { (alive.vtable.free)(g) };
    }
}

/// A counted reference to a green thread.
pub(crate) struct GArc(NonNull<G>);

// SAFETY: as `Arc<G>`, and `G` is Send and Sync. The body is passed between threads by its own rules.
unsafe impl Send for GArc {}
// SAFETY: as above.
unsafe impl Sync for GArc {}

impl GArc {
    /// One more for a green thread that exists.
    ///
    /// # Safety
    ///
    /// `g` is a pointer to the whole task, which somebody else keeps alive for the length of the call.
    pub(crate) unsafe fn of(g: NonNull<G>) -> GArc {
        // SAFETY: alive by the contract.
        if unsafe { g.as_ref() }.refs.fetch_add(1, Relaxed) > MAX_REFS {
            std::process::abort();
        }
        GArc(g)
    }

    /// The whole task.
    pub(crate) fn ptr(&self) -> NonNull<G> {
        self.0
    }

    /// # Safety
    ///
    /// The caller hands a count over.
    pub(crate) unsafe fn from_counted(g: NonNull<G>) -> GArc {
        GArc(g)
    }
}

impl Clone for GArc {
    fn clone(&self) -> GArc {
        // SAFETY: this one keeps it alive.
        unsafe { GArc::of(self.0) }
    }
}

impl Deref for GArc {
    type Target = G;
    #[inline(always)]
    fn deref(&self) -> &G {
        // SAFETY: the count that this stands for keeps it alive.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for GArc {
    fn drop(&mut self) {
        // SAFETY: this one's.
        unsafe { release(self.0, 1) };
    }
}
