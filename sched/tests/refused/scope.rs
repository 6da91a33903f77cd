use std::cell::Cell;
use std::rc::Rc;

fn outlives_its_scope() {
    morestack::scope(|s| {
        let inner = String::new();
        s.spawn(|| inner.len());
    });
}

fn two_writers() {
    let mut n = 0;
    morestack::scope(|s| {
        s.spawn(|| n += 1);
        s.spawn(|| n += 1);
    });
}

fn escapes() {
    let mut kept = None;
    morestack::scope(|s| {
        kept = Some(s.spawn(|| ()));
    });
}

fn not_send() {
    let (rc, cell) = (Rc::new(1), Cell::new(1));
    morestack::scope(|s| {
        s.spawn(|| *rc);
        s.spawn(|| cell.get());
        s.spawn(|| Rc::new(1));
    });
}

fn main() {}
