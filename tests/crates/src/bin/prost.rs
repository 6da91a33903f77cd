//! Messages that nest: encoded, merged, unknown fields, errors.

use std::collections::BTreeMap;

use prost::{Enumeration, Message, Oneof};

use crates::source::{Source, hash};

#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    children: Vec<Node>,
    #[prost(sint64, repeated, tag = "3")]
    numbers: Vec<i64>,
    #[prost(btree_map = "string, double", tag = "4")]
    weights: BTreeMap<String, f64>,
    #[prost(enumeration = "Kind", tag = "5")]
    kind: i32,
    #[prost(oneof = "Extra", tags = "6, 7")]
    extra: Option<Extra>,
    #[prost(message, optional, boxed, tag = "20")]
    parent: Option<Box<Node>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
enum Kind {
    Unknown = 0,
    Large = 7,
}

#[derive(Clone, PartialEq, Oneof)]
enum Extra {
    #[prost(bytes, tag = "6")]
    Bytes(Vec<u8>),
    #[prost(message, tag = "7")]
    Node(Box<Node>),
}

/// Of the same message, less.
#[derive(Clone, PartialEq, Message)]
struct Names {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    children: Vec<Names>,
}

impl Names {
    fn list<'a>(&'a self, out: &mut Vec<&'a str>) {
        out.push(&self.name);
        self.children.iter().for_each(|child| child.list(out));
    }
}

fn node(source: &mut Source, depth: u64) -> Node {
    Node {
        name: source.words(1),
        children: if depth == 0 { Vec::new() } else { (0..source.below(4)).map(|_| node(source, depth - 1)).collect() },
        numbers: (0..source.below(6)).map(|_| source.next() as i64 >> source.below(64)).collect(),
        weights: (0..source.below(3)).map(|_| (source.words(1), source.below(100) as f64 / 8.0)).collect(),
        kind: if source.below(2) == 0 { Kind::Large } else { Kind::Unknown } as i32,
        extra: match source.below(3) {
            0 => Some(Extra::Bytes(source.bytes(5))),
            1 if depth > 0 => Some(Extra::Node(Box::new(node(source, depth - 1)))),
            _ => None,
        },
        parent: (depth > 2).then(|| Box::new(node(source, depth - 3))),
    }
}

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let (one, other) = (node(source, 4), node(source, 3));
    let bytes = one.encode_to_vec();
    assert_eq!(Node::decode(&bytes[..]).unwrap(), one);
    let mut merged = one.clone();
    merged.merge(&other.encode_to_vec()[..]).unwrap();
    let mut delimited = Vec::new();
    [&one, &other].iter().for_each(|node| node.encode_length_delimited(&mut delimited).unwrap());
    let mut rest = &delimited[..];
    let mut count = 0;
    while !rest.is_empty() {
        count += Node::decode_length_delimited(&mut rest).unwrap().encoded_len();
    }
    let names = Names::decode(&bytes[..]).unwrap();
    let mut list = Vec::new();
    names.list(&mut list);
    let deep = (0..150).fold(Node::default(), |inner, _| Node { children: vec![inner], ..Node::default() });
    let errors = [Node::decode(&bytes[..bytes.len() - 1]), Node::decode(&deep.encode_to_vec()[..])]
        .map(|result| result.map(|_| ()).map_err(|e| e.to_string()));
    format!(
        "{} {:x} {count} {list:?} {errors:?} {:x}",
        bytes.len(),
        hash(&bytes),
        hash(format!("{merged:?}").as_bytes())
    )
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
