//! Destructors that use references to other frames, log that they ran, and call what moves and waits.

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::thread::panicking;

use morestack::{checkpoint, prologue};

use super::waits;
use crate::differential::node::{Kind, Node};
use crate::differential::state::{Env, Outcome, Run, mix};

pub(super) const KINDS: &[Kind] = &[
    Kind::new("guard", guard, (1, 2), 5),
    Kind::new("guards", guards, (1, 3), 4),
    Kind::new("guard-bare", guard_bare, (1, 2), 3).unchecked(),
    Kind::new("guard-array", guard_array, (1, 2), 3),
    Kind::new("finally", finally, (2, 3), 4),
];

/// A local with a destructor.
pub(super) struct Guard<'a> {
    pub(super) run: &'a Run,
    pub(super) name: u64,
    pub(super) cell: &'a Cell<u64>,
}

impl Drop for Guard<'_> {
    /// Little: during a panic the stack does not grow.
    #[prologue]
    fn drop(&mut self) {
        self.cell.set(mix(self.cell.get(), self.name));
        self.run.log_drop(self.name);
        match self.name % 16 {
            0 => morestack::yield_now(),
            1 => checkpoint(),
            2 => waits::token(),
            3 => self.name ^= sum_to(5),
            4 if self.name.is_multiple_of(64) => waits::parked(),
            _ => {}
        }
        self.run.log_drop(mix(self.cell.get(), self.name));
    }
}

#[inline(never)]
#[prologue]
fn sum_to(n: u64) -> u64 {
    if n == 0 { 0 } else { std::hint::black_box(sum_to(n - 1)) + n }
}

#[prologue]
fn guard(node: &Node, env: &mut Env<'_>) -> Outcome {
    let cell = Cell::new(node.number);
    let value = {
        let _guard = Guard { run: env.run, name: node.number, cell: &cell };
        node.child(0, env)?
    };
    Ok(mix(mix(value, cell.get()), node.child(1, env)?))
}

fn guard_bare(node: &Node, env: &mut Env<'_>) -> Outcome {
    let cell = Cell::new(node.number);
    let _guard = Guard { run: env.run, name: node.number, cell: &env.chain.cell };
    let value = node.child(0, env)?;
    let _second = Guard { run: env.run, name: value, cell: &cell };
    node.child(1, env)
}

/// Some that are dropped early, some late, one taken out of an option, one never.
#[prologue]
fn guards(node: &Node, env: &mut Env<'_>) -> Outcome {
    let cells = [Cell::new(1), Cell::new(2)];
    let run = env.run;
    let new = |name: u64, cell| Guard { run, name: mix(node.number, name), cell };
    let value = {
        let first = new(1, &cells[0]);
        let mut second = Some(new(2, &cells[1]));
        let _kept = ManuallyDrop::new(new(3, &cells[0]));
        let value = node.child(0, env)?;
        drop(first);
        let taken = if value.is_multiple_of(2) { second.take() } else { None };
        let value = mix(value, node.child(1, env)?);
        drop(taken);
        // The old value is dropped before the call, the new one after.
        second = Some(new(4, &cells[0]));
        let value = mix(value, node.child(2, env)?);
        mix(value, second.as_ref().map_or(0, |guard| guard.cell.get()))
    };
    Ok(mix(mix(value, cells[0].get()), cells[1].get()))
}

/// An array of them is dropped in order; an iterator by value drops what it has not given.
#[prologue]
fn guard_array(node: &Node, env: &mut Env<'_>) -> Outcome {
    let cell = Cell::new(node.number);
    let run = env.run;
    let array: [Guard<'_>; 4] = std::array::from_fn(|name| Guard { run, name: name as u64 * 5, cell: &cell });
    let mut value = 0;
    for (index, guard) in array.into_iter().enumerate() {
        value = mix(value, node.child(index, env)?);
        value ^= guard.cell.get();
        if value.is_multiple_of(3) {
            break;
        }
    }
    Ok(mix(value, cell.get()))
}

/// A destructor that runs a child, unless there is a panic.
struct Finally<'a, 'b> {
    node: &'a Node,
    env: &'a mut Env<'b>,
    value: &'a Cell<u64>,
}

impl Drop for Finally<'_, '_> {
    #[prologue]
    fn drop(&mut self) {
        self.env.run.log_drop(self.node.number);
        if !panicking()
            && let Ok(value) = self.node.child(1, self.env)
        {
            self.value.set(mix(self.value.get(), value));
        }
        self.env.run.log_drop(self.value.get());
    }
}

#[prologue]
fn finally(node: &Node, env: &mut Env<'_>) -> Outcome {
    let value = Cell::new(node.number);
    let below = {
        let finally = Finally { node, env, value: &value };
        let below = node.child(0, finally.env)?;
        value.set(mix(value.get(), below));
        below
    };
    Ok(mix(below, value.get()))
}
