//! `Thread`: a handle to a green thread or an OS thread, and the current one.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::g::new_ids;
use crate::m;
use crate::task::GArc;

/// A handle to a green thread, or to an OS thread that called [`current`].
///
/// Clones are cheap. It keeps the green thread's name and id, not the green thread.
#[derive(Clone)]
pub struct Thread(Inner);

/// Two words, in an `Option` too: each green thread has room for its joiner.
#[derive(Clone)]
pub(crate) enum Inner {
    Green(GArc),
    Os(Arc<OsThread>),
}

pub(crate) struct OsThread {
    id: NonZeroU64,
    thread: std::thread::Thread,
    woken: AtomicBool,
}

impl OsThread {
    /// As [`G::woken`](crate::g::G).
    pub(crate) fn woken(&self) -> &AtomicBool {
        &self.woken
    }

    pub(crate) fn unpark(&self) {
        self.thread.unpark();
    }
}

/// A number that no other thread of this process, green or not, has or had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ThreadId(NonZeroU64);

impl Thread {
    pub(crate) fn green(g: GArc) -> Thread {
        Thread(Inner::Green(g))
    }

    pub(crate) fn as_green(&self) -> Option<&GArc> {
        match &self.0 {
            Inner::Green(g) => Some(g),
            Inner::Os(_) => None,
        }
    }

    pub(crate) fn into_inner(self) -> Inner {
        self.0
    }

    /// Its id.
    pub fn id(&self) -> ThreadId {
        match &self.0 {
            Inner::Green(g) => ThreadId(NonZeroU64::new(g.id).expect("ids start at 1")),
            Inner::Os(os) => ThreadId(os.id),
        }
    }

    /// The name it was given, by [`Builder::name`](crate::Builder::name) or std's.
    pub fn name(&self) -> Option<&str> {
        match &self.0 {
            Inner::Green(g) => g.name.as_deref(),
            Inner::Os(os) => os.thread.name(),
        }
    }

    /// Makes its token available: a [`park`](crate::park) that waits for it, or the next one, returns.
    ///
    /// As `std::thread::Thread::unpark`: tokens do not add up, and what happened before `unpark` is visible after the
    /// `park` that it ends.
    pub fn unpark(&self) {
        match &self.0 {
            Inner::Green(g) => {
                crate::park::unpark(g);
            }
            Inner::Os(os) => os.thread.unpark(),
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
    match m::current_g_ptr() {
        // SAFETY: the running green thread, which its M keeps alive.
        Some(g) => Thread::green(unsafe { GArc::of(g) }),
        None => os_current(),
    }
}

/// Never inlined: it reads a thread-local, whose address must not survive a switch of the caller.
#[inline(never)]
fn os_current() -> Thread {
    thread_local! {
        static ME: Arc<OsThread> = Arc::new(OsThread {
            id: NonZeroU64::new(new_ids(1)).expect("ids start at 1"),
            thread: std::thread::current(),
            woken: AtomicBool::new(false),
        });
    }
    Thread(Inner::Os(ME.with(Arc::clone)))
}
