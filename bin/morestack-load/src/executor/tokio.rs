//! Tokio's multi-threaded runtime.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Builder, Runtime};

use super::{SHUTDOWN, peer_stack, pin};
use crate::cli::Config;

/// What a thread of tokio's has by itself, in bytes.
const STACK: u64 = 2 << 20;

/// A runtime.
pub struct Tokio {
    runtime: Runtime,
}

impl Tokio {
    pub(super) fn new(config: &Config) -> Result<Tokio, String> {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(config.workers).thread_stack_size(peer_stack(config.deep, STACK));
        if config.pin {
            let started = AtomicUsize::new(0);
            builder.on_thread_start(move || pin(started.fetch_add(1, Ordering::Relaxed)));
        }
        let runtime = builder.build().map_err(|error| error.to_string())?;
        Ok(Tokio { runtime })
    }

    pub(super) fn run(&self, request: impl FnOnce() + Send + 'static) {
        drop(self.runtime.spawn(async move { request() }));
    }

    pub(super) fn shutdown(self) -> Result<(), String> {
        self.runtime.shutdown_timeout(SHUTDOWN);
        Ok(())
    }
}
