//! What `#[main]` and `#[test]` expand to.
//!
//! Settings that the attribute does not give come from the environment, as for the global runtime. `main` runs on that: what
//! other OS threads spawn comes to the same workers. When it returns the process ends, whatever is still running. Each test
//! has a runtime of its own, which is dropped after it.

use std::process::{ExitCode, Termination};

use crate::config::Config;
use crate::runtime::{self, RuntimeBuilder};
use crate::spawn;

type Set = fn(RuntimeBuilder) -> RuntimeBuilder;

/// Runs `f` as the first green thread of the global runtime, with the settings of `set`. The result is reported there: it
/// need not be `Send`.
pub fn main<T: Termination>(set: Set, f: impl FnOnce() -> T + Send) -> ExitCode {
    let sched = runtime::start_global(set).unwrap_or_else(|error| spawn::refuse(&error));
    runtime::run_on(sched, || f().report())
}

/// Runs `f` as the first green thread of a runtime with the settings of `set`.
pub fn test<T: Termination>(set: Set, f: impl FnOnce() -> T + Send) -> ExitCode {
    let runtime = Config::from_env().and_then(|config| set(config.into()).build());
    runtime.unwrap_or_else(|error| panic!("{error}")).run(|| f().report())
}
