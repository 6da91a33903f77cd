//! Closures that capture references to locals: generic, behind a vtable, returned, one in another.

use morestack::{checkpoint, prologue};

use crate::differential::node::{Kind, Node};
use crate::differential::state::{Env, Outcome, mix, mix_all};

pub(super) const KINDS: &[Kind] = &[
    Kind::new("closure", closure, (1, 3), 4),
    Kind::new("dyn-closure", dyn_closure, (1, 3), 4),
    Kind::new("nested-closures", nested, (1, 2), 3),
    Kind::new("returned-closure", returned, (1, 2), 3),
    Kind::new("closure-table", table, (1, 2), 2),
];

#[inline(never)]
#[prologue]
fn apply<R>(value: u64, mut f: impl FnMut(u64) -> R) -> R {
    f(value)
}

#[inline(never)]
fn apply_dyn(value: u64, f: &mut dyn FnMut(u64) -> Outcome) -> Outcome {
    let first = f(value)?;
    f(first)
}

#[prologue]
fn closure(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut local = node.number;
    let mut count = 0;
    let value = apply(3, |value| {
        count += 1;
        local = mix(local, value);
        node.child(0, &mut env.near(&mut local))
    })?;
    let value = apply(value, |value| {
        checkpoint();
        local ^= value;
        node.child(1, env)
    })?;
    Ok(mix_all(value, &[local, count]))
}

#[prologue]
fn dyn_closure(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut local = [node.number; 3];
    let mut turn = 0;
    let value = apply_dyn(1, &mut |value| {
        turn += 1;
        local[turn % 3] = mix(local[0], value);
        let value = node.child(turn, &mut env.far(&mut local))?;
        local[1] ^= value;
        Ok(value)
    })?;
    Ok(mix_all(value, &local))
}

#[prologue]
fn nested(node: &Node, env: &mut Env<'_>) -> Outcome {
    let (mut outer_local, mut inner_local) = (node.number, 1);
    let mut outer = |value: u64| {
        let mut inner = |value: u64| {
            inner_local = mix(inner_local, value);
            outer_local = mix(outer_local, inner_local);
            node.child(0, &mut env.near(&mut outer_local))
        };
        let first = apply(value, &mut inner)?;
        apply_dyn(first, &mut inner)
    };
    let value = apply(5, &mut outer)?;
    let value = mix(value, outer(value)?);
    let value = mix(value, node.child(1, env)?);
    Ok(mix_all(value, &[outer_local, inner_local]))
}

/// A closure with references that goes through frames by value.
#[inline(never)]
#[prologue]
fn adder<'a>(to: &'a mut u64, and: &'a mut [u64; 4], salt: u64) -> impl FnMut(u64) -> u64 + 'a {
    let mut calls = 0;
    move |value| {
        checkpoint();
        calls += 1;
        *to = mix(*to, value ^ salt);
        and[calls % 4] = mix(and[calls % 4], *to);
        *to
    }
}

#[prologue]
fn returned(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut local = node.number;
    let mut array = [1, 2, 3, 4];
    let value = {
        let mut add = adder(&mut local, &mut array, node.number);
        let first = add(node.child(0, env)?);
        let second = add(node.child(1, env)?);
        mix(first, add(second))
    };
    Ok(mix_all(mix(value, local), &array))
}

/// Fat pointers to closures in an array.
#[prologue]
fn table(node: &Node, env: &mut Env<'_>) -> Outcome {
    let (mut a, mut b) = (node.number, 7);
    let mut value = 1;
    {
        let mut first = |x: u64| {
            a = mix(a, x);
            a
        };
        let mut second = |x: u64| {
            checkpoint();
            b = mix(b, x);
            b
        };
        let mut table: [&mut dyn FnMut(u64) -> u64; 2] = [&mut first, &mut second];
        for turn in 0..4 {
            value = mix(value, node.child(turn, env)?);
            value = mix(value, table[(value % 2) as usize](value));
        }
        table.reverse();
        value ^= table[0](value);
    }
    Ok(mix_all(value, &[a, b]))
}
