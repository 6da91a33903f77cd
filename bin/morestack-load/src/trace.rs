//! A trace: when requests arrived somewhere, and how long each took.
//!
//! ```text
//!   # arrival  service
//!   0us        5us
//!   12.5us     1ms
//! ```
//!
//! One request per line: two times, apart by spaces or a comma. Arrivals count from the start of the trace and do not
//! go back. Empty lines and what follows a `#` are skipped.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::service;
use crate::units::parse_time;

/// Arrivals and services, in nanoseconds.
#[derive(Clone, Debug)]
pub struct Trace {
    path: PathBuf,
    requests: Arc<[(u64, u64)]>,
}

impl Trace {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Trace, String> {
        let name = path.display();
        let text = fs::read_to_string(path).map_err(|error| format!("cannot read --trace {name}: {error}"))?;
        let requests = parse(&text).map_err(|error| format!("--trace {name}: {error}"))?;
        Ok(Trace { path: path.to_path_buf(), requests: requests.into() })
    }

    /// Where it is from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Arrivals and services, in nanoseconds.
    pub fn requests(&self) -> Arc<[(u64, u64)]> {
        self.requests.clone()
    }

    /// Just after its last arrival, in nanoseconds.
    pub fn end(&self) -> u64 {
        self.requests.last().map_or(0, |(at, _)| at + 1)
    }

    /// How many arrive from one time to another.
    pub fn arrivals_in(&self, from: u64, to: u64) -> usize {
        let before = |time| self.requests.partition_point(|(at, _)| *at < time);
        before(to).saturating_sub(before(from))
    }
}

fn parse(text: &str) -> Result<Vec<(u64, u64)>, String> {
    let mut requests: Vec<(u64, u64)> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let data = line.split('#').next().unwrap_or_default().trim();
        if data.is_empty() {
            continue;
        }
        let (at, own) = request(data).map_err(|error| format!("line {}: {error}", index + 1))?;
        if requests.last().is_some_and(|(before, _)| at < *before) {
            return Err(format!("line {}: it arrives before the one above", index + 1));
        }
        requests.push((at, own));
    }
    if requests.is_empty() {
        return Err("there is no request in it".into());
    }
    Ok(requests)
}

fn request(data: &str) -> Result<(u64, u64), String> {
    let words: Vec<&str> = data.split([' ', '\t', ',']).filter(|word| !word.is_empty()).collect();
    let [at, own] = words[..] else {
        return Err("a request is two times, arrival and service, like `120us 5us`".into());
    };
    Ok((parse_time(at)?, service::length(own)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_in_their_order() {
        let text = "# arrival service\n\n0us 5us\n12.5us,1ms # a long one\n  12.5us\t 100ns  \r\n";
        assert_eq!(parse(text).unwrap(), [(0, 5_000), (12_500, 1_000_000), (12_500, 100)]);
    }

    #[test]
    fn a_fault_names_its_line() {
        let faults = [
            ("", "no request"),
            ("# nothing\n", "no request"),
            ("0us 5us\n1us", "line 2: a request is two times"),
            ("0us 5us 1us", "line 1: a request is two times"),
            ("0us 5", "line 1: a time is a number with a unit"),
            ("soon 5us", "line 1: a time is a number with a unit"),
            ("0us 1ns", "line 1: a service time is from 100ns"),
            ("0us 2s", "to 1s"),
            ("5us 1us\n\n4us 1us", "line 3: it arrives before"),
        ];
        for (text, part) in faults {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{text:?}: {error}");
        }
    }

    #[test]
    fn arrivals_are_counted_between_two_times() {
        let requests = parse("0us 1us\n5us 1us\n5us 1us\n9us 1us").unwrap().into();
        let trace = Trace { path: PathBuf::new(), requests };
        assert_eq!(trace.end(), 9_001);
        assert_eq!(
            [trace.arrivals_in(0, 5_000), trace.arrivals_in(5_000, 9_000), trace.arrivals_in(1, 9_001)],
            [1, 2, 3]
        );
    }
}
