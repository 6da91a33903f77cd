//! Waiting for one of several operations, and for no longer than allowed.
//!
//! ```text
//!   1  each channel by itself, beginning with a random one: can it be done at once?
//!   2  all channels locked: the same again; if not, a sudog into the queue of each, or the end if there is no time
//!   3  unlocked, wait: a contested wait (sudog.rs)
//!   4  each channel by itself: take the sudog out; one of them may have been completed
//! ```
//!
//! Step 2 is one: nothing can come between looking and enqueueing, or an operation that was possible when it was looked at
//! might wait for ever beside another's that waits for it. For the same reason a wait never meets itself where it both
//! sends to and receives from one channel: it is in no queue while it looks. And `default` is chosen only if there was a
//! moment at which nothing else could be, however values went from channel to channel meanwhile.
//!
//! *No dead-lock*: only step 2 holds several locks, and takes them in the order of their addresses; nobody who holds one
//! waits for anything else.
//!
//! *Fair*: of several that can be done at once each is the first one looked at with the same probability.
//!
//! The values are in the arms, on the stack of the caller, but for step 3: they are moved to a node in the heap, and back.

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use lock_api::RawMutex as _;

use super::sudog::{Outcome, Sudog, Waiter, Waker};
use super::wait::Contest;
use super::{Chan, Receiver, RecvError, Refusal, SendError, Sender, State, TryRecvError, check_room_for_arm};
use crate::spin::RawMutex;
use crate::{cancel, m};

/// How long to wait.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// Not at all.
    Now,
    At(Instant),
    /// For as long as it takes.
    Ready,
}

impl Until {
    /// For `timeout` from now on.
    pub fn after(timeout: Duration) -> Until {
        Instant::now().checked_add(timeout).map_or(Until::Ready, Until::At)
    }
}

/// One of the operations that are waited for.
#[doc(hidden)]
#[expect(private_interfaces, reason = "for the arms of this module only")]
pub trait Arm {
    /// The lock of its channel.
    fn lock(&self) -> &RawMutex;

    /// Does it, if that needs no waiting: then who to wake. An arm whose other end is gone is done.
    ///
    /// # Safety
    ///
    /// The channel is locked by the caller.
    unsafe fn attempt(&mut self) -> Option<Waker>;

    /// When it may become possible by itself.
    ///
    /// # Safety
    ///
    /// As for `attempt`.
    unsafe fn due(&self) -> Option<Instant>;

    /// Enqueues it.
    ///
    /// # Safety
    ///
    /// As for `attempt`; and `dequeue` follows before the waiter goes.
    unsafe fn enqueue(&mut self, waiter: Waiter);

    /// Takes it out of its queue. Whether it was done.
    fn dequeue(&mut self) -> bool;
}

/// What is in the heap while an arm is in a queue.
struct Node<T> {
    sudog: Sudog,
    slot: UnsafeCell<MaybeUninit<T>>,
}

impl<T> Node<T> {
    /// A node that waits with this in its slot.
    fn new(waiter: Waiter, value: MaybeUninit<T>) -> NonNull<Node<T>> {
        let node = Box::leak(Box::new(Node { sudog: Sudog::default(), slot: UnsafeCell::new(value) }));
        node.sudog.begin_contested(waiter, node.slot.get());
        NonNull::from(node)
    }

    /// Frees it. What became of its wait, and what is in its slot.
    ///
    /// # Safety
    ///
    /// It came from `new`, and is in no queue.
    unsafe fn end(node: NonNull<Node<T>>) -> (Outcome, MaybeUninit<T>) {
        // SAFETY: by the contract nobody else knows it.
        let node = unsafe { Box::from_raw(node.as_ptr()) };
        (node.sudog.end(), node.slot.into_inner())
    }
}

/// The state of a channel that the caller has locked.
///
/// # Safety
///
/// It is locked, and no other reference to it is in use.
#[expect(clippy::mut_from_ref, reason = "exclusive by the contract")]
unsafe fn state<T>(chan: &Chan<T>) -> &mut State<T> {
    // SAFETY: by the contract.
    unsafe { &mut *chan.state.data_ptr() }
}

/// `recv(receiver)`.
#[doc(hidden)]
pub struct RecvArm<'a, T> {
    /// In the heap, and so no pointer to a stack.
    chan: &'a Chan<T>,
    node: Option<NonNull<Node<T>>>,
    result: Option<Result<T, RecvError>>,
}

