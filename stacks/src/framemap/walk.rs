//! The walk over a suspended stack, and the copy that leaves mapped frames alone.
//!
//! ```text
//!   sched.sp                                                                   stack.hi
//!      ├── conservative ──┬── mapped ──┬─── conservative ───┬── mapped ──┬── ... ──┤
//!         fused copy         plain copy,  fused copy           as before
//!                            then slots
//! ```
//!
//! Addresses are those that the stack had when its green thread was suspended, whatever has become of that stack. The
//! words may lie elsewhere by now: those of a frozen green thread do.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crossbeam_utils::CachePadded;
use morestack_asm::Gobuf;

use super::unwind::Unwinder;
use super::{MAPS, REGISTERED, Register, Shape, WORD};
use crate::Stack;
use crate::copy::{Relocation, copy_relocate};

/// What is in the registers that callees keep, in the order of [`Register`]; None if it is lost.
pub(super) type Kept = [Option<usize>; Register::COUNT];

/// A frame: where its function goes on, and the registers it finds there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) pc: usize,
    pub(super) sp: usize,
    /// It is suspended itself, not in a call.
    innermost: bool,
    pub(super) kept: Kept,
}

impl Frame {
    fn suspended(sched: &Gobuf) -> Frame {
        let mut kept = [None; Register::COUNT];
        kept[Register::Rbx as usize] = Some(sched.bx);
        kept[Register::Rbp as usize] = Some(sched.bp);
        Frame { pc: sched.pc, sp: sched.sp, innermost: true, kept }
    }

    /// The frame that this one returns to.
    pub(super) fn caller(pc: usize, cfa: usize, kept: Kept) -> Frame {
        Frame { pc, sp: cfa, innermost: false, kept }
    }

    /// The address that tables are asked for: in a caller, the call instruction. What follows the call may belong to
    /// another row, another map or another function.
    pub(super) fn code(&self) -> usize {
        self.pc.wrapping_sub(usize::from(!self.innermost))
    }
}

/// What lies beyond a frame.
pub(super) enum Step {
    Caller(Frame),
    /// The green thread's first frame.
    End,
    /// No table, or none that makes sense.
    Unknown,
}

/// The used part of a stack.
pub(super) struct Words {
    sp: usize,
    hi: usize,
    src: *const u64,
}

impl Words {
    /// The word at an address of the stack.
    pub(super) fn read(&self, addr: usize) -> Option<usize> {
        let inside = self.sp <= addr && addr < self.hi && addr.is_multiple_of(WORD);
        // SAFETY: `src` has the words of [sp, hi), by the contract of `walk`.
        inside.then(|| unsafe { self.src.byte_add(addr - self.sp).read() as usize })
    }
}

/// The mapped frames of a stack, innermost first.
#[derive(Debug)]
pub(crate) struct Frames(Vec<Mapped>);

#[derive(Debug)]
struct Mapped {
    /// Words between the suspended `sp` and this frame's.
    start: usize,
    shape: Arc<Shape>,
}

impl Mapped {
    /// The word after its return address.
    fn end(&self) -> usize {
        self.start + self.shape.size + 1
    }
}

/// Finds the mapped frames of a suspended green thread. `old` and `sched` are in the terms of the stack it was suspended
/// on; `src` is where the words of `[sched.sp, old.hi)` lie now.
///
/// # Safety
///
/// `src` is readable for so many words, and 8-aligned. Nobody writes the words that it reads: return addresses and saved
/// registers. Runs on a system stack: it needs some KiB, and allocates.
#[inline]
pub(crate) unsafe fn walk(sched: &Gobuf, old: Stack, src: *const u64) -> Frames {
    if REGISTERED.load(Relaxed) == 0 {
        return Frames(Vec::new());
    }
    walk_frames(sched, &Words { sp: sched.sp, hi: old.hi, src })
}

#[cold]
fn walk_frames(sched: &Gobuf, words: &Words) -> Frames {
    let mut mapped = Vec::new();
    let mut frames = 0;
    let mut frame = Frame::suspended(sched);
    let ended = Unwinder::with(|unwinder| {
        // After the unwinder has looked at the loaded objects: a thread that loads one, with the loader's lock, may
        // register maps.
        let maps = MAPS.read();
        loop {
            frames += 1;
            let step = match maps.covering(frame.code()) {
                Some(shape) => {
                    let step = step(shape, &frame, words);
                    if let Step::Caller(_) = step {
                        mapped.push(Mapped { start: (frame.sp - words.sp) / WORD, shape: shape.clone() });
                    }
                    step
                }
                None => unwinder.step(&frame, words),
            };
            frame = match step {
                // Each frame is further out than the one before, so there is an end.
                Step::Caller(next) if next.sp > frame.sp && next.sp <= words.hi && next.sp.is_multiple_of(WORD) => next,
                Step::End => break true,
                Step::Caller(_) | Step::Unknown => break false,
            };
        }
    });
    WALKED.walks.fetch_add(1, Relaxed);
    WALKED.frames.fetch_add(frames, Relaxed);
    WALKED.mapped.fetch_add(mapped.len() as u64, Relaxed);
    WALKED.cut.fetch_add(u64::from(!ended), Relaxed);
    Frames(mapped)
}

