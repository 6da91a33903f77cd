//! One invocation of rustc by cargo, as far as it matters here.

use std::ffi::{OsStr, OsString};
use std::path::Path;

/// The program (with cargo's other wrappers before it) and its arguments.
#[derive(Clone, Debug)]
pub(crate) struct Invocation {
    program: Vec<OsString>,
    arguments: Vec<OsString>,
}

/// Options of rustc that the first pass goes without, and without their values.
const WITH_VALUE: [&str; 5] = ["--out-dir", "--error-format", "--json", "--emit", "--print"];

/// Options of code generation that would have the symbols listed from something else than what is compiled, or from several files.
const NOT_LISTED: [&str; 6] =
    ["incremental", "codegen-units", "lto", "linker-plugin-lto", "embed-bitcode", "debuginfo"];

impl Invocation {
    /// Of a wrapper's arguments: rustc's path, perhaps behind that of another wrapper, and its arguments.
    pub(crate) fn new(words: Vec<OsString>) -> Invocation {
        let is_rustc = |word: &OsString| Path::new(word).file_stem().is_some_and(|stem| stem == "rustc");
        let length = words.iter().take(2).position(is_rustc).map_or(1, |at| at + 1).min(words.len());
        let mut program = words;
        let arguments = program.split_off(length);
        Invocation { program, arguments }
    }

    pub(crate) fn command(&self) -> std::process::Command {
        let mut command =
            std::process::Command::new(self.program.first().map_or(OsStr::new("rustc"), OsString::as_os_str));
        command.args(self.program.iter().skip(1)).args(&self.arguments);
        command
    }

    fn words(&self) -> impl Iterator<Item = &str> {
        self.arguments.iter().filter_map(|argument| argument.to_str())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.words().any(|word| word == name || word.strip_prefix(name).is_some_and(|rest| rest.starts_with('=')))
    }

