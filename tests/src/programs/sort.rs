//! std's sorts: their frames lie between the closure, which borrows locals, and the comparison, which moves the stack.

use std::cmp::Ordering;

use morestack::prologue;

use super::{Size, Source, hash};

/// Compares under a permutation that lies on the stack of the caller's caller.
#[prologue]
fn compare(a: u64, b: u64, salt: &[u64; 4]) -> Ordering {
    let key = |x: u64| (x ^ salt[(x % 4) as usize]) >> 32;
    key(a).cmp(&key(b))
}

/// A stable sort of a heap-allocated list: std merges through a buffer on its own frame or in the heap.
#[prologue]
fn stable(list: &mut [u64], salt: &[u64; 4]) -> u64 {
    let mut compared = 0;
    list.sort_by(|&a, &b| {
        compared += 1;
        compare(a, b, salt)
    });
    assert!(list.is_sorted_by(|&a, &b| compare(a, b, salt) != Ordering::Greater));
    compared
}

/// An unstable sort of an array on this frame.
#[prologue]
fn unstable(source: &mut Source) -> (u64, u64) {
    let mut array: [u64; 256] = std::array::from_fn(|_| source.next());
    let salt = [3, 1 << 40, 1 << 63, u64::MAX];
    let (mut compared, mut largest) = (0, 0);
    array.sort_unstable_by(|&a, &b| {
        compared += 1;
        largest = largest.max(a).max(b);
        compare(a, b, &salt)
    });
    assert!(array.is_sorted_by(|&a, &b| compare(a, b, &salt) != Ordering::Greater));
    assert_eq!(largest, *array.iter().max().expect("not empty"));
    (compared, array.iter().fold(0, |sum, x| sum.rotate_left(3) ^ x))
}

/// Strings move between the list and std's buffers while their keys are computed.
#[prologue]
fn by_key(words: &mut [String]) -> u64 {
    let mut computed = 0;
    words.sort_by_key(|word| {
        computed += 1;
        reversed(word)
    });
    assert!(words.is_sorted_by_key(|word| reversed(word)));
    computed
}

#[prologue]
fn reversed(word: &str) -> String {
    word.chars().rev().collect()
}

pub(super) fn run(size: Size) -> String {
    let mut source = Source::new(1);
    let salt: [u64; 4] = std::array::from_fn(|_| source.next());
    let length = size.pick(5000, 400);
    let mut list: Vec<u64> = (0..length).map(|_| source.next()).collect();
    let compared = stable(&mut list, &salt);
    let (compared_unstable, sum) = unstable(&mut source);
    let mut words: Vec<String> = (0..length / 5).map(|_| format!("{:x}", source.below(1 << 20))).collect();
    let computed = by_key(&mut words);
    format!(
        "stable {compared} {:016x}\nunstable {compared_unstable} {sum:016x}\nby key {computed} {:016x}",
        list.iter().fold(0, |sum: u64, x| sum.rotate_left(3) ^ x),
        hash(&words.join(" "))
    )
}
