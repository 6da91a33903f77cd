//! Arrays on the stack, slices of them, and iterators over them that live across calls.

use std::hint::black_box;

use morestack::{checkpoint, prologue};

use crate::differential::node::{Kind, Node, call};
use crate::differential::state::{Early, Env, Outcome, mix, mix_all};

pub(super) const KINDS: &[Kind] = &[
    Kind::new("array-1", array::<1>, (1, 2), 1),
    Kind::new("array-7", array::<7>, (1, 2), 2),
    Kind::new("array-32", array::<32>, (1, 2), 2),
    Kind::new("array-150", array::<150>, (1, 2), 2),
    Kind::new("split", split, (1, 3), 3),
    Kind::new("each", each, (1, 2), 3),
    Kind::new("chunks", chunks, (1, 2), 3),
    Kind::new("zip", zip, (1, 2), 3),
    Kind::new("adaptors", adaptors, (1, 2), 3),
    Kind::new("matrix", matrix, (1, 3), 3),
    Kind::new("try-fold", try_fold, (1, 3), 3),
    Kind::new("sort", sort, (0, 0), 2),
    Kind::new("sort-stable", sort_stable, (0, 0), 2),
    Kind::new("stepping", stepping, (1, 2), 3),
];

fn filled<const N: usize>(number: u64) -> [u64; N] {
    std::array::from_fn(|index| number.wrapping_mul(2 * index as u64 + 1))
}

#[prologue]
fn array<const N: usize>(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut array = filled::<N>(node.number);
    let value = node.child(0, &mut env.far(&mut array))?;
    array[N / 2] ^= value;
    let from = node.pick(0, N as u64) as usize;
    let value = mix(value, node.child(1, &mut env.far(&mut array[from..]))?);
    Ok(mix_all(value, &array))
}

/// Two halves of what an ancestor lent, at the same time.
#[prologue]
fn split(node: &Node, env: &mut Env<'_>) -> Outcome {
    if env.far.len() < 2 {
        return node.child(0, env);
    }
    let at = 1 + node.pick(0, env.far.len() as u64 - 1) as usize;
    let (left, right) = env.far.split_at_mut(at);
    let mut value = 0;
    for turn in 0..node.children.len() {
        let (here, there) = if turn % 2 == 0 { (&mut *left, &mut *right) } else { (&mut *right, &mut *left) };
        let mut inner = Env { run: env.run, near: &mut there[0], far: here, object: env.object, chain: env.chain };
        value = mix(value, node.child(turn, &mut inner)?);
        here[0] = mix(here[0], there[there.len() - 1]);
    }
    Ok(mix(mix_all(value, left), right[0]))
}

#[prologue]
fn each(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut array = filled::<5>(node.number);
    let mut value = 0;
    for (index, word) in array.iter_mut().enumerate() {
        value = mix(value, node.child(index, &mut env.near(word))?);
    }
    Ok(mix_all(value, &array))
}

#[prologue]
fn chunks(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut array = filled::<22>(node.number);
    let mut value = 0;
    let size = 4 + node.pick(0, 5) as usize;
    for (index, chunk) in array.chunks_mut(size).rev().enumerate() {
        value = mix(value, node.child(index, &mut env.far(chunk))?);
        checkpoint();
        chunk.reverse();
    }
    Ok(mix_all(value, &array))
}

#[prologue]
fn zip(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut left = filled::<6>(node.number);
    let right = filled::<9>(!node.number);
    let mut value = 0;
    for (word, window) in left.iter_mut().zip(right.windows(3).rev()).skip(1).step_by(2) {
        value = mix(value, node.child(0, &mut env.near(word))?);
        *word = mix_all(*word, window);
    }
    let mut ends = left.iter_mut();
    while let (Some(first), Some(last)) = (ends.next(), ends.next_back()) {
        value = mix(value, node.child(1, &mut env.near(first))?);
        std::mem::swap(first, last);
    }
    Ok(mix_all(mix_all(value, &left), &right))
}

#[prologue]
fn adaptors(node: &Node, env: &mut Env<'_>) -> Outcome {
    let array = filled::<12>(node.number);
    let mut seen = 0;
    let mut iterator = array
        .iter()
        .chain(&array[3..7])
        .filter(|word| **word % 3 != 0)
        .inspect(|_| seen += 1)
        .map(|word| {
            checkpoint();
            word.rotate_left(3)
        })
        .peekable();
    let mut value = 0;
    while let Some(word) = iterator.next() {
        value = mix(value, word);
        if word % 4 == 0 {
            value = mix(value, node.child(value as usize % 2, env)?);
        }
        if let Some(next) = iterator.peek() {
            value ^= *next;
        }
    }
    drop(iterator);
    Ok(mix(value, seen))
}

#[prologue]
fn matrix(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut rows = [filled::<6>(node.number), filled::<6>(1), filled::<6>(2), filled::<6>(3)];
    let mut value = 0;
    let pairs = rows.iter_mut().enumerate().map(|(index, row)| (index, row.split_first_mut().expect("not empty")));
    for (index, (near, far)) in pairs {
        value = mix(value, node.child(index, &mut env.near(near).far(far))?);
    }
    for column in 0..6 {
        value = rows.iter().map(|row| row[column]).fold(value, mix);
    }
    Ok(value)
}

/// Calls children out of a closure out of an iterator.
#[prologue]
fn try_fold(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut calls = 0;
    let mut locals = filled::<3>(node.number);
    let sum = node.children.iter().zip(&mut locals).try_fold(0, |sum, (child, local)| {
        calls += 1;
        Ok::<u64, Early>(mix(sum, call(child, &mut env.near(local))?))
    })?;
    let sums: Result<u64, Early> = node.children.iter().map(|child| Ok(call(child, env)? >> 8)).sum();
    Ok(mix_all(mix(sum, sums?), &locals) ^ calls)
}

/// std's sort has pointers into the array in its frames while it compares.
#[prologue]
fn sort(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut array = filled::<30>(node.number);
    let mut compared = 0;
    let near = &mut *env.near;
    array.sort_unstable_by(|a, b| {
        compared += 1;
        if compared % 4 == 0 {
            checkpoint();
            *near = mix(*near, *a);
        }
        a.cmp(b)
    });
    Ok(mix_all(compared, &array))
}

#[prologue]
fn sort_stable(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut array = filled::<26>(node.number);
    let object = &mut *env.object;
    let mut compared = 0;
    array.sort_by_key(|word| {
        compared += 1;
        if compared % 8 == 0 {
            object.call(*word);
        }
        word & 0xff
    });
    Ok(mix_all(compared, &array))
}

/// A position in an array that an ancestor lent, kept as a subslice that gets shorter.
#[prologue]
fn stepping(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut array = filled::<10>(node.number);
    let mut rest = black_box(&mut array[..]);
    let mut value = 0;
    while let Some((first, others)) = rest.split_first_mut() {
        value = mix(value, node.child(value as usize % 2, &mut env.near(first))?);
        let skip = (1 + value as usize % 4).min(others.len());
        rest = &mut others[skip..];
    }
    Ok(mix_all(value, &array))
}
