//! Locals that something outside of the stack refers to while other frames lie above them: the heap, a thread-local, another
//! thread. Safe code does so; the contract of `go` forbids it.

use std::array;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::hint::black_box;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, mpsc};
use std::thread;

use morestack::{checkpoint, prologue, without_preemption};

use crate::differential::node::{Kind, Node};
use crate::differential::state::{Env, Link, Object, Outcome, Run, mix, mix_all};

pub(super) const KINDS: &[Kind] = &[
    Kind::new("listed", listed, (1, 3), 4),
    Kind::new("keyed", keyed, (1, 2), 4),
    Kind::new("boxed-borrow", boxed_borrow, (1, 2), 4),
    Kind::new("boxed-closures", boxed_closures, (1, 2), 4),
    Kind::new("boxed-link", boxed_link, (1, 2), 5),
    Kind::new("boxed-iterator", boxed_iterator, (1, 2), 4),
    Kind::new("queued", queued, (1, 2), 3),
    Kind::new("registered", registered, (1, 3), 6),
    Kind::new("in-task-local", in_task_local, (1, 2), 5),
    Kind::new("in-thread-local", in_thread_local, (1, 2), 3),
    Kind::new("scoped-thread", scoped_thread, (1, 2), 1),
    Kind::new("scoped-green-thread", scoped_green_thread, (1, 2), 2),
];

fn cells<const N: usize>(number: u64) -> [Cell<u64>; N] {
    array::from_fn(|index| Cell::new(number.rotate_left(index as u32 * 5)))
}

fn mix_cells(state: u64, cells: &[Cell<u64>]) -> u64 {
    cells.iter().fold(state, |state, cell| mix(state, cell.get()))
}

/// A list of references, sorted by what they refer to.
#[prologue]
fn listed(node: &Node, env: &mut Env<'_>) -> Outcome {
    let words = cells::<6>(node.number);
    let extra = Cell::new(node.number);
    let mut list: Vec<&Cell<u64>> = words.iter().rev().collect();
    list.insert(node.pick(0, 7) as usize, &extra);
    let mut value = 0;
    for turn in 0..node.children.len() {
        value = mix(value, node.child(turn, env)?);
        list.sort_by_key(|word| {
            checkpoint();
            word.get() % 13
        });
        for word in &list {
            word.set(mix(word.get(), value));
        }
    }
    Ok(mix_cells(mix(value, extra.get()), &words))
}

/// A map of exclusive references, which are lent on one by one.
#[prologue]
fn keyed(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut words = [node.number, 2, 3, 4];
    let mut map: BTreeMap<u64, &mut u64> = BTreeMap::new();
    for (index, word) in words.iter_mut().enumerate() {
        map.insert(node.number.rotate_left(index as u32 * 7) % 100, word);
    }
    let mut value = 0;
    for (turn, (key, word)) in map.iter_mut().enumerate() {
        value = mix(value, node.child(turn, &mut env.near(word))?);
        **word = mix(**word, *key);
    }
    map.retain(|key, word| {
        checkpoint();
        **word ^= value;
        key % 2 == 0
    });
    Ok(mix_all(value, &words))
}

/// What it writes to lies in a frame; itself it lies in the heap.
struct Writes<'a> {
    to: &'a mut [u64],
    count: &'a Cell<u64>,
}

impl Object for Writes<'_> {
    #[inline(never)]
    #[prologue]
    fn call(&mut self, value: u64) -> u64 {
        self.count.set(self.count.get() + 1);
        let slot = &mut self.to[(value % 5) as usize];
        checkpoint();
        *slot = mix(*slot, value);
        *slot
    }

    fn peek(&self) -> u64 {
        mix_all(self.count.get(), self.to)
    }
}

#[prologue]
fn boxed_borrow(node: &Node, env: &mut Env<'_>) -> Outcome {
    let (mut words, count) = ([node.number; 5], Cell::new(0));
    let mut boxed: Box<dyn Object + '_> = Box::new(Writes { to: &mut words, count: &count });
    let value = node.child(0, &mut env.object(&mut *boxed))?;
    let value = mix(value, boxed.call(value));
    let value = mix(value, node.child(1, &mut env.object(&mut *boxed))?);
    drop(boxed);
    Ok(mix(mix_all(value, &words), count.get()))
}

/// A closure in the heap.
type Change<'a> = Box<dyn FnMut(u64) -> u64 + 'a>;

