//! The copy of copystack: move the used part of a stack and relocate what points into it, in one pass (S15).
//!
//! ```text
//!   for every word w:    t = w - old.lo            (wraps)
//!                        w += delta  if  t < size  (unsigned: one comparison for both bounds)
//! ```
//!
//! A second pass over the copy would read everything again from a cache that no longer holds it, so each word is
//! relocated between its load and its store. Three versions do the same; the widest that the processor has is used:
//!
//! | version | words at a time | |
//! |---|---|---|
//! | AVX-512 | 8 | compares unsigned and adds under a mask; the head as well |
//! | AVX2 | 4 | compares signed only: both sides are shifted by 2^63 first, for `t` in the addition that makes it |
//! | scalar | 1 | every x86-64; heads and tails of the others |
//!
//! # What counts as a pointer
//!
//! A word, 8-aligned, in `[sp - BELOW, old.hi)`. One past the end, `old.hi`, does not: whatever lies at the very top of a
//! stack must not be an object that Rust code makes slices of.
//!
//! # What is half a pointer
//!
//! Frames are reused. A `bool` may lie in a word whose other bytes an earlier call has left there, and these may be those of an
//! address of this very stack. Such a word must not count, or the `bool` is changed with it. It does not:
//!
//! 1. Stacks end at multiples of 64 KiB, so the distance is one, and the lower 16 bits of a word never change.
//! 2. Any other byte would have to equal that of the address which is in its place. Those of small stacks are neither small nor 255
//!    ([arena.rs](crate::arena)), as the upper byte of a tag, of a count and of most other numbers is.
//! 3. Of an address that does not point into what is used nothing counts at all.
//!
//! What is left is a number that happens to have the right byte at the right place, beside what is left of a pointer to a frame that
//! is in use still.

#[cfg(target_arch = "x86_64")]
use core::arch::x86_64::*;
use std::arch::is_x86_feature_detected;

use crate::Stack;

/// So many bytes below the stack pointer an address may be that is kept for what lies above: compilers count up from there.
const BELOW: usize = 4 << 10;

/// Where pointers point before and after.
#[derive(Clone, Copy)]
pub(crate) struct Relocation {
    lo: u64,
    size: u64,
    delta: u64,
}

impl Relocation {
    /// Everything keeps its distance from the high end. Of the old stack what lies above `sp` is used.
    pub(crate) fn new(old: Stack, new: Stack, sp: usize) -> Relocation {
        let lo = sp.saturating_sub(BELOW).max(old.lo);
        Relocation { lo: lo as u64, size: (old.hi - lo) as u64, delta: new.hi.wrapping_sub(old.hi) as u64 }
    }

    /// The word, relocated if it points into the old stack, and whether it did.
    #[inline(always)]
    pub(crate) fn apply(&self, word: u64) -> (u64, bool) {
        let inside = word.wrapping_sub(self.lo) < self.size;
        (if inside { word.wrapping_add(self.delta) } else { word }, inside)
    }
}

/// Copies `words` words from `src` to `dst`, relocated. Returns how many were changed.
///
/// # Safety
///
/// `src` is readable and `dst` writable for so many words, both are 8-aligned, and they do not overlap.
pub(crate) unsafe fn copy_relocate(src: *const u64, dst: *mut u64, words: usize, relocation: Relocation) -> usize {
    // The answer is cached by std: this is a load and a branch.
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the processor has AVX-512F, and so POPCNT; the rest is the caller's.
        unsafe { avx512(src, dst, words, relocation) }
    } else if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2; the rest is the caller's.
        unsafe { avx2(src, dst, words, relocation) }
    } else {
        // SAFETY: the caller's.
        unsafe { scalar(src, dst, words, relocation) }
    }
}

/// # Safety
///
/// As for [`copy_relocate`].
#[inline]
unsafe fn scalar(src: *const u64, dst: *mut u64, words: usize, relocation: Relocation) -> usize {
    let mut changed = 0;
    for i in 0..words {
        // SAFETY: `i < words`, and both ranges have so many.
        unsafe {
            let (word, inside) = relocation.apply(src.add(i).read());
            dst.add(i).write(word);
            changed += usize::from(inside);
        }
    }
    changed
}

/// Words to copy before `dst` is aligned for a vector of `BYTES`: a store that straddles two lines costs double.
#[inline(always)]
fn head<const BYTES: usize>(dst: *mut u64, words: usize) -> usize {
    ((dst as usize).wrapping_neg() % BYTES / size_of::<u64>()).min(words)
}

