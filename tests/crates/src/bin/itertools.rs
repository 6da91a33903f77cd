//! Adaptors over adaptors: groups that share an iterator, merges, permutations, callbacks that borrow.

use std::cell::RefCell;

use itertools::{EitherOrBoth, FoldWhile, Itertools, MinMaxResult, iproduct, izip, kmerge};

use crates::source::Source;

/// An iterator whose type does not grow with the depth.
fn nested(depth: u32) -> Box<dyn Iterator<Item = u32>> {
    match depth {
        0 => Box::new(0..3),
        _ => Box::new(nested(depth - 1).interleave(nested(depth - 1).map(move |n| n + depth)).dedup()),
    }
}

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let numbers: Vec<u64> = (0..40).map(|_| source.below(50)).collect();
    let text = source.words(12);
    let seen = RefCell::new(Vec::new());
    let chunks = numbers.iter().chunk_by(|n| **n / 10);
    let groups: Vec<(u64, usize)> =
        chunks.into_iter().map(|(key, group)| (key, group.inspect(|n| seen.borrow_mut().push(**n)).count())).collect();
    let lists: Vec<Vec<u64>> = numbers.chunks(9).map(|part| part.iter().copied().sorted().collect()).collect();
    let merged = kmerge(lists).dedup_with_count().filter(|(count, _)| *count > 1).collect_vec();
    let permutations = (0..4).permutations(3).filter(|p| p.iter().tuple_windows().all(|(a, b)| a != b)).count();
    let folded = numbers.iter().fold_while(0u64, |sum, n| match sum + n {
        sum if sum > 300 => FoldWhile::Done(sum),
        sum => FoldWhile::Continue(sum),
    });
    let joined = text.split(' ').zip_longest(numbers.iter().take(8)).map(|pair| match pair {
        EitherOrBoth::Both(word, n) => format!("{word}{n}"),
        EitherOrBoth::Left(word) => word.to_owned(),
        EitherOrBoth::Right(n) => n.to_string(),
    });
    let joined = joined.sorted_by(|a, b| b.len().cmp(&a.len()).then(a.cmp(b))).format("/").to_string();
    let MinMaxResult::MinMax(low, high) = numbers.iter().minmax_by(|a, b| (**a % 7, **a).cmp(&(**b % 7, **b))) else {
        panic!("there are several")
    };
    let products = iproduct!(0..4, "ab".chars(), [true, false]).filter(|(n, c, b)| (*n > 1) ^ (*c == 'a') ^ b).count();
    let sums = izip!(&numbers, numbers.iter().skip(1), numbers.iter().rev()).map(|(a, b, c)| a * b + c).sum::<u64>();
    let by: Vec<_> = text.split(' ').into_group_map_by(|word| word.chars().count()).into_iter().sorted().collect();
    let powers = (1..5).powerset().map(|set| set.iter().product::<u32>()).max();
    let (even, odd): (Vec<u64>, Vec<u64>) = numbers.iter().partition_map(|n| match n % 2 {
        0 => itertools::Either::Left(*n),
        _ => itertools::Either::Right(n * 3),
    });
    let deep = nested(6).tuple_windows().filter(|(a, b, c)| a < b || b > c).count();
    format!(
        "{groups:?} {:?}\n{merged:?} {permutations} {folded:?} {low} {high} {products} {sums} {powers:?} {deep}\n{joined}\n{by:?}\n{even:?} {odd:?}",
        seen.borrow().len()
    )
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
