//! Go as a peer, where there is a `go`.
//!
//! `bench-harness/go` has the same work in Go. It is built once, beside this program; a run is a process of its own, which prints the
//! nanoseconds that it took. The answers are checked there.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use crate::measure::Contender;

/// The program; none without a `go` on the path.
static PROGRAM: LazyLock<Option<PathBuf>> = LazyLock::new(build);

fn build() -> Option<PathBuf> {
    Command::new("go").arg("version").output().ok().filter(|output| output.status.success())?;
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("go");
    let program = env::current_exe().ok()?.with_file_name("morestack-bench-go");
    let built = Command::new("go").arg("build").arg("-o").arg(&program).arg(".").current_dir(source).output();
    match built {
        Ok(output) if output.status.success() => Some(program),
        Ok(output) => {
            eprintln!("morestack-bench: without Go: {}", String::from_utf8_lossy(&output.stderr).trim());
            None
        }
        Err(error) => {
            eprintln!("morestack-bench: without Go: {error}");
            None
        }
    }
}

/// Goroutines that do this work, on so many processors.
pub(crate) fn peer(work: &'static str, procs: usize, operations: u64) -> Option<Contender> {
    let program = PROGRAM.as_ref()?;
    let run = move |operations: u64| {
        let mut command = Command::new(program);
        command.args([work, &operations.to_string()]).env("GOMAXPROCS", procs.to_string());
        let output = command.output().expect("the program starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "go, {work}: {}: {said}", output.status);
        Duration::from_nanos(String::from_utf8_lossy(&output.stdout).trim().parse().expect("nanoseconds"))
    };
    Some(Contender::peer("Go", operations, run))
}
