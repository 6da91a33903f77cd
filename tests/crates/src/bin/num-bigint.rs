//! Long numbers: products by every algorithm, powers, division, roots, radixes.

use num_bigint::{BigInt, BigUint, Sign};

use crates::source::Source;

fn fibonacci(n: u32) -> (BigUint, BigUint) {
    if n == 0 {
        return (BigUint::ZERO, BigUint::from(1u8));
    }
    let (a, b) = fibonacci(n / 2);
    let c = &a * ((&b << 1usize) - &a);
    let d = &a * &a + &b * &b;
    if n % 2 == 0 { (c, d) } else { (d.clone(), c + d) }
}

fn product(numbers: &[BigInt]) -> BigInt {
    match numbers {
        [] => BigInt::from(1),
        [one] => one.clone(),
        _ => {
            let (left, right) = numbers.split_at(numbers.len() / 2);
            product(left) * product(right)
        }
    }
}

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let numbers: Vec<BigInt> = (0..40)
        .map(|_| {
            let sign = if source.below(2) == 0 { Sign::Plus } else { Sign::Minus };
            let count = 1 + source.below(60) as usize;
            let mut bytes = source.bytes(count);
            bytes[0] |= 1; // none is zero: their product is divided by each
            BigInt::from_bytes_le(sign, &bytes)
        })
        .collect();
    let all = product(&numbers);
    let mut sorted = numbers.clone();
    sorted.sort_by(|a, b| b.magnitude().cmp(a.magnitude()).then_with(|| a.cmp(b)));
    let sum: BigInt = numbers.iter().map(|n| n * n - n).sum();
    let left = numbers.iter().rev().fold(all.clone(), |left, n| left / n);
    assert!(left == BigInt::from(1), "{left}");
    let modulus = BigUint::parse_bytes(b"fffffffffffffffffffffffffffffffeffffffffffffffff", 16).unwrap();
    let power = all.magnitude().modpow(sum.magnitude(), &modulus);
    let text = all.to_string();
    assert_eq!(text.parse::<BigInt>().unwrap(), all);
    let (fib, _) = fibonacci(1500);
    format!("{text}\n{:x}\n{}\n{}\n{}", power, sum.magnitude().sqrt(), fib.to_str_radix(36), sorted[0])
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
