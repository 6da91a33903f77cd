//! A JSON document: generated, parsed by recursive descent into values that borrow from the text, written, and hashed.

use std::borrow::Cow;
use std::fmt::Write;

use morestack::prologue;

use super::{Size, Source, hash};

/// A value that borrows from the document where it can.
#[derive(Debug, PartialEq)]
enum Value<'a> {
    Null,
    Bool(bool),
    Number(f64),
    Text(Cow<'a, str>),
    Array(Vec<Value<'a>>),
    Object(Vec<(Cow<'a, str>, Value<'a>)>),
}

/// Why a document is not JSON, and where.
#[derive(Debug, PartialEq)]
struct Error {
    expected: &'static str,
    at: usize,
}

type Result<T> = std::result::Result<T, Error>;

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    #[prologue]
    fn document(text: &'a str) -> Result<Value<'a>> {
        let mut parser = Parser { text, at: 0 };
        let value = parser.value()?;
        parser.space();
        if parser.at == text.len() { Ok(value) } else { parser.error("the end") }
    }

    #[prologue]
    fn value(&mut self) -> Result<Value<'a>> {
        self.space();
        match self.peek() {
            Some(b'{') => self.object(),
            Some(b'[') => self.array(),
            Some(b'"') => Ok(Value::Text(self.text()?)),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            _ => self.number(),
        }
    }

    #[prologue]
    fn object(&mut self) -> Result<Value<'a>> {
        let mut members = Vec::new();
        self.list(b'}', |parser| {
            parser.space();
            let key = parser.text()?;
            parser.space();
            parser.expect(b':', "a colon")?;
            members.push((key, parser.value()?));
            Ok(())
        })?;
        Ok(Value::Object(members))
    }

    #[prologue]
    fn array(&mut self) -> Result<Value<'a>> {
        let mut items = Vec::new();
        self.list(b']', |parser| {
            items.push(parser.value()?);
            Ok(())
        })?;
        Ok(Value::Array(items))
    }

    /// What is between brackets. The items go where the closure borrows: a local of the caller.
    #[prologue]
    fn list(&mut self, end: u8, mut item: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        self.at += 1;
        self.space();
        if self.peek() == Some(end) {
            self.at += 1;
            return Ok(());
        }
        loop {
            item(self)?;
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(byte) if byte == end => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.error("a comma or the end of a list"),
            }
        }
    }

    #[prologue]
    fn text(&mut self) -> Result<Cow<'a, str>> {
        self.expect(b'"', "a string")?;
        let mut text = Cow::Borrowed("");
        loop {
            let rest = &self.text[self.at..];
            let Some(length) = rest.find(['"', '\\']) else { return self.error("the end of a string") };
            self.at += length + 1;
            if text.is_empty() {
                text = Cow::Borrowed(&rest[..length]);
            } else {
                text.to_mut().push_str(&rest[..length]);
            }
            if rest.as_bytes()[length] == b'"' {
                return Ok(text);
            }
            text.to_mut().push(self.escaped()?);
        }
    }

    #[prologue]
    fn escaped(&mut self) -> Result<char> {
        let Some(byte) = self.peek() else { return self.error("an escape") };
        self.at += 1;
        Ok(match byte {
            b'n' => '\n',
            b't' => '\t',
            b'"' | b'\\' | b'/' => char::from(byte),
            b'u' => {
                let digits = self.text.get(self.at..self.at + 4);
                let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()).and_then(char::from_u32);
                let Some(code) = code else { return self.error("four digits of a character") };
                self.at += 4;
                code
            }
            _ => return self.error("a known escape"),
        })
    }

    #[prologue]
    fn number(&mut self) -> Result<Value<'a>> {
        let rest = &self.text[self.at..];
        let length = rest.find(|c: char| !matches!(c, '0'..='9' | '+' | '-' | '.' | 'e' | 'E')).unwrap_or(rest.len());
        match rest[..length].parse() {
            Ok(number) => {
                self.at += length;
                Ok(Value::Number(number))
            }
            Err(_) => self.error("a value"),
        }
    }

    fn word(&mut self, word: &'static str, value: Value<'a>) -> Result<Value<'a>> {
        if !self.text[self.at..].starts_with(word) {
            return self.error(word);
        }
        self.at += word.len();
        Ok(value)
    }

    fn expect(&mut self, byte: u8, expected: &'static str) -> Result<()> {
        if self.peek() != Some(byte) {
            return self.error(expected);
        }
        self.at += 1;
        Ok(())
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\t' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn error<T>(&self, expected: &'static str) -> Result<T> {
        Err(Error { expected, at: self.at })
    }
}

