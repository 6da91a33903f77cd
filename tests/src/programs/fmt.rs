//! Formatting: std keeps the `Formatter` it lends to a `Display` on its own frame, and the next `Display` is called from
//! inside that one.

use std::fmt::{self, Display, Write};

use morestack::prologue;

use super::{Size, Source, hash};

/// An expression.
#[derive(Debug)]
enum Expr {
    Number(i64),
    Name(String),
    Pair(char, Box<Expr>, Box<Expr>),
}

impl Expr {
    #[prologue]
    fn new(source: &mut Source, depth: u32) -> Expr {
        match source.below(8) {
            _ if depth == 0 => Expr::Number(source.next() as i64 >> 40),
            0 => Expr::Name(format!("x{}", source.below(100))),
            n => {
                let sign = ['+', '-', '*', '/'][n as usize % 4];
                Expr::Pair(sign, Box::new(Expr::new(source, depth - 1)), Box::new(Expr::new(source, depth - 1)))
            }
        }
    }
}

impl Display for Expr {
    #[prologue]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expr::Number(n) => write!(f, "{n:+}"),
            Expr::Name(name) => f.pad(name),
            Expr::Pair(sign, left, right) => write!(f, "({left} {sign} {right:>4})"),
        }
    }
}

/// Counts what passes through, and hands it on.
struct Counting<'a> {
    out: &'a mut dyn Write,
    bytes: usize,
}

impl Write for Counting<'_> {
    #[prologue]
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.bytes += text.len();
        self.out.write_str(text)
    }
}

#[prologue]
fn write(expr: &Expr) -> String {
    let mut text = String::new();
    let mut counting = Counting { out: &mut text, bytes: 0 };
    // `{:#?}` indents through an adapter of std's for each level, one writer on top of the other.
    write!(counting, "{expr}\n{expr:#?}").expect("a string takes all");
    let bytes = counting.bytes;
    assert_eq!(bytes, text.len());
    text
}

pub(super) fn run(size: Size) -> String {
    let mut source = Source::new(2);
    let mut result = String::new();
    for depth in 0..size.pick(11, 6) {
        let text = write(&Expr::new(&mut source, depth));
        writeln!(result, "{depth}: {} bytes {:016x}", text.len(), hash(&text)).expect("a string takes all");
    }
    result
}
