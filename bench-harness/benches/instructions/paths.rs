//! The paths. Each runs on a green thread of a runtime with one worker, and does so many operations.

use std::hint::black_box;

use morestack::{channel, current, park, spawn, sync::Mutex, yield_now};
use morestack_asm::systemstack;
use morestack_stacks::{FIXED_STACK, StackCache, stackalloc, stackfree};

/// Two threads that yield to each other.
pub(crate) fn switch(switches: u64) {
    let other = spawn(move || (0..switches / 2).for_each(|_| yield_now()));
    (0..switches / 2).for_each(|_| yield_now());
    other.join().expect("no panic");
}

/// Two threads that wake each other in turns, and wait to be woken.
pub(crate) fn wake(wakes: u64) {
    let first = current();
    let second = spawn(move || {
        for _ in 0..wakes / 2 {
            park();
            first.unpark();
        }
    });
    for _ in 0..wakes / 2 {
        second.thread().unpark();
        park();
    }
    second.join().expect("no panic");
}

/// Messages that go from one thread to another, which waits for each: there is room for `capacity`.
fn messages(messages: u64, capacity: usize) {
    let (sender, receiver) = channel::bounded(capacity);
    let other = spawn(move || receiver.iter().sum::<u64>());
    (0..messages).for_each(|n| sender.send(n).expect("a receiver"));
    drop(sender);
    assert_eq!(other.join().expect("no panic"), messages * (messages - 1) / 2);
}

/// A rendezvous for each.
pub(crate) fn rendezvous(n: u64) {
    messages(n, 0);
}

/// The sender goes on until the buffer is full.
pub(crate) fn buffered(n: u64) {
    messages(n, 64);
}

/// Threads that end at once, joined one after the other.
pub(crate) fn spawn_join(threads: u64) {
    (0..threads).for_each(|n| assert_eq!(spawn(move || n).join().expect("no panic"), n));
}

/// Threads that end at once, joined when all have been started.
pub(crate) fn spawn_many(threads: u64) {
    const CROWD: u64 = 50;
    for _ in 0..threads / CROWD {
        let crowd: [_; CROWD as usize] = std::array::from_fn(|n| spawn(move || n));
        crowd.into_iter().enumerate().for_each(|(n, thread)| assert_eq!(thread.join().expect("no panic"), n));
    }
}

/// A stack from the cache, and back.
pub(crate) fn stack(stacks: u64) {
    let mut cache = StackCache::new();
    systemstack(|| {
        for _ in 0..stacks {
            let stack = stackalloc(Some(&mut cache), FIXED_STACK).expect("a stack");
            // SAFETY: it came from `stackalloc`, and nothing runs on it.
            unsafe { stackfree(Some(&mut cache), black_box(stack)) };
        }
    });
}

/// A lock that nobody else has.
pub(crate) fn lock(locks: u64) {
    let mutex = Mutex::new(0);
    (0..locks).for_each(|_| *mutex.lock() += 1);
    assert_eq!(mutex.into_inner(), locks);
}

/// Calls of a function with a check.
pub(crate) fn checked(calls: u64) {
    #[morestack::prologue]
    #[inline(never)]
    fn next(n: u64) -> u64 {
        black_box(n) + 1
    }
    assert_eq!((0..calls).fold(0, |n, _| next(n)), calls);
}

/// The same without one.
pub(crate) fn unchecked(calls: u64) {
    #[inline(never)]
    fn next(n: u64) -> u64 {
        black_box(n) + 1
    }
    assert_eq!((0..calls).fold(0, |n, _| next(n)), calls);
}
