//! Hashes of all widths, in parts of all sizes, behind a trait object; a tree of them.

use std::fmt::Write;

use sha2::digest::DynDigest;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512, Sha512_256};

use crates::source::Source;

/// The root of a Merkle tree.
fn root(leaves: &[[u8; 32]]) -> [u8; 32] {
    match leaves {
        [one] => *one,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().div_ceil(2));
            Sha256::new().chain_update(root(left)).chain_update(root(right)).finalize().into()
        }
    }
}

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let data = source.bytes(5000);
    let mut hashers: Vec<Box<dyn DynDigest>> = vec![
        Box::new(Sha224::default()),
        Box::new(Sha256::default()),
        Box::new(Sha384::default()),
        Box::new(Sha512::default()),
        Box::new(Sha512_256::default()),
    ];
    let mut rest = &data[..];
    while !rest.is_empty() {
        let (part, behind) = rest.split_at(rest.len().min(1 + source.below(300) as usize));
        hashers.iter_mut().for_each(|hasher| hasher.update(part));
        rest = behind;
    }
    let mut out = String::new();
    for hasher in hashers {
        let hash = hasher.finalize();
        hash.iter().for_each(|byte| write!(out, "{byte:02x}").unwrap());
        out.push('\n');
    }
    let leaves: Vec<[u8; 32]> = data.chunks(64).map(|part| Sha256::digest(part).into()).collect();
    format!("{out}{:02x?}", root(&leaves))
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
