//! Every level of a deep recursion writes into the locals of the levels above it.
//!
//! ```text
//!   Level 0 ◄── up ── Level 1 ◄── up ── Level 2 ◄── up ── ...
//!   words             words             words
//!     ▲─────────────────▲─────────────────┘  each level marks itself in REACH levels above
//! ```
//!
//! On the way back each level checks that it holds the marks of exactly those below it. A reference that still points
//! to an old stack would leave a mark there, and the level on the new stack without it.

use morestack::prologue;

use super::Size;

/// How many levels above a level marks.
const REACH: usize = 16;

/// Words of a level. 512 bytes, so that 8000 levels take some 5 MiB.
const WORDS: usize = 64;

type Words = [u64; WORDS];

/// A level, as the levels below see it.
trait Above {
    /// Takes the mark of level `from`, and passes it up `distance` more levels.
    fn mark(&mut self, from: usize, distance: usize);
}

struct Level<'up> {
    words: Words,
    up: Option<&'up mut dyn Above>,
}

impl Above for Level<'_> {
    #[prologue]
    fn mark(&mut self, from: usize, distance: usize) {
        let word = &mut self.words[from % WORDS];
        *word = mix(*word, from);
        if let Some(up) = &mut self.up
            && distance > 0
        {
            up.mark(from, distance - 1);
        }
    }
}

fn mix(word: u64, from: usize) -> u64 {
    (word ^ from as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23)
}

/// What `depth` must hold once all levels below it have marked.
#[prologue]
fn expected(depth: usize, levels: usize) -> Words {
    let mut words = [depth as u64; WORDS];
    for from in depth..levels.min(depth + REACH + 1) {
        words[from % WORDS] = mix(words[from % WORDS], from);
    }
    words
}

#[prologue]
fn descend(depth: usize, levels: usize, up: Option<&mut dyn Above>) -> u64 {
    let mut level = Level { words: [depth as u64; WORDS], up };
    level.mark(depth, REACH);
    let below = if depth + 1 < levels { descend(depth + 1, levels, Some(&mut level)) } else { 0 };
    assert_eq!(level.words, expected(depth, levels), "marks of level {depth}");
    level.words.iter().fold(below, |sum, word| sum.rotate_left(1) ^ word)
}

pub(super) fn run(size: Size) -> String {
    let levels = size.pick(8000, 120);
    format!("{levels} levels: {:016x}", descend(0, levels, None))
}
