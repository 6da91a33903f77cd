//! Functions with prologues of each kind, under names that a test finds in assembly and by `dlsym`.

use core::hint::black_box;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use morestack::{prologue, with_prologue};

/// A check in the frame: recurses so deep, with some 300 bytes of frame.
#[prologue]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn image_descend(depth: u64) -> u64 {
    let frame = black_box([depth; 32]);
    if depth == 0 { 1 } else { image_descend(depth - 1) + black_box(frame)[31] - depth + 1 }
}

/// A check in each turn of a loop.
///
/// # Safety
///
/// `stop` can be read until it is set.
#[prologue(loops)]
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn image_spin(stop: *const AtomicBool) -> u64 {
    let mut turns = 0;
    // SAFETY: the caller's promise.
    while !unsafe { &*stop }.load(Relaxed) {
        turns += 1;
    }
    turns
}

/// A check in a closure.
///
/// # Safety
///
/// `stop` can be read until it is set.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn image_closure(stop: *const AtomicBool) -> u64 {
    let mut turns = 0;
    // SAFETY: the caller's promise.
    let stop = unsafe { &*stop };
    let mut turn = with_prologue!(frame = 300, |by| {
        turns += by;
        !stop.load(Relaxed)
    });
    while turn(1) {}
    turns
}

/// What is too large for the room below the guard.
pub const LARGE: usize = 100_000;

/// Bytes on the stack.
#[derive(Clone, Copy)]
pub struct Page<const N: usize>([u8; N]);

impl<const N: usize> Page<N> {
    #[prologue(frame = 3 * LARGE)]
    fn sum(self, fill: u8) -> u64 {
        let Self(mut page) = self;
        if fill != 0 {
            page.fill(fill);
        }
        black_box(&mut page).iter().map(|&byte| u64::from(byte)).sum()
    }
}

/// Passes a large argument by value, and has a frame as large behind the check.
///
/// # Safety
///
/// `page` can be read.
#[prologue(frame = LARGE + 512)]
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn image_fill(page: *const Page<LARGE>, fill: u8) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { *page }.sum(fill)
}

/// A function for each class of frames that has a check. Unoptimised, the frame holds its array up to three times.
macro_rules! classes {
    ($($name:ident $bytes:literal)*) => {
        $(
            #[prologue(frame = $bytes)]
            #[unsafe(no_mangle)]
            #[inline(never)]
            pub fn $name(page: Page<{ $bytes / 4 }>, at: usize) -> u8 {
                let mut copy = page;
                black_box(&mut copy).0[at] += 1;
                black_box(&copy).0.iter().fold(0, |a, b| a ^ b)
            }
        )*

        /// Calls them, so that they are there.
        #[prologue(frame = 2 * LARGE)]
        #[unsafe(no_mangle)]
        pub extern "C-unwind" fn image_classes(at: usize) -> u64 {
            0 $(+ u64::from($name(black_box(Page([0; $bytes / 4])), at)))*
        }
    };
}

classes! {
    image_class_small 128
    image_class_big 4096
    image_class_large 100000
}

/// Calls nothing and has no frame.
#[prologue(frame = 0)]
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C-unwind" fn image_class_leaf(x: u64) -> u64 {
    x + 1
}

/// Nothing of the expansions is `unsafe` to the lint.
mod safe {
    #![forbid(unsafe_code)]

    use morestack::{prologue, with_prologue};

    #[prologue(frame = 5000, loops)]
    pub(super) fn safe(n: u64) -> u64 {
        let step = with_prologue!(frame = 64, |x: u64| x + 1);
        let mut x = 0;
        for _ in 0..n {
            x = step(x);
        }
        x
    }
}

/// Calls what is in a module without `unsafe`.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn image_safe(n: u64) -> u64 {
    safe::safe(n)
}
