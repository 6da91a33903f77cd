//! A grammar by combinators that recurse: expressions, JSON, bits; errors.

use nom::branch::alt;
use nom::bytes::complete::{escaped_transform, is_not, tag, take_while1};
use nom::character::complete::{char, digit1, multispace0, one_of};
use nom::combinator::{all_consuming, cut, map, map_res, opt, recognize, value};
use nom::error::{ContextError, ParseError, context};
use nom::multi::{fold_many0, separated_list0};
use nom::number::complete::double;
use nom::sequence::{delimited, pair, preceded, separated_pair, terminated};
use nom::{AsChar, IResult, Parser};

use crates::source::Source;

fn space<'a, O, E: ParseError<&'a str>>(
    inner: impl Parser<&'a str, Output = O, Error = E>,
) -> impl Parser<&'a str, Output = O, Error = E> {
    delimited(multispace0, inner, multispace0)
}

fn atom(input: &str) -> IResult<&str, i64> {
    alt((
        space(map_res(recognize(pair(opt(char('-')), digit1)), str::parse)),
        space(delimited(char('('), sum, char(')'))),
    ))
    .parse(input)
}

fn product(input: &str) -> IResult<&str, i64> {
    let (input, first) = atom(input)?;
    fold_many0(
        pair(one_of("*/"), atom),
        move || first,
        |left: i64, (op, right)| match op {
            '*' => left.wrapping_mul(right),
            _ => left.checked_div(right).unwrap_or(0),
        },
    )
    .parse(input)
}

fn sum(input: &str) -> IResult<&str, i64> {
    let (input, first) = product(input)?;
    fold_many0(
        pair(one_of("+-"), product),
        move || first,
        |left: i64, (op, right)| {
            if op == '+' { left.wrapping_add(right) } else { left.wrapping_sub(right) }
        },
    )
    .parse(input)
}

#[derive(Clone, Debug, PartialEq)]
enum Json {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Json>),
    Map(Vec<(String, Json)>),
}

fn text<'a, E: ParseError<&'a str> + ContextError<&'a str>>(input: &'a str) -> IResult<&'a str, String, E> {
    let escape = alt((value("\\", tag("\\")), value("\"", tag("\"")), value("\n", tag("n"))));
    let inner = map(opt(escaped_transform(is_not("\"\\"), '\\', escape)), Option::unwrap_or_default);
    context("text", preceded(char('"'), cut(terminated(inner, char('"'))))).parse(input)
}

fn json<'a, E: ParseError<&'a str> + ContextError<&'a str>>(input: &'a str) -> IResult<&'a str, Json, E> {
    space(alt((
        value(Json::Null, tag("null")),
        map(alt((value(true, tag("true")), value(false, tag("false")))), Json::Bool),
        map(text, Json::Text),
        map(double, Json::Number),
        map(
            context("list", preceded(char('['), cut(terminated(separated_list0(char(','), json), char(']'))))),
            Json::List,
        ),
        map(
            context(
                "map",
                preceded(
                    char('{'),
                    cut(terminated(
                        separated_list0(char(','), separated_pair(space(text), char(':'), json)),
                        char('}'),
                    )),
                ),
            ),
            Json::Map,
        ),
    )))
    .parse(input)
}

fn expression(source: &mut Source, depth: u64) -> String {
    if depth == 0 {
        return source.below(100).to_string();
    }
    let op = source.pick(&["+", " - ", "*", " / "]);
    let less = source.below(depth);
    let (left, right) = (expression(source, depth - 1), expression(source, less));
    if source.below(2) == 0 { format!("({left}{op}{right})") } else { format!("{left}{op} {right}") }
}

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let expressions: Vec<String> = (0..6).map(|_| expression(source, 6)).collect();
    let values: Vec<i64> = expressions.iter().map(|e| all_consuming(sum).parse(e).unwrap().1).collect();
    let document = format!(
        "{{ \"a\\\"\": [1, -2.5e3, [], {{}}, null, [[[[true]]]]], \"{}\": {{\"x\": \"\\n\"}} }}",
        source.words(2)
    );
    let parsed = json::<nom::error::Error<&str>>(&document);
    let errors: Vec<String> = ["[1, 2", "{\"a\" 3}", "\"abc", "[1 2]"]
        .iter()
        .map(|text| match json::<(&str, nom::error::ErrorKind)>(text) {
            Ok((rest, value)) => format!("{value:?} before {rest:?}"),
            Err(error) => format!("{error:?}"),
        })
        .collect();
    let words: IResult<&str, Vec<&str>> =
        separated_list0(char(' '), take_while1(|c: char| c.is_alpha() || c > '\u{7f}')).parse(&document[10..10]);
    format!("{values:?} {parsed:?} {errors:?} {words:?}")
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
