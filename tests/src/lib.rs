//! What the tests run, and how they run it.
//!
//! A test program lives in a binary of its own (`src/bin`), so that a crash, a hang or an environment variable of one
//! concerns no other. The tests (`tests`) start these binaries, bound their time, and judge what they print.

pub mod command;
pub mod crates;
pub mod differential;
pub mod environment;
pub mod instrumented;
pub mod on;
pub mod programs;
pub mod source;
pub mod usage;
