//! An OS thread per request, scheduled by the kernel.
//!
//! # As many CPUs as workers
//!
//! What limits the others is the number of their threads. Here there are as many threads as requests, so each of them
//! confines itself to the first CPUs, one per worker, before it begins. That is a system call of a microsecond that is
//! part of what a request costs here.
//!
//! # When there are too many
//!
//! The kernel bounds the number of threads, and each takes memory. At [`MOST`] the generator waits until one has ended.
//! That hides nothing: a request's latency counts from its intended arrival, and the generator's lateness is reported.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{SHUTDOWN, peer_stack};
use crate::cli::Config;

/// What a thread of std's has by itself, in bytes.
const STACK: u64 = 2 << 20;

/// Threads at a time. Plucked from thin air: below every usual limit, above every backlog that is still worked off.
const MOST: usize = 2048;

/// Between two tries to start a thread.
const PAUSE: Duration = Duration::from_micros(100);

/// Threads.
pub struct Threads {
    stack: usize,
    cpus: Option<libc::cpu_set_t>,
    alive: Arc<AtomicUsize>,
}

impl Threads {
    pub(super) fn new(config: &Config) -> Threads {
        Threads {
            stack: peer_stack(config.deep, STACK),
            cpus: first_cpus(config.workers),
            alive: Arc::new(AtomicUsize::new(0)),
        }
    }

    pub(super) fn run(&self, request: impl FnOnce() + Send + Copy + 'static) {
        loop {
            if self.alive.load(Ordering::Relaxed) < MOST {
                self.alive.fetch_add(1, Ordering::Relaxed);
                let (alive, cpus) = (self.alive.clone(), self.cpus);
                let started = thread::Builder::new().stack_size(self.stack).spawn(move || {
                    confine(cpus.as_ref());
                    request();
                    alive.fetch_sub(1, Ordering::Release);
                });
                if started.is_ok() {
                    return;
                }
                self.alive.fetch_sub(1, Ordering::Relaxed);
            }
            thread::sleep(PAUSE);
        }
    }

    pub(super) fn shutdown(self) -> Result<(), String> {
        let begun = Instant::now();
        while self.alive.load(Ordering::Acquire) > 0 {
            if begun.elapsed() > SHUTDOWN {
                return Err("OS threads do not end".into());
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }
}

/// The first CPUs of this process. None if these are all: then there is nothing to confine.
fn first_cpus(workers: usize) -> Option<libc::cpu_set_t> {
    let cpus = core_affinity::get_core_ids().unwrap_or_default();
    if workers >= cpus.len() {
        return None;
    }
    // SAFETY: a set of CPUs is an array of integers.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for cpu in &cpus[..workers] {
        // SAFETY: an index beyond the set is ignored.
        unsafe { libc::CPU_SET(cpu.id, &mut set) };
    }
    Some(set)
}

/// Keeps the calling thread on these CPUs.
fn confine(cpus: Option<&libc::cpu_set_t>) {
    if let Some(set) = cpus {
        // SAFETY: the kernel reads the set, whose size it is told. If it refuses, the thread runs wherever it likes.
        unsafe { libc::sched_setaffinity(0, size_of_val(set), set) };
    }
}
