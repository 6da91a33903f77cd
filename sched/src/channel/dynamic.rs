//! Choosing among operations that are known at run time only. The steps are those of [`super::select`].
//!
//! *Nothing in the list points to a stack*: an arm lies in the heap, and so does the channel that it refers to. So it may be used
//! on stacks that move.
//!
//! *Which type an arm has* is forgotten in the list, and known again by its channel: whoever comes with an end of the very channel
//! that the arm refers to names the type of its values, since a channel has one.

use std::fmt;
use std::ptr;
use std::time::{Duration, Instant};

use morestack_asm::prologue_for;

use super::select::{Arm, RecvArm, SendArm, Until, run};
use super::{Chan, Receiver, RecvError, SendError, Sender, arm_room, check_room, check_room_for_arm};

/// A list of operations of which one is to be done: [`select!`](crate::select) where it is not known before how many there are.
///
/// ```
/// use morestack::channel::{Select, bounded};
///
/// let (senders, receivers): (Vec<_>, Vec<_>) = (0..5).map(|_| bounded(0)).unzip();
/// for (n, sender) in (0..).zip(senders) {
///     morestack::spawn(move || (0..10).for_each(|m| sender.send(10 * n + m).unwrap()));
/// }
/// let mut select = Select::new();
/// receivers.iter().for_each(|receiver| _ = select.recv(receiver));
/// let (mut sum, mut open) = (0, receivers.len());
/// while open > 0 {
///     let chosen = select.select();
///     let index = chosen.index();
///     match chosen.recv(&receivers[index]) {
///         Ok(n) => sum += n,
///         Err(_) => {
///             select.remove(index);
///             open -= 1;
///         }
///     }
/// }
/// assert_eq!(sum, (0..50).sum());
/// ```
#[derive(Default)]
pub struct Select<'a> {
    /// None: was removed.
    choices: Vec<Option<Choice<'a>>>,
    /// What the operations need of the stack.
    room: usize,
}

struct Choice<'a> {
    arm: Box<dyn Arm + 'a>,
    sends: bool,
}

impl<'a> Select<'a> {
    /// An empty list.
    pub fn new() -> Select<'a> {
        Select::default()
    }

    /// Adds receiving; returns its number. It stays in the list when it was chosen, also when it is by its senders being gone:
    /// [remove](Self::remove) it then.
    pub fn recv<T>(&mut self, receiver: &'a Receiver<T>) -> usize {
        check_room_for_arm::<T>();
        self.add::<T>(Box::new(RecvArm::with(receiver)), false)
    }

    /// Adds sending `value`; returns its number. When it was chosen it is in the list no more.
    pub fn send<T>(&mut self, sender: &'a Sender<T>, value: T) -> usize {
        check_room_for_arm::<T>();
        self.add::<T>(Box::new(SendArm::with(sender, value)), true)
    }

    fn add<T>(&mut self, arm: Box<dyn Arm + 'a>, sends: bool) -> usize {
        self.room = self.room.max(arm_room::<T>());
        self.choices.push(Some(Choice { arm, sends }));
        self.choices.len() - 1
    }

    /// Removes an operation; what it was to send is dropped. The others keep their numbers.
    ///
    /// # Panics
    ///
    /// If there is none of this number.
    pub fn remove(&mut self, index: usize) {
        let removed = self.choices.get_mut(index).and_then(Option::take);
        assert!(removed.is_some(), "no operation of this number in the list");
    }

    /// Waits until one of the operations can be done, and does it; if several can, one of them at random.
    ///
    /// In a destructor during a panic it blocks the worker, as [`park`](crate::park()) does.
    ///
    /// # Panics
    ///
    /// If the list is empty.
    pub fn select(&mut self) -> Selected<'_, 'a> {
        self.run(&Until::Ready).expect("it waits until one is done")
    }

    /// The same; none if no operation can be done at once.
    ///
    /// # Panics
    ///
    /// As [`select`](Self::select).
    ///
    /// ```
    /// use morestack::channel::{Select, bounded};
    /// let (sender, receiver) = bounded(1);
    /// let mut select = Select::new();
    /// let sends = select.send(&sender, 7);
    /// let receives = select.recv(&receiver);
    /// let chosen = select.try_select().unwrap();
    /// assert_eq!(chosen.index(), sends);
    /// chosen.send(&sender).unwrap();
    /// let chosen = select.try_select().unwrap();
    /// assert_eq!(chosen.index(), receives);
    /// assert_eq!(chosen.recv(&receiver), Ok(7));
    /// assert!(select.try_select().is_none());
    /// ```
    pub fn try_select(&mut self) -> Option<Selected<'_, 'a>> {
        self.run(&Until::Now)
    }

    /// The same; none if no operation could be done for `timeout`.
    ///
    /// # Panics
    ///
    /// As [`select`](Self::select).
    pub fn select_timeout(&mut self, timeout: Duration) -> Option<Selected<'_, 'a>> {
        self.run(&Until::after(timeout))
    }

    /// The same; none if no operation could be done until `deadline`.
    ///
    /// # Panics
    ///
    /// As [`select`](Self::select).
    pub fn select_deadline(&mut self, deadline: Instant) -> Option<Selected<'_, 'a>> {
        self.run(&Until::At(deadline))
    }

    fn run(&mut self, until: &Until) -> Option<Selected<'_, 'a>> {
        prologue_for(self.room);
        let there = self.choices.iter_mut().enumerate().filter_map(|(index, choice)| Some((index, choice.as_mut()?)));
        let (indices, mut arms): (Vec<usize>, Vec<&mut dyn Arm>) =
            there.map(|(index, choice)| (index, &mut *choice.arm as &mut dyn Arm)).unzip();
        assert!(!arms.is_empty(), "no operations to choose among");
        let index = indices[run(&mut arms, until)?];
        Some(Selected { choice: &mut self.choices[index], index })
    }
}

