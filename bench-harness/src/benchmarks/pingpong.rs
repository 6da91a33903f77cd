//! What it costs to wake another and to be woken by it.
//!
//! ```text
//!   player 0   hit ──►                  hit ──►             a round trip is two wakes and two waits
//!   player 1           wait, hit ──►            ...
//! ```
//!
//! Two threads pass a number to and fro, each adding one: by park and unpark, or through two channels. With two workers
//! each scheduler decides whether the two share one, as it does in a program; a wake of another worker that sleeps costs
//! a system call. OS threads are on one core where the schedulers have one worker. In the group *apart* each player has a
//! worker, or a core, of its own: the first keeps its worker until the second has begun on another.
//!
//! Who has no park has the nearest thing: tokio its `Notify`, smol a channel. may has no channel with a capacity.

use std::hint;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use core_affinity::CoreId;
use morestack::{Runtime, channel};
use tokio::sync::Notify;

use super::peers::{self, Smol};
use super::{Benchmark, Start, on, runtime};
use crate::go;
use crate::measure::{Contender, Unit};

pub(super) const BENCHMARK: Benchmark = Benchmark {
    name: "pingpong",
    about: "two threads that wake each other in turns",
    operation: "round trip",
    unit: Unit::Nanoseconds,
    contenders,
};

/// Two seconds where every wake is a system call and another processor's to answer, some milliseconds where none is.
const ROUNDS: u64 = 50_000;

/// Those of OS threads, which always take so long.
const OS_ROUNDS: u64 = 5_000;

fn contenders() -> Vec<Contender> {
    let apart = [
        Contender::own(
            "spawn",
            OS_ROUNDS,
            on(|| runtime(2), |runtime, rounds| park(runtime, rounds, Start::Spawn, true)),
        ),
        Contender::peer("std::thread, park", OS_ROUNDS, |rounds| os_park(rounds, Some([0, 1]))),
    ];
    let apart = apart.into_iter().map(|contender| contender.in_group("park, 2 workers, apart"));
    let groups = [(1, "park, 1 worker", "channel, 1 worker"), (2, "park, 2 workers", "channel, 2 workers")];
    let both = groups.into_iter().flat_map(|(workers, park, channel)| {
        let parks = parks(workers).into_iter().map(move |contender| contender.in_group(park));
        parks.chain(channels(workers).into_iter().map(move |contender| contender.in_group(channel)))
    });
    both.chain(apart).collect()
}

fn parks(workers: usize) -> Vec<Contender> {
    let green = |start| on(move || runtime(workers), move |runtime, rounds| park(runtime, rounds, start, false));
    vec![
        Contender::own("spawn", ROUNDS, green(Start::Spawn)),
        Contender::own("go", ROUNDS, green(Start::Go)),
        Contender::peer("tokio, Notify", ROUNDS, on(move || peers::tokio(workers), notify)),
        Contender::peer("may, park", ROUNDS, peers::may(workers, may_park)).fresh(),
        Contender::peer("std::thread, park", OS_ROUNDS, move |rounds| {
            os_park(rounds, (workers == 1).then_some([0, 0]))
        }),
    ]
}

fn channels(workers: usize) -> Vec<Contender> {
    let green = |start, capacity| {
        on(move || runtime(workers), move |runtime, rounds| channel(runtime, rounds, start, capacity))
    };
    let os = |capacity| move |rounds| os_channel(rounds, core(workers), capacity);
    let mut contenders = vec![
        Contender::own("spawn, bounded(1)", ROUNDS, green(Start::Spawn, 1)),
        Contender::own("spawn, bounded(0)", ROUNDS, green(Start::Spawn, 0)),
        Contender::own("go, bounded(1)", ROUNDS, green(Start::Go, 1)),
        Contender::own("go, bounded(0)", ROUNDS, green(Start::Go, 0)),
        Contender::peer("tokio, mpsc(1)", ROUNDS, on(move || peers::tokio(workers), tokio_channel)),
        Contender::peer(
            "smol, bounded(1)",
            ROUNDS,
            on(move || peers::smol(workers), |smol, rounds| smol_channel(smol, rounds)),
        ),
        Contender::peer("std::thread, sync_channel(1)", OS_ROUNDS, os(1)),
        Contender::peer("std::thread, sync_channel(0)", OS_ROUNDS, os(0)),
    ];
    contenders.extend(go::peer("pingpong1", workers, ROUNDS).map(|go| go.named("Go, capacity 1")));
    contenders.extend(go::peer("pingpong0", workers, ROUNDS).map(|go| go.named("Go, capacity 0")));
    contenders
}

