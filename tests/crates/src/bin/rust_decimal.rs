//! Decimal numbers: sums that are exact, rounding, square roots by iteration, errors.

use rust_decimal::{Decimal, RoundingStrategy};

use crates::source::Source;

fn root(of: Decimal, guess: Decimal, steps: u32) -> Decimal {
    let next = (guess + of / guess) / Decimal::TWO;
    if steps == 0 || next == guess { next } else { root(of, next, steps - 1) }
}

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let numbers: Vec<Decimal> =
        (0..40).map(|_| Decimal::new(source.next() as i64 >> source.below(50), source.below(20) as u32)).collect();
    let sum: Decimal = numbers.iter().map(|n| n.round_dp(4)).sum();
    let mut sorted = numbers.clone();
    sorted.sort_by(|a, b| b.fract().cmp(&a.fract()).then_with(|| a.cmp(b)));
    let strategies = [
        RoundingStrategy::MidpointNearestEven,
        RoundingStrategy::MidpointAwayFromZero,
        RoundingStrategy::ToZero,
        RoundingStrategy::ToNegativeInfinity,
    ];
    let rounded: Vec<String> =
        strategies.iter().map(|how| sorted[3].round_dp_with_strategy(2, *how).to_string()).collect();
    let product = numbers.iter().try_fold(Decimal::ONE, |product, n| {
        product.checked_mul(*n + Decimal::ONE_THOUSAND).map(|p| p.trunc() % Decimal::from(99_991))
    });
    let roots: Vec<Decimal> = (2..6u32).map(|n| root(n.into(), Decimal::ONE, 30)).collect();
    let back = numbers.iter().all(|n| n.to_string().parse() == Ok(*n));
    let errors: Vec<String> = ["", "1.2.3", "x", "99999999999999999999999999999999"]
        .iter()
        .map(|t| t.parse::<Decimal>().unwrap_err().to_string())
        .collect();
    let scientific = Decimal::from_scientific("1.25e-7").unwrap();
    let panicked = std::panic::catch_unwind(|| Decimal::MAX + Decimal::ONE).is_err();
    format!(
        "{sum} {} {rounded:?} {product:?} {roots:?} {back} {scientific} {errors:?} {panicked} {:>12.3}",
        sorted[0], sorted[5]
    )
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
