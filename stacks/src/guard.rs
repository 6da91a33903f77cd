//! Guards: below every stack lies a page that faults (S1: outside the bounds, never part of the stack).
//!
//! ```text
//!        lo - PAGE      lo                                  hi
//!   ──────┬─────────────┬───────────────────────────────────┬──────
//!         │ guard       │ the stack, exactly [lo, hi)       │
//!   ──────┴─────────────┴───────────────────────────────────┴──────
//! ```
//!
//! | kind | how | costs |
//! |---|---|---|
//! | [`Kind::Madvise`] | `MADV_GUARD_INSTALL`, Linux 6.13 | a page-table entry; no VMA |
//! | [`Kind::Mprotect`] | `mprotect(PROT_NONE)` | splits the VMA: two more of the `vm.max_map_count` that a process may have |
//!
//! The first is used where the kernel has it. Elsewhere the second, while its budget lasts: half of
//! `vm.max_map_count`, since the program has mappings too and a process that has none left cannot even `malloc`. By the
//! kernel's default that is 16382 stacks. Then there is no guard, and so no stack ([`Shortage::NoGuard`]): safe code runs
//! on stacks, and one that runs over without a guard writes into its neighbour.
//!
//! That the second is used is said on standard error, once for each [`Reason`] that there may be: the kernel, locked
//! memory (`mlockall`), another error. Nobody who counts on a hundred thousand stacks should learn of it from the
//! 16383rd.
//!
//! The same two ways make whole stacks inaccessible for `MORESTACK_EFENCE` ([`Guards::seal`]), on the same budget.
//!
//! A fault in a page of the first kind is reported as `SEGV_MAPERR`, one of the second kind as `SEGV_ACCERR`: a signal
//! handler must go by the address.
//!
//! # Invariants
//!
//! 1. No stack is handed out without its guard.
//! 2. Whoever installs keeps the [`Kind`] it was told and removes with the same one: only it says what to undo and which
//!    counter to lower.
//! 3. What could not be removed still faults, all of it or in part: its owner keeps the range, hands nothing of it out, and
//!    tries again later. That is address space, no memory.

use std::fs;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

use crate::debug;
use crate::sys::{self, Access, Advice, PAGE};
use crate::{Shortage, Stack};

/// What `vm.max_map_count` is where it cannot be read: the kernel's default.
const DEFAULT_MAX_MAP_COUNT: usize = 65530;

/// The page below `stack` that faults when the stack runs over. A plain computation: fit for a signal handler.
///
/// ```
/// use morestack_stacks::{Stack, guard_of};
///
/// let stack = Stack { lo: 0x10000, hi: 0x20000 };
/// assert!(guard_of(stack).contains(&(stack.lo - 8)));
/// assert!(!guard_of(stack).contains(&stack.lo));
/// ```
pub const fn guard_of(stack: Stack) -> Range<usize> {
    stack.lo.saturating_sub(PAGE)..stack.lo
}

/// How a range was made inaccessible, and so how that is undone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Madvise,
    Mprotect,
}

/// Guards alive, by kind.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) madvise: usize,
    pub(crate) mprotect: usize,
}

/// The guards of the process.
pub(crate) static GUARDS: Guards = Guards::new();

/// What the kernel offers; found out once, or again where it could not be found out.
const UNKNOWN: u8 = 0;
const HAS_MADVISE: u8 = 1;
const NO_MADVISE: u8 = 2;
/// `MORESTACK_STACK_DEBUG=mprotect`.
const NOT_WANTED: u8 = 3;

/// Why a guard is made by `mprotect`.
#[derive(Debug)]
enum Reason {
    /// The kernel has nothing else.
    Kernel,
    /// It does not take locked memory.
    Locked,
    /// It might, but did not this time.
    Refused(io::Error),
}

pub(crate) struct Guards {
    kernel: AtomicU8,
    /// `vm.max_map_count`; written before `kernel` is, and read after it.
    max_map_count: AtomicUsize,
    /// The reasons that were said, a bit each.
    said: AtomicU8,
    madvise: AtomicUsize,
    /// Guards and sealed stacks: what the budget counts.
    mprotect: AtomicUsize,
}

impl Guards {
    pub(crate) const fn new() -> Guards {
        Guards {
            kernel: AtomicU8::new(UNKNOWN),
            max_map_count: AtomicUsize::new(0),
            said: AtomicU8::new(0),
            madvise: AtomicUsize::new(0),
            mprotect: AtomicUsize::new(0),
        }
    }

    /// Guards of a kernel with this `vm.max_map_count`, and without `MADV_GUARD_INSTALL` if `mprotect_only`.
    #[cfg(test)]
    pub(crate) fn of(mprotect_only: bool, max_map_count: usize) -> Guards {
        let guards = Guards::new();
        guards.find_out(mprotect_only, max_map_count);
        guards
    }

