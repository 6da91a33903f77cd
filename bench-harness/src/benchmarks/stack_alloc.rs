//! What it costs to get a stack and to give it back.
//!
//! A group of stacks is taken, a word at the top of each is written and read as a first frame would, and all are given
//! back. What it costs without that word is a contender of its own: it has no cache misses. After the warm-up the cache
//! holds the group. So does malloc's heap, which is told not to give its end back to the system: otherwise its number
//! would be that of page faults. mmap has nothing to keep: each time its page is mapped, cleared on the first touch, and
//! unmapped.

use std::hint::black_box;
use std::ptr;
use std::time::{Duration, Instant};

use morestack_stacks::{FIXED_STACK, Stack, StackCache, stackalloc, stackfree};

use super::Benchmark;
use crate::measure::{Contender, Unit};

pub(super) const BENCHMARK: Benchmark = Benchmark {
    name: "stack_alloc",
    about: "a stack of the smallest class, taken, touched and given back",
    operation: "stack",
    unit: Unit::Nanoseconds,
    contenders,
};

/// Stacks out at the same time: what a few handlers on one processor use, and less than a cache holds.
const GROUP: u64 = 16;

/// Free memory that malloc keeps at the end of its heap, in bytes: more than a group.
const KEEP: libc::c_int = 64 << 20;

/// Some milliseconds from a cache.
const STACKS: u64 = 1_000_000;

fn contenders() -> Vec<Contender> {
    // SAFETY: it sets a number, and no other thread sets any.
    assert_eq!(unsafe { libc::mallopt(libc::M_TRIM_THRESHOLD, KEEP) }, 1, "a setting that glibc has");
    vec![
        Contender::own("stackalloc, warm cache", STACKS, cached::<true>()),
        Contender::own("the same, not touched", STACKS, cached::<false>()),
        Contender::own("stackalloc, no cache", STACKS / 10, |stacks| {
            groups::<true, _, _>(
                stacks,
                &mut (),
                |()| stackalloc(None, FIXED_STACK).expect("a stack"),
                |stack| stack.hi,
                // SAFETY: as above.
                |(), stack: Stack| unsafe { stackfree(None, stack) },
            )
        }),
        Contender::peer("malloc and free (Box)", STACKS, |stacks| {
            groups::<true, _, _>(
                stacks,
                &mut (),
                |()| Box::<[u64]>::new_uninit_slice(FIXED_STACK / size_of::<u64>()),
                |stack| stack.as_ptr_range().end as usize,
                |(), stack| drop(black_box(stack)),
            )
        }),
        Contender::peer("mmap and munmap", STACKS / 50, |stacks| {
            groups::<true, _, _>(
                stacks,
                &mut (),
                |()| map(),
                |stack| stack.addr() + FIXED_STACK,
                // SAFETY: the range was mapped by `map` and nobody uses it.
                |(), stack| assert_eq!(unsafe { libc::munmap(stack, FIXED_STACK) }, 0),
            )
        }),
    ]
}

/// From a cache that the warm-up fills.
fn cached<const TOUCH: bool>() -> impl FnMut(u64) -> Duration {
    let mut cache = StackCache::new();
    move |stacks| {
        groups::<TOUCH, _, _>(
            stacks,
            &mut cache,
            |cache| stackalloc(Some(cache), FIXED_STACK).expect("a stack"),
            |stack| stack.hi,
            // SAFETY: the stack came from `stackalloc`, and nothing runs on it.
            |cache, stack: Stack| unsafe { stackfree(Some(cache), stack) },
        )
    }
}

/// Takes, touches if it is to, and gives back so many stacks, a group at a time.
fn groups<const TOUCH: bool, C, S>(
    stacks: u64,
    context: &mut C,
    mut take: impl FnMut(&mut C) -> S,
    top: impl Fn(&S) -> usize,
    mut give: impl FnMut(&mut C, S),
) -> Duration {
    let mut out = Vec::with_capacity(GROUP as usize);
    let word = |stack: &S| black_box(ptr::with_exposed_provenance_mut::<u64>(top(stack)).wrapping_sub(1));
    let (mut taken, mut sum) = (0, 0);
    let started = Instant::now();
    while taken < stacks {
        for _ in 0..GROUP.min(stacks - taken) {
            let stack = take(context);
            if TOUCH {
                // SAFETY: the highest word of a stack that is ours alone.
                unsafe { word(&stack).write_volatile(taken) };
            }
            out.push(stack);
            taken += 1;
        }
        for stack in black_box(&mut out).drain(..) {
            if TOUCH {
                // SAFETY: written above, and not given back yet.
                sum += unsafe { word(&stack).read_volatile() };
            }
            give(context, stack);
        }
    }
    let time = started.elapsed();
    assert_eq!(sum, if TOUCH { stacks * (stacks - 1) / 2 } else { 0 });
    time
}

/// A mapping of the size of a stack.
fn map() -> *mut libc::c_void {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new private mapping at an address of the kernel's choice touches nothing that exists.
    let address = unsafe { libc::mmap(ptr::null_mut(), FIXED_STACK, protection, flags, -1, 0) };
    assert_ne!(address, libc::MAP_FAILED, "an anonymous mapping");
    address
}
