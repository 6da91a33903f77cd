//! Archives in memory: written with and without compression, read by name and in order; broken ones.

use std::io::{Cursor, Read, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipArchive, ZipWriter};

use crates::source::{Source, hash};

/// An archive in an archive in an archive.
fn nest(source: &mut Source, depth: u32) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().last_modified_time(DateTime::default_for_write());
    for (i, method) in [CompressionMethod::Stored, CompressionMethod::Deflated].into_iter().enumerate() {
        writer
            .start_file(format!("dir{depth}/{i}.txt"), options.compression_method(method).compression_level(None))
            .unwrap();
        writer.write_all(source.words(60).as_bytes()).unwrap();
    }
    writer.add_directory("empty", options).unwrap();
    if depth > 0 {
        writer.start_file("inner.zip", options.compression_method(CompressionMethod::Deflated)).unwrap();
        writer.write_all(&nest(source, depth - 1)).unwrap();
    }
    writer.set_comment(format!("level {depth}")).unwrap();
    writer.finish().unwrap().into_inner()
}

fn list(bytes: Vec<u8>, out: &mut String) {
    let mut archive = ZipArchive::new(Cursor::new(bytes)).unwrap();
    *out += &format!("{:?}\n", String::from_utf8_lossy(archive.comment()));
    for i in 0..archive.len() {
        let mut file = archive.by_index(i).unwrap();
        let mut content = Vec::new();
        file.read_to_end(&mut content).unwrap();
        let name = file.name().unwrap().into_owned();
        *out += &format!("{name} {} {:x}\n", file.size(), hash(&content));
        if name.ends_with(".zip") {
            drop(file);
            list(content, out);
        }
    }
}

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let bytes = nest(source, 3);
    let mut out = String::new();
    list(bytes.clone(), &mut out);
    let missing = ZipArchive::new(Cursor::new(&bytes)).unwrap().by_name("nothing").map(|_| ()).unwrap_err().to_string();
    let mut broken = bytes.clone();
    broken[60] ^= 0x55;
    let read = ZipArchive::new(Cursor::new(broken))
        .unwrap()
        .by_index(0)
        .and_then(|mut file| Ok(std::io::copy(&mut file, &mut std::io::sink())?));
    let cut = ZipArchive::new(Cursor::new(&bytes[..bytes.len() - 30])).map(|_| ()).unwrap_err().to_string();
    format!("{out}{missing} {:?} {cut}", read.map_err(|error| error.to_string()))
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