/// # Safety
///
/// As for [`copy_relocate`], and the processor has AVX2.
#[target_feature(enable = "avx2")]
unsafe fn avx2(src: *const u64, dst: *mut u64, words: usize, relocation: Relocation) -> usize {
    const LANES: usize = 4;
    const UNROLL: usize = 4;
    const TOP: u64 = 1 << 63;
    let mut i = head::<32>(dst, words);
    // SAFETY: the caller's, and `i <= words`.
    let mut changed = unsafe { scalar(src, dst, i, relocation) };

    // t = w - lo, with 2^63 added: then a signed comparison orders as an unsigned one does.
    let shift = _mm256_set1_epi64x(TOP.wrapping_sub(relocation.lo) as i64);
    let size = _mm256_set1_epi64x(TOP.wrapping_add(relocation.size) as i64);
    let delta = _mm256_set1_epi64x(relocation.delta as i64);
    let mut count = _mm256_setzero_si256();
    while i + LANES * UNROLL <= words {
        for _ in 0..UNROLL {
            // SAFETY: four words at `i` are in both ranges, and `dst` is aligned since the head.
            unsafe {
                let word = _mm256_loadu_si256(src.add(i).cast());
                let inside = _mm256_cmpgt_epi64(size, _mm256_add_epi64(word, shift));
                // A lane of the mask is -1 or 0.
                count = _mm256_sub_epi64(count, inside);
                let moved = _mm256_add_epi64(word, _mm256_and_si256(inside, delta));
                _mm256_store_si256(dst.add(i).cast(), moved);
            }
            i += LANES;
        }
    }
    let mut lanes = [0_u64; LANES];
    // SAFETY: an unaligned store to as many lanes.
    unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), count) };
    changed += lanes.iter().sum::<u64>() as usize;
    // SAFETY: the rest of both ranges.
    changed + unsafe { scalar(src.add(i), dst.add(i), words - i, relocation) }
}