/// Writes a value as the generator does, so that a document comes back as it was.
#[prologue]
fn write(value: &Value<'_>, out: &mut dyn Write) -> std::fmt::Result {
    match value {
        Value::Null => out.write_str("null"),
        Value::Bool(b) => write!(out, "{b}"),
        Value::Number(n) => write!(out, "{n}"),
        Value::Text(text) => write_text(text, out),
        Value::Array(items) => {
            out.write_char('[')?;
            for (index, item) in items.iter().enumerate() {
                out.write_str(if index == 0 { "" } else { ", " })?;
                write(item, out)?;
            }
            out.write_char(']')
        }
        Value::Object(members) => {
            out.write_char('{')?;
            for (index, (key, member)) in members.iter().enumerate() {
                out.write_str(if index == 0 { "" } else { ", " })?;
                write_text(key, out)?;
                out.write_str(": ")?;
                write(member, out)?;
            }
            out.write_char('}')
        }
    }
}

#[prologue]
fn write_text(text: &str, out: &mut dyn Write) -> std::fmt::Result {
    out.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(out, "\\{c}")?,
            '\n' => out.write_str("\\n")?,
            '\t' => out.write_str("\\t")?,
            c if c < ' ' => write!(out, "\\u{:04x}", u32::from(c))?,
            c => out.write_char(c)?,
        }
    }
    out.write_char('"')
}

/// A value of at most `depth` levels.
#[prologue]
fn generate(source: &mut Source, depth: u32) -> Value<'static> {
    match source.below(if depth == 0 { 5 } else { 12 }) {
        0 => Value::Null,
        1 => Value::Bool(source.below(2) == 0),
        2 => Value::Number((source.next() as i32).into()),
        3 => Value::Number(source.below(1000) as f64 / 8.0),
        4 => Value::Text(word(source).into()),
        5..8 => Value::Array((0..source.below(8)).map(|_| generate(source, depth - 1)).collect()),
        _ => Value::Object((0..source.below(8)).map(|_| (word(source).into(), generate(source, depth - 1))).collect()),
    }
}

#[prologue]
fn word(source: &mut Source) -> String {
    const LETTERS: [char; 12] = ['a', 'b', 'c', 'd', 'e', 'f', ' ', 'é', '"', '\\', '\n', '\u{1}'];
    (0..source.below(12)).map(|_| LETTERS[source.below(12) as usize]).collect()
}

pub(super) fn run(size: Size) -> String {
    let mut source = Source::new(3);
    let mut text = String::from("[");
    while text.len() < size.pick(100_000, 10_000) {
        write(&generate(&mut source, 5), &mut text).expect("a string takes all");
        text.push_str(",\n ");
    }
    // A value nested more deeply than any generated one.
    let nested = size.pick(2000, 50);
    text += &"[".repeat(nested);
    text += &"]".repeat(nested);
    text.push(']');

    let value = Parser::document(&text).expect("a document");
    let mut written = String::new();
    write(&value, &mut written).expect("a string takes all");
    assert_eq!(Parser::document(&written).as_ref(), Ok(&value));
    assert_eq!(written.replace(", ", ",\n "), text.replace(", ", ",\n "));
    let cut = Parser::document(&text[..text.len() - 1]).expect_err("a document that is cut short");
    assert_eq!(cut, Error { expected: "a comma or the end of a list", at: text.len() - 1 });
    format!("{} bytes {:016x}, written {} bytes {:016x}", text.len(), hash(&text), written.len(), hash(&written))
}
