//! Loops over locals that the compiler vectorises, with calls between them and in them: vector registers are spilled.

use std::hint::black_box;

use morestack::{checkpoint, prologue};

use crate::differential::node::{Kind, Node};
use crate::differential::state::{Env, Outcome, mix, mix_all};

pub(super) const KINDS: &[Kind] = &[
    Kind::new("floats", floats, (1, 2), 3),
    Kind::new("lanes", lanes, (0, 0), 3),
    Kind::new("bytes", bytes, (1, 2), 3),
    Kind::new("wide", wide, (1, 2), 3),
    Kind::new("dot", dot, (1, 2), 3),
];

#[prologue]
fn floats(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut a: [f64; 16] = std::array::from_fn(|index| index as f64 + (node.number % 1000) as f64);
    let mut b = [1.5_f64; 16];
    let scale = (node.number % 7) as f64;
    for turn in 0..2 {
        for (a, b) in a.iter_mut().zip(&mut b) {
            *a = *a * scale + *b;
            *b += *a * 0.5;
        }
        black_box((&mut a, &mut b));
        let value = node.child(turn, env)?;
        a[(value % 16) as usize] += scale;
    }
    Ok(a.iter().chain(&b).fold(1, |sum, float| mix(sum, float.to_bits())))
}

/// Accumulators that live in vector registers across a safepoint.
#[prologue]
fn lanes(node: &Node, env: &mut Env<'_>) -> Outcome {
    let data: [[u64; 8]; 6] = std::array::from_fn(|row| std::array::from_fn(|lane| node.number ^ (row * lane) as u64));
    let mut sums = [0_u64; 8];
    let mut products = [1_u32; 8];
    for row in black_box(&data) {
        for lane in 0..8 {
            sums[lane] = sums[lane].wrapping_add(row[lane] ^ (sums[lane] >> 5));
            products[lane] = products[lane].wrapping_mul(row[lane] as u32 | 1);
        }
        checkpoint();
        *env.near ^= row[3];
    }
    Ok(products.iter().fold(mix_all(1, &sums), |sum, product| mix(sum, u64::from(*product))))
}

/// Copies, fills and comparisons: the compiler's and libc's memory functions.
#[prologue]
fn bytes(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut bytes = [0_u8; 300];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = (node.number >> (index % 8 * 8)) as u8 ^ index as u8;
    }
    let value = node.child(0, env)?;
    let at = (value % 100) as usize;
    bytes.copy_within(at..at + 120, 150);
    let copy = bytes;
    let value = mix(value, node.child(1, env)?);
    bytes[200..].fill(value as u8);
    let same = black_box(&copy).iter().zip(black_box(&bytes)).filter(|(a, b)| a == b).count() as u64;
    let sum = bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
    Ok(mix_all(value, &[sum, same, u64::from(copy == bytes)]))
}

/// 128-bit integers and single floats in registers across calls.
#[prologue]
fn wide(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut wide = u128::from(node.number) << 40 | 1;
    let mut single = (node.number % 100) as f32;
    let near = *env.near;
    let value = node.child(0, env)?;
    wide = wide.wrapping_mul(u128::from(value | 1));
    single += (value % 10) as f32;
    let value = mix(value, node.child(1, env)?);
    wide ^= u128::from(value) << 64;
    Ok(mix_all(near, &[wide as u64, (wide >> 64) as u64, u64::from(single.to_bits()), value]))
}

/// A reduction over what an ancestor lent and an array of its own, with a call between the halves.
#[prologue]
fn dot(node: &Node, env: &mut Env<'_>) -> Outcome {
    let weights: [u64; 64] = std::array::from_fn(|index| node.number.rotate_left(index as u32));
    let mut counts = [0_u16; 64];
    let value = node.child(0, env)?;
    for (count, weight) in counts.iter_mut().zip(&weights) {
        *count = count.wrapping_add(*weight as u16);
    }
    let dot = |far: &[u64]| far.iter().zip(&weights).map(|(a, b)| a.wrapping_mul(*b)).fold(0, u64::wrapping_add);
    let first = dot(env.far);
    let value = mix(value, node.child(1, env)?);
    let second = dot(black_box(&*env.far));
    Ok(counts.iter().fold(mix_all(value, &[first, second]), |sum, count| mix(sum, u64::from(*count))))
}
