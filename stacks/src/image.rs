//! Images: programs and shared libraries that were built by `cargo morestack`, and what they say of their functions.
//!
//! Each has a constructor that reports it here before its code runs, and a destructor that takes it back. What it reports is a
//! section, `__patchable_function_entries`, in which the compiler has put an address for each function that was *marked*: so many
//! bytes before the function. How many tells what it is marked as:
//!
//! | bytes | the function |
//! |---|---|
//! | [`OPEN`] | was written by the authors of the program, and may be preempted |
//! | [`FIXED`] | has locals too large for a side stack: its frame does not move |
//! | their sum | both |
//! | [`OWN`] | is of the scheduler |
//!
//! The question comes with a return address from within the function, since that is what `__morestack` has. The unwind table says
//! where the function begins.
//!
//! # Who may touch what
//!
//! The list is under a lock. Answers are kept per OS thread, and forgotten when the list changes: an image is taken back before its
//! code is unmapped, and no other code can be at its addresses before that.

use std::cell::RefCell;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Acquire, Release};

use parking_lot::RwLock;

use crate::framemap::function_start;

/// What a function may be marked as.
pub const OPEN: usize = 1;
/// See [`OPEN`].
pub const FIXED: usize = 2;
/// See [`OPEN`]. It leaves functions aligned as they are.
pub const OWN: usize = 16;

/// The addresses of an image's marks, in ascending order.
struct Image {
    section: *const usize,
    marks: Vec<usize>,
    has_side_stacks: bool,
}

impl Image {
    fn has(&self, start: usize, mark: usize) -> bool {
        self.marks.binary_search(&(start - mark)).is_ok()
    }
}

// SAFETY: the pointer is compared, not followed.
unsafe impl Send for Image {}
// SAFETY: as above.
unsafe impl Sync for Image {}

static IMAGES: RwLock<Vec<Image>> = RwLock::new(Vec::new());

/// Changes of [`IMAGES`].
static CHANGES: AtomicUsize = AtomicUsize::new(0);

/// Answers that a thread keeps, a power of two. A program is preempted at some dozens of places, mostly. Plucked from thin air.
const ANSWERS: usize = 256;

/// The image whose marks are the words from `start` to `end`.
///
/// # Safety
///
/// To be called by the constructor of an image, with its section.
#[unsafe(no_mangle)]
unsafe extern "C" fn morestack_register_image(start: *const usize, end: *const usize, has_side_stacks: bool) {
    if start.is_null() {
        return;
    }
    // SAFETY: by the contract: the section of an image that is loaded, relocated and not written to any more.
    let mut marks = unsafe { std::slice::from_raw_parts(start, end.offset_from_unsigned(start)) }.to_vec();
    marks.sort_unstable();
    IMAGES.write().push(Image { section: start, marks, has_side_stacks });
    CHANGES.fetch_add(1, Release);
}

/// Takes back what was registered.
#[unsafe(no_mangle)]
extern "C" fn morestack_unregister_image(start: *const usize) {
    IMAGES.write().retain(|image| image.section != start);
    CHANGES.fetch_add(1, Release);
}

/// What a thread remembers.
struct Answers {
    changes: usize,
    /// By a hash of the address; a collision overwrites.
    kept: Vec<Option<(usize, bool)>>,
}

/// Whether the function that returns to `ret` is marked: one that may be preempted.
///
/// Runs on a system stack.
pub fn is_marked(ret: usize) -> bool {
    thread_local! {
        static ANSWERS_KEPT: RefCell<Answers> = RefCell::new(Answers { changes: 0, kept: vec![None; ANSWERS] });
    }
    let ask = |answers: &RefCell<Answers>| {
        let mut answers = answers.borrow_mut();
        let changes = CHANGES.load(Acquire);
        if answers.changes != changes {
            answers.changes = changes;
            answers.kept.fill(None);
        }
        // Fibonacci hashing: the top bits of the product depend on all bits of the address.
        let slot = &mut answers.kept[ret.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (usize::BITS - ANSWERS.ilog2())];
        match *slot {
            Some((kept, answer)) if kept == ret => answer,
            _ => {
                let answer = look_up(ret);
                *slot = Some((ret, answer));
                answer
            }
        }
    };
    // A thread that is about to exit has no answers any more.
    ANSWERS_KEPT.try_with(ask).unwrap_or_else(|_| look_up(ret))
}

fn look_up(ret: usize) -> bool {
    let Some(start) = function_start(ret - 1) else { return false };
    IMAGES.read().iter().any(|image| image.has(start, OPEN) || image.has(start, OPEN + FIXED))
}

/// What an image says of the frames of a function.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// If it has the check it has a side stack.
    Checked,
    Fixed,
    /// The scheduler's.
    Own,
    /// Of an image that has not reported itself, or has no side stacks.
    Foreign,
}

/// Of the function that begins at `start`, in the object with this code.
pub(crate) fn class(start: usize, code: &std::ops::Range<usize>) -> Class {
    let images = IMAGES.read();
    match images.iter().find(|image| code.contains(&(image.section as usize))) {
        Some(image) if image.has_side_stacks => {
            if image.has(start, OWN) {
                Class::Own
            } else if image.has(start, FIXED) || image.has(start, OPEN + FIXED) {
                Class::Fixed
            } else {
                Class::Checked
            }
        }
        _ => Class::Foreign,
    }
}

/// How often images have come and gone.
pub(crate) fn changes() -> usize {
    CHANGES.load(Acquire)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[inline(never)]
    fn marked() -> usize {
        std::hint::black_box(1)
    }

    #[inline(never)]
    fn other() -> usize {
        std::hint::black_box(2)
    }

    #[test]
    fn a_function_is_marked_while_its_image_is_registered() {
        let inside = |function: fn() -> usize| {
            function();
            // As a return address: within the function, and not its first byte.
            function as usize + 2
        };
        let marks = [marked as fn() -> usize as usize - 1];
        assert!(!is_marked(inside(marked)));
        // SAFETY: words that stay where they are until they are taken back.
        unsafe { morestack_register_image(marks.as_ptr(), marks.as_ptr().add(1), false) };
        assert!(is_marked(inside(marked)));
        assert!(!is_marked(inside(other)));
        morestack_unregister_image(marks.as_ptr());
        assert!(!is_marked(inside(marked)), "an answer was kept");
    }
}