impl<'a, T> RecvArm<'a, T> {
    #[inline(always)]
    pub fn new(receiver: &'a Receiver<T>) -> RecvArm<'a, T> {
        check_room_for_arm::<T>();
        RecvArm::with(receiver)
    }

    /// The same where the room was checked.
    pub(super) fn with(receiver: &'a Receiver<T>) -> RecvArm<'a, T> {
        RecvArm { chan: &receiver.chan, node: None, result: None }
    }

    /// The result, once, of an arm that was done.
    pub fn take(&mut self) -> Result<T, RecvError> {
        self.result.take().expect("the arm that was chosen has a result")
    }
}

#[expect(private_interfaces, reason = "see the trait")]
impl<T> Arm for RecvArm<'_, T> {
    fn lock(&self) -> &RawMutex {
        // SAFETY: it is locked and unlocked in pairs, by this module.
        unsafe { self.chan.state.raw() }
    }

    unsafe fn attempt(&mut self) -> Option<Waker> {
        let mut value = MaybeUninit::uninit();
        // SAFETY: by the contract.
        match unsafe { state(self.chan) }.try_recv(&mut value) {
            Ok(waker) => {
                // SAFETY: it was received.
                self.result = Some(Ok(unsafe { value.assume_init() }));
                Some(waker)
            }
            Err(TryRecvError::Disconnected) => {
                self.result = Some(Err(RecvError));
                Some(Waker::Nobody)
            }
            Err(TryRecvError::Empty) => None,
        }
    }

    unsafe fn due(&self) -> Option<Instant> {
        // SAFETY: by the contract.
        unsafe { state(self.chan) }.clock.as_ref()?.due()
    }

    unsafe fn enqueue(&mut self, waiter: Waiter) {
        let node = Node::new(waiter, MaybeUninit::uninit());
        self.node = Some(node);
        // SAFETY: by the contract; it stays in the heap until it was dequeued.
        unsafe { state(self.chan).receivers.push(&node.as_ref().sudog) };
    }

    fn dequeue(&mut self) -> bool {
        let Some(node) = self.node.take() else { return false };
        // SAFETY: the node is there until `end`, and then in no queue: it is removed here, and nobody puts it in again.
        let (outcome, value) = unsafe {
            self.chan.state.lock().receivers.remove(&node.as_ref().sudog);
            Node::end(node)
        };
        self.result = match outcome {
            Outcome::Open => None,
            // SAFETY: a sender has written it.
            Outcome::Done => Some(Ok(unsafe { value.assume_init() })),
            Outcome::Disconnected => Some(Err(RecvError)),
        };
        self.result.is_some()
    }
}

/// `send(sender, value)`.
#[doc(hidden)]
pub struct SendArm<'a, T> {
    /// As above.
    chan: &'a Chan<T>,
    /// Until it was sent, or is in the node.
    value: Option<T>,
    node: Option<NonNull<Node<T>>>,
    result: Option<Result<(), SendError<T>>>,
}

