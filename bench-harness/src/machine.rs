//! Which machine this is: what numbers of different ones must not be compared by.

use std::fmt;
use std::fs;
use std::thread;

use serde::{Deserialize, Serialize};

/// What changes the numbers of benchmarks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// The model of its processors, as the kernel names it.
    cpu: String,
    /// Those that this process may use.
    cpus: usize,
    memory_gib: u64,
    /// The release of its kernel.
    kernel: String,
}

impl Machine {
    /// The one that this runs on. What the kernel does not tell is empty.
    pub(crate) fn this() -> Machine {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let memory =
            field(&read("/proc/meminfo"), "MemTotal").and_then(|text| text.strip_suffix(" kB")?.parse::<u64>().ok());
        Machine {
            cpu: field(&read("/proc/cpuinfo"), "model name").unwrap_or_default(),
            cpus: thread::available_parallelism().map_or(0, usize::from),
            memory_gib: memory.unwrap_or(0).div_ceil(1 << 20),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

/// The value of the first line `name: value`.
fn field(text: &str, name: &str) -> Option<String> {
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { cpu, cpus, memory_gib, kernel } = self;
        write!(f, "{cpu}, {cpus} CPUs, {memory_gib} GiB, Linux {kernel}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn told_apart() {
        let this = Machine::this();
        assert!(this.cpus > 0 && this.memory_gib > 0 && !this.kernel.is_empty(), "{this}");
        assert_eq!(this, Machine::this());
        assert_ne!(this, Machine { cpus: this.cpus + 1, ..this.clone() });
    }

    #[test]
    fn the_first_field_of_that_name() {
        assert_eq!(field("a\t: 1\nmodel name\t: X 2: Y\nmodel name\t: Z\n", "model name").unwrap(), "X 2: Y");
        assert_eq!(field("a: 1\n", "b"), None);
    }
}
