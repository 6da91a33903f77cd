//! A million queued green threads need no million stacks.

use std::process::Command;

use morestack_tests::command::run;

#[test]
fn million() {
    let finished = run(&mut Command::new(env!("CARGO_BIN_EXE_million")));
    assert!(finished.status.success(), "{finished}");
    let value = |name: &str| -> u64 {
        let line = finished.stdout.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name}: {finished}"))
    };
    assert_eq!(value("sum"), 999_999 * 1_000_000 / 2);
    // The million, and the first green thread.
    assert_eq!(value("spawned"), 1_000_001, "{finished}");
    assert_eq!(value("completed"), 1_000_001, "{finished}");
    assert!(value("peak_stacks") < 10_000, "{finished}");
    // 1 KiB each, for the closure, the result and the handle. A stack page each would be four times that.
    assert!(value("peak_rss_kib") < 1_000_000, "{finished}");
}
