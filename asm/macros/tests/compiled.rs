//! The expansions as rustc sees them: every kind of function, with a `prologue!` that only counts.

extern crate self as morestack;

use std::cell::Cell;
use std::fmt::{self, Display};
use std::panic::Location;

use morestack_macros::prologue;

thread_local! {
    static CHECKS: Cell<usize> = const { Cell::new(0) };
    static BYTES: Cell<usize> = const { Cell::new(0) };
}

/// What the attribute refers to, in place of the real check.
#[doc(hidden)]
pub mod __private {
    macro_rules! prologue {
        () => {
            crate::count(0)
        };
        (frame = $bytes:expr) => {
            crate::count(const { $bytes })
        };
    }
    pub(crate) use prologue;
}

fn count(bytes: usize) {
    CHECKS.set(CHECKS.get() + 1);
    BYTES.set(bytes);
}

/// Runs `f` and gives its result and how many checks ran.
fn counted<T>(f: impl FnOnce() -> T) -> (T, usize) {
    let before = CHECKS.get();
    (f(), CHECKS.get() - before)
}

#[prologue]
fn plain(n: u32) -> u32 {
    if n == 0 { 0 } else { 1 + plain(n - 1) }
}

#[prologue]
fn never() -> ! {
    panic!("as asked");
}

#[prologue]
fn generic<'a, T: Clone, const N: usize>(x: &'a T, f: impl Fn(&T) -> usize + 'a) -> impl Iterator<Item = [T; N]> + 'a
where
    [T; N]: Sized,
{
    (0..f(x)).map(|_| std::array::from_fn(|_| x.clone()))
}

#[prologue]
extern "C" fn convention(x: u64) -> u64 {
    x + 1
}

/// # Safety
///
/// `x` can be read.
#[prologue]
unsafe fn contract(x: *const u32) -> u32 {
    // SAFETY: the caller's promise.
    unsafe { *x }
}

struct Counter<T>(T);

impl<T: Copy + Into<u64>> Counter<T> {
    #[prologue]
    fn new(x: T) -> Self {
        Self(x)
    }

    #[prologue]
    fn add(&mut self, Counter(y): &Counter<T>) -> u64 {
        #![allow(clippy::let_and_return)]
        let sum = self.0.into() + (*y).into();
        sum
    }
}

trait Twice {
    #[prologue]
    fn twice(self: Box<Self>) -> u64
    where
        Self: Into<u64> + Copy,
    {
        2 * (*self).into()
    }
}

impl Twice for u32 {}

impl<T: Display> Display for Counter<T> {
    #[prologue]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.0)
    }
}

const SIZE: usize = 8 << 10;

/// Sums `N` bytes, `depth` times.
#[prologue(frame = SIZE + 512)]
fn framed<const N: usize>(depth: usize, (fill, _): (u8, &str)) -> usize {
    #![allow(clippy::large_stack_arrays)]
    let array = [fill; N];
    let sum: usize = array.iter().map(|&byte| usize::from(byte)).sum();
    if depth == 0 { sum } else { sum + framed::<N>(depth - 1, (fill, "")) }
}

#[prologue(frame = 300)]
fn framed_default<T: Default>() -> T {
    T::default()
}

#[prologue(frame = 300)]
fn framed_lifetimes<'a, 'b, F>(a: &'a str, b: &'b str, choose: F) -> &'a str
where
    F: FnOnce(&'a str, &'b str) -> bool,
{
    if choose(a, b) { a } else { &a[1..] }
}

#[prologue(frame = 300)]
fn framed_opaque(mut x: impl Iterator<Item = u32>) -> impl Iterator<Item = u32> {
    x.next();
    x.map(|x| x + 1)
}

/// # Safety
///
/// `x` can be read.
#[prologue(frame = 300)]
unsafe extern "C" fn framed_contract(x: *const u32) -> u32 {
    // SAFETY: the caller's promise.
    unsafe { *x }
}

#[prologue(frame = 300)]
#[track_caller]
fn framed_location() -> &'static Location<'static> {
    Location::caller()
}

#[prologue(frame = 300)]
#[target_feature(enable = "avx2")]
fn framed_feature(x: [i32; 8]) -> i32 {
    use std::arch::x86_64::{_mm256_extract_epi32, _mm256_set1_epi32};
    _mm256_extract_epi32::<0>(_mm256_set1_epi32(x[0]))
}

#[test]
fn every_call_is_checked() {
    assert_eq!(counted(|| plain(9)), (9, 10));
    assert_eq!(counted(|| std::panic::catch_unwind(|| never()).is_err()), (true, 1));
    assert_eq!(counted(|| convention(1)), (2, 1));
    // SAFETY: the reference can be read.
    assert_eq!(counted(|| unsafe { contract(&7) }), (7, 1));
    let (arrays, checks) = counted(|| generic::<_, 3>(&'x', |_| 2).collect::<Vec<_>>());
    assert_eq!((arrays, checks), (vec![['x'; 3]; 2], 1));
}

#[test]
fn methods() {
    assert_eq!(counted(|| Counter::new(1_u32).add(&Counter::new(2))), (3, 3));
    assert_eq!(counted(|| Counter(Counter(1)).to_string()), ("<<1>>".to_owned(), 2));
    assert_eq!(counted(|| Box::new(4_u32).twice()), (8, 1));
}

#[test]
fn frames() {
    assert_eq!(counted(|| framed::<SIZE>(2, (1, ""))), (3 * SIZE, 3));
    assert_eq!(BYTES.get(), SIZE + 512);
    assert_eq!(counted(framed_default::<Option<String>>), (None, 1));
    assert_eq!(counted(|| framed_lifetimes("ab", "b", |a, b| a == b)), ("b", 1));
    assert_eq!(counted(|| framed_opaque([1, 2].into_iter()).collect::<Vec<_>>()), (vec![3], 1));
    // SAFETY: the reference can be read.
    assert_eq!(counted(|| unsafe { framed_contract(&7) }), (7, 1));
}

#[test]
fn attributes_that_hold_for_the_body() {
    assert_eq!(framed_location().line(), line!());
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the feature is there.
        assert_eq!(unsafe { framed_feature([5; 8]) }, 5);
    }
}
