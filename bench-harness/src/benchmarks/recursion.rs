//! The recursion of the benchmarks of growing stacks.
//!
//! ```text
//!   frame 0 ◄─ above ─ frame 1 ◄─ above ─ frame 2 ◄─ ...     about 100 bytes each: WORDS words of its own, the
//!      ▲                                     │               return address, saved registers
//!      └───────────────── top ───────────────┘
//! ```
//!
//! Every frame writes to the one above through a reference, which has to follow when the stack moves. The sum that comes
//! back counts those writes; the distance that comes back is measured by the deepest frame. So neither the frames nor
//! their memory can be optimised away, and a frame that is smaller than it should be is noticed.

use std::hint::black_box;

/// Words of a frame's own.
const WORDS: usize = 6;

type Words = [u64; WORDS];

/// What a frame may occupy, in bytes, for numbers per frame that mean the same everywhere. Without optimisation it is
/// more, and the numbers mean nothing.
const FRAME: std::ops::RangeInclusive<u64> = 90..=120;

/// What comes back from the deepest frame.
#[derive(Clone, Copy)]
pub(super) struct Deep {
    /// Bytes between the first frame and the deepest.
    pub(super) bytes: u64,
    /// Writes that were found, of each frame but the deepest.
    found: u64,
}

impl Deep {
    /// Checks that so many frames were there, and what each occupied.
    pub(super) fn check(self, frames: u64) {
        assert_eq!(self.found, frames - 1, "writes to the frame above");
        let frame = self.bytes / (frames - 1);
        assert!(FRAME.contains(&frame) || cfg!(debug_assertions), "a frame of {frame} bytes");
    }
}

/// Bytes that a frame occupies.
pub(super) fn frame() -> u64 {
    const TRIED: u64 = 100;
    let [few, more] = [TRIED, 2 * TRIED].map(|frames| recurse(frames, || ()).bytes);
    (more - few) / TRIED
}

/// Recurses `frames` deep, and does `bottom` there. It has to be a function or a closure that captures nothing, which
/// takes no room in the frames.
pub(super) fn recurse(frames: u64, bottom: impl Fn() + Copy) -> Deep {
    let mut above = [0; WORDS];
    let top = 0;
    down(black_box(frames), &mut above, black_box(&top), bottom)
}

#[morestack::prologue]
#[inline(never)]
fn down<F: Fn() + Copy>(frames: u64, above: &mut Words, top: &u64, bottom: F) -> Deep {
    let mut mine = [0; WORDS];
    black_box(&mut mine);
    above[WORDS - 1] += 1;
    if frames == 1 {
        bottom();
        return Deep { bytes: (&raw const *top).addr().abs_diff((&raw const mine).addr()) as u64, found: 0 };
    }
    let deep = down(frames - 1, &mut mine, top, bottom);
    Deep { found: deep.found + mine[WORDS - 1], ..deep }
}
