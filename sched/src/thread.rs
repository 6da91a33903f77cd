//! `Thread`: a handle to a green thread or an OS thread, and the current one.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;

use crate::g::{G, new_ids};
use crate::m;

/// A handle to a green thread, or to an OS thread that called [`current`].
///
/// Clones are cheap. It keeps the green thread's name and id, not the green thread.
#[derive(Clone)]
pub struct Thread(Inner);

#[derive(Clone)]
enum Inner {
    Green(Arc<G>),
    Os { id: NonZeroU64, thread: std::thread::Thread },
}

/// A number that no other thread of this process, green or not, has or had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ThreadId(NonZeroU64);

impl Thread {
    pub(crate) fn green(g: Arc<G>) -> Thread {
        Thread(Inner::Green(g))
    }

    pub(crate) fn as_green(&self) -> Option<&Arc<G>> {
        match &self.0 {
            Inner::Green(g) => Some(g),
            Inner::Os { .. } => None,
        }
    }

    /// Its id.
    pub fn id(&self) -> ThreadId {
        match &self.0 {
            Inner::Green(g) => ThreadId(NonZeroU64::new(g.id).expect("ids start at 1")),
            Inner::Os { id, .. } => ThreadId(*id),
        }
    }

    /// The name it was given, by [`Builder::name`](crate::Builder::name) or std's.
    pub fn name(&self) -> Option<&str> {
        match &self.0 {
            Inner::Green(g) => g.name.as_deref(),
            Inner::Os { thread, .. } => thread.name(),
        }
    }

    /// Makes its token available: a [`park`](crate::park) that waits for it, or the next one, returns.
    ///
    /// As `std::thread::Thread::unpark`: tokens do not add up, and what happened before `unpark` is visible after the
    /// `park` that it ends.
    pub fn unpark(&self) {
        match &self.0 {
            Inner::Green(g) => crate::park::unpark(g),
            Inner::Os { thread, .. } => thread.unpark(),
        }
    }
}

impl fmt::Debug for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Thread").field("id", &self.id()).field("name", &self.name()).finish()
    }
}

/// The calling green thread, or the calling OS thread outside of one.
///
/// ```
/// let id = morestack::spawn(|| morestack::current().id()).join().unwrap();
/// assert_ne!(id, morestack::current().id());
/// ```
pub fn current() -> Thread {
    match m::current_g() {
        Some(g) => {
            // SAFETY: the running green thread's count is held by its M, so there is one to add to.
            let g = unsafe {
                Arc::increment_strong_count(g);
                Arc::from_raw(g)
            };
            Thread::green(g)
        }
        None => os_current(),
    }
}

/// Never inlined: it reads a thread-local, whose address must not survive a switch of the caller.
#[inline(never)]
fn os_current() -> Thread {
    thread_local! {
        static ID: NonZeroU64 = NonZeroU64::new(new_ids(1)).expect("ids start at 1");
    }
    Thread(Inner::Os { id: ID.with(|id| *id), thread: std::thread::current() })
}
