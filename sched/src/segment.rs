//! Segments: a part of a green thread, copying by contract, that runs where nothing moves.
//!
//! One that is copying because its frames may move needs none: what it lends out is on its side stack ([`crate::side`]).
//!
//! Where others hold pointers into a green thread's frames, its stack must stay: while a [`scope`](crate::scope()) lends locals
//! to other green threads, while [`Runtime::run`](crate::Runtime::run) does so, and while [`block_on`](crate::block_on) drives a
//! pinned future. It would be enough to forbid every move, but then also growth, with little room left as often as not. So that
//! part of the green thread runs on a stack of its own, a reserved one of the size that `spawn` gives: the *segment*.
//!
//! ```text
//!      copying stack              segment
//!   hi ┌────────────────┐     hi ┌────────────────┐
//!      │ ...            │        │ call: catches  │
//!      │ run            │        │ f              │
//!      │ on_stack ──────┼──────► │ ...            │ ◄─ rsp
//!   lo └────────────────┘     lo └────────────────┘ ◄─ guard
//!        at rest                   head.stack
//! ```
//!
//! It is still the same green thread, with its id, token, task-locals and joiner. Only its head names another stack.
//!
//! # Why nothing moves
//!
//! Growth, shrinking and freezing touch `head.stack` and nothing else, on behalf of the owner, who asks [`G::moves`] first.
//!
//! - *The segment* does not move, since that says no while `on_segment` is set: at a prologue that finds no room a
//!   [`StackOverflow`](crate::StackOverflow) is raised, as on any reserved stack.
//! - *The copying stack* does not move, since no head names it: nobody reaches it but by pointers into its frames, which are
//!   what this is for.
//!
//! `on_segment` and `head.stack` change together, by the running green thread itself, which is the owner: whoever becomes the
//! owner later sees both or neither. All frames on the copying stack were there before, so all that `f` can lend out is on
//! one of the two.
//!
//! # Guard
//!
//! Between the change of the guard and that of `rsp`, on the way in and out, there is no check: `run_on` is no generic
//! function, so no other crate's code is in it. A request for preemption that is written over is asked for again.
//!
//! # Unwinding
//!
//! A panic is caught on the segment, and resumed on the copying stack once that is the green thread's again. Backtraces show
//! the frames of both. A segment of a green thread that is abandoned is leaked with its stack.
//!
//! On a segment already, on a reserved stack and outside of green threads nothing moves anyway: `f` is called in place.

use std::any::Any;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use morestack_asm::{Stack, on_stack, set_stackguard, systemstack};

use crate::g::{G, StackKind};
use crate::{m, newstack, stack};

/// Calls `f` with no frame of the calling thread moving until it has returned.
///
/// # Panics
///
/// If `f` does, with its payload. Unwinds with an `io::Error` if there is no memory for a segment.
pub(crate) fn unmoved<R>(f: impl FnOnce() -> R) -> R {
    match m::current_g() {
        Some(g) if g.moves() && g.kind == StackKind::Contract => run(g, f),
        _ => f(),
    }
}

struct Call<F, R> {
    f: Option<F>,
    result: Option<Result<R, Box<dyn Any + Send>>>,
}

#[inline(never)]
fn run<F: FnOnce() -> R, R>(g: &G, f: F) -> R {
    extern "C" fn call<F: FnOnce() -> R, R>(call: *mut u8) {
        // SAFETY: the local below, on a stack that does not move while it waits for this function.
        let call = unsafe { &mut *call.cast::<Call<F, R>>() };
        newstack::rearm();
        call.result = call.f.take().map(|f| catch_unwind(AssertUnwindSafe(f)));
    }
    fn entry<F: FnOnce() -> R, R>(_: &Call<F, R>) -> extern "C" fn(*mut u8) {
        call::<F, R>
    }
    let mut c = Call { f: Some(f), result: None };
    run_on(g, alloc(g), entry(&c), (&raw mut c).cast());
    match c.result {
        Some(Ok(result)) => result,
        Some(Err(payload)) => resume_unwind(payload),
        None => unreachable!("it was called"),
    }
}

/// Calls `f(arg)` on `segment`, and frees that. `g` is the calling green thread.
#[inline(never)]
fn run_on(g: &G, segment: Stack, f: extern "C" fn(*mut u8), arg: *mut u8) {
    let change = |to: Stack, on_segment: bool| {
        // SAFETY: the running green thread's own head, and the guard of the stack that comes next: see "Guard".
        unsafe {
            let from = (*g.head()).stack;
            (*g.head()).set_stack(to);
            g.on_segment.set(on_segment);
            let guard = stack::guard(g);
            (*g.head()).stackguard0 = guard;
            set_stackguard(guard);
            from
        }
    };
    let copying = change(segment, true);
    // SAFETY: allocated for this; nothing moves the stack below, see "Why nothing moves". `f` catches what unwinds.
    unsafe { on_stack(arg, f, segment.hi) };
    change(copying, false);
    let m = m::enter_waiting();
    systemstack(|| stack::free_segment(&m, segment));
    drop(m);
    newstack::rearm();
}

fn alloc(g: &G) -> Stack {
    let allocated = {
        let m = m::enter_waiting();
        systemstack(|| stack::alloc_segment(&m))
    };
    allocated.unwrap_or_else(|error| {
        let error = io::Error::from(error);
        systemstack(|| {
            // Nobody may be reading.
            let _ = writeln!(io::stderr(), "morestack: green thread '{}' (id {}): {error}", g.label(), g.id);
        });
        resume_unwind(Box::new(error))
    })
}
