//! The expansions as rustc sees them: every kind of function, with a `prologue!` that only counts.

#![allow(clippy::boxed_local, clippy::type_complexity)]

extern crate self as morestack;

use std::cell::{Cell, RefCell};
use std::fmt::{self, Display};
use std::panic::Location;
use std::pin::Pin;
use std::rc::Rc;

use morestack_macros::{prologue, with_prologue};

thread_local! {
    static CHECKS: Cell<usize> = const { Cell::new(0) };
    static BYTES: Cell<usize> = const { Cell::new(0) };
}

#[path = "../../../sched/src/outline.rs"]
mod outline;

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

    pub use crate::outline::Outline;
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

#[prologue]
#[track_caller]
fn location() -> &'static Location<'static> {
    Location::caller()
}

#[prologue(frame = 300)]
#[target_feature(enable = "avx2")]
fn framed_feature(x: [i32; 8]) -> i32 {
    use std::arch::x86_64::{_mm256_extract_epi32, _mm256_set1_epi32};
    _mm256_extract_epi32::<0>(_mm256_set1_epi32(x[0]))
}

/// Says when it is dropped.
struct Noted<'a>(&'a RefCell<String>, &'static str);

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        self.0.borrow_mut().push_str(self.1);
    }
}

/// Expands to a function with every kind of argument, with and without a frame.
macro_rules! both {
    ($plain:ident, $framed:ident, ($($arguments:tt)*) $body:block) => {
        #[prologue]
        fn $plain($($arguments)*) $body

        #[prologue(frame = 300)]
        fn $framed($($arguments)*) $body
    };
}

both!(drops, framed_drops, (a: Noted<'_>, _: Noted<'_>, (b, _): (Noted<'_>, Noted<'_>), mut c: Option<Noted<'_>>, take: bool) {
    let _local = Noted(a.0, "l");
    let taken = if take { c.take() } else { None };
    drop(b);
    drop(taken);
});

struct Table {
    rows: Vec<String>,
    name: String,
}

impl Table {
    #[prologue(frame = 300)]
    fn new(name: &str) -> Self {
        Self { rows: Vec::new(), name: name.to_owned() }
    }

    #[prologue(frame = 300)]
    fn name(&self) -> &str {
        &self.name
    }

    #[prologue(frame = 300)]
    fn push(&mut self, row: impl Into<String>) -> &mut Self {
        self.rows.push(row.into());
        self
    }

    #[prologue(frame = 300, loops)]
    fn longest(&mut self) -> Option<&mut String> {
        let mut longest = None;
        for (index, row) in self.rows.iter().enumerate() {
            if longest.is_none_or(|(length, _)| row.len() > length) {
                longest = Some((row.len(), index));
            }
        }
        Some(&mut self.rows[longest?.1])
    }

    #[prologue(frame = 300)]
    fn into_rows(mut self, sorted: bool) -> Vec<String> {
        if !sorted {
            return self.rows;
        }
        self.rows.sort();
        let Self { rows, .. } = self;
        rows
    }

    #[prologue(frame = 300)]
    fn boxed(self: Box<Self>) -> usize {
        self.rows.len()
    }

    #[prologue(frame = 300)]
    fn shared(self: &Rc<Self>) -> Rc<Self> {
        Rc::clone(self)
    }

    #[prologue(frame = 300)]
    fn pinned(self: Pin<&mut Self>) -> usize {
        self.rows.len()
    }

    #[prologue(frame = 300)]
    fn lengths<'a>(&'a self, f: impl Fn(&str) -> usize + 'a) -> impl Iterator<Item = usize> + 'a {
        self.rows.iter().map(move |row| f(row))
    }
}

trait Shape {
    const SIDES: u32;

    #[prologue(frame = 300)]
    fn sides(&self) -> u32 {
        Self::SIDES
    }

    fn walk<'a>(&'a self) -> Box<dyn Iterator<Item = u32> + 'a>;
}

impl<T: Copy + Into<u32>> Shape for [T; 3] {
    const SIDES: u32 = 3;

    #[prologue(frame = 300)]
    fn walk<'a>(&'a self) -> Box<dyn Iterator<Item = u32> + 'a> {
        Box::new(self.iter().map(|&x| x.into()))
    }
}

#[prologue(frame = 300)]
fn framed_question(text: &str) -> Result<u32, Box<dyn std::error::Error>> {
    let n: u32 = text.parse()?;
    if n > 9 {
        return Err("large".into());
    }
    Ok(n)
}

#[prologue(frame = 300)]
fn framed_never() -> ! {
    panic!("as asked");
}

#[prologue(frame = 300)]
fn framed_coercion(x: u8) -> Box<dyn Fn(&str) -> Box<[u8]>> {
    Box::new(move |text| Box::new([x, text.len() as u8]))
}

