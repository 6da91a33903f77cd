//! Sending and receiving from async code, on any executor.
//!
//! A future that has to wait is in the same queues as those that block: first come, first served, and whoever completes its
//! operation does it for it. Where a green thread has a stack for the slot, a future has a [`Wait`] in the heap.
//!
//! ```text
//!   poll                               the other side, under the lock           poll, or drop, under the lock
//!   ────                               ──────────────────────────────           ─────────────────────────────
//!   locked: possible? then done        dequeue the sudog                        Open: still queued; poll leaves the new
//!   else a Wait into the queue         copy the value to or from the slot         waker, drop dequeues it and frees it
//!   Pending                            outcome: Done or Disconnected            else: it is the future's alone; poll takes
//!                                      take the waker out; unlock; wake           the result, drop hands a value back
//! ```
//!
//! *Who has the wait*: whoever finds its outcome Open has it under the lock, with the queue. The outcome changes once, when it
//! is dequeued, in the same critical section that completes the operation and takes the waker out. After that section nobody
//! else refers to it. So a future that sees, under the lock, that the outcome is not Open any more owns the wait. All of this is
//! under the channel's lock; no step is lock-free.
//!
//! *No wake-up is lost*: while a wait is queued, it has the waker of the latest poll. It is queued with that of the first, and a
//! later poll puts its own there in the section in which it saw Open. The other side takes the one that is there.
//!
//! *No foreign code under the lock*: wakers are cloned before it is taken, hence a second look; woken after, with a panic
//! caught; and those that were replaced are dropped after.
//!
//! # Futures that are dropped
//!
//! One that waits leaves its queue, as if it had never been there. If its operation was completed before: what a sending future
//! has sent is sent. A value that a receiving future was given is *handed back*:
//!
//! 1. to the receiver that waits first, if one does;
//! 2. else into `State::returned`, which receivers look at before the buffer. Capacity does not matter there: its place in the
//!    buffer may have been filled since, and with a capacity of 0 there is none.
//!
//! *Not lost, not twice*: the value is in one place at a time, the slot of the dropped future, then that of another or `returned`;
//! and it goes from the one to the other under the lock. *Nobody waits in vain*: if it goes into `returned` no receiver waits, and
//! none begins to while it is there. Senders need not be told: nothing became free.
//!
//! *In the order of sending.* Each wait of a receiving future has a number, given when it is queued. Call a value *handed out* from
//! when it was put into such a wait until it was received; its number is that of the first wait that it was put into, and it
//! keeps that when it is handed on.
//!
//! - *Numbers of what was handed out ascend in the order of sending*: the queue is served from its front, so each value sent gets a
//!   later wait, with a greater number, than those that were sent before it.
//! - *All that was handed out was sent before all that is in the buffer, or waits to be*: it was put into a wait of a queued
//!   receiver, and while one is queued the buffer is empty and no sender waits (invariants 1 and 2 of [`super`]).
//!
//! So `returned` is kept by number, and goes before the buffer. What is received comes out in order, but for values that
//! others have received meanwhile.
//!
//! # Clocks
//!
//! A channel of the clock has no sender to complete an operation. Who waits there looks again when a value is due. For a future that
//! is an [`Alarm`]: a green thread that sleeps until then, and is awaited. It ends early when the future is dropped.

use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::mem::{self, MaybeUninit};
use std::panic::Location;
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{self, Context, Poll, ready};
use std::time::Instant;

use futures_core::Stream;

use super::sudog::{Outcome, Sudog, Waiter, Waker};
use super::wait::End;
use super::{Chan, Receiver, RecvError, Refusal, SendError, Sender, State, TryRecvError, check_room, copy_bytes};
use crate::join::JoinHandle;
use crate::{park, runtime, spawn};

/// Who waits.
pub(crate) struct TaskWaiter {
    /// Until the wait ends. Under the lock.
    waker: Cell<Option<Box<task::Waker>>>,
    /// Of the value, for one that receives. Under the lock.
    number: Cell<u64>,
}

impl TaskWaiter {
    /// The right to wake it, for whoever dequeued it.
    #[cold]
    pub(super) fn waker(&self) -> Waker {
        Waker::Task(self.waker.take().expect("a wait that has not ended has a waker"))
    }
}

/// A wait of a future.
struct Wait<T> {
    sudog: Sudog,
    task: TaskWaiter,
    slot: UnsafeCell<MaybeUninit<T>>,
}

