use std::rc::Rc;

fn not_static() {
    let local = String::new();
    morestack::spawn(|| local.len());
    morestack::spawn_future(async { local.len() });
}

fn not_send() {
    let rc = Rc::new(1);
    let other = rc.clone();
    morestack::spawn(move || drop(rc));
    morestack::spawn(|| Rc::new(1));
    morestack::spawn_future(async move { *other });
}

fn contract() {
    morestack::go(|| ());
    morestack::Builder::new().spawn_untied(|| ());
}

fn main() {}
