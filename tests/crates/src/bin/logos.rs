//! A lexer that is generated: callbacks, extras, skips, another lexer in the middle; errors.

use logos::{Lexer, Logos, Skip};

use crates::source::{Source, hash};

#[derive(Clone, Debug, Default, PartialEq)]
enum Problem {
    #[default]
    Unknown,
    Number(std::num::ParseIntError),
}

impl From<std::num::ParseIntError> for Problem {
    fn from(error: std::num::ParseIntError) -> Problem {
        Problem::Number(error)
    }
}

#[derive(Debug, Logos, PartialEq)]
#[logos(extras = (usize, usize), error = Problem, skip r"[ \t]+")]
enum Token<'a> {
    #[token("\n", line)]
    Line,
    #[regex(r"[\p{L}_][\p{L}\d_]*")]
    Name(&'a str),
    #[regex(r"[0-9]+", |lexer| lexer.slice().parse::<u16>())]
    Number(u16),
    #[token("\"", text)]
    Text(Vec<Part<'a>>),
    #[token("=>")]
    Arrow,
    #[regex(r"[-+*/=<>]+")]
    Operator,
    #[token("(", |lexer| nested(lexer, 0))]
    Nested(usize),
}

#[derive(Debug, Logos, PartialEq)]
enum Part<'a> {
    #[regex(r#"[^"\\]+"#)]
    Plain(&'a str),
    #[regex(r"\\.")]
    Escape,
    #[token("\"")]
    End,
}

fn line<'a>(lexer: &mut Lexer<'a, Token<'a>>) -> Skip {
    lexer.extras = (lexer.extras.0 + 1, lexer.span().end);
    Skip
}

fn text<'a>(lexer: &mut Lexer<'a, Token<'a>>) -> Option<Vec<Part<'a>>> {
    let mut inner: Lexer<Part> = Part::lexer(lexer.remainder());
    let parts = inner.by_ref().map_while(Result::ok).take_while(|part| *part != Part::End).collect();
    let end = inner.span().end;
    lexer.bump(end);
    Some(parts)
}

/// Reads up to the bracket that closes, with a lexer for each level.
fn nested<'a>(lexer: &mut Lexer<'a, Token<'a>>, depth: usize) -> Option<usize> {
    let rest = lexer.remainder();
    let at = rest.find(['(', ')'])?;
    lexer.bump(at + 1);
    if rest[at..].starts_with(')') { Some(depth) } else { Some(nested(lexer, depth + 1)? + nested(lexer, depth)?) }
}

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let text: String = (0..40)
        .map(|_| match source.below(7) {
            0 => format!("{} => ", source.words(1)),
            1 => format!("{} ", source.below(70_000)),
            2 => format!("\"{}\\n\"\n", source.words(2)),
            3 => "((a)(b(c)))".to_owned(),
            4 => "+-*==>".to_owned(),
            5 => "§\n".to_owned(),
            _ => source.words(3),
        })
        .collect();
    let mut lexer = Token::lexer(&text);
    let mut tokens = Vec::new();
    while let Some(token) = lexer.next() {
        tokens.push(format!("{token:?}@{:?}", lexer.span()));
    }
    format!("{:?} {} {:x}\n{:?}", lexer.extras, tokens.len(), hash(tokens.join("\n").as_bytes()), &tokens[..10])
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
