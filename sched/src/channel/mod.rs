//! Channels between green threads: many senders, many receivers, each value received once.
//!
//! A green thread that has to wait parks; an OS thread that has to wait blocks. Both may hold either end. The values come
//! out in the order in which they were sent, and those who wait are served in the order in which they came.
//!
//! ```
//! use morestack::channel::bounded;
//!
//! let (sender, receiver) = bounded(1);
//! let squares = morestack::spawn(move || (1..=10_u64).for_each(|n| sender.send(n * n).unwrap()));
//! assert_eq!(receiver.into_iter().sum::<u64>(), 385);
//! squares.join().unwrap();
//! ```
//!
//! | module | what |
//! |---|---|
//! | `sudog` | a wait in a queue, and the stack that it lends out |
//! | `wait` | parking until it is over |
//! | `error` | why a value was not passed on |
//!
//! # How a value travels
//!
//! Whoever completes an operation does it for the other side, too: a sender that finds a receiver waiting writes into the
//! receiver's own local, and a receiver that finds a sender waiting takes from there. So nobody is woken to find that
//! somebody else was faster, and a rendezvous (capacity 0) needs no buffer.
//!
//! # Invariants, under the lock
//!
//! 1. Receivers wait only while the buffer is empty and no sender waits.
//! 2. Senders wait only while the buffer is full.
//! 3. When the last of one side goes, all who wait on the other are dequeued: nobody waits for what cannot come.

mod error;
mod sudog;
mod wait;

use std::collections::VecDeque;
use std::fmt;
use std::mem::{self, MaybeUninit};
use std::sync::Arc;

use morestack_asm::prologue_for;
use parking_lot::{Mutex, MutexGuard};

pub use self::error::{RecvError, SendError, TryRecvError, TrySendError};
use self::sudog::WaitQueue;
pub(crate) use self::sudog::{Lent, Sudog, Sudogs, Waiter, Waker};
use self::wait::wait;
pub(crate) use self::wait::{OsWaiter, wait_m};

/// A channel that holds up to `capacity` values. With a capacity of 0 each value is handed from a sender to a receiver that
/// are there at the same time (a rendezvous).
///
/// ```
/// let (sender, receiver) = morestack::channel::bounded(0);
/// let answer = morestack::spawn(move || receiver.recv());
/// sender.send(42).unwrap();
/// assert_eq!(answer.join().unwrap(), Ok(42));
/// ```
pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    channel(Some(capacity))
}

/// A channel that holds as many values as memory does: sending never waits.
pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    channel(None)
}

fn channel<T>(capacity: Option<usize>) -> (Sender<T>, Receiver<T>) {
    let chan = Arc::new(Chan {
        capacity,
        state: Mutex::new(State {
            buffer: VecDeque::new(),
            senders: WaitQueue::default(),
            receivers: WaitQueue::default(),
            sender_count: 1,
            receiver_count: 1,
        }),
    });
    (Sender { chan: chan.clone() }, Receiver { chan })
}

struct Chan<T> {
    capacity: Option<usize>,
    state: Mutex<State<T>>,
}

struct State<T> {
    buffer: VecDeque<T>,
    senders: WaitQueue,
    receivers: WaitQueue,
    sender_count: usize,
    receiver_count: usize,
}

impl<T> State<T> {
    /// Gives `value` to the first receiver that waits.
    fn hand_over(&mut self, value: T) -> Result<Waker, T> {
        let Some(sudog) = self.receivers.pop() else { return Err(value) };
        // SAFETY: the receiver waits with a slot for a `T`, which is ours under the lock.
        unsafe { sudog.slot::<T>().write_unaligned(value) };
        sudog.complete();
        Ok(sudog.waiter())
    }

    /// Takes the value of the first sender that waits.
    fn take_over(&mut self) -> Option<(T, Waker)> {
        let sudog = self.senders.pop()?;
        // SAFETY: the sender waits with a `T` in its slot, which is ours under the lock, and which it leaves to us.
        let value = unsafe { sudog.slot::<T>().read_unaligned() };
        sudog.complete();
        Some((value, sudog.waiter()))
    }
}

/// The safepoint at the beginning of every operation: it may be preempted here, with no lock held, and there is room for
/// the values that the functions below pass on. Those functions are not inlined, so that their frames come after it.
#[inline(always)]
fn check_room<T>() {
    prologue_for(COPIES * size_of::<T>());
}

/// Values of the type that an operation has on the stack at the same time, at most: unoptimised, a frame for each step
/// has one or two.
const COPIES: usize = 16;

/// Wakes all that wait at one end, their operations not completed: the other end is gone.
fn disconnect<T>(mut state: MutexGuard<'_, State<T>>, end: wait::End<T>) {
    let queue = end(&mut state);
    let wakers: Vec<Waker> = std::iter::from_fn(|| queue.pop().map(Sudog::waiter)).collect();
    drop(state);
    wakers.into_iter().for_each(Waker::wake);
}

/// The sending end of a channel. Clones send into the same channel.
pub struct Sender<T> {
    chan: Arc<Chan<T>>,
}

