//! What the protocols between threads are made of: the real thing, or under `--cfg loom` the model's.
//!
//! | module | protocol |
//! |---|---|
//! | [`idle`](crate::idle), [`m`](crate::m) | submitting, going idle, waiting for a P; the inbox |
//! | [`hold`](crate::hold) | who holds a P |
//! | [`parker`](crate::parker) | the token of a worker |
//! | [`token`](crate::token), [`timed`](crate::timed) | the park token, and who ends a wait |
//! | [`join`](crate::join) | who waits for the end |
//! | [`young`](crate::young) | the latest spawns |
//! | [`sysmon`](crate::sysmon) | its alarm |
//! | [`timers`](crate::timers) | the untied sleepers of a P |
//! | [`sched`](crate::sched) | visitors |
//! | [`spin`](crate::spin) | a lock for a moment |
//! | [`sync`](crate::sync) | the words of the locks, and how an OS thread waits |
//!
//! These take atomics, locks and fences from here, and nowhere else. `loom.rs` runs them in all the orders that matter.
//! Everything else keeps to `std` and `parking_lot`.

#[cfg(loom)]
pub(crate) use self::model::*;
#[cfg(not(loom))]
pub(crate) use self::real::*;

#[cfg(not(loom))]
mod real {
    pub(crate) use std::cell::Cell;
    use std::sync::OnceLock;
    use std::sync::atomic::Ordering::SeqCst;
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU16, AtomicU64, AtomicUsize, fence};
    use std::sync::atomic::{AtomicU32, compiler_fence};
    pub(crate) use std::thread::{
        Thread, current as current_thread, park as park_thread, park_timeout as park_thread_timeout, yield_now,
    };
    use std::time::Instant;

    pub(crate) use crate::spin::Mutex as SpinMutex;
    pub(crate) use parking_lot::{Mutex, MutexGuard};
    use rustix::io::Errno;
    use rustix::thread::futex::{self, Flags, Timespec};

    /// The half of a pair of fences that runs often: with [`heavy_fence`] on the other side it is as good as a full one.
    #[inline(always)]
    pub(crate) fn light_fence() {
        compiler_fence(SeqCst);
    }

    /// The other half: a full fence here, and on every CPU that runs a thread of this process. False where the kernel has no
    /// `membarrier`: then it is one here only.
    pub(crate) fn heavy_fence() -> bool {
        static HAS_IT: OnceLock<bool> = OnceLock::new();
        // SAFETY: plain system calls.
        let call = |command: i32| unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 };
        let has_it = *HAS_IT.get_or_init(|| call(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED));
        fence(SeqCst);
        has_it && call(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED)
    }

    /// A word to sleep on in the kernel.
    pub(crate) struct Futex {
        pub(crate) value: AtomicU32,
    }

    impl Futex {
        pub(crate) fn new(value: u32) -> Futex {
            Futex { value: AtomicU32::new(value) }
        }

        /// Sleeps, if the word is `expected`, until it is woken, or for no reason less long. False if `deadline` has passed.
        pub(crate) fn wait(&self, expected: u32, deadline: Option<Instant>) -> bool {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return false;
            }
            // What is too long for the kernel lasts for ever.
            let timeout = left.and_then(|left| Timespec::try_from(left).ok());
            futex::wait(&self.value, Flags::PRIVATE, expected, timeout.as_ref()) != Err(Errno::TIMEDOUT)
        }

        /// Wakes the sleeper.
        pub(crate) fn wake(&self) {
            // It fails for addresses that are not the process's.
            let _ = futex::wake(&self.value, Flags::PRIVATE, 1);
        }
    }
}

/// loom's, in the shape of the real ones.
#[cfg(loom)]
mod model {
    use std::ops::{Deref, DerefMut};
    use std::sync::atomic::Ordering::Relaxed;
    use std::time::{Duration, Instant};

    pub(crate) use loom::cell::Cell;
    use loom::sync::atomic::AtomicU32;
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU16, AtomicU64, AtomicUsize};
    pub(crate) use loom::thread::{Thread, current as current_thread, park as park_thread, yield_now};

    #[cfg(test)]
    pub(crate) use crate::loom::fence;
    #[cfg(not(test))]
    pub(crate) use loom::sync::atomic::fence;

    #[track_caller]
    pub(crate) fn light_fence() {
        fence(std::sync::atomic::Ordering::SeqCst);
    }

    #[track_caller]
    pub(crate) fn heavy_fence() -> bool {
        fence(std::sync::atomic::Ordering::SeqCst);
        true
    }

    /// The time passes: at once, or after anything that the others do before the next step.
    pub(crate) fn park_thread_timeout(_: Duration) {
        yield_now();
    }

    #[derive(Default)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Mutex<T> {
            Mutex(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            MutexGuard(self.0.lock().unwrap())
        }
    }

    pub(crate) use Mutex as SpinMutex;

    pub(crate) struct MutexGuard<'a, T>(loom::sync::MutexGuard<'a, T>);

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;
        fn deref(&self) -> &T {
            &self.0
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            &mut self.0
        }
    }

    /// A word to sleep on. The kernel looks at it under a lock, which a wake takes too.
    pub(crate) struct Futex {
        pub(crate) value: AtomicU32,
        lock: loom::sync::Mutex<()>,
        sleeper: loom::sync::Condvar,
    }

    impl Futex {
        pub(crate) fn new(value: u32) -> Futex {
            let (lock, sleeper) = (loom::sync::Mutex::new(()), loom::sync::Condvar::new());
            Futex { value: AtomicU32::new(value), lock, sleeper }
        }

        /// The deadline passes: at once, or after anything that the others do before the next step.
        pub(crate) fn wait(&self, expected: u32, deadline: Option<Instant>) -> bool {
            let guard = self.lock.lock().unwrap();
            if deadline.is_none() && self.value.load(Relaxed) == expected {
                drop(self.sleeper.wait(guard).unwrap());
            }
            deadline.is_none()
        }

        pub(crate) fn wake(&self) {
            let _guard = self.lock.lock().unwrap();
            self.sleeper.notify_one();
        }
    }
}
