//! Values in the heap that frames own across safepoints, and std's code between two frames of the program. What is in the
//! heap owns what it refers to.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::{self, Write};

use morestack::{checkpoint, prologue};

use crate::differential::node::{Kind, Node};
use crate::differential::state::{Counter, Early, Env, Object, Outcome, mix, mix_all, mix_bytes};

pub(super) const KINDS: &[Kind] = &[
    Kind::new("vector", vector, (1, 2), 3),
    Kind::new("text", text, (1, 2), 2),
    Kind::new("boxed", boxed, (1, 2), 3),
    Kind::new("map", map, (1, 2), 2),
    Kind::new("boxed-closure", boxed_closure, (1, 2), 2),
];

/// The children write to elements in the heap; a closure called by std writes to a local.
#[prologue]
fn vector(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut list: Vec<u64> = (0..9).map(|index| node.number ^ index).collect();
    let value = node.child(0, &mut env.far(&mut list))?;
    let mut removed = 0;
    let near = &mut *env.near;
    list.retain_mut(|word| {
        checkpoint();
        *word = mix(*word, *near);
        *near ^= *word;
        removed += *word % 2;
        word.is_multiple_of(2)
    });
    list.push(value);
    let value = mix(value, node.child(1, &mut env.far(&mut list))?);
    list.sort_unstable();
    Ok(mix_all(mix(value, removed), &list))
}

/// Something that std's formatting calls back.
struct Shown<'a> {
    words: &'a [u64],
    seen: &'a Cell<u64>,
}

impl fmt::Display for Shown<'_> {
    #[prologue]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for word in self.words.iter().take(4) {
            checkpoint();
            self.seen.set(mix(self.seen.get(), *word));
            write!(f, "{word:>5x}/")?;
        }
        f.write_str(&self.words.len().to_string())
    }
}

#[prologue]
fn text(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut local = node.number;
    let value = node.child(0, &mut env.near(&mut local))?;
    let mut text = String::from("text");
    let seen = Cell::new(local);
    let shown = Shown { words: env.far, seen: &seen };
    write!(text, "{value} {shown} {:<30}|{}", "left", shown).map_err(|_| Early::Number(1))?;
    let parsed: u64 = text.chars().filter_map(|char| char.to_digit(16)).map(u64::from).sum();
    let value = mix(parsed, node.child(1, env)?);
    Ok(mix_bytes(mix(value, seen.get()), text.as_bytes()))
}

#[prologue]
fn boxed(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut boxed: Box<dyn Object> = Box::new(Counter(node.number));
    let mut array = Box::new([node.number; 40]);
    let value = node.child(0, &mut env.object(&mut *boxed).far(&mut array[..]))?;
    boxed.call(value);
    // By value: from the heap to the frame.
    let unboxed = *array;
    let value = mix(value, node.child(1, env)?);
    Ok(mix_all(mix(value, boxed.peek()), &unboxed))
}

#[prologue]
fn map(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut map = BTreeMap::new();
    for (index, word) in env.far.iter().enumerate().take(20) {
        map.insert(word ^ node.number, vec![index as u64]);
    }
    let value = node.child(0, env)?;
    map.entry(value).or_default().push(1);
    let mut sum = 0;
    map.retain(|key, list| {
        checkpoint();
        list.push(*key);
        sum = mix_all(sum, list);
        !key.is_multiple_of(3)
    });
    let value = mix(value, node.child(1, env)?);
    Ok(map.into_iter().fold(mix(value, sum), |sum, (key, list)| mix_all(mix(sum, key), &list)))
}

/// A closure in the heap that owns what it captured.
#[prologue]
fn boxed_closure(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut owned = vec![node.number];
    let mut closure: Box<dyn FnMut(u64) -> u64> = Box::new(move |value| {
        checkpoint();
        owned.push(value);
        mix_all(1, &owned)
    });
    let value = closure(node.child(0, env)?);
    let value = closure(mix(value, node.child(1, env)?));
    Ok(value)
}
