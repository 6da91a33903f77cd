//! What rustc says comes through once and as it is.

mod common;

use common::{Run, Workspace, manifest};

fn count(text: &str, word: &str) -> usize {
    text.matches(word).count()
}

#[test]
fn warnings_and_errors_come_once() {
    let workspace = Workspace::program("fn unused() {}\nfn main() { println!(\"a\") }");
    for profile in ["--profile dev", "--release"] {
        let said = workspace.morestack(&format!("build {profile}")).ok();
        assert_eq!(count(&said.stderr, "never used"), 1, "{}", said.stderr);
        // Cargo repeats what it has kept.
        let said = workspace.morestack(&format!("build {profile}")).ok();
        assert_eq!(count(&said.stderr, "never used"), 1, "{}", said.stderr);
        assert!(!said.stderr.contains("CSV"), "{}", said.stderr);
    }
    for (source, error) in [
        ("fn main() { let a: u32 = \"\"; }", "mismatched types"),
        ("fn main() { nothing() }", "cannot find function"),
        ("#![deny(warnings)]\nfn unused() {}\nfn main() {}", "never used"),
        // Found only when code is made.
        (
            "struct A<const N: usize>; impl<const N: usize> A<N> { const A: () = assert!(N < 2, \"too large\"); }\n\
             fn f<const N: usize>() { let () = A::<N>::A; }\nfn main() { f::<3>() }",
            "panicked: too large",
        ),
        ("unsafe extern \"C\" { fn nowhere(); }\nfn main() { unsafe { nowhere() } }", "undefined reference"),
    ] {
        workspace.write("src/main.rs", source);
        let said = workspace.morestack("build").fails(101);
        assert_eq!(count(&said.stderr, error), 1, "{error}: {}", said.stderr);
        said.says(&["could not compile `a`"]);
    }
}

#[test]
fn colours_and_json_are_intact() {
    let workspace = Workspace::program("fn unused() {}\nfn main() { println!(\"a\") }");
    let said = workspace.morestack("build --color=always").ok();
    assert!(said.stderr.contains("\x1b[") && said.stderr.contains("never used"), "{}", said.stderr);
    let said = workspace.morestack("build -v --message-format=json").ok();
    let messages: Vec<serde_json::Value> =
        said.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_reason = |reason: &str| messages.iter().filter(|message| message["reason"] == reason).count();
    assert_eq!((of_reason("compiler-message"), of_reason("build-finished")), (1, 1), "{}", said.stdout);
    let made = messages.iter().find(|message| message["reason"] == "compiler-artifact").unwrap();
    assert_eq!(made["executable"], workspace.built("debug", "a").to_str().unwrap());
    said.says(&["functions begin with the check"]);
}

/// Lints that a dependency denies, and that its own tools silence, stay so.
#[test]
fn lints_of_dependencies_do_not_disturb() {
    let workspace = Workspace::in_dir(
        "a",
        &[
            ("a/Cargo.toml", &manifest("a", "[dependencies]\nb = { path = \"../b\" }\n[workspace]\n")),
            ("a/src/main.rs", "#![forbid(unsafe_code)]\nfn main() { println!(\"{}\", b::b()) }"),
            ("b/Cargo.toml", &manifest("b", "[lints.rust]\nunused = \"deny\"\nmissing_docs = \"forbid\"\n")),
            ("b/src/lib.rs", "//! B\n#![forbid(warnings)]\n/// B\npub fn b() -> String { String::new() }"),
        ],
    );
    let said = workspace.morestack("build").ok();
    assert_eq!(count(&said.stderr, "warning"), 0, "{}", said.stderr);
}
