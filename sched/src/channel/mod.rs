//! Channels between green threads: many senders, many receivers, each value received once.
//!
//! A green thread that has to wait parks; an OS thread that has to wait blocks; async code awaits
//! [`recv_async`](Receiver::recv_async) and [`send_async`](Sender::send_async). All may hold either end. The values come
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
//! # Cancellation
//!
//! A green thread that is [cancelled](crate::JoinHandle::cancel) while it waits here leaves the queue, as if it had not come, and
//! unwinds. What it wanted to send is dropped. An operation that was completed before counts: it returns, with the value if it
//! received one, and the next wait unwinds.
//!
//! # Inside
//!
//! | module | what |
//! |---|---|
//! | `sudog` | a wait in a queue, and the stack that it lends out |
//! | `wait` | parking until it is over |
//! | `select`, `dynamic` | waiting for one of several operations, and for no longer than allowed |
//! | `future` | the same operations for async code |
//! | `clock` | channels that the clock sends into |
//! | `ends` | how many hold each end |
//! | `iter` | receivers as iterators |
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
//! 1. Receivers wait only while the buffer is empty, nothing was handed back (`future`) and no sender waits.
//! 2. Senders wait only while the buffer is full.
//! 3. When the last of one side goes, all who wait on the other are dequeued: nobody waits for what cannot come.

mod clock;
mod dynamic;
mod ends;
mod error;
mod future;
mod iter;
mod select;
mod sudog;
mod wait;

use std::collections::VecDeque;
use std::fmt;
use std::mem::{self, MaybeUninit};
use std::ptr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use morestack_asm::prologue_for;

use self::clock::Clock;
pub use self::clock::{after, at, never, tick};
pub use self::dynamic::{Select, Selected};
use self::ends::{Count, Counted};
pub use self::error::{RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError};
use self::future::Unreceived;
pub use self::future::{IntoStream, RecvFuture, RecvStream, SendFuture};
pub use self::iter::{IntoIter, Iter, TryIter};
#[doc(hidden)]
pub use self::select::{Arm, RecvArm, SendArm, Until, run as run_select};
pub(crate) use self::sudog::{Lent, Sudog, Sudogs, Waiter, Waker};
use self::sudog::{Outcome, WaitQueue};
pub(crate) use self::wait::OsWaiter;
use self::wait::wait;
use crate::cancel;
use crate::g::G;
use crate::m::M;
#[doc(inline)]
pub use crate::select;
use crate::spin::{Mutex, MutexGuard};

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
///
/// ```
/// let (sender, receiver) = morestack::channel::unbounded();
/// (0..1000).for_each(|n| sender.send(n).unwrap());
/// drop(sender);
/// assert_eq!(receiver.into_iter().count(), 1000);
/// ```
pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    channel(None)
}

fn channel<T>(capacity: Option<usize>) -> (Sender<T>, Receiver<T>) {
    let chan = Chan::new(capacity, None);
    (Sender { chan: Counted::first(chan.clone()) }, Receiver { chan: Counted::first(chan) })
}

struct Chan<T> {
    capacity: Option<usize>,
    senders: Count,
    receivers: Count,
    state: Mutex<State<T>>,
}

impl<T> Chan<T> {
    /// With one end of each kind.
    fn new(capacity: Option<usize>, clock: Option<Clock<T>>) -> Arc<Chan<T>> {
        Arc::new(Chan {
            capacity,
            senders: Count::one(),
            receivers: Count::one(),
            state: Mutex::new(State {
                buffer: VecDeque::new(),
                returned: Vec::new(),
                waits: 0,
                senders: WaitQueue::new(),
                receivers: WaitQueue::new(),
                senders_gone: false,
                receivers_gone: false,
                clock,
            }),
        })
    }

    /// The last sender is gone.
    #[inline(never)]
    fn end_senders(&self) {
        let mut state = self.state.lock();
        state.senders_gone = true;
        disconnect(state, |state| &mut state.receivers);
    }

    /// The last receiver is gone.
    #[inline(never)]
    fn end_receivers(&self) {
        let mut state = self.state.lock();
        state.receivers_gone = true;
        // Nobody will receive them. Outside of the lock: their destructors may do anything.
        let values = (mem::take(&mut state.returned), mem::take(&mut state.buffer));
        disconnect(state, |state| &mut state.senders);
        drop(values);
    }

    fn len(&self) -> usize {
        let state = self.state.lock();
        state.returned.len() + state.buffer.len() + usize::from(state.clock.as_ref().is_some_and(Clock::is_due))
    }
}

