//! The electric fence catches a pointer that stayed behind, and says what it was.

use std::process::Command;

use morestack_tests::command::run;

const SIGABRT: i32 = 6;
const SIGSEGV: i32 = 11;

#[test]
fn pointer_to_an_old_stack() {
    let finished = run(Command::new(env!("CARGO_BIN_EXE_dangling")).env("MORESTACK_EFENCE", "1"));
    assert!(matches!(finished.signal(), Some(SIGABRT | SIGSEGV)), "{finished}");
    assert!(finished.stdout.contains("grown by 4000 frames"), "it died before the stack had moved: {finished}");
    assert!(!finished.stdout.contains("the closure ran"), "the write went through: {finished}");
    let report = finished.stderr.to_lowercase();
    for words in ["green thread", "old stack", "moved", "pointer"] {
        assert!(report.contains(words), "the report does not say {words:?}: {finished}");
    }
}