    /// Makes the page below `lo` fault. `Err` ([`Shortage::NoGuard`]) where neither way is open: nothing has changed, and
    /// what lies above `lo` must not be handed out as a stack.
    ///
    /// # Safety
    ///
    /// The caller owns the page, and nothing is kept in it.
    pub(crate) unsafe fn install(&self, lo: usize) -> Result<Kind, Shortage> {
        // SAFETY: the caller owns the page.
        let kind = unsafe { self.forbid(lo - PAGE, PAGE) }?;
        if kind == Kind::Madvise {
            self.madvise.fetch_add(1, Relaxed);
        }
        Ok(kind)
    }

    /// Undoes [`Guards::install`]. `false` where the kernel refuses: the page still faults, and may never be used again.
    ///
    /// # Safety
    ///
    /// `kind` is what `install` returned for `lo`, and the caller still owns the page.
    #[must_use]
    pub(crate) unsafe fn remove(&self, lo: usize, kind: Kind) -> bool {
        // SAFETY: the caller owns the page.
        let removed = unsafe { self.permit(lo - PAGE, PAGE, kind) };
        if removed && kind == Kind::Madvise {
            self.madvise.fetch_sub(1, Relaxed);
        }
        removed
    }

    /// Undoes [`Guards::install`] for a whole span at once: every guard of kind `Madvise` in `[addr, addr + size)`, of
    /// which there are `count`.
    ///
    /// # Safety
    ///
    /// The caller owns the range.
    #[must_use]
    pub(crate) unsafe fn remove_madvised(&self, addr: usize, size: usize, count: usize) -> bool {
        // SAFETY: the caller owns the range.
        let removed = count == 0 || unsafe { self.permit(addr, size, Kind::Madvise) };
        if removed {
            self.madvise.fetch_sub(count, Relaxed);
        }
        removed
    }

    /// Makes a whole stack inaccessible and drops its memory. `Err` where that cannot be had: nothing has changed but
    /// the memory.
    ///
    /// # Safety
    ///
    /// The caller owns the stack. Whoever touches it from now on gets a fault, which is the purpose.
    pub(crate) unsafe fn seal(&self, stack: Stack) -> Result<Kind, Shortage> {
        // SAFETY: the caller owns the stack.
        unsafe { self.forbid(stack.lo, stack.size()) }
    }

    /// Undoes [`Guards::seal`]: the memory reads as zeroes. `false` as for [`Guards::remove`].
    ///
    /// # Safety
    ///
    /// `kind` is what `seal` returned for `stack`, and the caller owns it.
    #[must_use]
    pub(crate) unsafe fn unseal(&self, stack: Stack, kind: Kind) -> bool {
        // SAFETY: the caller owns the stack.
        unsafe { self.permit(stack.lo, stack.size(), kind) }
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts { madvise: self.madvise.load(Relaxed), mprotect: self.mprotect.load(Relaxed) }
    }

    /// Makes a range inaccessible and drops its memory; `Err` where neither way is open. Keeps the count of kind
    /// `Mprotect`, as [`Guards::permit`] does: the budget is of guards and sealed stacks together.
    ///
    /// # Safety
    ///
    /// The caller owns the range.
    unsafe fn forbid(&self, addr: usize, size: usize) -> Result<Kind, Shortage> {
        // SAFETY: the caller owns the range.
        let reason = match unsafe { self.advise(addr, size) } {
            Ok(()) => return Ok(Kind::Madvise),
            Err(reason) => reason,
        };
        // Half of the mappings, and each range takes two.
        let max_map_count = self.max_map_count.load(Relaxed);
        let budget = max_map_count / 2 / 2;
        if let Some(reason) = reason {
            self.say(&reason, budget);
        }
        let no_guard =
            |used: usize, source: Option<io::Error>| Shortage::NoGuard { taken: 2 * used, max_map_count, source };
        self.mprotect
            .fetch_update(Relaxed, Relaxed, |used| (used < budget).then_some(used + 1))
            .map_err(|used| no_guard(used, None))?;
        // SAFETY: the caller owns the range.
        let forbidden = unsafe {
            let _ = sys::advise(addr, size, Advice::DontNeed);
            sys::protect(addr, size, Access::None)
        };
        if let Err(refusal) = forbidden {
            let used = self.mprotect.fetch_sub(1, Relaxed) - 1;
            return Err(no_guard(used, Some(refusal)));
        }
        Ok(Kind::Mprotect)
    }

