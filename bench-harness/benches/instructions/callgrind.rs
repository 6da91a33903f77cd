//! Callgrind: how it is started, what it is told, and what it says.

use std::arch::asm;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// What a program can ask of callgrind (`callgrind.h`): the tool's letters, and a number.
#[derive(Clone, Copy)]
enum Request {
    /// Writes what was collected to a file, and begins again at 0.
    DumpStats = 0,
    /// Starts or stops collecting, on this OS thread.
    ToggleCollect = 2,
}

fn request(request: Request) {
    let letters = u64::from(b'C') << 24 | u64::from(b'T') << 16;
    let arguments = [letters | request as u64, 0, 0, 0, 0, 0];
    // SAFETY: Valgrind's sequence for client requests. To the processor it does nothing: the rotations are by 128 bits altogether.
    // Valgrind reads the arguments, and writes rdx.
    unsafe {
        asm!(
            "rol rdi, 3",
            "rol rdi, 13",
            "rol rdi, 61",
            "rol rdi, 51",
            "xchg rbx, rbx",
            in("rax") &raw const arguments,
            inout("rdx") 0_u64 => _,
            options(nostack),
        );
    }
}

/// Counts the instructions of this OS thread while `f` runs on it.
pub(crate) fn collect(f: impl FnOnce()) {
    request(Request::ToggleCollect);
    f();
    request(Request::ToggleCollect);
    request(Request::DumpStats);
}

/// Runs this program with these arguments. The totals of its dumps, in order.
pub(crate) fn totals(arguments: &[&str]) -> Result<Vec<u64>, String> {
    let directory = tempfile::tempdir().map_err(|error| format!("no directory for callgrind: {error}"))?;
    let out = directory.path().join("out");
    let program = std::env::current_exe().map_err(|error| format!("where is this program? {error}"))?;
    let mut command = Command::new("valgrind");
    command.args(["--quiet", "--tool=callgrind", "--collect-atstart=no"]);
    command.arg(format!("--callgrind-out-file={}", out.display())).arg(program).args(arguments);
    // Whatever it is set to: the runtime is to be the same each time.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"MORESTACK_")) {
        command.env_remove(name);
    }
    let output = command.stdin(Stdio::null()).output().map_err(|error| {
        format!("cannot start valgrind, which is needed (Debian, Ubuntu: apt-get install valgrind): {error}")
    })?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)));
    }
    let dumps = (1..).map(|n| out.with_added_extension(n.to_string())).take_while(|dump| dump.exists());
    dumps.map(|dump| total(&dump)).collect()
}

/// What is in the line `totals: N` of a dump.
fn total(dump: &Path) -> Result<u64, String> {
    let text = fs::read_to_string(dump).map_err(|error| format!("{}: {error}", dump.display()))?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok());
    total.ok_or_else(|| format!("{} has no total", dump.display()))
}
