//! Documents: nested tables, arrays of tables, dates; from and to derived types; errors with their places.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crates::source::Source;

#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    name: String,
    #[serde(default)]
    numbers: Vec<Number>,
    nested: BTreeMap<String, Part>,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Rest {
    since: toml::value::Datetime,
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(untagged)]
enum Number {
    Whole(i64),
    Real(f64),
    Text(String),
}

#[derive(Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
struct Part {
    on: bool,
    parts: Vec<Part>,
    path: Option<String>,
}

fn part(source: &mut Source, depth: u64) -> Part {
    Part {
        on: source.below(2) == 0,
        parts: if depth == 0 { Vec::new() } else { (0..source.below(3)).map(|_| part(source, depth - 1)).collect() },
        path: (source.below(2) == 0).then(|| source.words(2)),
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Table(table) => 1 + table.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

const TEXT: &str = r#"
    title = "a \u00df \"quoted\" \U0001F600"
    [owner]
    dob = 1979-05-27T07:32:00.999999-08:00
    bio = """
    several \
        lines
    """
    raw = 'C:\dir'
    [[products]]
    sku = 0xdead_beef
    dimensions = { x = 1.5e3, "y z" = [-inf, nan, [[], [1, [2, [3]]]]] }
    [[products]]
    [products.parts.a.b."c.d"]
    time = 07:32:00
"#;

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let settings = Settings {
        name: source.words(3),
        numbers: vec![
            Number::Whole(-3),
            Number::Real(0.5),
            Number::Text(source.words(1)),
            Number::Whole(source.below(1000) as i64),
        ],
        nested: (0..4).map(|i| (format!("n {i}"), part(source, 3))).collect(),
        rest: Rest { since: "2001-02-03T04:05:06Z".parse().unwrap() },
    };
    let text = toml::to_string_pretty(&settings).unwrap();
    assert!(toml::from_str::<Table>(&text).is_ok());
    let back = toml::from_str::<Settings>(&text).map_err(|error| error.to_string());
    let same = back.as_ref().map(|back| *back == settings).map_err(Clone::clone);
    let table: Table = TEXT.parse().unwrap();
    let deepest = depth(&Value::Table(table.clone()));
    let nested: String = (0..30).map(|i| format!("[a{}]\nx = {i}\n", ".b".repeat(i))).collect();
    let levels = depth(&Value::Table(nested.parse().unwrap()));
    let errors: Vec<String> =
        ["a = ", "a = 1\na = 2", "[t]\n[t]", "x = [1, 2", "s = \"\\q\"", "d = 2001-13-01", "name = 3"]
            .iter()
            .map(|text| toml::from_str::<Settings>(text).map(|_| ()).unwrap_err().to_string())
            .collect();
    format!("{text}\n{same:?} {deepest} {levels}\n{table}\n{}", errors.join("\n"))
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