    /// Makes a range accessible again; `false` where the kernel refuses. It may: an inaccessible range between two others
    /// is one mapping with them, and to split it takes two that a program beyond its own half may have used up.
    ///
    /// # Safety
    ///
    /// The caller owns the range, and `kind` is what `forbid` returned for it.
    unsafe fn permit(&self, addr: usize, size: usize, kind: Kind) -> bool {
        match kind {
            // SAFETY: the caller owns the range.
            Kind::Madvise => unsafe { sys::advise(addr, size, Advice::GuardRemove) }.is_ok(),
            Kind::Mprotect => {
                // SAFETY: the caller owns the range.
                let permitted = unsafe { sys::protect(addr, size, Access::ReadWrite) }.is_ok();
                if permitted {
                    self.mprotect.fetch_sub(1, Relaxed);
                }
                permitted
            }
        }
    }

    /// The first way. `Err` where it is not open; without a reason where it is not wanted.
    ///
    /// # Safety
    ///
    /// As for [`Guards::forbid`].
    unsafe fn advise(&self, addr: usize, size: usize) -> Result<(), Option<Reason>> {
        let kernel = self.kernel();
        match kernel {
            NO_MADVISE => return Err(Some(Reason::Kernel)),
            NOT_WANTED => return Err(None),
            // If that is not known, this call tells.
            _ => {}
        }
        // SAFETY: the caller owns the range.
        let Err(refusal) = (unsafe { sys::advise(addr, size, Advice::GuardInstall) }) else { return Ok(()) };
        let invalid = refusal.raw_os_error() == Some(libc::EINVAL);
        // One page is guarded or not. Of more, some may be by now: the kernel ran out of page tables on the way. `mprotect`
        // would hide those, and undoing that would bring them to light in somebody's stack.
        // SAFETY: as above.
        if size > PAGE && !invalid && unsafe { sys::advise(addr, size, Advice::GuardRemove) }.is_err() {
            // Then all count as guarded until a removal succeeds (invariant 3).
            return Ok(());
        }
        Err(Some(if invalid && kernel == HAS_MADVISE { Reason::Locked } else { Reason::Refused(refusal) }))
    }

    /// Says that guards cost mappings, once for each reason.
    fn say(&self, reason: &Reason, budget: usize) {
        let bit = match reason {
            Reason::Kernel => 1,
            Reason::Locked => 2,
            Reason::Refused(_) => 4,
        };
        if self.said.fetch_or(bit, Relaxed) & bit != 0 {
            return;
        }
        let max_map_count = self.max_map_count.load(Relaxed);
        let room =
            format_args!("room for {budget} stacks (two mappings each, half of vm.max_map_count={max_map_count})");
        match reason {
            Reason::Kernel => debug::say(format_args!(
                "stack guards by mprotect: this kernel has no MADV_GUARD_INSTALL: {room}; for more, raise \
                 vm.max_map_count or use Linux 6.13 or later"
            )),
            Reason::Locked => debug::say(format_args!(
                "stack guards by mprotect: memory is locked (mlockall): {room}; for more, raise vm.max_map_count or do \
                 not lock future memory"
            )),
            Reason::Refused(refusal) => debug::say(format_args!(
                "a stack guard by mprotect: madvise(MADV_GUARD_INSTALL) failed: {refusal}; if that goes on, there is {room}"
            )),
        }
    }

    fn kernel(&self) -> u8 {
        match self.kernel.load(Acquire) {
            UNKNOWN => self.find_out(debug::mprotect_guards(), max_map_count()),
            kernel => kernel,
        }
    }

    /// Asks the kernel on a page of its own. Threads that ask at the same time get the same answer.
    fn find_out(&self, mprotect_only: bool, max_map_count: usize) -> u8 {
        let kernel = if mprotect_only { NOT_WANTED } else { probe() };
        self.max_map_count.store(max_map_count, Relaxed);
        self.kernel.store(kernel, Release);
        kernel
    }
}

/// Whether the kernel has `MADV_GUARD_INSTALL`. [`UNKNOWN`] where it has no memory to try it on, or gives another answer
/// than yes and no.
fn probe() -> u8 {
    let Ok(page) = sys::map(PAGE, Access::ReadWrite) else { return UNKNOWN };
    // SAFETY: the page was mapped just now and nobody else has seen it.
    unsafe {
        // Under `mlockall` it is locked, and a kernel that has guards would refuse this one as one that has not.
        let _ = sys::unlock(page, PAGE);
        let answer = sys::advise(page, PAGE, Advice::GuardInstall);
        let _ = sys::unmap(page, PAGE);
        match answer {
            Ok(()) => HAS_MADVISE,
            Err(refusal) if refusal.raw_os_error() == Some(libc::EINVAL) => NO_MADVISE,
            Err(_) => UNKNOWN,
        }
    }
}

