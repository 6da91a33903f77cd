//! A curve: signatures that are deterministic, keys from text, points.

use p256::ecdsa::signature::{Signer, Verifier};
use p256::ecdsa::{Signature, SigningKey, VerifyingKey};

use crates::source::{Source, hash};

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let mut out = String::new();
    for _ in 0..2 {
        let mut secret = source.bytes(32);
        secret[0] &= 0x7f;
        let key = SigningKey::from_slice(&secret).unwrap();
        let message = source.words(9);
        let signature: Signature = key.sign(message.as_bytes());
        let point = key.verifying_key().to_sec1_point(true);
        let public = VerifyingKey::from_sec1_bytes(point.as_bytes()).unwrap();
        public.verify(message.as_bytes(), &signature).unwrap();
        let forged = public.verify(b"other", &signature).map_err(|error| error.to_string());
        let der = signature.to_der();
        assert_eq!(Signature::from_der(der.as_bytes()).unwrap(), signature);
        let bad = Signature::from_slice(&[0xff; 64]).is_err();
        out += &format!("{:x} {:x} {forged:?} {bad}\n", hash(point.as_bytes()), hash(&signature.to_bytes()));
    }
    out
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
