//! Which frames of a stack may move.
//!
//! A stack may be moved if nothing but its own frames points into it. That is so of the frames of functions whose escaping locals
//! are on a side stack, and it is read off the code itself:
//!
//! | function | its frame |
//! |---|---|
//! | begins with the check of a split stack, in an [image](crate::image) with side stacks | moves |
//! | the same, but marked as *fixed*: its locals are too large for a side stack | stays |
//! | of the scheduler, marked as its *own*: it has a side stack, and no check | moves |
//! | `morestack`, `__morestack`: nothing but saved registers | moves |
//! | any other: precompiled code of std, C, what was excluded | stays |
//!
//! # The walk
//!
//! From the saved context outwards by unwind tables, over one stack: up to the first frame of the green thread, or to the call that a
//! [segment](morestack_asm::Link) was begun with. It ends early at a frame that stays.
//!
//! What a table says of a return address is kept as a few numbers, since compiled code of a movable frame is always found in
//! one of two ways: the caller's stack pointer is so far from `rsp` or from `rbp`, and the caller's `rbp` is so far from that.
//! Anything else is a frame that stays.
//!
//! # Why it is right to read it off the code
//!
//! The compiler gives every function of a unit the side stack, or none ([the wrapper] passes it as one option), and the check only
//! together with it. So code that begins with the check in an image that says it has side stacks was compiled with one, unless it
//! is marked. C code compiled for split stacks has the same check: in an image of ours, linked statically, it would be taken for
//! movable. `cargo morestack` links no such code, and its documentation says so.
//!
//! [the wrapper]: https://docs.rs/cargo-morestack

use morestack_asm::{GHead, is_morestack, is_segment_call, is_split, is_start};

use super::unwind::{Base, Cfa, Object, Rule, Saved, Unwinder};
use crate::Stack;
use crate::image::{self, Class};

/// Addresses that are kept, a power of two. A recursion has a few, a deep stack of a service some hundred.
const KEPT: usize = 4096;

/// How the caller of a frame is found.
#[derive(Clone, Copy)]
struct Shape {
    /// The return address that this is of; 0 for none.
    pc: usize,
    /// The CFA: so far from `rsp`, or from `rbp`.
    cfa: i32,
    /// Where the caller's `rbp` is, from the CFA; 0: it is in `rbp` still.
    bp: i32,
    by_bp: bool,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Moves,
    Stays,
    /// The first frame of a green thread, or the call that a segment was begun with: the stack ends here.
    First,
    /// There is no telling where its caller is.
    Unknown,
}

/// What a thread knows of return addresses.
pub(super) struct Shapes {
    kept: Vec<Shape>,
    images: usize,
}

impl Shapes {
    pub(super) fn new() -> Shapes {
        Shapes { kept: Vec::new(), images: 0 }
    }

    pub(super) fn clear(&mut self) {
        self.kept.clear();
    }

    fn slot(&mut self, pc: usize) -> &mut Shape {
        if self.kept.is_empty() {
            let none = Shape { pc: 0, cfa: 0, bp: 0, by_bp: false, kind: Kind::Unknown };
            self.kept.resize(KEPT, none);
        }
        // Fibonacci hashing: the top bits of the product depend on all bits of the address.
        &mut self.kept[pc.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (usize::BITS - KEPT.ilog2())]
    }
}

/// What the walk found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frames {
    /// All frames of the stack may move. It may be a segment: the stacks below it stay.
    Movable,
    /// One must not. It ends at this address; it is there as long as the stack pointer is below.
    Fixed(usize),
}

/// Whether the stack of `g` may move.
///
/// # Safety
///
/// `g` is a green thread that is suspended, and the caller alone may touch its stack. Runs on a system stack.
pub unsafe fn frames(g: *const GHead) -> Frames {
    // SAFETY: the caller's.
    let (stack, sched) = unsafe { ((*g).stack, (*g).sched) };
    Unwinder::with(|unwinder| {
        let images = image::changes();
        if unwinder.shapes.images != images {
            unwinder.shapes.images = images;
            unwinder.shapes.clear();
        }
        // SAFETY: the stack is the caller's, and readable.
        unsafe { walk(unwinder, stack, sched.pc, sched.sp, sched.bp) }
    })
}

