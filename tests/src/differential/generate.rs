//! From a seed to a tree.
//!
//! Each program is made of about half of the kinds only, chosen by its seed ("swarm testing", Groce et al. 2012): with all
//! kinds in every program, each would be rare everywhere.

use std::sync::Arc;

use super::node::{Entry, Kind, Node};
use super::nodes;
use crate::source::Source;

/// The largest tree. Enough for a dozen levels; a program of this size takes a few milliseconds under stress.
const NODES: u64 = 60;

/// Nodes on a path.
const LEVELS: u32 = 24;

/// Heavy nodes on a path. Each uses up to 100 KiB unoptimised, and a reserved stack holds 1 MiB.
const HEAVY: u32 = 4;

/// Functions in a row without a check. Unoptimised, each uses up to 4 KiB of the STACK_GUARD bytes that all share with
/// std's functions.
const UNCHECKED: u32 = 2;

/// The program of a seed. With `lent` it may lend locals to the heap, to thread-locals and to other threads.
pub fn program(seed: u64, lent: bool) -> Arc<Node> {
    let mut source = Source::new(seed);
    let swarm = nodes::all(lent).filter(|_| source.below(2) == 0).collect();
    let budget = 4 + source.below(NODES);
    Generator { source, swarm, lent }.node(budget, Path::default())
}

struct Generator {
    source: Source,
    /// The kinds of this program.
    swarm: Vec<&'static Kind>,
    lent: bool,
}

/// What lies between the root and a node.
#[derive(Clone, Copy, Default)]
struct Path {
    levels: u32,
    heavy: u32,
    unchecked: u32,
}

impl Generator {
    /// A tree of about `budget` nodes.
    fn node(&mut self, budget: u64, path: Path) -> Arc<Node> {
        let inner = budget > 1 && path.levels < LEVELS;
        let kind = self.kind(inner, path);
        let entry = match self.source.below(6) {
            0 | 1 if path.unchecked < UNCHECKED => Entry::Bare,
            2 => Entry::Inlined,
            3 => Entry::Layers,
            _ => Entry::Marked,
        };
        let checked = kind.checked || entry != Entry::Bare;
        let path = Path {
            levels: path.levels + 1,
            heavy: path.heavy + u32::from(kind.heavy),
            unchecked: if checked { 0 } else { path.unchecked + 1 },
        };
        let (least, most) = kind.children;
        let count = least as u64 + self.source.below((most - least) as u64 + 1);
        let number = self.source.next();
        let mut left = budget.saturating_sub(1);
        let mut children = Vec::new();
        for index in (0..count).rev() {
            // The last takes what is left: paths get long.
            let share = if index == 0 { left } else { self.source.below(left + 1) };
            left -= share;
            children.push(self.node(share, path));
        }
        Arc::new(Node { kind, entry, number, children })
    }

    /// Of the swarm if it has a kind that fits, else of all.
    fn kind(&mut self, inner: bool, path: Path) -> &'static Kind {
        let fits = |kind: &&'static Kind| (kind.children.1 > 0) == inner && (!kind.heavy || path.heavy < HEAVY);
        let mut kinds: Vec<_> = self.swarm.iter().copied().filter(fits).collect();
        if kinds.is_empty() {
            kinds = nodes::all(self.lent).filter(fits).collect();
        }
        let total = kinds.iter().map(|kind| u64::from(kind.weight)).sum();
        let mut at = self.source.below(total);
        for kind in kinds {
            match at.checked_sub(u64::from(kind.weight)) {
                Some(rest) => at = rest,
                None => return kind,
            }
        }
        unreachable!("the weights add up to the total")
    }
}

#[cfg(test)]
mod tests {
    use super::program;

    #[test]
    fn a_seed_is_a_program() {
        assert_eq!(program(1, true).to_string(), program(1, true).to_string());
        assert_ne!(program(1, true).to_string(), program(2, true).to_string());
    }

    #[test]
    fn every_kind_is_made() {
        let text: String = (0..500).map(|seed| program(seed, true).to_string()).collect();
        let made: std::collections::HashSet<&str> =
            text.lines().filter_map(|line| line.trim_start().split(' ').next()).collect();
        for kind in super::nodes::all(true) {
            assert!(made.contains(kind.name), "{}", kind.name);
        }
    }
}
