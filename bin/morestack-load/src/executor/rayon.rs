//! A pool of rayon's.

use rayon::{ThreadPool, ThreadPoolBuilder};

use super::{peer_stack, pin};
use crate::cli::Config;

/// What an OS thread of std's has by itself, in bytes.
const STACK: u64 = 2 << 20;

/// A pool.
pub struct Rayon {
    pool: ThreadPool,
}

impl Rayon {
    pub(super) fn new(config: &Config) -> Result<Rayon, String> {
        let mut builder =
            ThreadPoolBuilder::new().num_threads(config.workers).stack_size(peer_stack(config.deep, STACK));
        if config.pin {
            builder = builder.start_handler(pin);
        }
        let pool = builder.build().map_err(|error| error.to_string())?;
        Ok(Rayon { pool })
    }

    pub(super) fn run(&self, request: impl FnOnce() + Send + 'static) {
        self.pool.spawn(request);
    }

    pub(super) fn shutdown(self) -> Result<(), String> {
        // Tells its threads to end, and does not wait for them: they have nothing to do.
        drop(self.pool);
        Ok(())
    }
}