struct State<T> {
    buffer: VecDeque<T>,
    /// What was sent before all that is in the buffer, and handed back: the first is at the end. It takes up no capacity.
    returned: Vec<Unreceived<T>>,
    /// Waits of futures for a value, ever.
    waits: u64,
    senders: WaitQueue,
    receivers: WaitQueue,
    senders_gone: bool,
    receivers_gone: bool,
    /// The sender, where it is no thread.
    clock: Option<Clock<T>>,
}

impl<T> State<T> {
    /// Gives `value` to the first receiver that waits.
    #[inline(always)]
    fn hand_over(&mut self, value: &MaybeUninit<T>) -> Option<Waker> {
        self.hand_over_with(value, |_| {})
    }

    /// The same, with something done to the wait before it ends.
    #[inline(always)]
    fn hand_over_with(&mut self, value: &MaybeUninit<T>, set: impl Fn(&Sudog)) -> Option<Waker> {
        while let Some(sudog) = self.receivers.pop() {
            set(sudog);
            // SAFETY: the receiver waits with a slot for a `T`, which is ours under the lock.
            unsafe { copy_bytes(value, sudog.slot()) };
            if let waker @ Some(_) = sudog.finish(Outcome::Done) {
                return waker;
            }
        }
        None
    }

    /// Takes the value of the first sender that waits.
    #[inline(always)]
    fn take_over(&mut self, to: &mut MaybeUninit<T>) -> Option<Waker> {
        while let Some(sudog) = self.senders.pop() {
            // SAFETY: the sender waits with a `T` in its slot, which is ours under the lock.
            unsafe { copy_bytes(sudog.slot(), to) };
            if let waker @ Some(_) = sudog.finish(Outcome::Done) {
                return waker;
            }
        }
        None
    }

    /// Sends without waiting, if that is possible. Who to wake. Then the value is gone; on an error it is not.
    ///
    /// # Safety
    ///
    /// There is a value.
    #[inline(always)]
    unsafe fn try_send(&mut self, capacity: Option<usize>, value: &MaybeUninit<T>) -> Result<Waker, Refusal> {
        if self.receivers_gone {
            return Err(Refusal::Disconnected);
        }
        if let Some(waker) = self.hand_over(value) {
            return Ok(waker);
        }
        if capacity.is_some_and(|capacity| self.buffer.len() >= capacity) {
            return Err(Refusal::Full);
        }
        // SAFETY: by the contract; it is not used again.
        self.buffer.push_back(unsafe { value.assume_init_read() });
        Ok(Waker::Nobody)
    }

    /// Receives without waiting, if that is possible. Who to wake. Then there is a value.
    #[inline(always)]
    fn try_recv(&mut self, to: &mut MaybeUninit<T>) -> Result<Waker, TryRecvError> {
        if !self.returned.is_empty() {
            self.take_returned(to);
            return Ok(Waker::Nobody);
        }
        if let Some(value) = self.buffer.pop_front() {
            to.write(value);
            if self.senders.is_empty() {
                return Ok(Waker::Nobody);
            }
            return Ok(self.refill());
        }
        if let Some(waker) = self.take_over(to) {
            return Ok(waker);
        }
        if self.senders_gone {
            return Err(TryRecvError::Disconnected);
        }
        match self.clock.as_mut().and_then(Clock::take) {
            Some(value) => {
                to.write(value);
                Ok(Waker::Nobody)
            }
            None => Err(TryRecvError::Empty),
        }
    }

    /// There was no room for the value of the first sender that waits; now there is.
    #[inline(never)]
    fn refill(&mut self) -> Waker {
        let mut next = MaybeUninit::uninit();
        match self.take_over(&mut next) {
            Some(waker) => {
                // SAFETY: it was taken over.
                self.buffer.push_back(unsafe { next.assume_init() });
                waker
            }
            None => Waker::Nobody,
        }
    }
}

/// Why a value was not sent.
#[derive(Clone, Copy)]
enum Refusal {
    Full,
    Disconnected,
}

/// Copies a value, or what there is of one. In a block a slot may be less aligned than a `T`.
///
/// # Safety
///
/// Both are valid for so many bytes.
#[inline(always)]
unsafe fn copy_bytes<T>(from: *const MaybeUninit<T>, to: *mut MaybeUninit<T>) {
    // SAFETY: by the contract; the one is the caller's and the other the waiter's.
    unsafe { ptr::copy_nonoverlapping(from.cast::<u8>(), to.cast::<u8>(), size_of::<T>()) };
}

