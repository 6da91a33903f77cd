//! `#[morestack::main]`: what a program of it prints, and how it ends, by its first argument.

use std::error::Error;
use std::time::Duration;

#[morestack::main(workers = 2, time_slice = "100us", thread_name = "example")]
async fn main() -> Result<(), Box<dyn Error>> {
    let worker = std::thread::current().name().map(str::to_owned);
    println!("on {}", worker.unwrap_or_default());
    // Another thread's: to the same runtime.
    let elsewhere =
        || morestack::spawn(|| std::thread::current().name().is_some_and(|name| name.starts_with("example")));
    println!("elsewhere {}", std::thread::spawn(elsewhere).join().unwrap().await.unwrap());
    match std::env::args().nth(1).as_deref() {
        Some("fail") => Err("it failed")?,
        Some("panic") => panic!("it panicked"),
        _ => {}
    }
    // Not waited for.
    morestack::spawn(|| morestack::sleep(Duration::from_secs(1000)));
    Ok(())
}
