//! A B-tree whose comparisons move the stack: std keeps its path through the nodes in frames above them.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use morestack::prologue;

use super::{Size, Source};

/// A key with an order of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Key(u64);

impl Ord for Key {
    #[prologue]
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.reverse_bits().cmp(&other.0.reverse_bits())
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

type Map = BTreeMap<Key, String>;

#[prologue]
fn grow(map: &mut Map, source: &mut Source, count: usize) {
    for index in 0..count {
        let key = Key(source.below(count as u64 * 2));
        map.entry(key).and_modify(|text| text.push('+')).or_insert_with(|| text(index));
    }
}

#[prologue]
fn text(index: usize) -> String {
    format!("#{index}")
}

/// Removes in the middle, splits, and joins: nodes merge and are stolen from.
#[prologue]
fn shrink(map: &mut Map, source: &mut Source) -> usize {
    let keys: BTreeSet<Key> = map.keys().copied().filter(|_| source.below(3) == 0).collect();
    let removed = keys.iter().filter(|key| map.remove(key).is_some()).count();
    assert_eq!(removed, keys.len());
    if let Some(&middle) = map.keys().nth(map.len() / 2) {
        let mut upper = map.split_off(&middle);
        assert!(map.keys().all(|key| *key < middle));
        assert!(upper.range(..middle).next().is_none());
        map.append(&mut upper);
    }
    map.retain(|key, text| !(key.0.is_multiple_of(7) && text.ends_with('+')));
    removed
}

pub(super) fn run(size: Size) -> String {
    let mut source = Source::new(5);
    let mut map = Map::new();
    let mut result = String::new();
    for round in 0..size.pick(4, 2) {
        grow(&mut map, &mut source, size.pick(1000, 100));
        let full = map.len();
        let removed = shrink(&mut map, &mut source);
        assert!(map.keys().is_sorted());
        let sum = map.iter().fold(0, |sum: u64, (key, text)| sum.rotate_left(5) ^ key.0 ^ text.len() as u64);
        writeln!(result, "round {round}: {full} - {removed} -> {}: {sum:016x}", map.len()).expect("a string takes all");
    }
    result
}
