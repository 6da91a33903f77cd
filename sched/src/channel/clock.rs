//! Channels that the clock sends into: no thread and no timer is behind them.
//!
//! Such a channel knows when its next value is due. Who receives takes that value if the time has come; who waits does so
//! until then, by its own timer, and tries again. So one that nobody waits for costs nothing.

use std::time::{Duration, Instant};

use super::ends::Counted;
use super::{Chan, Receiver};

/// What sends in place of a sender.
pub(super) struct Clock<T> {
    /// When the next value is due; none: never.
    due: Option<Instant>,
    period: Option<Duration>,
    value: fn(Instant) -> T,
}

impl<T> Clock<T> {
    /// When who waits should look again.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    pub(super) fn is_due(&self) -> bool {
        self.due.is_some_and(|due| due <= Instant::now())
    }

    /// The value that is due.
    pub(super) fn take(&mut self) -> Option<T> {
        let (due, now) = (self.due?, Instant::now());
        if due > now {
            return None;
        }
        self.due = self.period.and_then(|period| next(due, period, now));
        Some((self.value)(due))
    }
}

/// The first after `now` of the instants that are multiples of `period` from `due` on.
fn next(due: Instant, period: Duration, now: Instant) -> Option<Instant> {
    let late = now.saturating_duration_since(due).as_nanos();
    let into = Duration::from_nanos_u128(late % period.as_nanos());
    now.checked_add(period - into)
}

fn receiver<T>(clock: Option<Clock<T>>) -> Receiver<T> {
    Receiver { chan: Counted::first(Chan::new(Some(usize::from(clock.is_some())), clock)) }
}

/// A channel that has one value, the present time, after `duration`, and then nothing more, ever.
///
/// ```
/// use morestack::channel::{after, bounded, select};
/// use std::time::Duration;
///
/// let (_sender, receiver) = bounded::<u32>(0);
/// let timeout = after(Duration::from_millis(1));
/// select! {
///     recv(receiver) -> _ => unreachable!(),
///     recv(timeout) -> _ => {}
/// }
/// ```
pub fn after(duration: Duration) -> Receiver<Instant> {
    match Instant::now().checked_add(duration) {
        Some(when) => at(when),
        // Further than the clock reaches.
        None => never(),
    }
}

/// A channel that has one value, the time, at `when`, and then nothing more, ever.
pub fn at(when: Instant) -> Receiver<Instant> {
    receiver(Some(Clock { due: Some(when), period: None, value: |due| due }))
}

/// A channel that has a value every `period`, the time at which it was due. Values do not add up: the one that is there when
/// others become due is the only one, and the next comes at a multiple of `period`.
///
/// A period of 0 is taken for a nanosecond.
///
/// ```
/// use std::time::{Duration, Instant};
/// let start = Instant::now();
/// let ticks = morestack::channel::tick(Duration::from_millis(1));
/// assert_eq!(ticks.iter().take(3).count(), 3);
/// assert!(start.elapsed() >= Duration::from_millis(3));
/// ```
pub fn tick(period: Duration) -> Receiver<Instant> {
    let period = period.max(Duration::from_nanos(1));
    match Instant::now().checked_add(period) {
        Some(when) => receiver(Some(Clock { due: Some(when), period: Some(period), value: |due| due })),
        None => never(),
    }
}

/// A channel that never has anything, and does not end: a `select!` arm that is switched off.
///
/// ```
/// use morestack::channel::{TryRecvError, never};
/// assert_eq!(never::<u32>().try_recv(), Err(TryRecvError::Empty));
/// ```
pub fn never<T>() -> Receiver<T> {
    receiver(None)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_was_missed_is_left_out() {
        let (due, period) = (Instant::now(), Duration::from_millis(10));
        let in_ms = |ms| due + Duration::from_millis(ms);
        for (now, expected) in [(0, 10), (1, 10), (10, 20), (19, 20), (95, 100)] {
            assert_eq!(next(due, period, in_ms(now)), Some(in_ms(expected)), "{now}");
        }
    }
}
