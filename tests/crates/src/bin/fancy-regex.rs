//! What regex leaves out: look-around, back-references, conditions, atomic groups.

use fancy_regex::{Captures, Regex, RegexBuilder};

use crates::source::Source;

const PATTERNS: [&str; 12] = [
    r"(?<=the )\w+(?! of)",
    r"(?<!a)\bframe\b|(\w+) \1",
    r"(\w)(\w)\2\1",
    r"(?=.*of)(?=.*and)\w+",
    r"(?>a+|ab)b|moves(?= a)",
    r"(?i)(s)(?:tack|traße)(?=.*?\1)",
    r"^(?:(?=(\w+))\1 )+",
    r"(?<first>\w)\w*(?=\s\k<first>)",
    r"(?:(a)|b)(?(1)c|d)",
    r"(?<=[\p{Lu}\p{Han}])\S",
    r"\G\w+\s?",
    r"(?!)",
];

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let text = format!("{} to to abba ac bd aab the stack {}", source.words(12), source.words(8));
    let mut out = String::new();
    for pattern in PATTERNS {
        let regex = Regex::new(pattern).unwrap();
        let mut groups = 0;
        let found: Vec<String> = regex
            .captures_iter(&text)
            .take(8)
            .map(|captures| {
                let captures = captures.unwrap();
                groups += captures.iter().flatten().count();
                captures.get(0).map_or_else(String::new, |group| format!("{}:{}", group.start(), group.as_str()))
            })
            .collect();
        let replaced = regex.replacen(&text, 2, |captures: &Captures<str>| format!("<{}>", captures[0].len())).len();
        out += &format!("{groups} {replaced} {found:?}\n");
    }
    let limited = RegexBuilder::new(r"(x+x+)+(?>y)(?<!z)").backtrack_limit(500).build().unwrap();
    let error = limited.is_match(&"x".repeat(30)).unwrap_err();
    let errors: Vec<String> =
        [r"(", r"\2(a)", r"(?<=a+b*"].iter().map(|p| Regex::new(p).map(|_| ()).unwrap_err().to_string()).collect();
    format!("{out}{error} {errors:?}")
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
