//! Signatures: made, checked, forged.

use ed25519_dalek::{Signature, Signer, SigningKey, Verifier, VerifyingKey};

use crates::source::{Source, hash};

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let mut out = String::new();
    for _ in 0..3 {
        let secret: [u8; 32] = source.bytes(32).try_into().unwrap();
        let key = SigningKey::from_bytes(&secret);
        let message = source.words(9);
        let signature: Signature = key.sign(message.as_bytes());
        let public = VerifyingKey::from_bytes(&key.verifying_key().to_bytes()).unwrap();
        public.verify(message.as_bytes(), &signature).unwrap();
        public.verify_strict(message.as_bytes(), &signature).unwrap();
        let forged = public.verify(message.to_uppercase().as_bytes(), &signature).map_err(|error| error.to_string());
        let mut bytes = signature.to_bytes();
        bytes[63] |= 0xe0;
        let broken = public.verify(message.as_bytes(), &Signature::from_bytes(&bytes)).is_err();
        out += &format!("{:x} {:x} {forged:?} {broken}\n", hash(public.as_bytes()), hash(&signature.to_bytes()));
    }
    out
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