/// The core that OS threads share if there is one worker.
fn core(workers: usize) -> Option<CoreId> {
    let cores = core_affinity::get_core_ids()?;
    cores.into_iter().next().filter(|_| workers == 1)
}

fn pin(core: Option<CoreId>) {
    assert!(core.is_none_or(core_affinity::set_for_current), "a core to run on");
}

/// The number of hits. Player 0 has the turn at even numbers, player 1 at odd ones.
#[derive(Default)]
struct Ball(AtomicU64);

impl Ball {
    fn is_for(&self, me: u64) -> bool {
        self.0.load(SeqCst) % 2 == me
    }

    /// A plain load and store each: only one of the two has the turn.
    fn hit(&self) {
        self.0.store(self.0.load(Relaxed) + 1, SeqCst);
    }

    fn check(&self, rounds: u64) {
        assert_eq!(self.0.load(SeqCst), 2 * rounds, "hits");
    }
}

/// A player's part.
fn play(me: u64, rounds: u64, ball: &Ball, wait: impl Fn(), wake: impl Fn()) {
    for _ in 0..rounds {
        while !ball.is_for(me) {
            wait();
        }
        ball.hit();
        wake();
    }
}

fn park(runtime: &Runtime, rounds: u64, start: Start, apart: bool) -> Duration {
    let ball = Arc::new(Ball::default());
    let begun = Arc::new(AtomicBool::new(!apart));
    let balls = [ball.clone(), ball.clone()];
    let time = runtime.run(move || {
        let [mine, other] = balls;
        let first = move || {
            let started = Instant::now();
            let me = morestack::current();
            let second = {
                let begun = begun.clone();
                move || {
                    begun.store(true, SeqCst);
                    play(1, rounds, &other, morestack::park, || me.unpark());
                }
            };
            // SAFETY: the closure lends nothing of its stack to anybody.
            let second = unsafe { start.start(second) };
            while !begun.load(SeqCst) {
                hint::spin_loop();
            }
            play(0, rounds, &mine, morestack::park, || second.thread().unpark());
            second.join().expect("no panic");
            started.elapsed()
        };
        // SAFETY: as above.
        unsafe { start.start(first) }.join().expect("no panic")
    });
    ball.check(rounds);
    time
}

fn may_park(rounds: u64) -> Duration {
    let ball = Arc::new(Ball::default());
    let started = Instant::now();
    let first = {
        let ball = ball.clone();
        move || {
            let me = may::coroutine::current();
            let second = {
                let ball = ball.clone();
                move || play(1, rounds, &ball, may::coroutine::park, || me.unpark())
            };
            let second = peers::go_may(second);
            play(0, rounds, &ball, may::coroutine::park, || second.coroutine().unpark());
            second.join().expect("no panic");
        }
    };
    peers::go_may(first).join().expect("no panic");
    let time = started.elapsed();
    ball.check(rounds);
    time
}

/// On these of the cores, if any are given.
fn os_park(rounds: u64, cores: Option<[usize; 2]>) -> Duration {
    let ids = core_affinity::get_core_ids().unwrap_or_default();
    let [mine, other] = [0, 1].map(|player| cores.and_then(|cores| ids.get(cores[player]).copied()));
    let ball = Arc::new(Ball::default());
    let first = {
        let ball = ball.clone();
        move || {
            pin(mine);
            let me = thread::current();
            let second = {
                let ball = ball.clone();
                move || {
                    pin(other);
                    play(1, rounds, &ball, thread::park, || me.unpark());
                }
            };
            let started = Instant::now();
            let second = thread::spawn(second);
            play(0, rounds, &ball, thread::park, || second.thread().unpark());
            second.join().expect("no panic");
            started.elapsed()
        }
    };
    let time = thread::spawn(first).join().expect("no panic");
    ball.check(rounds);
    time
}

