//! The user's own flags, configuration and environment are kept, or refused with the reason.

mod common;

use std::os::unix::fs::PermissionsExt;

use common::{Image, Run, Workspace, clean, manifest};

/// Says what it was compiled with.
const PROGRAM: &str = r#"
    #![allow(unexpected_cfgs)]
    #[inline(never)]
    fn said() -> String { format!("{} {} {}", cfg!(first), cfg!(second), option_env!("MARKER").unwrap_or("none")) }
    fn main() { println!("{} {}", said(), std::env::var("MARKER").is_ok()) }
"#;

fn first_line(workspace: &Workspace, arguments: &str, variables: &[(&str, &str)]) -> String {
    workspace.morestack(arguments).envs(variables.iter().copied()).ok().stdout.trim_end().to_owned()
}

#[test]
fn flags_come_from_wherever_cargo_reads_them() {
    let workspace = Workspace::program(PROGRAM);
    assert_eq!(first_line(&workspace, "run -q", &[]), "false false none false");
    assert_eq!(first_line(&workspace, "run -q", &[("RUSTFLAGS", "--cfg first")]), "true false none false");
    let encoded = [("CARGO_ENCODED_RUSTFLAGS", "--cfg\x1fsecond")];
    assert_eq!(first_line(&workspace, "run -q", &encoded), "false true none false");
    let line = "run -q --config build.rustflags=['--cfg=first']";
    assert_eq!(first_line(&workspace, line, &[]), "true false none false");
    let configuration =
        "[build]\nrustflags = [\"--cfg=first\"]\n[env]\nMARKER = \"m\"\n[alias]\nmine = \"morestack run\"\n";
    workspace.write(".cargo/config.toml", configuration);
    assert_eq!(first_line(&workspace, "run -q", &[]), "true false m true");
    // An alias of cargo's.
    std::os::unix::fs::symlink(common::TOOL, workspace.path().join("cargo-morestack")).unwrap();
    let path = format!("{}:{}", workspace.path().display(), std::env::var("PATH").unwrap());
    assert_eq!(workspace.cargo("mine -q").env("PATH", path).ok().stdout, "true false m true\n");

    // That of a target; a linker of the user's, and a directory.
    let linker = workspace.path().join("my-cc");
    std::fs::write(&linker, "#!/bin/sh\necho used >> \"$(dirname \"$0\")/linked\"\nexec cc \"$@\"\n").unwrap();
    std::fs::set_permissions(&linker, PermissionsExt::from_mode(0o755)).unwrap();
    workspace.write(
        ".cargo/config.toml",
        "[build]\ntarget-dir = \"out\"\n[target.x86_64-unknown-linux-gnu]\nlinker = \"./my-cc\"\nrustflags = [\"--cfg=second\"]\n\
         [target.'cfg(unix)']\nrustflags = [\"--cfg=first\"]\n",
    );
    assert_eq!(first_line(&workspace, "run -q", &[]), "true true none false");
    assert!(workspace.path().join("linked").exists());
    let built = workspace.path().join("out/morestack").join(common::TARGET).join("debug/a");
    Image::read(&built).assert_checked("a");
    // From elsewhere, by the path of the manifest: there is no configuration then.
    let elsewhere = tempfile::tempdir().unwrap();
    let mut command = workspace.morestack("run -q --manifest-path");
    let said = command.arg(workspace.path().join("Cargo.toml")).current_dir(elsewhere.path()).ok();
    assert_eq!(said.stdout, "false false none false\n");
    // Whatever it is that says where cargo is.
    workspace.morestack("run -q").env_remove("CARGO").ok();
    workspace.morestack("run -q").env("CARGO", "/nowhere/cargo").fails(2).one_line(&["cannot start /nowhere/cargo"]);
}

