//! Precise frames (S15): what copystack is told of the frames of generated code.
//!
//! copystack relocates every word that points into the old stack, because rustc says nothing of its frames. A code
//! generator knows which slots of its frames hold pointers. A [`FrameMap`] says so, and in the frames that it covers only
//! those slots are relocated: an integer that looks like an address of the stack stays what it is.
//!
//! # The layout that a map describes
//!
//! ```text
//!   higher      │ ...                      │  the caller's frame
//!               ├──────────────────────────┤  sp + frame_size + 8 (the CFA): the caller's sp
//!               │ return address           │  into the caller; copied unchanged
//!               ├──────────────────────────┤  sp + frame_size
//!               │ saved registers          │
//!               │ locals and spills        │  slots: bytes from sp, 0, 8, ... frame_size - 8
//!               │ arguments on the stack   │
//!               ├──────────────────────────┤  sp: just before the call that the function is in
//!   lower       │ return address, in pcs   │  pushed by that call; the callee's
//! ```
//!
//! - **Which map.** A function that is in a call is covered by the map whose `pcs` contain the last byte of the call
//!   instruction: return address - 1, as in unwind tables, so a call may be the last instruction of a range. For a single
//!   call site that is `ret - 1..ret`. A function that saved its own context is covered by the map that contains the
//!   saved pc. Where the frame has another size or other pointers (in a prologue whose check calls morestack before the
//!   frame is made: size 0), that part of the code has a map of its own.
//! - **Pointers** are words that move with the stack if they point into it, and are left alone otherwise: null, or a heap
//!   address.
//! - **Saved registers** are those of the caller that the function saved: `push rbx`, `push rbp`. They are the caller's
//!   words, and the caller may be an ordinary function, so they move if they point into the stack. The map names the
//!   register because frames further out may be found by it (`rbp`, mostly). A function that uses a callee-saved
//!   register without naming its slot breaks the contract of [`register`].
//! - **Registers of the mapped function itself.** What it has in a callee-saved register while it calls is saved by a
//!   callee, or in the `Gobuf`. Those words are relocated conservatively. An integer that may look like an address of the
//!   stack belongs in the frame.
//! - **Arguments on the stack** are slots of the caller, which made them.
//!
//! # How mapped frames are found
//!
//! By walking the stack, from the saved context outwards, one frame at a time (`walk`): a mapped frame by its map, any
//! other by its unwind table (`unwind`). Nothing is searched. A word that has the value of a return address into mapped
//! code (left behind by a call that has returned, or an integer by chance) is not taken for a frame: the return address
//! of a frame is read from the one place where the function will return through, and that follows from the frame before.
//! The first frame is the context itself, which is where the green thread will go on. So by induction each frame that is
//! found is live, and each live frame is found, as far as the walk goes.
//!
//! It goes to the first frame of the green thread (`gostart`, whose table says that it has no caller), or up to a function
//! without an unwind table. Everything from there outwards is relocated conservatively, and [`stats`] counts it. Without
//! tables are: C code compiled without them, other generated code (also where it has registered tables with the unwinder
//! of C++), frames on a stack of their own, signal handlers.
//!
//! # What it costs
//!
//! Nothing but one relaxed load for each move, until a map is registered. From then on each move walks the stack.
//!
//! # Why the relaxed load is enough
//!
//! `register` raises the count before it returns. A thread that moves a stack with a frame of that code on it has learnt
//! of the code, directly or over other threads, from the one that registered it, each hand-over synchronised. So the
//! count was raised before the load, and a load does not return a value older than one that happened before it.
//!
//! # Example
//!
//! ```
//! use morestack_stacks::framemap::{FrameMap, Register, register};
//!
//! // What a code generator knows of a function that begins with `push rbx; sub rsp, 48`, and has pointers in the words
//! // at rsp + 8 and rsp + 16 whenever it calls.
//! # let code = 0x1000..0x1080;
//! let map = FrameMap { pcs: code, frame_size: 56, pointers: vec![8, 16], saved: vec![(Register::Rbx, 48)] };
//!
//! // SAFETY: the code keeps to the map, and is not run after the registration is dropped.
//! let registration = unsafe { register([map.clone()]) }?;
//!
//! // SAFETY: as above.
//! let error = unsafe { register([map]) }.unwrap_err();
//! assert_eq!(error.to_string(), "frame map of [0x1000, 0x1080): overlaps the registered one of [0x1000, 0x1080)");
//! # drop(registration);
//! # Ok::<(), morestack_stacks::framemap::FrameMapError>(())
//! ```

