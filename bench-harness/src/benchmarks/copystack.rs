//! What copystack costs for each KiB that is in use, beside the best memcpy of the machine.
//!
//! ```text
//!      A                    B            each move takes a stack, copies and relocates, and gives the old one back:
//!   ┌──────┐  ── move ──► ┌──────┐       the two lie in the cache in turns. Their pages are warm. What is in the
//!   │ used │              │ used │       caches is what fits of both.
//!   └──────┘  ◄── move ── └──────┘
//! ```
//!
//! The peers copy the same bytes between two stacks of the same class: same pages, same alignment. The used part begins
//! off a cache line, as it does at a prologue. Of its words none, or one in eight, point into the stack. The words are
//! checked afterwards.

use std::arch::asm;
use std::arch::is_x86_feature_detected;
use std::ptr;
use std::time::{Duration, Instant};

use morestack_asm::GHead;
use morestack_stacks::{Moved, STACK_GUARD, Stack, StackCache, copystack, round_stack_size, stackalloc, stackfree};

use super::Benchmark;
use crate::measure::{Contender, Unit};

pub(super) const BENCHMARK: Benchmark = Benchmark {
    name: "copystack",
    about: "the used part of a stack, moved and relocated",
    operation: "KiB",
    unit: Unit::Nanoseconds,
    contenders,
};

/// KiB in use, and the group's name.
const SIZES: [(usize, &str); 4] = [(16, "16 KiB"), (64, "64 KiB"), (256, "256 KiB"), (1024, "1 MiB")];

/// KiB of a run: some ten milliseconds.
const AMOUNT: u64 = 256 << 10;

/// Bytes that the used part is short of its size: it begins 24 bytes behind a cache line.
const OFF: usize = 24;

/// One word in so many is a pointer into the stack, in a stack that has any.
const SHARE: usize = 8;

const WORD: usize = size_of::<u64>();

/// Bytes that stores are aligned to: a vector of AVX-512, and a cache line.
const VECTOR: usize = 64;

fn contenders() -> Vec<Contender> {
    SIZES.into_iter().flat_map(|(kib, group)| group_of(kib).into_iter().map(move |c| c.in_group(group))).collect()
}

fn group_of(kib: usize) -> Vec<Contender> {
    let bytes = kib << 10;
    let mut contenders = vec![
        Contender::own("copystack, 1 word in 8 a pointer", AMOUNT, moves(bytes, Some(SHARE))),
        Contender::own("copystack, no pointers", AMOUNT, moves(bytes, None)),
        Contender::peer("memcpy (libc)", AMOUNT, copies(bytes, memcpy)),
        Contender::peer("rep movsb", AMOUNT, copies(bytes, rep_movsb)),
    ];
    if is_x86_feature_detected!("avx512f") {
        contenders.push(Contender::peer("loop of AVX-512", AMOUNT, copies(bytes, avx512)));
    }
    if is_x86_feature_detected!("avx2") {
        contenders.push(Contender::peer("loop of AVX2", AMOUNT, copies(bytes, avx2)));
    }
    contenders
}

/// Whether word `i` is a pointer, and where to: an offset from the high end.
fn pointer(i: usize, bytes: usize, share: Option<usize>) -> Option<usize> {
    let spread = i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 24;
    (spread.is_multiple_of(share?)).then(|| 1 + spread % (bytes - OFF))
}