impl<T> Wait<T> {
    /// Waits at `end` of the channel that is locked by `state`, with this in the slot.
    fn begin(
        state: &mut State<T>,
        end: End<T>,
        value: MaybeUninit<T>,
        waker: Box<task::Waker>,
        number: u64,
    ) -> NonNull<Wait<T>> {
        let task = TaskWaiter { waker: Cell::new(Some(waker)), number: Cell::new(number) };
        let wait =
            NonNull::from(Box::leak(Box::new(Wait { sudog: Sudog::default(), task, slot: UnsafeCell::new(value) })));
        // SAFETY: made just now.
        let it = unsafe { wait.as_ref() };
        it.sudog.begin_contested(Waiter::Task(NonNull::from(&it.task)), it.slot.get());
        // SAFETY: it stays in the heap, and the future frees it when it was dequeued. One that is forgotten stays for ever.
        unsafe { end(state).push(&it.sudog) };
        wait
    }

    /// What became of it; if nothing yet, `cx` is woken then.
    fn poll(&self, chan: &Chan<T>, cx: &Context<'_>) -> Poll<Outcome> {
        let mut fresh = None;
        loop {
            let state = chan.state.lock();
            let outcome = self.sudog.outcome();
            if outcome != Outcome::Open {
                return Poll::Ready(outcome);
            }
            let old = self.task.waker.take().expect("a wait that has not ended has a waker");
            if fresh.is_some() {
                self.task.waker.set(fresh);
                drop(state);
                return Poll::Pending;
            }
            let same = old.will_wake(cx.waker());
            self.task.waker.set(Some(old));
            drop(state);
            if same {
                return Poll::Pending;
            }
            fresh = Some(Box::new(cx.waker().clone()));
        }
    }

    /// Frees it, and leaves what is in its slot to the caller.
    ///
    /// # Safety
    ///
    /// It came from `begin`, and was dequeued.
    unsafe fn end(wait: NonNull<Wait<T>>) -> MaybeUninit<T> {
        // SAFETY: by the contract nobody else knows it.
        unsafe { Box::from_raw(wait.as_ptr()) }.slot.into_inner()
    }

    /// Takes it out of the queue at `end`. Of one that was not completed: frees it and what is in the slot of a sender. Else
    /// it is the caller's, with the channel locked.
    ///
    /// # Safety
    ///
    /// It came from `begin`, waits at this end of `chan`, and the caller forgets it.
    unsafe fn cancel(wait: NonNull<Wait<T>>, chan: &Chan<T>, end: End<T>, sends: bool) {
        // SAFETY: it is there until it is freed below, or handed back.
        let it = unsafe { wait.as_ref() };
        let mut state = chan.state.lock();
        end(&mut state).remove(&it.sudog);
        let waker = match (it.sudog.outcome(), sends) {
            (Outcome::Done, false) => state.hand_back(Unreceived(wait)),
            (outcome, _) => {
                // What follows is nobody else's affair, and may be the destructor of a value.
                drop(state);
                // SAFETY: dequeued; a sender has its value until the operation is completed.
                unsafe {
                    let mut freed = Box::from_raw(wait.as_ptr());
                    if sends && outcome != Outcome::Done {
                        freed.slot.get_mut().assume_init_drop();
                    }
                }
                return;
            }
        };
        drop(state);
        waker.wake();
    }
}

/// A value in the slot of a wait whose future was dropped.
pub(super) struct Unreceived<T>(NonNull<Wait<T>>);

// SAFETY: nobody else refers to the wait, and of what is in it only the value is used.
unsafe impl<T: Send> Send for Unreceived<T> {}

impl<T> Unreceived<T> {
    fn wait(&self) -> &Wait<T> {
        // SAFETY: freed when this is dropped.
        unsafe { self.0.as_ref() }
    }

    fn number(&self) -> u64 {
        self.wait().task.number.get()
    }

    /// Gives the value away, which was copied from the slot.
    fn into_taken(self) {
        // SAFETY: nobody else refers to it, and it is not used again.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
        mem::forget(self);
    }
}

impl<T> Drop for Unreceived<T> {
    fn drop(&mut self) {
        // SAFETY: nobody else refers to it; its operation was completed, so a value is in its slot.
        unsafe { Box::from_raw(self.0.as_ptr()).slot.get_mut().assume_init_drop() };
    }
}

