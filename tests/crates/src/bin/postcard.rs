//! A compact format: nested types there and back, in parts, with a checksum of the program's own.

use std::collections::BTreeMap;

use postcard::ser_flavors::Flavor;
use serde::{Deserialize, Serialize};

use crates::source::{Source, hash};

#[derive(Debug, Deserialize, PartialEq, Serialize)]
enum Tree<'a> {
    Leaf(i128, Option<char>),
    Text(&'a str),
    Node { left: Box<Tree<'a>>, right: Box<Tree<'a>>, weights: (f32, u16) },
    Many(BTreeMap<u8, Tree<'a>>),
}

fn tree<'a>(source: &mut Source, text: &'a str, depth: u64) -> Tree<'a> {
    match source.below(if depth == 0 { 2 } else { 5 }) {
        0 => {
            Tree::Leaf(i128::from(source.next() as i64) << source.below(60), text.chars().nth(source.below(9) as usize))
        }
        1 => Tree::Text(text.split(' ').nth(source.below(8) as usize).unwrap_or("")),
        2 => Tree::Many((0..source.below(4)).map(|i| (i as u8, tree(source, text, depth - 1))).collect()),
        _ => Tree::Node {
            left: Box::new(tree(source, text, depth - 1)),
            right: Box::new(tree(source, text, depth - 1)),
            weights: (source.below(100) as f32 / 8.0, source.next() as u16),
        },
    }
}

/// Sums in a caller's local what goes by.
struct Summed<'a> {
    bytes: Vec<u8>,
    sum: &'a mut u32,
}

impl Flavor for Summed<'_> {
    type Output = Vec<u8>;
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        *self.sum = self.sum.rotate_left(5) ^ u32::from(byte);
        self.bytes.push(byte);
        Ok(())
    }
    fn finalize(self) -> postcard::Result<Vec<u8>> {
        Ok(self.bytes)
    }
}

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let text = source.words(10);
    let trees: Vec<Tree> = (0..8).map(|_| tree(source, &text, 6)).collect();
    let bytes = postcard::to_stdvec(&trees).unwrap();
    let back: Vec<Tree> = postcard::from_bytes(&bytes).unwrap();
    assert_eq!(back, trees);
    let mut sum = 0;
    let summed = postcard::serialize_with_flavor(&trees, Summed { bytes: Vec::new(), sum: &mut sum }).unwrap();
    assert_eq!(summed, bytes);
    let mut framed = postcard::to_stdvec_cobs(&trees[0]).unwrap();
    let length = framed.len();
    let first: Tree = postcard::from_bytes_cobs(&mut framed).unwrap();
    assert_eq!(first, trees[0]);
    let errors: Vec<_> =
        (0..bytes.len().min(12)).map(|end| postcard::from_bytes::<Vec<Tree>>(&bytes[..end]).is_err()).collect();
    format!("{} {:x} {sum:x} {length} {errors:?} {:x}", bytes.len(), hash(&bytes), hash(format!("{back:?}").as_bytes()))
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