/// The caller of a mapped frame; none if the frame would not be in the stack.
fn step(shape: &Shape, frame: &Frame, words: &Words) -> Step {
    let caller = || {
        let ret = frame.sp.checked_add(shape.size * WORD)?;
        let mut kept = frame.kept;
        for (register, slot) in &shape.saved {
            kept[*register as usize] = Some(words.read(frame.sp + slot * WORD)?);
        }
        Some(Frame::caller(words.read(ret)?, ret + WORD, kept))
    };
    caller().map_or(Step::Unknown, Step::Caller)
}

impl Frames {
    /// Copies a part of the used part, relocated: in mapped frames their slots, elsewhere every word. Returns how many
    /// words were changed. `src` and `dst` are where the whole used part lies and goes; `part` counts words from there.
    ///
    /// # Safety
    ///
    /// `src` is readable and `dst` writable for the words of `part`, both are 8-aligned, and they do not overlap.
    pub(crate) unsafe fn copy_relocate(
        &self,
        src: *const u64,
        dst: *mut u64,
        part: Range<usize>,
        relocation: Relocation,
    ) -> usize {
        // SAFETY: the parts below lie in `part`; the rest is the caller's.
        let conservatively = |words: Range<usize>| unsafe {
            copy_relocate(src.add(words.start), dst.add(words.start), words.len(), relocation)
        };
        let mut changed = 0;
        let mut done = part.start;
        let first = self.0.partition_point(|frame| frame.end() <= part.start);
        for frame in self.0[first..].iter().take_while(|frame| frame.start < part.end) {
            let exactly = frame.start.max(part.start)..frame.end().min(part.end);
            changed += conservatively(done..exactly.start);
            // SAFETY: in `part`, as above.
            unsafe { src.add(exactly.start).copy_to_nonoverlapping(dst.add(exactly.start), exactly.len()) };
            for slot in frame.shape.slots.iter().map(|slot| frame.start + slot).filter(|slot| exactly.contains(slot)) {
                // SAFETY: in `part`, as above.
                unsafe {
                    let (word, inside) = relocation.apply(src.add(slot).read());
                    dst.add(slot).write(word);
                    changed += usize::from(inside);
                }
            }
            done = exactly.end;
        }
        changed + conservatively(done..part.end)
    }
}

/// What the walks of the process have seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WalkStats {
    /// Stacks that were walked.
    pub walks: u64,
    /// Frames on them.
    pub frames: u64,
    /// Frames that were adjusted exactly.
    pub mapped: u64,
    /// Walks that ended before the first frame of their green thread, at a function without an unwind table.
    pub cut: u64,
}

static WALKED: CachePadded<Walked> = CachePadded::new(Walked {
    walks: AtomicU64::new(0),
    frames: AtomicU64::new(0),
    mapped: AtomicU64::new(0),
    cut: AtomicU64::new(0),
});

struct Walked {
    walks: AtomicU64,
    frames: AtomicU64,
    mapped: AtomicU64,
    cut: AtomicU64,
}

