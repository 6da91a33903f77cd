//! Fibonacci numbers by recursion: work that consists of calls.

/// Calls of the recursion for the `n`th number that call again. All of them are twice as many and one.
pub(super) fn inner_calls(n: u64) -> u64 {
    number(n + 1) - 1
}

/// The largest `n` whose recursion has no more inner calls; those of `n`.
pub(super) fn within(inner: u64) -> (u64, u64) {
    let n = (2..).take_while(|&n| inner_calls(n) <= inner).last().unwrap_or(2);
    (n, inner_calls(n))
}

/// The `n`th number, by a loop.
pub(super) fn number(n: u64) -> u64 {
    (0..n).fold((0, 1), |(a, b), _| (b, a + b)).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_recursion() {
        fn fib(n: u64, inner: &mut u64) -> u64 {
            if n < 2 {
                return n;
            }
            *inner += 1;
            fib(n - 1, inner) + fib(n - 2, inner)
        }
        for n in 2..15 {
            let mut inner = 0;
            assert_eq!((fib(n, &mut inner), inner), (number(n), inner_calls(n)));
            assert_eq!(within(inner), (n, inner));
        }
        assert_eq!(within(inner_calls(9) - 1).0, 8);
    }
}
