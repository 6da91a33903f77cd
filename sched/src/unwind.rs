//! What may cross `catch_unwind`: whatever is whole when a panic goes through it.
//!
//! Nothing of the user's runs while a handle, a channel or a lock is half-way in one of its own steps, so a panic finds them as
//! they are between two. Of the same kind are theirs in `std`. `Mutex` and `RwLock` are not among them: what they protect may be
//! half done, and they do not say so, as `parking_lot`'s.

use std::panic::{RefUnwindSafe, UnwindSafe};

use crate::channel::{Receiver, Sender};
use crate::sync::{Barrier, Condvar, Semaphore, WaitGroup};
use crate::{CancelHandle, JoinHandle, Runtime, ScopedJoinHandle, Thread};

macro_rules! whole {
    ($($t:ty $([$($generics:tt)*])?),* $(,)?) => {$(
        impl$(<$($generics)*>)? UnwindSafe for $t {}
        impl$(<$($generics)*>)? RefUnwindSafe for $t {}
    )*};
}

whole! {
    Sender<T> [T],
    Receiver<T> [T],
    JoinHandle<T> [T],
    ScopedJoinHandle<'_, T> [T],
    CancelHandle,
    Thread,
    Runtime,
    Barrier,
    Condvar,
    Semaphore,
    WaitGroup,
}