#[prologue]
fn boxed_closures(node: &Node, env: &mut Env<'_>) -> Outcome {
    let (mut first, shared) = (node.number, Cell::new(1));
    let mut value;
    {
        let near = &mut *env.near;
        let mut changes: Vec<Change<'_>> = vec![
            Box::new(|value| {
                first = mix(first, value);
                checkpoint();
                first ^ shared.get()
            }),
            Box::new(|value| shared.replace(value) ^ value),
            Box::new(|value| {
                *near = mix(*near, value);
                *near
            }),
        ];
        value = changes.iter_mut().fold(node.number, |value, change| change(value));
        let mut local = value;
        let mut inner = Env { run: env.run, near: &mut local, far: env.far, object: env.object, chain: env.chain };
        value = mix(node.child(0, &mut inner)?, local);
        value = changes.iter_mut().rev().fold(value, |value, change| change(value));
    }
    Ok(mix_all(mix(value, node.child(1, env)?), &[first, shared.get()]))
}

/// Every second part of the list lies in the heap, and refers to a frame.
#[prologue]
fn boxed_link(node: &Node, env: &mut Env<'_>) -> Outcome {
    let boxed = Box::new(Link { above: Some(env.chain), cell: Cell::new(node.number) });
    let link = Link { above: Some(&boxed), cell: Cell::new(1) };
    let value = node.child(0, &mut env.chain(&link))?;
    let mut sum = value;
    let mut at = Some(&link);
    while let Some(link) = at {
        link.cell.set(mix(link.cell.get(), sum));
        sum = mix(sum, link.cell.get());
        at = link.above;
    }
    let value = mix(sum, node.child(1, &mut env.chain(&link))?);
    Ok(mix_all(value, &[link.cell.get(), boxed.cell.get()]))
}

#[prologue]
fn boxed_iterator(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut words: [u64; 8] = array::from_fn(|index| node.number ^ index as u64);
    let seen = Cell::new(0);
    let mut iterator: Box<dyn Iterator<Item = &mut u64> + '_> =
        Box::new(words.iter_mut().enumerate().filter_map(|(index, word)| {
            checkpoint();
            seen.set(seen.get() + *word % 3);
            (*word % 4 != 1).then(|| {
                *word ^= index as u64;
                word
            })
        }));
    let mut value = 0;
    if let Some(word) = iterator.next() {
        value = node.child(0, &mut env.near(word))?;
    }
    for word in iterator.by_ref().take(2) {
        value = mix(value, node.child(1, &mut env.near(word))?);
    }
    iterator.for_each(|word| *word = mix(*word, value));
    Ok(mix_all(mix(value, seen.get()), &words))
}

#[prologue]
fn queued(node: &Node, env: &mut Env<'_>) -> Outcome {
    let words = cells::<5>(node.number);
    let (sender, receiver) = mpsc::channel::<&Cell<u64>>();
    for index in 0..12 {
        let _ = sender.send(&words[(node.number >> index) as usize % words.len()]);
    }
    let value = node.child(0, env)?;
    for word in receiver.try_iter().step_by(2) {
        word.set(mix(word.get(), value));
    }
    let _ = sender.send(&words[1]);
    let value = mix(value, node.child(1, env)?);
    if let Ok(word) = receiver.try_recv() {
        word.set(word.get() ^ value);
    }
    Ok(mix_cells(value, &words))
}

/// Keeps the address of a local in the run's list until it is dropped: by returning or by unwinding.
struct Registered<'a>(&'a Run, &'a Cell<u64>);

impl<'a> Registered<'a> {
    fn new(run: &'a Run, cell: &'a Cell<u64>) -> Registered<'a> {
        run.registered.borrow_mut().push(cell.into());
        Registered(run, cell)
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        // Frames end in the reverse order.
        self.0.registered.borrow_mut().pop();
        self.0.log_drop(self.1.get());
    }
}

#[prologue]
fn registered(node: &Node, env: &mut Env<'_>) -> Outcome {
    let cell = Cell::new(node.number);
    let _registered = Registered::new(env.run, &cell);
    let mut value = 0;
    for turn in 0..node.children.len() {
        value = mix(value, node.child(turn, env)?);
        for cell in env.run.registered.borrow().iter() {
            // SAFETY: each is taken out before its frame ends.
            let cell = unsafe { cell.as_ref() };
            cell.set(mix(cell.get(), value));
        }
    }
    Ok(mix(value, cell.get()))
}

type Current = Cell<Option<NonNull<Cell<u64>>>>;

morestack::task_local! {
    static OF_TASK: Current = const { Cell::new(None) };
}

/// What the local of the innermost node of this kind was changed to.
fn change_current(current: Option<NonNull<Cell<u64>>>, value: u64) -> u64 {
    let Some(cell) = current else { return 0 };
    // SAFETY: it is set for the length of the calls in which the local lives.
    let cell = unsafe { cell.as_ref() };
    cell.set(mix(cell.get(), value));
    cell.get()
}

