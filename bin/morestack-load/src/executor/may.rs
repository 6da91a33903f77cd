//! may's coroutines. A process has one scheduler of may's: the first run configures it, and it stays.

use super::peer_stack;
use crate::cli::Config;

/// The least size of a coroutine's stack, in bytes. may's own default, half of this, is little for a JSON parser.
const STACK: u64 = 64 << 10;

/// may's scheduler.
pub struct May;

impl May {
    pub(super) fn new(config: &Config) -> May {
        // Taken at its first use, and without effect later: all runs of a process have the same settings. The size is in
        // words. As the default, not of each coroutine: may keeps stacks of the default size for the next.
        let words = peer_stack(config.deep, STACK) / size_of::<usize>();
        may::config().set_workers(config.workers).set_stack_size(words).set_worker_pin(config.pin);
        May
    }

    pub(super) fn run(&self, request: impl FnOnce() + Send + 'static) {
        // SAFETY: a request waits for nothing, so it stays on one OS thread, and its stack has room for the deepest.
        drop(unsafe { may::coroutine::spawn(request) });
    }

    pub(super) fn shutdown(self) -> Result<(), String> {
        Ok(())
    }
}