#[test]
fn flags_for_the_compiler_are_kept_beside_ours() {
    let workspace = Workspace::program(PROGRAM);
    for flags in [
        "-Csymbol-mangling-version=v0",
        "-C codegen-units=16 -Cincremental=inc -g",
        "-Cllvm-args=-inline-threshold=3 -C llvm-args=-unroll-threshold=9",
        "-C force-frame-pointers=yes",
        "-Ctarget-cpu=native",
        "-Crelocation-model=static",
        "--print=link-args -Dwarnings",
        "-Cprofile-generate=prof",
    ] {
        for profile in ["dev", "release"] {
            let mut command = workspace.morestack("run -q --profile");
            let said = command.arg(profile).env("RUSTFLAGS", flags).current_dir(workspace.path()).ok();
            assert!(said.stdout.contains("false false none false"), "{flags}: {}", said.stdout);
            let image = workspace.image(if profile == "dev" { "debug" } else { profile }, "a");
            image.assert_checked("a");
            assert_eq!(image.marked(), ["a"].into(), "{flags}");
        }
    }
    let coverage = ("RUSTFLAGS", "-Cinstrument-coverage");
    assert_eq!(first_line(&workspace, "run -q", &[coverage]), "false false none false");
    workspace.image("debug", "a").assert_checked("a");
    assert!(
        std::fs::read_dir(workspace.path()).unwrap().any(|e| e
            .unwrap()
            .path()
            .extension()
            .is_some_and(|e| e == "profraw"))
    );
}

#[test]
fn linkers_that_rewrite_checks_are_refused() {
    let workspace = Workspace::program(PROGRAM);
    for flags in ["-C link-arg=-fuse-ld=lld", "-Clinker=rust-lld", "-Clink-args=-s\x1f-Clink-arg=-fuse-ld=gold"] {
        let said = workspace.morestack("build").env("CARGO_ENCODED_RUSTFLAGS", flags.replace("-C l", "-Cl")).fails(101);
        said.says(&["error: cargo morestack: a: the linker", "use GNU ld or mold", "could not compile `a`"]);
    }
    workspace.morestack("build").args(["--config", "target.x86_64-unknown-linux-gnu.linker='rust-lld'"]).fails(101);
    if clean("mold").arg("--version").output().is_ok() {
        workspace.morestack("build").env("RUSTFLAGS", "-Clink-arg=-fuse-ld=mold").ok();
        let image = workspace.image("debug", "a");
        image.assert_checked("a");
        assert_eq!(image.marked(), ["a"].into());
    } else {
        eprintln!("skipped: mold is not installed");
    }
}

/// A C library within the program has no `pthread_create` behind the one that gives threads their side stacks.
#[test]
fn a_static_c_library_is_refused_with_side_stacks() {
    let source = "fn main() { println!(\"{}\", std::thread::spawn(|| 5.to_string()).join().unwrap()) }";
    let workspace = Workspace::program(source);
    for flags in ["-Ctarget-feature=+crt-static", "-C target-feature=+aes,+crt-static -C relocation-model=static"] {
        let said = workspace.morestack("build").env("RUSTFLAGS", flags).fails(101);
        said.says(&["error: cargo morestack: a: target-feature=+crt-static", "--no-side-stack"]);
        let said = workspace.morestack("run -q --no-side-stack").env("RUSTFLAGS", flags).ok();
        assert_eq!(said.stdout, "5\n");
        workspace.image("debug", "a").assert_checked("a");
    }
    workspace.morestack("run -q").env("RUSTFLAGS", "-Ctarget-feature=-crt-static").ok();
}

#[test]
fn other_targets_are_refused() {
    let workspace = Workspace::program(PROGRAM);
    let said = workspace.morestack("build --target x86_64-unknown-linux-musl").fails(2);
    said.one_line(&["--target x86_64-unknown-linux-musl", "allowed: x86_64-unknown-linux-gnu"]);
    workspace.morestack("build --target x86_64-unknown-linux-gnu").ok();
    workspace.image("debug", "a").assert_checked("a");
    // What is configured for plain builds is no mistake.
    workspace.write(".cargo/config.toml", "[build]\ntarget = \"x86_64-unknown-linux-musl\"\n");
    let said = workspace.morestack("build").ok();
    said.says(&["note: build.target, x86_64-unknown-linux-musl, is not used"]);
    assert_eq!(said.compiled(), [].into());
    assert!(!workspace.morestack("build --target x86_64-unknown-linux-gnu").ok().stderr.contains("note: build"));
}

