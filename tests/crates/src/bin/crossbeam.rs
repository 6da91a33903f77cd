//! Channels and scoped threads that borrow locals, queues, epochs; the threads are the system's.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Acquire, Release, SeqCst};

use crossbeam::atomic::AtomicCell;
use crossbeam::channel::{bounded, select, unbounded};
use crossbeam::epoch::{self, Atomic, Owned};
use crossbeam::queue::{ArrayQueue, SegQueue};
use crossbeam::sync::{ShardedLock, WaitGroup};

use crates::source::Source;

/// A stack by Treiber, whose nodes are freed when nobody looks at them.
struct Stack<T> {
    head: Atomic<Node<T>>,
}

struct Node<T> {
    value: Option<T>,
    next: Atomic<Node<T>>,
}

impl<T> Stack<T> {
    fn push(&self, value: T) {
        let guard = &epoch::pin();
        let mut node = Owned::new(Node { value: Some(value), next: Atomic::null() });
        loop {
            let head = self.head.load(Acquire, guard);
            node.next.store(head, Release);
            match self.head.compare_exchange(head, node, SeqCst, Acquire, guard) {
                Ok(_) => return,
                Err(error) => node = error.new,
            }
        }
    }

    fn pop(&self) -> Option<T> {
        let guard = &epoch::pin();
        loop {
            let head = self.head.load(Acquire, guard);
            // SAFETY: pinned since before it was loaded.
            let node = unsafe { head.as_ref() }?;
            let next = node.next.load(Acquire, guard);
            if self.head.compare_exchange(head, next, SeqCst, Acquire, guard).is_ok() {
                // SAFETY: taken out of the stack by this thread alone; others that look at it do not read the value.
                return unsafe {
                    guard.defer_destroy(head);
                    (*head.as_raw().cast_mut()).value.take()
                };
            }
        }
    }
}

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let numbers: Vec<u64> = (0..200).map(|_| source.below(1000)).collect();
    let stack = Stack { head: Atomic::null() };
    let (queue, small) = (SegQueue::new(), ArrayQueue::new(8));
    let (sender, receiver) = bounded::<(usize, u64)>(4);
    let (names, named) = unbounded();
    let total = AtomicUsize::new(0);
    let cell = AtomicCell::new((0u8, [0u64; 3]));
    let lock = ShardedLock::new(Vec::new());
    let group = WaitGroup::new();
    let mut received = Vec::new();
    crossbeam::scope(|scope| {
        for (i, part) in numbers.chunks(50).enumerate() {
            let (sender, names, group) = (sender.clone(), names.clone(), group.clone());
            let (stack, queue, total, lock) = (&stack, &queue, &total, &lock);
            scope.spawn(move |scope| {
                for n in part {
                    stack.push(*n);
                    queue.push(*n);
                    sender.send((i, *n)).unwrap();
                }
                scope.spawn(move |_| total.fetch_add(part.len(), SeqCst));
                lock.write().unwrap().push(i);
                names.send(format!("t{i}")).unwrap();
                drop(group);
            });
        }
        drop((sender, names));
        let mut open = true;
        while open {
            select! {
                recv(receiver) -> item => match item {
                    Ok(item) => received.push(item),
                    Err(_) => open = false,
                },
                default(std::time::Duration::from_secs(60)) => panic!("nobody sends"),
            }
        }
        group.wait();
    })
    .unwrap();
    for n in &numbers {
        small.force_push(*n);
        cell.store((1, [*n, cell.load().1[0], 7]));
    }
    let mut names: Vec<String> = named.iter().collect();
    names.sort();
    received.sort();
    let mut popped: Vec<u64> = std::iter::from_fn(|| stack.pop()).collect();
    popped.sort_by(|a, b| b.cmp(a));
    let queued: u64 = std::iter::from_fn(|| queue.pop()).sum();
    let small: Vec<u64> = std::iter::from_fn(|| small.pop()).collect();
    let mut order = lock.read().unwrap().clone();
    order.sort();
    format!("{names:?} {order:?} {total:?} {queued} {:?} {small:?}\n{received:?}\n{popped:?}", cell.load())
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