impl<T> State<T> {
    /// Hands back what a future was given and has not received. Who to wake.
    fn hand_back(&mut self, value: Unreceived<T>) -> Waker {
        let number = value.number();
        let set = |sudog: &Sudog| {
            if let Some(task) = sudog.task() {
                task.number.set(number);
            }
        };
        // SAFETY: a value, and nobody else's.
        match self.hand_over_with(unsafe { &*value.wait().slot.get() }, set) {
            Some(waker) => {
                value.into_taken();
                waker
            }
            None => {
                let at = self.returned.partition_point(|other| other.number() > number);
                self.returned.insert(at, value);
                Waker::Nobody
            }
        }
    }

    /// Takes the first that was handed back.
    #[cold]
    #[inline(never)]
    pub(super) fn take_returned(&mut self, to: &mut MaybeUninit<T>) {
        let value = self.returned.pop().expect("the caller has looked");
        // SAFETY: a value, which counts as taken from here on.
        unsafe { copy_bytes(value.wait().slot.get(), to) };
        value.into_taken();
    }
}

/// What receives: a future, or a stream again and again.
struct Recv<T> {
    wait: Option<NonNull<Wait<T>>>,
    alarm: Option<Alarm>,
    /// A runtime has stopped with an alarm on it.
    stopped: bool,
}

// SAFETY: the wait is touched by the rules of the module's header, and what comes out is a `T`. The rest is Send.
unsafe impl<T: Send> Send for Recv<T> {}
// SAFETY: there is nothing to do with a shared reference.
unsafe impl<T: Send> Sync for Recv<T> {}

impl<T> Recv<T> {
    fn new() -> Recv<T> {
        Recv { wait: None, alarm: None, stopped: false }
    }

    #[inline(never)]
    fn poll(&mut self, chan: &Chan<T>, cx: &mut Context<'_>) -> Poll<Result<T, RecvError>> {
        if let Some(wait) = self.wait {
            // SAFETY: it is there until it is taken out of `self.wait`.
            let outcome = ready!(unsafe { wait.as_ref() }.poll(chan, cx));
            self.wait = None;
            // SAFETY: its outcome says that it was dequeued.
            let value = unsafe { Wait::end(wait) };
            return Poll::Ready(match outcome {
                // SAFETY: a sender has written it.
                Outcome::Done => Ok(unsafe { value.assume_init() }),
                _ => Err(RecvError),
            });
        }
        let mut fresh = None;
        loop {
            let mut value = MaybeUninit::uninit();
            let mut state = chan.state.lock();
            match state.try_recv(&mut value) {
                Ok(waker) => {
                    drop(state);
                    waker.wake();
                    self.alarm = None;
                    // SAFETY: it was received.
                    return Poll::Ready(Ok(unsafe { value.assume_init() }));
                }
                Err(TryRecvError::Disconnected) => return Poll::Ready(Err(RecvError)),
                Err(TryRecvError::Empty) => {}
            }
            if let Some(clock) = &state.clock {
                let due = clock.due();
                drop(state);
                ready!(self.poll_alarm(due, cx));
            } else if let Some(waker) = fresh.take() {
                state.waits += 1;
                let number = state.waits;
                self.wait = Some(Wait::begin(&mut state, |state| &mut state.receivers, value, waker, number));
                return Poll::Pending;
            } else {
                drop(state);
                fresh = Some(Box::new(cx.waker().clone()));
            }
        }
    }

    /// Waits until `due`, or for ever.
    fn poll_alarm(&mut self, due: Option<Instant>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(due) = due else { return Poll::Pending };
        let alarm = self.alarm.get_or_insert_with(|| Alarm::set(due, self.stopped));
        // A runtime that stopped is no reason to wait in vain: the next alarm is the global one's.
        self.stopped |= ready!(Pin::new(&mut alarm.0).poll(cx)).is_err();
        self.alarm = None;
        Poll::Ready(())
    }

    /// It is not polled again.
    fn cancel(&mut self, chan: &Chan<T>) {
        if let Some(wait) = self.wait.take() {
            // SAFETY: of this channel, and forgotten.
            unsafe { Wait::cancel(wait, chan, |state| &mut state.receivers, false) };
        }
    }
}

/// A green thread that ends at a time, or when this is dropped.
struct Alarm(JoinHandle<()>);

