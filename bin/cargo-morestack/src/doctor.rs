//! `cargo morestack doctor`: whether this toolchain, linker and C library can do it. It tries.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Command, ExitCode};

use anstyle::{AnsiColor, Style};
use iced_x86::{Decoder, DecoderOptions, Formatter, IntelFormatter};
use object::{Object, ObjectSection, ObjectSymbol};

use crate::{TARGET, coverage, listing, support, wrapper};

const PROGRAM: &str = include_str!("../support/doctor.rs");

/// The function that is looked at.
const FUNCTION: &str = "doctor_fib";

/// LLVM's list.
const ATTRIBUTES: &str = "doctor.csv";

/// fib(10).
const RESULT: u64 = 55;

/// Exit code 0 if all is well, 1 if not.
pub(crate) fn run() -> Result<ExitCode, String> {
    let dir = tempfile::tempdir().map_err(|error| format!("cannot make a directory: {error}"))?;
    let steps: [(&str, Step); 5] = [
        ("toolchain", toolchain),
        ("list of functions", list),
        ("compiler and linker", compile),
        ("C library", run_program),
        ("prologue", disassemble),
    ];
    let mut out = anstream::stdout();
    let good = Style::new().fg_color(Some(AnsiColor::Green.into())).bold();
    let bad = Style::new().fg_color(Some(AnsiColor::Red.into())).bold();
    for (name, step) in steps {
        let (style, word, text) = match step(dir.path()) {
            Ok(text) => (good, "ok", text),
            Err(text) => (bad, "no", text),
        };
        writeln!(out, "{style}{word}{style:#}  {name}: {text}").map_err(|error| error.to_string())?;
        if word == "no" {
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

type Step = fn(&Path) -> Result<String, String>;

fn rustc() -> Command {
    Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
}

/// What it printed; the error is why it failed, in one line.
fn output(command: &mut Command) -> Result<String, String> {
    let output =
        command.output().map_err(|error| format!("cannot start {}: {error}", command.get_program().display()))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(support::reason(&output))
    }
}

fn toolchain(_: &Path) -> Result<String, String> {
    let version = output(rustc().arg("-vV"))?;
    if !version.starts_with("rustc ") {
        return Err(format!("{} is no rustc: it says {:?}", rustc().get_program().display(), version.trim_end()));
    }
    let line = |name: &str| version.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("unknown").to_owned();
    let (release, host, llvm) = (line("release: "), line("host: "), line("LLVM version: "));
    let targets = output(rustc().args(["--print", "target-libdir", "--target", TARGET]))?;
    if !Path::new(targets.trim()).exists() {
        return Err(format!("rustc {release} has no standard library for {TARGET}: rustup target add {TARGET}"));
    }
    Ok(format!("rustc {release}, LLVM {llvm}, host {host}"))
}

/// The arguments of both passes.
fn passes(dir: &Path) -> Command {
    let mut command = rustc();
    command
        .current_dir(dir)
        .args([
            "--edition=2024",
            "--target",
            TARGET,
            "-Copt-level=3",
            "-Ccodegen-units=1",
            "-Csymbol-mangling-version=v0",
        ])
        .arg("doctor.rs");
    command
}

fn list(dir: &Path) -> Result<String, String> {
    std::fs::write(dir.join("doctor.rs"), PROGRAM).map_err(|error| error.to_string())?;
    output(passes(dir).args(["--emit=llvm-ir", "-o", "doctor.ll", "-Cno-prepopulate-passes"]))?;
    let functions = listing::read(&dir.join("doctor.ll")).map_err(|error| error.to_string())?;
    if !functions.iter().any(|function| function.symbol == FUNCTION) {
        return Err(format!("rustc's list of {} functions does not have {FUNCTION}", functions.len()));
    }
    let attributes = functions.iter().map(|function| (function, wrapper::SPLIT_STACK));
    std::fs::File::create(dir.join(ATTRIBUTES))
        .and_then(|file| listing::write_attributes(BufWriter::new(file), attributes))
        .map_err(|error| error.to_string())?;
    Ok(format!("{} functions", functions.len()))
}

fn compile(dir: &Path) -> Result<String, String> {
    let list = std::fs::File::open(dir.join(ATTRIBUTES)).map_err(|error| error.to_string())?;
    output(passes(dir).arg(wrapper::list_argument()).args(wrapper::LINKING).args(["-o", "doctor"]).stdin(list))?;
    let coverage = coverage::of(&dir.join("doctor"))?;
    if coverage.checked == 0 {
        return Err(format!("none of {} functions begins with the check", coverage.functions));
    }
    Ok(format!("{} of {} functions begin with the check", coverage.checked, coverage.functions))
}

fn run_program(dir: &Path) -> Result<String, String> {
    let said = output(&mut Command::new(dir.join("doctor")))?;
    let numbers: Vec<u64> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    match numbers[..] {
        [0, RESULT, 0, RESULT, calls] if calls > 0 => Ok(format!(
            "the guard is 0 at first; with a request the check of {FUNCTION} failed {calls} times, and it went on"
        )),
        [guard, ..] if guard != 0 => {
            Err(format!("fs:[0x70] is {guard:#x} at the start of a program, not 0: it is in use"))
        }
        _ => Err(format!("expected 0 {RESULT} 0 {RESULT} and a number of calls, got {}", said.trim_end())),
    }
}

fn disassemble(dir: &Path) -> Result<String, String> {
    let bytes = std::fs::read(dir.join("doctor")).map_err(|error| error.to_string())?;
    let file = object::File::parse(&*bytes).map_err(|error| error.to_string())?;
    let symbol = file.symbols().find(|s| s.name() == Ok(FUNCTION)).ok_or_else(|| format!("no symbol {FUNCTION}"))?;
    let code = symbol
        .section_index()
        .and_then(|index| file.section_by_index(index).ok()?.data_range(symbol.address(), symbol.size()).ok()?)
        .ok_or_else(|| format!("no code of {FUNCTION}"))?;
    let listing = assembly(code, symbol.address());
    if coverage::is_checked(code) {
        Ok(format!("{FUNCTION} begins with the check\n{listing}"))
    } else {
        Err(format!("{FUNCTION} does not begin with the check\n{listing}"))
    }
}

fn assembly(code: &[u8], address: u64) -> String {
    let mut formatter = IntelFormatter::new();
    let mut text = String::new();
    for instruction in Decoder::with_ip(64, code, address, DecoderOptions::NONE) {
        text.push_str(&format!("    {:x}:  ", instruction.ip()));
        formatter.format(&instruction, &mut text);
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text
}