/// Word `i` of what is used of a stack. What is no pointer is no address of user space.
fn word(i: usize, stack: Stack, bytes: usize, share: Option<usize>) -> u64 {
    match pointer(i, bytes, share) {
        Some(below) => (stack.hi - below) as u64,
        None => (i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1 << 63,
    }
}

/// The used part of a stack.
fn used(stack: Stack, bytes: usize) -> *mut u64 {
    ptr::with_exposed_provenance_mut(stack.hi - (bytes - OFF))
}

fn fill(stack: Stack, bytes: usize, share: Option<usize>) {
    for i in 0..(bytes - OFF) / WORD {
        // SAFETY: the stack is this benchmark's and holds so many words.
        unsafe { used(stack, bytes).add(i).write(word(i, stack, bytes, share)) };
    }
}

fn check(stack: Stack, bytes: usize, share: Option<usize>) {
    for i in 0..(bytes - OFF) / WORD {
        // SAFETY: as above.
        let found = unsafe { used(stack, bytes).add(i).read() };
        assert_eq!(found, word(i, stack, bytes, share), "word {i} of {bytes} bytes");
    }
}

/// The class that a green thread with so much in use has.
fn class(bytes: usize) -> usize {
    round_stack_size(bytes + STACK_GUARD)
}

/// Moves of a stack with so much in use.
fn moves(bytes: usize, share: Option<usize>) -> impl FnMut(u64) -> Duration {
    let mut cache = StackCache::new();
    let size = class(bytes);
    move |kib| {
        let mut g = GHead::new();
        g.stack = stackalloc(Some(&mut cache), size).expect("a stack");
        g.sched.sp = used(g.stack, bytes).addr();
        fill(g.stack, bytes, share);
        let moves = (kib << 10) / bytes as u64;
        let started = Instant::now();
        for _ in 0..moves {
            // SAFETY: the green thread is this benchmark's and never runs; all pointers into its stack are on it.
            unsafe { copystack(Some(&mut cache), &raw mut g, class(bytes), Moved { goid: 0, pc: 0 }) }
                .expect("a stack");
        }
        let time = started.elapsed();
        assert_eq!(g.sched.sp, used(g.stack, bytes).addr());
        check(g.stack, bytes, share);
        // SAFETY: nothing runs on it.
        unsafe { stackfree(Some(&mut cache), g.stack) };
        time
    }
}

/// A copy of bytes: from, to, how many. More than a kilobyte.
type Copy = unsafe fn(*const u8, *mut u8, usize);

/// Copies of as much between two stacks.
fn copies(bytes: usize, copy: Copy) -> impl FnMut(u64) -> Duration {
    let mut cache = StackCache::new();
    move |kib| {
        let mut stacks = [(); 2].map(|()| stackalloc(Some(&mut cache), class(bytes)).expect("a stack"));
        fill(stacks[0], bytes, None);
        let copies = (kib << 10) / bytes as u64;
        let started = Instant::now();
        for _ in 0..copies {
            let [from, to] = stacks.map(|stack| used(stack, bytes).cast::<u8>());
            // SAFETY: both stacks are this benchmark's and hold so many bytes.
            unsafe { copy(from, to, bytes - OFF) };
            stacks.reverse();
        }
        let time = started.elapsed();
        check(stacks[0], bytes, None);
        // SAFETY: nothing runs on them.
        stacks.into_iter().for_each(|stack| unsafe { stackfree(Some(&mut cache), stack) });
        time
    }
}

unsafe fn memcpy(from: *const u8, to: *mut u8, bytes: usize) {
    // SAFETY: the caller's.
    unsafe { libc::memcpy(to.cast(), from.cast(), bytes) };
}

unsafe fn rep_movsb(from: *const u8, to: *mut u8, bytes: usize) {
    // SAFETY: the caller's; the direction flag is clear.
    unsafe {
        asm!("rep movsb", inout("rcx") bytes => _, inout("rsi") from => _, inout("rdi") to => _,
            options(nostack, preserves_flags));
    }
}

/// Defines a copy by vectors: unaligned ones for both ends, and in between a loop whose stores are aligned. In assembly,
/// since the compiler would make a call of memcpy of it.
macro_rules! vectors {
    ($name:ident, $feature:literal, $bytes:literal, $register:literal, $load:literal, $store:literal) => {
        #[target_feature(enable = $feature)]
        unsafe fn $name(from: *const u8, to: *mut u8, bytes: usize) {
            let head = to.addr().wrapping_neg() % VECTOR;
            let middle = (bytes - head) / (4 * $bytes) * (4 * $bytes);
            let tail = bytes - head - middle;
            // SAFETY: the three parts make up the caller's ranges.
            unsafe {
                ptr::copy_nonoverlapping(from, to, head);
                asm!(
                    "2:",
                    concat!($load, " ", $register, "0, [{from} + {at}]"),
                    concat!($load, " ", $register, "1, [{from} + {at} + ", $bytes, "]"),
                    concat!($load, " ", $register, "2, [{from} + {at} + 2*", $bytes, "]"),
                    concat!($load, " ", $register, "3, [{from} + {at} + 3*", $bytes, "]"),
                    concat!($store, " [{to} + {at}], ", $register, "0"),
                    concat!($store, " [{to} + {at} + ", $bytes, "], ", $register, "1"),
                    concat!($store, " [{to} + {at} + 2*", $bytes, "], ", $register, "2"),
                    concat!($store, " [{to} + {at} + 3*", $bytes, "], ", $register, "3"),
                    "add {at}, 4 * {bytes}",
                    "jnz 2b",
                    from = in(reg) from.add(head + middle),
                    to = in(reg) to.add(head + middle),
                    at = inout(reg) middle.wrapping_neg() => _,
                    bytes = const $bytes,
                    out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
                    options(nostack),
                );
                ptr::copy_nonoverlapping(from.add(head + middle), to.add(head + middle), tail);
            }
        }
    };
}

vectors!(avx512, "avx512f", 64, "zmm", "vmovdqu64", "vmovdqa64");
vectors!(avx2, "avx2", 32, "ymm", "vmovdqu", "vmovdqa");
