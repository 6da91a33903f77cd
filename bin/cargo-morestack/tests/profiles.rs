//! Whatever a profile asks for, the program is right and has its checks.

mod common;

use common::{Run, Workspace, manifest};

const DEPENDENCY: &str = r#"
    #[inline(never)]
    pub fn depth(n: u32) -> u32 { if n == 0 { 0 } else { 1 + std::hint::black_box(depth(n - 1)) } }
    pub fn generic<T: Ord + Clone>(values: &[T]) -> Vec<T> { let mut v = values.to_vec(); v.sort(); v }
    #[inline(never)]
    pub fn text(n: u32) -> String { format!("{n:>4}") }
"#;

const PROGRAM: &str = r#"
    #[inline(never)]
    fn caught(n: u32) -> bool { std::panic::catch_unwind(|| assert!(n > 1_000, "no")).is_err() }
    #[inline(never)]
    fn sum(n: u32) -> u64 { if n == 0 { 0 } else { u64::from(n) + std::hint::black_box(sum(n - 1)) } }
    fn main() {
        std::panic::set_hook(Box::new(|_| {}));
        let n = std::env::args().count() as u32;
        let thread = std::thread::spawn(move || b::depth(n + 99));
        let caught = cfg!(panic = "abort") || caught(n);
        println!("{} {} {:?} {} {}", thread.join().unwrap(), b::text(n), b::generic(&["c", "a"]), sum(n + 9), caught);
    }
"#;

const SAID: &str = "100    1 [\"a\", \"c\"] 55 true\n";

const PROFILES: [(&str, &str); 12] = [
    ("dev", "[profile.dev]\nopt-level = 0\n"),
    ("many", "inherits = \"release\"\ncodegen-units = 16\nincremental = true\ndebug = 2\n"),
    ("dev-many", "inherits = \"dev\"\ncodegen-units = 16\nincremental = true\nlto = \"off\"\n"),
    ("thin", "inherits = \"release\"\nlto = \"thin\"\ncodegen-units = 16\n"),
    ("fat", "inherits = \"release\"\nlto = \"fat\"\n"),
    ("fat-dev", "inherits = \"dev\"\nlto = true\npanic = \"abort\"\n"),
    ("small", "inherits = \"release\"\nopt-level = \"s\"\ndebug = \"line-tables-only\"\n"),
    ("smallest", "inherits = \"release\"\nopt-level = \"z\"\n"),
    ("one", "inherits = \"release\"\nopt-level = 1\nsplit-debuginfo = \"unpacked\"\ndebug = true\n"),
    ("two", "inherits = \"release\"\nopt-level = 2\ndebug-assertions = true\noverflow-checks = true\n"),
    ("abort", "inherits = \"release\"\npanic = \"abort\"\n"),
    ("strip", "inherits = \"release\"\nstrip = true\n"),
];

#[test]
fn every_profile_is_built_right() {
    let profiles: String = PROFILES
        .iter()
        .map(|(name, text)| if *name == "dev" { (*text).to_owned() } else { format!("[profile.{name}]\n{text}") })
        .collect();
    let workspace = Workspace::in_dir(
        "a",
        &[
            (
                "a/Cargo.toml",
                &manifest("a", &format!("[dependencies]\nb = {{ path = \"../b\" }}\n[workspace]\n{profiles}")),
            ),
            ("a/src/main.rs", PROGRAM),
            ("b/Cargo.toml", &manifest("b", "")),
            ("b/src/lib.rs", DEPENDENCY),
        ],
    );
    for (profile, _) in PROFILES {
        let dir = if profile == "dev" { "debug" } else { profile };
        let said = workspace.morestack(&format!("run --profile {profile}")).ok();
        assert_eq!(said.stdout, SAID, "{profile}");
        assert!(!said.stderr.contains("warning") && !said.stderr.contains("CSV"), "{profile}: {}", said.stderr);
        let image = workspace.image(dir, "a");
        assert!(image.marks >= 2, "{profile}: {} marks", image.marks);
        if profile == "strip" {
            let said = workspace.morestack(&format!("build -v --profile {profile}")).ok();
            said.says(&["not counted: it is stripped of its symbols"]);
        } else {
            image.assert_checked("a");
            image.assert_checked("b");
            assert!(image.find("1a3sum").checked, "{profile}");
            assert_eq!(image.marked(), ["a"].into(), "{profile}");
        }
    }
}
