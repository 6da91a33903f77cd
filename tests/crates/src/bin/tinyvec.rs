//! Vectors in arrays on the stack, which move to the heap or refuse.

use tinyvec::{ArrayVec, SliceVec, TinyVec, array_vec, tiny_vec};

use crates::source::Source;

/// All ways to give change, with the coins in the frames.
fn change(left: u64, coins: &[u64], taken: &mut ArrayVec<[u64; 12]>, out: &mut Vec<TinyVec<[u64; 4]>>) {
    if left == 0 {
        return out.push(taken.iter().copied().collect());
    }
    for (i, coin) in coins.iter().enumerate().filter(|(_, coin)| **coin <= left) {
        if taken.try_push(*coin).is_some() {
            continue;
        }
        change(left - coin, &coins[i..], taken, out);
        taken.pop();
    }
}

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let mut ways = Vec::new();
    change(20 + source.below(10), &[10, 5, 3, 2], &mut ArrayVec::new(), &mut ways);
    ways.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    let heap = ways.iter().filter(|way| way.is_heap()).count();
    let mut words: TinyVec<[String; 3]> = tiny_vec!["a".to_owned(), "b".to_owned()];
    for i in 0..9 {
        words.insert(i / 2, source.words(1));
    }
    words.retain(|word| word.len() != 2);
    let spliced: Vec<String> = words.splice(1..3, ["x".to_owned(), "y".to_owned(), "z".to_owned()]).collect();
    let drained: TinyVec<[String; 2]> = words.drain(..2).collect();
    let mut room = [0u64; 6];
    let mut slice = SliceVec::from_slice_len(&mut room, 0);
    let full =
        (0..9).take_while(|i| slice.len() < slice.capacity() && slice.insert(slice.len() / 2, i * i) == ()).count();
    slice.swap_remove(1);
    let packed = array_vec!([u8; 9] => 3, 1, 2).into_iter().rev().fold(0u32, |sum, n| sum * 10 + u32::from(n));
    let panicked = std::panic::catch_unwind(|| (0..5u8).collect::<ArrayVec<[u8; 4]>>().len()).is_err();
    format!(
        "{} {heap} {:?} {spliced:?} {drained:?} {words:?} {full:?} {slice:?} {packed} {panicked}",
        ways.len(),
        &ways[..3]
    )
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
