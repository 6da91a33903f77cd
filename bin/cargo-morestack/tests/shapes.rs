//! Workspaces of every shape, and packages of every kind.

mod common;

use std::path::Path;

use common::{Image, Run, Workspace, clean, manifest};

/// What a plain function of a library says.
fn library(name: &str) -> String {
    format!("#[inline(never)]\npub fn {name}(n: usize) -> String {{ format!(\"{name}{{n}}\") }}\n")
}

/// A virtual workspace of which one member is chosen; a package whose name is not its crate's; a renamed program; features that are
/// unified, and one that a member does not ask for.
#[test]
fn members_names_and_features() {
    let two = "[lib]\nname = \"second\"\npath = \"lib.rs\"\n[features]\nmore = []\n";
    let one = "default-run = \"renamed-program\"\n[[bin]]\nname = \"renamed-program\"\npath = \"src/it.rs\"\n\
               [features]\nextra = []\n[dependencies]\nrenamed = { package = \"two-2\", path = \"../two\" }\n";
    let three = "[dependencies]\ntwo-2 = { path = \"../two\", features = [\"more\"] }\n";
    let second = library("second") + "pub fn more() -> bool { cfg!(feature = \"more\") }";
    let program =
        "fn main() { println!(\"{} {} {}\", renamed::second(1), renamed::more(), cfg!(feature = \"extra\")) }";
    let workspace = Workspace::new(&[
        ("Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = [\"one\", \"two\", \"three\"]\n"),
        ("one/Cargo.toml", &manifest("one", one)),
        ("one/src/it.rs", program),
        ("two/Cargo.toml", &manifest("two-2", two)),
        ("two/lib.rs", &second),
        ("three/Cargo.toml", &manifest("three", three)),
        ("three/src/main.rs", "fn main() { println!(\"{}\", second::second(3)) }"),
    ]);
    assert_eq!(workspace.morestack("run -q -p one --features extra").ok().stdout, "second1 false true\n");
    assert!(!workspace.built("debug", "three").exists());
    let image = workspace.image("debug", "renamed-program");
    image.assert_checked("renamed_program");
    image.assert_checked("second");
    assert_eq!(image.marked(), ["renamed_program", "second"].into());
    workspace.morestack("build").ok();
    let said = clean(workspace.built("debug", "renamed-program")).ok();
    assert_eq!(said.stdout, "second1 true false\n");
    // From a member's directory.
    let said = workspace.morestack("run -q").current_dir(workspace.path().join("three")).ok();
    assert_eq!(said.stdout, "second3\n");
    // By the name of the package, the crate is excluded.
    workspace.morestack("--exclude two-2 build -p one").ok();
    workspace.image("debug", "renamed-program").assert_untouched("second");
}

/// Two versions of one dependency, and one of the same name as a library of the workspace: the first two have checks, and functions of
/// the last two are told apart by nobody, so neither is preempted.
#[test]
fn names_that_occur_twice() {
    let version = |number: &str| format!("[package]\nname = \"dep\"\nversion = \"{number}\"\nedition = \"2024\"\n");
    let app = "[dependencies]\nold = { package = \"dep\", path = \"../dep1\" }\nnew = { package = \"dep\", path = \"../dep2\" }\n\
               foreign = { package = \"own\", path = \"../own\" }\nown = { path = \"own\" }\n[workspace]\nmembers = [\"own\"]\n";
    let program = "fn main() { println!(\"{} {} {} {}\", old::one(1), new::two(2), foreign::foreign(3), own::own(4)) }";
    let workspace = Workspace::in_dir(
        "app",
        &[
            ("app/Cargo.toml", &manifest("app", app)),
            ("app/src/main.rs", program),
            ("app/own/Cargo.toml", &manifest("own", "")),
            ("app/own/src/lib.rs", &library("own")),
            ("dep1/Cargo.toml", &version("1.0.0")),
            ("dep1/src/lib.rs", &library("one")),
            ("dep2/Cargo.toml", &version("2.0.0")),
            ("dep2/src/lib.rs", &library("two")),
            ("own/Cargo.toml", &manifest("own", "").replace("0.1.0", "3.0.0")),
            ("own/src/lib.rs", &library("foreign")),
        ],
    );
    let said = workspace.morestack("run").ok();
    assert_eq!(said.stdout, "one1 two2 foreign3 own4\n");
    said.says(&["note: both a library of the workspace and one of its dependencies are called own"]);
    let image = workspace.image("debug", "app");
    image.assert_checked("dep");
    image.assert_checked("own");
    assert!(image.find("3dep3one").checked && image.find("3dep3two").checked);
    assert_eq!(image.marked(), ["app"].into());
}

