//! Alphabets and paddings, there and back; streams, displays, errors.

use std::io::{Read, Write};

use base64::display::Base64Display;
use base64::engine::Engine;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD, PAD, STANDARD, URL_SAFE_NO_PAD};
use base64::{alphabet, read, write};

use crates::source::Source;

/// In itself, so often.
fn onion(engine: &impl Engine, data: &[u8], depth: u32) -> String {
    if depth == 0 { engine.encode(data) } else { engine.encode(onion(engine, data, depth - 1)) }
}

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let engines: [(&str, GeneralPurpose); 4] = [
        ("standard", STANDARD),
        ("url", URL_SAFE_NO_PAD),
        ("crypt", GeneralPurpose::new(&alphabet::CRYPT, NO_PAD)),
        ("imap", GeneralPurpose::new(&alphabet::IMAP_MUTF7, PAD)),
    ];
    let mut out = String::new();
    for (name, engine) in &engines {
        let count = 40 + source.below(30) as usize;
        let data = source.bytes(count);
        let text = engine.encode(&data);
        assert_eq!(engine.decode(&text).unwrap(), data);
        let mut writer = write::EncoderWriter::new(Vec::new(), engine);
        data.chunks(7).for_each(|part| writer.write_all(part).unwrap());
        assert_eq!(writer.finish().unwrap(), text.as_bytes());
        let (mut bytes, mut back) = (text.as_bytes(), Vec::new());
        read::DecoderReader::new(&mut bytes, engine).read_to_end(&mut back).unwrap();
        assert_eq!(back, data);
        let mut slice = [0; 128];
        let length = engine.encode_slice(&data[..20], &mut slice).unwrap();
        let error = engine.decode(text.replace(&text[5..6], "*")).unwrap_err();
        let deep = onion(engine, &data[..3], 6);
        out += &format!("{name} {} {text} {length} {error} {deep}\n", Base64Display::new(&data[..9], engine));
    }
    format!("{out}{:?}", STANDARD.decode("YQ=").map_err(|error| error.to_string()))
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
