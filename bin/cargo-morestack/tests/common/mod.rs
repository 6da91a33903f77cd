//! Small workspaces, built by `cargo morestack`, and what is in the programs that come of it.

#![allow(dead_code, reason = "each test uses what it needs")]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use iced_x86::{Decoder, DecoderOptions, Formatter, Instruction, IntelFormatter, Mnemonic, Register};
use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget, SectionKind, SymbolKind};
use tempfile::TempDir;

#[path = "../../src/symbols.rs"]
mod symbols;

pub const TOOL: &str = env!("CARGO_BIN_EXE_cargo-morestack");
pub const TARGET: &str = "x86_64-unknown-linux-gnu";

/// A directory with packages.
pub struct Workspace {
    dir: TempDir,
    /// Where its root is.
    root: PathBuf,
}

impl Workspace {
    /// With these files.
    pub fn new(files: &[(&str, &str)]) -> Workspace {
        Workspace::in_dir(".", files)
    }

    /// With these files beside its root, which is this directory.
    pub fn in_dir(root: &str, files: &[(&str, &str)]) -> Workspace {
        let dir = tempfile::Builder::new().prefix("morestack-test-").tempdir().unwrap();
        let root = if root == "." { dir.path().to_owned() } else { dir.path().join(root) };
        let workspace = Workspace { root, dir };
        for (path, text) in files {
            workspace.write(path, text);
        }
        workspace
    }

    /// One package with one program.
    pub fn program(source: &str) -> Workspace {
        Workspace::new(&[("Cargo.toml", &manifest("a", "")), ("src/main.rs", source)])
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub fn path(&self) -> &Path {
        &self.root
    }

    /// `cargo morestack`, with these arguments.
    pub fn morestack(&self, arguments: &str) -> Command {
        let mut command = clean(TOOL);
        command.arg("morestack").args(arguments.split_whitespace()).current_dir(&self.root);
        command
    }

    pub fn cargo(&self, arguments: &str) -> Command {
        let mut command = clean(cargo());
        command.args(arguments.split_whitespace()).current_dir(&self.root);
        command
    }

    /// Where `cargo morestack` puts what it has built with this profile.
    pub fn built(&self, profile: &str, name: &str) -> PathBuf {
        self.root.join("target/morestack").join(TARGET).join(profile).join(name)
    }

    pub fn image(&self, profile: &str, name: &str) -> Image {
        Image::read(&self.built(profile, name))
    }
}

pub fn cargo() -> PathBuf {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()).into()
}

/// Without what the cargo that runs the tests has set.
pub fn clean(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let of_cargo = text.starts_with("CARGO_") && text != "CARGO_HOME";
        if of_cargo || ["RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "RUST_BACKTRACE"].contains(&&*text) {
            command.env_remove(name);
        }
    }
    command.env("CARGO_NET_OFFLINE", "true").env("CARGO", cargo()).stdin(Stdio::null());
    command
}

pub fn manifest(name: &str, rest: &str) -> String {
    format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n{rest}")
}

