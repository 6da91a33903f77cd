//! A node, and how its children are called.

use std::fmt;
use std::sync::Arc;

use morestack::prologue;

use super::state::{Env, Outcome};

/// What nodes of a kind are and do.
pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) run: fn(&Node, &mut Env<'_>) -> Outcome,
    /// The least and the most children. A kind that may have none needs none.
    pub(super) children: (usize, usize),
    /// How often it is chosen, relative to others.
    pub(super) weight: u32,
    /// Whether the function checks for room in its own frame or before it.
    pub(super) checked: bool,
    /// Whether it uses so much stack, or so many calls, that few of them may lie above each other.
    pub(super) heavy: bool,
}

impl Kind {
    /// A kind with a check of its own.
    pub(super) const fn new(
        name: &'static str,
        run: fn(&Node, &mut Env<'_>) -> Outcome,
        children: (usize, usize),
        weight: u32,
    ) -> Kind {
        Kind { name, run, children, weight, checked: true, heavy: false }
    }

    /// The function is not marked.
    pub(super) const fn unchecked(self) -> Kind {
        Kind { checked: false, ..self }
    }

    pub(super) const fn heavy(self) -> Kind {
        Kind { heavy: true, ..self }
    }
}

/// The functions between a node and its child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// A function that is marked.
    Marked,
    /// A function that is not.
    Bare,
    /// A marked function, inlined into the parent's.
    Inlined,
    /// A marked one, an unmarked one, and a marked one.
    Layers,
}

/// A node of a program.
pub struct Node {
    pub(super) kind: &'static Kind,
    pub(super) entry: Entry,
    /// The node's own random number: constants, lengths, choices.
    pub(super) number: u64,
    pub(super) children: Vec<Arc<Node>>,
}

impl Node {
    /// The value of a child. The children go round: a node may ask for more than it has.
    #[inline(always)]
    pub(super) fn child(&self, index: usize, env: &mut Env<'_>) -> Outcome {
        match self.children.len() {
            0 => Ok(self.number ^ *env.near),
            count => call(&self.children[index % count], env),
        }
    }

    /// A number below `limit`, out of the node's number; `digit` chooses which.
    pub(super) fn pick(&self, digit: u32, limit: u64) -> u64 {
        (self.number.rotate_right(digit * 11) & 0xffff) % limit
    }
}

/// The tree, a line for each node.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn lines(node: &Node, indent: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            writeln!(f, "{:indent$}{} {:?} {:#x}", "", node.kind.name, node.entry, node.number)?;
            node.children.iter().try_for_each(|child| lines(child, indent + 2, f))
        }
        lines(self, 0, f)
    }
}

/// Runs a node.
#[inline(always)]
pub(super) fn call(node: &Node, env: &mut Env<'_>) -> Outcome {
    match node.entry {
        Entry::Marked => marked(node, env),
        Entry::Bare => bare(node, env),
        Entry::Inlined => inlined(node, env),
        Entry::Layers => layers(node, env, node.number),
    }
}

#[inline(never)]
#[prologue]
fn marked(node: &Node, env: &mut Env<'_>) -> Outcome {
    enter(node, env)
}

#[inline(never)]
fn bare(node: &Node, env: &mut Env<'_>) -> Outcome {
    enter(node, env)
}

#[inline(always)]
#[prologue]
fn inlined(node: &Node, env: &mut Env<'_>) -> Outcome {
    enter(node, env)
}

#[inline(never)]
#[prologue]
fn layers(node: &Node, env: &mut Env<'_>, mut number: u64) -> Outcome {
    let value = between(node, env, &mut number)?;
    Ok(value ^ number)
}

#[inline(never)]
fn between(node: &Node, env: &mut Env<'_>, number: &mut u64) -> Outcome {
    let value = marked(node, env)?;
    *number = number.rotate_left(9);
    Ok(value)
}

/// What every entry does: counts, notes and calls the kind's function.
#[inline(always)]
fn enter(node: &Node, env: &mut Env<'_>) -> Outcome {
    let run = env.run;
    let Some(fuel) = run.fuel.get().checked_sub(1) else {
        return Ok(node.number);
    };
    run.fuel.set(fuel);
    run.nodes.set(run.nodes.get() + 1);
    let _level = run.level();
    let value = (node.kind.run)(node, env)?;
    run.note(value);
    Ok(value)
}