/// The head goes under a mask: a stack's used part begins anywhere within a line, and words one by one cost as much as a
/// kilobyte of vectors. The tail does not. Where a stack ends a guard begins, and a masked access that reaches into a page
/// that faults costs hundreds of cycles, though it does not fault. Nor is there a tail, since stacks end with a line.
///
/// # Safety
///
/// As for [`copy_relocate`], and the processor has AVX-512F.
#[target_feature(enable = "avx512f,popcnt")]
unsafe fn avx512(src: *const u64, dst: *mut u64, words: usize, relocation: Relocation) -> usize {
    const LANES: usize = 8;
    let lo = _mm512_set1_epi64(relocation.lo as i64);
    let size = _mm512_set1_epi64(relocation.size as i64);
    let delta = _mm512_set1_epi64(relocation.delta as i64);
    // The lanes of a vector that are to be changed.
    let inside = |word| _mm512_cmplt_epu64_mask(_mm512_sub_epi64(word, lo), size);
    let (mut i, mut changed) = (0, 0);
    if words >= LANES {
        i = head::<64>(dst, words);
        let lanes = (1 << i) - 1;
        // SAFETY: the first eight words are in both ranges, and of `dst` the head alone is written.
        unsafe {
            let word = _mm512_loadu_si512(src.cast());
            let inside = inside(word) & lanes;
            changed += inside.count_ones() as usize;
            _mm512_mask_storeu_epi64(dst.cast(), lanes, _mm512_mask_add_epi64(word, inside, word, delta));
        }
    }
    while i + 2 * LANES <= words {
        // SAFETY: sixteen words at `i` are in both ranges, and `dst` is aligned since the head.
        unsafe {
            let [low, high] = [i, i + LANES].map(|i| _mm512_loadu_si512(src.add(i).cast()));
            let [in_low, in_high] = [inside(low), inside(high)];
            _mm512_store_si512(dst.add(i).cast(), _mm512_mask_add_epi64(low, in_low, low, delta));
            _mm512_store_si512(dst.add(i + LANES).cast(), _mm512_mask_add_epi64(high, in_high, high, delta));
            // Counted outside of the vectors: their units are what the loop waits for.
            changed += (u32::from(in_low) | u32::from(in_high) << LANES).count_ones() as usize;
        }
        i += 2 * LANES;
    }
    if i + LANES <= words {
        // SAFETY: eight words at `i` are in both ranges, and `dst` is aligned since the head.
        unsafe {
            let word = _mm512_loadu_si512(src.add(i).cast());
            let inside = inside(word);
            changed += inside.count_ones() as usize;
            _mm512_store_si512(dst.add(i).cast(), _mm512_mask_add_epi64(word, inside, word, delta));
        }
        i += LANES;
    }
    // SAFETY: the rest of both ranges.
    changed + unsafe { scalar(src.add(i), dst.add(i), words - i, relocation) }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Version = unsafe fn(*const u64, *mut u64, usize, Relocation) -> usize;

    fn versions() -> Vec<(&'static str, Version)> {
        let mut versions: Vec<(&'static str, Version)> = vec![("chosen", copy_relocate), ("scalar", scalar)];
        if is_x86_feature_detected!("avx2") {
            versions.push(("avx2", avx2));
        }
        if is_x86_feature_detected!("avx512f") {
            versions.push(("avx512", avx512));
        }
        versions
    }

    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0
        }

        /// A word of the kind that tells versions apart: at the bounds, inside, and with the top bit set.
        fn word(&mut self, old: Stack) -> u64 {
            let (lo, hi) = (old.lo as u64, old.hi as u64);
            let any = self.next();
            match any >> 60 {
                0 => lo,
                1 => lo - 1,
                2 => hi,
                3 => hi - 1,
                4 => lo ^ 1 << 63,
                5 => (hi - 1) ^ 1 << 63,
                6 => 0,
                7 => u64::MAX,
                8..12 => lo + any % (hi - lo),
                _ => any,
            }
        }
    }

    /// The definition, word for word.
    fn expected(word: u64, old: Stack, new: Stack) -> u64 {
        if old.contains(word as usize) { word.wrapping_add((new.hi as u64).wrapping_sub(old.hi as u64)) } else { word }
    }

    fn agree(old: Stack, new: Stack, words: usize, src_at: usize, dst_at: usize, random: &mut Random) {
        const SENTINEL: u64 = 0x5e5e_5e5e_5e5e_5e5e;
        let src: Vec<u64> = (0..src_at + words).map(|_| random.word(old)).collect();
        let wanted: Vec<u64> = src[src_at..].iter().map(|w| expected(*w, old, new)).collect();
        let changes = src[src_at..].iter().filter(|w| old.contains(**w as usize)).count();
        for (name, version) in versions() {
            let mut dst = vec![SENTINEL; dst_at + words + 9];
            // SAFETY: both vectors have the words from their offset on.
            let changed = unsafe {
                version(
                    src.as_ptr().add(src_at),
                    dst.as_mut_ptr().add(dst_at),
                    words,
                    Relocation::new(old, new, old.lo),
                )
            };
            let what = format!("{name}, {words} words, offsets {src_at} and {dst_at}");
            assert_eq!(dst[dst_at..dst_at + words], wanted, "{what}");
            assert_eq!(changed, changes, "{what}");
            assert!(
                dst[..dst_at].iter().chain(&dst[dst_at + words..]).all(|w| *w == SENTINEL),
                "{what}: out of bounds"
            );
        }
    }

    const LOW: Stack = Stack { lo: 0x10000, hi: 0x20000 };
    const HIGH: Stack = Stack { lo: 0x7f12_3450_0000, hi: 0x7f12_3460_0000 };
    /// Across 2^63, where signed and unsigned order differ: no such stack exists, the arithmetic must not care.
    const ACROSS: Stack = Stack { lo: 0x7fff_ffff_ffff_0000, hi: 0x8000_0000_0001_0000 };

    #[test]
    fn all_versions_agree_at_every_length_and_alignment() {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        for words in (0..70).chain([127, 128, 129, 1000]) {
            for offset in 0..64 {
                agree(HIGH, LOW, words, offset / 8, offset % 8, &mut random);
            }
        }
    }

    #[test]
    fn all_versions_agree_whatever_the_stacks() {
        let mut random = Random(1);
        for old in [LOW, HIGH, ACROSS] {
            for new in [LOW, HIGH, ACROSS, Stack { lo: 0, hi: 1 << 40 }] {
                agree(old, new, 4096, 3, 1, &mut random);
            }
        }
    }

    #[test]
    fn each_bound_by_itself() {
        let relocation = Relocation::new(HIGH, LOW, HIGH.lo);
        let (lo, hi) = (HIGH.lo as u64, HIGH.hi as u64);
        let delta = relocation.delta;
        for (word, wanted) in
            [(lo, lo.wrapping_add(delta)), (hi - 1, (hi - 1).wrapping_add(delta)), (lo - 1, lo - 1), (hi, hi)]
        {
            for (name, version) in versions() {
                let (src, mut dst) = ([word; 40], [0; 40]);
                // SAFETY: forty words each.
                let changed = unsafe { version(src.as_ptr(), dst.as_mut_ptr(), 40, relocation) };
                assert_eq!(dst, [wanted; 40], "{name} {word:#x}");
                assert_eq!(changed, if wanted == word { 0 } else { 40 }, "{name} {word:#x}");
            }
        }
    }

    /// The largest there is; less in builds that take a minute for it.
    #[test]
    fn a_gibibyte() {
        const WORDS: usize = if cfg!(debug_assertions) { 1 << 23 } else { 1 << 27 };
        let map = || crate::sys::map(WORDS * 8, crate::sys::Access::ReadWrite).unwrap();
        let (src, dst) = (map(), map());
        let old = Stack { lo: src, hi: src + WORDS * 8 };
        let new = Stack { lo: dst, hi: dst + WORDS * 8 };
        let marks = [0, 1, 12345, WORDS / 2, WORDS - 1];
        // SAFETY: both mappings are the test's and have so many words.
        unsafe {
            marks.iter().for_each(|i| (src as *mut usize).add(*i).write(src + i * 8));
            let changed = copy_relocate(src as *const u64, dst as *mut u64, WORDS, Relocation::new(old, new, old.lo));
            assert_eq!(changed, marks.len());
            marks.iter().for_each(|i| assert_eq!((dst as *const usize).add(*i).read(), dst + i * 8));
            crate::sys::unmap(src, WORDS * 8).unwrap();
            crate::sys::unmap(dst, WORDS * 8).unwrap();
        }
    }
}
