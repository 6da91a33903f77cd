use std::cell::Cell;
use std::rc::Rc;
use std::sync::MutexGuard as StdGuard;

use morestack::sync::{Condvar, LazyLock, Mutex, MutexGuard, OnceLock, RwLock, RwLockReadGuard, RwLockWriteGuard};

fn sent<T: Send>() {}
fn shared<T: Sync>() {}

fn locks() {
    shared::<Mutex<Cell<u8>>>();
    shared::<Mutex<Rc<u8>>>();
    sent::<Mutex<Rc<u8>>>();
    sent::<RwLock<Cell<u8>>>();
    shared::<RwLock<Cell<u8>>>();
    shared::<RwLock<StdGuard<'static, u8>>>();
    sent::<OnceLock<Rc<u8>>>();
    shared::<OnceLock<Cell<u8>>>();
    shared::<LazyLock<Cell<u8>>>();
    shared::<LazyLock<u8, Rc<u8>>>();
    sent::<LazyLock<u8, Rc<u8>>>();
    shared::<OnceLock<StdGuard<'static, u8>>>();
}

fn guards() {
    // They may be sent, unlike std's.
    sent::<MutexGuard<'static, u8>>();
    sent::<RwLockReadGuard<'static, u8>>();
    sent::<RwLockWriteGuard<'static, u8>>();
    shared::<MutexGuard<'static, u8>>();
    shared::<MutexGuard<'static, Cell<u8>>>();
    shared::<RwLockReadGuard<'static, Cell<u8>>>();
    sent::<RwLockWriteGuard<'static, Rc<u8>>>();
}

fn a_reference_beyond_its_guard() {
    let mutex = Mutex::new(1);
    let inside: &i32 = {
        let guard = mutex.lock();
        &*guard
    };
    assert_eq!(*inside, 1);
}

fn a_guard_beyond_its_lock() {
    let guard = {
        let lock = RwLock::new(1);
        lock.read()
    };
    drop(guard);
}

fn another_guard() {
    let std = std::sync::Mutex::new(1);
    Condvar::new().wait(&mut std.lock().unwrap());
}

fn main() {}
