//! Values go around through channels: to an OS thread and back, from and to locals at any depth of a recursion.
//!
//! The slots that the other side writes to and reads from are locals, on a stack that may be moved, shrunk or packed while
//! it does so.

use std::thread;
use std::time::Duration;

use morestack::channel::{Receiver, Sender, bounded};
use morestack::prologue;

use super::Size;

/// Levels of the recursion; each waits twice.
const LEVELS: u64 = 12;

/// Twice what the default for long is, and some.
const LONG: Duration = Duration::from_millis(250);

/// More than a register, and more than a cache line.
type Value = [u64; 12];

struct Ends<'a> {
    to: &'a Sender<Value>,
    from: &'a Receiver<Value>,
}

#[prologue]
fn around(ends: &Ends<'_>, value: &mut Value) {
    let sent = *value;
    ends.to.send(sent).expect("the other side lives");
    let got = ends.from.recv().expect("the other side lives");
    for (mine, (sent, got)) in value.iter_mut().zip(sent.iter().zip(&got)) {
        *mine = mine.rotate_left(7) ^ sent ^ got;
    }
}

#[prologue]
fn level(n: u64, ends: &Ends<'_>, above: &mut Value) {
    let mut mine = above.map(|word| word.wrapping_add(n));
    around(ends, &mut mine);
    if n > 0 {
        level(n - 1, ends, &mut mine);
    }
    around(ends, above);
    above.iter_mut().zip(mine).for_each(|(above, mine)| *above = above.wrapping_mul(31) ^ mine);
}

/// The other side: changes what it gets.
#[inline(never)]
fn other_side(capacity: usize) -> (Sender<Value>, Receiver<Value>) {
    let (to, inbox) = bounded::<Value>(capacity);
    let (outbox, from) = bounded(capacity);
    thread::spawn(move || {
        for mut value in inbox {
            value.reverse();
            value[3] ^= 0x5555;
            if outbox.send(value).is_err() {
                break;
            }
        }
    });
    (to, from)
}

pub(super) fn run(size: Size) -> String {
    let mut value = [1; 12];
    for round in 0..size.pick(300, 20) {
        let (to, from) = other_side(round % 2);
        level(LEVELS, &Ends { to: &to, from: &from }, &mut value);
    }
    // As long as it takes to be found waiting for long.
    morestack::sleep(LONG);
    format!("{value:x?}")
}
