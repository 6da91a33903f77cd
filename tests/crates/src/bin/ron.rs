//! Rust's own notation: types and values there and back, extensions, errors with their places.

use std::collections::BTreeMap;

use ron::extensions::Extensions;
use ron::ser::PrettyConfig;
use ron::{Options, Value};
use serde::{Deserialize, Serialize};

use crates::source::{Source, hash};

#[derive(Debug, Deserialize, PartialEq, Serialize)]
enum Scene {
    Empty,
    Ball(f32, (i8, char)),
    Named { name: String, inner: Option<Box<Scene>> },
    Map(BTreeMap<(u8, bool), Vec<Scene>>),
}

fn scene(source: &mut Source, depth: u64) -> Scene {
    match source.below(if depth == 0 { 2 } else { 5 }) {
        0 => Scene::Empty,
        1 => Scene::Ball(
            source.below(100) as f32 / 8.0,
            (source.next() as i8, source.pick(&["ß", "\n", "'"]).chars().next().unwrap()),
        ),
        2 => Scene::Map((0..source.below(3)).map(|i| ((i as u8, i == 1), vec![scene(source, depth - 1)])).collect()),
        _ => Scene::Named { name: source.words(2), inner: Some(Box::new(scene(source, depth - 1))) },
    }
}

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let scenes: Vec<Scene> = (0..6).map(|_| scene(source, 5)).collect();
    let text = ron::to_string(&scenes).unwrap();
    assert_eq!(ron::from_str::<Vec<Scene>>(&text).unwrap(), scenes);
    let pretty =
        ron::ser::to_string_pretty(&scenes, PrettyConfig::new().struct_names(true).enumerate_arrays(true)).unwrap();
    assert_eq!(ron::from_str::<Vec<Scene>>(&pretty).unwrap(), scenes);
    let options = Options::default().with_default_extension(Extensions::IMPLICIT_SOME).with_recursion_limit(40);
    let short: Scene =
        options.from_str("/* a comment */ Named(name: r#\"a\"b\"#, inner: Ball(-1e3, (0x7f, '\\u{df}')))").unwrap();
    let value: Value = ron::from_str("{1: [(), Some(true), \"x\"], (2.5, 'c'): {}}").unwrap();
    let deep = format!("{}Empty{}", "Named(name: \"\", inner: ".repeat(50), ")".repeat(50));
    let errors: Vec<String> =
        ["[Ball(1)]", "[Empty, Emty]", "[Named(nme: \"\")]", "[Ball(1, (1000, 'a'))]", "[Map({1: []})]", "[Empty"]
            .iter()
            .map(|text| ron::from_str::<Vec<Scene>>(text).unwrap_err().to_string())
            .chain([options.from_str::<Scene>(&deep).unwrap_err().to_string()])
            .collect();
    format!("{:x} {short:?} {value:?} {errors:#?}\n{pretty}", hash(text.as_bytes()))
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
