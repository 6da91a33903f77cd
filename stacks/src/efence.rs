//! Efence (S9): old stacks that fault, and the answer to "whose was this?".
//!
//! With `MORESTACK_EFENCE=1` a stack that was freed or moved away from is not used again at once. It becomes
//! inaccessible and waits in a quarantine, so a pointer that still leads there faults where it is used instead of
//! reading what somebody else writes. The handler of that fault asks [`explain`].
//!
//! ```text
//!   stackfree ──┐                   ┌──────────── quarantine, oldest first ───────────┐
//!   copystack ──┴─► record ► seal ─►│ ring of QUARANTINE entries, one per sealed stack│─► clear ► unseal ► pool, arena
//!                                   └─────────────────────────────────────────────────┘
//!                                        ▲ explain: signal handlers, any thread, no lock
//! ```
//!
//! The oldest leaves when the ring is full, when the kernel can seal no more, and when there is no other stack or
//! guard to give.
//!
//! # Why `explain` is safe in a signal handler
//!
//! The table is static memory of atomics; it takes no lock and allocates nothing. Each entry is a sequence lock: its
//! version is odd while it is written, and the writer makes it even when it is done. A reader that meets an odd version,
//! or another version after reading than before, has seen a mixture and drops it. It tries a few times and never waits:
//! the writer may be the very thread that the signal interrupted.
//!
//! # Order
//!
//! An entry is written before its stack is sealed and cleared before it is unsealed. So whoever faults on a sealed stack
//! finds its entry, even in the moment between the two.

use std::collections::VecDeque;
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering::Acquire, Ordering::Relaxed, Ordering::Release, fence};

use parking_lot::Mutex;

use crate::guard::{GUARDS, Kind};
use crate::{FIXED_STACK, Moved, NUM_STACK_ORDERS, Stack, alloc, sys};

/// How many old stacks are kept inaccessible. A stale pointer is caught as long as its stack is one of the last so many
/// that were retired; with guards that need no mapping, each costs a few hundred bytes of page table. Plucked from thin
/// air.
const QUARANTINE: usize = 16384;

/// How often `explain` reads an entry that changes under it.
const ATTEMPTS: usize = 4;

/// What became of a stack that nobody may touch any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retired {
    /// The old stack.
    pub stack: Stack,
    /// Where its contents moved; [`Stack::NONE`] if it was freed or frozen.
    pub new: Stack,
    /// The green thread that was moved or frozen; 0 if the stack was freed.
    pub goid: u64,
    /// Where that green thread was then; 0 if the stack was freed.
    pub pc: usize,
    /// When, in nanoseconds of the monotonic clock.
    pub when: u64,
}

struct Entry {
    version: AtomicUsize,
    /// The fields of a [`Retired`], in its order; all 0 in an empty entry.
    words: [AtomicUsize; 7],
}

impl Entry {
    const fn new() -> Entry {
        Entry { version: AtomicUsize::new(0), words: [const { AtomicUsize::new(0) }; 7] }
    }

    /// Called under the lock of the quarantine.
    fn write(&self, retired: Option<Retired>) {
        let words = retired
            .map_or([0; 7], |r| [r.stack.lo, r.stack.hi, r.new.lo, r.new.hi, r.goid as usize, r.pc, r.when as usize]);
        let version = self.version.load(Relaxed);
        self.version.store(version + 1, Relaxed);
        // No word below becomes visible before the odd version.
        fence(Release);
        self.words.iter().zip(words).for_each(|(word, value)| word.store(value, Relaxed));
        self.version.store(version + 2, Release);
    }

    fn read(&self) -> Option<Retired> {
        for _ in 0..ATTEMPTS {
            let before = self.version.load(Acquire);
            let [lo, hi, new_lo, new_hi, goid, pc, when] = self.words.each_ref().map(|word| word.load(Relaxed));
            // No word above is read after the version below.
            fence(Acquire);
            if before.is_multiple_of(2) && before == self.version.load(Relaxed) {
                let retired = Retired {
                    stack: Stack { lo, hi },
                    new: Stack { lo: new_lo, hi: new_hi },
                    goid: goid as u64,
                    pc,
                    when: when as u64,
                };
                return (lo != 0).then_some(retired);
            }
        }
        None
    }
}

static TABLE: [Entry; QUARANTINE] = [const { Entry::new() }; QUARANTINE];

/// Entries from here on were never written.
static WRITTEN: AtomicUsize = AtomicUsize::new(0);

static QUEUE: Mutex<Queue> =
    Mutex::new(Queue { next: 0, sealed: VecDeque::new(), stuck: Vec::new(), usage: Usage::NONE });

struct Queue {
    /// The entry to write next. Those of `sealed` lie right before it, around the ring's end.
    next: usize,
    /// Sealed stacks and how, oldest first.
    sealed: VecDeque<(Stack, Kind)>,
    /// Stacks that have left the ring and that the kernel would not unseal. They fault still, unexplained.
    stuck: Vec<(Stack, Kind)>,
    usage: Usage,
}

/// What the quarantine holds.
#[derive(Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) small: [usize; NUM_STACK_ORDERS],
    pub(crate) large: usize,
    pub(crate) large_bytes: usize,
}

