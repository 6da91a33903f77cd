//! Nodes that give the thread back: the stack shrinks while it waits, and an untied thread goes on elsewhere.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Duration;

use morestack::{Builder, Stack, Thread, channel, checkpoint, prologue, without_preemption};

use crate::differential::execute::{Digest, execute_with};
use crate::differential::node::{Kind, Node};
use crate::differential::state::{Env, Outcome, mix, mix_all};
use crate::on::{On, STACK_SIZE};

pub(super) const KINDS: &[Kind] = &[
    Kind::new("checkpoint", at_checkpoint, (1, 2), 3),
    Kind::new("yield", yields, (1, 2), 4),
    Kind::new("sleep", sleeps, (1, 2), 2),
    Kind::new("park", parks, (1, 2), 3),
    Kind::new("token", tokens, (1, 2), 2),
    Kind::new("not-preempted", not_preempted, (1, 2), 2),
    Kind::new("shrink", shrinks, (1, 2), 3),
    Kind::new("echo", echoes, (1, 2), 3),
    Kind::new("fork", fork, (1, 2), 2),
];

#[prologue]
fn at_checkpoint(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut local = node.number;
    let value = node.child(0, &mut env.near(&mut local))?;
    checkpoint();
    Ok(mix_all(value, &[local, node.child(1, env)?]))
}

/// Waits with a reference to a local of its own, and to one of a frame above, in use.
#[inline(always)]
fn waiting(node: &Node, env: &mut Env<'_>, wait: impl Fn()) -> Outcome {
    let mut local = node.number;
    let value = node.child(0, &mut env.near(&mut local))?;
    let (mine, near) = (&mut local, &mut *env.near);
    wait();
    *mine = mix(*mine, *near);
    *near ^= value;
    Ok(mix_all(value, &[local, node.child(1, env)?]))
}

#[prologue]
fn yields(node: &Node, env: &mut Env<'_>) -> Outcome {
    waiting(node, env, morestack::yield_now)
}

#[prologue]
fn sleeps(node: &Node, env: &mut Env<'_>) -> Outcome {
    waiting(node, env, || morestack::sleep(Duration::from_micros(node.pick(1, 51))))
}

#[prologue]
fn parks(node: &Node, env: &mut Env<'_>) -> Outcome {
    waiting(node, env, parked)
}

#[prologue]
fn tokens(node: &Node, env: &mut Env<'_>) -> Outcome {
    waiting(node, env, token)
}

/// Parks with the token available.
pub(super) fn token() {
    morestack::current().unpark();
    morestack::park();
}

/// Parks until the waker unparks it.
#[prologue]
pub(super) fn parked() {
    let woken = Arc::new(AtomicBool::new(false));
    ask_waker(woken.clone());
    while !woken.load(Ordering::Acquire) {
        morestack::park();
    }
}

/// An OS thread that unparks whoever asks.
static WAKER: LazyLock<mpsc::Sender<(Thread, Arc<AtomicBool>)>> = LazyLock::new(|| {
    let (sender, receiver) = mpsc::channel::<(Thread, Arc<AtomicBool>)>();
    thread::spawn(move || {
        for (thread, woken) in receiver {
            woken.store(true, Ordering::Release);
            thread.unpark();
        }
    });
    sender
});

/// Not inlined and without a safepoint: what std does with thread-locals in here begins and ends on one OS thread.
#[inline(never)]
fn ask_waker(woken: Arc<AtomicBool>) {
    WAKER.send((morestack::current(), woken)).expect("the waker runs as long as the process");
}

#[prologue]
fn not_preempted(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut local = node.number;
    let value = without_preemption(|| {
        checkpoint();
        node.child(0, &mut env.near(&mut local))
    })?;
    Ok(mix_all(value, &[local, node.child(1, env)?]))
}

