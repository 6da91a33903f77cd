//! Times, sizes, shares and counts as people write them, both ways.
//!
//! | kind | read | written |
//! |---|---|---|
//! | time | `250ns` `20us` `20µs` `1.5ms` `10s` | exact (`20us`) where it is a setting, three digits (`7.93us`) where it was measured |
//! | size | `64B` `256KiB` `1.5MiB` `1GiB` | the largest unit that leaves a number of at least 1 |
//! | share | `0.5%` | as read |
//! | count | - | groups of three digits |
//!
//! A unit is required. A bare `10` is a guess about what was meant, and a run that lasts a thousand times too long is a
//! costly way to learn of it. Every parser says in its error what it accepts; the caller adds which option it was.

use std::fmt;

const TIME_UNITS: [(&str, f64); 6] = [
    // `us` has two more spellings: the micro sign and the Greek letter look alike, and keyboards have either.
    ("ns", 1.0),
    ("us", 1e3),
    ("\u{b5}s", 1e3),
    ("\u{3bc}s", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
];

const SIZE_UNITS: [(&str, f64); 4] = [("B", 1.0), ("KiB", 1024.0), ("MiB", 1048576.0), ("GiB", 1073741824.0)];

/// Reads a time in nanoseconds.
pub fn parse_time(text: &str) -> Result<u64, String> {
    parse_scaled(text, &TIME_UNITS)
        .ok_or_else(|| "a time is a number with a unit, ns, us, ms or s, like 20us".to_string())
}

/// Reads a size in bytes.
pub fn parse_size(text: &str) -> Result<u64, String> {
    parse_scaled(text, &SIZE_UNITS)
        .ok_or_else(|| "a size is a number with a unit, B, KiB, MiB or GiB, like 256KiB".to_string())
}

/// Reads a share of the whole.
pub fn parse_share(text: &str) -> Result<Share, String> {
    text.strip_suffix('%')
        .and_then(parse_decimal)
        .filter(|percent| *percent <= 100.0)
        .map(|percent| Share { percent })
        .ok_or_else(|| "a share is a percentage from 0% to 100%, like 0.5%".to_string())
}

/// Reads a plain decimal number: digits with at most one point. What `f64` also takes (`1e9`, `inf`, `nan`, signs) is
/// refused, so that nothing has to be checked for twice.
pub fn parse_decimal(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if plain { text.parse().ok() } else { None }
}

/// A share of the whole, kept in the percent it was written in: `7%` is not exact as a fraction and would be shown as
/// `7.000000000000001%`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    percent: f64,
}

impl Share {
    /// The share as a probability from 0 to 1.
    pub fn probability(self) -> f64 {
        self.percent / 100.0
    }

    /// The share in percent.
    pub fn percent(self) -> f64 {
        self.percent
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.percent)
    }
}

/// Writes a setting exactly, in the largest unit that leaves a number of at least 1: `1.5ms`, `20us`.
pub fn exact_time(ns: u64) -> String {
    exact(ns, &[("s", 1e9), ("ms", 1e6), ("us", 1e3), ("ns", 1.0)])
}

/// Writes a size exactly: `256KiB`.
pub fn exact_size(bytes: u64) -> String {
    exact(bytes, &[("GiB", 1073741824.0), ("MiB", 1048576.0), ("KiB", 1024.0), ("B", 1.0)])
}

/// Writes a measured time with three digits: more would claim what no measurement of this kind holds.
pub fn time(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns}ns"),
        1_000..1_000_000 => format!("{}us", three_digits(ns as f64 / 1e3)),
        1_000_000..1_000_000_000 => format!("{}ms", three_digits(ns as f64 / 1e6)),
        _ => format!("{}s", three_digits(ns as f64 / 1e9)),
    }
}

/// Writes a measured size with three digits.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    // 999.5 would be shown as 1000, four digits.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{} {}", three_digits(value), UNITS[unit]) }
}

/// Writes a count in groups of three digits: `1,234,567`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Writes a measured ratio with three digits, or as a count.
pub fn ratio(value: f64) -> String {
    if value < 999.5 { three_digits(value) } else { count(value.round() as u64) }
}

fn parse_scaled(text: &str, units: &[(&str, f64)]) -> Option<u64> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(unit_at);
    let (_, scale) = units.iter().find(|(name, _)| *name == unit)?;
    let value = (parse_decimal(number)? * scale).round();
    // Past 2^53 a float skips integers. 104 days and 8 PiB lie below, and everything that means something.
    (value <= (1u64 << 53) as f64).then_some(value as u64)
}

fn exact(value: u64, units: &[(&str, f64)]) -> String {
    let fits = |scale: f64| value as f64 >= scale;
    let (name, scale) = units.iter().find(|(_, scale)| fits(*scale)).unwrap_or(&units[units.len() - 1]);
    format!("{}{name}", value as f64 / scale)
}

/// Three significant digits for 1 to 999; as many before the point as there are beyond.
pub fn three_digits(value: f64) -> String {
    let decimals = match value {
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let good = [
            ("250ns", 250),
            ("20us", 20_000),
            ("20\u{b5}s", 20_000),
            ("20\u{3bc}s", 20_000),
            ("1.5ms", 1_500_000),
            ("10s", 10_000_000_000),
            ("0s", 0),
            (".5us", 500),
        ];
        for (text, ns) in good {
            assert_eq!(parse_time(text), Ok(ns), "{text}");
        }
        for text in
            ["", "10", "us", "1.2.3us", "-1s", "1e3us", "1 us", "10m", "1us ", "nan", "infs", ".s", "99999999999999s"]
        {
            assert!(parse_time(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn sizes_and_shares() {
        assert_eq!(parse_size("256KiB"), Ok(256 << 10));
        assert_eq!(parse_size("1.5MiB"), Ok(3 << 19));
        assert_eq!(parse_size("64B"), Ok(64));
        for text in ["256", "256kb", "256KB", "-1B", "KiB", ""] {
            assert!(parse_size(text).is_err(), "{text:?}");
        }
        assert_eq!(parse_share("0.5%").unwrap().probability(), 0.005);
        assert_eq!(parse_share("7%").unwrap().to_string(), "7%");
        for text in ["0.5", "101%", "-1%", "%", "nan%", "1%%"] {
            assert!(parse_share(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn settings_are_written_as_they_were_read() {
        for text in ["250ns", "20us", "1.5ms", "10s", "0ns"] {
            assert_eq!(exact_time(parse_time(text).unwrap()), text);
        }
        for text in ["64B", "256KiB", "1.5MiB", "1GiB"] {
            assert_eq!(exact_size(parse_size(text).unwrap()), text);
        }
    }

    #[test]
    fn measurements_have_three_digits() {
        let times = [
            (0, "0ns"),
            (999, "999ns"),
            (7_934, "7.93us"),
            (9_996, "10.0us"),
            (79_340, "79.3us"),
            (793_400, "793us"),
            (1_234_000, "1.23ms"),
            (12_340_000_000, "12.3s"),
        ];
        for (ns, text) in times {
            assert_eq!(time(ns), text);
        }
        assert_eq!(ratio(1.0), "1.00");
        assert_eq!(ratio(31_234.5), "31,235");
        assert_eq!(size(512), "512 B");
        assert_eq!(size(1023), "1.00 KiB");
        assert_eq!(size(12_900_000), "12.3 MiB");
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_000), "1,000");
        assert_eq!(count(1_234_567), "1,234,567");
    }
}
