//! Settings of a runtime, checked where they enter: by the builder or from the environment.

use std::fmt::Display;
use std::io;
use std::time::Duration;

use bytesize::ByteSize;
use morestack_stacks::{FIXED_STACK, MAX_STACK, round_stack_size};

/// More threads than that help nobody and are a typing error.
const MAX_WORKERS: usize = 1024;

/// More than the workers that there may be, and than blocking calls are of use at a time.
const MAX_THREADS: usize = 32_768;

/// As Go has: a mistake is found before the system is out of threads, and nothing else is limited.
const DEFAULT_MAX_THREADS: usize = 10_000;

/// A slice costs a wake-up of sysmon and a switch: below this, little else would be done.
const MIN_SLICE: Duration = Duration::from_micros(20);

/// A compromise: a hog delays others by no more than a disk's answer, and preemption costs less than a thousandth.
const DEFAULT_SLICE: Duration = Duration::from_millis(1);

/// Address space of a reserved stack. Only touched pages cost memory; a million of them are a quarter of a terabyte of
/// the 128 there are.
const DEFAULT_STACK: usize = 256 << 10;

/// Freezing and thawing cost less than a microsecond together, and the page that is touched anew perhaps four more: once in
/// so long that is nothing. Memory is held for as long; a service that answers within this time never freezes.
const DEFAULT_FREEZE_AFTER: Duration = Duration::from_millis(100);

/// Below this a wait is not long, and sysmon would do little else.
const MIN_FREEZE_AFTER: Duration = Duration::from_millis(1);

#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) workers: usize,
    pub(crate) max_threads: usize,
    pub(crate) pin_workers: bool,
    pub(crate) time_slice: Option<Duration>,
    pub(crate) stack_size: usize,
    pub(crate) max_stack_size: usize,
    pub(crate) spin_sysmon: bool,
    pub(crate) freeze_after: Option<Duration>,
    pub(crate) thread_name: String,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            workers: num_cpus::get().clamp(1, MAX_WORKERS),
            max_threads: DEFAULT_MAX_THREADS,
            pin_workers: false,
            time_slice: Some(DEFAULT_SLICE),
            spin_sysmon: false,
            stack_size: DEFAULT_STACK,
            max_stack_size: MAX_STACK,
            freeze_after: Some(DEFAULT_FREEZE_AFTER),
            thread_name: "morestack".to_owned(),
        }
    }
}

impl Config {
    /// The defaults, changed by the variables that are read here.
    pub(crate) fn from_env() -> io::Result<Config> {
        let mut config = Config::default();
        if let Some((name, value)) = env("MORESTACK_WORKERS") {
            config.workers = value.parse().map_err(|_| bad(name, &value, workers_allowed()))?;
            check_workers(name, config.workers)?;
        }
        if let Some((name, value)) = env("MORESTACK_MAX_THREADS") {
            let allowed = || threads_allowed(config.workers);
            config.max_threads = value.parse().map_err(|_| bad(name, &value, allowed()))?;
            check_threads(name, config.max_threads, config.workers)?;
        }
        if let Some((name, value)) = env("MORESTACK_TIME_SLICE") {
            config.time_slice = duration(name, &value, &slice_allowed())?;
            check_slice(name, config.time_slice)?;
        }
        if let Some((name, value)) = env("MORESTACK_SPIN_SYSMON") {
            config.spin_sysmon = switch(name, &value)?;
        }
        if let Some((name, value)) = env("MORESTACK_FREEZE_AFTER") {
            config.freeze_after = duration(name, &value, &freeze_allowed())?;
            check_freeze(name, config.freeze_after)?;
        }
        if let Some((name, value)) = env("MORESTACK_STACK_SIZE") {
            let size: ByteSize = value.parse().map_err(|_| bad(name, &value, stack_allowed()))?;
            config.stack_size = check_stack(name, usize::try_from(size.as_u64()).unwrap_or(usize::MAX))?;
        }
        Ok(config)
    }

    /// What the builder was given.
    pub(crate) fn check(mut self) -> io::Result<Config> {
        check_workers("workers", self.workers)?;
        check_threads("max_threads", self.max_threads, self.workers)?;
        check_slice("time_slice", self.time_slice)?;
        check_freeze("freeze_after", self.freeze_after)?;
        self.stack_size = check_stack("stack_size", self.stack_size)?;
        self.max_stack_size = check_stack("max_stack_size", self.max_stack_size)?;
        if self.thread_name.contains('\0') {
            return Err(bad("thread_name", &format!("{:?}", self.thread_name), "a name without NUL bytes"));
        }
        Ok(self)
    }
}

