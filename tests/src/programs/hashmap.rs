//! A hash map that grows while its keys are hashed and compared by functions that move the stack.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher};

use morestack::prologue;

use super::{Size, Source};

/// A key with a hash and an equality of its own: case does not count.
#[derive(Clone, Debug)]
struct Word(String);

impl PartialEq for Word {
    #[prologue]
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for Word {}

impl Hash for Word {
    #[prologue]
    fn hash<H: Hasher>(&self, state: &mut H) {
        for byte in self.0.bytes() {
            state.write_u8(byte.to_ascii_lowercase());
        }
    }
}

/// std's default hash without its random keys: the same text in every run.
type Build = BuildHasherDefault<DefaultHasher>;

type Map = HashMap<Word, Vec<usize>, Build>;

#[prologue]
fn word(source: &mut Source, kinds: u64) -> Word {
    let word = format!("w{:x}", source.below(kinds));
    Word(if source.below(2) == 0 { word.to_uppercase() } else { word })
}

/// Rehashes whenever the table is full, in the middle of an insertion.
#[prologue]
fn grow(map: &mut Map, source: &mut Source, count: usize) {
    for index in 0..count {
        let key = word(source, count as u64 / 2);
        map.entry(key).or_default().push(index);
    }
}

/// Removes and puts back, and shrinks the table.
#[prologue]
fn churn(map: &mut Map, source: &mut Source) -> usize {
    let mut moved = 0;
    let keys: HashSet<Word, Build> = map.keys().filter(|_| source.below(2) == 0).cloned().collect();
    for key in &keys {
        if let Some(list) = map.remove(key) {
            moved += list.len();
            map.insert(Word(key.0.to_lowercase()), list);
        }
    }
    map.retain(|_, list| list.len() > 1);
    map.shrink_to_fit();
    moved
}

pub(super) fn run(size: Size) -> String {
    let mut source = Source::new(6);
    let mut map = Map::default();
    let mut result = String::new();
    for round in 0..size.pick(4, 2) {
        grow(&mut map, &mut source, size.pick(2000, 200));
        let full = map.len();
        let moved = churn(&mut map, &mut source);
        assert!(map.keys().all(|key| map.contains_key(key)));
        let sum: usize = map.values().flatten().sum();
        writeln!(result, "round {round}: {full} -> {}: {moved} moved, {sum}", map.len()).expect("a string takes all");
    }
    result
}
