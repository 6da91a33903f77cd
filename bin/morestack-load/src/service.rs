//! What requests ask for: the distribution of service demands.
//!
//! | option | demand |
//! |---|---|
//! | `fixed:10us` | the same for all |
//! | `exp:20us` | exponential with that mean |
//! | `bimodal:5us,1ms,0.5%` | short, but for a share of long ones: the mix in which a long request delays many short |
//! | `fib:20` | the recursive Fibonacci number: calls and nothing else, the worst case for prologues |
//! | `json` | a document of 27 KB is parsed, transformed and written: allocation, and code of third parties |
//! | `sha256:16KiB` | a block of that size is hashed: arithmetic without allocation |
//! | `empty` | none: what is left is the executor, and the generator |
//!
//! A time here is an amount of CPU work, not a deadline: `work.rs` burns it in full however often the request is
//! interrupted.

use std::fmt;
use std::str::FromStr;

use rand::Rng;
use rand_distr::{Distribution, Exp1};

use crate::units::{Share, exact_size, exact_time, parse_share, parse_size, parse_time};

/// The shortest service in nanoseconds. Below, spawning is most of the request and calibration cannot resolve the rest.
const MIN_NS: u64 = 100;

/// The longest service in nanoseconds. The drain after a run takes many seconds without a completion for a hang, so no
/// request may take that long by itself.
const MAX_NS: u64 = 1_000_000_000;

/// The largest `fib:N`: about half a second. Each step more takes 1.6 times as long.
const MAX_FIB: u32 = 40;

/// The block that `sha256` without a size hashes, in bytes.
const BLOCK: u64 = 16 << 10;

/// The smallest and the largest block, in bytes.
const MIN_BLOCK: u64 = 1;
const MAX_BLOCK: u64 = 64 << 20;

/// A distribution of service demands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Service {
    /// The same for all, in nanoseconds.
    Fixed(u64),
    /// Exponential, by its mean in nanoseconds.
    Exp(u64),
    /// Two lengths in nanoseconds, and the share of the long one.
    Bimodal {
        /// The length of most requests.
        short: u64,
        /// The length of the others.
        long: u64,
        /// How many others there are.
        share: Share,
    },
    /// The recursive Fibonacci number of N.
    Fib(u32),
    /// A document is parsed, transformed and written.
    Json,
    /// A block of so many bytes is hashed.
    Sha256(u64),
    /// Nothing.
    Empty,
}

/// What one request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// CPU work of so many nanoseconds.
    Time(u64),
    /// The recursive Fibonacci number of N.
    Fib(u32),
    /// A document is parsed, transformed and written.
    Json,
    /// A block of so many bytes is hashed.
    Sha256(u64),
    /// Nothing.
    Empty,
}

/// The row of the report that a request belongs to. A request is in one row only, so the rows add up to all: a deep
/// request is neither short nor long, because the recursion costs it more than its class does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Any request of a service with one mode.
    Ordinary,
    /// A short one of a bimodal service.
    Short,
    /// A long one of a bimodal service.
    Long,
    /// One that recurses deep.
    Deep,
}

impl Class {
    /// Its name in the report.
    pub fn name(self) -> &'static str {
        match self {
            Class::Ordinary => "ordinary",
            Class::Short => "short",
            Class::Long => "long",
            Class::Deep => "deep",
        }
    }
}

impl Service {
    /// The next request's demand and class.
    pub fn draw(&self, rng: &mut impl Rng) -> (Demand, Class) {
        match *self {
            Service::Fixed(ns) => (Demand::Time(ns), Class::Ordinary),
            Service::Exp(mean) => {
                let unit: f64 = Exp1.sample(rng);
                (Demand::Time((unit * mean as f64) as u64), Class::Ordinary)
            }
            Service::Bimodal { short, long, share } => {
                if rng.random_bool(share.probability()) {
                    (Demand::Time(long), Class::Long)
                } else {
                    (Demand::Time(short), Class::Short)
                }
            }
            Service::Fib(n) => (Demand::Fib(n), Class::Ordinary),
            Service::Json => (Demand::Json, Class::Ordinary),
            Service::Sha256(bytes) => (Demand::Sha256(bytes), Class::Ordinary),
            Service::Empty => (Demand::Empty, Class::Ordinary),
        }
    }

    /// What every request of it asks for, if that is not a time.
    pub fn task(&self) -> Option<Demand> {
        match *self {
            Service::Fixed(_) | Service::Exp(_) | Service::Bimodal { .. } => None,
            Service::Fib(n) => Some(Demand::Fib(n)),
            Service::Json => Some(Demand::Json),
            Service::Sha256(bytes) => Some(Demand::Sha256(bytes)),
            Service::Empty => Some(Demand::Empty),
        }
    }