fn max_map_count() -> usize {
    fs::read_to_string("/proc/sys/vm/max_map_count")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(DEFAULT_MAX_MAP_COUNT)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four pages; the caller owns them until the end of the process.
    fn pages() -> usize {
        sys::map(4 * PAGE, Access::ReadWrite).unwrap()
    }

    /// Whether the kernel can read the byte at `addr`: a fault that does not kill.
    fn readable(addr: usize) -> bool {
        let mut pipe = [0; 2];
        // SAFETY: plain system calls; `write` answers EFAULT where the byte cannot be read.
        unsafe {
            assert_eq!(libc::pipe(pipe.as_mut_ptr()), 0);
            let written = libc::write(pipe[1], addr as *const _, 1);
            libc::close(pipe[0]);
            libc::close(pipe[1]);
            written == 1
        }
    }

    #[test]
    fn the_page_below_faults_and_only_it() {
        for mprotect_only in [false, true] {
            let guards = Guards::of(mprotect_only, 64);
            let lo = pages() + 2 * PAGE;
            // SAFETY: the pages are the test's.
            let kind = unsafe { guards.install(lo) }.unwrap();
            assert_eq!(kind == Kind::Mprotect, mprotect_only || guards.kernel() != HAS_MADVISE);
            assert_eq!([lo - PAGE - 1, lo - PAGE, lo - 1, lo].map(readable), [true, false, false, true], "{kind:?}");
            let counts = guards.counts();
            assert_eq!(counts.madvise + counts.mprotect, 1);
            // SAFETY: as above, and `kind` is its kind.
            assert!(unsafe { guards.remove(lo, kind) });
            assert!(readable(lo - 1));
            let counts = guards.counts();
            assert_eq!(counts.madvise + counts.mprotect, 0);
        }
    }

    #[test]
    fn over_the_budget_there_is_no_guard() {
        let guards = Guards::of(true, 9);
        let los: Vec<_> = (0..3).map(|_| pages() + PAGE).collect();
        // SAFETY: the pages are the test's. The first gives its share of the budget back, so the last gets it.
        unsafe {
            assert_eq!(guards.install(los[0]).unwrap(), Kind::Mprotect);
            assert_eq!(guards.install(los[1]).unwrap(), Kind::Mprotect);
            let error = guards.install(los[2]).unwrap_err();
            assert!(
                matches!(error, Shortage::NoGuard { taken: 4, max_map_count: 9, source: None }),
                "two mappings each: {error:?}"
            );
            assert_eq!(guards.counts().mprotect, 2);
            assert!(readable(los[2] - 1));
            assert!(guards.remove(los[0], Kind::Mprotect));
            assert_eq!(guards.install(los[2]).unwrap(), Kind::Mprotect);
        }
        assert_eq!(guards.counts().mprotect, 2);
    }

    #[test]
    fn what_the_kernel_refuses_is_no_guard() {
        for mprotect_only in [false, true] {
            let guards = Guards::of(mprotect_only, 64);
            // SAFETY: the pages are the test's. An address inside of one makes the kernel refuse.
            let error = unsafe { guards.install(pages() + PAGE + 8).unwrap_err() };
            assert!(matches!(error, Shortage::NoGuard { taken: 0, max_map_count: 64, source: Some(_) }), "{error:?}");
            let counts = guards.counts();
            assert_eq!(counts.madvise + counts.mprotect, 0);
        }
    }

    #[test]
    fn a_sealed_stack_faults_and_comes_back_empty() {
        for mprotect_only in [false, true] {
            let guards = Guards::of(mprotect_only, 64);
            let lo = pages();
            let stack = Stack { lo, hi: lo + 4 * PAGE };
            // SAFETY: the pages are the test's; they are touched only while they are not sealed.
            unsafe {
                (lo as *mut u64).write(42);
                let kind = guards.seal(stack).unwrap();
                assert_eq!([lo, stack.hi - 1].map(readable), [false, false]);
                assert!(guards.unseal(stack, kind));
                assert_eq!((lo as *const u64).read(), 0);
            }
            assert_eq!(guards.counts().mprotect, 0);
        }
    }

    #[test]
    fn no_way_left_to_seal_is_said_so() {
        let lo = pages();
        // SAFETY: the pages are the test's.
        assert!(unsafe { Guards::of(true, 3).seal(Stack { lo, hi: lo + 4 * PAGE }) }.is_err());
        assert!(readable(lo));
    }

    /// The kernel refuses what is not mapped, as it refuses to split where no mapping is left.
    #[test]
    fn what_cannot_be_undone_is_said_so_and_stays_counted() {
        for mprotect_only in [false, true] {
            let guards = Guards::of(mprotect_only, 64);
            let lo = pages() + PAGE;
            // SAFETY: the pages are the test's, and it uses them no more.
            unsafe {
                let kind = guards.install(lo).unwrap();
                sys::unmap(lo - PAGE, 4 * PAGE).unwrap();
                assert!(!guards.remove(lo, kind), "{kind:?}");
            }
            let counts = guards.counts();
            assert_eq!(counts.madvise + counts.mprotect, 1);
        }
    }
}
