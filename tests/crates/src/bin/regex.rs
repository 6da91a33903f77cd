//! Patterns of every kind, over texts in many scripts; replacement by closures, sets, splits, bytes; errors.

use std::borrow::Cow;
use std::fmt::Write;

use regex::{Captures, Regex, RegexBuilder, RegexSet};

use crates::source::{Source, hash};

const PATTERNS: [&str; 22] = [
    r"stack|thread|frame|Straße",
    r"(?i)STRASSE|grün|ГРÜN",
    r"(a|ab)(c|bcd)?(d*)",
    r"(?P<first>\w+)\s+(?P<second>\w+)",
    r"\b\p{Lu}\p{Ll}+\b",
    r"[\p{Han}\p{Greek}--日]+",
    r"(?x) ( \d{1,3} ) (?: \. ( \d{1,3} ) ){3} # an address",
    r"^(?:[a-z]+ ){2,}[a-z]+$",
    r"(?m)^\s*(\S+?):\s*(.*?)\s*$",
    r"(((((a?)b?)c?)d?)e?)f?",
    r"(?:(?:(?:a{0,3}b){0,3}c){0,3}d){1,3}",
    r"[^\W\d_]{2,}?(?:of|and)",
    r"(?s).{10,30}?the",
    r"(?-u:\xff)?\w",
    r"[a-z&&[^aeiou]]+",
    r"\p{Script=Hiragana}|\p{Emoji}|\p{Alphabetic}{6}",
    r"(foo|bar|baz|stack|heap)+?(?:\s|$)",
    r"(\w)(\w)?(\w)?(\w)?(\w)?",
    r"x*",
    r"(?R)^.*$",
    r"\bto\b.*\bto\b",
    r"(?i:k)[K\u{212a}]*",
];

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let text = format!(
        "{} 10.20.30.40\n key: {}\r\nabcdd aaabcd Kkk \u{212a} Ελλάδα ひらがな 😀 foobarbaz {}",
        source.words(20),
        source.words(5),
        source.words(20)
    );
    let mut out = String::new();
    for (i, pattern) in PATTERNS.iter().enumerate().filter(|(i, _)| (*i as u64 + seed) % 2 == 0) {
        let regex = match Regex::new(pattern) {
            Ok(regex) => regex,
            Err(error) => {
                writeln!(out, "{i} {error}").unwrap();
                continue;
            }
        };
        let mut spans = Vec::new();
        for captures in regex.captures_iter(&text).take(12) {
            spans.extend(captures.iter().map(|group| group.map(|group| (group.start(), group.end()))));
        }
        let mut count = 0;
        let replaced = regex.replace_all(&text, |captures: &Captures| {
            count += 1;
            let last = captures.iter().flatten().last().map_or("", |group| group.as_str());
            format!("<{count}{}>", last.chars().rev().collect::<String>())
        });
        let names: Vec<_> = regex.capture_names().flatten().collect();
        writeln!(
            out,
            "{i} {count} {names:?} {:x} {:x}",
            hash(replaced.as_bytes()),
            hash(format!("{spans:?}").as_bytes())
        )
        .unwrap();
        drop(replaced);
    }
    let set = RegexSet::new(&PATTERNS[..4]).unwrap();
    let matched: Vec<_> = set.matches(&text).into_iter().collect();
    let bytes = regex::bytes::Regex::new(r"(?-u)[\x80-\xff]+").unwrap();
    let runs = bytes.find_iter(text.as_bytes()).map(|found| found.len()).collect::<Vec<_>>();
    let parts: Vec<&str> = Regex::new(r"[\s:]+").unwrap().splitn(&text, 5).collect();
    let expanded: Cow<str> = Regex::new(PATTERNS[3]).unwrap().replacen(&text, 2, "${second}-$first");
    let errors: Vec<String> = [r"(", r"a{3,1}", r"\p{Nothing}", r"(?<x>a)(?<x>b)", r"(?=a)"]
        .iter()
        .map(|pattern| Regex::new(pattern).unwrap_err().to_string())
        .collect();
    let large = RegexBuilder::new(r"\w{50}{50}").size_limit(1 << 14).build().unwrap_err();
    format!("{out}{matched:?} {runs:?} {parts:?}\n{expanded}\n{} {large}", errors.join("\n"))
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
