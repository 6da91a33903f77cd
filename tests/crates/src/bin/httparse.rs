//! Requests and responses: headers in arrays on the stack, whole and in parts; chunks; errors.

use std::mem::MaybeUninit;

use httparse::{EMPTY_HEADER, Header, ParserConfig, Request, Response, Status, parse_chunk_size};

use crates::source::Source;

/// Tries ever longer parts of the text, one call in another; the headers are in the frame of the last.
fn grow<'a>(text: &'a [u8], end: usize, incomplete: &mut usize) -> (usize, Vec<(&'a str, usize)>) {
    let mut headers = [EMPTY_HEADER; 24];
    let mut request = Request::new(&mut headers);
    match request.parse(&text[..end]) {
        Ok(Status::Complete(length)) => {
            (length, request.headers.iter().map(|header: &Header| (header.name, header.value.len())).collect())
        }
        Ok(Status::Partial) => {
            *incomplete += 1;
            grow(text, (end + 17).min(text.len()), incomplete)
        }
        Err(error) => panic!("{error}"),
    }
}

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let mut out = String::new();
    for i in 0..6 {
        let mut text = format!("POST /a/b{i}?c=%{i}0 HTTP/1.1\r\n");
        for j in 0..3 + source.below(18) {
            let count = source.below(6) as usize;
            text += &format!("X-Header-{j}: {}\r\n", source.words(count));
        }
        text += "\r\nbody";
        let mut incomplete = 0;
        let (length, headers) = grow(text.as_bytes(), 5, &mut incomplete);
        out += &format!("{length} {incomplete} {headers:?}\n");
    }
    let mut config = ParserConfig::default();
    config.allow_obsolete_multiline_headers_in_responses(true).allow_spaces_after_header_name_in_responses(true);
    let mut headers = [const { MaybeUninit::uninit() }; 8];
    let mut response = Response::new(&mut []);
    let text = b"HTTP/1.0 404 Not  Found\r\nA : b\r\nFolded: one\r\n  two\r\n\r\n";
    let length = config.parse_response_with_uninit_headers(&mut response, text, &mut headers);
    out += &format!("{length:?} {response:?}\n");
    for bad in [
        "GET / HTTP/3.0\r\n\r\n",
        "G\0T / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nA\x01: b\r\n\r\n",
        "GET / HTTP/1.1\r\nA: b\rc\r\n\r\n",
    ] {
        out += &format!("{} ", Request::new(&mut [EMPTY_HEADER; 2]).parse(bad.as_bytes()).unwrap_err());
    }
    let chunks = ["4\r\n", "1aF;x=y\r\n", "fffffffff\r\n", "x\r\n", "12"]
        .map(|text| parse_chunk_size(text.as_bytes()).map_err(|_| "bad"));
    format!("{out}{chunks:?}")
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
