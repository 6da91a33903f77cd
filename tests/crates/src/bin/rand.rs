//! Generators by seed: distributions, shuffles, weights; and the thread's own, of which only its kind is printed.

use rand::distr::weighted::WeightedIndex;
use rand::distr::{Alphanumeric, Bernoulli, Distribution, StandardUniform, Uniform};
use rand::prelude::*;
use rand::rngs::StdRng;
use rand_chacha::ChaCha8Rng;

/// A recursion with the generator lent down.
fn tree(rng: &mut dyn Rng, depth: u32) -> String {
    if depth == 0 || rng.random_bool(0.2) {
        return rng.random_range(0..10).to_string();
    }
    let children: Vec<String> = (0..rng.random_range(1..4)).map(|_| tree(rng, depth - 1)).collect();
    format!("({})", children.join(" "))
}

struct Point {
    x: f64,
    y: f32,
}

impl Distribution<Point> for StandardUniform {
    fn sample<R: Rng + ?Sized>(&self, rng: &mut R) -> Point {
        Point { x: rng.random(), y: rng.random_range(-1.0..=1.0) }
    }
}

fn all(rng: &mut impl Rng) -> String {
    let mut numbers: Vec<u32> = Uniform::new_inclusive(1, 1000).unwrap().sample_iter(&mut *rng).take(40).collect();
    numbers.shuffle(rng);
    let weights = WeightedIndex::new([1.0, 2.5, 0.0, 8.0]).unwrap();
    let mut counts = [0; 4];
    (0..100).for_each(|_| counts[weights.sample(rng)] += 1);
    let text: String = (0..12).map(|_| char::from(rng.sample(Alphanumeric))).collect();
    let points: Vec<(u64, u32)> =
        (0..5).map(|_| rng.random::<Point>()).map(|p| (p.x.to_bits(), p.y.to_bits())).collect();
    let chosen = numbers.iter().filter(|n| **n % 3 == 0).sample(rng, 4);
    let coin = Bernoulli::from_ratio(2, 3).unwrap();
    let heads = std::iter::repeat_with(|| coin.sample(rng)).take(60).filter(|head| *head).count();
    let one = numbers.choose_weighted(rng, |n| f64::from(*n)).unwrap();
    format!("{text} {counts:?} {points:?} {chosen:?} {heads} {one} {}", tree(rng, 5))
}

fn run(seed: u64) -> String {
    let mut own = rand::rng();
    let kind = all(&mut own).len() > 100
        && (0..50).map(|_| rand::random::<u64>()).collect::<std::collections::HashSet<_>>().len() == 50;
    format!("{kind}\n{}\n{}", all(&mut StdRng::seed_from_u64(seed)), all(&mut ChaCha8Rng::seed_from_u64(seed)))
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
