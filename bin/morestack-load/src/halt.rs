//! What ends a run before its time: Ctrl-C, or memory that runs short.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// The exit code after an interruption: 128 and the number of the signal, as shells have it.
pub const INTERRUPTED: u8 = 130;

static SIGNALLED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Takes note of SIGINT and SIGTERM from now on. A second one ends the program at once.
pub fn listen() -> io::Result<()> {
    let signalled = SIGNALLED.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first signal finds the flag not set, and sets it.
        flag::register_conditional_shutdown(signal, INTERRUPTED.into(), signalled.clone())?;
        flag::register(signal, signalled.clone())?;
    }
    Ok(())
}

/// Whether there was such a signal.
pub fn interrupted() -> bool {
    SIGNALLED.get().is_some_and(|signalled| signalled.load(Ordering::Relaxed))
}

/// Why a phase ends early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// A signal: what there is counts.
    Interrupted = 1,
    /// Memory runs short: the phase has failed.
    Memory = 2,
}

/// Tells a phase to end. The first reason stays.
#[derive(Default)]
pub struct Halt(AtomicU8);

impl Halt {
    /// Tells it.
    pub fn set(&self, reason: Reason) {
        let _ = self.0.compare_exchange(0, reason as u8, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Whether it was told.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    /// Why.
    pub fn reason(&self) -> Option<Reason> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(Reason::Interrupted),
            _ => Some(Reason::Memory),
        }
    }
}