impl Alarm {
    /// On the runtime of the caller, or the global one, which does not stop.
    #[track_caller]
    fn set(due: Instant, global: bool) -> Alarm {
        let sched = match global {
            true => runtime::global().unwrap_or_else(|error| spawn::refuse(&error)),
            false => spawn::here_or_exit(),
        };
        let sleep = move || park::park_timeout(due.saturating_duration_since(Instant::now()));
        // SAFETY: everything is 'static; it has no address of a local anywhere, and borrows no thread-local.
        Alarm(unsafe { spawn::spawn_unchecked(sched, spawn::Attrs::go(Location::caller()), sleep) })
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.0.thread().unpark();
    }
}

impl<T> Receiver<T> {
    /// Receives a value, as [`recv`](Self::recv), without blocking the thread: in any executor, or
    /// [`block_on`](crate::block_on).
    ///
    /// It waits in line with all others that receive, from when it was first polled. From then on a value may be its own
    /// without it having been polled again; so poll it or drop it, but do not put it by.
    ///
    /// # Cancellation
    ///
    /// Nothing is lost when it is dropped: a value that was its own already goes to the next receiver that waits, or
    /// else comes first for whoever receives next. Then a channel may have a value more than its capacity, and one may come
    /// after a receiver was told that all senders are gone.
    ///
    /// # Panics
    ///
    /// The future: if it is polled again after it was ready.
    ///
    /// ```
    /// use morestack::{block_on, channel::{RecvError, bounded}};
    ///
    /// let (sender, receiver) = bounded(0);
    /// let sends = morestack::spawn(move || sender.send(42).unwrap());
    /// block_on(async {
    ///     assert_eq!(receiver.recv_async().await, Ok(42));
    ///     assert_eq!(receiver.recv_async().await, Err(RecvError));
    /// });
    /// sends.join().unwrap();
    /// ```
    pub fn recv_async(&self) -> RecvFuture<'_, T> {
        RecvFuture { receiver: Some(self), recv: Recv::new() }
    }

    /// The values as they come, as [`iter`](Self::iter). Each is received as by [`recv_async`](Self::recv_async), and nothing is
    /// lost when it is dropped.
    ///
    /// ```
    /// use futures_lite::StreamExt;
    ///
    /// let (sender, receiver) = morestack::channel::bounded(1);
    /// let sends = morestack::spawn(move || (1..=3).for_each(|n| sender.send(n).unwrap()));
    /// let all = morestack::block_on(receiver.stream().collect::<Vec<_>>());
    /// assert_eq!(all, [1, 2, 3]);
    /// sends.join().unwrap();
    /// ```
    pub fn stream(&self) -> RecvStream<'_, T> {
        RecvStream { receiver: self, recv: Recv::new() }
    }

    /// The same with the receiver in it.
    pub fn into_stream(self) -> IntoStream<T> {
        IntoStream { receiver: self, recv: Recv::new() }
    }
}

/// Of [`Receiver::recv_async`].
#[must_use = "futures do nothing unless polled"]
pub struct RecvFuture<'a, T> {
    /// Until it was ready.
    receiver: Option<&'a Receiver<T>>,
    recv: Recv<T>,
}

impl<T> Future for RecvFuture<'_, T> {
    type Output = Result<T, RecvError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        check_room::<T>();
        let receiver = self.receiver.expect("polled after it was ready");
        let result = ready!(self.recv.poll(&receiver.chan, cx));
        self.receiver = None;
        Poll::Ready(result)
    }
}

impl<T> Drop for RecvFuture<'_, T> {
    fn drop(&mut self) {
        if let Some(receiver) = self.receiver {
            self.recv.cancel(&receiver.chan);
        }
    }
}

/// Of [`Receiver::stream`].
#[must_use = "streams do nothing unless polled"]
pub struct RecvStream<'a, T> {
    receiver: &'a Receiver<T>,
    recv: Recv<T>,
}

impl<T> Stream for RecvStream<'_, T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        check_room::<T>();
        let receiver = self.receiver;
        self.recv.poll(&receiver.chan, cx).map(Result::ok)
    }
}

impl<T> Drop for RecvStream<'_, T> {
    fn drop(&mut self) {
        self.recv.cancel(&self.receiver.chan);
    }
}

/// Of [`Receiver::into_stream`].
#[must_use = "streams do nothing unless polled"]
pub struct IntoStream<T> {
    receiver: Receiver<T>,
    recv: Recv<T>,
}

impl<T> Stream for IntoStream<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        check_room::<T>();
        let IntoStream { receiver, recv } = &mut *self;
        recv.poll(&receiver.chan, cx).map(Result::ok)
    }
}

impl<T> Drop for IntoStream<T> {
    fn drop(&mut self) {
        self.recv.cancel(&self.receiver.chan);
    }
}

