//! How many instructions the hot paths take, and how many they may.
//!
//! ```text
//! cargo bench -p morestack-bench --bench instructions
//! ```
//!
//! Times flicker; the number of instructions does not. So this is what a test can hold a path to: each in [`PATHS`] has a budget,
//! and one that takes more fails. Raising a budget is an edit of the table, to be argued for in the commit that makes it. Instructions
//! are not time: a cache miss or a locked operation costs as much as a hundred of them, and counts as one.
//!
//! # How it counts
//!
//! ```text
//!   this program ──► valgrind --tool=callgrind this program --path NAME       one process for each path
//!        ▲                │ on a green thread, one worker, no time slices:
//!        │                │   the operation, until what it needs is in place
//!        │                │   collect: n operations; dump
//!        │                │   collect: 2n operations; dump
//!        └── two totals ◄─┘
//!    difference / n
//! ```
//!
//! Callgrind collects for each OS thread by itself, and only the worker's is told to ([`callgrind`]): sysmon does not count, which runs as
//! often as time passes. The difference has none of what does not grow with the number of operations. Valgrind runs one OS thread
//! at a time, which with one worker changes nothing. A second run finds the same numbers to the last digit.
//!
//! The usual harness for callgrind from Rust, gungraun, collects while one function is on the call stack. Callgrind finds out about that
//! by the stack pointer, which here goes from one stack to another within the function.

mod callgrind;
mod paths;

use std::process::ExitCode;

use morestack::Runtime;

/// A path, and what it may take.
struct Path {
    name: &'static str,
    /// Instructions for each operation.
    budget: u32,
    operation: &'static str,
    /// Does so many operations, on a green thread.
    run: fn(u64),
    /// The same without what is measured.
    without: Option<fn(u64)>,
}

/// A budget is a twentieth above what the path took when it was set: another version of the compiler changes something
/// everywhere. The check is to be what it is: a comparison and a jump, and what the function saves around the slow path.
const PATHS: &[Path] = &[
    path("switch", 220, "yield to another", paths::switch),
    path("wake", 303, "unpark of another, and park", paths::wake),
    path("rendezvous", 504, "message through bounded(0) to one that waits", paths::rendezvous),
    path("buffered", 153, "message through bounded(64)", paths::buffered),
    path("spawn_join", 1156, "spawn and join", paths::spawn_join),
    path("spawn_many", 1353, "spawn and join, 50 at a time", paths::spawn_many),
    path("stack_alloc", 64, "stackalloc and stackfree, from the cache", paths::stack),
    path("lock", 15, "lock and unlock of a Mutex", paths::lock),
    Path {
        without: Some(paths::unchecked),
        ..path("prologue", 6, "check that passes, in a function with an argument", paths::checked)
    },
];

const fn path(name: &'static str, budget: u32, operation: &'static str, run: fn(u64)) -> Path {
    Path { name, budget, operation, run, without: None }
}

/// Operations of the shorter count. Even rare events, such as the look into the injector at each 61st switch, come often in it.
const OPERATIONS: u64 = 6100;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, flag, name] = arguments.as_slice()
        && flag == "--path"
    {
        let path = PATHS.iter().find(|path| path.name == name).expect("a path");
        run(path);
        return ExitCode::SUCCESS;
    }
    println!("{:<12} {:>12} {:>7}  for each", "", "instructions", "budget");
    let mut failed = false;
    for path in PATHS {
        match found(path) {
            Ok(found) => {
                let over = found > f64::from(path.budget);
                failed |= over;
                let over = if over { ": OVER BUDGET" } else { "" };
                println!("{:<12} {found:>12.1} {:>7}  {}{over}", path.name, path.budget, path.operation);
            }
            Err(error) => {
                failed = true;
                println!("{:<12} {error}", path.name);
            }
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Counts a path, as the process that callgrind looks into.
fn run(path: &Path) {
    let runtime = Runtime::builder().workers(1).time_slice(None).build().expect("a runtime");
    for run in [Some(path.run), path.without].into_iter().flatten() {
        runtime.run(move || {
            run(OPERATIONS);
            callgrind::collect(|| run(OPERATIONS));
            callgrind::collect(|| run(2 * OPERATIONS));
        });
    }
}

/// Instructions for each operation.
fn found(path: &Path) -> Result<f64, String> {
    let totals = callgrind::totals(&["--path", path.name])?;
    let each = |totals: &[u64]| (totals[1] as f64 - totals[0] as f64) / OPERATIONS as f64;
    match (totals.as_slice(), path.without) {
        ([_, _], None) => Ok(each(&totals)),
        ([_, _, _, _], Some(_)) => Ok(each(&totals[..2]) - each(&totals[2..])),
        _ => Err(format!("callgrind has not counted: {totals:?}")),
    }
}