#[prologue(frame = 300)]
fn framed_opaques() -> (impl Fn(u32) -> u32, Option<impl Display>) {
    (|x| x + 1, Some("x"))
}

#[prologue(frame = 300)]
fn framed_conditional(#[cfg(unix)] x: u32, #[cfg(not(unix))] x: u64) -> u32 {
    x
}

/// The turns of the outer loop, and of the inner one that calls.
#[prologue(loops)]
fn looped(n: u64) -> (u64, u64) {
    let (mut sum, mut calls) = (0, 0);
    'outer: for i in 0..n {
        let mut j = 0;
        while j < 3 {
            j += 1;
            if j == 2 {
                continue;
            }
            sum += j;
        }
        loop {
            calls += u64::from(true);
            if calls.is_multiple_of(2) {
                continue 'outer;
            }
            if i > 100 {
                break 'outer;
            }
        }
    }
    (sum, calls)
}

#[test]
fn arguments_are_dropped_in_order() {
    let dropped = |f: for<'a> fn(Noted<'a>, Noted<'a>, (Noted<'a>, Noted<'a>), Option<Noted<'a>>, bool), take| {
        let notes = RefCell::new(String::new());
        let noted = |name| Noted(&notes, name);
        f(noted("a"), noted("_"), (noted("b"), noted("p")), Some(noted("c")), take);
        notes.into_inner()
    };
    for take in [false, true] {
        assert_eq!(dropped(framed_drops, take), dropped(drops, take), "{take}");
    }
    assert_eq!(dropped(drops, false), "blcp_a");
}

#[test]
fn framed_methods() {
    let mut table = Table::new("t");
    table.push("bb").push('a').push(String::from("ccc"));
    assert_eq!(table.name(), "t");
    assert_eq!(table.lengths(str::len).collect::<Vec<_>>(), [2, 1, 3]);
    let (longest, checks) = counted(|| table.longest().map(std::mem::take));
    assert_eq!((longest.as_deref(), checks), (Some("ccc"), 4));
    assert_eq!(Pin::new(&mut table).pinned(), 3);
    assert_eq!(table.into_rows(true), ["", "a", "bb"]);
    assert_eq!(Box::new(Table::new("")).boxed(), 0);
    assert_eq!(Rc::new(Table::new("s")).shared().name, "s");
    assert_eq!([1_u8, 2, 3].walk().chain([[4_u16; 3].sides()]).collect::<Vec<_>>(), [1, 2, 3, 3]);
}

#[test]
fn framed_results() {
    assert_eq!(framed_question("7").unwrap(), 7);
    assert_eq!(framed_question("12").unwrap_err().to_string(), "large");
    assert!(framed_question("x").is_err());
    assert!(std::panic::catch_unwind(|| framed_never()).is_err());
    assert_eq!(*framed_coercion(1)("ab"), [1, 2]);
    let (next, text) = framed_opaques();
    assert_eq!((next(1), text.unwrap().to_string()), (2, "x".to_owned()));
    assert_eq!(framed_conditional(3), 3);
}

#[test]
fn loops() {
    assert_eq!(counted(|| looped(0)), ((0, 0), 1));
    // Of the function, of three outer turns, and of two turns each of the loop that calls.
    assert_eq!(counted(|| looped(3)), ((12, 6), 1 + 3 + 6));
}

#[test]
fn closures() {
    let base = String::from("ab");
    let add = with_prologue!(|x: usize| base.len() + x);
    assert_eq!(counted(|| add(1) + add(2)), (7, 2));

    let mut sum = 0;
    let mut count = with_prologue!(frame = 300, |(x, y): (u64, u64)| {
        sum += x * y;
        sum
    });
    assert_eq!(counted(|| (count((2, 3)), count((1, 1)))), ((6, 7), 2));
    assert_eq!((sum, BYTES.get()), (7, 300));

    let owner = with_prologue!(frame = 300, loops, move |mut words: Vec<&'static str>| -> Option<String> {
        words.push(words.first()?);
        for word in &mut words {
            *word = word.trim();
        }
        Some(base + &words.concat())
    });
    assert_eq!(counted(|| owner(vec![" c", "d "])), (Some("abcdc".to_owned()), 1 + 3));

    let boxed: Box<dyn Fn(&str) -> usize> = Box::new(with_prologue!(|text| text.len()));
    assert_eq!(counted(|| boxed("abc")), (3, 1));
    let spawned = std::thread::spawn(with_prologue!(move || boxed_len(&[1, 2])));
    assert_eq!(spawned.join().unwrap(), 2);
}

fn boxed_len(x: &[u8]) -> usize {
    x.len()
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
    assert_eq!(location().line(), line!());
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the feature is there.
        assert_eq!(unsafe { framed_feature([5; 8]) }, 5);
    }
}