impl fmt::Debug for Select<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Select").field("operations", &self.choices.iter().flatten().count()).finish()
    }
}

/// The operation of a [`Select`] that was done. What it received is dropped if it is not asked for.
#[must_use = "what was received is lost"]
pub struct Selected<'s, 'a> {
    choice: &'s mut Option<Choice<'a>>,
    index: usize,
}

impl<'a> Selected<'_, 'a> {
    /// Its number.
    pub fn index(&self) -> usize {
        self.index
    }

    /// What it received.
    ///
    /// # Errors
    ///
    /// The channel is empty and all senders are gone.
    ///
    /// # Panics
    ///
    /// If it did not receive from this channel.
    pub fn recv<T>(mut self, receiver: &Receiver<T>) -> Result<T, RecvError> {
        check_room::<T>();
        let arm = self.arm(&receiver.chan, false);
        // SAFETY: an arm that receives from this channel.
        unsafe { &mut *arm.cast::<RecvArm<'_, T>>() }.take()
    }

    /// What became of sending.
    ///
    /// # Errors
    ///
    /// All receivers are gone; the value comes back.
    ///
    /// # Panics
    ///
    /// If it did not send to this channel.
    pub fn send<T>(mut self, sender: &Sender<T>) -> Result<(), SendError<T>> {
        check_room::<T>();
        let arm = self.arm(&sender.chan, true);
        // SAFETY: an arm that sends to this channel.
        unsafe { &mut *arm.cast::<SendArm<'_, T>>() }.take()
    }

    /// Its arm, which is of this kind and of this channel.
    fn arm<T>(&mut self, chan: &Chan<T>, sends: bool) -> *mut (dyn Arm + 'a) {
        let choice = self.choice.as_mut().expect("it is in the list until this is dropped");
        // SAFETY: only looked at, for its address.
        let lock = unsafe { chan.state.raw() };
        // The arm keeps its channel borrowed: another has another address.
        assert!(choice.sends == sends && ptr::eq(choice.arm.lock(), lock), "not the operation that was chosen");
        &raw mut *choice.arm
    }
}

impl Drop for Selected<'_, '_> {
    fn drop(&mut self) {
        // Its value is gone.
        self.choice.take_if(|choice| choice.sends);
    }
}

impl fmt::Debug for Selected<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Selected").field("index", &self.index).finish_non_exhaustive()
    }
}