/// A build script and a proc-macro run on the host, and stand on a package that the program stands on, too.
#[test]
fn what_runs_at_build_time_is_left_alone() {
    let needs = "[dependencies]\nshared = { path = \"shared\" }\nmade = { path = \"made\" }\n[build-dependencies]\n\
                 shared = { path = \"shared\" }\n[workspace]\nmembers = [\"shared\", \"made\"]\n";
    let build = "fn main() {\n    assert_eq!(std::env::var(\"TARGET\").unwrap(), \"x86_64-unknown-linux-gnu\");\n    \
                 let text = shared::shared(7);\n    std::fs::write(std::env::var(\"OUT_DIR\").unwrap() + \"/text\", text).unwrap();\n    \
                 println!(\"cargo::rerun-if-changed=build.rs\");\n}";
    let made = "#[proc_macro]\npub fn made(_: proc_macro::TokenStream) -> proc_macro::TokenStream { \
                format!(\"{:?}\", shared::shared(8)).parse().unwrap() }\n#[cfg(test)]\nmod tests { #[test] fn unit() {} }";
    let program = "fn main() { println!(\"{} {} {}\", include_str!(concat!(env!(\"OUT_DIR\"), \"/text\")), \
                   shared::shared(9), made::made!()) }";
    let workspace = Workspace::new(&[
        ("Cargo.toml", &manifest("a", needs)),
        ("build.rs", build),
        ("src/main.rs", program),
        ("shared/Cargo.toml", &manifest("shared", "")),
        ("shared/src/lib.rs", &library("shared")),
        (
            "made/Cargo.toml",
            &manifest("made", "[lib]\nproc-macro = true\n[dependencies]\nshared = { path = \"../shared\" }\n"),
        ),
        ("made/src/lib.rs", made),
    ]);
    assert_eq!(workspace.morestack("run -q").ok().stdout, "shared7 shared9 shared8\n");
    let image = workspace.image("debug", "a");
    image.assert_checked("shared");
    image.assert_checked("a");
    let host = workspace.path().join("target/morestack/debug");
    let script =
        std::fs::read_dir(host.join("build")).unwrap().map(|entry| entry.unwrap().path().join("build-script-build"));
    let script = script.into_iter().find(|path| path.exists()).expect("a build script");
    let macros = std::fs::read_dir(host.join("deps")).unwrap().map(|entry| entry.unwrap().path());
    let macros = macros.into_iter().find(|path| path.extension().is_some_and(|e| e == "so")).expect("a proc-macro");
    for path in [script, macros] {
        let image = Image::read(&path);
        assert_eq!((image.checked(), image.marks), (0, 0), "{}", path.display());
    }
    workspace.morestack("test -p made").ok();
}