impl Usage {
    const NONE: Usage = Usage { small: [0; NUM_STACK_ORDERS], large: 0, large_bytes: 0 };

    fn count(&mut self, size: usize, step: isize) {
        match self.small.get_mut((size / FIXED_STACK).ilog2() as usize) {
            Some(count) => *count = count.wrapping_add_signed(step),
            None => {
                self.large = self.large.wrapping_add_signed(step);
                self.large_bytes = self.large_bytes.wrapping_add_signed(step * size as isize);
            }
        }
    }
}

/// What became of the stack that `addr` lies in, if efence holds one there. Where several did in turn, the last. Fit for
/// a signal handler: no lock, no allocation, no waiting.
///
/// ```
/// // Efence is off: there is nothing to explain.
/// assert!(morestack_stacks::efence::explain(0x1000).is_none());
/// ```
pub fn explain(addr: usize) -> Option<Retired> {
    let written = WRITTEN.load(Acquire);
    TABLE[..written]
        .iter()
        .filter_map(Entry::read)
        .filter(|retired| retired.stack.contains(addr))
        .max_by_key(|retired| retired.when)
}

/// Seals a stack and keeps it. Where the kernel can seal no more, the oldest goes; and where there is none, this one is
/// released as if efence were off.
///
/// # Safety
///
/// The caller owns the stack and gives it away; nothing that is correct touches it any more.
pub(crate) unsafe fn retire(stack: Stack, new: Stack, why: Moved) {
    loop {
        let mut queue = QUEUE.lock();
        let oldest = if queue.sealed.len() == QUARANTINE {
            queue.pop()
        } else {
            let entry = queue.next;
            WRITTEN.fetch_max(entry + 1, Release);
            TABLE[entry].write(Some(Retired { stack, new, goid: why.goid, pc: why.pc, when: sys::monotonic_ns() }));
            // SAFETY: the caller gave the stack away.
            if let Ok(kind) = unsafe { GUARDS.seal(stack) } {
                queue.push(stack, kind);
                return;
            }
            TABLE[entry].write(None);
            queue.pop()
        };
        drop(queue);
        match oldest {
            Some((oldest, kind)) => release(oldest, kind),
            None => {
                // SAFETY: the caller gave the stack away, and it is not sealed.
                unsafe { alloc::release(stack) };
                return;
            }
        }
    }
}

/// Tries again to let those go that are stuck.
pub(crate) fn release_stuck() {
    let stuck = {
        let mut queue = QUEUE.lock();
        let stuck = mem::take(&mut queue.stuck);
        stuck.iter().for_each(|(stack, _)| queue.usage.count(stack.size(), -1));
        stuck
    };
    stuck.into_iter().for_each(|(stack, kind)| release(stack, kind));
}

/// Lets the oldest stack go, if there is one: the allocator has nothing else to give.
pub(crate) fn release_oldest() -> bool {
    let oldest = QUEUE.lock().pop();
    oldest.inspect(|(stack, kind)| release(*stack, *kind)).is_some()
}

pub(crate) fn usage() -> Usage {
    QUEUE.lock().usage
}

/// Back to where it came from; a stack that stays sealed is stuck.
fn release(stack: Stack, kind: Kind) {
    // SAFETY: the stack is in the quarantine no more, so it is ours alone; it was sealed that way.
    unsafe {
        if GUARDS.unseal(stack, kind) {
            alloc::release(stack);
        } else {
            let mut queue = QUEUE.lock();
            queue.stuck.push((stack, kind));
            queue.usage.count(stack.size(), 1);
        }
    }
}

impl Queue {
    fn push(&mut self, stack: Stack, kind: Kind) {
        self.sealed.push_back((stack, kind));
        self.usage.count(stack.size(), 1);
        self.next = (self.next + 1) % QUARANTINE;
    }

    fn pop(&mut self) -> Option<(Stack, Kind)> {
        let entry = (self.next + QUARANTINE - self.sealed.len()) % QUARANTINE;
        let (stack, kind) = self.sealed.pop_front()?;
        TABLE[entry].write(None);
        self.usage.count(stack.size(), -1);
        Some((stack, kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn retired(n: usize) -> Retired {
        Retired {
            stack: Stack { lo: n, hi: n + 1 },
            new: Stack { lo: n + 2, hi: n + 3 },
            goid: n as u64 + 4,
            pc: n + 5,
            when: n as u64 + 6,
        }
    }

    #[test]
    fn an_entry_is_read_as_it_was_written_or_not_at_all() {
        let entry = Entry::new();
        assert_eq!(entry.read(), None);
        entry.write(Some(retired(10)));
        assert_eq!(entry.read(), Some(retired(10)));
        entry.write(None);
        assert_eq!(entry.read(), None);
        thread::scope(|scope| {
            scope.spawn(|| (1..200_000).for_each(|n| entry.write(Some(retired(n)))));
            for _ in 0..200_000 {
                if let Some(seen) = entry.read() {
                    assert_eq!(seen, retired(seen.stack.lo), "a mixture");
                }
            }
        });
    }

    #[test]
    fn an_interrupted_writer_is_not_waited_for() {
        let entry = Entry::new();
        entry.write(Some(retired(10)));
        entry.version.fetch_add(1, Relaxed);
        assert_eq!(entry.read(), None);
    }
}
