//! A green thread that needs more stack than it may have ends alone.

use std::process::Command;

use morestack_tests::command::run;

fn overflows(on: &str, setting: &str) {
    let finished = run(Command::new(env!("CARGO_BIN_EXE_overflow")).args(["--on", on]));
    assert!(finished.status.success(), "{finished}");
    let lines: Vec<&str> = finished.stdout.lines().collect();
    let [first, first_frames, second, second_frames, after, neighbours] = lines[..] else { panic!("{finished}") };
    for overflow in [first, second] {
        assert!(overflow.to_lowercase().contains("stack"), "{finished}");
    }
    for frames in [first_frames, second_frames] {
        assert_eq!(frames, "deep: true, all dropped: true", "{finished}");
    }
    assert_eq!(after, "after: 125250", "{finished}");
    assert_eq!(neighbours, "neighbours: true", "{finished}");
    let said: Vec<_> = finished.stderr.lines().filter(|line| line.contains("stack overflow: the limit is")).collect();
    assert_eq!(said.len(), 2, "{finished}");
    for line in said {
        assert!(line.starts_with("morestack: green thread '") && line.ends_with(setting), "{finished}");
    }
}

#[test]
fn copying() {
    overflows("go", "1.0 MiB (max_stack_size)");
}

#[test]
fn reserved() {
    overflows("spawn", "1.0 MiB (stack_size)");
}