impl<T> Sender<T> {
    /// Sends a value, as [`send`](Self::send), without blocking the thread: in any executor, or
    /// [`block_on`](crate::block_on).
    ///
    /// Nothing happens until it is polled. From then on it waits in line with all others that send.
    ///
    /// # Cancellation
    ///
    /// If it is dropped before it is ready, the value was either sent by then, or is dropped with it and not sent.
    ///
    /// # Panics
    ///
    /// The future: if it is polled again after it was ready.
    ///
    /// ```
    /// use morestack::{block_on, channel::{SendError, bounded}};
    ///
    /// let (sender, receiver) = bounded(1);
    /// block_on(async {
    ///     sender.send_async(1).await.unwrap();
    ///     assert_eq!(receiver.recv(), Ok(1));
    ///     drop(receiver);
    ///     assert_eq!(sender.send_async(2).await, Err(SendError(2)));
    /// });
    /// ```
    pub fn send_async(&self, value: T) -> SendFuture<'_, T> {
        SendFuture { sender: self, at: Step::Begins(value) }
    }
}

/// Of [`Sender::send_async`].
#[must_use = "futures do nothing unless polled"]
pub struct SendFuture<'a, T> {
    sender: &'a Sender<T>,
    at: Step<T>,
}

/// How far it is.
enum Step<T> {
    Begins(T),
    Waits(NonNull<Wait<T>>),
    Ready,
}

// SAFETY: the wait is touched by the rules of the module's header.
unsafe impl<T: Send> Send for Step<T> {}
// SAFETY: there is nothing to do with a shared reference.
unsafe impl<T: Send> Sync for Step<T> {}

// No future is in it, and a value is not pinned by being sent.
impl<T> Unpin for SendFuture<'_, T> {}

impl<T> SendFuture<'_, T> {
    #[inline(never)]
    fn advance(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError<T>>> {
        let chan = &self.sender.chan;
        if let Step::Waits(wait) = self.at {
            // SAFETY: it is there until `self.at` is another.
            let outcome = ready!(unsafe { wait.as_ref() }.poll(chan, cx));
            self.at = Step::Ready;
            // SAFETY: its outcome says that it was dequeued.
            let value = unsafe { Wait::end(wait) };
            return Poll::Ready(match outcome {
                Outcome::Done => Ok(()),
                // SAFETY: the operation was not completed, so the value was not taken.
                _ => Err(SendError(unsafe { value.assume_init() })),
            });
        }
        let mut fresh = None;
        loop {
            let Step::Begins(value) = mem::replace(&mut self.at, Step::Ready) else {
                panic!("polled after it was ready")
            };
            let slot = MaybeUninit::new(value);
            let mut state = chan.state.lock();
            // SAFETY: there is a value, and on an error there still is.
            match unsafe { state.try_send(chan.capacity, &slot) } {
                Ok(waker) => {
                    drop(state);
                    waker.wake();
                    return Poll::Ready(Ok(()));
                }
                Err(Refusal::Disconnected) => {
                    drop(state);
                    // SAFETY: as above.
                    return Poll::Ready(Err(SendError(unsafe { slot.assume_init() })));
                }
                Err(Refusal::Full) => {}
            }
            if let Some(waker) = fresh.take() {
                self.at = Step::Waits(Wait::begin(&mut state, |state| &mut state.senders, slot, waker, 0));
                return Poll::Pending;
            }
            drop(state);
            // SAFETY: as above.
            self.at = Step::Begins(unsafe { slot.assume_init() });
            fresh = Some(Box::new(cx.waker().clone()));
        }
    }
}

impl<T> Future for SendFuture<'_, T> {
    type Output = Result<(), SendError<T>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        check_room::<T>();
        self.get_mut().advance(cx)
    }
}

impl<T> Drop for SendFuture<'_, T> {
    fn drop(&mut self) {
        if let Step::Waits(wait) = self.at {
            // SAFETY: of this channel, and forgotten.
            unsafe { Wait::cancel(wait, &self.sender.chan, |state| &mut state.senders, true) };
        }
    }
}

impl<T> fmt::Debug for RecvFuture<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecvFuture { .. }")
    }
}

impl<T> fmt::Debug for RecvStream<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecvStream { .. }")
    }
}

impl<T> fmt::Debug for IntoStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IntoStream { .. }")
    }
}

impl<T> fmt::Debug for SendFuture<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SendFuture { .. }")
    }
}