impl Config {
    /// Whether a runtime with these settings may have so many workers instead.
    pub(crate) fn check_resize(&self, workers: usize) -> io::Result<()> {
        check_workers("workers", workers)?;
        if workers <= self.max_threads {
            return Ok(());
        }
        Err(bad("workers", &workers, format!("a whole number from 1 to {}, which is max_threads", self.max_threads)))
    }
}

/// Switches that hold for the process: read when the first runtime starts.
pub(crate) fn debug_env() -> io::Result<()> {
    morestack_stacks::debug_switches().map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e.to_string()))?;
    match env("MORESTACK_STRESS") {
        Some((name, value)) => crate::stress::set(&value).map_err(|allowed| bad(name, &value, allowed)),
        None => Ok(()),
    }
}

/// The size class of a stack of `size` bytes, if there is one.
pub(crate) fn check_stack(name: &str, size: usize) -> io::Result<usize> {
    if (FIXED_STACK..=MAX_STACK).contains(&size) {
        Ok(round_stack_size(size))
    } else {
        Err(bad(name, &ByteSize(size as u64), stack_allowed()))
    }
}

fn check_workers(name: &str, workers: usize) -> io::Result<()> {
    if (1..=MAX_WORKERS).contains(&workers) { Ok(()) } else { Err(bad(name, &workers, workers_allowed())) }
}

fn switch(name: &str, value: &str) -> io::Result<bool> {
    match value {
        "1" => Ok(true),
        "0" => Ok(false),
        _ => Err(bad(name, &value, "1 or 0")),
    }
}

/// A duration, or `off`.
fn duration(name: &str, value: &str, allowed: &str) -> io::Result<Option<Duration>> {
    match value {
        "off" => Ok(None),
        text => humantime::parse_duration(text).map(Some).map_err(|_| bad(name, &value, allowed)),
    }
}

fn check_slice(name: &str, slice: Option<Duration>) -> io::Result<()> {
    check_duration(name, slice, MIN_SLICE, slice_allowed)
}

fn check_freeze(name: &str, after: Option<Duration>) -> io::Result<()> {
    check_duration(name, after, MIN_FREEZE_AFTER, freeze_allowed)
}

fn check_duration(name: &str, value: Option<Duration>, least: Duration, allowed: fn() -> String) -> io::Result<()> {
    match value {
        Some(d) if !(least..=Duration::from_secs(3600)).contains(&d) => {
            Err(bad(name, &humantime::format_duration(d), allowed()))
        }
        _ => Ok(()),
    }
}

fn workers_allowed() -> String {
    format!("a whole number from 1 to {MAX_WORKERS}")
}

fn check_threads(name: &str, threads: usize, workers: usize) -> io::Result<()> {
    let allowed = (workers..=MAX_THREADS).contains(&threads);
    if allowed { Ok(()) } else { Err(bad(name, &threads, threads_allowed(workers))) }
}

fn threads_allowed(workers: usize) -> String {
    format!("a whole number from {workers}, the number of workers, to {MAX_THREADS}")
}

fn slice_allowed() -> String {
    format!("off, or a duration from {} to 1h, such as 100us", humantime::format_duration(MIN_SLICE))
}

fn freeze_allowed() -> String {
    format!("off, or a duration from {} to 1h, such as 100ms", humantime::format_duration(MIN_FREEZE_AFTER))
}

fn stack_allowed() -> String {
    format!("a size from {} to {}, such as 256KiB", ByteSize(FIXED_STACK as u64), ByteSize(MAX_STACK as u64))
}

fn bad(name: &str, value: &dyn Display, allowed: impl Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{name}={value}: allowed: {allowed}"))
}

/// The variable's value; an empty one is as good as none.
fn env(name: &'static str) -> Option<(&'static str, String)> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(|value| (name, value.to_string_lossy().into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_are_1_or_0() {
        assert!(switch("X", "1").unwrap());
        assert!(!switch("X", "0").unwrap());
        let error = switch("X", "yes").unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string()),
            (io::ErrorKind::InvalidInput, "X=yes: allowed: 1 or 0".to_owned())
        );
    }
}
