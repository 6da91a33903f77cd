//! A program on the scheduler itself: its green threads run code with checks, the scheduler and what it stands on have none.

mod common;

use std::path::Path;

use common::{Image, Run, Workspace, manifest};

const PROGRAM: &str = r#"
    #[inline(never)]
    fn depth(n: u64) -> u64 { if n == 0 { 0 } else { 1 + std::hint::black_box(depth(n - 1)) } }

    fn main() {
        let threads: Vec<_> = (0..20).map(|n| morestack::spawn(move || depth(n) + format!("{n:3}").len() as u64)).collect();
        let sum: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        println!("{sum}");
        let own = morestack::Runtime::builder().stack_size(1 << 20).build().unwrap();
        println!("{:?}", own.stack_mode());
    }
"#;

#[test]
fn programs_run_on_the_scheduler() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let depends = format!("[dependencies]\nmorestack = {{ path = {:?} }}\n[workspace]\n", repository.join("sched"));
    let lock = std::fs::read_to_string(repository.join("Cargo.lock")).unwrap();
    let files = [("Cargo.toml", &*manifest("a", &depends)), ("src/main.rs", PROGRAM), ("Cargo.lock", &lock)];
    let workspace = Workspace::new(&files);
    // Kept, so that the scheduler is compiled once.
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("scheduler");
    let said = workspace.morestack("run --target-dir").arg(&dir).ok();
    assert_eq!(said.stdout, "250\nCopying\n");
    let image = Image::read(&dir.join(common::TARGET).join("debug/a"));
    image.assert_checked("a");
    assert!(image.find("1a5depth").checked && image.find("1a5depth").marked);
    assert_eq!(image.marked(), ["a"].into());
    // Generic ones are compiled with the program, but what the scheduler defines is left alone there, too.
    image.assert_untouched("morestack");
    image.assert_untouched("morestack_stacks");
    // What it stands on is left as it is, by rustc's older names.
    let below: Vec<_> = image.functions.iter().filter(|f| f.name.starts_with("_ZN") && f.framed).collect();
    assert!(below.len() > 100);
    for function in below {
        assert!(!function.checked && function.mark.is_none(), "{}\n{}", function.name, function.text);
    }
    // Its functions that are generic over the program's types are there.
    assert!(image.of_crate("morestack").any(|function| function.name.starts_with("_R")));
    // Where code of third parties has no checks, it may go as deep as in a plain build.
    for left_out in ["--workspace-only", "--exclude parking_lot"] {
        let said = workspace.morestack(&format!("run {left_out} --target-dir")).arg(&dir).ok();
        assert_eq!(said.stdout, "250\nReserved(1048576)\n", "{left_out}");
    }
}
