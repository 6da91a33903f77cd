//! `#[morestack::test]` for the tests of published crates: they depend on this under the name `morestack`.
//!
//! Each test runs as the first green thread of a runtime of its own. What that did is a line in the file that
//! `CRATES_SUITE_METRICS` names.

pub use morestack::test;

/// What the attribute expands to.
pub mod __private {
    use std::fs::OpenOptions;
    use std::io::Write;
    use std::process::{ExitCode, Termination};

    use morestack::{Runtime, RuntimeBuilder};

    pub fn test<T: Termination>(set: fn(RuntimeBuilder) -> RuntimeBuilder, f: impl FnOnce() -> T + Send) -> ExitCode {
        let runtime = Counted(set(Runtime::builder()).build().expect("a runtime"));
        runtime.0.run(|| f().report())
    }

    /// Counts when the test has panicked, too.
    struct Counted(Runtime);

    impl Drop for Counted {
        fn drop(&mut self) {
            let Some(path) = std::env::var_os("CRATES_SUITE_METRICS") else { return };
            let metrics = self.0.metrics();
            let (grows, copied, segments) = (metrics.grows, metrics.bytes_copied, metrics.segments);
            // One write, which appends as a whole.
            let line = format!("grows {grows} bytes_copied {copied} segments {segments}\n");
            let mut file = OpenOptions::new().append(true).open(path).expect("the file of metrics");
            file.write_all(line.as_bytes()).expect("a line appended");
        }
    }
}