    /// The classes of its requests.
    pub fn classes(&self) -> &'static [Class] {
        match self {
            Service::Bimodal { .. } => &[Class::Short, Class::Long],
            _ => &[Class::Ordinary],
        }
    }
}

impl FromStr for Service {
    type Err = String;

    fn from_str(text: &str) -> Result<Service, String> {
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        match kind {
            "fixed" => length(rest).map(Service::Fixed),
            "exp" => length(rest).map(Service::Exp),
            "bimodal" => bimodal(rest),
            "fib" => match rest.parse() {
                Ok(n @ 1..=MAX_FIB) => Ok(Service::Fib(n)),
                _ => Err(format!("fib takes a number from 1 to {MAX_FIB}, like fib:20")),
            },
            "sha256" => block(text, rest).map(Service::Sha256),
            _ if text == "json" => Ok(Service::Json),
            _ if text == "empty" => Ok(Service::Empty),
            _ => {
                Err("a service is fixed:TIME, exp:TIME, bimodal:SHORT,LONG,SHARE, fib:N, json, sha256[:SIZE] or empty"
                    .into())
            }
        }
    }
}

fn bimodal(text: &str) -> Result<Service, String> {
    let parts: Vec<&str> = text.split(',').collect();
    let [short, long, share] = parts[..] else {
        return Err("bimodal takes two times and the share of the long one, like bimodal:5us,1ms,0.5%".into());
    };
    let (short, long, share) = (length(short)?, length(long)?, parse_share(share)?);
    if short > long {
        return Err("the first time of bimodal is the short one and cannot exceed the second".into());
    }
    Ok(Service::Bimodal { short, long, share })
}

fn block(text: &str, size: &str) -> Result<u64, String> {
    if text == "sha256" {
        return Ok(BLOCK);
    }
    let bytes = parse_size(size)?;
    if !(MIN_BLOCK..=MAX_BLOCK).contains(&bytes) {
        let (min, max) = (exact_size(MIN_BLOCK), exact_size(MAX_BLOCK));
        return Err(format!("a block to hash is from {min} to {max}"));
    }
    Ok(bytes)
}

/// Reads a service time, in nanoseconds.
pub fn length(text: &str) -> Result<u64, String> {
    let ns = parse_time(text)?;
    if !(MIN_NS..=MAX_NS).contains(&ns) {
        let (min, max) = (exact_time(MIN_NS), exact_time(MAX_NS));
        return Err(format!("a service time is from {min} to {max}"));
    }
    Ok(ns)
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Service::Fixed(ns) => write!(f, "fixed:{}", exact_time(*ns)),
            Service::Exp(ns) => write!(f, "exp:{}", exact_time(*ns)),
            Service::Bimodal { short, long, share } => {
                write!(f, "bimodal:{},{},{share}", exact_time(*short), exact_time(*long))
            }
            Service::Fib(n) => write!(f, "fib:{n}"),
            Service::Json => f.write_str("json"),
            Service::Sha256(bytes) => write!(f, "sha256:{}", exact_size(*bytes)),
            Service::Empty => f.write_str("empty"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_as_read() {
        for text in
            ["fixed:10us", "exp:20us", "bimodal:5us,1ms,0.5%", "fib:20", "fixed:1.5ms", "json", "sha256:4KiB", "empty"]
        {
            assert_eq!(text.parse::<Service>().unwrap().to_string(), text);
        }
        assert_eq!("sha256".parse(), Ok(Service::Sha256(BLOCK)));
    }

    #[test]
    fn refused() {
        for text in [
            "",
            "fixed",
            "fixed:",
            "fixed:10",
            "fixed:0us",
            "fixed:99ns",
            "fixed:2s",
            "exp:-1us",
            "bimodal:5us",
            "bimodal:5us,1ms",
            "bimodal:5us,1ms,0.5",
            "bimodal:1ms,5us,1%",
            "bimodal:5us,1ms,1%,2",
            "fib:0",
            "fib:41",
            "fib:x",
            "json:1",
            "json:",
            "empty:",
            "sha256:",
            "sha256:0B",
            "sha256:4096",
            "sha256:65MiB",
            "sleep:1ms",
        ] {
            assert!(text.parse::<Service>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn exponential_has_its_mean() {
        use rand::SeedableRng;
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(3);
        let n = 100_000;
        let sum: u64 = (0..n)
            .map(|_| match Service::Exp(20_000).draw(&mut rng).0 {
                Demand::Time(ns) => ns,
                other => panic!("{other:?}"),
            })
            .sum();
        let mean = sum as f64 / n as f64;
        assert!((mean / 20_000.0 - 1.0).abs() < 0.02, "{mean}");
    }
}
