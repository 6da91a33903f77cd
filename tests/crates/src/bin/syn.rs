//! Rust: parsed, visited, folded, quoted, and parsed again; errors with their places.

use quote::{ToTokens, format_ident, quote};
use syn::fold::{self, Fold};
use syn::visit::{self, Visit};
use syn::{Expr, ExprBinary, ExprLit, Ident, ItemFn, Lit, LitInt, parse_quote};

use crates::source::{Source, hash};

const TEXT: &str = r#"
    use std::{fmt::{self, Display}, collections::*};
    #[derive(Clone, Debug)]
    pub(crate) struct Tree<'a, T: Display + ?Sized + 'a, const N: usize> where T: Ord { left: Option<Box<Tree<'a, T, N>>>, value: &'a T }
    impl<'a, T: Display + ?Sized + Ord, const N: usize> Tree<'a, T, N> {
        fn walk(&self, f: &mut dyn FnMut(&T) -> Result<(), fmt::Error>) -> Result<usize, fmt::Error> {
            if let Some(left) = &self.left && N > 1 { left.walk(f)?; }
            'outer: for (i, x) in (0..N).zip([1u8; 3]) { while x < 3 { if i == 2 { break 'outer } else { continue } } }
            f(self.value).map(|()| match N { 0 | 1 => 1 + 2 * 3, n if n > 7 => n << 2, _ => { let y = -1i64 as usize; y ^ 0xff } })
        }
    }
    macro_rules! m { ($($x:expr),*) => { [$($x + 1),*] } }
    async unsafe extern "C" fn g(x: impl Fn(u8) -> u8 + Send, (a, b): (f64, &str)) -> impl Iterator<Item = char> {
        let z = async move { x(3).await?; Ok::<_, ()>(m![1, 2]) };
        b.chars().rev().filter(move |c| a > 1.5e3 && *c != '\u{1F600}' || !c.is_ascii())
    }
"#;

#[derive(Default)]
struct Count<'ast> {
    names: Vec<&'ast Ident>,
    calls: usize,
    depth: usize,
    deepest: usize,
}

impl<'ast> Visit<'ast> for Count<'ast> {
    fn visit_ident(&mut self, ident: &'ast Ident) {
        self.names.push(ident);
    }
    fn visit_expr(&mut self, expr: &'ast Expr) {
        self.depth += 1;
        self.deepest = self.deepest.max(self.depth);
        self.calls += usize::from(matches!(expr, Expr::Call(_) | Expr::MethodCall(_)));
        visit::visit_expr(self, expr);
        self.depth -= 1;
    }
}

/// Adds one to every number, and puts what is added in brackets.
struct Change<'a>(&'a mut u64);

impl Fold for Change<'_> {
    fn fold_lit_int(&mut self, lit: LitInt) -> LitInt {
        *self.0 += 1;
        let value = lit.base10_parse::<u64>().unwrap() + *self.0;
        LitInt::new(&format!("{value}{}", lit.suffix()), lit.span())
    }
    fn fold_expr(&mut self, expr: Expr) -> Expr {
        match fold::fold_expr(self, expr) {
            Expr::Binary(ExprBinary { left, op, right, .. }) => parse_quote!((#left #op (#right))),
            Expr::Lit(ExprLit { lit: Lit::Float(f), .. }) => parse_quote!(f64::from(#f)),
            expr => expr,
        }
    }
}

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let nested = (0..24).fold("1".to_owned(), |inner, _| {
        let n = source.below(100);
        match source.below(4) {
            0 => format!("({inner} + {n})"),
            1 => format!("f({n}, {inner}, |x| x * {n})"),
            2 => format!("if a{n} {{ {inner} }} else {{ {n} }}"),
            _ => format!("[{inner}; {n}]"),
        }
    });
    let text = format!("{TEXT} fn nested() {{ {nested}; }}");
    let file = syn::parse_file(&text).unwrap();
    let mut count = Count::default();
    count.visit_file(&file);
    let mut names: Vec<String> = count.names.iter().map(ToString::to_string).collect();
    names.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    names.dedup();
    let summary = format!("{} {} {:?}", count.calls, count.deepest, &names[..8]);
    let mut changed = 0;
    let folded = Change(&mut changed).fold_file(file);
    let tokens = folded.to_token_stream().to_string();
    assert_eq!(syn::parse_file(&tokens).unwrap(), folded);
    let names: Vec<Ident> = names.iter().take(4).map(|name| format_ident!("n_{name}")).collect();
    let functions: Vec<ItemFn> = (0..5u8)
        .map(|i| {
            let (name, arguments) = (format_ident!("made_{i}"), (0..i).map(|j| format_ident!("x{j}")));
            parse_quote!(fn #name(#(#arguments: u8),*) -> u8 { #i #(+ #names)* })
        })
        .collect::<Vec<_>>()
        .into_iter()
        .collect();
    let made = quote!(#(#functions)*).to_string();
    let errors: Vec<String> = ["fn f( {}", "struct S { a: }", "fn f() { 1 + ; }"]
        .iter()
        .map(|text| syn::parse_file(text).unwrap_err().to_string())
        .collect();
    format!(
        "{summary} {changed} {errors:?} {:x} {:x}\n{tokens}",
        hash(made.as_bytes()),
        hash(format!("{folded:?}").as_bytes())
    )
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