/// The counters of the walks. All are 0 until a map is registered.
pub fn stats() -> WalkStats {
    WalkStats {
        walks: WALKED.walks.load(Relaxed),
        frames: WALKED.frames.load(Relaxed),
        mapped: WALKED.mapped.load(Relaxed),
        cut: WALKED.cut.load(Relaxed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framemap::{FrameMap, register};

    /// A stack that does not exist: its words are wherever the test has them.
    const OLD: Stack = Stack { lo: 0x7e00_0000_0000, hi: 0x7e00_0001_0000 };
    const NEW: Stack = Stack { lo: 0x7d00_0002_0000, hi: 0x7d00_0004_0000 };

    /// A function of this test's: a word of its code, the size of its frame in words, its pointers, the slot of rbp.
    struct Function {
        code: usize,
        size: usize,
        pointers: &'static [usize],
        rbp: Option<usize>,
    }

    /// No code is at these addresses. Other tests use others.
    const FUNCTIONS: [Function; 4] = [
        Function { code: 0x5110, size: 3, pointers: &[0], rbp: Some(2) },
        Function { code: 0x5120, size: 0, pointers: &[], rbp: None },
        Function { code: 0x5130, size: 7, pointers: &[1, 2, 6], rbp: None },
        Function { code: 0x5140, size: 1, pointers: &[], rbp: Some(0) },
    ];

    impl Function {
        fn map(&self) -> FrameMap {
            FrameMap {
                pcs: self.code..self.code + 16,
                frame_size: self.size * WORD,
                pointers: self.pointers.iter().map(|slot| slot * WORD).collect(),
                saved: self.rbp.iter().map(|slot| (Register::Rbp, slot * WORD)).collect(),
            }
        }

        fn relocates(&self, slot: usize) -> bool {
            self.pointers.contains(&slot) || self.rbp == Some(slot)
        }
    }

    /// A stack of such functions, each called by the next, with words that all look like pointers, and whatever is beyond
    /// a function that nobody knows. Returns its context, its words, and what they must become.
    fn stack(functions: &[usize], beyond: usize) -> (Gobuf, Vec<u64>, Vec<u64>) {
        let functions: Vec<&Function> = functions.iter().map(|i| &FUNCTIONS[*i]).collect();
        let words = functions.iter().map(|function| function.size + 1).sum::<usize>() + beyond;
        let sp = OLD.hi - words * WORD;
        let relocation = Relocation::new(OLD, NEW, OLD.lo);
        let (mut src, mut wanted) = (Vec::new(), Vec::new());
        let mut push = |word: u64, relocated: bool| {
            src.push(word);
            wanted.push(if relocated { relocation.apply(word).0 } else { word });
        };
        for (i, function) in functions.iter().enumerate() {
            (0..function.size).for_each(|slot| push((OLD.lo + slot) as u64, function.relocates(slot)));
            // The call is the last instruction of the caller: its return address is beyond its code. What is no code at
            // all looks like a pointer, too.
            push(functions.get(i + 1).map_or(OLD.lo, |caller| caller.code + 16) as u64, false);
        }
        (0..beyond).for_each(|i| push((OLD.lo + i) as u64, true));
        // Suspended at its first instruction.
        let pc = functions.first().map_or(1, |function| function.code);
        (Gobuf { sp, pc, ..Gobuf::EMPTY }, src, wanted)
    }

    #[test]
    fn every_split_of_every_stack() {
        // SAFETY: no code is there.
        let _registration = unsafe { register(FUNCTIONS.map(|function| function.map())) }.unwrap();
        let stacks: [&[usize]; 8] =
            [&[], &[0], &[1], &[3, 3], &[0, 1, 2, 3], &[2, 2, 0], &[1, 1, 1, 0], &[3, 1, 0, 2, 0]];
        for functions in stacks {
            for beyond in [0, 1, 5, 40] {
                let (sched, src, wanted) = stack(functions, beyond);
                // SAFETY: `src` has the words.
                let frames = unsafe { walk(&sched, OLD, src.as_ptr()) };
                assert_eq!(frames.0.len(), functions.len());
                let words = src.len();
                for split in 0..=words {
                    for second in split..=words {
                        let mut dst = vec![0; words];
                        let changed: usize = [0..split, split..second, second..words]
                            .map(|part| {
                                let dst = dst.as_mut_ptr();
                                // SAFETY: both have the words.
                                unsafe {
                                    frames.copy_relocate(src.as_ptr(), dst, part, Relocation::new(OLD, NEW, OLD.lo))
                                }
                            })
                            .iter()
                            .sum();
                        assert_eq!(dst, wanted, "{functions:?} and {beyond}, split at {split} and {second}");
                        assert_eq!(changed, src.iter().zip(&wanted).filter(|(was, is)| was != is).count());
                    }
                }
            }
        }
    }

    #[test]
    fn only_the_words_of_a_part_are_touched() {
        // SAFETY: no code is there.
        let _registration = unsafe {
            register(FUNCTIONS.map(|function| {
                let map = function.map();
                FrameMap { pcs: map.pcs.start + 0x1000..map.pcs.end + 0x1000, ..map }
            }))
        }
        .unwrap();
        let (mut sched, mut src, _) = stack(&[2, 0, 2], 3);
        sched.pc += 0x1000;
        src.iter_mut().filter(|word| **word < 0x6000 && **word > 1).for_each(|word| *word += 0x1000);
        // SAFETY: `src` has the words.
        let frames = unsafe { walk(&sched, OLD, src.as_ptr()) };
        assert_eq!(frames.0.len(), 3);
        for start in 0..src.len() {
            for end in start..=src.len() {
                let mut dst = vec![1; src.len()];
                // SAFETY: both have the words.
                unsafe {
                    frames.copy_relocate(src.as_ptr(), dst.as_mut_ptr(), start..end, Relocation::new(OLD, NEW, OLD.lo));
                }
                assert!(dst[..start].iter().chain(&dst[end..]).all(|word| *word == 1), "{start}..{end}");
            }
        }
    }

    #[test]
    fn a_frame_that_does_not_fit_the_stack_is_none() {
        // SAFETY: no code is there.
        let _registration = unsafe {
            register([(0x7110, 8), (0x7120, usize::MAX - 7)].map(|(code, frame_size)| FrameMap {
                pcs: code..code + 16,
                frame_size,
                pointers: vec![],
                saved: vec![(Register::Rbp, 0)],
            }))
        }
        .unwrap();
        let src = [0_u64; 1];
        for pc in [0x7110, 0x7120] {
            let sched = Gobuf { sp: OLD.hi - WORD, pc, ..Gobuf::EMPTY };
            // SAFETY: `src` has the one word.
            let frames = unsafe { walk(&sched, OLD, src.as_ptr()) };
            assert!(frames.0.is_empty(), "its return address would lie above");
        }
    }
}
