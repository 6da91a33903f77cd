//! Vectors whose items are on the stack until they are too many, with destructors and panics.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use smallvec::{SmallVec, smallvec};

use crates::source::{Source, hash};

/// Counts in a caller's local when it is dropped.
#[derive(Clone)]
struct Counted<'a> {
    value: u64,
    drops: &'a Cell<u64>,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.drops.set(self.drops.get() * 3 % 1_000_003 + self.value);
    }
}

fn path(depth: u64, source: &mut Source, at: &mut SmallVec<[u64; 4]>, out: &mut Vec<SmallVec<[u64; 4]>>) {
    if depth == 0 {
        return out.push(at.clone());
    }
    for _ in 0..1 + source.below(2) {
        at.push(source.below(9));
        path(depth - 1, source, at, out);
        at.pop();
    }
}

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let drops = Cell::new(1);
    let mut items: SmallVec<[Counted; 3]> = smallvec![];
    for value in 0..20 {
        items.insert((source.below(100) as usize) % (items.len() + 1), Counted { value, drops: &drops });
    }
    items.retain(|item| item.value % 4 != 1);
    items.drain(2..5).for_each(|item| drops.set(drops.get() + item.value));
    items.sort_by(|a, b| b.value.cmp(&a.value));
    items.dedup_by(|a, b| a.value / 3 == b.value / 3);
    let caught = catch_unwind(AssertUnwindSafe(|| {
        let copy: SmallVec<[Counted; 8]> =
            items.iter().cloned().inspect(|item| assert!(item.value != 2, "two")).collect();
        copy.len()
    }));
    let values: Vec<u64> = items.iter().map(|item| item.value).collect();
    let spilled = items.spilled();
    items.shrink_to_fit();
    let inner: Result<[Counted; 3], _> = items.into_inner();
    let whole = inner.is_ok();
    drop(inner);
    let mut paths = Vec::new();
    path(12, source, &mut SmallVec::new(), &mut paths);
    paths.sort_by(|a, b| a.iter().rev().cmp(b.iter().rev()));
    paths.dedup();
    let paths = hash(format!("{paths:?}").as_bytes());
    format!("{values:?} {spilled} {whole} {} {:?} {paths:x}", drops.get(), caught.is_err())
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