mod movable;
mod unwind;
mod walk;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use parking_lot::RwLock;

pub use movable::{Frames, frames};
pub(crate) use walk::walk;
pub use walk::{WalkStats, stats};

const WORD: usize = size_of::<u64>();

/// Where the function begins that the code at `pc` is in; none where no unwind table says so.
pub(crate) fn function_start(pc: usize) -> Option<usize> {
    unwind::Unwinder::with(|unwinder| unwinder.function(pc).map(|(start, _)| start))
}

/// What the frames of a range of code look like. See the [module](self) for the layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameMap {
    /// Addresses of the code.
    pub pcs: Range<usize>,
    /// Bytes from the stack pointer at a call up to the return address: a multiple of 8.
    pub frame_size: usize,
    /// Slots that hold pointers, in bytes from the stack pointer: multiples of 8 below `frame_size`.
    pub pointers: Vec<usize>,
    /// Slots that hold registers of the caller.
    pub saved: Vec<(Register, usize)>,
}

/// A register that a function must give back to its caller as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "they are their names")]
pub enum Register {
    Rbx,
    Rbp,
    R12,
    R13,
    R14,
    R15,
}

impl Register {
    const COUNT: usize = 6;
}

/// What is wrong with a map. Nothing was registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameMapError {
    pcs: Range<usize>,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Empty,
    Overlap(Range<usize>),
    FrameSize(usize),
    Slot { slot: usize, frame_size: usize },
    SlotTwice(usize),
    RegisterTwice(Register),
}

impl fmt::Display for FrameMapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "frame map of [{:#x}, {:#x}): ", self.pcs.start, self.pcs.end)?;
        match &self.what {
            What::Empty => write!(f, "no code: the end must be above the start"),
            What::Overlap(other) => {
                write!(f, "overlaps the registered one of [{:#x}, {:#x})", other.start, other.end)
            }
            What::FrameSize(size) => write!(f, "frame_size {size}: must be a multiple of {WORD}"),
            What::Slot { slot, frame_size } => {
                write!(f, "slot {slot}: must be a multiple of {WORD} below frame_size, {frame_size}")
            }
            What::SlotTwice(slot) => write!(f, "slot {slot}: named twice, must be one pointer or one register"),
            What::RegisterTwice(register) => write!(f, "{register:?}: saved twice, must have one slot"),
        }
    }
}

impl Error for FrameMapError {}

/// A map as the walk and the copy use it: in words.
#[derive(Debug)]
struct Shape {
    /// One past the last address of the code.
    end: usize,
    /// Words of the frame, the return address not included.
    size: usize,
    /// All slots that are relocated, ascending.
    slots: Box<[usize]>,
    saved: Box<[(Register, usize)]>,
}

impl Shape {
    fn new(map: &FrameMap) -> Result<Shape, What> {
        if map.pcs.is_empty() {
            return Err(What::Empty);
        }
        let frame_size = map.frame_size;
        if !frame_size.is_multiple_of(WORD) {
            return Err(What::FrameSize(frame_size));
        }
        let mut slots: Vec<usize> =
            map.saved.iter().map(|(_, slot)| *slot).chain(map.pointers.iter().copied()).collect();
        if let Some(slot) = slots.iter().copied().find(|slot| !slot.is_multiple_of(WORD) || *slot >= frame_size) {
            return Err(What::Slot { slot, frame_size });
        }
        slots.sort_unstable();
        if let Some(pair) = slots.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(What::SlotTwice(pair[0]));
        }
        let twice = |(i, (register, _)): (usize, &(Register, usize))| map.saved[..i].iter().any(|(r, _)| r == register);
        if let Some(i) = map.saved.iter().enumerate().position(twice) {
            return Err(What::RegisterTwice(map.saved[i].0));
        }
        slots.iter_mut().for_each(|slot| *slot /= WORD);
        let saved = map.saved.iter().map(|(register, slot)| (*register, slot / WORD)).collect();
        Ok(Shape { end: map.pcs.end, size: frame_size / WORD, slots: slots.into(), saved })
    }
}

/// The registered maps by the start of their code. They do not overlap.
#[derive(Debug)]
struct Maps(BTreeMap<usize, Arc<Shape>>);

impl Maps {
    fn covering(&self, pc: usize) -> Option<&Arc<Shape>> {
        self.0.range(..=pc).next_back().map(|(_, shape)| shape).filter(|shape| pc < shape.end)
    }

