//! Memory: what is left for a run, and what it took at its peak.
//!
//! An open loop beyond capacity queues without bound, and every green thread that has started holds a stack. The kernel
//! would end such a run by killing some process, without a word about why; so the run watches what is left and ends
//! itself in time.

use std::fs;

/// The part of all memory that a run leaves untouched: large enough for what arrives between two looks.
const FLOOR: u64 = 16;

/// What is left, in bytes: of the machine, or of the container where that is less. `None` where the kernel does not say.
pub fn available() -> Option<u64> {
    pools().map(|pool| pool.available).min()
}

/// Whether so little is left that a run has to end.
pub fn is_short() -> bool {
    pools().any(|pool| pool.available < pool.total / FLOOR)
}

/// What memory is taken from, in bytes.
struct Pool {
    total: u64,
    available: u64,
}

fn pools() -> impl Iterator<Item = Pool> {
    machine().into_iter().chain(container())
}

fn machine() -> Option<Pool> {
    Some(Pool { total: field("/proc/meminfo", "MemTotal:")?, available: field("/proc/meminfo", "MemAvailable:")? })
}

/// The limit of the control group that a container sees as its root.
fn container() -> Option<Pool> {
    let read = |file: &str| fs::read_to_string(format!("/sys/fs/cgroup/{file}")).ok();
    // Without a limit it reads `max`, which is no number.
    let total: u64 = read("memory.max")?.trim().parse().ok()?;
    let current: u64 = read("memory.current")?.trim().parse().ok()?;
    // Cached file pages count as used, but the kernel drops them first.
    let stat = read("memory.stat")?;
    let cached = stat.lines().find_map(|line| line.strip_prefix("inactive_file "))?;
    let used = current.saturating_sub(cached.trim().parse().ok()?);
    Some(Pool { total, available: total.saturating_sub(used) })
}

/// The most memory this process has had resident, in bytes; 0 where the kernel does not say.
pub fn peak_rss() -> u64 {
    field("/proc/self/status", "VmHWM:").unwrap_or(0)
}

/// Makes the peak begin anew. Where that is not allowed, the peak includes what came before.
pub fn reset_peak_rss() {
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// A field of a file in the form of `/proc/meminfo`, whose numbers are in kB.
fn field(file: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says() {
        assert!(available().unwrap() > 1 << 20);
        assert!(peak_rss() > 1 << 20);
        assert_eq!(field("/proc/self/status", "NoSuchField:"), None);
        assert_eq!(field("/no/such/file", "VmHWM:"), None);
    }
}
