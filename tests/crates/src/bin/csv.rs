//! Records with quotes, from and to derived types; errors with their positions.

use csv::{ByteRecord, QuoteStyle, ReaderBuilder, StringRecord, Trim, WriterBuilder};
use serde::{Deserialize, Serialize};

use crates::source::{Source, hash};

#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Row {
    id: u32,
    #[serde(rename = "What it says")]
    text: String,
    price: Option<f64>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Small,
    Large,
}

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let rows: Vec<Row> = (0..60)
        .map(|id| Row {
            id,
            text: source.words(3).replace(' ', source.pick(&[",", "\"", "\n", " "])),
            price: (source.below(3) > 0).then(|| source.below(1000) as f64 / 4.0),
            kind: if source.below(2) == 0 { Kind::Small } else { Kind::Large },
        })
        .collect();
    let mut writer = WriterBuilder::new().quote_style(QuoteStyle::Necessary).from_writer(Vec::new());
    rows.iter().for_each(|row| writer.serialize(row).unwrap());
    let bytes = writer.into_inner().unwrap();
    let mut reader = ReaderBuilder::new().buffer_capacity(64).from_reader(&bytes[..]);
    let back: Vec<Row> = reader.deserialize().collect::<Result<_, _>>().unwrap();
    assert_eq!(back, rows);
    // The same by hand, with a record that is used again and a sum that a closure borrows.
    let (mut sum, mut fields) = (0.0, 0);
    let mut record = StringRecord::new();
    let mut reader = ReaderBuilder::new().trim(Trim::All).from_reader(&bytes[..]);
    let headers = reader.headers().unwrap().clone();
    let mut add = |record: &StringRecord| {
        sum += record.get(2).unwrap().parse::<f64>().unwrap_or(0.0);
        fields += record.iter().filter(|field| !field.is_empty()).count();
    };
    while reader.read_record(&mut record).unwrap() {
        add(&record);
    }
    let mut sorted: Vec<ByteRecord> =
        ReaderBuilder::new().from_reader(&bytes[..]).into_byte_records().map(Result::unwrap).collect();
    sorted.sort_by(|a, b| a[1].cmp(&b[1]).then_with(|| b[0].cmp(&a[0])));
    let first: Vec<_> = sorted.iter().take(3).map(|r| String::from_utf8_lossy(&r[0])).collect();
    let broken = String::from_utf8(bytes.clone()).unwrap().replace("small", "medium");
    let errors: Vec<String> = ReaderBuilder::new()
        .from_reader(broken.as_bytes())
        .deserialize::<Row>()
        .filter_map(|row| row.err().map(|error| error.to_string()))
        .take(2)
        .collect();
    format!("{} {:x} {sum} {fields} {first:?} {headers:?}\n{errors:?}", bytes.len(), hash(&bytes))
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
