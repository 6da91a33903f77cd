//! Contenders that begin in a process of their own.
//!
//! What a first time costs can be measured once in a process: the second finds the stacks kept, the pages touched and the
//! spawn site known. So the runs of such a contender are child processes, one for each sample:
//!
//! ```text
//!   parent   morestack-bench NAME
//!     └─ child   morestack-bench NAME --contender INDEX --operations N     prints what it took, ends
//! ```
//!
//! Only what the contender measures counts. That a process starts is not measured.

use std::process::{Command, ExitCode};

use crate::benchmarks::Benchmark;
use crate::measure::Contender;

/// Has the runs of those that ask for it done by child processes.
pub(crate) fn isolate(benchmark: &Benchmark, contenders: &mut [Contender]) {
    for (index, contender) in contenders.iter_mut().enumerate().filter(|(_, contender)| contender.fresh) {
        let name = benchmark.name;
        contender.run_by(move |operations| spawn(name, index, operations));
    }
}

/// Runs a contender in this process, which is the child.
pub(crate) fn run(benchmark: &Benchmark, index: usize, operations: u64) -> ExitCode {
    let mut contenders = (benchmark.contenders)();
    println!("{}", contenders[index].run(operations));
    ExitCode::SUCCESS
}

/// What a run took in a child process. A child that fails has said why.
fn spawn(name: &str, index: usize, operations: u64) -> u64 {
    let program = std::env::current_exe().expect("the path of this program");
    let mut command = Command::new(program);
    command.args([name, "--contender", &index.to_string(), "--operations", &operations.to_string()]);
    command.stderr(std::process::Stdio::inherit());
    let output = command.output().expect("this program starts");
    assert!(output.status.success(), "{name}: contender {index}: {}", output.status);
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number")
}