/// The safepoint at the beginning of every operation: it may be preempted here, with no lock held, and there is room for
/// the values that the functions below pass on. Those functions are not inlined, so that their frames come after it.
#[inline(always)]
fn check_room<T>() {
    prologue_for(COPIES * size_of::<T>());
}

/// The same for an operation with a deadline, or one of several: it goes through an arm of [`select`].
#[inline(always)]
fn check_room_for_arm<T>() {
    prologue_for(arm_room::<T>());
}

const fn arm_room<T>() -> usize {
    2 * COPIES * size_of::<T>()
}

/// Values of the type that an operation has on the stack at the same time, at most: unoptimised, a frame for each step
/// has one or two.
const COPIES: usize = 16;

/// `g` ends, on `m`, which owns it, and will not wait any more.
pub(crate) fn end_of(m: &M, g: &G) {
    if let Some(sudog) = g.sudog.take() {
        // SAFETY: on the thread of `m`, which holds its P; no other reference is in use. Its last wait is over.
        unsafe { m.p().sudogs().release(sudog) };
    }
}

/// Wakes all that wait at one end, their operations not completed: the other end is gone.
fn disconnect<T>(mut state: MutexGuard<'_, State<T>>, end: wait::End<T>) {
    let queue = end(&mut state);
    let wakers: Vec<Waker> =
        std::iter::from_fn(|| queue.pop()).filter_map(|sudog| sudog.finish(Outcome::Disconnected)).collect();
    drop(state);
    wakers.into_iter().for_each(Waker::wake);
}

/// The sending end of a channel. Clones send into the same channel.
pub struct Sender<T> {
    chan: Counted<T>,
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
        // The receiver takes it out, or nobody does: then it is still ours.
        let mut slot = MaybeUninit::new(value);
        // SAFETY: there it is.
        match unsafe { self.try_send_locked(&slot) } {
            Ok(()) => return Ok(()),
            Err((_, Refusal::Disconnected)) => {}
            Err((state, Refusal::Full)) => {
                match wait(state, |state| &mut state.senders, &mut slot) {
                    Outcome::Done => return Ok(()),
                    Outcome::Disconnected => {}
                    Outcome::Open => {
                        // SAFETY: as below.
                        drop(unsafe { slot.assume_init() });
                        cancel::raise();
                    }
                }
            }
        }
        // SAFETY: the operation was not completed, so the value was not taken.
        Err(SendError(unsafe { slot.assume_init() }))
    }

    /// Sends a value if that needs no waiting.
    ///
    /// # Errors
    ///
    /// There is no room, or with a capacity of 0 no receiver waits; or all receivers are gone. The value comes back.
    ///
    /// ```
    /// use morestack::channel::{TrySendError, bounded};
    /// let (sender, receiver) = bounded(1);
    /// sender.try_send(1).unwrap();
    /// assert_eq!(sender.try_send(2), Err(TrySendError::Full(2)));
    /// drop(receiver);
    /// assert_eq!(sender.try_send(2), Err(TrySendError::Disconnected(2)));
    /// ```
    #[inline]
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        check_room::<T>();
        self.send_or_not(value)
    }

    #[inline(never)]
    fn send_or_not(&self, value: T) -> Result<(), TrySendError<T>> {
        let slot = MaybeUninit::new(value);
        // SAFETY: there it is; and on an error it still is.
        unsafe {
            match self.try_send_locked(&slot) {
                Ok(()) => Ok(()),
                Err((_, Refusal::Full)) => Err(TrySendError::Full(slot.assume_init())),
                Err((_, Refusal::Disconnected)) => Err(TrySendError::Disconnected(slot.assume_init())),
            }
        }
    }

    /// Sends a value, if that needs no waiting. Then it is gone; on an error it is not, and the channel stays locked.
    ///
    /// # Safety
    ///
    /// There is a value.
    #[inline(always)]
    unsafe fn try_send_locked(&self, value: &MaybeUninit<T>) -> Result<(), (MutexGuard<'_, State<T>>, Refusal)> {
        let mut state = self.chan.state.lock();
        // SAFETY: by the contract.
        match unsafe { state.try_send(self.chan.capacity, value) } {
            Ok(waker) => {
                drop(state);
                waker.wake();
                Ok(())
            }
            Err(refusal) => Err((state, refusal)),
        }
    }

    /// As [`send`](Self::send), for `timeout` at most.
    ///
    /// # Errors
    ///
    /// There was no room in time, or with a capacity of 0 no receiver; or all receivers are gone. The value comes back.
    ///
    /// ```
    /// use morestack::channel::{SendTimeoutError, bounded};
    /// use std::time::Duration;
    /// let (sender, receiver) = bounded(1);
    /// sender.send(1).unwrap();
    /// assert_eq!(sender.send_timeout(2, Duration::from_millis(1)), Err(SendTimeoutError::Timeout(2)));
    /// drop(receiver);
    /// assert_eq!(sender.send_timeout(2, Duration::from_millis(1)), Err(SendTimeoutError::Disconnected(2)));
    /// ```
    pub fn send_timeout(&self, value: T, timeout: Duration) -> Result<(), SendTimeoutError<T>> {
        match Instant::now().checked_add(timeout) {
            Some(deadline) => self.send_deadline(value, deadline),
            // Further than the clock reaches.
            None => self.send(value).map_err(SendTimeoutError::from),
        }
    }

    /// As [`send`](Self::send), until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As for [`send_timeout`](Self::send_timeout).
    #[inline]
    pub fn send_deadline(&self, value: T, deadline: Instant) -> Result<(), SendTimeoutError<T>> {
        check_room_for_arm::<T>();
        self.send_until(value, deadline)
    }

    #[inline(never)]
    fn send_until(&self, value: T, deadline: Instant) -> Result<(), SendTimeoutError<T>> {
        match self.send_or_not(value) {
            Ok(()) => Ok(()),
            Err(TrySendError::Disconnected(value)) => Err(SendTimeoutError::Disconnected(value)),
            Err(TrySendError::Full(value)) => {
                let mut arm = SendArm::with(self, value);
                match select::run(&mut [&mut arm], &Until::At(deadline)) {
                    Some(_) => arm.take().map_err(SendTimeoutError::from),
                    None => Err(SendTimeoutError::Timeout(arm.into_value())),
                }
            }
        }
    }

    /// How many values are in the channel.
    ///
    /// ```
    /// let (sender, receiver) = morestack::channel::bounded(2);
    /// sender.send("a").unwrap();
    /// assert_eq!((sender.len(), sender.capacity(), receiver.is_full()), (1, Some(2), false));
    /// ```
    pub fn len(&self) -> usize {
        self.chan.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there are as many as it holds. A channel of capacity 0 is always full.
    pub fn is_full(&self) -> bool {
        self.capacity().is_some_and(|capacity| self.len() >= capacity)
    }

    /// How many it holds; none: as many as memory does.
    pub fn capacity(&self) -> Option<usize> {
        self.chan.capacity
    }

    /// Whether all receivers are gone: what is sent comes back.
    ///
    /// ```
    /// let (sender, receiver) = morestack::channel::bounded(1);
    /// sender.send(1).unwrap();
    /// assert!(!sender.is_disconnected() && !receiver.is_disconnected());
    /// drop(receiver);
    /// assert!(sender.is_disconnected());
    /// ```
    pub fn is_disconnected(&self) -> bool {
        self.chan.state.lock().receivers_gone
    }

    /// Whether both send into the same channel.
    pub fn same_channel(&self, other: &Sender<T>) -> bool {
        self.chan.is_same(&other.chan)
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        Sender { chan: self.chan.another(&self.chan.senders) }
    }
}

