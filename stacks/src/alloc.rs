//! `stackalloc` and `stackfree` (S8, S19): which of the crate's parts a stack comes from and goes to.
//!
//! ```text
//!   size                    alloc                                   free
//!   <  FIXED_STACK << 4     cache, else pool                        cache, else pool
//!   >= FIXED_STACK << 4     large lists, else arena                 large lists, else arena and OS
//!   `fromsystem`            mmap                                    munmap
//!   `nocache`               as without a cache
//!   efence                  as above                                quarantine, then as above, past the cache
//! ```
//!
//! # On the system stack only
//!
//! Both are called where the running stack cannot be the one that is given away: on g0, or on a thread that runs no green
//! threads. There no prologue check fires in here, so nothing grows and nothing parks while a lock is held. It is
//! asserted in every build: a call from a green thread's stack is wrong even where it happens to work.
//!
//! # When there is nothing left
//!
//! An empty arena is not yet an error, nor is a stack that cannot have its guard. What the caller's cache, the pools, the
//! large lists and the quarantine keep for later is given back, addresses and guards, and the arena asked again. Only then
//! the caller hears [`StackError`]. The caches of others stay: only their owners may touch them.

use crate::arena::os;
use crate::sys::{self, Access, Advice, PAGE};
use crate::{FIXED_STACK, Moved, NUM_STACK_ORDERS, Shortage, Stack, StackCache, StackError};
use crate::{debug, efence, large, pool, side, stats};

/// Bytes below its stack pointer that a function may use without moving it, by the x86-64 ABI.
const RED_ZONE: usize = 128;

/// Allocates a stack of `size` bytes: a power of two, at least [`FIXED_STACK`]. Its bounds are exactly that size; below
/// them is a page that faults. What is in it is unspecified.
///
/// A hit in `cache` takes no lock and makes no system call.
///
/// # Errors
///
/// The address space for stacks is used up, the kernel refuses memory, or the page below the stack cannot be made to
/// fault ([`Shortage::NoGuard`]). Nothing has changed then.
///
/// # Panics
///
/// On a green thread's stack (S8), and on a size that is not a power of two or too small.
///
/// ```
/// use morestack_stacks::{FIXED_STACK, guard_of, stackalloc, stackfree};
///
/// let stack = stackalloc(None, 2 * FIXED_STACK)?;
/// assert_eq!(stack.hi - stack.lo, 2 * FIXED_STACK);
/// assert_eq!(guard_of(stack).end, stack.lo);
/// // SAFETY: nothing runs on it.
/// unsafe { stackfree(None, stack) };
/// # Ok::<(), morestack_stacks::StackError>(())
/// ```
#[inline]
pub fn stackalloc(cache: Option<&mut StackCache>, size: usize) -> Result<Stack, StackError> {
    check("stackalloc", size);
    let Some(cache) = cache else { return alloc_slow(None, size) };
    let order = order_of(size);
    if order < NUM_STACK_ORDERS
        && !debug::active()
        && let Some(stack) = cache.pop(order)
    {
        return Ok(stack);
    }
    alloc_slow(Some(cache), size)
}

/// Frees a stack.
///
/// # Safety
///
/// The stack came from [`stackalloc`] or [`copystack`](crate::copystack()) with these very bounds and was not freed
/// since. Nothing runs on it, no context that was saved on it will be resumed, and nothing refers to it.
///
/// # Panics
///
/// On a green thread's stack (S8), and on bounds that cannot be a stack's.
#[inline]
pub unsafe fn stackfree(cache: Option<&mut StackCache>, stack: Stack) {
    let size = stack.hi.wrapping_sub(stack.lo);
    check("stackfree", size);
    // SAFETY: the caller's.
    unsafe { retire(cache, stack, Stack::NONE, Moved { goid: 0, pc: 0 }) }
}

/// The next size class that holds `bytes`: a power of two, at least [`FIXED_STACK`].
///
/// # Panics
///
/// If that does not fit an address.
///
/// ```
/// use morestack_stacks::{FIXED_STACK, round_stack_size};
///
/// assert_eq!(round_stack_size(0), FIXED_STACK);
/// assert_eq!(round_stack_size(FIXED_STACK + 1), 2 * FIXED_STACK);
/// ```
pub fn round_stack_size(bytes: usize) -> usize {
    bytes.max(FIXED_STACK).checked_next_power_of_two().expect("a stack fits the address space")
}

