//! A runtime of one thread, which is the green one: tasks, channels, timers, select, local sets; a panic in a task.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::sync::{Barrier, Mutex, Notify, broadcast, mpsc, oneshot, watch};
use tokio::task::{JoinSet, LocalSet, yield_now};
use tokio::time::{sleep, timeout};

use crates::source::Source;

async fn fib(n: u64) -> u64 {
    if n < 2 {
        return n;
    }
    yield_now().await;
    Box::pin(fib(n - 1)).await + Box::pin(fib(n - 2)).await
}

async fn all(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let (sender, mut receiver) = mpsc::channel(3);
    let mut tasks = JoinSet::new();
    for i in 0..8u64 {
        let sender = sender.clone();
        let words = source.words(4);
        tasks.spawn(async move {
            for word in words.split(' ') {
                sender.send((i, word.len() as u64)).await.unwrap();
                yield_now().await;
            }
            fib(i).await
        });
    }
    drop(sender);
    let mut received = Vec::new();
    while let Some(item) = receiver.recv().await {
        received.push(item);
    }
    received.sort();
    let mut fibs = tasks.join_all().await;
    fibs.sort();
    let panicked = tokio::spawn(async { panic!("in a task") }).await;
    let message = panicked.map(|(): ()| ()).unwrap_err().into_panic().downcast_ref::<&str>().copied();
    let (done, is_done) = oneshot::channel();
    let (watched, mut watching) = watch::channel(0);
    let (broadcast, mut listener) = broadcast::channel(4);
    let notify = std::sync::Arc::new(Notify::new());
    let notified = notify.clone();
    tokio::spawn(async move {
        notified.notified().await;
        (1..4).for_each(|i| _ = broadcast.send(i));
        watched.send(9).unwrap();
        done.send("done").unwrap();
    });
    notify.notify_one();
    let chosen = tokio::select! {
        biased;
        () = sleep(Duration::from_secs(60)) => "late",
        word = is_done => word.unwrap(),
    };
    watching.changed().await.unwrap();
    let heard = [listener.recv().await, listener.recv().await];
    let late = timeout(Duration::from_millis(2), std::future::pending::<()>()).await.map_err(|e| e.to_string());
    let (mut left, mut right) = duplex(16);
    let text = source.words(20);
    let (_, read) = tokio::join!(
        async {
            left.write_all(text.as_bytes()).await.unwrap();
            left.shutdown().await.unwrap();
        },
        async {
            let mut read = String::new();
            right.read_to_string(&mut read).await.unwrap();
            read
        }
    );
    let lock = Mutex::new(1u64);
    let barrier = Barrier::new(2);
    let (a, b) = tokio::join!(
        async {
            barrier.wait().await;
            *lock.lock().await *= 3;
            lock.lock().await.to_string().len()
        },
        async {
            *lock.lock().await += 1;
            barrier.wait().await.is_leader()
        }
    );
    format!(
        "{received:?} {fibs:?} {message:?} {chosen} {} {heard:?} {late:?} {} {a} {b}",
        *watching.borrow(),
        read == text
    )
}

fn run(seed: u64) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let text = runtime.block_on(all(seed));
    let local = LocalSet::new();
    let shared = Rc::new(RefCell::new(Vec::new()));
    for i in 0..5 {
        let shared = shared.clone();
        local.spawn_local(async move {
            sleep(Duration::from_micros(300 - 50 * i)).await;
            shared.borrow_mut().push(i);
        });
    }
    runtime.block_on(local);
    let mut pushed = shared.take();
    pushed.sort();
    format!("{text} {pushed:?}")
}

fn main() {
    crates::main(crates::Threads::One, run);
}