impl<'a, T> SendArm<'a, T> {
    #[inline(always)]
    pub fn new(sender: &'a Sender<T>, value: T) -> SendArm<'a, T> {
        check_room_for_arm::<T>();
        SendArm::with(sender, value)
    }

    /// The same where the room was checked.
    pub(super) fn with(sender: &'a Sender<T>, value: T) -> SendArm<'a, T> {
        SendArm { chan: &sender.chan, value: Some(value), node: None, result: None }
    }

    /// The result, once, of an arm that was done.
    pub fn take(&mut self) -> Result<(), SendError<T>> {
        self.result.take().expect("the arm that was chosen has a result")
    }

    /// The value of an arm that was not done.
    pub(super) fn into_value(self) -> T {
        self.value.expect("what was not sent is still there")
    }
}

#[expect(private_interfaces, reason = "see the trait")]
impl<T> Arm for SendArm<'_, T> {
    fn lock(&self) -> &RawMutex {
        // SAFETY: it is locked and unlocked in pairs, by this module.
        unsafe { self.chan.state.raw() }
    }

    unsafe fn attempt(&mut self) -> Option<Waker> {
        let slot = MaybeUninit::new(self.value.take().expect("what was not sent is still there"));
        // SAFETY: by the contract; there is a value, and on an error there still is.
        unsafe {
            match state(self.chan).try_send(self.chan.capacity, &slot) {
                Ok(waker) => {
                    self.result = Some(Ok(()));
                    Some(waker)
                }
                Err(Refusal::Disconnected) => {
                    self.result = Some(Err(SendError(slot.assume_init())));
                    Some(Waker::Nobody)
                }
                Err(Refusal::Full) => {
                    self.value = Some(slot.assume_init());
                    None
                }
            }
        }
    }

    unsafe fn due(&self) -> Option<Instant> {
        None
    }

    unsafe fn enqueue(&mut self, waiter: Waiter) {
        let value = self.value.take().expect("what was not sent is still there");
        let node = Node::new(waiter, MaybeUninit::new(value));
        self.node = Some(node);
        // SAFETY: by the contract; it stays in the heap until it was dequeued.
        unsafe { state(self.chan).senders.push(&node.as_ref().sudog) };
    }

    fn dequeue(&mut self) -> bool {
        let Some(node) = self.node.take() else { return false };
        // SAFETY: the node is there until `end`, and then in no queue: it is removed here, and nobody puts it in again.
        let (outcome, value) = unsafe {
            self.chan.state.lock().senders.remove(&node.as_ref().sudog);
            Node::end(node)
        };
        // SAFETY: only a receiver that has completed the operation has the value.
        let value = || unsafe { value.assume_init() };
        match outcome {
            Outcome::Open => self.value = Some(value()),
            Outcome::Done => self.result = Some(Ok(())),
            Outcome::Disconnected => self.result = Some(Err(SendError(value()))),
        }
        self.result.is_some()
    }
}

/// Waits until one of `arms` is done, and says which; or none if that took too long.
#[doc(hidden)]
#[inline(never)]
pub fn run(arms: &mut [&mut dyn Arm], until: &Until) -> Option<usize> {
    loop {
        if let Some(done) = attempt_each(arms) {
            return Some(done);
        }
        let (no_time, deadline) = match *until {
            Until::Now => (true, None),
            Until::At(deadline) => (deadline <= Instant::now(), Some(deadline)),
            Until::Ready => (false, None),
        };
        if no_time {
            // One channel by itself was seen at one moment already.
            let several = arms.len() > 1;
            let done = if several { attempt_all(arms) } else { None };
            if several && done.is_none() {
                unlock_all(arms);
            }
            return done;
        }
        // Where nothing is locked: it may unwind.
        let contest = Contest::new();
        let done = match attempt_all(arms) {
            Some(done) => {
                contest.end();
                Some(done)
            }
            None => wait(arms, contest, deadline),
        };
        if done.is_some() {
            return done;
        }
    }
}

/// Step 1.
fn attempt_each(arms: &mut [&mut dyn Arm]) -> Option<usize> {
    in_random_order(arms, |arm| {
        arm.lock().lock();
        // SAFETY: locked just now.
        let waker = unsafe { arm.attempt() };
        // SAFETY: as above.
        unsafe { arm.lock().unlock() };
        waker
    })
    .map(|(done, waker)| {
        waker.wake();
        done
    })
}

/// Step 2, the first half. If none was done, all channels stay locked.
fn attempt_all(arms: &mut [&mut dyn Arm]) -> Option<usize> {
    for_each_lock(arms, |lock| lock.lock());
    // SAFETY: all are locked.
    let (done, waker) = in_random_order(arms, |arm| unsafe { arm.attempt() })?;
    unlock_all(arms);
    waker.wake();
    Some(done)
}

/// After `attempt_all`.
fn unlock_all(arms: &[&mut dyn Arm]) {
    // SAFETY: locked by this thread.
    for_each_lock(arms, |lock| unsafe { lock.unlock() });
}

/// The rest of step 2, after `attempt_all`, to step 4. None if it was too late, or for no reason. Unwinds the green thread if it
/// was cancelled.
fn wait(arms: &mut [&mut dyn Arm], contest: Contest, deadline: Option<Instant>) -> Option<usize> {
    // SAFETY: all are locked.
    let deadline = arms.iter().filter_map(|arm| unsafe { arm.due() }).chain(deadline).min();
    // SAFETY: as above; they are dequeued below.
    arms.iter_mut().for_each(|arm| unsafe { arm.enqueue(contest.waiter()) });
    unlock_all(arms);
    contest.wait(deadline);
    // All of them: none may be left in a queue.
    let done = arms.iter_mut().enumerate().fold(None, |done, (i, arm)| if arm.dequeue() { Some(i) } else { done });
    if contest.end() && done.is_none() {
        cancel::raise();
    }
    done
}

/// Tries them beginning with a random one.
fn in_random_order(
    arms: &mut [&mut dyn Arm],
    mut attempt: impl FnMut(&mut dyn Arm) -> Option<Waker>,
) -> Option<(usize, Waker)> {
    let n = arms.len();
    let start = if n > 1 { random(n) } else { 0 };
    (start..n).chain(0..start).find_map(|i| attempt(arms[i]).map(|waker| (i, waker)))
}

fn random(n: usize) -> usize {
    /// A Weyl sequence: any generator is random enough, and OS threads have none of their own.
    static NEXT: AtomicU64 = AtomicU64::new(0);
    match m::current() {
        Some(m) => m.random(n),
        None => (NEXT.fetch_add(0x9E37_79B9_7F4A_7C15, Relaxed) >> 32) as usize % n,
    }
}

/// Each lock once, in the order of the addresses. In quadratic time: there are few.
fn for_each_lock(arms: &[&mut dyn Arm], mut f: impl FnMut(&RawMutex)) {
    let mut last = 0;
    let address = |arm: &&&mut dyn Arm| std::ptr::from_ref(arm.lock()).addr();
    while let Some(arm) = arms.iter().filter(|arm| address(arm) > last).min_by_key(address) {
        f(arm.lock());
        last = address(&arm);
    }
}

/// Waits for one of several channel operations.
///
/// ```
/// use morestack::channel::{bounded, select};
/// use std::time::Duration;
///
/// let (to_work, work) = bounded(1);
/// let (results, result) = bounded::<u32>(1);
/// results.send(7).unwrap();
/// for _ in 0..2 {
///     select! {
///         recv(result) -> value => assert_eq!(value, Ok(7)),
///         send(to_work, "next") -> sent => sent.unwrap(),
///         default(Duration::from_secs(1)) => panic!("nothing for a second"),
///     }
/// }
/// assert_eq!(work.recv(), Ok("next"));
/// ```
///
/// | arm | chosen | the pattern gets |
/// |---|---|---|
/// | `recv(receiver) -> pattern => ...` | when there is a value, or all senders are gone | `Result<T, RecvError>` |
/// | `send(sender, value) -> pattern => ...` | when there is room, or a receiver waits, or all receivers are gone | `Result<(), SendError<T>>` |
/// | `default => ...` | when no other can be at once | |
/// | `default(timeout) => ...` | when no other could be for so long | |
///
/// If several can be chosen, one of them is, at random. The bodies are expressions of the same type, and that is the type
/// of the whole; `break`, `return` and `?` in them mean what they do outside. Receivers and senders are given by value or by
/// reference. All values are evaluated first, in the order of the arms, as in Go; one that is not sent is dropped.
///
/// On an OS thread it blocks the thread. In a destructor during a panic it blocks the worker, as
/// [`park`](crate::park()) does. Without arms it waits for ever. For operations that are known at run time only there is
/// [`Select`](crate::channel::Select).
#[macro_export]
macro_rules! select {
    // The arms in one form: (kind, argument, pattern, body).
    (@parse [$($arms:tt)*] [$($default:tt)*]) => {
        $crate::select!(@arms [$($arms)*] [$($default)*] [] [])
    };
    (@parse [$($arms:tt)*] [$($default:tt)*] recv($r:expr $(,)?) -> $p:pat => $b:block, $($rest:tt)*) => {
        $crate::select!(@parse [$($arms)* (recv ($r) $p, $b)] [$($default)*] $($rest)*)
    };
    (@parse [$($arms:tt)*] [$($default:tt)*] recv($r:expr $(,)?) -> $p:pat => $b:block $($rest:tt)*) => {
        $crate::select!(@parse [$($arms)* (recv ($r) $p, $b)] [$($default)*] $($rest)*)
    };
    (@parse [$($arms:tt)*] [$($default:tt)*] recv($r:expr $(,)?) -> $p:pat => $b:expr $(, $($rest:tt)*)?) => {
        $crate::select!(@parse [$($arms)* (recv ($r) $p, $b)] [$($default)*] $($($rest)*)?)
    };
    (@parse [$($arms:tt)*] [$($default:tt)*] send($s:expr, $v:expr $(,)?) -> $p:pat => $b:block, $($rest:tt)*) => {
        $crate::select!(@parse [$($arms)* (send ($s, $v) $p, $b)] [$($default)*] $($rest)*)
    };
    (@parse [$($arms:tt)*] [$($default:tt)*] send($s:expr, $v:expr $(,)?) -> $p:pat => $b:block $($rest:tt)*) => {
        $crate::select!(@parse [$($arms)* (send ($s, $v) $p, $b)] [$($default)*] $($rest)*)
    };
    (@parse [$($arms:tt)*] [$($default:tt)*] send($s:expr, $v:expr $(,)?) -> $p:pat => $b:expr $(, $($rest:tt)*)?) => {
        $crate::select!(@parse [$($arms)* (send ($s, $v) $p, $b)] [$($default)*] $($($rest)*)?)
    };
    (@parse [$($arms:tt)*] [] default $(($($t:expr)?))? => $b:block, $($rest:tt)*) => {
        $crate::select!(@parse [$($arms)*] [($($($t)?)?) $b] $($rest)*)
    };
    (@parse [$($arms:tt)*] [] default $(($($t:expr)?))? => $b:block $($rest:tt)*) => {
        $crate::select!(@parse [$($arms)*] [($($($t)?)?) $b] $($rest)*)
    };
    (@parse [$($arms:tt)*] [] default $(($($t:expr)?))? => $b:expr $(, $($rest:tt)*)?) => {
        $crate::select!(@parse [$($arms)*] [($($($t)?)?) $b] $($($rest)*)?)
    };
    (@parse $arms:tt [$default:tt $($body:tt)*] default $($rest:tt)*) => {
        ::std::compile_error!("`select!` has more than one `default`")
    };
    (@parse $arms:tt $default:tt $($rest:tt)*) => {
        ::std::compile_error!(::std::concat!(
            "expected `recv(receiver) -> pattern => body`, `send(sender, value) -> pattern => body`, ",
            "`default => body` or `default(timeout) => body`, with a comma after a body that is no block, at `",
            ::std::stringify!($($rest)*),
            "`"
        ))
    };

    // An arm after the other becomes a variable: each expansion has a name of its own for it. What an arm refers to lives
    // until the end of the `match`.
    (@arms [(recv ($r:expr) $p:pat, $b:expr) $($arms:tt)*] $default:tt [$($made:ident)*] [$($done:tt)*]) => {
        match &$r {
            receiver => {
                #[allow(unused_mut)]
                let mut arm = $crate::channel::RecvArm::new($crate::__private::Of::of(receiver));
                $crate::select!(@arms [$($arms)*] $default [$($made)* arm] [$($done)* (arm $p, $b)])
            }
        }
    };
    (@arms [(send ($s:expr, $v:expr) $p:pat, $b:expr) $($arms:tt)*] $default:tt [$($made:ident)*] [$($done:tt)*]) => {
        match (&$s, $v) {
            (sender, value) => {
                let mut arm = $crate::channel::SendArm::new($crate::__private::Of::of(sender), value);
                $crate::select!(@arms [$($arms)*] $default [$($made)* arm] [$($done)* (arm $p, $b)])
            }
        }
    };
    (@arms [] [] [$($arm:ident)*] [$($done:tt)*]) => {{
        let done = $crate::channel::run_select(&mut [$(&mut $arm),*], &$crate::channel::Until::Ready);
        $crate::select!(@bodies done [$($done)*] [0] { ::std::unreachable!() })
    }};
    (@arms [] [() $b:expr] [$($arm:ident)*] [$($done:tt)*]) => {{
        let done = $crate::channel::run_select(&mut [$(&mut $arm),*], &$crate::channel::Until::Now);
        $crate::select!(@bodies done [$($done)*] [0] $b)
    }};
    (@arms [] [($t:expr) $b:expr] [$($arm:ident)*] [$($done:tt)*]) => {{
        let until = $crate::channel::Until::after($t);
        let done = $crate::channel::run_select(&mut [$(&mut $arm),*], &until);
        $crate::select!(@bodies done [$($done)*] [0] $b)
    }};

    (@bodies $chosen:ident [] [$n:expr] $b:expr) => { $b };
    (@bodies $chosen:ident [($arm:ident $p:pat, $body:expr) $($rest:tt)*] [$n:expr] $b:expr) => {
        if $chosen == ::std::option::Option::Some($n) {
            let $p = $arm.take();
            $body
        } else {
            $crate::select!(@bodies $chosen [$($rest)*] [$n + 1] $b)
        }
    };

    ($($arms:tt)*) => { $crate::select!(@parse [] [] $($arms)*) };
}
