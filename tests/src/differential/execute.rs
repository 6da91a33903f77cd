//! A tree becomes a digest, on the thread that calls.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use morestack::prologue;

use super::node::{Node, call};
use super::nodes::Thrown;
use super::state::{Counter, Env, Link, Object, Run, mix, mix_all, mix_bytes};
use crate::on::On;

/// Nodes that a program may enter.
const FUEL: u64 = 200;

/// What a program computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    /// Of all nodes, of the locals at the root, and of the result or the last panic's payload.
    pub hash: u64,
    /// Of the destructors, in their order.
    pub log: u64,
    /// Destructors that ran.
    pub drops: u64,
    /// Panics caught.
    pub panics: u64,
    /// Nodes entered.
    pub nodes: u64,
    /// The most nodes and recursive calls that lay above each other.
    pub depth: u64,
}

/// Runs a program.
pub(super) fn execute(program: &Arc<Node>, on: On) -> Digest {
    execute_with(program, on, FUEL)
}

/// Runs a program that may enter `fuel` nodes.
#[inline(never)]
#[prologue]
pub(super) fn execute_with(program: &Arc<Node>, on: On, fuel: u64) -> Digest {
    let run = Run::new(on, fuel);
    let mut near = 1;
    let mut far = [2, 3, 4, 5, 6, 7, 8, 9];
    let mut object = Counter(10);
    let link = Link { above: None, cell: Cell::new(11) };
    let mut env = Env { run: &run, near: &mut near, far: &mut far, object: &mut object, chain: &link };
    let result = match catch_unwind(AssertUnwindSafe(|| call(program, &mut env))) {
        Ok(Ok(value)) => mix(1, value),
        Ok(Err(early)) => mix(2, early.value()),
        Err(payload) => {
            run.panics.set(run.panics.get() + 1);
            mix(3, describe(&*payload))
        }
    };
    let locals = mix_all(result, &[near, object.peek(), link.cell.get(), run.depth.get()]);
    Digest {
        hash: mix(run.hash.get(), mix_all(locals, &far)),
        log: run.log.get(),
        drops: run.drops.get(),
        panics: run.panics.get(),
        nodes: run.nodes.get(),
        depth: run.deepest.get(),
    }
}

/// What a panic's payload says.
pub(super) fn describe(payload: &(dyn Any + Send)) -> u64 {
    if let Some(number) = payload.downcast_ref::<u64>() {
        mix(1, *number)
    } else if let Some(text) = payload.downcast_ref::<String>() {
        mix_bytes(2, text.as_bytes())
    } else if let Some(text) = payload.downcast_ref::<&str>() {
        mix_bytes(3, text.as_bytes())
    } else if let Some(thrown) = payload.downcast_ref::<Thrown>() {
        thrown.value()
    } else {
        4
    }
}

/// Keeps the panics of nodes from being reported: they are part of the programs. Others are reported as before.
pub fn silence_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !info.location().is_some_and(|location| location.file().contains("differential/nodes")) {
            before(info);
        }
    }));
}