/// # Safety
///
/// The words of `stack` above `sp` may be read.
unsafe fn walk(unwinder: &mut Unwinder, stack: Stack, pc: usize, mut sp: usize, mut bp: usize) -> Frames {
    // The suspended function is not in a call; the others are asked for by the call instruction.
    let mut pc = pc + 1;
    let word = |addr: usize| {
        let inside = stack.lo <= addr && addr < stack.hi && addr.is_multiple_of(size_of::<usize>());
        // SAFETY: by the contract.
        inside.then(|| unsafe { *(addr as *const usize) })
    };
    loop {
        let shape = shape(unwinder, pc);
        match shape.kind {
            Kind::First => return Frames::Movable,
            Kind::Unknown => return Frames::Fixed(stack.hi),
            Kind::Moves | Kind::Stays => {}
        }
        let cfa = if shape.by_bp { bp } else { sp }.wrapping_add_signed(shape.cfa as isize);
        // Each frame is further out than the one before, so there is an end.
        if cfa <= sp || cfa > stack.hi {
            return Frames::Fixed(stack.hi);
        }
        if shape.kind == Kind::Stays {
            return Frames::Fixed(cfa);
        }
        let saved = if shape.bp == 0 { Some(bp) } else { word(cfa.wrapping_add_signed(shape.bp as isize)) };
        let (Some(ret), Some(saved)) = (word(cfa - size_of::<usize>()), saved) else {
            return Frames::Fixed(stack.hi);
        };
        (pc, sp, bp) = (ret, cfa, saved);
    }
}

#[inline]
fn shape(unwinder: &mut Unwinder, pc: usize) -> Shape {
    let kept = *unwinder.shapes.slot(pc);
    if kept.pc == pc {
        return kept;
    }
    let made = make(unwinder, pc);
    *unwinder.shapes.slot(pc) = made;
    made
}

#[cold]
fn make(unwinder: &mut Unwinder, pc: usize) -> Shape {
    let unknown = Shape { pc, cfa: 0, bp: 0, by_bp: false, kind: Kind::Unknown };
    let Some((start, object)) = unwinder.function(pc - 1) else { return unknown };
    if is_start(start) || is_segment_call(start) {
        return Shape { kind: Kind::First, ..unknown };
    }
    let moves = is_morestack(start) || is_split(start) || moves(start, object);
    let Some(rule) = unwinder.rule_of(pc - 1) else { return unknown };
    let Some((by_bp, cfa, bp)) = plain(&rule) else { return unknown };
    Shape { pc, cfa, bp, by_bp, kind: if moves { Kind::Moves } else { Kind::Stays } }
}

/// Whether the function that begins there, in this object, has a frame that moves.
fn moves(start: usize, object: &Object) -> bool {
    match image::class(start, &object.code) {
        Class::Own => true,
        Class::Fixed | Class::Foreign => false,
        // SAFETY: the unwind table says that code begins there, which the loader has mapped.
        Class::Checked => unsafe { begins_with_check(start as *const u8) },
    }
}

/// Whether this code begins with the check of a split stack.
///
/// # Safety
///
/// It is code, of a function: what is read beyond a short one is that of its neighbours or padding.
unsafe fn begins_with_check(code: *const u8) -> bool {
    /// `cmp rsp, fs:[0x70]` and `cmp r11, fs:[0x70]`.
    const SMALL: [u8; 9] = [0x64, 0x48, 0x3b, 0x24, 0x25, 0x70, 0, 0, 0];
    const LARGE: [u8; 9] = [0x64, 0x4c, 0x3b, 0x1c, 0x25, 0x70, 0, 0, 0];
    // SAFETY: by the contract.
    let bytes = |offset: usize| unsafe { code.add(offset).cast::<[u8; 9]>().read_unaligned() };
    let first = bytes(0);
    match first {
        SMALL => true,
        // lea r11, [rsp + disp8 or disp32]
        [0x4c, 0x8d, 0x5c, 0x24, ..] => bytes(5) == LARGE,
        [0x4c, 0x8d, 0x9c, 0x24, ..] => bytes(8) == LARGE,
        _ => false,
    }
}

/// The CFA by `rbp` or not, its distance, and the place of the caller's `rbp`; none if it is found in another way.
fn plain(rule: &Rule) -> Option<(bool, i32, i32)> {
    let (by_bp, cfa) = match rule.cfa {
        Cfa::Register(Base::Sp, offset) => (false, offset),
        Cfa::Register(Base::Kept(Base::BP), offset) => (true, offset),
        _ => return None,
    };
    let bp = match rule.kept[Base::BP] {
        Saved::Same => 0,
        Saved::At(offset) if offset != 0 => offset,
        _ => return None,
    };
    let returns = rule.ret == Saved::At(-(size_of::<usize>() as isize));
    let (cfa, bp) = (i32::try_from(cfa).ok()?, i32::try_from(bp).ok()?);
    returns.then_some((by_bp, cfa, bp))
}
