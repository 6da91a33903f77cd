//! Trait objects on the stack, whose fields refer to locals of other frames.

use std::cell::Cell;

use morestack::{checkpoint, prologue};

use crate::differential::node::{Kind, Node};
use crate::differential::state::{Counter, Env, Object, Outcome, mix, mix_all};

pub(super) const KINDS: &[Kind] = &[
    Kind::new("adds", adds, (1, 2), 3),
    Kind::new("strides", strides, (1, 2), 3),
    Kind::new("wraps", wraps, (1, 2), 4),
    Kind::new("calls", calls, (1, 2), 3),
    Kind::new("objects", objects, (1, 3), 3),
];

/// Adds to a local.
struct Adds<'a> {
    to: &'a mut u64,
}

impl Object for Adds<'_> {
    #[prologue]
    fn call(&mut self, value: u64) -> u64 {
        *self.to = mix(*self.to, value);
        *self.to
    }

    fn peek(&self) -> u64 {
        *self.to
    }
}

/// Goes round in an array.
struct Strides<'a> {
    over: &'a mut [u64],
    at: usize,
}

impl Object for Strides<'_> {
    #[inline(never)]
    fn call(&mut self, value: u64) -> u64 {
        let slot = &mut self.over[self.at];
        checkpoint();
        *slot = mix(*slot, value);
        let found = *slot;
        self.at = (self.at + 1 + (value % 3) as usize) % self.over.len();
        found
    }

    fn peek(&self) -> u64 {
        mix_all(self.at as u64, self.over)
    }
}

/// Passes on to an object of a frame above.
struct Wraps<'a> {
    inner: &'a mut (dyn Object + 'a),
    calls: &'a Cell<u64>,
    last: u64,
}

impl Object for Wraps<'_> {
    #[prologue]
    fn call(&mut self, value: u64) -> u64 {
        self.calls.set(self.calls.get() + 1);
        let found = self.inner.call(value ^ self.last);
        self.last = mix(self.last, found);
        found
    }

    fn peek(&self) -> u64 {
        mix(self.last, self.inner.peek())
    }
}

/// A closure as an object.
struct Calls<F>(F);

impl<F: FnMut(u64) -> u64> Object for Calls<F> {
    #[prologue]
    fn call(&mut self, value: u64) -> u64 {
        (self.0)(value)
    }

    fn peek(&self) -> u64 {
        6
    }
}

#[prologue]
fn adds(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut local = node.number;
    let mut object = Adds { to: &mut local };
    let value = node.child(0, &mut env.object(&mut object))?;
    object.call(value);
    let value = mix(value, node.child(1, &mut env.object(&mut object))?);
    Ok(mix(value, local))
}

#[prologue]
fn strides(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut array = [node.number; 11];
    let mut object = Strides { over: &mut array, at: 3 };
    let value = node.child(0, &mut env.object(&mut object))?;
    object.call(value);
    let value = mix(value, node.child(1, &mut env.object(&mut object))?);
    let at = object.at as u64;
    Ok(mix_all(mix(value, at), &array))
}

#[prologue]
fn wraps(node: &Node, env: &mut Env<'_>) -> Outcome {
    let calls = Cell::new(0);
    let (value, last) = {
        let env = env.again();
        let mut object = Wraps { inner: env.object, calls: &calls, last: node.number };
        let mut inner = Env { run: env.run, near: env.near, far: env.far, object: &mut object, chain: env.chain };
        let value = node.child(0, &mut inner)?;
        let value = mix(value, node.child(1, &mut inner)?);
        (value, object.last)
    };
    Ok(mix_all(value, &[calls.get(), last]))
}

#[prologue]
fn calls(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut local = [node.number; 2];
    let [near, kept] = &mut local;
    let mut object = Calls(|value| {
        checkpoint();
        *kept = mix(*kept, value);
        *kept
    });
    let value = node.child(0, &mut env.near(near).object(&mut object))?;
    let value = mix(object.call(value), node.child(1, &mut env.object(&mut object))?);
    Ok(mix_all(value, &local))
}

/// Fat pointers of different types in an array.
#[prologue]
fn objects(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut local = node.number;
    let mut array = [2; 4];
    let mut counter = Counter(3);
    let mut value = 4;
    {
        let mut adds = Adds { to: &mut local };
        let mut strides = Strides { over: &mut array, at: 0 };
        let mut objects: [&mut dyn Object; 3] = [&mut adds, &mut counter, &mut strides];
        for turn in 0..3 {
            let object = &mut *objects[(value % 3) as usize];
            value = mix(value, node.child(turn, &mut env.object(object))?);
            value = objects.iter_mut().fold(value, |value, object| mix(value, object.call(value)));
            objects.rotate_left(1);
        }
    }
    Ok(mix_all(mix(value, counter.peek()) ^ local, &array))
}
