//! What is built anew, and what is not.

mod common;

use common::{Run, Workspace, clean, manifest};

/// A program that stands on a member, and that on a package outside the workspace.
fn workspace() -> Workspace {
    let library = |next: &str| format!("#[inline(never)]\npub fn said() -> String {{ format!(\"{{}}\", {next}) }}");
    Workspace::in_dir(
        "a",
        &[
            ("a/Cargo.toml", &manifest("a", "[dependencies]\nb = { path = \"b\" }\n[workspace]\nmembers = [\"b\"]\n")),
            ("a/src/main.rs", "fn main() { println!(\"a{}\", b::said()) }"),
            ("a/b/Cargo.toml", &manifest("b", "[dependencies]\nc = { path = \"../../c\" }\n")),
            ("a/b/src/lib.rs", &library("c::said()")),
            ("c/Cargo.toml", &manifest("c", "")),
            ("c/src/lib.rs", &library("1")),
        ],
    )
}

#[test]
fn only_what_changed_is_built_anew() {
    let workspace = workspace();
    assert_eq!(workspace.morestack("build").ok().compiled(), ["a", "b", "c"].into());
    assert_eq!(workspace.morestack("build").ok().compiled(), [].into());
    workspace.write("a/src/main.rs", "fn main() { println!(\"A{}\", b::said()) }");
    assert_eq!(workspace.morestack("build").ok().compiled(), ["a"].into());
    workspace.write("a/b/src/lib.rs", "#[inline(never)]\npub fn said() -> String { format!(\"2{}\", c::said()) }");
    let said = workspace.morestack("run").ok();
    assert_eq!((said.compiled(), said.stdout.as_str()), (["a", "b"].into(), "A21\n"));
    for name in ["a", "b", "c"] {
        workspace.image("debug", "a").assert_checked(name);
    }
    // A new function, a changed one, and a change that makes the same code.
    let source = "#[inline(never)]\npub fn said() -> String { more() }\n\
                  #[inline(never)]\npub fn more() -> String { format!(\"3{}\", c::said()) }";
    for (source, expected) in
        [(source, "A31\n"), (&source.replace('3', "4"), "A41\n"), (&(source.to_owned() + "//"), "A31\n")]
    {
        workspace.write("a/b/src/lib.rs", source);
        let said = workspace.morestack("run").ok();
        assert_eq!((said.compiled(), said.stdout.as_str()), (["a", "b"].into(), expected));
        let image = workspace.image("debug", "a");
        for name in ["1b4said", "1b4more"] {
            assert!(image.find(name).checked && image.find(name).marked, "{name}: {expected}");
        }
    }
    workspace.write("a/b/src/lib.rs", &(source.to_owned() + "// again"));
    workspace.morestack("build").ok();
    assert!(workspace.image("debug", "a").find("1b4more").marked);
    // Another profile, and parts of the whole.
    assert_eq!(workspace.morestack("build --release").ok().compiled().len(), 3);
    for arguments in ["build -p a", "build --release", "run", "build -v", "build --workspace"] {
        assert_eq!(workspace.morestack(arguments).ok().compiled(), [].into(), "{arguments}");
    }
}

/// Plain cargo builds the same sources in a place of its own.
#[test]
fn plain_builds_are_not_disturbed() {
    let workspace = workspace();
    assert_eq!(workspace.cargo("build").ok().compiled().len(), 3);
    assert_eq!(workspace.morestack("build").ok().compiled().len(), 3);
    for _ in 0..2 {
        assert_eq!(workspace.cargo("build").ok().compiled(), [].into());
        assert_eq!(workspace.morestack("build").ok().compiled(), [].into());
    }
    let plain = common::Image::read(&workspace.path().join("target/debug/a"));
    assert_eq!((plain.checked(), plain.marks), (0, 0));
    assert!(workspace.image("debug", "a").checked() > 0);
    // Nor in one and the same place.
    let dir = workspace.path().join("one");
    let build = |command: &str| match command {
        "plain" => workspace.cargo("build --target x86_64-unknown-linux-gnu").arg("--target-dir").arg(&dir).ok(),
        _ => workspace.morestack("build").arg("--target-dir").arg(&dir).ok(),
    };
    for (command, compiled) in [("plain", 3), ("ours", 3), ("plain", 0), ("ours", 0)] {
        assert_eq!(build(command).compiled().len(), compiled, "{command}");
        let image = common::Image::read(&dir.join(common::TARGET).join("debug/a"));
        assert_eq!(image.checked() > 0, command == "ours");
    }
}

