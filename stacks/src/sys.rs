//! The system calls under the allocator, each as a function that returns the kernel's answer as an `io::Result`.
//!
//! No address handed to this module belongs to anybody else: every range comes from a mapping that this crate made and
//! that its caller owns for the length of the call. That is the one invariant the `SAFETY` notes below lean on.
//!
//! `MORESTACK_STACK_DEBUG=fail=...` makes calls fail here ([`fail`](crate::fail)).

use std::io;
use std::ptr;

use crate::fail::{Call, injected};

/// The page size of x86-64. Guards and stack bounds are multiples of it.
pub(crate) const PAGE: usize = 4096;

/// `MADV_GUARD_INSTALL` and `MADV_GUARD_REMOVE` of Linux 6.13: pages that fault without a mapping of their own.
/// Numbers of the kernel's ABI (`include/uapi/asm-generic/mman-common.h`).
const MADV_GUARD_INSTALL: libc::c_int = 102;
const MADV_GUARD_REMOVE: libc::c_int = 103;

/// What a range of pages allows.
#[derive(Clone, Copy)]
pub(crate) enum Access {
    None,
    ReadWrite,
}

impl Access {
    fn prot(self) -> libc::c_int {
        match self {
            Access::None => libc::PROT_NONE,
            Access::ReadWrite => libc::PROT_READ | libc::PROT_WRITE,
        }
    }
}

/// Advice for a range of pages.
#[derive(Clone, Copy)]
pub(crate) enum Advice {
    /// Drop the memory; the next touch reads zeroes. Guards stay.
    DontNeed,
    /// Never build huge pages here: one touched byte would cost 2 MiB.
    NoHugePage,
    /// Build huge pages here where the system allows it.
    HugePage,
    /// Make every access fault. Drops the memory.
    GuardInstall,
    /// Undo that.
    GuardRemove,
}

/// Maps `size` bytes of private zeroes at an address of the kernel's choice. Nothing is charged against the
/// overcommit limit for them where the limit is a heuristic.
pub(crate) fn map(size: usize, access: Access) -> io::Result<usize> {
    injected(Call::Mmap)?;
    // SAFETY: a null hint without MAP_FIXED makes the kernel choose unused addresses; no existing memory changes.
    let base = unsafe {
        libc::mmap(
            ptr::null_mut(),
            size,
            access.prot(),
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if base == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(base as usize) }
}

/// Gives a mapping back.
///
/// # Safety
///
/// The caller owns `[addr, addr + size)` and nothing refers to it any more.
pub(crate) unsafe fn unmap(addr: usize, size: usize) -> io::Result<()> {
    // SAFETY: the caller owns the range and is done with it.
    check(unsafe { libc::munmap(addr as *mut _, size) })
}

/// Changes what `[addr, addr + size)` allows.
///
/// # Safety
///
/// The caller owns the range; with [`Access::None`] nothing may touch it afterwards.
pub(crate) unsafe fn protect(addr: usize, size: usize, access: Access) -> io::Result<()> {
    injected(Call::Mprotect)?;
    // SAFETY: the caller owns the range.
    check(unsafe { libc::mprotect(addr as *mut _, size, access.prot()) })
}

/// Lets `[addr, addr + size)` be paged out again where all memory is locked (`mlockall`).
///
/// # Safety
///
/// The caller owns the range.
pub(crate) unsafe fn unlock(addr: usize, size: usize) -> io::Result<()> {
    // SAFETY: the caller owns the range, and nothing that is in it changes.
    check(unsafe { libc::munlock(addr as *const _, size) })
}

/// Gives advice on `[addr, addr + size)`.
///
/// # Safety
///
/// The caller owns the range; [`Advice::DontNeed`] and [`Advice::GuardInstall`] destroy what is in it.
pub(crate) unsafe fn advise(addr: usize, size: usize, advice: Advice) -> io::Result<()> {
    injected(Call::Madvise)?;
    let number = match advice {
        Advice::DontNeed => libc::MADV_DONTNEED,
        Advice::NoHugePage => libc::MADV_NOHUGEPAGE,
        Advice::HugePage => libc::MADV_HUGEPAGE,
        Advice::GuardInstall => MADV_GUARD_INSTALL,
        Advice::GuardRemove => MADV_GUARD_REMOVE,
    };
    // SAFETY: the caller owns the range and what is in it.
    check(unsafe { libc::madvise(addr as *mut _, size, number) })
}

/// Whether a page is memory. Where the kernel does not say, it is taken for none.
pub(crate) fn is_resident(page: usize) -> bool {
    let mut resident = 0_u8;
    // SAFETY: the answer is one byte for one page, and nothing else changes.
    let answer = unsafe { libc::mincore(page as *mut _, PAGE, &mut resident) };
    answer == 0 && resident & 1 != 0
}

/// Nanoseconds of the monotonic clock.
pub(crate) fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a live timespec; the monotonic clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Writes to standard error without std's lock: a green thread that was switched out in the middle of a line may hold it.
pub(crate) fn write_stderr(bytes: &[u8]) {
    // SAFETY: `bytes` is readable for its length. A short or failed write loses trace output, nothing else.
    unsafe { libc::write(2, bytes.as_ptr().cast(), bytes.len()) };
}

fn check(answer: libc::c_int) -> io::Result<()> {
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
