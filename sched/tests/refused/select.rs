use morestack::channel::{Receiver, Sender, select};

fn no_pattern(r: Receiver<u8>) {
    select! { recv(r) => {} }
}

fn no_value(s: Sender<u8>) {
    select! { send(s) -> _ => {} }
}

fn no_operation(r: Receiver<u8>) {
    select! { r -> v => drop(v) }
}

fn no_comma(r: Receiver<u8>) {
    select! { recv(r) -> v => drop(v) default => {} }
}

fn two_defaults(r: Receiver<u8>) {
    select! { recv(r) -> _ => {} default => {} default(std::time::Duration::ZERO) => {} }
}

fn the_other_end(r: Receiver<u8>, s: Sender<u8>) {
    select! { recv(s) -> _ => {} }
    select! { send(r, 1) -> _ => {} }
    select! { recv(1) -> _ => {} }
}

fn another_type(s: Sender<u8>) {
    select! { send(s, "text") -> _ => {} }
}

fn no_duration(r: Receiver<u8>) {
    select! { recv(r) -> _ => {} default(1) => {} }
}

fn different_results(r: Receiver<u8>) -> u32 {
    select! { recv(r) -> _ => 1, default => "none" }
}

fn a_value_that_is_gone(s: Sender<String>, r: Receiver<u8>) {
    let text = String::new();
    select! { send(s, text) -> _ => {} recv(r) -> _ => drop(text) }
}

fn main() {}
