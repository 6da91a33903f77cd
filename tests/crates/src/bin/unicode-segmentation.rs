//! Graphemes, words and sentences, from both ends, and with a cursor over parts.

use unicode_segmentation::{GraphemeCursor, GraphemeIncomplete, UnicodeSegmentation};

use crates::source::Source;

const PARTS: [&str; 8] = ["e\u{301}", "👩‍👩‍👧", "🇩🇪🇯🇵", "각", "\r\n", "ก็", "can't. Mr. x", "3.14, "];

/// The boundaries, asked for part by part.
fn boundaries(text: &str, parts: &[usize]) -> Vec<usize> {
    let part = |at: usize| {
        let i = parts.partition_point(|start| *start <= at) - 1;
        let end = parts.get(i + 1).copied().unwrap_or(text.len());
        (&text[parts[i]..end], parts[i])
    };
    let mut cursor = GraphemeCursor::new(0, text.len(), true);
    let (mut chunk, mut found) = (part(0), vec![0]);
    loop {
        match cursor.next_boundary(chunk.0, chunk.1) {
            Ok(Some(at)) => {
                found.push(at);
                if at < text.len() {
                    chunk = part(at);
                }
            }
            Ok(None) => return found,
            Err(GraphemeIncomplete::NextChunk) => chunk = part(chunk.1 + chunk.0.len()),
            Err(GraphemeIncomplete::PrevChunk) => chunk = part(chunk.1 - 1),
            Err(GraphemeIncomplete::PreContext(end)) => {
                let (context, start) = part(end - 1);
                cursor.provide_context(&context[..end - start], start);
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let text: String =
        (0..60).map(|i| if i % 3 == 0 { source.words(1) + "? " } else { source.pick(&PARTS).to_owned() }).collect();
    let graphemes: Vec<&str> = text.graphemes(true).collect();
    let backwards: Vec<&str> = text.graphemes(true).rev().collect();
    assert!(graphemes.iter().eq(backwards.iter().rev()));
    let parts: Vec<usize> =
        text.char_indices().map(|(i, _)| i).enumerate().filter(|(n, _)| n % 9 == 0).map(|(_, i)| i).collect();
    let by_cursor = boundaries(&text, &parts);
    let same = text.grapheme_indices(true).map(|(i, _)| i).chain([text.len()]).eq(by_cursor);
    let mut words: Vec<(usize, &str)> = text.unicode_word_indices().collect();
    words.sort_by(|a, b| b.1.len().cmp(&a.1.len()).then_with(|| a.1.cmp(b.1)));
    let sentences: Vec<usize> = text.unicode_sentences().map(str::len).collect();
    let mirrored: String = backwards.concat();
    format!(
        "{} {same} {} {:?} {sentences:?}\n{mirrored}",
        graphemes.len(),
        text.split_word_bounds().count(),
        &words[..5]
    )
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
