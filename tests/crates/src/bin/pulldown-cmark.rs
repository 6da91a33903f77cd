//! Markdown: nested lists and quotes, tables, footnotes; a callback for broken links that borrows a local.

use std::collections::BTreeMap;

use pulldown_cmark::{BrokenLink, CowStr, Event, Options, Parser, Tag, TextMergeStream, html};

use crates::source::{Source, hash};

fn document(source: &mut Source) -> String {
    let mut text = String::from("# Title *of* `it`\n\n");
    for i in 0..8 {
        let words = source.words(6);
        text += &match source.below(7) {
            0 => format!("{}- {words}\n", "  ".repeat(i)),
            1 => format!("{} {words} **{}**\n\n", ">".repeat(i % 5 + 1), source.words(2)),
            2 => format!("| a | b |\n|--:|:-:|\n| {words} | [x](y \"z\") |\n\n"),
            3 => format!("{words}[^{i}] ~~{}~~ <b>&amp;</b>\n\n[^{i}]: {words}\n\n", source.words(1)),
            4 => format!("```rust\n{words}\n```\n\n1. {words}\n   1. [ ] {words}\n\n"),
            5 => format!("{words} [{}] ![img][missing {i}]\n===\n\n", source.words(1)),
            _ => format!("*{words} **deep _deeper_ text**.* \\* <http://example.org/{i}>\n\n"),
        };
    }
    text
}

fn run(seed: u64) -> String {
    let text = [document(&mut Source::new(seed)), "> ".repeat(30), "deep\n\n".to_owned(), "*a ".repeat(30)].concat();
    let mut missing = Vec::new();
    let mut callback = |link: BrokenLink| {
        missing.push(format!("{:?}@{:?}", link.reference, link.span));
        link.reference.contains('m').then(|| (CowStr::from("/found"), link.reference.to_string().into()))
    };
    let parser = Parser::new_with_broken_link_callback(&text, Options::all(), Some(&mut callback));
    let mut counts = BTreeMap::new();
    let mut level = 0u32;
    let events = TextMergeStream::new(parser).map(|event| match event {
        Event::Start(tag) => {
            level += 1;
            *counts.entry(format!("{tag:?}").split(['(', ' ']).next().unwrap().to_owned()).or_insert(0) += level;
            Event::Start(match tag {
                Tag::Link { link_type, dest_url, id, .. } => {
                    let title = format!("at {level}").into();
                    Tag::Link { link_type, dest_url, title, id }
                }
                tag => tag,
            })
        }
        Event::End(tag) => {
            level -= 1;
            Event::End(tag)
        }
        Event::Text(text) => Event::Text(text.to_uppercase().into()),
        event => event,
    });
    let mut out = String::new();
    html::push_html(&mut out, events);
    format!("{:x} {missing:?} {counts:?}\n{out}", hash(out.as_bytes()))
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
