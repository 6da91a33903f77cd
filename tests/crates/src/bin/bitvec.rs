//! Bits: slices that begin within a byte, both orders, fields, iterators of proxies.

use bitvec::prelude::*;

use crates::source::Source;

/// The primes, by a sieve in an array on the stack.
fn primes() -> Vec<usize> {
    let mut sieve = bitarr![usize, Lsb0; 1; 400];
    sieve[..2].fill(false);
    for n in 2..20 {
        if sieve[n] {
            sieve.iter_mut().skip(n * n).step_by(n).for_each(|mut bit| *bit = false);
        }
    }
    sieve.iter_ones().take_while(|n| *n < 400).collect()
}

fn halves<T: BitStore>(bits: &mut BitSlice<T, Msb0>, depth: u32) -> usize {
    if bits.len() < 2 || depth == 0 {
        return bits.count_ones();
    }
    let (left, right) = bits.split_at_mut(bits.len() / 2);
    left.reverse();
    let (left, right) = (again(left, depth - 1), again(right, depth - 1));
    bits.rotate_left(1);
    left * 2 + right
}

/// The type is the same from the second level on.
fn again<T: BitStore>(bits: &mut BitSlice<T, Msb0>, depth: u32) -> usize {
    let mut copy: BitVec<u8, Msb0> = bits.iter().by_vals().collect();
    let sum = halves(&mut copy, depth);
    bits.iter_mut().zip(&copy).for_each(|(mut to, from)| *to = *from);
    sum
}

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let mut bits: BitVec<u8, Msb0> = BitVec::from_vec(source.bytes(40));
    let sum = halves(&mut bits[3..250], 6);
    bits[5..38].store_be(source.next() >> 31);
    let loaded: u64 = bits[5..38].load_be();
    bits.retain(|i, bit| i % 7 != 0 || *bit);
    let mask: BitVec<u8, Msb0> = (0..bits.len()).map(|i| i % 3 == 0).collect();
    let both = bits.clone() & &mask;
    let runs: Vec<usize> = bits.split(|_, bit| *bit).map(|run| run.len()).filter(|length| *length > 2).collect();
    let mut chunks: Vec<&BitSlice<u8, Msb0>> = bits.rchunks(11).collect();
    chunks.sort_by(|a, b| b.cmp(a));
    let mut boxed = bitbox![u32, Lsb0; 0; 70];
    boxed.set(69, true);
    boxed[3..9].copy_from_bitslice(bits![u32, Lsb0; 1, 0, 1, 1, 0, 1]);
    let primes = primes();
    format!(
        "{sum} {loaded} {} {} {runs:?} {} {} {boxed:b} {} {}",
        bits.len(),
        both.count_ones(),
        chunks[0],
        chunks[9],
        primes.len(),
        primes[77]
    )
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
