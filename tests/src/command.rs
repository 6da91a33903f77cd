//! A subprocess with a time limit.

use std::fs::File;
use std::io::{Error, Read, Seek};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long a test program may take. The slowest take some five seconds, unoptimised, under stress and on four
/// cores: what is not done after this hangs.
pub const LIMIT: Duration = Duration::from_secs(60);

/// How often the end of the subprocess is looked for. It bounds only how late a test notices.
const POLL: Duration = Duration::from_millis(5);

/// What a subprocess left behind.
#[derive(Debug)]
pub struct Finished {
    /// The command line, for messages.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Finished {
    /// Its standard output, if it succeeded.
    ///
    /// # Panics
    ///
    /// If it failed, with all that is known of it.
    #[track_caller]
    pub fn success(self) -> String {
        assert!(self.status.success(), "{self}");
        self.stdout
    }

    /// The signal that ended it.
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Finished { command, status, stdout, stderr } = self;
        write!(f, "{command}\n{status}\n--- stdout\n{}\n--- stderr\n{}", end(stdout), end(stderr))
    }
}

/// The end of a text that may be long: that is where a failure is explained.
fn end(text: &str) -> &str {
    const BYTES: usize = 8 << 10;
    let mut from = text.len().saturating_sub(BYTES);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

/// Runs a command to its end, in at most [`LIMIT`].
///
/// # Panics
///
/// If it cannot be started, or is not done in time: then it is killed, and the message has what it printed.
#[track_caller]
pub fn run(command: &mut Command) -> Finished {
    run_for(LIMIT, command).unwrap_or_else(|late| panic!("{late}"))
}

/// Has it fail for want of memory where it would take all that there is: what walks a stack without end keeps what it finds.
pub fn bounded(command: &mut Command) -> &mut Command {
    const BYTES: libc::rlim_t = 8 << 30;
    let limit = || {
        let limit = libc::rlimit { rlim_cur: BYTES, rlim_max: BYTES };
        // SAFETY: a system call that reads the limit.
        if unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) } == 0 { Ok(()) } else { Err(Error::last_os_error()) }
    };
    // SAFETY: a system call is all that it does.
    unsafe { command.pre_exec(limit) }
}

/// Runs a command to its end. If it is not done in time it is killed, and the error has what it printed.
///
/// # Panics
///
/// If it cannot be started.
#[track_caller]
pub fn run_for(limit: Duration, command: &mut Command) -> Result<Finished, String> {
    let line = describe(command);
    // Files, because a full pipe would block the subprocess while nobody reads.
    let mut stdout = tempfile::tempfile().expect("a temporary file");
    let mut stderr = tempfile::tempfile().expect("a temporary file");
    let clone = |file: &File| Stdio::from(file.try_clone().expect("a second descriptor"));
    let child = command.stdin(Stdio::null()).stdout(clone(&stdout)).stderr(clone(&stderr)).spawn();
    let mut child = child.unwrap_or_else(|error| panic!("cannot start {line}: {error}"));
    let deadline = Instant::now() + limit;
    let (status, late) = loop {
        if let Some(status) = child.try_wait().expect("a child to wait for") {
            break (status, false);
        }
        if Instant::now() >= deadline {
            child.kill().expect("a child to kill");
            break (child.wait().expect("a child to wait for"), true);
        }
        thread::sleep(POLL);
    };
    let finished = Finished { command: line, status, stdout: read(&mut stdout), stderr: read(&mut stderr) };
    if late { Err(format!("not done after {limit:?}, killed: {finished}")) } else { Ok(finished) }
}

/// The command line with the environment variables set for it.
fn describe(command: &Command) -> String {
    let mut line = String::new();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            line += &format!("{}={} ", name.display(), value.display());
        }
    }
    line += &command.get_program().to_string_lossy();
    for arg in command.get_args() {
        line += &format!(" {}", arg.display());
    }
    line
}

/// All that was written to the file.
fn read(file: &mut File) -> String {
    let mut bytes = Vec::new();
    file.rewind().expect("a file that seeks");
    file.read_to_end(&mut bytes).expect("a file that reads");
    String::from_utf8_lossy(&bytes).into_owned()
}
