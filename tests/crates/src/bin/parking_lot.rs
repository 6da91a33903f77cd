//! Locks by threads of the system and by this one: guards that are mapped, upgraded, handed on; conditions; panics.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{
    Condvar, MappedMutexGuard, Mutex, MutexGuard, Once, ReentrantMutex, RwLock, RwLockUpgradableReadGuard,
};

use crates::source::Source;

/// A lock that is taken again at each level.
fn nest(lock: &ReentrantMutex<std::cell::Cell<u64>>, depth: u64) -> u64 {
    let guard = lock.lock();
    guard.set(guard.get() * 3 + depth);
    if depth == 0 { guard.get() } else { nest(lock, depth - 1) }
}

fn part<'a>(guard: MutexGuard<'a, (u64, Vec<u64>)>) -> MappedMutexGuard<'a, Vec<u64>> {
    MutexGuard::map(guard, |both| &mut both.1)
}

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let numbers: Vec<u64> = (0..60).map(|_| source.below(100)).collect();
    let (total, map, once) = (Mutex::new((0, Vec::new())), RwLock::new(vec![0u64; 10]), Once::new());
    let turn = (Mutex::new(0usize), Condvar::new());
    let mut order = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for (i, chunk) in numbers.chunks(20).enumerate() {
            let (total, map, once, turn, order) = (&total, &map, &once, &turn, &order);
            scope.spawn(move || {
                for n in chunk {
                    total.lock().0 += n;
                    part(total.lock()).push(*n);
                    let guard = map.upgradable_read();
                    if guard[(*n % 10) as usize] < 1000 {
                        RwLockUpgradableReadGuard::upgrade(guard)[(*n % 10) as usize] += n;
                    }
                }
                once.call_once(|| order.lock().push(99));
                let mut now = turn.0.lock();
                turn.1.wait_while(&mut now, |now| *now != i);
                order.lock().push(i);
                *now += 1;
                turn.1.notify_all();
            });
        }
        let mut now = turn.0.lock();
        while *now != 3 {
            turn.1.wait_for(&mut now, Duration::from_secs(60));
        }
    });
    let kept = Arc::new(Mutex::new(String::new()));
    let guard = Mutex::lock_arc(&kept);
    let locked = kept.try_lock().is_none();
    drop(guard);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let mut guard = kept.lock();
        guard.push_str("begun");
        assert!(guard.is_empty(), "not empty");
    }));
    let (sum, mut seen) = total.into_inner();
    seen.sort();
    let text = kept.lock().clone();
    format!(
        "{sum} {seen:?} {:?} {:?} {locked} {text} {} {}",
        map.read(),
        order.get_mut(),
        panicked.is_err(),
        nest(&ReentrantMutex::new(1.into()), 12)
    )
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
