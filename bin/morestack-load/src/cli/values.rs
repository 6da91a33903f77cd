//! The forms of values, and their ranges.

use std::time::Duration;

use crate::executor::Kind;
use crate::units::{self, Share};

use super::{Deep, Switch};

/// More workers than any machine has CPUs for; a typing error beyond.
const MAX_WORKERS: usize = 1024;

/// Arrivals per second. At more, the gap is below what the generator needs to submit one.
const MAX_RATE: f64 = 50e6;

/// Shares of capacity. Above 1 the queue grows for as long as the run lasts; above this nothing else is seen.
const MAX_LOAD: f64 = 1.5;

/// The shortest time slice the scheduler takes, in nanoseconds.
const MIN_SLICE: u64 = 20_000;

/// The longest time slice that is not a typing error for `off`, in nanoseconds.
const MAX_SLICE: u64 = 10_000_000_000;

/// The longest run, in nanoseconds: an hour. Histogram counts hold for longer, patience rarely.
const MAX_DURATION: u64 = 3_600_000_000_000;

/// The shallowest deep request, in bytes: less than this every request uses.
const MIN_DEEP: u64 = 1 << 10;

/// The deepest, in bytes: the next power of two is a green thread's largest stack.
const MAX_DEEP: u64 = 512 << 20;

pub(super) fn workers(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n @ 1..=MAX_WORKERS) => Ok(n),
        _ => Err(format!("workers are a number from 1 to {MAX_WORKERS}")),
    }
}

pub(super) fn rate(text: &str) -> Result<f64, String> {
    units::parse_decimal(text)
        .filter(|rate| *rate > 0.0 && *rate <= MAX_RATE)
        .ok_or_else(|| format!("a rate is a number of arrivals per second above 0, at most {MAX_RATE}"))
}

pub(super) fn load(text: &str) -> Result<f64, String> {
    units::parse_decimal(text)
        .filter(|load| *load > 0.0 && *load <= MAX_LOAD)
        .ok_or_else(|| format!("a load is a share of capacity above 0, at most {MAX_LOAD}"))
}

/// One of a sweep's loads. Beyond the capacity a curve shows how long it was measured, and nothing else.
pub(super) fn share_of_capacity(text: &str) -> Result<Share, String> {
    units::parse_share(text)
        .ok()
        .filter(|share| share.probability() > 0.0)
        .ok_or_else(|| "a load of a sweep is a percentage of capacity above 0%, at most 100%, like 50%".into())
}

pub(super) fn duration(text: &str) -> Result<u64, String> {
    match units::parse_time(text)? {
        0 => Err("a duration is longer than 0".into()),
        ns => bounded(ns),
    }
}

pub(super) fn warmup(text: &str) -> Result<u64, String> {
    bounded(units::parse_time(text)?)
}

fn bounded(ns: u64) -> Result<u64, String> {
    if ns > MAX_DURATION {
        return Err(format!("at most {} are allowed", units::exact_time(MAX_DURATION)));
    }
    Ok(ns)
}

pub(super) fn slice(text: &str) -> Result<Switch<Duration>, String> {
    if text == "off" {
        return Ok(Switch::Off);
    }
    let ns = units::parse_time(text).map_err(|error| format!("{error}, or off"))?;
    if !(MIN_SLICE..=MAX_SLICE).contains(&ns) {
        let (min, max) = (units::exact_time(MIN_SLICE), units::exact_time(MAX_SLICE));
        return Err(format!("a time slice is from {min} to {max}, or off"));
    }
    Ok(Switch::On(Duration::from_nanos(ns)))
}

pub(super) fn deep(text: &str) -> Result<Switch<Deep>, String> {
    if text == "0" {
        return Ok(Switch::Off);
    }
    let Some((share, size)) = text.split_once(':') else {
        return Err("deep requests are SHARE:SIZE, like 1%:256KiB, or 0 for none".into());
    };
    let share = units::parse_share(share)?;
    let bytes = units::parse_size(size)?;
    if !(MIN_DEEP..=MAX_DEEP).contains(&bytes) {
        let (min, max) = (units::exact_size(MIN_DEEP), units::exact_size(MAX_DEEP));
        return Err(format!("deep requests recurse from {min} to {max}"));
    }
    if share.probability() == 0.0 {
        return Ok(Switch::Off);
    }
    Ok(Switch::On(Deep { share, bytes }))
}

pub(super) fn seed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("a seed is a number from 0 to {}", u64::MAX))
}

pub(super) fn peer(text: &str) -> Result<Kind, String> {
    Kind::named(text)
        .filter(|kind| *kind != Kind::Morestack)
        .ok_or_else(|| "peers are some of tokio, rayon, may and threads, separated by commas".into())
}

pub(super) fn executor(text: &str) -> Result<Kind, String> {
    Kind::named(text)
        .ok_or_else(|| "executors are some of morestack, tokio, rayon, may and threads, separated by commas".into())
}