/// A sweep in steps: gives memory back that lay free since the sweep before, of pooled stacks, and of large ones, whose
/// addresses go to the arena. sysmon does one now and then. Per-P caches are their owners': [`StackCache::clear`] an idle
/// P's before. What the kernel refused to give back is tried again.
///
/// ```
/// let mut sweep = morestack_stacks::Sweep::default();
/// let mut given_back = 0;
/// while let Some(bytes) = sweep.step() {
///     given_back += bytes;
/// }
/// ```
#[derive(Debug, Default)]
pub struct Sweep {
    order: usize,
    span: u32,
}

impl Sweep {
    /// Sweeps one span of the pool, or all large stacks: some microseconds, or what it takes to give those back. Returns the
    /// bytes of address space concerned; none when there is nothing left to do.
    pub fn step(&mut self) -> Option<usize> {
        if self.order > NUM_STACK_ORDERS {
            return None;
        }
        if self.order == NUM_STACK_ORDERS {
            self.order += 1;
            efence::release_stuck();
            return Some(side::sweep() + large::sweep());
        }
        let swept = pool::pool(self.order).sweep_span(self.span);
        match swept {
            Some(_) => self.span += 1,
            None => {
                pool::pool(self.order).remove_stuck();
                *self = Sweep { order: self.order + 1, span: 0 };
            }
        }
        Some(swept.unwrap_or(0))
    }
}

/// A whole [`Sweep`]. Returns the bytes of address space concerned.
pub fn sweep() -> usize {
    let mut sweep = Sweep::default();
    std::iter::from_fn(|| sweep.step()).sum()
}

/// Gives the pages of a stack back to the system that lie below `sp`, and below what a function there may use without
/// moving it. They read as zeroes when they are next touched.
///
/// # Safety
///
/// The stack came from this crate, the caller alone may touch it, and `sp` is the stack pointer of what is suspended on it.
///
/// # Panics
///
/// If `sp` is not in the stack.
pub unsafe fn give_back(stack: Stack, sp: usize) {
    assert!(stack.lo <= sp && sp <= stack.hi, "give_back: sp {sp:#x} is not in [{:#x}, {:#x})", stack.lo, stack.hi);
    let unused = sp.saturating_sub(RED_ZONE) / PAGE * PAGE;
    if unused > stack.lo {
        // A refusal (locked memory) leaves things as they are.
        // SAFETY: the caller owns the stack, and nothing is below the red zone.
        let _ = unsafe { sys::advise(stack.lo, unused - stack.lo, Advice::DontNeed) };
    }
}

/// Frees a stack that was moved to `new`, or to nowhere.
///
/// # Safety
///
/// As for [`stackfree`].
#[inline]
pub(crate) unsafe fn retire(cache: Option<&mut StackCache>, stack: Stack, new: Stack, why: Moved) {
    let order = order_of(stack.size());
    if order < NUM_STACK_ORDERS
        && !debug::active()
        && let Some(cache) = cache
    {
        return keep(cache, order, stack);
    }
    // SAFETY: the caller's.
    unsafe { retire_slow(cache, stack, new, why) }
}

/// # Safety
///
/// As for [`stackfree`].
#[cold]
unsafe fn retire_slow(cache: Option<&mut StackCache>, stack: Stack, new: Stack, why: Moved) {
    let switches = debug::switches();
    debug::trace(2, format_args!("stackfree [{:#x}, {:#x})", stack.lo, stack.hi));
    if switches.efence {
        // SAFETY: the caller's.
        return unsafe { efence::retire(stack, new, why) };
    }
    let order = order_of(stack.size());
    match cache {
        Some(cache) if order < NUM_STACK_ORDERS && !switches.no_cache && !switches.from_system => {
            keep(cache, order, stack);
        }
        _ if order >= NUM_STACK_ORDERS && new.size() > stack.size() && !switches.from_system => large::outgrown(stack),
        // SAFETY: the caller's.
        _ => unsafe { release(stack) },
    }
}

/// Leaves a stack to the cache.
#[inline(always)]
fn keep(cache: &mut StackCache, order: usize, stack: Stack) {
    if !cache.push(order, stack.lo) {
        cache.release_half(order);
        cache.push(order, stack.lo);
    }
}

