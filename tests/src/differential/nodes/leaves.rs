//! Nodes without children: they use what the frames above lent them.

use morestack::{checkpoint, prologue};

use crate::differential::node::{Kind, Node};
use crate::differential::state::{Early, Env, Outcome, mix};

pub(super) const KINDS: &[Kind] = &[
    Kind::new("constant", constant, (0, 0), 2).unchecked(),
    Kind::new("near", near, (0, 0), 4),
    Kind::new("far", far, (0, 0), 4),
    Kind::new("far-loop", far_loop, (0, 0), 2),
    Kind::new("call-object", call_object, (0, 0), 4),
    Kind::new("walk", walk, (0, 0), 4),
    Kind::new("early", early, (0, 0), 1).unchecked(),
];

/// Links that a walk visits. A chain can be as long as the deepest recursion, and each visit is a move under stress.
const WALK: usize = 16;

fn constant(node: &Node, env: &mut Env<'_>) -> Outcome {
    env.far[0] ^= node.number;
    Ok(node.number)
}

#[prologue]
fn near(node: &Node, env: &mut Env<'_>) -> Outcome {
    *env.near = mix(*env.near, node.number);
    checkpoint();
    *env.near = mix(*env.near, env.far[0]);
    Ok(*env.near)
}

/// No safepoint in the loops: these are the compiler's to vectorise.
#[prologue]
fn far(node: &Node, env: &mut Env<'_>) -> Outcome {
    for word in env.far.iter_mut() {
        *word = word.wrapping_add(node.number).rotate_left(7);
    }
    checkpoint();
    Ok(env.far.iter().fold(0, |sum, word| sum ^ word))
}

/// A safepoint in the loop: its pointers live across it.
#[prologue]
fn far_loop(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut sum = node.number;
    for (index, word) in env.far.iter_mut().enumerate().take(12) {
        checkpoint();
        *word = mix(*word, index as u64);
        sum = mix(sum, *word);
    }
    Ok(sum)
}

#[prologue]
fn call_object(node: &Node, env: &mut Env<'_>) -> Outcome {
    let first = env.object.call(node.number);
    let second = env.object.call(*env.near);
    Ok(mix(first, second) ^ env.object.peek())
}

#[prologue]
fn walk(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut sum = node.number;
    let mut next = Some(env.chain);
    for _ in 0..WALK {
        let Some(link) = next else { break };
        checkpoint();
        link.cell.set(mix(link.cell.get(), sum));
        sum = mix(sum, link.cell.get());
        next = link.above;
    }
    Ok(sum)
}

fn early(node: &Node, env: &mut Env<'_>) -> Outcome {
    *env.near ^= node.number;
    match node.pick(0, 3) {
        0 => Err(Early::Number(node.number)),
        1 => Err(Early::Text(format!("early {}", node.number))),
        _ => Ok(node.number),
    }
}
