//! Maps that keep an order: sorted by closures, entries, raw indices, sets.

use std::hash::{BuildHasherDefault, DefaultHasher};

use indexmap::map::Entry;
use indexmap::{IndexMap, IndexSet};

use crates::source::Source;

type Map<K, V> = IndexMap<K, V, BuildHasherDefault<DefaultHasher>>;

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let mut map: Map<String, Vec<u64>> = Map::default();
    for i in 0..150 {
        match map.entry(source.words(1 + i as usize % 2)) {
            Entry::Occupied(mut entry) => {
                entry.get_mut().push(i);
                if i % 11 == 0 {
                    entry.shift_remove();
                }
            }
            Entry::Vacant(entry) => _ = entry.insert(vec![i]),
        }
    }
    let found = map.get_full("stack").map(|(i, _, places)| (i, places.len()));
    map.sort_by(|k1, v1, k2, v2| v2.len().cmp(&v1.len()).then_with(|| k1.cmp(k2)));
    map.retain(|key, places| !key.ends_with('d') || places.len() > 1);
    let mut calls = 0;
    map.sort_by_cached_key(|key, places| {
        calls += 1;
        (places.first().copied(), key.len())
    });
    let tail: Map<_, _> = map.split_off(map.len() / 2);
    map.swap_indices(0, 3);
    let drained: Vec<_> = map.drain(2..5).map(|(key, _)| key).collect();
    let sets: [IndexSet<u64, BuildHasherDefault<DefaultHasher>>; 2] =
        [0, 1].map(|_| (0..40).map(|_| source.below(60)).collect());
    let both: Vec<_> = sets[0].intersection(&sets[1]).chain(sets[1].difference(&sets[0]).take(5)).copied().collect();
    let nested: Map<usize, Map<usize, String>> = tail
        .iter()
        .map(|(key, places)| (key.len(), places.iter().map(|p| (*p as usize % 7, key.clone())).collect()))
        .collect();
    format!(
        "{found:?} {calls} {drained:?} {map:?} {both:?} {nested:?} {:?}",
        tail.binary_search_by_key(&40, |_, places| places[0])
    )
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
