use std::rc::Rc;

use morestack::{Builder, Runtime};

// Of these the compiler names one in each function.
fn spawn_captures(rc: Rc<u8>) {
    morestack::spawn(move || drop(rc));
}

fn runtime_spawn_captures(rt: &Runtime, rc: Rc<u8>) {
    rt.spawn(move || drop(rc));
}

fn run_captures(rt: &Runtime, rc: Rc<u8>) {
    rt.run(|| drop(rc));
}

fn builder_captures(rc: Rc<u8>) {
    Builder::new().spawn(move || drop(rc)).unwrap();
}

fn go_captures(rc: Rc<u8>) {
    // SAFETY: it does not compile.
    unsafe { morestack::go(move || drop(rc)) };
}

fn runtime_go_captures(rt: &Runtime, rc: Rc<u8>) {
    // SAFETY: it does not compile.
    unsafe { rt.go(move || drop(rc)) };
}

fn untied_captures(rc: Rc<u8>) {
    // SAFETY: it does not compile.
    unsafe { Builder::new().spawn_untied(move || drop(rc)) }.unwrap();
}

fn results_are_sent(rt: &Runtime) {
    rt.spawn(|| Rc::new(1));
    rt.run(|| Rc::new(1));
    Builder::new().spawn(|| Rc::new(1)).unwrap();
    // SAFETY: none of it compiles.
    unsafe {
        rt.go(|| Rc::new(1));
        morestack::go(|| Rc::new(1));
        Builder::new().spawn_untied(|| Rc::new(1)).unwrap();
    }
}

fn results_are_static<'a>(rt: &Runtime, text: &'static str) {
    let _: morestack::JoinHandle<&'a str> = rt.spawn(|| "");
    fn shortened<'a>(rt: &Runtime, local: &'a str) -> morestack::JoinHandle<&'a str> {
        rt.spawn(move || local)
    }
    shortened(rt, text);
}

fn futures_are_sent(rc: Rc<u8>) {
    morestack::spawn_future(async move { drop(rc) });
}

fn futures_are_sent_while_they_wait() {
    morestack::spawn_future(async {
        let rc = Rc::new(1);
        std::future::ready(()).await;
        drop(rc);
    });
}

fn not_static(rt: &Runtime) {
    let local = String::new();
    rt.spawn(|| local.len());
    Builder::new().spawn(|| local.len()).unwrap();
    // SAFETY: none of it compiles.
    unsafe {
        rt.go(|| local.len());
        morestack::go(|| local.len());
        Builder::new().spawn_untied(|| local.len()).unwrap();
    }
    // It may borrow.
    rt.run(|| local.len());
}

fn contract(rt: &Runtime) {
    rt.go(|| ());
}

fn used_after_its_end(rt: Runtime) {
    rt.shutdown(std::time::Duration::ZERO).unwrap();
    rt.spawn(|| ());
}

fn joined_twice() {
    let handle = morestack::spawn(|| 1);
    handle.join().unwrap();
    handle.join().unwrap();
}

fn main() {}
