//! A parser translated from C: documents, anchors, tags, there and back; errors with their places.

use serde::{Deserialize, Serialize};
use serde_yaml::{Mapping, Value};

use crates::source::{Source, hash};

#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Node {
    node_name: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    children: Vec<Node>,
    kind: Kind,
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
enum Kind {
    Plain,
    Number(f64),
    Pair { left: i64, right: Option<String> },
}

fn node(source: &mut Source, depth: u64) -> Node {
    Node {
        node_name: source.words(2).replace(' ', source.pick(&[": ", "\n", " #", "'"])),
        children: if depth == 0 { Vec::new() } else { (0..source.below(3)).map(|_| node(source, depth - 1)).collect() },
        kind: match source.below(3) {
            0 => Kind::Plain,
            1 => Kind::Number(source.below(100) as f64 / 8.0),
            _ => Kind::Pair { left: source.next() as i64, right: (source.below(2) == 0).then(|| source.words(1)) },
        },
    }
}

const TEXT: &str = "
base: &base { a: 1, b: [x, 'y''z', \"\\u00df\"] }
made: { <<: *base, b: !Tagged 0x1F }
text: |
  two
  lines
folded: >-
  one

  line
? [complex, key]
: - ~
  - 1e3
  - .inf
";

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let nodes: Vec<Node> = (0..3).map(|_| node(source, 4)).collect();
    let text = serde_yaml::to_string(&nodes).unwrap();
    assert_eq!(serde_yaml::from_str::<Vec<Node>>(&text).unwrap(), nodes);
    let mut value: Value = serde_yaml::from_str(TEXT).unwrap();
    value.apply_merge().unwrap();
    let documents: Vec<Value> = serde_yaml::Deserializer::from_str("a: 1\n---\n[2, 3]\n...\n---\n")
        .map(|d| Value::deserialize(d).unwrap())
        .collect();
    let mut mapping = Mapping::new();
    mapping.insert(Value::Sequence(vec![1.into()]), Value::Null);
    let errors: Vec<String> =
        ["a: [1", "- node-name: x", "*missing", "a: b: c", "- {node-name: x, kind: !Pair {left: z}}", "\t"]
            .iter()
            .map(|text| serde_yaml::from_str::<Vec<Node>>(text).unwrap_err().to_string())
            .collect();
    let broken = nodes.len()
        + serde_yaml::from_str::<Value>(&"[".repeat(200)).map_or_else(|error| error.to_string().len(), |_| 0);
    format!(
        "{:x} {broken} {documents:?} {mapping:?} {errors:#?}\n{}",
        hash(text.as_bytes()),
        serde_yaml::to_string(&value).unwrap()
    )
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