    /// A registered range that has addresses in common with this one.
    fn overlapping(&self, pcs: &Range<usize>) -> Option<Range<usize>> {
        // Ranges do not overlap, so of those that start below the end the last one reaches furthest.
        let (start, shape) = self.0.range(..pcs.end).next_back()?;
        (shape.end > pcs.start).then_some(*start..shape.end)
    }
}

static MAPS: RwLock<Maps> = RwLock::new(Maps(BTreeMap::new()));

/// How many there are: what a move looks at. Written under the lock.
static REGISTERED: AtomicUsize = AtomicUsize::new(0);

/// Keeps maps registered until it is dropped. From then on frames of that code are relocated conservatively, those that
/// exist included. `std::mem::forget` keeps them for good.
#[derive(Debug)]
#[must_use = "dropping it unregisters the maps"]
pub struct Registration {
    starts: Vec<usize>,
}

/// Registers the maps of some code, all of them or none. One registration serves all functions that live and die
/// together.
///
/// # Errors
///
/// A map makes no sense, or its code overlaps that of a map that is registered already, in the same call or before. The
/// message names the value and what is allowed.
///
/// # Safety
///
/// Until the registration is dropped, whenever a green thread is suspended and a function is on its stack that is in a
/// call, or suspended itself, at an address in `pcs`:
///
/// 1. its frame is of the size that the map says;
/// 2. each word of it that points into the stack and is used again is one of its slots;
/// 3. each callee-saved register is either the caller's still, or is in the slot that `saved` names.
///
/// And nothing but the code that is described so is in `pcs`.
pub unsafe fn register(maps: impl IntoIterator<Item = FrameMap>) -> Result<Registration, FrameMapError> {
    // Before the lock: the iterator is the caller's, and may take its time.
    let shapes: Vec<_> = maps
        .into_iter()
        .map(|map| match Shape::new(&map) {
            Ok(shape) => Ok((map.pcs, shape)),
            Err(what) => Err(FrameMapError { pcs: map.pcs, what }),
        })
        .collect::<Result<_, _>>()?;
    let mut registration = Registration { starts: Vec::with_capacity(shapes.len()) };
    let mut maps = MAPS.write();
    for (pcs, shape) in shapes {
        if let Some(other) = maps.overlapping(&pcs) {
            drop(maps);
            // And with it what this call has registered.
            drop(registration);
            return Err(FrameMapError { pcs, what: What::Overlap(other) });
        }
        maps.0.insert(pcs.start, Arc::new(shape));
        registration.starts.push(pcs.start);
    }
    REGISTERED.store(maps.0.len(), Relaxed);
    drop(maps);
    Ok(registration)
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut maps = MAPS.write();
        for start in &self.starts {
            maps.0.remove(start);
        }
        REGISTERED.store(maps.0.len(), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pcs: Range<usize>) -> FrameMap {
        FrameMap { pcs, frame_size: 32, pointers: vec![], saved: vec![] }
    }

    #[test]
    fn an_address_is_covered_by_the_range_it_lies_in() {
        let mut maps = Maps(BTreeMap::new());
        for pcs in [10..20, 20..21, 30..40] {
            assert_eq!(maps.overlapping(&pcs), None);
            maps.0.insert(pcs.start, Arc::new(Shape::new(&map(pcs)).unwrap()));
        }
        for (pc, end) in [(10, 20), (19, 20), (20, 21), (30, 40), (39, 40)] {
            assert_eq!(maps.covering(pc).unwrap().end, end, "{pc}");
        }
        for pc in [0, 9, 21, 29, 40, usize::MAX] {
            assert!(maps.covering(pc).is_none(), "{pc}");
        }
        for (pcs, other) in [(0..11, 10..20), (19..20, 10..20), (0..50, 30..40), (39..50, 30..40), (32..35, 30..40)] {
            assert_eq!(maps.overlapping(&pcs), Some(other), "{pcs:?}");
        }
        for pcs in [0..10, 21..30, 40..50] {
            assert_eq!(maps.overlapping(&pcs), None, "{pcs:?}");
        }
    }

    #[test]
    fn slots_in_words_and_in_order() {
        let shape = Shape::new(&FrameMap {
            pcs: 1..2,
            frame_size: 48,
            pointers: vec![16, 0],
            saved: vec![(Register::Rbp, 40), (Register::Rbx, 8)],
        })
        .unwrap();
        assert_eq!((shape.size, &*shape.slots), (6, &[0, 1, 2, 5][..]));
        assert_eq!(*shape.saved, [(Register::Rbp, 5), (Register::Rbx, 1)]);
    }
}