    /// All values of an option, in either way of writing.
    pub(crate) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.words().zip(self.words().skip(1).map(Some).chain([None])).filter_map(move |(word, next)| {
            let rest = word.strip_prefix(name)?;
            if rest.is_empty() { next } else { rest.strip_prefix('=') }
        })
    }

    /// All values of an option of code generation, `-C name=value` or `-Cname=value`.
    pub(crate) fn codegen<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.codegen_options().filter_map(move |option| {
            let rest = option.strip_prefix(name)?;
            if rest.is_empty() { Some("") } else { rest.strip_prefix('=') }
        })
    }

    fn codegen_options(&self) -> impl Iterator<Item = &str> {
        self.words().zip(self.words().skip(1).map(Some).chain([None])).filter_map(|(word, next)| match word {
            "-C" | "--codegen" => next,
            _ => word.strip_prefix("--codegen=").or_else(|| word.strip_prefix("-C")),
        })
    }

    pub(crate) fn crate_name(&self) -> Option<&str> {
        self.values("--crate-name").last()
    }

    pub(crate) fn crate_types(&self) -> impl Iterator<Item = &str> {
        self.values("--crate-type").flat_map(|types| types.split(','))
    }

    /// The file that has the arguments where there are too many for a command line.
    pub(crate) fn argument_file(&self) -> Option<&str> {
        self.words().find_map(|word| word.strip_prefix('@'))
    }

    /// Whether it makes code: not if it only checks, or is asked a question.
    pub(crate) fn makes_code(&self) -> bool {
        let besides = |what: &str| matches!(what.split('=').next(), Some("link-args" | "native-static-libs"));
        if self.crate_name().is_none_or(|name| name == "___") || !self.values("--print").all(besides) {
            return false;
        }
        let kinds: Vec<_> = self.values("--emit").flat_map(|kinds| kinds.split(',')).collect();
        kinds.is_empty() || kinds.iter().any(|kind| matches!(kind.split('=').next(), Some("link" | "obj" | "asm")))
    }

    /// Whether it ends in a program, or in a library that is complete.
    pub(crate) fn links(&self) -> bool {
        let emits = self.values("--emit").flat_map(|kinds| kinds.split(',')).any(|kind| kind.starts_with("link"));
        let kinds: Vec<_> = self.crate_types().collect();
        let program =
            kinds.is_empty() || kinds.iter().any(|kind| matches!(*kind, "bin" | "cdylib" | "dylib" | "staticlib"));
        emits && (program || self.has("--test"))
    }

    /// Whether LLVM runs its pipeline of passes.
    pub(crate) fn optimises(&self) -> bool {
        self.codegen("opt-level").last().is_some_and(|level| level != "0") || self.has("-O")
    }

    /// The linker and how it is chosen, where that is one that rewrites checks.
    pub(crate) fn rewriting_linker(&self) -> Option<&str> {
        let rewrites = |word: &&str| {
            let name = word.rsplit(['/', '=']).next().unwrap_or(word);
            let family = name.trim_start_matches("ld.").split('-').next().unwrap_or(name);
            matches!(family, "lld" | "gold") || name == "rust-lld"
        };
        let arguments = self.codegen("link-arg").chain(self.codegen("link-args").flat_map(str::split_whitespace));
        arguments.chain(self.codegen("linker")).find(rewrites)
    }

    /// Whether the C library is linked into the program.
    pub(crate) fn has_static_c(&self) -> bool {
        // Wherever it stands, and whatever else is asked for.
        self.codegen("target-feature").flat_map(|features| features.split(',')).any(|feature| feature == "+crt-static")
    }

    pub(crate) fn push(&mut self, argument: impl Into<OsString>) {
        self.arguments.push(argument.into());
    }

    /// Without these options of code generation.
    fn without_codegen(&self, names: &[&str]) -> Invocation {
        let matches = |option: &str| names.contains(&option.split('=').next().unwrap_or(option));
        let mut arguments = Vec::new();
        let mut given = self.arguments.iter().peekable();
        while let Some(argument) = given.next() {
            match argument.to_str() {
                Some("-C" | "--codegen") => {
                    let Some(option) = given.next() else { continue };
                    if !option.to_str().is_some_and(matches) {
                        arguments.extend([argument.clone(), option.clone()]);
                    }
                }
                Some(word) if word.strip_prefix("--codegen=").or(word.strip_prefix("-C")).is_some_and(matches) => {}
                _ => arguments.push(argument.clone()),
            }
        }
        Invocation { program: self.program.clone(), arguments }
    }

    /// The same, all in one unit of code generation: LLVM complains of each symbol that a unit does not have.
    pub(crate) fn in_one_unit(&self) -> Invocation {
        let mut invocation = self.without_codegen(&["codegen-units"]);
        invocation.push("-Ccodegen-units=1");
        invocation
    }

    /// The same, but that it writes LLVM's code before any pass has run. If it is incremental, what it knows is kept here.
    pub(crate) fn listing(&self, to: &Path, incremental: &Path) -> Invocation {
        let kept = self.without_codegen(&NOT_LISTED);
        let mut arguments = Vec::new();
        let mut given = kept.arguments.into_iter();
        while let Some(argument) = given.next() {
            match argument.to_str() {
                Some("-g") => {}
                Some(word) if WITH_VALUE.contains(&word) => drop(given.next()),
                Some(word)
                    if WITH_VALUE.iter().any(|name| word.strip_prefix(name).is_some_and(|r| r.starts_with('='))) => {}
                _ => arguments.push(argument),
            }
        }
        let mut invocation = Invocation { program: kept.program, arguments };
        for argument in ["-Ccodegen-units=1", "-Cno-prepopulate-passes", "-Awarnings", "--cap-lints=allow", "-o"] {
            invocation.push(argument);
        }
        invocation.push(to);
        invocation.push("--emit=llvm-ir");
        if self.codegen("incremental").next().is_some() {
            let mut option = OsString::from("-Cincremental=");
            option.push(incremental);
            invocation.push(option);
        }
        invocation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invocation(line: &str) -> Invocation {
        Invocation::new(line.split_whitespace().map(OsString::from).collect())
    }

    fn line(invocation: &Invocation) -> String {
        let words: Vec<_> = invocation.arguments.iter().map(|a| a.to_str().unwrap()).collect();
        words.join(" ")
    }

    #[test]
    fn another_wrapper_may_stand_before_rustc() {
        assert_eq!(invocation("/a/rustc -vV").program.len(), 1);
        assert_eq!(invocation("/b/clippy-driver /a/rustc -vV").program.len(), 2);
        assert_eq!(invocation("/b/my-compiler --crate-name rustc").program.len(), 1);
    }

    #[test]
    fn what_it_makes_is_read_off_the_arguments() {
        let lib =
            invocation("rustc --crate-name a --crate-type lib --emit=dep-info,metadata,link -C opt-level=3 -Clto=fat");
        assert_eq!(lib.crate_name(), Some("a"));
        assert!(lib.makes_code() && !lib.links() && lib.optimises());
        let check = invocation("rustc --crate-name a --crate-type bin --emit=dep-info,metadata");
        assert!(!check.makes_code() && !check.links() && !check.optimises());
        let bin = invocation("rustc --crate-name a --crate-type bin --emit dep-info,link -C opt-level=0");
        assert!(bin.makes_code() && bin.links() && !bin.optimises());
        let test = invocation("rustc --crate-name a --test --crate-type lib --emit=dep-info,link -O");
        assert!(test.links() && test.optimises());
        assert!(invocation("rustc --crate-type rlib,cdylib --emit=link").links());
        assert!(invocation("rustc --crate-type staticlib --emit=link").links());
        let question = invocation("rustc - --crate-name ___ --print=file-names --crate-type bin --print=cfg");
        assert!(!question.makes_code());
        assert!(!invocation("rustc --crate-name a --print cfg").makes_code());
        assert!(invocation("rustc --crate-name a --print=link-args --print native-static-libs=x").makes_code());
    }

    #[test]
    fn linkers_that_rewrite_checks_are_found() {
        for (arguments, found) in [
            ("-C link-arg=-fuse-ld=lld", Some("-fuse-ld=lld")),
            ("-Clinker=/usr/bin/ld.lld", Some("/usr/bin/ld.lld")),
            ("-C link-args=-s -C linker=rust-lld", Some("rust-lld")),
            ("-Clink-arg=-fuse-ld=gold", Some("-fuse-ld=gold")),
            ("-Clink-arg=-fuse-ld=/usr/bin/ld.lld-19", Some("-fuse-ld=/usr/bin/ld.lld-19")),
            ("-Clink-arg=-fuse-ld=mold -Clinker=clang", None),
        ] {
            assert_eq!(invocation(&format!("rustc {arguments}")).rewriting_linker(), found, "{arguments}");
        }
    }

    #[test]
    fn a_listing_is_of_the_same_code() {
        let given = invocation(
            "rustc --crate-name a --emit=link --json=artifacts --error-format json -C opt-level=3 -C lto=thin \
             -Cincremental=x -C codegen-units=16 --out-dir target --cfg a -C metadata=1 -Clinker-plugin-lto",
        );
        assert_eq!(
            line(&given.listing(Path::new("a.ll"), Path::new("kept"))),
            "--crate-name a -C opt-level=3 --cfg a -C metadata=1 -Ccodegen-units=1 -Cno-prepopulate-passes -Awarnings \
             --cap-lints=allow -o a.ll --emit=llvm-ir -Cincremental=kept"
        );
        let compiled = line(&given.in_one_unit());
        assert!(compiled.contains("-Cincremental=x") && compiled.ends_with("-Clinker-plugin-lto -Ccodegen-units=1"));
        assert!(!compiled.contains("codegen-units=16"));
    }
}