/// Two of tokio's that notify each other.
fn notify(runtime: &tokio::runtime::Runtime, rounds: u64) -> Duration {
    async fn play(me: usize, rounds: u64, ball: Arc<Ball>, players: Arc<[Notify; 2]>) {
        for _ in 0..rounds {
            while !ball.is_for(me as u64) {
                players[me].notified().await;
            }
            ball.hit();
            players[1 - me].notify_one();
        }
    }
    let ball = Arc::new(Ball::default());
    let players = Arc::new([Notify::new(), Notify::new()]);
    let (first, second) = (play(0, rounds, ball.clone(), players.clone()), play(1, rounds, ball.clone(), players));
    let time = peers::run_tokio(runtime, async move {
        let started = Instant::now();
        let (first, second) = (tokio::spawn(first), tokio::spawn(second));
        first.await.expect("no panic");
        second.await.expect("no panic");
        started.elapsed()
    });
    ball.check(rounds);
    time
}

/// Player 0's part through channels: what comes back is one more.
fn serve(rounds: u64, send: impl Fn(u64), recv: impl Fn() -> u64) {
    for n in 0..rounds {
        send(n);
        assert_eq!(recv(), n + 1);
    }
}

/// Player 1's.
fn answer(rounds: u64, send: impl Fn(u64), recv: impl Fn() -> u64) {
    for _ in 0..rounds {
        send(recv() + 1);
    }
}

fn channel(runtime: &Runtime, rounds: u64, start: Start, capacity: usize) -> Duration {
    let ((there, first), (back, second)) = (channel::bounded(capacity), channel::bounded(capacity));
    let first = move || answer(rounds, |n| back.send(n).expect("a receiver"), || first.recv().expect("a sender"));
    let second = move || serve(rounds, |n| there.send(n).expect("a receiver"), || second.recv().expect("a sender"));
    runtime.run(move || {
        let started = Instant::now();
        // SAFETY: the closures lend nothing of their stacks to anybody but the channels.
        let players = unsafe { [start.start(first), start.start(second)] };
        players.into_iter().for_each(|player| player.join().expect("no panic"));
        started.elapsed()
    })
}

fn os_channel(rounds: u64, core: Option<CoreId>, capacity: usize) -> Duration {
    let ((there, first), (back, second)) = (mpsc::sync_channel(capacity), mpsc::sync_channel(capacity));
    let first = move || {
        pin(core);
        answer(rounds, |n| back.send(n).expect("a receiver"), || first.recv().expect("a sender"));
    };
    let second = move || {
        pin(core);
        serve(rounds, |n| there.send(n).expect("a receiver"), || second.recv().expect("a sender"));
    };
    let started = Instant::now();
    let players = [thread::spawn(first), thread::spawn(second)];
    players.into_iter().for_each(|player| player.join().expect("no panic"));
    started.elapsed()
}

fn tokio_channel(runtime: &tokio::runtime::Runtime, rounds: u64) -> Duration {
    use tokio::sync::mpsc::channel;
    let ((there, mut first), (back, mut second)) = (channel(1), channel(1));
    let first = async move {
        for _ in 0..rounds {
            let n: u64 = first.recv().await.expect("a sender");
            back.send(n + 1).await.expect("a receiver");
        }
    };
    let second = async move {
        for n in 0..rounds {
            there.send(n).await.expect("a receiver");
            assert_eq!(second.recv().await.expect("a sender"), n + 1);
        }
    };
    peers::run_tokio(runtime, async move {
        let started = Instant::now();
        let (first, second) = (tokio::spawn(first), tokio::spawn(second));
        first.await.expect("no panic");
        second.await.expect("no panic");
        started.elapsed()
    })
}

fn smol_channel(executor: Smol, rounds: u64) -> Duration {
    use async_channel::bounded;
    let ((there, first), (back, second)) = (bounded(1), bounded(1));
    let first = async move {
        for _ in 0..rounds {
            let n: u64 = first.recv().await.expect("a sender");
            back.send(n + 1).await.expect("a receiver");
        }
    };
    let second = async move {
        for n in 0..rounds {
            there.send(n).await.expect("a receiver");
            assert_eq!(second.recv().await.expect("a sender"), n + 1);
        }
    };
    peers::run_smol(executor, async move {
        let started = Instant::now();
        let (first, second) = (executor.spawn(first), executor.spawn(second));
        first.await;
        second.await;
        started.elapsed()
    })
}
