use std::rc::Rc;

use morestack::{Builder, ScopedJoinHandle, scope};

fn captures_are_sent(rc: Rc<u8>) {
    scope(|s| drop(s.spawn(|| drop(rc.clone()))));
}

fn captures_of_builders_are_sent(rc: Rc<u8>) {
    scope(|s| drop(Builder::new().spawn_scoped(s, || drop(rc.clone()))));
}

fn results_are_sent() {
    scope(|s| {
        s.spawn(|| Rc::new(1));
        Builder::new().spawn_scoped(s, || Rc::new(1)).unwrap();
    });
}

fn a_handle_that_outlives(kept: &mut Option<ScopedJoinHandle<'static, usize>>) {
    let text = String::new();
    scope(|s| *kept = Some(s.spawn(|| text.len())));
}

fn builder_that_borrows() {
    scope(|s| {
        let inner = String::new();
        Builder::new().spawn_scoped(s, || inner.len()).unwrap();
    });
}

fn borrowed_while_lent() {
    let mut n = 1;
    scope(|s| {
        s.spawn(|| n += 1);
        println!("{n}");
    });
}

fn a_scope_in_another_thread() {
    scope(|s| {
        morestack::spawn(move || drop(s.spawn(|| ())));
    });
}

fn main() {}
