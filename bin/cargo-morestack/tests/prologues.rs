//! The checks and marks are in the program where they should be, and nowhere else.

mod common;

use common::{Run, Workspace, manifest};

const THIRD: &str = r#"
    pub trait Visit { fn visit(&mut self, n: u32); }
    #[inline(never)]
    pub fn plain(n: u32) -> String { format!("third {n}") }
    #[inline(never)]
    pub fn generic<T: std::fmt::Display>(n: T) -> String { format!("generic {n}") }
    #[inline(never)]
    pub fn calls_back<V: Visit>(visit: &mut V, n: u32) { visit.visit(n); visit.visit(n + 1) }
    pub fn boxed(n: u32) -> Box<dyn Fn() -> String> { Box::new(move || format!("boxed {n}")) }
    #[unsafe(no_mangle)]
    #[inline(never)]
    pub extern "C" fn third_c(n: u32) -> usize { plain(n).len() }
"#;

const BASE: &str = r#"
    #[inline(never)]
    pub fn plain(n: u32) -> String { format!("base {n}") }
    /// Is instantiated in other crates only.
    #[inline(never)]
    pub fn generic<T: std::fmt::Debug>(n: T) -> String { format!("{n:?}") }
    pub trait Named {
        fn name(&self) -> String;
        #[inline(never)]
        fn provided(&self) -> String { format!("<{}>", self.name()) }
    }
    impl Named for Vec<u8> { #[inline(never)] fn name(&self) -> String { format!("{} bytes", self.len()) } }
    impl Named for Box<dyn std::fmt::Debug> { fn name(&self) -> String { format!("{self:?}") } }
"#;

const APP: &str = r#"
    struct Counts(Vec<u32>);
    impl third::Visit for Counts { #[inline(never)] fn visit(&mut self, n: u32) { self.0.push(n) } }
    struct Loud(u32);
    impl Drop for Loud { #[inline(never)] fn drop(&mut self) { println!("dropped {}", third::plain(self.0)) } }
    struct Local;
    impl base::Named for Local { fn name(&self) -> String { base::generic("local") } }

    #[inline(never)]
    fn large(n: usize) -> u8 { let a = std::hint::black_box([n as u8; 10_000]); a[n] }
    #[inline(never)]
    fn leaf(n: u32) -> u32 { n ^ 5 }
    #[unsafe(no_mangle)]
    #[inline(never)]
    extern "C" fn app_c(n: u32) -> usize { base::plain(n).len() }

    fn main() {
        let n = std::env::args().count() as u32;
        let loud = Loud(n);
        let mut counts = Counts(Vec::new());
        third::calls_back(&mut counts, n);
        println!("{} {} {} {}", third::plain(n), third::generic(n), third::boxed(n)(), third::third_c(n));
        println!("{} {} {:?}", base::plain(n), base::generic(counts.0), base::generic(vec![1u8].iter().rev()));
        use base::Named;
        println!("{} {}", vec![1u8].provided(), Local.provided());
        println!("{} {} {}", large(n as usize), leaf(n), app_c(n));
        let mut sorted: Vec<(u32, String)> = (0..n + 50).map(|n| (n % 7, below::plain(n))).collect();
        sorted.sort_by(|a, b| b.cmp(a));
        let map: std::collections::BTreeMap<_, _> = sorted.into_iter().collect();
        println!("{map:?} {}", morestack::spawn(move || n + 1));
        println!("{} {}", shared::plain(n), made::made!());
        drop(loud);
    }
"#;

/// A scheduler by name only, which stands on one package and has a macro that stands on another; a third-party package; a workspace of
/// a library and a program.
fn workspace(settings: &str) -> Workspace {
    let path = |name: &str| format!("{name} = {{ path = \"../../{name}\" }}\n");
    let library = "#[inline(never)]\npub fn plain(n: u32) -> String { format!(\"{n:5}\") }\n";
    let spawn = "#[inline(never)]\npub fn spawn<T: Send>(f: impl FnOnce() -> T) -> String { drop(f()); below::plain(1) }\n\
                 pub use macros as _;";
    let macros = "use proc_macro::TokenStream;\n#[proc_macro]\npub fn made(_: TokenStream) -> TokenStream { \
                  shared::plain(7).trim().parse().unwrap() }";
    let proc_macro = "[lib]\nproc-macro = true\n[dependencies]\nshared = { path = \"../shared\" }\n";
    let app = ["third", "morestack", "below", "shared", "made"].map(path).concat() + "base = { path = \"../base\" }\n";
    let runtime = "[dependencies]\nbelow = { path = \"../below\" }\nmacros = { path = \"../macros\" }\n";
    Workspace::in_dir(
        "workspace",
        &[
            ("third/Cargo.toml", &manifest("third", "")),
            ("third/src/lib.rs", THIRD),
            ("shared/Cargo.toml", &manifest("shared", "")),
            ("shared/src/lib.rs", library),
            ("below/Cargo.toml", &manifest("below", "")),
            ("below/src/lib.rs", library),
            ("macros/Cargo.toml", &manifest("macros", proc_macro)),
            ("macros/src/lib.rs", macros),
            ("made/Cargo.toml", &manifest("made", proc_macro)),
            ("made/src/lib.rs", macros),
            ("morestack/Cargo.toml", &manifest("morestack", runtime)),
            ("morestack/src/lib.rs", spawn),
            (
                "workspace/Cargo.toml",
                &format!("[workspace]\nresolver = \"3\"\nmembers = [\"base\", \"app\"]\n{settings}"),
            ),
            ("workspace/base/Cargo.toml", &manifest("base", "")),
            ("workspace/base/src/lib.rs", BASE),
            ("workspace/app/Cargo.toml", &manifest("app", &format!("[dependencies]\n{app}"))),
            ("workspace/app/src/main.rs", APP),
        ],
    )
}

#[test]
fn checks_and_marks_are_where_they_should_be() {
    let workspace = workspace("");
    for profile in ["debug", "release"] {
        let arguments = if profile == "debug" { "build -v" } else { "build -v --release" };
        let said = workspace.morestack(arguments).ok();
        let image = workspace.image(profile, "app");
        for name in ["app", "base", "third", "shared", "core", "alloc"] {
            // What of std is precompiled has no checks; what is instantiated has.
            if matches!(name, "core" | "alloc") {
                assert!(image.of_crate(name).any(|function| function.checked), "{name}");
            } else {
                image.assert_checked(name);
            }
        }
        image.assert_untouched("morestack");
        image.assert_untouched("below");
        // Generic std code that was made for this program names its types.
        for function in image.of_crate("alloc").filter(|f| f.name.contains("3app") && f.framed) {
            assert!(function.checked, "{}\n{}", function.name, function.text);
        }
        assert_eq!(image.marked(), ["app", "base"].into());
        for name in ["app", "base"] {
            for function in image.of_crate(name) {
                assert!(function.marked, "{} has no mark", function.name);
            }
        }
        // Who calls a function of C's expects no panic, so none may be raised there.
        assert!(!image.find("app_c").marked && image.find("app_c").checked);
        assert!(!image.find("third_c").marked && image.find("third_c").checked);
        assert!(!image.find("4leaf").framed || image.find("4leaf").checked);
        assert!(image.of_crate("base").any(|f| f.name.contains("7generic") && f.name.contains("3app")));
        let marked = image.functions.iter().filter(|function| function.marked).count();
        let at_functions = image.functions.iter().filter(|function| function.mark.is_some()).count();
        assert_eq!(image.marks, at_functions, "a mark is at no function");
        let counted = format!(
            "{} of {} functions begin with the check, {} of them may be preempted",
            image.checked(),
            image.functions.len(),
            marked
        );
        said.says(&[&counted]);
    }
}

#[test]
fn exclusion_leaves_packages_as_they_are() {
    let workspace = workspace("");
    workspace.morestack("--exclude third build --exclude base").ok();
    let image = workspace.image("debug", "app");
    image.assert_untouched("third");
    // Also what was compiled in a crate that is not excluded.
    image.assert_untouched("base");
    image.assert_checked("app");
    image.assert_checked("shared");
    assert_eq!(image.marked(), ["app"].into());

    workspace.morestack("build --workspace-only").ok();
    let image = workspace.image("debug", "app");
    assert!(!image.find("5third5plain").checked && !image.find("6shared5plain").checked);
    image.assert_checked("app");
    image.assert_checked("base");
    assert_eq!(image.marked(), ["app", "base"].into());

    // Of other settings nothing is left. A frame that is large is subtracted before the check.
    workspace.morestack("build --no-side-stack").ok();
    let image = workspace.image("debug", "app");
    assert!(image.find("5large").checked && image.find("5large").text.starts_with("lea r11"));
    image.assert_checked("third");
    assert_eq!(image.marked(), ["app", "base"].into());
}
