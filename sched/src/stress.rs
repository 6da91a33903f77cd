//! `MORESTACK_STRESS`: does at every prologue what otherwise happens now and then.
//!
//! | value | effect |
//! |---|---|
//! | `move` | the stack of a copying green thread is moved at every prologue, and shrunk, if it can be, whenever it waits |
//! | `preempt` | every green thread is preempted at every prologue |
//! | `freeze` | a copying green thread is frozen whenever it waits |
//! | `move,preempt` | several, with commas between |
//!
//! Together with `MORESTACK_EFENCE=1`, which makes every old stack inaccessible, this is how a program that uses
//! [`go`](crate::go) is tested.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use crate::g::G;

const MOVE: u8 = 1;
const PREEMPT: u8 = 2;
const FREEZE: u8 = 4;

/// Set once, before the first worker starts; read on every switch.
static MODE: AtomicU8 = AtomicU8::new(0);

/// Reads `value`; the error says what is allowed.
pub(crate) fn set(value: &str) -> Result<(), &'static str> {
    let mut mode = 0;
    for word in value.split(',').map(str::trim).filter(|w| !w.is_empty()) {
        mode |= match word {
            "move" => MOVE,
            "preempt" => PREEMPT,
            "freeze" => FREEZE,
            _ => return Err("move, preempt, freeze, or several with commas between"),
        };
    }
    MODE.store(mode, Relaxed);
    Ok(())
}

pub(crate) fn moves(g: &G) -> bool {
    MODE.load(Relaxed) & MOVE != 0 && g.moves()
}

pub(crate) fn preempts() -> bool {
    MODE.load(Relaxed) & PREEMPT != 0
}

/// Whether anything is done more often than it has to be.
pub(crate) fn is_on() -> bool {
    MODE.load(Relaxed) != 0
}

/// Whether copying green threads shrink whenever they wait.
pub(crate) fn shrinks() -> bool {
    MODE.load(Relaxed) & MOVE != 0
}

/// Whether copying green threads freeze whenever they wait.
pub(crate) fn freezes() -> bool {
    MODE.load(Relaxed) & FREEZE != 0
}

/// Whether `g` enters `newstack` at every prologue.
#[inline(always)]
pub(crate) fn every_prologue(g: &G) -> bool {
    MODE.load(Relaxed) != 0 && (preempts() || moves(g))
}
