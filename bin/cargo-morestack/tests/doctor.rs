//! What `cargo morestack doctor` says, here and where something is missing.

mod common;

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use common::{Output, Run, clean};

fn doctor(variables: &[(&str, &Path)]) -> Output {
    clean(common::TOOL).args(["morestack", "doctor"]).envs(variables.iter().copied()).run()
}

fn script(path: &Path, text: &str) {
    std::fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
}

/// It fails at this step, and says in one line why; the ones before it are well.
fn assert_fails(output: &Output, step: &str, words: &[&str]) {
    assert_eq!(output.code, Some(1), "{}{}", output.stdout, output.stderr);
    assert_eq!(output.stderr, "");
    let last = output.stdout.lines().last().unwrap();
    assert!(last.starts_with(&format!("no  {step}: ")), "{}", output.stdout);
    for word in words {
        assert!(last.contains(word), "no {word:?} in {last}");
    }
    assert!(output.stdout.lines().rev().skip(1).all(|line| line.starts_with("ok  ")), "{}", output.stdout);
}

#[test]
fn it_works_here() {
    let output = doctor(&[]);
    assert_eq!(output.code, Some(0), "{}{}", output.stdout, output.stderr);
    for word in
        ["ok  toolchain: rustc 1.", "LLVM", "ok  compiler and linker", "ok  C library: the guard is 0", "ok  prologue"]
    {
        assert!(output.stdout.contains(word), "no {word:?} in\n{}", output.stdout);
    }
    assert!(output.stdout.contains("cmp rsp,fs:[70h]"), "{}", output.stdout);
}

#[test]
fn what_is_missing_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let bin = dir.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    let output = doctor(&[("PATH", &bin)]);
    assert_fails(&output, "toolchain", &["cannot start rustc", "No such file"]);

    // A compiler, but no linker.
    let sysroot = clean("rustc").args(["--print", "sysroot"]).ok().stdout;
    let rustc = Path::new(sysroot.trim()).join("bin/rustc");
    symlink(&rustc, bin.join("rustc")).unwrap();
    let output = doctor(&[("PATH", &bin)]);
    assert_fails(&output, "compiler and linker", &["linker `cc` not found"]);

    // A linker that rewrites checks, as rust-lld does.
    if clean("ld.gold").arg("--version").output().is_ok() {
        script(&bin.join("cc"), "PATH=/usr/local/bin:/usr/bin:/bin exec cc -fuse-ld=gold \"$@\"");
        let output = doctor(&[("PATH", &bin)]);
        assert_eq!(output.code, Some(1), "{}{}", output.stdout, output.stderr);
    }

    // A program that is no compiler, one that knows no list of attributes, one for which the target's library is not installed.
    let fake = dir.path().join("rustc");
    let with = |text: &str| {
        script(&fake, text);
        doctor(&[("RUSTC", &fake)])
    };
    assert_fails(&with("echo hello"), "toolchain", &["is no rustc"]);
    assert_fails(&with("echo 'error: broken' >&2; exit 1"), "toolchain", &["broken"]);
    let ignores = format!(
        "for a do shift; case $a in *forceattrs*) ;; *) set -- \"$@\" \"$a\";; esac; done\nexec '{}' \"$@\"",
        rustc.display()
    );
    assert_fails(&with(&ignores), "compiler and linker", &["none of", "begins with the check"]);
    let without =
        format!("case \"$*\" in *target-libdir*) echo /nowhere;; *) exec '{}' \"$@\";; esac", rustc.display());
    assert_fails(&with(&without), "toolchain", &["no standard library", "rustup target add x86_64-unknown-linux-gnu"]);
}
