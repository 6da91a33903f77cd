use std::cell::Cell;
use std::rc::Rc;

use morestack::channel::{Receiver, Sender, bounded};

fn sent<T: Send>() {}
fn shared<T: Sync>() {}

fn ends() {
    sent::<Sender<Rc<u8>>>();
    shared::<Sender<Rc<u8>>>();
    sent::<Receiver<Rc<u8>>>();
    shared::<Receiver<Rc<u8>>>();
    // What is sent need not be shared.
    sent::<Sender<Cell<u8>>>();
    shared::<Sender<Cell<u8>>>();
    sent::<Receiver<Cell<u8>>>();
    shared::<Receiver<Cell<u8>>>();
}

fn to_another_thread() {
    let (s, r) = bounded::<Rc<u8>>(1);
    morestack::spawn(move || s.send(Rc::new(1)));
    drop(r);
}

fn values_that_borrow() {
    let (s, r) = bounded(1);
    {
        let local = 1;
        s.send(&local).unwrap();
    }
    r.recv().unwrap();
}

fn main() {}