/// Frees a stack past the caches.
///
/// # Safety
///
/// As for [`stackfree`]; and it is not sealed.
pub(crate) unsafe fn release(stack: Stack) {
    let order = order_of(stack.size());
    if debug::switches().from_system {
        // SAFETY: the caller's, and every stack is a mapping of its own.
        unsafe { unmap_stack(stack) }
    } else if order < NUM_STACK_ORDERS {
        pool::pool(order).put(&[stack.lo]);
    } else {
        large::free(stack);
    }
}

/// The order of a size class; [`NUM_STACK_ORDERS`] and more are large.
#[inline(always)]
fn order_of(size: usize) -> usize {
    (size.trailing_zeros() - FIXED_STACK.trailing_zeros()) as usize
}

#[inline(always)]
fn check(what: &'static str, size: usize) {
    if !(size.is_power_of_two() && size >= FIXED_STACK) {
        bad_size(what, size);
    }
    if !morestack_asm::on_system_stack() {
        not_on_system_stack(what);
    }
}

#[cold]
fn bad_size(what: &str, size: usize) -> ! {
    panic!("{what}: {size} bytes: a stack's size is a power of two, at least {FIXED_STACK}");
}

#[cold]
pub(crate) fn not_on_system_stack(what: &str) -> ! {
    panic!("{what}: not on the system stack");
}

#[cold]
fn alloc_slow(mut cache: Option<&mut StackCache>, size: usize) -> Result<Stack, StackError> {
    let stack = obtain(cache.as_deref_mut(), size).or_else(|_| {
        if let Some(cache) = &mut cache {
            cache.clear();
        }
        large::trim();
        (0..NUM_STACK_ORDERS).for_each(|order| pool::pool(order).trim());
        efence::release_stuck();
        loop {
            match obtain(cache.as_deref_mut(), size) {
                Err(_) if efence::release_oldest() => {}
                answer => break answer.map_err(|shortage| StackError::new(size, shortage)),
            }
        }
    })?;
    debug::trace(2, format_args!("stackalloc [{:#x}, {:#x})", stack.lo, stack.hi));
    Ok(stack)
}

fn obtain(cache: Option<&mut StackCache>, size: usize) -> Result<Stack, Shortage> {
    let switches = debug::switches();
    let order = order_of(size);
    if switches.from_system {
        return map_stack(size);
    }
    if order >= NUM_STACK_ORDERS {
        return large::alloc(size);
    }
    if let Some(cache) = cache
        && !switches.no_cache
    {
        loop {
            // At least one after a refill; some before it while a debug switch is on.
            if let Some(stack) = cache.pop(order) {
                return Ok(stack);
            }
            cache.refill(order)?;
        }
    }
    let mut lo = [0];
    pool::pool(order).take(&mut lo)?;
    Ok(Stack { lo: lo[0], hi: lo[0] + size })
}

/// A stack that is a mapping of its own, its guard part of it. It ends at a multiple of 64 KiB, as all do.
fn map_stack(size: usize) -> Result<Stack, Shortage> {
    let whole = size.checked_add(PAGE).ok_or(Shortage::OutOfAddressSpace { size, reserved: usize::MAX, in_use: 0 })?;
    let first = sys::map(whole + FIXED_STACK, Access::None).map_err(os("mmap", whole))?;
    let hi = (first + whole).next_multiple_of(FIXED_STACK);
    let stack = Stack { lo: hi - size, hi };
    let (guard, end) = (stack.lo - PAGE, first + whole + FIXED_STACK);
    // SAFETY: the mapping was made just now and nobody else has seen it.
    unsafe {
        // What cannot be undone is address space that is lost.
        for (from, to) in [(first, guard), (hi, end)] {
            let _ = if from < to { sys::unmap(from, to - from) } else { Ok(()) };
        }
        if let Err(error) = sys::protect(stack.lo, size, Access::ReadWrite) {
            let _ = sys::unmap(guard, whole);
            return Err(os("mprotect", size)(error));
        }
    }
    stats::count_mapped(size, whole);
    Ok(stack)
}

/// # Safety
///
/// `stack` came from [`map_stack`] and is used no more.
unsafe fn unmap_stack(stack: Stack) {
    let whole = stack.size() + PAGE;
    // SAFETY: the caller's. A mapping that cannot be undone (the kernel would have to split it and may not) is lost.
    let _ = unsafe { sys::unmap(stack.lo - PAGE, whole) };
    stats::count_unmapped(stack.size(), whole);
}
