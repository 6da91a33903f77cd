//! Each of cargo's commands, as far as it goes through `cargo morestack`: what is built, run and said, and how it ends.

mod common;

use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{Run, Workspace, clean, manifest};

const LIBRARY: &str = r#"
    //! Adds.

    /// Adds.
    ///
    /// ```
    /// assert_eq!(a::add(vec![1, 2].len(), 2), 4);
    /// assert_eq!(format!("{:?}", Some(a::add(1, 2))), "Some(3)");
    /// ```
    ///
    /// ```should_panic
    /// a::add(usize::MAX, 1);
    /// ```
    #[inline(never)]
    pub fn add(a: usize, b: usize) -> usize {
        let digits = format!("{a}").len();
        a.checked_add(b).unwrap_or_else(|| panic!("{digits} digits"))
    }

    #[cfg(test)]
    mod tests {
        #[test]
        fn unit() { assert_eq!(super::add(1, 2), 3) }
        #[test]
        #[should_panic(expected = "20 digits")]
        fn unwinds() { super::add(usize::MAX, 1); }
    }
"#;

const PROGRAM: &str = r#"
    use std::io::Read;

    fn main() {
        let words: Vec<String> = std::env::args().skip(1).collect();
        match words.first().map(String::as_str) {
            Some("exit") => std::process::exit(7),
            Some("abort") => std::process::abort(),
            Some("read") => {
                let mut text = String::new();
                std::io::stdin().read_to_string(&mut text).unwrap();
                println!("{} bytes", a::add(text.len(), 0));
            }
            Some("wait") => {
                println!("waiting");
                std::thread::sleep(std::time::Duration::from_secs(60));
            }
            Some("environment") => {
                for name in ["RUSTC_WRAPPER", "RUSTDOC", "CARGO_BUILD_TARGET", "CARGO_TARGET_DIR"] {
                    assert!(std::env::var_os(name).is_none(), "{name}");
                }
            }
            _ => println!("{words:?} {}", a::add(1, 2)),
        }
    }
"#;

const BENCH: &str =
    "fn main() { println!(\"bench {}\", a::add(2, 3)); assert!(std::env::args().any(|a| a == \"--bench\")) }";

fn package() -> Workspace {
    let bench = "[[bench]]\nname = \"speed\"\nharness = false\n[profile.bench]\nopt-level = 1\n";
    Workspace::new(&[
        ("Cargo.toml", &manifest("a", bench)),
        ("src/lib.rs", LIBRARY),
        ("src/main.rs", PROGRAM),
        ("examples/shown.rs", "fn main() { println!(\"shown {}\", a::add(3, 4)) }"),
        ("tests/outside.rs", "#[test]\nfn outside() { assert_eq!(a::add(4, 5), 9) }"),
        ("benches/speed.rs", BENCH),
    ])
}

#[test]
fn programs_are_built_and_run() {
    let workspace = package();
    workspace.morestack("build").ok();
    let image = workspace.image("debug", "a");
    image.assert_checked("a");
    let said = workspace.morestack("run -q -- x --workspace-only -v").ok();
    assert_eq!(said.stdout, "[\"x\", \"--workspace-only\", \"-v\"] 3\n");
    // Without a `--`, too, and behind one that comes first.
    assert_eq!(workspace.morestack("run -q x --exclude y").ok().stdout, "[\"x\", \"--exclude\", \"y\"] 3\n");
    assert_eq!(workspace.morestack("run -- --exclude").ok().stdout, "[\"--exclude\"] 3\n");
    assert_eq!(workspace.morestack("run -q --example shown").ok().stdout, "shown 7\n");
    workspace.morestack("run -q environment").ok();
    workspace.morestack("build --example shown").ok();
    workspace.image("debug", "examples/shown").assert_checked("shown");

    // As the program ends, so does it all.
    workspace.morestack("run -q exit").fails(7);
    assert_eq!(workspace.morestack("run -q -- abort").run().code, workspace.cargo("run -q -- abort").run().code);

    let mut child = workspace.morestack("run -q read").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"12345").unwrap();
    assert_eq!(String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap(), "5 bytes\n");
}

/// What ends `cargo morestack run` ends the program: they are one process.
#[test]
fn a_signal_reaches_the_program() {
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::ExitStatusExt;
    let workspace = package();
    workspace.morestack("build").ok();
    let mut child = workspace.morestack("run -q wait").stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "waiting\n");
    // SIGINT is ignored by what a shell has put into the background.
    let killed = clean("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let started = Instant::now();
    assert_eq!(child.wait().unwrap().signal(), Some(15));
    assert!(started.elapsed() < Duration::from_secs(30));
}

#[test]
fn tests_of_every_kind_are_run() {
    let workspace = package();
    let said = workspace.morestack("test").ok();
    for test in ["tests::unit ... ok", "tests::unwinds - should panic ... ok", "outside ... ok", "(line 6) ... ok"] {
        assert!(said.stdout.contains(test), "no {test:?} in\n{}", said.stdout);
    }
    assert!(said.stdout.contains("should panic"), "{}", said.stdout);
    // cargo's exit code for tests that fail.
    workspace.write("tests/outside.rs", "#[test]\nfn outside() { assert_eq!(a::add(4, 5), 10) }");
    workspace.morestack("test --test outside").fails(101);
    assert!(workspace.morestack("bench").ok().stdout.contains("bench 5"));

    if clean(common::cargo()).args(["nextest", "--version"]).output().unwrap().status.success() {
        let said = workspace.morestack("nextest run --lib").ok();
        said.says(&["2 tests run: 2 passed"]);
        assert!(workspace.morestack("nextest list --lib").ok().stdout.contains("tests::unwinds"));
        workspace.morestack("nextest --version").ok();
    } else {
        eprintln!("skipped: cargo-nextest is not installed");
    }
}

#[test]
fn a_check_makes_nothing() {
    let workspace = package();
    workspace.morestack("check --all-targets").ok();
    assert!(!workspace.built("debug", "a").exists());
    workspace.write("src/lib.rs", "pub fn add() -> usize { \"\" }");
    let said = workspace.morestack("check --lib").fails(101);
    assert_eq!(said.stderr.matches("mismatched types").count(), 1, "{}", said.stderr);
}

#[test]
fn help_is_there_without_a_package() {
    let workspace = Workspace::new(&[]);
    let said = workspace.morestack("--help").ok();
    for word in ["--workspace-only", "--exclude <CRATE>", "nextest", "doctor", "morestack.toml", "Exit codes"] {
        assert!(said.stdout.contains(word), "no {word:?} in\n{}", said.stdout);
    }
    assert!(workspace.morestack("build -h").ok().stdout.contains("--release"));
    assert!(workspace.morestack("--version").ok().stdout.contains(env!("CARGO_PKG_VERSION")));
    workspace.morestack("").fails(2);
    workspace.morestack("clippy").fails(2).says(&["clippy"]);
    workspace.morestack("build").fails(2).one_line(&["could not find `Cargo.toml`"]);
}