impl<T> Drop for Sender<T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: of a sender, here only.
        if let Some(chan) = unsafe { self.chan.leave(|chan| &chan.senders) } {
            chan.end_senders();
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
    chan: Counted<T>,
}

impl<T> Receiver<T> {
    /// Receives a value; waits until there is one.
    ///
    /// In a destructor during a panic it blocks the worker, as [`park`](crate::park()) does.
    ///
    /// # Errors
    ///
    /// The channel is empty and all senders are gone.
    ///
    /// ```
    /// use morestack::channel::{RecvError, bounded};
    /// let (sender, receiver) = bounded(0);
    /// let sends = morestack::spawn(move || sender.send("here"));
    /// assert_eq!((receiver.recv(), receiver.recv()), (Ok("here"), Err(RecvError)));
    /// sends.join().unwrap().unwrap();
    /// ```
    #[inline]
    pub fn recv(&self) -> Result<T, RecvError> {
        check_room::<T>();
        self.recv_or_wait()
    }

    #[inline(never)]
    fn recv_or_wait(&self) -> Result<T, RecvError> {
        let mut slot = MaybeUninit::uninit();
        match self.try_recv_locked(&mut slot) {
            Ok(()) => {}
            Err((_, TryRecvError::Disconnected)) => return Err(RecvError),
            Err((state, TryRecvError::Empty)) if state.clock.is_some() => {
                drop(state);
                return self.recv_until(Until::Ready).expect("it was received");
            }
            Err((state, TryRecvError::Empty)) => match wait(state, |state| &mut state.receivers, &mut slot) {
                Outcome::Done => {}
                Outcome::Disconnected => return Err(RecvError),
                Outcome::Open => cancel::raise(),
            },
        }
        // SAFETY: it was received, or the operation was completed, so a sender has written it.
        Ok(unsafe { slot.assume_init() })
    }

