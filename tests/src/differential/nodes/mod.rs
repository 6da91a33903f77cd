//! What nodes do: a function for each kind.
//!
//! A function uses `env` for the locals above it, gives its children references to its own, and at the end mixes its
//! locals, read directly, into what it returns.

mod arrays;
mod closures;
mod drops;
mod frames;
mod heap;
mod leaves;
mod lent;
mod objects;
mod panics;
mod references;
mod vectors;
mod waits;

pub(super) use panics::Thrown;

use super::node::Kind;

/// All kinds; with `lent` also those that the contract of `go` forbids.
pub(super) fn all(lent: bool) -> impl Iterator<Item = &'static Kind> {
    [
        leaves::KINDS,
        references::KINDS,
        arrays::KINDS,
        closures::KINDS,
        objects::KINDS,
        frames::KINDS,
        vectors::KINDS,
        drops::KINDS,
        panics::KINDS,
        heap::KINDS,
        waits::KINDS,
        if lent { lent::KINDS } else { &[] },
    ]
    .into_iter()
    .flatten()
}
