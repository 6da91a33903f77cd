//! Streams of all three formats, through readers and writers that are stacked on each other, as trait objects too.

use std::io::{BufRead, BufReader, Read, Write};

use flate2::bufread::MultiGzDecoder;
use flate2::read::{DeflateDecoder, GzEncoder, ZlibDecoder};
use flate2::write::{DeflateEncoder, GzDecoder, ZlibEncoder};
use flate2::{Compression, Crc, GzBuilder};

use crates::source::{Source, hash};

/// Hands on a few bytes at a time, and counts in a caller's local.
struct Trickle<'a, R> {
    inner: R,
    calls: &'a mut usize,
}

impl<R: Read> Read for Trickle<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        *self.calls += 1;
        let end = buf.len().min(97);
        self.inner.read(&mut buf[..end])
    }
}

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let text = source.words(900).into_bytes();
    let mut out = String::new();
    for level in [0, 1, 6, 9] {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::new(level));
        encoder.write_all(&text).unwrap();
        let packed = encoder.finish().unwrap();
        let (mut calls, mut back) = (0, Vec::new());
        let mut readers: Vec<Box<dyn Read + '_>> =
            vec![Box::new(ZlibDecoder::new(Trickle { inner: &packed[..], calls: &mut calls }))];
        readers[0].read_to_end(&mut back).unwrap();
        drop(readers);
        assert_eq!(back, text);
        out += &format!("zlib {level} {} {:x} {calls}\n", packed.len(), hash(&packed));
    }
    let mut members = Vec::new();
    for part in text.chunks(2000) {
        let mut encoder =
            GzBuilder::new().filename("part").comment("of a text").write(&mut members, Compression::best());
        encoder.write_all(part).unwrap();
    }
    let mut lines = 0;
    let decoder = BufReader::new(MultiGzDecoder::new(&members[..]));
    let back: Vec<u8> = decoder.split(b' ').map(Result::unwrap).inspect(|_| lines += 1).collect::<Vec<_>>().join(&b' ');
    assert_eq!(back, text);
    let mut written = GzDecoder::new(Vec::new());
    let mut packed = Vec::new();
    GzEncoder::new(&text[..], Compression::fast()).read_to_end(&mut packed).unwrap();
    packed.chunks(13).for_each(|part| written.write_all(part).unwrap());
    assert_eq!(written.finish().unwrap(), text);
    // Layers: what one writes the next compresses again.
    let mut onion: Box<dyn Write> = Box::new(DeflateEncoder::new(std::io::sink(), Compression::fast()));
    for _ in 0..3 {
        onion = Box::new(DeflateEncoder::new(onion, Compression::none()));
    }
    onion.write_all(&text).unwrap();
    drop(onion);
    let mut broken = packed;
    let middle = broken.len() / 2;
    broken.truncate(middle);
    let error = DeflateDecoder::new(&broken[..]).read_to_end(&mut Vec::new()).unwrap_err();
    let mut crc = Crc::new();
    crc.update(&text);
    format!("{out}gzip {} {:x} {lines} {error} {:x}", members.len(), hash(&members), crc.sum())
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
