//! Buffers that are shared, split and chained; numbers in and out of them; an owner of the program's own.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crates::source::{Source, hash};

#[derive(Debug)]
enum Item {
    Number(i64),
    Text(Bytes),
    List(Vec<Item>),
}

fn write(item: &Item, out: &mut dyn BufMut) {
    match item {
        Item::Number(n) => {
            out.put_u8(0);
            out.put_i64_le(*n);
        }
        Item::Text(text) => {
            out.put_u8(1);
            out.put_u16(text.len() as u16);
            out.put_slice(text);
        }
        Item::List(items) => {
            out.put_u8(2);
            out.put_uint(items.len() as u64, 3);
            items.iter().for_each(|item| write(item, out));
        }
    }
}

fn read(from: &mut impl Buf) -> Result<Item, bytes::TryGetError> {
    Ok(match from.try_get_u8()? {
        0 => Item::Number(from.try_get_i64_le()?),
        1 => {
            let length = usize::from(from.try_get_u16()?);
            Item::Text(from.copy_to_bytes(length.min(from.remaining())))
        }
        _ => Item::List((0..from.try_get_uint(3)?).map(|_| read(from)).collect::<Result<_, _>>()?),
    })
}

fn item(source: &mut Source, depth: u64) -> Item {
    match source.below(if depth == 0 { 2 } else { 4 }) {
        0 => Item::Number(source.next() as i64),
        1 => Item::Text(source.words(3).into()),
        _ => Item::List((0..source.below(5)).map(|_| item(source, depth - 1)).collect()),
    }
}

struct Owner<'a>(Vec<u8>, std::sync::mpsc::Sender<&'a str>);

impl AsRef<[u8]> for Owner<'_> {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Owner<'_> {
    fn drop(&mut self) {
        self.1.send("dropped").unwrap();
    }
}

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let item = item(source, 6);
    let mut buffer = BytesMut::with_capacity(3);
    write(&item, &mut buffer);
    let whole = buffer.clone().freeze();
    let mut parts: Vec<Bytes> = Vec::new();
    while buffer.has_remaining() {
        parts.push(buffer.split_to(buffer.len().min(1 + source.below(40) as usize)).freeze());
    }
    let joined =
        parts.iter().cloned().fold(Box::new(Bytes::new()) as Box<dyn Buf>, |front, part| Box::new(front.chain(part)));
    let mut joined = joined;
    let back = read(&mut joined).unwrap();
    assert_eq!(format!("{back:?}"), format!("{item:?}"));
    let errors: Vec<_> =
        (0..whole.len().min(9)).map(|end| read(&mut whole.slice(..end)).map(|_| ()).is_err()).collect();
    let (sender, receiver) = std::sync::mpsc::channel();
    let owned = Bytes::from_owner(Owner(source.bytes(100), sender));
    let slices: Vec<Bytes> = (0..9).map(|i| owned.slice(i * 10..i * 10 + 15)).collect();
    drop(owned);
    let early = receiver.try_recv().is_ok();
    let sum: u64 = slices.into_iter().map(|mut slice| slice.get_u64() >> 8).fold(0, u64::wrapping_add);
    let late = receiver.recv().unwrap();
    format!("{} {:x} {} {errors:?} {early} {late} {sum}\n{back:?}", whole.len(), hash(&whole), parts.len())
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
