//! A grammar that is generated: pairs, operator precedence by closures, errors.

use std::sync::LazyLock;

use pest::Parser;
use pest::iterators::Pairs;
use pest::pratt_parser::{Assoc, Op, PrattParser};
use pest_derive::Parser;

use crates::source::Source;

#[derive(Parser)]
#[grammar_inline = r#"
WHITESPACE = _{ " " | NEWLINE }
COMMENT    = _{ "/*" ~ (!"*/" ~ ANY)* ~ "*/" }
number     = @{ ASCII_DIGIT+ ~ ("." ~ ASCII_DIGIT+)? }
name       = @{ XID_START ~ XID_CONTINUE* }
call       = { name ~ "(" ~ (expr ~ ("," ~ expr)*)? ~ ")" }
quoted     = ${ PUSH("\"" | "'") ~ (!PEEK ~ ANY)* ~ POP }
primary    = _{ number | call | name | quoted | "(" ~ expr ~ ")" }
add = { "+" } sub = { "-" } mul = { "*" } div = { "/" } pow = { "^" } neg = { "-" } fac = { "!" }
expr       = { neg* ~ primary ~ fac* ~ ((add | sub | mul | div | pow) ~ neg* ~ primary ~ fac*)* }
file       = { SOI ~ (expr ~ ";")* ~ EOI }
"#]
struct Grammar;

static PRATT: LazyLock<PrattParser<Rule>> = LazyLock::new(|| {
    PrattParser::new()
        .op(Op::infix(Rule::add, Assoc::Left) | Op::infix(Rule::sub, Assoc::Left))
        .op(Op::infix(Rule::mul, Assoc::Left) | Op::infix(Rule::div, Assoc::Left))
        .op(Op::infix(Rule::pow, Assoc::Right))
        .op(Op::prefix(Rule::neg))
        .op(Op::postfix(Rule::fac))
});

fn evaluate(pairs: Pairs<Rule>, names: &mut Vec<String>) -> f64 {
    let seen = std::cell::RefCell::new(names);
    PRATT
        .map_primary(|pair| match pair.as_rule() {
            Rule::number => pair.as_str().parse().unwrap(),
            Rule::expr => evaluate(pair.into_inner(), &mut seen.borrow_mut()),
            Rule::call => {
                let mut inner = pair.into_inner();
                seen.borrow_mut().push(inner.next().unwrap().as_str().to_owned());
                inner.map(|pair| evaluate(pair.into_inner(), &mut seen.borrow_mut())).sum()
            }
            _ => pair.as_str().len() as f64,
        })
        .map_infix(|left, op, right| match op.as_rule() {
            Rule::add => left + right,
            Rule::sub => left - right,
            Rule::mul => left * right,
            Rule::div => left / right,
            _ => left.powf(right.rem_euclid(3.0)),
        })
        .map_prefix(|_, right| -right)
        .map_postfix(|left, _| (1..=left as u64 % 6).product::<u64>() as f64)
        .parse(pairs)
}

fn expression(source: &mut Source, depth: u64) -> String {
    let n = source.below(100);
    match source.below(if depth == 0 { 2 } else { 7 }) {
        0 => format!("{n}.5"),
        1 => "straße_x".to_owned(),
        2 => format!("({})!", expression(source, depth - 1)),
        3 => format!("f{n}({}, 'a\"b', {})", expression(source, depth - 1), expression(source, depth - 1)),
        4 => format!("--{} /* {n} */", expression(source, depth - 1)),
        _ => format!(
            "{} {} {}",
            expression(source, depth - 1),
            source.pick(&["+", "-", "*", "/", "^"]),
            expression(source, depth - 1)
        ),
    }
}

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let text: String = (0..5).map(|_| expression(source, 5) + ";\n").collect();
    let file = Grammar::parse(Rule::file, &text).unwrap().next().unwrap();
    let mut names = Vec::new();
    let values: Vec<f64> = file
        .clone()
        .into_inner()
        .filter(|p| p.as_rule() == Rule::expr)
        .map(|p| evaluate(p.into_inner(), &mut names))
        .collect();
    let count = file.into_inner().flatten().filter(|pair| pair.as_span().start_pos().line_col().0 % 2 == 0).count();
    let errors: Vec<String> = ["1 + ;", "f(1,;", "'abc;", "1 2;"]
        .iter()
        .map(|text| Grammar::parse(Rule::file, text).unwrap_err().to_string())
        .collect();
    format!("{values:?} {count} {names:?}\n{}", errors.join("\n"))
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