    /// Receives a value if there is one.
    ///
    /// # Errors
    ///
    /// There is none; or there will not be one any more.
    ///
    /// ```
    /// use morestack::channel::{TryRecvError, bounded};
    /// let (sender, receiver) = bounded(1);
    /// assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    /// sender.send(1).unwrap();
    /// drop(sender);
    /// assert_eq!((receiver.try_recv(), receiver.try_recv()), (Ok(1), Err(TryRecvError::Disconnected)));
    /// ```
    #[inline]
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        check_room::<T>();
        self.recv_or_not()
    }

    #[inline(never)]
    fn recv_or_not(&self) -> Result<T, TryRecvError> {
        let mut slot = MaybeUninit::uninit();
        match self.try_recv_locked(&mut slot) {
            // SAFETY: it was received.
            Ok(()) => Ok(unsafe { slot.assume_init() }),
            Err((_, error)) => Err(error),
        }
    }

    /// Receives a value into `to`, if there is one; on an error the channel stays locked.
    #[inline(always)]
    fn try_recv_locked(&self, to: &mut MaybeUninit<T>) -> Result<(), (MutexGuard<'_, State<T>>, TryRecvError)> {
        let mut state = self.chan.state.lock();
        match state.try_recv(to) {
            Ok(waker) => {
                drop(state);
                waker.wake();
                Ok(())
            }
            Err(error) => Err((state, error)),
        }
    }

    /// As [`recv`](Self::recv), for `timeout` at most.
    ///
    /// # Errors
    ///
    /// Nothing came in time; or the channel is empty and all senders are gone.
    ///
    /// ```
    /// use morestack::channel::{RecvTimeoutError, bounded};
    /// use std::time::Duration;
    /// let (sender, receiver) = bounded::<u32>(1);
    /// assert_eq!(receiver.recv_timeout(Duration::from_millis(1)), Err(RecvTimeoutError::Timeout));
    /// drop(sender);
    /// assert_eq!(receiver.recv_timeout(Duration::from_millis(1)), Err(RecvTimeoutError::Disconnected));
    /// ```
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        match Instant::now().checked_add(timeout) {
            Some(deadline) => self.recv_deadline(deadline),
            // Further than the clock reaches.
            None => self.recv().map_err(RecvTimeoutError::from),
        }
    }

    /// As [`recv`](Self::recv), until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As for [`recv_timeout`](Self::recv_timeout).
    #[inline]
    pub fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        check_room_for_arm::<T>();
        match self.recv_until(Until::At(deadline)) {
            Some(result) => result.map_err(RecvTimeoutError::from),
            None => Err(RecvTimeoutError::Timeout),
        }
    }

    #[inline(never)]
    fn recv_until(&self, until: Until) -> Option<Result<T, RecvError>> {
        match self.recv_or_not() {
            Ok(value) => Some(Ok(value)),
            Err(TryRecvError::Disconnected) => Some(Err(RecvError)),
            Err(TryRecvError::Empty) => {
                let mut arm = RecvArm::with(self);
                select::run(&mut [&mut arm], &until).map(|_| arm.take())
            }
        }
    }

    /// How many values are in the channel.
    pub fn len(&self) -> usize {
        self.chan.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there are as many as it holds. A channel of capacity 0 is always full.
    pub fn is_full(&self) -> bool {
        self.capacity().is_some_and(|capacity| self.len() >= capacity)
    }

    /// How many it holds; none: as many as memory does.
    pub fn capacity(&self) -> Option<usize> {
        self.chan.capacity
    }

    /// Whether all senders are gone: there are the values that are in the channel, and then no more.
    pub fn is_disconnected(&self) -> bool {
        self.chan.state.lock().senders_gone
    }

    /// Whether both receive from the same channel.
    pub fn same_channel(&self, other: &Receiver<T>) -> bool {
        self.chan.is_same(&other.chan)
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Receiver<T> {
        Receiver { chan: self.chan.another(&self.chan.receivers) }
    }
}

impl<T> Drop for Receiver<T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: of a receiver, here only.
        if let Some(chan) = unsafe { self.chan.leave(|chan| &chan.receivers) } {
            chan.end_receivers();
        }
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receiver { .. }")
    }
}
