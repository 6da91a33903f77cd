//! Identifiers by name and at random: formats, order, errors.

use std::collections::BTreeSet;

use uuid::{Builder, Uuid, Variant};

use crates::source::Source;

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let mut chain = Uuid::new_v5(&Uuid::NAMESPACE_DNS, source.words(2).as_bytes());
    let mut all = BTreeSet::from([chain, Uuid::nil(), Uuid::max()]);
    for _ in 0..30 {
        chain = Uuid::new_v5(&chain, &source.bytes(9));
        all.insert(chain);
    }
    let mut text = Uuid::encode_buffer();
    let forms: Vec<String> = all
        .iter()
        .map(|id| match id.as_u128() % 4 {
            0 => id.simple().encode_upper(&mut text).to_owned(),
            1 => id.urn().to_string(),
            2 => format!("{:X}", id.braced()),
            _ => id.hyphenated().encode_lower(&mut text).to_owned(),
        })
        .collect();
    let back: BTreeSet<Uuid> = forms.iter().map(|form| form.parse().unwrap()).collect();
    assert_eq!(back, all);
    let random: Vec<Uuid> = (0..20).map(|_| Uuid::new_v4()).collect();
    let kinds = random.iter().all(|id| id.get_version_num() == 4 && id.get_variant() == Variant::RFC4122);
    let built = Builder::from_slice(&source.bytes(16)).unwrap().with_variant(Variant::Microsoft).into_uuid();
    let errors: Vec<String> = ["", "zz", "67e55044-10b1-426f-9247", "{67e55044-10b1-426f-9247-bb680e5fe0c8"]
        .iter()
        .map(|t| Uuid::parse_str(t).unwrap_err().to_string())
        .collect();
    format!("{forms:?} {kinds} {built} {:?} {errors:?}", built.as_fields())
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
