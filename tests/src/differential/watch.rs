//! Names the programs that run when the process dies or hangs.
//!
//! A pointer that was left behind often ends in a signal. Each lane therefore keeps what it runs in a table, and a
//! handler of the deadly signals writes it. It runs after the runtime's own handler has said what it knows.

use std::io;
use std::mem::MaybeUninit;
use std::sync::Once;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use crate::on::On;

/// Lanes that are watched. More run, but unnamed.
const LANES: usize = 256;

/// No program for so long, in any lane: something hangs. A program takes milliseconds, some a second on a machine that
/// is busy otherwise.
const STALL: Duration = Duration::from_secs(15);

/// What a lane runs.
struct Lane {
    seed: AtomicU64,
    /// Nothing, or one of the `On`s.
    on: AtomicU8,
}

static TABLE: [Lane; LANES] = [const { Lane { seed: AtomicU64::new(0), on: AtomicU8::new(0) } }; LANES];

/// Programs done.
static DONE: AtomicU64 = AtomicU64::new(0);

const NAMES: [&str; 4] = ["", "Os", "Spawn", "Go"];

const SIGNALS: [i32; 6] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGABRT, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP];

/// A lane begins a run.
pub(super) fn running(lane: usize, seed: u64, on: On) {
    if let Some(lane) = TABLE.get(lane) {
        lane.seed.store(seed, Relaxed);
        lane.on.store(1 + on as u8, Relaxed);
    }
}

/// A lane is done with a program.
pub(super) fn done(lane: usize) {
    DONE.fetch_add(1, Relaxed);
    if let Some(lane) = TABLE.get(lane) {
        lane.on.store(0, Relaxed);
    }
}

/// Begins to watch. To be called before the first runtime is made, whose handlers call those that were there before.
pub(super) fn start() -> io::Result<()> {
    static ONCE: Once = Once::new();
    let mut error = None;
    ONCE.call_once(|| {
        for signal in SIGNALS {
            // SAFETY: a zeroed sigaction is a valid one; the handler is async-signal-safe.
            let status = unsafe {
                let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
                action.sa_sigaction = died as extern "C" fn(i32) as usize;
                action.sa_flags = libc::SA_ONSTACK;
                libc::sigaction(signal, &action, std::ptr::null_mut())
            };
            if status != 0 {
                error = Some(io::Error::last_os_error());
            }
        }
        thread::spawn(watchdog);
    });
    error.map_or(Ok(()), Err)
}

/// Ends the process if no program ends for [`STALL`].
fn watchdog() {
    let mut before = None;
    loop {
        thread::sleep(STALL);
        let now = Some(DONE.load(Relaxed));
        if now == before {
            write(b"differential: nothing ends any more\n");
            write_table();
            std::process::exit(1);
        }
        before = now;
    }
}

extern "C" fn died(signal: i32) {
    write(b"differential: died of a signal\n");
    write_table();
    // SAFETY: the default action ends the process: at once if the signal was raised, else when the instruction faults
    // again.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// Allocates nothing and takes no lock.
fn write_table() {
    for lane in &TABLE {
        let on = lane.on.load(Relaxed);
        if on != 0 {
            let mut digits = [0; 20];
            write(b"  program ");
            write(decimal(lane.seed.load(Relaxed), &mut digits));
            write(b" on ");
            write(NAMES[usize::from(on) % NAMES.len()].as_bytes());
            write(b"\n");
        }
    }
}

fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[at..];
        }
    }
}

fn write(bytes: &[u8]) {
    // SAFETY: the pointer is valid for so many bytes. What cannot be written is lost.
    unsafe { libc::write(libc::STDERR_FILENO, bytes.as_ptr().cast(), bytes.len()) };
}
