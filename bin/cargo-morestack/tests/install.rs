//! `cargo install --path bin/cargo-morestack`, and cargo's finding what it has installed.

mod common;

use std::path::Path;

use common::{Run, Workspace, clean};

#[test]
fn it_is_installed_and_found_by_cargo() {
    let root = tempfile::tempdir().unwrap();
    // What the tests have been built with serves again.
    let target = Path::new(common::TOOL).ancestors().nth(2).unwrap();
    let mut install = clean(common::cargo());
    install.args(["install", "--debug", "--locked", "--offline", "--no-track", "--path", env!("CARGO_MANIFEST_DIR")]);
    install.arg("--root").arg(root.path()).arg("--target-dir").arg(target).ok();
    let workspace = Workspace::program("fn main() { println!(\"{}\", 1) }");
    let path = format!("{}:{}", root.path().join("bin").display(), std::env::var("PATH").unwrap());
    assert_eq!(workspace.cargo("morestack run -q").env("PATH", &path).ok().stdout, "1\n");
    workspace.image("debug", "a").assert_checked("a");
    // By its own name, too.
    let said = clean(root.path().join("bin/cargo-morestack")).arg("--help").ok();
    assert!(said.stdout.contains("Usage: cargo morestack"), "{}", said.stdout);
}
