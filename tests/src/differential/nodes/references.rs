//! References to locals: one, several, in arrays, in enums, to references.

use std::cell::Cell;

use morestack::{checkpoint, prologue};

use crate::differential::node::{Kind, Node, call};
use crate::differential::state::{Early, Env, Link, Object, Outcome, mix, mix_all};

pub(super) const KINDS: &[Kind] = &[
    Kind::new("sequence", sequence, (1, 4), 4),
    Kind::new("bare-sequence", sequence_bare, (1, 3), 2).unchecked(),
    Kind::new("local", local, (1, 2), 4),
    Kind::new("pair", pair, (1, 3), 3),
    Kind::new("array-of-references", array_of_references, (1, 3), 3),
    Kind::new("cells", cells, (1, 2), 3),
    Kind::new("link", link, (1, 2), 6),
    Kind::new("one-of", one_of, (1, 2), 3),
    Kind::new("twice", twice, (1, 2), 3),
    Kind::new("swap", swap, (1, 2), 2),
    Kind::new("many", many, (1, 2), 3),
    Kind::new("by-value", by_value, (1, 2), 3),
    Kind::new("attempt", attempt, (1, 3), 4),
    Kind::new("slots", slots, (1, 3), 2),
];

#[prologue]
fn sequence(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut value = node.number;
    for child in &node.children {
        value = mix(value, call(child, env)?);
    }
    Ok(value)
}

fn sequence_bare(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut local = [node.number, 1];
    for child in &node.children {
        local[1] = mix(local[1], call(child, &mut env.near(&mut local[0]))?);
    }
    Ok(mix_all(1, &local))
}

#[prologue]
fn local(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut local = node.number;
    let value = node.child(0, &mut env.near(&mut local))?;
    *env.near = mix(*env.near, local);
    let value = mix(value, node.child(1, &mut env.near(&mut local))?);
    Ok(mix(value, local))
}

#[prologue]
fn pair(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut locals = (node.number, [1, 2, 3], 4_u64);
    let (first, rest, last) = (&mut locals.0, &mut locals.1, &mut locals.2);
    let value = node.child(0, &mut env.near(first).far(rest))?;
    *last = mix(*last, *first);
    rest[0] ^= *last;
    let value = mix(value, node.child(1, &mut env.near(last).far(&mut rest[1..]))?);
    *first = mix(*first, value);
    Ok(mix_all(mix(locals.0, locals.2), &locals.1))
}

#[prologue]
fn array_of_references(node: &Node, env: &mut Env<'_>) -> Outcome {
    let (mut a, mut b, mut c) = (node.number, 2, 3);
    let mut value = 0;
    let run = env.run;
    {
        let near = &mut *env.near;
        let references = [&mut a, near, &mut b, &mut c];
        for (index, reference) in references.into_iter().enumerate() {
            let mut array = [index as u64; 4];
            let mut inner = Env { run, near: reference, far: &mut array, object: env.object, chain: env.chain };
            value = mix(value, node.child(index, &mut inner)?);
            value = mix_all(value, &array);
        }
    }
    Ok(mix_all(value, &[a, b, c, *env.near]))
}

#[prologue]
fn cells(node: &Node, env: &mut Env<'_>) -> Outcome {
    let cells: [Cell<u64>; 6] = std::array::from_fn(|index| Cell::new(node.number ^ index as u64));
    let mut shared: [&Cell<u64>; 6] = cells.each_ref();
    let start = node.pick(0, 6) as usize;
    shared.rotate_left(start);
    let value = node.child(0, env)?;
    for cell in shared {
        cell.set(mix(cell.get(), value));
        checkpoint();
    }
    shared.swap(0, 3);
    let value = mix(value, node.child(1, env)?);
    shared[0].set(mix(shared[1].get(), value));
    Ok(cells.iter().fold(value, |value, cell| mix(value, cell.get())))
}

#[prologue]
fn link(node: &Node, env: &mut Env<'_>) -> Outcome {
    let above = env.chain;
    let link = Link { above: Some(above), cell: Cell::new(node.number) };
    let value = node.child(0, &mut env.chain(&link))?;
    above.cell.set(mix(above.cell.get(), link.cell.get()));
    let value = mix(value, node.child(1, &mut env.chain(&link))?);
    Ok(mix(value, link.cell.get()))
}

/// One reference of several types.
enum OneOf<'a> {
    Word(&'a mut u64),
    Words(&'a mut [u64]),
    Object(&'a mut (dyn Object + 'a)),
    Nothing,
}

impl OneOf<'_> {
    #[inline(never)]
    #[prologue]
    fn change(&mut self, by: u64) -> u64 {
        match self {
            OneOf::Word(word) => {
                **word = mix(**word, by);
                **word
            }
            OneOf::Words(words) => words.iter_mut().fold(by, |sum, word| {
                *word = mix(*word, sum);
                *word
            }),
            OneOf::Object(object) => object.call(by),
            OneOf::Nothing => by,
        }
    }
}