impl<T> Sender<T> {
    /// Sends a value; waits until there is room for it, or with a capacity of 0 until a receiver takes it.
    ///
    /// In a destructor during a panic it blocks the worker, as [`park`](crate::park()) does.
    ///
    /// # Errors
    ///
    /// All receivers are gone; the value comes back.
    #[inline]
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        check_room::<T>();
        self.send_or_wait(value)
    }

    #[inline(never)]
    fn send_or_wait(&self, value: T) -> Result<(), SendError<T>> {
        match self.try_send_locked(value) {
            Ok(()) => Ok(()),
            Err((_, TrySendError::Disconnected(value))) => Err(SendError(value)),
            Err((state, TrySendError::Full(value))) => {
                // The receiver takes it out, or nobody does: then it is still ours.
                let mut slot = MaybeUninit::new(value);
                if wait(state, |state| &mut state.senders, &mut slot) {
                    Ok(())
                } else {
                    // SAFETY: the operation was not completed, so the value was not taken.
                    Err(SendError(unsafe { slot.assume_init() }))
                }
            }
        }
    }

    /// Sends a value if that needs no waiting.
    ///
    /// # Errors
    ///
    /// There is no room, or with a capacity of 0 no receiver waits; or all receivers are gone. The value comes back.
    #[inline]
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        check_room::<T>();
        self.send_or_not(value)
    }

    #[inline(never)]
    fn send_or_not(&self, value: T) -> Result<(), TrySendError<T>> {
        self.try_send_locked(value).map_err(|(_, error)| error)
    }

    /// The same; on an error the channel stays locked.
    fn try_send_locked(&self, value: T) -> Result<(), (MutexGuard<'_, State<T>>, TrySendError<T>)> {
        let mut state = self.chan.state.lock();
        if state.receiver_count == 0 {
            return Err((state, TrySendError::Disconnected(value)));
        }
        match state.hand_over(value) {
            Ok(waker) => {
                drop(state);
                waker.wake();
            }
            Err(value) if self.chan.capacity.is_none_or(|capacity| state.buffer.len() < capacity) => {
                state.buffer.push_back(value);
            }
            Err(value) => return Err((state, TrySendError::Full(value))),
        }
        Ok(())
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        self.chan.state.lock().sender_count += 1;
        Sender { chan: self.chan.clone() }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.chan.state.lock();
        state.sender_count -= 1;
        if state.sender_count == 0 {
            disconnect(state, |state| &mut state.receivers);
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender { .. }")
    }
}

/// The receiving end of a channel. Clones receive from the same channel: each value goes to one of them.
///
/// As an iterator it ends when the channel is empty and all senders are gone.
pub struct Receiver<T> {
    chan: Arc<Chan<T>>,
}

impl<T> Receiver<T> {
    /// Receives a value; waits until there is one.
    ///
    /// In a destructor during a panic it blocks the worker, as [`park`](crate::park()) does.
    ///
    /// # Errors
    ///
    /// The channel is empty and all senders are gone.
    #[inline]
    pub fn recv(&self) -> Result<T, RecvError> {
        check_room::<T>();
        self.recv_or_wait()
    }

    #[inline(never)]
    fn recv_or_wait(&self) -> Result<T, RecvError> {
        match self.try_recv_locked() {
            Ok(value) => Ok(value),
            Err((_, TryRecvError::Disconnected)) => Err(RecvError),
            Err((state, TryRecvError::Empty)) => {
                let mut slot = MaybeUninit::uninit();
                if wait(state, |state| &mut state.receivers, &mut slot) {
                    // SAFETY: the operation was completed, so a sender has written it.
                    Ok(unsafe { slot.assume_init() })
                } else {
                    Err(RecvError)
                }
            }
        }
    }

    /// Receives a value if there is one.
    ///
    /// # Errors
    ///
    /// There is none; or there will not be one any more.
    #[inline]
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        check_room::<T>();
        self.recv_or_not()
    }

    #[inline(never)]
    fn recv_or_not(&self) -> Result<T, TryRecvError> {
        self.try_recv_locked().map_err(|(_, error)| error)
    }

    /// The same; on an error the channel stays locked.
    fn try_recv_locked(&self) -> Result<T, (MutexGuard<'_, State<T>>, TryRecvError)> {
        let mut state = self.chan.state.lock();
        let (value, waker) = match (state.buffer.pop_front(), state.take_over()) {
            // There was no room for the sender's; now there is.
            (Some(value), Some((next, waker))) => {
                state.buffer.push_back(next);
                (value, Some(waker))
            }
            (Some(value), None) => (value, None),
            (None, Some((value, waker))) => (value, Some(waker)),
            (None, None) if state.sender_count == 0 => return Err((state, TryRecvError::Disconnected)),
            (None, None) => return Err((state, TryRecvError::Empty)),
        };
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(value)
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Receiver<T> {
        self.chan.state.lock().receiver_count += 1;
        Receiver { chan: self.chan.clone() }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.chan.state.lock();
        state.receiver_count -= 1;
        if state.receiver_count == 0 {
            // Nobody will receive them. Outside of the lock: their destructors may do anything.
            let values = mem::take(&mut state.buffer);
            disconnect(state, |state| &mut state.senders);
            drop(values);
        }
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receiver { .. }")
    }
}

/// What [`Receiver`] is as an iterator.
#[derive(Debug)]
pub struct IntoIter<T> {
    receiver: Receiver<T>,
}

impl<T> Iterator for IntoIter<T> {
    type Item = T;
    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

impl<T> IntoIterator for Receiver<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;
    fn into_iter(self) -> IntoIter<T> {
        IntoIter { receiver: self }
    }
}
