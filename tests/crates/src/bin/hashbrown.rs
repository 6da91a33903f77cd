//! Maps with a hasher, keys and comparisons of the program's own; raw entries by closures; removal while iterating.

use std::hash::{BuildHasher, Hash, Hasher};

use hashbrown::hash_map::{Entry, EntryRef};
use hashbrown::{Equivalent, HashMap, HashSet, HashTable};

use crates::source::Source;

#[derive(Clone, Default)]
struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    }
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 29
    }
}

impl BuildHasher for Fnv {
    type Hasher = Fnv;
    fn build_hasher(&self) -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

/// Equal without regard to case.
#[derive(Clone, Debug)]
struct Word(String);

struct Borrowed<'a>(&'a str);

impl Hash for Word {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Borrowed(&self.0).hash(state);
    }
}

impl Hash for Borrowed<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.chars().flat_map(char::to_lowercase).for_each(|c| c.hash(state));
    }
}

impl PartialEq for Word {
    fn eq(&self, other: &Word) -> bool {
        Borrowed(&self.0).equivalent(other)
    }
}

impl Eq for Word {}

impl Equivalent<Word> for Borrowed<'_> {
    fn equivalent(&self, word: &Word) -> bool {
        let lower = |text: &str| text.chars().flat_map(char::to_lowercase).collect::<String>();
        lower(self.0) == lower(&word.0)
    }
}

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let mut map: HashMap<Word, Vec<usize>, Fnv> = HashMap::with_hasher(Fnv::default());
    for i in 0..120 {
        let word = source.words(1 + i % 2);
        match map.entry(Word(if i % 3 == 0 { word.to_uppercase() } else { word })) {
            Entry::Occupied(mut entry) => entry.get_mut().push(i),
            Entry::Vacant(entry) => _ = entry.insert(vec![i]),
        }
    }
    let found = map.get(&Borrowed("STACK")).map(Vec::len);
    if let EntryRef::Vacant(entry) = map.entry_ref(&Borrowed("neu")) {
        entry.insert_with_key(Word("neu".to_owned()), vec![7]);
    }
    let mut dropped = 0;
    map.retain(|word, places| {
        places.retain(|place| place % 5 != 0);
        dropped += usize::from(places.is_empty());
        !places.is_empty() && word.0.len() < 14
    });
    let mut taken: Vec<_> =
        map.extract_if(|_, places| places.len() > 3).map(|(word, places)| (word.0.to_lowercase(), places)).collect();
    taken.sort();
    let mut left: Vec<String> =
        map.into_iter().map(|(word, places)| format!("{}{places:?}", word.0.to_lowercase())).collect();
    left.sort_by_key(|text| std::cmp::Reverse(text.clone()));
    let hasher = Fnv::default();
    let mut table = HashTable::new();
    for i in 0..200u64 {
        let n = source.below(90);
        table
            .entry(hasher.hash_one(n), |(key, _)| *key == n, |(key, _)| hasher.hash_one(key))
            .and_modify(|(_, sum)| *sum += i)
            .or_insert((n, i));
    }
    let mut sums: Vec<_> = table.iter().filter(|(key, sum)| key % 4 == sum % 4).collect();
    sums.sort();
    let sets: [HashSet<u64, Fnv>; 2] = [0, 1].map(|_| (0..30).map(|_| source.below(50)).collect());
    let mut both: Vec<_> = (&sets[0] & &sets[1]).into_iter().chain(&sets[0] ^ &sets[1]).collect();
    both.sort();
    format!("{found:?} {dropped} {taken:?}\n{left:?}\n{sums:?} {both:?}")
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
