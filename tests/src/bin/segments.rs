//! Calls above frames that must not move: precompiled code of std that calls back. In a program with side stacks they grow by
//! segments, elsewhere they run on reserved stacks; the text is the same.
//!
//! `segments TEST --on KIND`; the last line on the standard error says how many segments there were.

use std::cell::Cell;
use std::fmt::{self, Display, Write};
use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind};

use clap::{Parser, ValueEnum};
use morestack_tests::on::On;

#[derive(Clone, Copy, Parser)]
struct Options {
    test: Test,
    #[arg(long, default_value = "spawn")]
    on: On,
    /// Less deep, for runs under stress.
    #[arg(long)]
    small: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Test {
    /// `Display` inside of `format!` inside of `Display`, some hundred deep.
    Nested,
    /// A deep recursion from within one call of `fmt::write`.
    Deep,
    /// Many arguments, some on the stack, and results of all kinds, across the boundary.
    Arguments,
    /// A panic through segments, caught below and above.
    Panics,
    /// A thread-local and a heap object that refer to locals meanwhile.
    References,
    /// Calls across the boundary, again and again.
    Boundary,
    /// A thread that waits on a segment.
    Waits,
}

/// A tree that prints its children by `write!`, through `fmt::write`, which is precompiled.
struct Tree {
    depth: u32,
}

impl Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let local = [self.depth; 16];
        if self.depth > 0 {
            write!(f, "({} {})", local[3], Tree { depth: self.depth - 1 })?;
        }
        if local.iter().all(|n| *n == self.depth) { f.write_char('.') } else { Err(fmt::Error) }
    }
}

/// Calls `f` from within `fmt::write`.
fn above<R>(f: impl FnOnce() -> R) -> R {
    struct Once<F, R>(Cell<Option<F>>, Cell<Option<R>>);
    impl<F: FnOnce() -> R, R> Display for Once<F, R> {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.1.set(self.0.take().map(|f| f()));
            Ok(())
        }
    }
    let once = Once(Cell::new(Some(f)), Cell::new(None));
    write!(String::new(), "{once}").expect("a string takes it");
    once.1.take().expect("it was called")
}

#[inline(never)]
fn deep(n: u64, above: Option<&u64>) -> u64 {
    let mine = black_box([n; 8]);
    if n == 0 { above.copied().unwrap_or(0) } else { deep(n - 1, Some(&mine[2])) + mine[7] % 3 }
}

#[derive(Clone, Copy, Debug)]
struct Large([u64; 9]);

#[inline(never)]
#[expect(clippy::too_many_arguments, reason = "that is the point")]
fn many(
    a: u64,
    b: f64,
    c: &u64,
    d: u8,
    e: &str,
    f: Large,
    g: u128,
    h: f32,
    i: &mut u64,
    j: [u8; 3],
) -> (u64, f64, Large) {
    deep(2000, None);
    *i += *c + u64::from(d) + e.len() as u64;
    let sum = f.0.iter().sum::<u64>() + (g >> 64) as u64 + u64::from(j[2]) + a;
    (sum, b * f64::from(h), Large([sum; 9]))
}

#[inline(never)]
fn pair(n: u64) -> (u64, u64) {
    deep(1500, None);
    (n, !n)
}

#[inline(never)]
fn floats(n: f64) -> (f64, f64) {
    deep(1500, None);
    (n, -n)
}

struct Noted<'a>(&'a Cell<u32>);

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

#[inline(never)]
fn panics(n: u64, drops: &Cell<u32>) -> u64 {
    let _noted = Noted(drops);
    let mine = black_box([n; 4]);
    if n == 0 {
        panic!("at the end")
    }
    let below = if n.is_multiple_of(100) { above(|| panics(n - 1, drops)) } else { panics(n - 1, drops) };
    below + mine[1]
}

thread_local! {
    static CURRENT: Cell<Option<*const u64>> = const { Cell::new(None) };
}

/// As crates that keep a reference to a local for the length of a call do.
fn with_current<R>(local: &u64, f: impl FnOnce() -> R) -> R {
    let before = CURRENT.replace(Some(local));
    let result = f();
    CURRENT.set(before);
    result
}

fn current() -> u64 {
    // SAFETY: set for the length of the call that this is in.
    CURRENT.get().map_or(0, |local| unsafe { *local })
}

fn references(n: u64) -> u64 {
    let local = n * 3;
    let mut list: Vec<&u64> = vec![&local];
    let text = format!("{}", current());
    let inner = with_current(&local, || {
        list.push(&local);
        let boxed: Box<dyn Fn() -> u64 + '_> = Box::new(|| *list[0] + current());
        let deep = deep(200, None);
        let mut sum = boxed() + deep;
        if n > 0 {
            sum += above(|| references(n - 1));
        }
        std::thread::scope(|scope| scope.spawn(|| local).join().unwrap_or(0)) + sum + boxed()
    });
    inner + *list[1] + text.len() as u64
}

#[inline(never)]
fn small(n: u64) -> u64 {
    black_box([n; 40])[7]
}

fn run(options: Options) -> String {
    match options.test {
        Test::Nested => Tree { depth: 400 }.to_string(),
        Test::Deep => above(|| deep(if options.small { 3000 } else { 200_000 }, None)).to_string(),
        Test::Arguments => above(|| {
            let (c, mut i) = (7, 100);
            let large = Large([1, 2, 3, 4, 5, 6, 7, 8, 9]);
            let result = many(1, 2.5, &c, 3, "four", large, 5 << 70, 1.5, &mut i, [6, 7, 8]);
            format!("{result:?} {i} {:?} {:?}", pair(9), floats(0.5))
        }),
        Test::Panics => {
            let drops = Cell::new(0);
            let outer = catch_unwind(AssertUnwindSafe(|| panics(2050, &drops)));
            let inner = above(|| catch_unwind(AssertUnwindSafe(|| panics(350, &drops))));
            let again = above(|| deep(3000, None));
            format!("{} {} {} {again}", outer.is_err(), inner.is_err(), drops.get())
        }
        Test::References => references(60).to_string(),
        Test::Boundary => above(|| (0..300_000).map(small).sum::<u64>()).to_string(),
        Test::Waits => above(|| {
            let mut sum = 0;
            for n in 0..40 {
                sum += deep(2000, None);
                let other = morestack::spawn(move || n);
                morestack::sleep(std::time::Duration::from_micros(50));
                sum += other.join().expect("it returns");
                morestack::yield_now();
            }
            sum
        })
        .to_string(),
    }
}

fn main() {
    std::panic::set_hook(Box::new(|_| {}));
    let options = Options::parse();
    // What is set and restored around a call is mixed up by another of the same OS thread.
    let threads = if let Test::References = options.test { 1 } else { 2 };
    // SAFETY: references to locals are kept across safepoints: with side stacks that is allowed. Without, this is not run on `go`.
    let ran = unsafe { options.on.run(threads, move |_| run(options)) };
    for text in ran.results {
        println!("{text}");
    }
    if let Some(metrics) = ran.metrics {
        eprintln!(
            "segments {} moves {} freezes {} preemptions {}",
            metrics.segments,
            metrics.grows + metrics.shrinks,
            metrics.freezes,
            metrics.preemptions
        );
    }
}
