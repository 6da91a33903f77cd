//! Archives in memory: long names, links, entries that are read while the archive is; broken ones.

use std::io::{Cursor, Read};

use tar::{Archive, Builder, EntryType, Header};

use crates::source::{Source, hash};

/// Counts in a caller's local what is read.
struct Counted<'a, R>(R, &'a mut u64);

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let count = self.0.read(buf)?;
        *self.1 += count as u64;
        Ok(count)
    }
}

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let mut builder = Builder::new(Vec::new());
    for i in 0..12 {
        let count = source.below(200) as usize;
        let content = source.words(count);
        let mut header = Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o640);
        header.set_mtime(source.below(1 << 30));
        let name = format!("dir/{}{i}", "long-name/".repeat(source.below(20) as usize));
        builder.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    let mut link = Header::new_ustar();
    link.set_entry_type(EntryType::Symlink);
    link.set_size(0);
    builder.append_link(&mut link, "link", "dir/target").unwrap();
    let bytes = builder.into_inner().unwrap();
    let mut read = 0;
    let mut archive = Archive::new(Counted(Cursor::new(&bytes), &mut read));
    let mut out = String::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut start = [0; 20];
        let begun = entry.read(&mut start).unwrap();
        let mut rest = String::new();
        if entry.header().mtime().unwrap() % 2 == 0 {
            let _ = entry.read_to_string(&mut rest);
        }
        out += &format!(
            "{} {} {begun} {:x} {:?}\n",
            name.len(),
            entry.size(),
            hash(rest.as_bytes()),
            entry.link_name().unwrap()
        );
    }
    drop(archive);
    let mut broken = bytes.clone();
    broken[600 / 512 * 512 + 150] ^= 0xff;
    broken[150] ^= 0x3f;
    let errors: Vec<String> =
        Archive::new(&broken[..]).entries().unwrap().filter_map(|e| e.err().map(|e| e.to_string())).take(2).collect();
    format!("{out}{read} {errors:?}")
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
