//! Encryption with authentication: both key sizes, in place and not, forgeries refused.

use aes_gcm::aead::{Aead, AeadInOut, KeyInit, Payload};
use aes_gcm::{Aes128Gcm, Aes256Gcm, Nonce};

use crates::source::{Source, hash};

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let (large, small) =
        (Aes256Gcm::new_from_slice(&source.bytes(32)).unwrap(), Aes128Gcm::new_from_slice(&source.bytes(16)).unwrap());
    let mut out = String::new();
    for i in 0..10 {
        let nonce: [u8; 12] = source.bytes(12).try_into().unwrap();
        let nonce = Nonce::from(nonce);
        let (text, aad) = (source.bytes(i * 31), source.words(2));
        let payload = |msg| Payload { msg, aad: aad.as_bytes() };
        let mut encrypted =
            if i % 2 == 0 { large.encrypt(&nonce, payload(&text)) } else { small.encrypt(&nonce, payload(&text)) }
                .unwrap();
        out += &format!("{:x} ", hash(&encrypted));
        let mut buffer = encrypted.clone();
        if i % 2 == 0 {
            large.decrypt_in_place(&nonce, aad.as_bytes(), &mut buffer)
        } else {
            small.decrypt_in_place(&nonce, aad.as_bytes(), &mut buffer)
        }
        .unwrap();
        assert_eq!(buffer, text);
        let at = source.below(encrypted.len() as u64) as usize;
        encrypted[at] ^= 1;
        out += &format!("{:?}\n", large.decrypt(&nonce, &encrypted[..]));
    }
    out
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
