//! A green thread that needs more stack than it may have ends alone.

use std::process::Command;

use morestack_tests::command::run;

fn overflows(on: &str) {
    let finished = run(Command::new(env!("CARGO_BIN_EXE_overflow")).args(["--on", on]));
    assert!(finished.status.success(), "{finished}");
    let lines: Vec<&str> = finished.stdout.lines().collect();
    let [first, first_frames, second, second_frames, after] = lines[..] else { panic!("{finished}") };
    for overflow in [first, second] {
        assert!(overflow.to_lowercase().contains("stack"), "{finished}");
    }
    for frames in [first_frames, second_frames] {
        assert_eq!(frames, "deep: true, all dropped: true", "{finished}");
    }
    assert_eq!(after, "after: 125250", "{finished}");
}

#[test]
fn copying() {
    overflows("go");
}

#[test]
fn reserved() {
    overflows("spawn");
}