#[test]
fn settings_build_anew() {
    let workspace = workspace();
    workspace.morestack("build").ok();
    let is_checked = |name: &str| workspace.image("debug", "a").find(&format!("1{name}4said")).checked;
    assert!(is_checked("b") && is_checked("c"));
    assert_eq!(workspace.morestack("build --exclude c").ok().compiled(), ["a", "b", "c"].into());
    assert!(is_checked("b") && !is_checked("c"));
    workspace.write("a/morestack.toml", "exclude = [\"b\"]\n");
    assert_eq!(workspace.morestack("build").ok().compiled(), ["a", "b", "c"].into());
    assert!(!is_checked("b") && is_checked("c"));
    // What was built with other settings is still there.
    workspace.write("a/morestack.toml", "");
    assert_eq!(workspace.morestack("build").ok().compiled(), [].into());
    assert!(is_checked("b") && is_checked("c"));

    // What was another's becomes the workspace's own, and is marked.
    assert_eq!(workspace.image("debug", "a").marked(), ["a", "b"].into());
    let members = "[dependencies]\nb = { path = \"b\" }\n[workspace]\nmembers = [\"b\", \"../c\"]\n";
    workspace.write("a/Cargo.toml", &manifest("a", members));
    workspace.write("c/Cargo.toml", &(manifest("c", "") + "workspace = \"../a\"\n"));
    workspace.morestack("build").ok();
    assert_eq!(workspace.image("debug", "a").marked(), ["a", "b", "c"].into());
}

/// Another version of this program makes other code.
#[test]
fn another_version_builds_anew() {
    let workspace = workspace();
    let tool = workspace.path().parent().unwrap().join("cargo-morestack");
    std::fs::copy(common::TOOL, &tool).unwrap();
    let build = || {
        let mut command = clean(&tool);
        command.args(["morestack", "build"]).current_dir(workspace.path()).ok().compiled().len()
    };
    assert_eq!((build(), build()), (3, 0));
    let mut bytes = std::fs::read(&tool).unwrap();
    bytes.push(0);
    std::fs::remove_file(&tool).unwrap();
    std::fs::write(&tool, bytes).unwrap();
    std::fs::set_permissions(&tool, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    assert_eq!((build(), build()), (3, 0));
}

/// The same sources make the same program, wherever scratch files are.
#[test]
fn builds_are_reproducible() {
    let workspace = workspace();
    let mut made = Vec::new();
    for _ in 0..2 {
        workspace.morestack("build --release").ok();
        made.push(std::fs::read(workspace.built("release", "a")).unwrap());
        std::fs::remove_dir_all(workspace.path().join("target")).unwrap();
    }
    assert!(made[0] == made[1]);
}

/// What a killed build has left is cleared away by the next one.
#[test]
fn nothing_is_left_behind() {
    let workspace = Workspace::program("fn main() { println!(\"{}\", 1) }");
    workspace.morestack("build").ok();
    let dir = workspace.path().join("target/morestack/cargo-morestack");
    let names = || {
        let names = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("functions-")).collect::<Vec<_>>()
    };
    assert!(names().is_empty());
    // It stops for ever in the first pass.
    workspace.write("src/main.rs", "fn main() { println!(\"{}\", 2) }");
    workspace.write("stop", "#!/bin/sh\ncase \"$*\" in *llvm-ir*) touch stopped; exec sleep 60;; esac\nexec \"$@\"\n");
    let stop = workspace.path().join("stop");
    std::fs::set_permissions(&stop, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = workspace.morestack("build");
    let command = command.env("RUSTC_WORKSPACE_WRAPPER", &stop).stderr(std::process::Stdio::null());
    let mut build = std::os::unix::process::CommandExt::process_group(command, 0).spawn().unwrap();
    while !workspace.path().join("stopped").exists() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(clean("kill").args(["-KILL", "--", &format!("-{}", build.id())]).status().unwrap().success());
    build.wait().unwrap();
    let left = names();
    assert_eq!(left.len(), 1, "{left:?}");
    workspace.write("stop", "#!/bin/sh\nexec \"$@\"\n");
    workspace.morestack("build").env("RUSTC_WORKSPACE_WRAPPER", &stop).ok();
    assert!(names().is_empty(), "{:?}", names());
}

/// Two builds at the same time.
#[test]
fn builds_may_meet() {
    let workspace = workspace();
    let mut commands: Vec<_> = ["build", "build --release", "build --exclude c", "build"]
        .iter()
        .map(|line| workspace.morestack(line).stderr(std::process::Stdio::null()).spawn().unwrap())
        .collect();
    for command in &mut commands {
        assert!(command.wait().unwrap().success());
    }
    workspace.image("release", "a").assert_checked("c");
}