/// What came of a command.
pub struct Output {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

pub trait Run {
    fn run(&mut self) -> Output;
    /// It must succeed.
    fn ok(&mut self) -> Output;
    /// It must end with this code.
    fn fails(&mut self, code: i32) -> Output;
}

impl Run for Command {
    fn run(&mut self) -> Output {
        let output = self.output().unwrap();
        Output {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn ok(&mut self) -> Output {
        self.fails(0)
    }

    fn fails(&mut self, code: i32) -> Output {
        let output = self.run();
        assert_eq!(output.code, Some(code), "{self:?}\n{}\n{}", output.stdout, output.stderr);
        output
    }
}

impl Output {
    /// It said one line, with all of these words in it.
    pub fn one_line(&self, words: &[&str]) {
        let lines: Vec<_> = self.stderr.lines().collect();
        assert_eq!(lines.len(), 1, "{}", self.stderr);
        self.says(words);
    }

    pub fn says(&self, words: &[&str]) {
        for word in words {
            assert!(self.stderr.contains(word), "no {word:?} in\n{}", self.stderr);
        }
    }

    /// What cargo compiled.
    pub fn compiled(&self) -> BTreeSet<&str> {
        self.stderr.lines().filter_map(|line| line.trim().strip_prefix("Compiling ")?.split(' ').next()).collect()
    }
}

/// A function of a program.
pub struct Function {
    pub name: String,
    /// It begins with the check.
    pub checked: bool,
    /// It pushes, calls or makes room.
    pub framed: bool,
    /// A mark is at it, so many bytes before.
    pub mark: Option<u64>,
    /// The mark says that it may be preempted.
    pub marked: bool,
    pub text: String,
}

impl Function {
    /// The crate that it was written in. Crates that are left as they are have names of rustc's older scheme.
    pub fn crate_name(&self) -> Option<&str> {
        symbols::defining_crate(&self.name).or_else(|| {
            let rest = self.name.strip_prefix("_ZN")?;
            let digits = rest.find(|c: char| !c.is_ascii_digit())?;
            rest.get(digits..digits + rest[..digits].parse::<usize>().ok()?)
        })
    }
}

/// The functions of a program or library.
pub struct Image {
    pub functions: Vec<Function>,
    /// How many marks there are.
    pub marks: usize,
}

impl Image {
    pub fn read(path: &Path) -> Image {
        let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let file = object::File::parse(&*bytes).unwrap();
        let marks = marks(&file);
        let text = file.sections().filter(|section| section.kind() == SectionKind::Text);
        let sections: Vec<_> = text.map(|section| (section.address(), section.data().unwrap())).collect();
        let mut functions = BTreeMap::new();
        for symbol in file.symbols().filter(|s| s.kind() == SymbolKind::Text && s.size() > 0) {
            // Some linkers do not say in which section a symbol is.
            let code = sections.iter().find_map(|(start, data)| {
                let from = usize::try_from(symbol.address().checked_sub(*start)?).unwrap();
                data.get(from..from + usize::try_from(symbol.size()).unwrap())
            });
            let Some(code) = code else { continue };
            let function = function(symbol.name().unwrap(), code, symbol.address(), &marks);
            functions.entry(symbol.address()).or_insert(function);
        }
        Image { functions: functions.into_values().collect(), marks: marks.len() }
    }

    pub fn of_crate<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Function> {
        self.functions.iter().filter(move |function| function.crate_name() == Some(name))
    }

    /// The one function with this in its name.
    pub fn find(&self, part: &str) -> &Function {
        let mut found = self.functions.iter().filter(|function| function.name.contains(part));
        let first = found.next().unwrap_or_else(|| panic!("no function {part}"));
        assert!(found.next().is_none(), "several functions {part}");
        first
    }

    /// Every function of this crate with a frame has the check, and there is one.
    pub fn assert_checked(&self, name: &str) {
        let framed: Vec<_> = self.of_crate(name).filter(|function| function.framed).collect();
        assert!(!framed.is_empty(), "no functions of {name} with a frame");
        for function in framed {
            assert!(function.checked, "{} has no check:\n{}", function.name, function.text);
        }
    }

    pub fn assert_untouched(&self, name: &str) {
        assert!(self.of_crate(name).next().is_some(), "no functions of {name}");
        for function in self.of_crate(name) {
            assert!(!function.checked && !function.marked, "{}:\n{}", function.name, function.text);
        }
    }

    /// The crates whose functions are marked.
    pub fn marked(&self) -> BTreeSet<&str> {
        self.functions.iter().filter(|function| function.marked).filter_map(Function::crate_name).collect()
    }

    pub fn checked(&self) -> usize {
        self.functions.iter().filter(|function| function.checked).count()
    }
}

/// The addresses of the bytes before the functions that are marked.
fn marks(file: &object::File) -> BTreeSet<u64> {
    let Some(section) = file.section_by_name("__patchable_function_entries") else { return BTreeSet::new() };
    let data = section.data().unwrap();
    let words = data.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).filter(|word| *word != 0);
    let range = section.address()..section.address() + section.size();
    let relocated = file.dynamic_relocations().into_iter().flatten().filter(|(at, _)| range.contains(at));
    let relocated = relocated.map(|(_, relocation)| match relocation.target() {
        RelocationTarget::Absolute => u64::try_from(relocation.addend()).unwrap(),
        target => panic!("{target:?}"),
    });
    words.chain(relocated).collect()
}

fn function(name: &str, code: &[u8], address: u64, marks: &BTreeSet<u64>) -> Function {
    let mut formatter = IntelFormatter::new();
    let mut text = String::new();
    let instructions: Vec<Instruction> =
        Decoder::with_ip(64, code, address, DecoderOptions::NONE).into_iter().collect();
    let lines: Vec<String> = instructions
        .iter()
        .map(|instruction| {
            text.clear();
            formatter.format(instruction, &mut text);
            text.clone()
        })
        .collect();
    let checked = match &lines[..] {
        [first, ..] if first == "cmp rsp,fs:[70h]" => true,
        [first, second, ..] => first.starts_with("lea r11,[rsp-") && second == "cmp r11,fs:[70h]",
        _ => false,
    };
    let framed = instructions.iter().any(|instruction| {
        let makes_room = instruction.mnemonic() == Mnemonic::Sub && instruction.op0_register() == Register::RSP;
        makes_room || matches!(instruction.mnemonic(), Mnemonic::Push | Mnemonic::Call)
    });
    let mark = [1, 2, 3, 16].into_iter().find(|bytes| marks.contains(&(address - bytes)));
    let marked = matches!(mark, Some(1 | 3));
    Function { name: name.to_owned(), checked, framed, mark, marked, text: lines.join("\n") }
}