/// Libraries for other languages, which are also used from Rust.
#[test]
fn libraries_for_other_languages() {
    let c = "#include <stdio.h>\nextern int twice(int);\nint main() { printf(\"%d\\n\", twice(21)); return 0; }\n";
    let native =
        "#[unsafe(no_mangle)]\npub extern \"C\" fn twice(n: i32) -> i32 { format!(\"{n}\").len() as i32 * n }\n";
    let kinds = "[lib]\ncrate-type = [\"cdylib\", \"staticlib\", \"rlib\"]\n";
    let workspace = Workspace::new(&[
        ("Cargo.toml", &manifest("native", kinds)),
        ("src/lib.rs", native),
        ("src/main.rs", "fn main() { println!(\"{}\", native::twice(4)) }"),
        ("main.c", c),
    ]);
    assert_eq!(workspace.morestack("run -q").ok().stdout, "4\n");
    workspace.morestack("build -v").ok().says(&[
        "libnative.so: ",
        "debug/native: ",
        "note: native: its shared library needs a program that cargo morestack has built with side stacks",
    ]);
    let image = workspace.image("debug", "libnative.so");
    assert!(image.find("twice").checked);
    // A program that is not built so has no side stacks for them.
    let said = workspace.morestack("build --no-side-stack").ok();
    assert!(!said.stderr.contains("shared library needs"), "{}", said.stderr);
    let dir = workspace.built("debug", "");
    for (name, library) in [("by-static", "libnative.a"), ("by-dynamic", "libnative.so")] {
        let program = workspace.path().join(name);
        let mut cc = clean("cc");
        cc.arg("main.c").arg(dir.join(library)).args(["-o", name, "-lpthread", "-ldl", "-lm"]);
        cc.current_dir(workspace.path()).ok();
        assert_eq!(clean(&program).env("LD_LIBRARY_PATH", &dir).ok().stdout, "42\n", "{name}");
        let image = Image::read(&program);
        // What stands in for `__morestack` is ours, and not libgcc's.
        let own = image.functions.iter().find(|function| function.name == "__morestack");
        assert_eq!(own.is_some(), name == "by-static");
        if let Some(function) = own {
            assert!(function.text.ends_with("pop r11\ninc r11\njmp r11"), "{}", function.text);
        }
    }
}

/// Rust's own shared libraries.
#[test]
fn shared_libraries() {
    let depends = "[dependencies]\nshared = { path = \"shared\" }\n[workspace]\nmembers = [\"shared\"]\n";
    let workspace = Workspace::new(&[
        (".cargo/config.toml", "[build]\nrustflags = [\"-Cprefer-dynamic\"]\n"),
        ("Cargo.toml", &manifest("a", depends)),
        ("src/main.rs", "fn main() { println!(\"{}\", shared::shared(1)) }"),
        ("shared/Cargo.toml", &manifest("shared", "[lib]\ncrate-type = [\"dylib\"]\n")),
        ("shared/src/lib.rs", &library("shared")),
    ]);
    assert_eq!(workspace.morestack("run -q").ok().stdout, "shared1\n");
    for (name, own) in [("a", "1a4main"), ("libshared.so", "6shared6shared")] {
        let image = workspace.image("debug", name);
        assert!(image.find(own).checked && image.find(own).marked, "{name}");
    }
}

/// Directories with blanks and letters that are not ASCII, for all that is read and written.
#[test]
fn paths_of_every_kind() {
    let workspace = Workspace::in_dir(
        "ein Bär",
        &[("ein Bär/Cargo.toml", &manifest("a", "")), ("ein Bär/src/main.rs", "fn main() { println!(\"{}\", 1) }")],
    );
    let temporary = workspace.path().join("temp dir");
    std::fs::create_dir(&temporary).unwrap();
    assert_eq!(workspace.morestack("run -q").env("TMPDIR", &temporary).ok().stdout, "1\n");
    workspace.image("debug", "a").assert_checked("a");
    assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0);
    let left = std::fs::read_dir(workspace.path().join("target/morestack/cargo-morestack")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let scratch = |name: &String| ["functions-", "compile-", "new-"].iter().any(|prefix| name.starts_with(prefix));
    assert!(!left.is_empty() && !left.iter().any(scratch), "{left:?}");

    // Sources that nobody may write to, and a target directory elsewhere.
    let elsewhere = tempfile::tempdir().unwrap();
    let source = Workspace::program("fn main() { println!(\"{}\", 2) }");
    source.cargo("generate-lockfile").ok();
    let mode = |path: &Path, mode: &str| drop(clean("chmod").arg("-R").arg(mode).arg(path).ok());
    mode(source.path(), "a-w");
    let mut command = source.morestack("run -q --target-dir");
    let said = command.arg(elsewhere.path().join("a b")).ok();
    mode(source.path(), "u+w");
    assert_eq!(said.stdout, "2\n");
    assert!(!source.path().join("target").exists());
    let program = elsewhere.path().join("a b").join(common::TARGET).join("debug/a");
    Image::read(&program).assert_checked("a");
}
