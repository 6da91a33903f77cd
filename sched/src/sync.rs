//! What the protocols between threads are made of: the real thing, or under `--cfg loom` the model's.
//!
//! | module | protocol |
//! |---|---|
//! | [`idle`](crate::idle), [`m`](crate::m) | submitting, going idle, waiting for a P; the inbox; the parker |
//! | [`hold`](crate::hold) | who holds a P |
//! | [`token`](crate::token) | the park token |
//! | [`sysmon`](crate::sysmon) | its alarm |
//! | [`timers`](crate::timers) | the untied sleepers of a P |
//! | [`sched`](crate::sched) | visitors |
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
    use std::sync::atomic::compiler_fence;
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, fence};
    pub(crate) use std::thread::yield_now;

    pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};

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
}

/// loom's, in the shape of the real ones.
#[cfg(loom)]
mod model {
    use std::ops::{Deref, DerefMut};
    use std::time::Instant;

    pub(crate) use loom::cell::Cell;
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize};
    pub(crate) use loom::thread::yield_now;

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

    #[derive(Default)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Mutex<T> {
            Mutex(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            MutexGuard { mutex: self, inner: Some(self.0.lock().unwrap()) }
        }
    }

    pub(crate) struct MutexGuard<'a, T> {
        mutex: &'a Mutex<T>,
        /// None while a `Condvar` has it.
        inner: Option<loom::sync::MutexGuard<'a, T>>,
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;
        fn deref(&self) -> &T {
            self.inner.as_ref().unwrap()
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.inner.as_mut().unwrap()
        }
    }

    #[derive(Default)]
    pub(crate) struct Condvar(loom::sync::Condvar);

    impl Condvar {
        pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
            guard.inner = guard.inner.take().map(|inner| self.0.wait(inner).unwrap());
        }

        /// The deadline passes: at once, or after anything that the others do while the lock is free.
        pub(crate) fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, _: Instant) -> TimedOut {
            guard.inner = None;
            guard.inner = Some(guard.mutex.0.lock().unwrap());
            TimedOut
        }

        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }
    }

    pub(crate) struct TimedOut;

    impl TimedOut {
        pub(crate) fn timed_out(&self) -> bool {
            true
        }
    }
}