/// Wrappers of the user's own: that of the workspace is called, the other's place is taken.
#[test]
fn wrappers() {
    let workspace = Workspace::new(&[
        ("Cargo.toml", &manifest("a", "")),
        ("build.rs", "fn main() {}"),
        ("src/main.rs", PROGRAM),
        ("wrap", "#!/bin/sh\necho \"$*\" >> \"$(dirname \"$0\")/called\"\nexec \"$@\"\n"),
    ]);
    let wrap = workspace.path().join("wrap");
    std::fs::set_permissions(&wrap, PermissionsExt::from_mode(0o755)).unwrap();
    let called = || std::fs::read_to_string(workspace.path().join("called")).unwrap_or_default();

    let note = ["note: the rustc wrapper", "is not used"];
    workspace.morestack("build").env("RUSTC_WRAPPER", &wrap).ok().says(&note);
    workspace.image("debug", "a").assert_checked("a");
    workspace.write(".cargo/config.toml", "[build]\nrustc-wrapper = \"./wrap\"\n");
    workspace.morestack("build").ok().says(&note);
    assert!(!called().contains("--crate-name a"), "{}", called());
    // An empty one is none.
    assert!(!workspace.morestack("build").env("RUSTC_WRAPPER", "").ok().stderr.contains(note[0]));
    std::fs::remove_file(workspace.path().join(".cargo/config.toml")).unwrap();
    assert!(!workspace.morestack("build").ok().stderr.contains(note[0]));

    workspace.morestack("build").env("RUSTC_WORKSPACE_WRAPPER", &wrap).ok();
    workspace.image("debug", "a").assert_checked("a");
    assert!(called().contains("--emit=llvm-ir") && called().contains("-forceattrs-csv-path"), "{}", called());
    // And a compiler.
    std::fs::remove_file(workspace.path().join("called")).unwrap();
    let compiler = workspace.path().join("my-rustc");
    std::fs::write(&compiler, "#!/bin/sh\necho \"$*\" >> \"$(dirname \"$0\")/called\"\nexec rustc \"$@\"\n").unwrap();
    std::fs::set_permissions(&compiler, PermissionsExt::from_mode(0o755)).unwrap();
    workspace.write("src/main.rs", &PROGRAM.replace("first", "third"));
    workspace.morestack("build").env("RUSTC", &compiler).ok();
    workspace.image("debug", "a").assert_checked("a");
    assert!(called().contains("--emit=llvm-ir"));
}

/// rustc takes part in the jobserver that cargo shares with it, also through the wrapper.
#[test]
fn the_jobserver_is_passed_on() {
    let script = "#!/bin/sh\ncase \"$*\" in *--crate-name\\ a\\ *)\n  echo \"$CARGO_MAKEFLAGS\" >> \"$(dirname \"$0\")/flags\"\n  \
                  fds=$(echo \"$CARGO_MAKEFLAGS\" | sed -n 's/.*--jobserver-auth=\\([0-9]*\\),\\([0-9]*\\).*/\\1 \\2/p')\n  \
                  for fd in $fds; do readlink /proc/self/fd/$fd >> \"$(dirname \"$0\")/flags\" || exit 3; done;;\nesac\nexec \"$@\"\n";
    let workspace = Workspace::new(&[("Cargo.toml", &manifest("a", "")), ("src/main.rs", PROGRAM), ("wrap", script)]);
    let wrap = workspace.path().join("wrap");
    std::fs::set_permissions(&wrap, PermissionsExt::from_mode(0o755)).unwrap();
    let said = workspace.morestack("build -j3 --release").env("RUSTC_WORKSPACE_WRAPPER", &wrap).ok();
    assert!(!said.stderr.contains("jobserver"), "{}", said.stderr);
    let flags = std::fs::read_to_string(workspace.path().join("flags")).unwrap();
    // Twice: each pass has both ends.
    assert_eq!(flags.matches("pipe:").count(), 4, "{flags}");
    // A make above it all.
    workspace.write("Makefile", "all:\n\t+@$(TOOL) morestack build --release\n");
    workspace.write("src/main.rs", &PROGRAM.replace("first", "third"));
    if clean("make").arg("--version").output().is_ok() {
        let tool = format!("TOOL={}", common::TOOL);
        let said = clean("make").args(["-j2", &tool]).current_dir(workspace.path()).ok();
        assert!(!said.stderr.contains("jobserver") && said.stderr.contains("Finished"), "{}", said.stderr);
    } else {
        eprintln!("skipped: make is not installed");
    }
}
