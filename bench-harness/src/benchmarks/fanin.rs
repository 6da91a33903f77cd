//! Many senders, one receiver.
//!
//! A hundred producers send their share of the messages into one bounded channel, as fast as they can, and a consumer adds
//! them up. The channel is full nearly always: what is measured is how those wait that find no room, and how often anybody
//! is woken.
//!
//! may has no channel with a capacity: its unbounded one is beside it as what a channel costs that nobody waits for.

use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use morestack::{Runtime, channel};

use super::peers::{self, Smol};
use super::{Benchmark, Start, on, runtime};
use crate::go;
use crate::measure::{Contender, Unit};

pub(super) const BENCHMARK: Benchmark = Benchmark {
    name: "fanin",
    about: "100 producers and one consumer, a channel of capacity 64, two workers",
    operation: "message",
    unit: Unit::Nanoseconds,
    contenders,
};

const PRODUCERS: u64 = 100;
const CAPACITY: usize = 64;
const WORKERS: usize = 2;

/// A tenth of a second for most.
const MESSAGES: u64 = 1_000_000;

/// OS threads take so much longer.
const OS_MESSAGES: u64 = 100_000;

fn contenders() -> Vec<Contender> {
    let green = |start| on(|| runtime(WORKERS), move |runtime, messages| green(runtime, messages, start));
    let mut contenders = vec![
        Contender::own("spawn", MESSAGES, green(Start::Spawn)),
        Contender::own("go", MESSAGES, green(Start::Go)),
        Contender::peer("tokio, mpsc", MESSAGES, on(|| peers::tokio(WORKERS), tokio)),
        Contender::peer("smol, async-channel", MESSAGES, on(|| peers::smol(WORKERS), |smol, n| self::smol(smol, n))),
        Contender::peer("may, unbounded", MESSAGES, peers::may(WORKERS, may)).fresh(),
        Contender::peer("std::thread, sync_channel", OS_MESSAGES, os),
    ];
    contenders.extend(go::peer("fanin", WORKERS, MESSAGES));
    contenders
}

/// What each producer sends: 0, 1, and so on.
fn share(messages: u64) -> u64 {
    messages.div_ceil(PRODUCERS)
}

/// The time for so many, from that for as many as all shares are.
fn timed(started: Instant, messages: u64, sum: u64) -> Duration {
    let (time, share) = (started.elapsed(), share(messages));
    assert_eq!(sum, PRODUCERS * (share * (share - 1) / 2));
    time.mul_f64(messages as f64 / (PRODUCERS * share) as f64)
}

fn green(runtime: &Runtime, messages: u64, start: Start) -> Duration {
    runtime.run(move || {
        let started = Instant::now();
        let (sender, receiver) = channel::bounded(CAPACITY);
        // SAFETY: the closures lend nothing of their stacks to anybody but the channel.
        let consumer = unsafe { start.start(move || receiver.iter().sum()) };
        for _ in 0..PRODUCERS {
            let sender = sender.clone();
            let produce = move || (0..share(messages)).for_each(|n| sender.send(n).expect("a receiver"));
            // SAFETY: as above.
            drop(unsafe { start.start(produce) });
        }
        drop(sender);
        timed(started, messages, consumer.join().expect("no panic"))
    })
}

fn tokio(runtime: &::tokio::runtime::Runtime, messages: u64) -> Duration {
    peers::run_tokio(runtime, async move {
        let started = Instant::now();
        let (sender, mut receiver) = ::tokio::sync::mpsc::channel(CAPACITY);
        let consumer = ::tokio::spawn(async move {
            let mut sum = 0;
            while let Some(n) = receiver.recv().await {
                sum += n;
            }
            sum
        });
        for _ in 0..PRODUCERS {
            let sender = sender.clone();
            ::tokio::spawn(async move {
                for n in 0..share(messages) {
                    sender.send(n).await.expect("a receiver");
                }
            });
        }
        drop(sender);
        timed(started, messages, consumer.await.expect("no panic"))
    })
}

fn smol(executor: Smol, messages: u64) -> Duration {
    peers::run_smol(executor, async move {
        let started = Instant::now();
        let (sender, receiver) = async_channel::bounded(CAPACITY);
        let consumer = executor.spawn(async move {
            let mut sum = 0;
            while let Ok(n) = receiver.recv().await {
                sum += n;
            }
            sum
        });
        for _ in 0..PRODUCERS {
            let sender = sender.clone();
            let produce = async move {
                for n in 0..share(messages) {
                    sender.send(n).await.expect("a receiver");
                }
            };
            executor.spawn(produce).detach();
        }
        drop(sender);
        timed(started, messages, consumer.await)
    })
}

fn may(messages: u64) -> Duration {
    let started = Instant::now();
    let (sender, receiver) = ::may::sync::mpsc::channel();
    let consumer = peers::go_may(move || receiver.iter().sum());
    for _ in 0..PRODUCERS {
        let sender = sender.clone();
        drop(peers::go_may(move || (0..share(messages)).for_each(|n| sender.send(n).expect("a receiver"))));
    }
    drop(sender);
    timed(started, messages, consumer.join().expect("no panic"))
}

fn os(messages: u64) -> Duration {
    let started = Instant::now();
    let (sender, receiver) = sync_channel(CAPACITY);
    for _ in 0..PRODUCERS {
        let sender = sender.clone();
        thread::spawn(move || (0..share(messages)).for_each(|n| sender.send(n).expect("a receiver")));
    }
    drop(sender);
    timed(started, messages, receiver.iter().sum())
}
