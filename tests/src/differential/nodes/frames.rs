//! Frames of many sizes and alignments, and recursion of several shapes.

use std::cell::Cell;
use std::hint::black_box;

use morestack::prologue;

use crate::differential::node::{Kind, Node};
use crate::differential::state::{Env, Link, Outcome, mix, mix_all};

pub(super) const KINDS: &[Kind] = &[
    Kind::new("padded-3", padded::<3>, (1, 2), 2),
    Kind::new("padded-17", padded::<17>, (1, 2), 2),
    Kind::new("padded-64", padded::<64>, (1, 2), 2),
    Kind::new("padded-200", padded::<200>, (1, 2), 2),
    Kind::new("padded-bare", padded_bare, (1, 2), 2).unchecked(),
    Kind::new("align-16", aligned::<Align16>, (1, 2), 2),
    Kind::new("align-32", aligned::<Align32>, (1, 2), 2),
    Kind::new("align-64", aligned::<Align64>, (1, 2), 2),
    Kind::new("large-6k", large::<6>, (1, 2), 2).heavy(),
    Kind::new("large-24k", large::<24>, (1, 2), 2).heavy(),
    Kind::new("recursion", recursion, (1, 2), 2).heavy(),
    Kind::new("mutual", mutual, (1, 2), 2).heavy(),
    Kind::new("inlined", inlined, (1, 2), 3),
    Kind::new("extern-c", extern_c, (1, 2), 2),
];

/// A frame of some `N` words with references from both ends of it.
#[inline(always)]
fn body<const N: usize>(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut first = node.number;
    let mut padding = [node.number; N];
    let mut last = !node.number;
    black_box(&mut padding)[N - 1] = 1;
    let value = node.child(0, &mut env.near(&mut first))?;
    let value = mix(value, node.child(1, &mut env.near(&mut last))?);
    Ok(mix_all(mix_all(value, &padding), &[first, last]))
}

#[prologue]
fn padded<const N: usize>(node: &Node, env: &mut Env<'_>) -> Outcome {
    body::<N>(node, env)
}

fn padded_bare(node: &Node, env: &mut Env<'_>) -> Outcome {
    body::<40>(node, env)
}

/// Locals that the compiler aligns the frame for.
trait Aligned: Copy {
    fn new(number: u64) -> Self;
    fn words(&mut self) -> &mut [u64];
}

macro_rules! aligned {
    ($name:ident, $align:literal) => {
        #[derive(Clone, Copy)]
        #[repr(align($align))]
        struct $name([u64; 5]);

        impl Aligned for $name {
            fn new(number: u64) -> Self {
                $name([number; 5])
            }

            fn words(&mut self) -> &mut [u64] {
                &mut self.0
            }
        }
    };
}

aligned!(Align16, 16);
aligned!(Align32, 32);
aligned!(Align64, 64);

#[prologue]
fn aligned<A: Aligned>(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut local = node.number;
    let mut words = A::new(node.number);
    let value = node.child(0, &mut env.far(words.words()))?;
    // A copy between two aligned places is one of aligned moves.
    let mut copy = *black_box(&words);
    let value = mix(value, node.child(1, &mut env.near(&mut local).far(copy.words()))?);
    // The address goes through `black_box`: the compiler takes its remainder to be 0 otherwise.
    let off = |place: &A| black_box(std::ptr::from_ref(place).addr()) % align_of::<A>();
    let misaligned = off(&words) + off(&copy);
    let value = mix_all(mix_all(value, words.words()), copy.words());
    Ok(mix_all(value, &[local, misaligned as u64]))
}

/// Locals of `KIB` KiB. The check runs before the frame exists.
#[prologue(frame = 80 << 10)]
fn large<const KIB: usize>(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut array = [[node.number; 128]; KIB];
    let (middle, rest) = array.split_at_mut(KIB / 2);
    let value = node.child(0, &mut env.far(&mut rest[0][..9]).near(&mut middle[0][0]))?;
    rest[1][100] ^= value;
    let value = mix(value, node.child(1, env)?);
    // Every 16th row: all of them would take most of a program's time unoptimised.
    Ok(array.iter().step_by(5).fold(value, |value, row| mix_all(value, &row[96..104])) ^ array[0][0])
}

/// Levels of recursion: at the most some 60 KiB of frames optimised, thrice that unoptimised.
const LEVELS: u64 = 150;

#[prologue]
fn recursion(node: &Node, env: &mut Env<'_>) -> Outcome {
    let levels = 10 + node.pick(0, LEVELS);
    let value = descend(levels, node, env)?;
    Ok(mix(value, node.child(1, env)?))
}

/// Each level writes to the level above, and every fourth is a link of the chain.
#[inline(never)]
#[prologue]
fn descend(level: u64, node: &Node, env: &mut Env<'_>) -> Outcome {
    if level == 0 {
        return node.child(0, env);
    }
    let run = env.run;
    let _level = run.level();
    let mut local = level ^ node.number;
    let value = if level.is_multiple_of(4) {
        let link = Link { above: Some(env.chain), cell: Cell::new(level) };
        let value = descend(level - 1, node, &mut env.near(&mut local).chain(&link))?;
        mix(value, link.cell.get())
    } else {
        descend(level - 1, node, &mut env.near(&mut local))?
    };
    *env.near = mix(*env.near, local);
    Ok(mix(value, local))
}

#[prologue]
fn mutual(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut array = [node.number; 3];
    let levels = 8 + node.pick(0, LEVELS / 2);
    let value = odd(levels, node, &mut env.far(&mut array))?;
    let value = mix(value, node.child(1, env)?);
    Ok(mix_all(value, &array))
}

/// Marked, and calls one that is not.
#[inline(never)]
#[prologue]
fn odd(level: u64, node: &Node, env: &mut Env<'_>) -> Outcome {
    if level == 0 {
        return node.child(0, env);
    }
    let run = env.run;
    let _level = run.level();
    let mut array = [level; 4];
    let value = even(level - 1, node, &mut env.far(&mut array))?;
    env.far[0] = mix(env.far[0], array[0]);
    Ok(mix_all(value, &array))
}

/// Not marked, with a large frame, and calls one that is.
#[inline(never)]
fn even(level: u64, node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut padding = [level; 12];
    let value = odd(level.saturating_sub(1), node, &mut env.near(&mut padding[11]))?;
    Ok(mix_all(value, &padding))
}

#[inline(always)]
#[prologue]
fn inner(node: &Node, index: usize, env: &mut Env<'_>, local: &mut u64) -> Outcome {
    let mut mine = *local;
    let value = node.child(index, &mut env.near(&mut mine))?;
    *local = mix(*local, mine);
    Ok(value)
}

/// Several checks in one frame.
#[prologue]
fn inlined(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut local = node.number;
    let first = inner(node, 0, env, &mut local)?;
    let second = if first.is_multiple_of(2) { inner(node, 1, env, &mut local)? } else { first };
    Ok(mix_all(first, &[second, local]))
}

/// The C calling convention, and two results by pointer.
#[inline(never)]
#[prologue]
extern "C-unwind" fn foreign(node: &Node, env: &mut Env<'_>, value: &mut u64, early: &mut Outcome) {
    let mut local = *value;
    *early = node.child(0, &mut env.near(&mut local));
    *value = mix(*value, local);
}

#[prologue]
fn extern_c(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut value = node.number;
    let mut result = Ok(0);
    foreign(node, env, &mut value, &mut result);
    let below = result?;
    Ok(mix_all(below, &[value, node.child(1, env)?]))
}
