//! Settings: where they may stand, and what is said of wrong ones.

mod common;

use common::{Run, Workspace, manifest};

fn workspace() -> Workspace {
    let library = |name: &str| format!("#[inline(never)]\npub fn {name}() -> String {{ format!(\"{{}}\", 1) }}");
    Workspace::in_dir(
        "a",
        &[
            ("a/Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = [\"app\", \"own-lib\"]\n"),
            ("a/app/Cargo.toml", &app("")),
            ("a/app/src/main.rs", "fn main() { println!(\"{}{}\", own_lib::own(), third_party::third()) }"),
            ("a/own-lib/Cargo.toml", &manifest("own-lib", "")),
            ("a/own-lib/src/lib.rs", &library("own")),
            ("third/Cargo.toml", &manifest("third-party", "")),
            ("third/src/lib.rs", &library("third")),
        ],
    )
}

fn app(rest: &str) -> String {
    let dependencies =
        "[dependencies]\nown-lib = { path = \"../own-lib\" }\nthird-party = { path = \"../../third\" }\n";
    manifest("app", &format!("{dependencies}{rest}"))
}

/// Which of the three crates have checks.
fn checked(workspace: &Workspace) -> [bool; 3] {
    let image = workspace.image("debug", "app");
    ["app4main", "7own_lib3own", "11third_party5third"].map(|name| {
        let function = image.find(name);
        assert!(function.framed);
        function.checked
    })
}

#[test]
fn settings_may_stand_in_four_places() {
    let workspace = workspace();
    let build = || {
        workspace.morestack("build").ok();
        checked(&workspace)
    };
    assert_eq!(build(), [true, true, true]);
    workspace.write("a/morestack.toml", "workspace-only = true\n");
    assert_eq!(build(), [true, true, false]);
    // Together with the command line.
    workspace.morestack("--exclude own-lib build").ok();
    assert_eq!(checked(&workspace), [true, false, false]);
    std::fs::remove_file(workspace.path().join("morestack.toml")).unwrap();

    let root = "[workspace]\nresolver = \"3\"\nmembers = [\"app\", \"own-lib\"]\n";
    workspace.write("a/Cargo.toml", &format!("{root}[workspace.metadata.morestack]\nexclude = [\"third-party\"]\n"));
    assert_eq!(build(), [true, true, false]);
    workspace.write("a/Cargo.toml", root);
    workspace.write("a/app/Cargo.toml", &app("[package.metadata.morestack]\nexclude = [\"app\", \"own-lib\"]\n"));
    assert_eq!(build(), [false, false, true]);
    // In a member's directory, the workspace's are meant.
    workspace.write("a/app/morestack.toml", "no = 3");
    assert_eq!(workspace.morestack("build").current_dir(workspace.path().join("app")).ok().compiled(), [].into());
}

#[test]
fn wrong_settings_are_refused_in_one_line() {
    let workspace = workspace();
    let allowed = "allowed: workspace-only = true|false, exclude = [packages]";
    for (text, words) in [
        ("workspace_only = true", ["morestack.toml", "unknown field `workspace_only`", allowed]),
        ("exclude = \"regex\"", ["morestack.toml", "invalid type", allowed]),
        ("exclude = [", ["morestack.toml", "", allowed]),
        ("exclude = [\"third_party\"]", ["exclude \"third_party\"", "no package of this name", "there is third-party"]),
        ("exclude = [\"nothing\"]", ["exclude \"nothing\"", "no package of this name", "`cargo tree` lists them"]),
    ] {
        workspace.write("a/morestack.toml", text);
        workspace.morestack("build").fails(2).one_line(&words);
    }
    workspace.write("a/morestack.toml", "");
    let error = "[package.metadata.morestack] in";
    workspace.write("a/app/Cargo.toml", &app("[package.metadata.morestack]\nexcluded = []\n"));
    workspace.morestack("build").fails(2).one_line(&[error, "app/Cargo.toml", "unknown field `excluded`", allowed]);
    workspace.write("a/app/Cargo.toml", &app("[package.metadata.morestack]\nexclude = []\n"));
    workspace.morestack("build").fails(2).one_line(&["morestack.toml and", error, "keep one of them"]);

    workspace.write("a/app/Cargo.toml", &app(""));
    workspace.morestack("build --exclude").fails(2).one_line(&["--exclude: the name of a package is missing"]);
    workspace.morestack("build --exclude own").fails(2).one_line(&["exclude \"own\"", "there is own-lib"]);
    workspace.morestack("--exclude").fails(2).says(&["a value is required for '--exclude <CRATE>'"]);
    workspace.morestack("--workspace-onl build").fails(2).says(&["--workspace-only"]);
    // Cargo's own option, and cargo's own errors.
    assert_eq!(workspace.morestack("build --workspace --exclude app").ok().compiled(), ["own-lib"].into());
    workspace.morestack("build --no-such").fails(1).says(&["unexpected argument '--no-such'"]);
    workspace.morestack("build -p nothing").fails(101).says(&["package ID specification `nothing`"]);
}
