//! Panics: thrown in several ways, caught, thrown again, and caught in a destructor that runs because of another.

use std::cell::Cell;
use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};

use morestack::prologue;

use super::drops::Guard;
use crate::differential::execute::describe;
use crate::differential::node::{Kind, Node};
use crate::differential::state::{Env, Outcome, Run, mix, mix_all};

pub(super) const KINDS: &[Kind] = &[
    Kind::new("panic", panic, (0, 0), 2),
    Kind::new("panic-bare", panic_bare, (0, 0), 1).unchecked(),
    Kind::new("maybe-panic", maybe, (1, 2), 3),
    Kind::new("catch", catch, (1, 3), 6),
    Kind::new("rethrow", rethrow, (1, 2), 3),
    Kind::new("catch-in-drop", catch_in_drop, (1, 2), 3),
];

/// A payload with a destructor's worth of memory.
pub(in crate::differential) struct Thrown {
    text: String,
    numbers: Vec<u64>,
}

impl Thrown {
    /// What it says.
    pub(in crate::differential) fn value(&self) -> u64 {
        mix_all(self.text.len() as u64, &self.numbers)
    }
}

#[inline(never)]
fn throw(number: u64) -> u64 {
    match number % 7 {
        0 => panic_any(number),
        1 => panic!("number {number}"),
        2 => black_box([1, 2, 3])[black_box(3 + number as usize % 100)],
        3 => black_box(None).expect("a number"),
        4 => resume_unwind(Box::new(Thrown { text: format!("{number:x}"), numbers: vec![number; 3] })),
        5 => number / black_box(0),
        _ => resume_unwind(Box::new(number)),
    }
}

#[prologue]
fn panic(node: &Node, env: &mut Env<'_>) -> Outcome {
    *env.near ^= 1;
    Ok(throw(node.number))
}

fn panic_bare(node: &Node, env: &mut Env<'_>) -> Outcome {
    let _guard = Guard { run: env.run, name: node.number, cell: &env.chain.cell };
    Ok(throw(node.number))
}

/// Panics between two children, for some of their values.
#[prologue]
fn maybe(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut local = node.number;
    let value = node.child(0, &mut env.near(&mut local))?;
    if (value ^ local).is_multiple_of(4) {
        env.far[0] = mix(env.far[0], local);
        throw(value);
    }
    Ok(mix(local, node.child(1, env)?))
}

#[prologue]
fn catch(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut locals = [node.number; 3];
    let mut value = 0;
    for turn in 0..node.children.len() {
        let caught = catch_unwind(AssertUnwindSafe(|| node.child(turn, &mut env.far(&mut locals))));
        // What the frames below wrote to the locals before they were unwound is whole.
        value = mix_all(value, &locals);
        value = match caught {
            Ok(result) => mix(value, result?),
            Err(payload) => {
                env.run.panics.set(env.run.panics.get() + 1);
                mix(value, describe(&*payload))
            }
        };
    }
    Ok(value)
}

#[prologue]
fn rethrow(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut local = node.number;
    let cell = Cell::new(2);
    let guard = Guard { run: env.run, name: node.number, cell: &cell };
    let caught = catch_unwind(AssertUnwindSafe(|| node.child(0, &mut env.near(&mut local))));
    match caught {
        Ok(result) => Ok(mix(result?, local)),
        Err(payload) => {
            env.run.panics.set(env.run.panics.get() + 1);
            env.run.note(mix(local, describe(&*payload)));
            drop(guard);
            // Not while unwinding: the stack may move here, with the payload in a local.
            let value = node.child(1, env)?;
            if value.is_multiple_of(3) { Ok(value) } else { resume_unwind(payload) }
        }
    }
}

/// Throws and catches when it is dropped, be it because of a panic.
struct Catches<'a> {
    run: &'a Run,
    number: u64,
    seen: &'a mut u64,
}

impl Drop for Catches<'_> {
    #[prologue]
    fn drop(&mut self) {
        let (run, number) = (self.run, self.number);
        let seen = &mut *self.seen;
        let caught = catch_unwind(AssertUnwindSafe(|| {
            *seen = mix(*seen, number);
            let _guard = Guard { run, name: number, cell: &run.log };
            throw(number)
        }));
        let value = caught.unwrap_or_else(|payload| describe(&*payload));
        self.run.panics.set(self.run.panics.get() + 1);
        *self.seen = mix(*self.seen, value);
        self.run.log_drop(*self.seen);
    }
}

#[prologue]
fn catch_in_drop(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut seen = node.number;
    let value = {
        let _catches = Catches { run: env.run, number: node.number, seen: &mut seen };
        node.child(0, env)?
    };
    Ok(mix_all(seen, &[value, node.child(1, env)?]))
}
