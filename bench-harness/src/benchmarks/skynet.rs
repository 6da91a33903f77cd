//! Skynet: a tree of threads whose answers come by channels.
//!
//! ```text
//!   root ── spawns 10, each with a sender of its channel; adds up what comes
//!     └── 10 ── 10 each ── ... ── a million leaves, each sends its number
//! ```
//!
//! A million leaves and 111,111 that spawn ten each, each of these with a channel. What is measured is creating, starting and
//! ending threads that do little more than send one value to one that waits for it.
//!
//! may is not among the peers: its run did not end within ten minutes.
//!
//! <https://github.com/atemerev/skynet>.

use std::pin::Pin;
use std::time::{Duration, Instant};

use morestack::channel;

use super::peers::{self, Smol};
use super::{Benchmark, Start, on, runtime};
use crate::go;
use crate::measure::{Contender, Unit};

pub(super) const BENCHMARK: Benchmark = Benchmark {
    name: "skynet",
    about: "a tree of threads ten wide, answers over channels, two workers",
    operation: "leaf",
    unit: Unit::Nanoseconds,
    contenders,
};

const CHILDREN: u64 = 10;
const WORKERS: usize = 2;
const LEAVES: u64 = 1_000_000;

fn contenders() -> Vec<Contender> {
    let green = |start| {
        on(
            || runtime(WORKERS),
            move |runtime, leaves| measured(leaves, |leaves| runtime.run(move || root(leaves, start))),
        )
    };
    let tokio = on(
        || peers::tokio(WORKERS),
        |runtime, leaves| {
            measured(leaves, |leaves| {
                peers::run_tokio(runtime, async move {
                    let (sender, mut receiver) = ::tokio::sync::mpsc::channel(1);
                    ::tokio::spawn(tokio(sender, 0, leaves));
                    receiver.recv().await.expect("an answer")
                })
            })
        },
    );
    let smol = on(
        || peers::smol(WORKERS),
        |&executor, leaves| {
            measured(leaves, |leaves| {
                peers::run_smol(executor, async move {
                    let (sender, receiver) = async_channel::bounded(1);
                    executor.spawn(smol(executor, sender, 0, leaves)).detach();
                    receiver.recv().await.expect("an answer")
                })
            })
        },
    );
    let mut contenders = vec![
        Contender::own("spawn", LEAVES, green(Start::Spawn)),
        Contender::own("go", LEAVES, green(Start::Go)),
        Contender::peer("tokio, mpsc", LEAVES, tokio),
        Contender::peer("smol, async-channel", LEAVES, smol),
    ];
    contenders.extend(go::peer("skynet", WORKERS, LEAVES));
    contenders
}

/// The time for so many leaves: of the largest tree that has no more, in proportion.
fn measured(leaves: u64, run: impl FnOnce(u64) -> u64) -> Duration {
    let size = CHILDREN.pow(leaves.ilog(CHILDREN));
    let started = Instant::now();
    let sum = run(size);
    let time = started.elapsed();
    assert_eq!(sum, size * (size - 1) / 2);
    time.mul_f64(leaves as f64 / size as f64)
}

/// The first leaves of the children of a node that has `size` of them from `first` on.
fn children(first: u64, size: u64) -> impl Iterator<Item = u64> {
    (0..CHILDREN).map(move |child| first + child * (size / CHILDREN))
}

fn root(leaves: u64, start: Start) -> u64 {
    let (sender, receiver) = channel::bounded(1);
    // SAFETY: the closure lends nothing of its stack to anybody but channels.
    drop(unsafe { start.start(move || green(&sender, 0, leaves, start)) });
    receiver.recv().expect("an answer")
}

fn green(answer: &channel::Sender<u64>, first: u64, size: u64, start: Start) {
    if size == 1 {
        return answer.send(first).expect("a receiver");
    }
    let (sender, receiver) = channel::bounded(CHILDREN as usize);
    for first in children(first, size) {
        let sender = sender.clone();
        // SAFETY: as above.
        drop(unsafe { start.start(move || green(&sender, first, size / CHILDREN, start)) });
    }
    answer.send(receiver.iter().take(CHILDREN as usize).sum()).expect("a receiver");
}

fn tokio(answer: ::tokio::sync::mpsc::Sender<u64>, first: u64, size: u64) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        let mut sum = first;
        if size > 1 {
            let (sender, mut receiver) = ::tokio::sync::mpsc::channel(CHILDREN as usize);
            for first in children(first, size) {
                ::tokio::spawn(tokio(sender.clone(), first, size / CHILDREN));
            }
            sum = 0;
            for _ in 0..CHILDREN {
                sum += receiver.recv().await.expect("an answer");
            }
        }
        answer.send(sum).await.expect("a receiver");
    })
}

fn smol(
    executor: Smol,
    answer: async_channel::Sender<u64>,
    first: u64,
    size: u64,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        let mut sum = first;
        if size > 1 {
            let (sender, receiver) = async_channel::bounded(CHILDREN as usize);
            for first in children(first, size) {
                executor.spawn(smol(executor, sender.clone(), first, size / CHILDREN)).detach();
            }
            sum = 0;
            for _ in 0..CHILDREN {
                sum += receiver.recv().await.expect("an answer");
            }
        }
        answer.send(sum).await.expect("a receiver");
    })
}
