//! S16: a parked stack is moved while others complete operations on a slot of it, under a lock: none is lost.

mod common;

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;

use common::{WHY, done, green, peek, poke, serial};
use morestack_asm::GHead;
use morestack_stacks::{
    FIXED_STACK, InFlight, StackCache, copystack, freeze, shrinkstack, stackalloc, stackfree, thaw,
};

/// A channel with one waiter: where its slot is.
static SLOT: Mutex<usize> = Mutex::new(0);

/// The waiter's stack, while it is moved.
struct Lent {
    slot: Range<usize>,
    locked: Option<std::sync::MutexGuard<'static, usize>>,
}

impl Lent {
    /// The slot has so many bytes at `slot`.
    fn bytes(slot: usize, bytes: usize) -> Lent {
        Lent { slot: slot..slot + bytes, locked: None }
    }

    /// The slot is the word at `slot`.
    fn new(slot: usize) -> Lent {
        Lent::bytes(slot, 8)
    }
}

impl InFlight for Lent {
    fn slot(&self) -> Range<usize> {
        self.slot.clone()
    }

    fn lock(&mut self) {
        self.locked = Some(SLOT.lock().unwrap());
    }

    fn unlock(&mut self, delta: usize) {
        let mut slot = self.locked.take().unwrap();
        *slot = slot.wrapping_add(delta);
    }
}

/// Words of the used part below the slot, and above it: the second half of the copy is long enough to be overtaken.
const BELOW: usize = 5;
const ABOVE: usize = 1500;

#[test]
fn a_write_is_in_the_old_place_before_or_in_the_new_place_after() {
    let _one = serial();
    let mut cache = StackCache::new();
    let (written, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let mut words = vec![3; BELOW + 1 + ABOVE];
    words[BELOW] = 0;
    let mut g = green(Some(&mut cache), 8 * FIXED_STACK, &words);
    let slot = |g: &GHead| g.sched.sp + 8 * BELOW;
    *SLOT.lock().unwrap() = slot(&g);
    let moves = thread::scope(|scope| {
        // Whoever completes operations: one after another, each seen to be the last.
        scope.spawn(|| {
            while !stop.load(Relaxed) {
                let slot = SLOT.lock().unwrap();
                let next = written.load(Relaxed) + 1;
                assert_eq!(peek(*slot), next - 1, "what was written last is not in the slot");
                poke(*slot, next);
                written.store(next, Relaxed);
            }
        });
        // A scanner. What is not concurrent by its nature is done under the lock.
        let mut moves = 0;
        while moves < 2_000 || written.load(Relaxed) < 20_000 {
            // SAFETY: the green thread is memory only, and `Lent` keeps the writer out.
            unsafe {
                assert!(shrinkstack(Some(&mut cache), &mut g, Some(&mut Lent::new(slot(&g))), WHY).unwrap());
                let frozen = freeze(Some(&mut cache), &mut g, Some(&mut Lent::new(slot(&g))), WHY).unwrap();
                // The writer writes into the block, and goes on while that thaws.
                thread::yield_now();
                let in_block = *SLOT.lock().unwrap();
                thaw(Some(&mut cache), &mut g, frozen, Some(&mut Lent::new(in_block)), WHY).unwrap();
                let mut writer = SLOT.lock().unwrap();
                copystack(Some(&mut cache), &mut g, 8 * FIXED_STACK, WHY).unwrap();
                *writer = slot(&g);
            }
            moves += 1;
        }
        stop.store(true, Relaxed);
        moves
    });
    assert!(moves >= 2_000);
    assert_eq!(peek(slot(&g)), written.load(Relaxed));
    let rest = (g.sched.sp..g.stack.hi).step_by(8).filter(|addr| *addr != slot(&g));
    assert!(rest.map(peek).all(|word| word == 3), "what is not in flight is copied as ever");
    done(Some(&mut cache), g);
}

/// What is delivered while the waiter is frozen may be an address that was its own: of a local of whoever has its old stack
/// now.
#[test]
fn what_was_written_into_a_block_is_not_relocated() {
    let _one = serial();
    let mut cache = StackCache::new();
    let mut g = green(Some(&mut cache), FIXED_STACK, &[0; 6]);
    let mine = g.sched.sp + 8;
    (0..6).for_each(|i| poke(g.sched.sp + 8 * i, mine));
    *SLOT.lock().unwrap() = g.sched.sp + 16;
    // SAFETY: the green thread is memory only. Its old stack is taken, so that it thaws elsewhere.
    unsafe {
        let frozen = freeze(Some(&mut cache), &mut g, Some(&mut Lent::new(g.sched.sp + 16)), WHY).unwrap();
        let other = stackalloc(Some(&mut cache), FIXED_STACK).unwrap();
        assert!(other.contains(mine));
        let slot = *SLOT.lock().unwrap();
        // Twelve bytes: the second word is only half lent.
        poke(slot, mine);
        thaw(Some(&mut cache), &mut g, frozen, Some(&mut Lent::bytes(slot, 12)), WHY).unwrap();
        stackfree(Some(&mut cache), other);
    }
    let moved = g.sched.sp + 8;
    assert_eq!([0, 1, 2, 3, 4, 5].map(|i| peek(g.sched.sp + 8 * i)), [moved, moved, mine, mine, moved, moved]);
    done(Some(&mut cache), g);
}

/// The part that others cannot reach is copied without their lock.
#[test]
fn the_lock_is_held_for_the_part_they_can_touch() {
    struct Watch {
        end: usize,
        low: usize,
        high: usize,
    }
    impl InFlight for Watch {
        fn slot(&self) -> Range<usize> {
            self.end - 8..self.end
        }
        fn lock(&mut self) {}
        fn unlock(&mut self, delta: usize) {
            assert_eq!(peek((self.end - 8).wrapping_add(delta)), 7, "the slot was copied");
            self.low = self.end.wrapping_add(delta);
            // The allocator's stacks are zero or old; the next word was not copied yet.
            self.high = peek(self.low);
        }
    }
    let _one = serial();
    let mut cache = StackCache::new();
    let mut g = green(Some(&mut cache), 64 * FIXED_STACK, &[7, 8, 9]);
    let mut watch = Watch { end: g.sched.sp + 8, low: 0, high: 0 };
    // SAFETY: the green thread is memory only.
    assert!(unsafe { shrinkstack(Some(&mut cache), &mut g, Some(&mut watch), WHY) }.unwrap());
    assert_eq!(watch.low, g.sched.sp + 8);
    assert_ne!(watch.high, 8, "the rest was copied under the lock");
    assert_eq!([0, 8, 16].map(|at| peek(g.sched.sp + at)), [7, 8, 9]);
    done(Some(&mut cache), g);
}
