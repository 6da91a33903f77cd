//! Values and derived types, there and back; a visitor that recurses and borrows from the text.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crates::source::{Source, hash};

#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind")]
enum Shape<'a> {
    Point {
        x: f64,
        y: f64,
    },
    Named {
        #[serde(borrow)]
        name: std::borrow::Cow<'a, str>,
        inner: Box<Shape<'a>>,
    },
    Group {
        members: Vec<Shape<'a>>,
        attributes: BTreeMap<&'a str, Option<i64>>,
    },
}

fn value(source: &mut Source, depth: u64) -> Value {
    match source.below(if depth == 0 { 3 } else { 6 }) {
        0 => json!(source.next() as i32),
        1 => json!(source.words(3)),
        2 => json!(source.below(1000) as f64 / 8.0),
        3 | 4 => (0..source.below(5)).map(|_| value(source, depth - 1)).collect(),
        _ => (0..source.below(5))
            .map(|i| (format!("k{i}"), value(source, depth - 1)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
    }
}

fn shape(source: &mut Source, depth: u64) -> Shape<'static> {
    match source.below(if depth == 0 { 1 } else { 3 }) {
        0 => Shape::Point { x: source.below(100) as f64 / 4.0, y: -1.5e-7 },
        1 => Shape::Named { name: source.words(2).into(), inner: Box::new(shape(source, depth - 1)) },
        _ => Shape::Group {
            members: (0..source.below(4)).map(|_| shape(source, depth - 1)).collect(),
            attributes: [("a", None), ("ß", Some(source.next() as i64))].into(),
        },
    }
}

/// Counts what is below it, and keeps the longest string that can be borrowed; the seed is a reference to a caller's local.
struct Longest<'c, 'a> {
    longest: &'c mut &'a str,
    counts: &'c mut [u64; 4],
}

impl<'a> DeserializeSeed<'a> for Longest<'_, 'a> {
    type Value = ();
    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Longest<'_, 'a> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("anything")
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        self.counts[0] += 1;
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        self.counts[0] += 1;
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.counts[1] += 1;
        Ok(())
    }
    fn visit_borrowed_str<E>(self, text: &'a str) -> Result<(), E> {
        if text.len() > self.longest.len() {
            *self.longest = text;
        }
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'a>>(self, mut access: A) -> Result<(), A::Error> {
        self.counts[2] += 1;
        while access.next_element_seed(Longest { longest: self.longest, counts: self.counts })?.is_some() {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'a>>(self, mut access: A) -> Result<(), A::Error> {
        self.counts[3] += 1;
        while access.next_key::<&str>()?.is_some() {
            access.next_value_seed(Longest { longest: self.longest, counts: self.counts })?;
        }
        Ok(())
    }
}

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let values: Vec<Value> = (0..6).map(|_| value(source, 4)).collect();
    let text = serde_json::to_string(&values).unwrap();
    let pretty = serde_json::to_string_pretty(&values).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Value>>(&pretty).unwrap(), values);
    let (mut longest, mut counts) = ("", [0; 4]);
    let mut deserializer = serde_json::Deserializer::from_str(&text);
    Longest { longest: &mut longest, counts: &mut counts }.deserialize(&mut deserializer).unwrap();
    let shapes: Vec<Shape> = (0..5).map(|_| shape(source, 5)).collect();
    let written = serde_json::to_string(&shapes).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Shape>>(&written).unwrap(), shapes);
    let error = serde_json::from_str::<Vec<Shape>>(&written.replace("-1.5e-7", "[1,{}]")).map(|_| ()).unwrap_err();
    let deep = ["[".repeat(120), "]".repeat(120)].concat();
    let depth = std::iter::successors(serde_json::from_str::<Value>(&deep).ok(), |v| v.get(0).cloned()).count();
    format!(
        "{:x} {:x} {longest:?} {counts:?} {depth} {error}\n{written}",
        hash(text.as_bytes()),
        hash(pretty.as_bytes())
    )
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