/// Asks for so much stack that the next wait shrinks it, and waits with references in all registers that calls keep.
#[prologue]
fn shrinks(node: &Node, env: &mut Env<'_>) -> Outcome {
    let value = node.child(0, env)?;
    match node.pick(0, 3) {
        0 => room_64k(),
        1 => room_150k(),
        _ => room_400k(),
    }
    let words = [node.number, value, 3, 4, 5, 6].map(Cell::new);
    let wait = [parked, yield_then_sleep, || morestack::sleep(Duration::from_micros(1))][node.pick(1, 3) as usize];
    let [a, b, c, d, e, f] = words.each_ref();
    hold(a, b, c, d, e, f, wait);
    let words = words.map(Cell::into_inner);
    *env.near = mix_all(*env.near, &words);
    wait();
    Ok(mix_all(node.child(1, env)?, &words))
}

type Word<'a> = &'a Cell<u64>;

/// Six references live across the call of `wait`: as many as there are registers that a call keeps.
#[inline(never)]
fn hold(a: Word<'_>, b: Word<'_>, c: Word<'_>, d: Word<'_>, e: Word<'_>, f: Word<'_>, wait: fn()) {
    wait();
    a.set(mix(a.get(), f.get()));
    b.set(mix(b.get(), a.get()));
    c.set(mix(c.get(), b.get()));
    d.set(mix(d.get(), c.get()));
    e.set(mix(e.get(), d.get()));
    f.set(mix(f.get(), e.get()));
}

fn yield_then_sleep() {
    morestack::yield_now();
    morestack::sleep(Duration::from_micros(1));
}

// The checks ask for room that the functions do not use.

#[inline(never)]
#[prologue(frame = 64 << 10)]
fn room_64k() {}

#[inline(never)]
#[prologue(frame = 150 << 10)]
fn room_150k() {}

#[inline(never)]
#[prologue(frame = 400 << 10)]
fn room_400k() {}

/// Passes a value on and gets one back, each from and to a local.
#[prologue]
fn echoes(node: &Node, env: &mut Env<'_>) -> Outcome {
    let mut local = node.number;
    let value = node.child(0, &mut env.near(&mut local))?;
    let words = [node.number, local, value, *env.near, 5, 6, 7];
    let answer = echo(words);
    *env.near = mix_all(*env.near, &answer);
    Ok(mix_all(node.child(1, env)?, &words))
}

type Words = [u64; 7];

/// An OS thread that sends back what it gets.
static ECHO: LazyLock<channel::Sender<(Words, channel::Sender<Words>)>> = LazyLock::new(|| {
    let (sender, receiver) = channel::bounded::<(Words, channel::Sender<Words>)>(0);
    thread::spawn(move || {
        receiver.into_iter().for_each(|(words, to)| to.send(words.map(|w| mix(w, 1))).expect("it waits"))
    });
    sender
});

#[inline(never)]
fn echo(words: Words) -> Words {
    let (sender, receiver) = channel::bounded(0);
    ECHO.send((words, sender)).expect("it runs as long as the process");
    receiver.recv().expect("an answer")
}

/// The fuel of a child on a thread of its own.
const FORK_FUEL: u64 = 40;

/// A child on another thread of the same kind, with a stack of its own, while this one waits for it.
#[prologue]
fn fork(node: &Node, env: &mut Env<'_>) -> Outcome {
    let fuel = FORK_FUEL.min(env.run.fuel.get() / 4);
    env.run.fuel.set(env.run.fuel.get() - fuel);
    let mut local = node.number;
    let value = if fuel > 0 && !node.children.is_empty() {
        let digest = on_another(env.run.on, node.children[0].clone(), fuel);
        env.run.panics.set(env.run.panics.get() + digest.panics);
        mix_all(digest.hash, &[digest.log, digest.drops, digest.nodes, digest.depth])
    } else {
        0
    };
    Ok(mix_all(value, &[node.child(1, &mut env.near(&mut local))?, local]))
}

#[inline(never)]
fn on_another(on: On, child: Arc<Node>, fuel: u64) -> Digest {
    let f = move || execute_with(&child, on, fuel);
    let result = match on {
        On::Os => thread::Builder::new().stack_size(STACK_SIZE).spawn(f).expect("a thread").join(),
        On::Spawn => morestack::spawn(f).join(),
        // SAFETY: programs keep the contract of `go`: see the module `differential`.
        On::Go => unsafe { Builder::new().stack(Stack::Copying).spawn_untied(f) }.expect("a thread").join(),
    };
    result.unwrap_or_else(|payload| std::panic::resume_unwind(payload))
}