#[prologue]
fn in_task_local(node: &Node, env: &mut Env<'_>) -> Outcome {
    struct Restore(Option<NonNull<Cell<u64>>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            OF_TASK.set(self.0);
        }
    }
    let cell = Cell::new(node.number);
    let before = change_current(OF_TASK.get(), node.number);
    let value = {
        let _restore = Restore(OF_TASK.replace(Some((&cell).into())));
        let value = node.child(0, env)?;
        mix(value, change_current(OF_TASK.get(), value))
    };
    Ok(mix_all(mix(value, node.child(1, env)?), &[before, cell.get(), change_current(OF_TASK.get(), value)]))
}

thread_local! {
    static OF_THREAD: Current = const { Cell::new(None) };
}

/// Sets the thread-local for the length of a call. Others of the same OS thread must not come between.
fn with_current<R>(cell: &Cell<u64>, f: impl FnOnce() -> R) -> R {
    let before = OF_THREAD.replace(Some(cell.into()));
    let result = f();
    OF_THREAD.set(before);
    result
}

/// A recursion, at times through std's formatting, whose frames write to a local through the thread-local.
struct Climb(u64);

impl fmt::Display for Climb {
    #[prologue]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", climb(self.0))
    }
}

#[inline(never)]
#[prologue]
fn climb(depth: u64) -> u64 {
    let local = Cell::new(black_box(depth));
    let before = change_current(OF_THREAD.get(), depth);
    let value = match depth {
        0 => 0,
        _ if depth.is_multiple_of(5) => with_current(&local, || climb(depth - 1)),
        _ if depth.is_multiple_of(13) => Climb(depth - 1).to_string().len() as u64,
        _ => climb(depth - 1),
    };
    mix_all(value, &[before, local.get(), change_current(OF_THREAD.get(), value)])
}

#[prologue]
fn in_thread_local(node: &Node, env: &mut Env<'_>) -> Outcome {
    let cell = Cell::new(node.child(0, env)?);
    let depth = 10 + node.pick(0, 40);
    let value = without_preemption(|| with_current(&cell, || climb(depth)));
    Ok(mix_all(value, &[node.child(1, env)?, cell.get()]))
}

/// Locals that two threads write to: sums, so that the order does not matter.
struct Shared<'a> {
    words: &'a [AtomicU64; 3],
    list: Mutex<Vec<&'a AtomicU64>>,
}

impl<'a> Shared<'a> {
    fn new(words: &'a [AtomicU64; 3]) -> Shared<'a> {
        Shared { words, list: Mutex::default() }
    }

    /// What the other thread does. The lock is free while this one waits.
    fn work(&self, number: u64, wait: impl Fn()) -> u64 {
        for round in 0..20 {
            let word = &self.words[(number >> round) as usize % self.words.len()];
            word.fetch_add(round, Relaxed);
            without_preemption(|| self.list.lock().expect("nobody panics with it").push(word));
            wait();
        }
        number ^ 1
    }

    fn sum(self, value: u64) -> u64 {
        for word in self.list.into_inner().expect("nobody panics with it") {
            word.fetch_add(3, Relaxed);
        }
        self.words.iter().fold(value, |value, word| mix(value, word.load(Relaxed)))
    }
}

#[prologue]
fn scoped_thread(node: &Node, env: &mut Env<'_>) -> Outcome {
    let words = array::from_fn(|index| AtomicU64::new(index as u64));
    let shared = Shared::new(&words);
    let (value, other) = thread::scope(|scope| {
        let other = scope.spawn(|| shared.work(node.number, thread::yield_now));
        let value = node.child(0, env);
        words[0].fetch_add(node.number, Relaxed);
        (value, other.join().expect("it returns"))
    });
    Ok(mix_all(shared.sum(value?), &[other, node.child(1, env)?]))
}

#[prologue]
fn scoped_green_thread(node: &Node, env: &mut Env<'_>) -> Outcome {
    let words = array::from_fn(|index| AtomicU64::new(index as u64));
    let shared = Shared::new(&words);
    let number = node.number;
    let (value, other) = morestack::scope(|scope| {
        let other = scope.spawn(|| {
            let cell = Cell::new(1);
            let climbed = without_preemption(|| with_current(&cell, || climb(30)));
            mix_all(climbed, &[cell.get(), shared.work(number, morestack::yield_now)])
        });
        let value = node.child(0, env);
        words[0].fetch_add(number, Relaxed);
        (value, other.join().expect("it returns"))
    });
    Ok(mix_all(shared.sum(value?), &[other, node.child(1, env)?]))
}