#[prologue]
fn one_of(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut local = node.number;
    let mut words = [local; 5];
    let value = {
        let env = env.again();
        let mut one = match node.pick(0, 4) {
            0 => OneOf::Word(&mut local),
            1 => OneOf::Words(&mut words),
            2 => OneOf::Object(env.object),
            _ => OneOf::Nothing,
        };
        let changed = one.change(1);
        let mut inner = [changed; 3];
        let mut counter = crate::differential::state::Counter(changed);
        let mut inner_env =
            Env { run: env.run, near: env.near, far: &mut inner, object: &mut counter, chain: env.chain };
        let value = node.child(0, &mut inner_env)?;
        mix_all(one.change(value), &inner)
    };
    let value = mix(value, node.child(1, env)?);
    Ok(mix_all(mix(value, local), &words))
}

/// References to references, each in a local.
#[prologue]
fn twice(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut local = node.number;
    let mut other = 5;
    let mut value = 0;
    {
        let mut once = &mut local;
        let mut option = Some(&mut other);
        {
            let twice = &mut once;
            let thrice = &twice;
            value = mix(value, node.child(0, env)?);
            value = mix(value, ***thrice);
            **twice = mix(**twice, value);
        }
        value = mix(value, node.child(1, &mut env.near(once))?);
        if let Some(taken) = option.take() {
            *taken = mix(*taken, *once);
        }
    }
    Ok(mix_all(value, &[local, other]))
}

#[prologue]
fn swap(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut local = node.number;
    std::mem::swap(&mut local, env.near);
    let value = node.child(0, &mut env.near(&mut local))?;
    std::mem::swap(&mut local, env.near);
    let replaced = std::mem::replace(&mut env.far[0], value);
    let value = mix(replaced, node.child(1, env)?);
    Ok(mix(value, local))
}

/// More arguments than registers: some are passed on the stack.
#[prologue]
fn many(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut words = [node.number; 9];
    let [a, b, c, d, e, f, g, h, i] = words.each_mut();
    let value = nine(node, env, (a, b), c, d, e, f, 1 << 70, g, h, i)?;
    Ok(mix_all(value, &words))
}

#[expect(clippy::too_many_arguments, reason = "that is the point")]
#[inline(never)]
#[prologue]
fn nine(
    node: &Node,
    env: &mut Env<'_>,
    pair: (&mut u64, &mut u64),
    c: &mut u64,
    d: &mut u64,
    e: &mut u64,
    f: &mut u64,
    wide: u128,
    g: &mut u64,
    h: &mut u64,
    i: &mut u64,
) -> Outcome {
    *pair.0 = mix(*c, *i);
    let value = node.child(0, &mut env.near(pair.1))?;
    *g = mix(*g, *pair.1);
    let value = mix(value, node.child(1, &mut env.near(i))?);
    for (index, word) in [c, d, e, f, g, h, i].into_iter().enumerate() {
        *word = mix(*word, value.wrapping_add(index as u64));
    }
    Ok(value ^ (wide >> 64) as u64)
}

/// A result that is returned through a pointer to the caller's frame.
#[prologue]
fn by_value(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut words = made(node, 0, env)?;
    words[3] ^= node.number;
    let more = made(node, 1, env)?;
    Ok(mix_all(mix_all(1, &words), &more))
}

#[inline(never)]
#[prologue]
fn made(node: &Node, index: usize, env: &mut Env<'_>) -> Result<[u64; 24], Early> {
    let mut words = [node.number; 24];
    let value = node.child(index, &mut env.far(&mut words))?;
    words[(value % 24) as usize] = value;
    Ok(words)
}

/// Takes what left the frames below early.
#[prologue]
fn attempt(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut local = [node.number; 2];
    let mut value = 0;
    for index in 0..node.children.len() {
        let [near, kept] = &mut local;
        *kept = match node.child(index, &mut env.near(near)) {
            Ok(below) => mix(*kept, below),
            Err(early) => mix(mix(*kept, 99), early.value()),
        };
        value = mix(value, *kept);
    }
    Ok(mix_all(value, &local))
}

/// Optional references in an array, taken out one by one.
#[prologue]
fn slots(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut locals = [node.number, 2, 3, 4, 5];
    let mut value = 0;
    {
        let mut slots: [Option<&mut u64>; 5] = locals.each_mut().map(Some);
        for turn in 0..3 {
            let at = node.pick(turn, 5) as usize;
            let taken = slots[at].take();
            value = mix(value, node.child(turn as usize, env)?);
            if let Some(taken) = taken {
                value = mix(value, node.child(turn as usize, &mut env.near(taken))?);
            }
        }
        for slot in slots.into_iter().flatten() {
            *slot = mix(*slot, value);
        }
    }
    Ok(mix_all(value, &locals))
}
