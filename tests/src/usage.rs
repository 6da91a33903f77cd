//! What the process used, as the kernel counts it.

use std::mem::MaybeUninit;
use std::time::Duration;

/// The resources of this process so far.
pub fn usage() -> libc::rusage {
    let mut usage = MaybeUninit::uninit();
    // SAFETY: the pointer is valid for one `rusage`.
    let status = unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) };
    assert_eq!(status, 0, "getrusage of the process itself cannot fail");
    // SAFETY: getrusage succeeded, so it wrote all of it.
    unsafe { usage.assume_init() }
}

/// Processor time of all threads, in user and kernel mode.
pub fn cpu_time() -> Duration {
    let usage = usage();
    let time = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec.cast_unsigned()) + Duration::from_micros(time.tv_usec.cast_unsigned())
    };
    time(usage.ru_utime) + time(usage.ru_stime)
}
