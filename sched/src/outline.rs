//! The frame of a `#[prologue(frame = ..)]`: what the shell calls behind its check.
//!
//! ```text
//!   caller ──► shell: checks for BYTES ──► Outline::run: has the frame, or the closure it calls has
//!              few words of frame          never inlined into the shell
//! ```
//!
//! The shell's own frame comes before the check: it lives in the room below the guard, as that of any unmarked function. Two
//! things could make it large. The body's locals, if `run` were inlined. And what the closure captures by value, since the
//! shell makes the closure: so that is limited here. What it captures by reference stays where the caller put it.

use std::marker::PhantomData;

/// Bytes that a closure may capture by value. The room below the guard is 32 KiB, and the deepest of std takes 20.
const CAPTURED_MAX: usize = 4 << 10;

/// Calls a body that returns `R`, out of line.
pub struct Outline<R>(PhantomData<R>);

impl<R> Outline<R> {
    /// To call a body that returns what is not known yet.
    #[expect(clippy::new_without_default, reason = "for the code that the macros make")]
    #[inline(always)]
    pub const fn new() -> Self {
        Outline(PhantomData)
    }

    /// Stands in a `return` that is never reached, for the compiler to see what `R` is.
    pub fn returned(&self) -> R {
        unreachable!("a return that is not taken")
    }

    /// Calls the body.
    ///
    /// ```compile_fail,E0080
    /// struct Large([u8; 5000]);
    ///
    /// #[morestack::prologue(frame = 20_000)]
    /// fn length(large: Large) -> usize {
    ///     large.0.len()
    /// }
    ///
    /// length(Large([0; 5000]));
    /// ```
    #[inline(never)]
    pub fn run<F: FnOnce() -> R>(self, body: F) -> R {
        const {
            assert!(
                size_of::<F>() <= CAPTURED_MAX,
                "#[prologue(frame = ..)]: arguments that are not Copy, and what the body moves out of self or captures, pass \
                 through the frame of the function that checks: at most 4 KiB, the rest by reference or boxed"
            )
        };
        body()
    }
}
