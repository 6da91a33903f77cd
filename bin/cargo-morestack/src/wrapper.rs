//! In rustc's place: what cargo starts instead of it, for every crate.
//!
//! ```text
//!   cargo ──► morestack-rustc ── host crate, check, query ──► rustc, as it was asked for
//!                   │
//!                   ├── 1. rustc --emit=llvm-ir ──► the crate's functions
//!                   └── 2. rustc, as it was asked for, and -Cllvm-args=-forceattrs-csv-path=LIST
//! ```
//!
//! | crate | what it gets |
//! |---|---|
//! | a proc-macro, a build script, and what they stand on | nothing: they are compiled for the host, without `--target` |
//! | the scheduler and what it stands on | nothing: it calls them where a stack must not move |
//! | excluded, or third-party with `--workspace-only` | nothing |
//! | third-party | the check: stacks grow there |
//! | of the workspace | the check, and a mark at what it defines itself: there it may be preempted |
//!
//! Attributes come from a list of symbols, since LLVM has no option that sets one of this kind on every function. If the first pass
//! fails, the second is done without a list, so that rustc reports the error as it always does.
//!
//! # Fingerprints
//!
//! Cargo does not know what a wrapper does, and would keep what was built with other settings. But it asks rustc for its version,
//! through the wrapper, and builds everything anew when the answer differs: [`version`] adds a line.
//!
//! # What unwinds
//!
//! A stack overflow unwinds out of a function of the workspace. LLVM does not know of it, and must not infer that such a function
//! never unwinds: its callers would have no way to catch it.

use std::ffi::OsString;
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus, Stdio};

use crate::listing;
use crate::rustc::Invocation;
use crate::settings::Settings;
use crate::support;

/// The check.
const SPLIT_STACK: &str = "split-stack=1";

/// A byte before the function, and its address in a section of the program.
const MARK: &str = "patchable-function-prefix=1";

/// What LLVM says of each function in the list that a unit does not have: the shim of the allocator has none of them.
const NOISE: &str = "Function in CSV file at line ";

/// The crate that cargo has compiled, for messages.
fn package() -> String {
    std::env::var("CARGO_PKG_NAME").unwrap_or_else(|_| "this crate".to_owned())
}

pub(crate) fn main(words: Vec<OsString>) -> ExitCode {
    let invocation = Invocation::new(words);
    let status = Settings::from_environment().and_then(|settings| run(&settings, invocation));
    match status {
        Ok(status) => exit_code(status),
        Err(error) => {
            eprintln!("error: cargo morestack: {}: {error}", package());
            ExitCode::FAILURE
        }
    }
}

/// That of a child; of one that a signal ended, what a shell makes of it.
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

fn run(settings: &Settings, invocation: Invocation) -> Result<ExitStatus, String> {
    if invocation.has("-vV") {
        return version(settings, &invocation);
    }
    let for_host = !invocation.has("--target") || invocation.crate_types().any(|kind| kind == "proc-macro");
    if for_host || invocation.crate_name().is_none() || invocation.has("--print") || !invocation.makes_code() {
        return plain(&invocation);
    }
    let mut invocation = invocation;
    if invocation.links() {
        link(settings, &mut invocation)?;
    }
    match class(settings, invocation.crate_name()) {
        Class::Untouched => plain(&invocation),
        class => instrumented(settings, &invocation, class),
    }
}

/// What the settings say of the crate that is compiled.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Untouched,
    ThirdParty,
    Member,
}

fn class(settings: &Settings, crate_name: Option<&str>) -> Class {
    let name = package();
    let member = std::env::var_os("CARGO_MANIFEST_DIR").is_some_and(|dir| settings.is_member(dir.as_ref()));
    // Not the examples and tests in the scheduler's own packages.
    let runtime = settings.runtime.contains(&name) && !(member && crate_name != Some(&name.replace('-', "_")));
    if runtime || settings.exclude.contains(&name) || settings.workspace_only && !member {
        Class::Untouched
    } else if member {
        Class::Member
    } else {
        Class::ThirdParty
    }
}

/// rustc's own version, and a line for cargo's fingerprints: of this program and its settings.
fn version(settings: &Settings, invocation: &Invocation) -> Result<ExitStatus, String> {
    let output = invocation.command().stderr(Stdio::inherit()).output().map_err(|error| cannot_start(&error))?;
    let mut hasher = DefaultHasher::new();
    let program = std::env::current_exe().and_then(std::fs::read);
    hasher.write(&program.map_err(|error| format!("cannot read this program: {error}"))?);
    hasher.write(settings.fingerprint().as_bytes());
    let mut text = output.stdout;
    writeln!(text, "morestack: {} {:016x}", env!("CARGO_PKG_VERSION"), hasher.finish()).expect("memory takes it");
    io::stdout().write_all(&text).map_err(|error| error.to_string())?;
    Ok(output.status)
}

fn cannot_start(error: &io::Error) -> String {
    format!("cannot start rustc: {error}")
}

fn plain(invocation: &Invocation) -> Result<ExitStatus, String> {
    invocation.command().status().map_err(|error| cannot_start(&error))
}

/// What every program needs: `__morestack` where nobody else brings it, and a linker that leaves the checks as they are.
fn link(settings: &Settings, invocation: &mut Invocation) -> Result<(), String> {
    if let Some(linker) = invocation.rewriting_linker() {
        return Err(format!(
            "the linker {linker:?} rewrites the stack checks of functions that call precompiled code, so that they always fail: \
             use GNU ld or mold"
        ));
    }
    let library = support::library(settings)?;
    invocation.push("-Clinker-features=-lld");
    // The support library names the section of marks, which would keep every marked function.
    invocation.push("-Clink-arg=-Wl,-z,start-stop-gc");
    invocation.push("-L");
    invocation.push({
        let mut search = OsString::from("native=");
        search.push(library.dir);
        search
    });
    invocation.push("-l");
    invocation.push(format!("static:+whole-archive={}", library.name));
    Ok(())
}

fn instrumented(settings: &Settings, given: &Invocation, class: Class) -> Result<ExitStatus, String> {
    let mut invocation = given.in_one_unit();
    invocation.push("-Csymbol-mangling-version=v0");
    let scratch = tempfile::Builder::new().prefix("cargo-morestack-").tempdir().map_err(|error| {
        format!("cannot make a directory for the list of functions in {}: {error}", std::env::temp_dir().display())
    })?;
    let code = scratch.path().join("functions.ll");
    let listed = invocation.listing(&code).command().stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !listed.map_err(|error| cannot_start(&error))?.success() {
        return plain(given);
    }
    let functions = listing::read(&code).map_err(|error| format!("cannot read the list of functions: {error}"))?;
    // It may be large.
    let _ = std::fs::remove_file(&code);
    let touched = |function: &&listing::Function| {
        let in_touched = |name: &str| !settings.untouched.contains(name) && !is_runtime(name);
        function.defining_crate().is_none_or(in_touched) && !function.is_allocator()
    };
    let checked = functions.iter().filter(touched).map(|function| (function, SPLIT_STACK));
    let marked = functions.iter().filter(touched).filter(|function| match function.defining_crate() {
        Some(name) => settings.preemptible.contains(name),
        // A name of the author's choice: it is not generic, so it is this crate's.
        None => class == Class::Member,
    });
    let list = list_path(scratch.path().join("attributes.csv"))?;
    listing::write_attributes(&list, checked.chain(marked.map(|function| (function, MARK))))
        .map_err(|error| format!("cannot write the list of functions: {error}"))?;
    invocation.push(format!("-Cllvm-args=-forceattrs-csv-path={}", list.display()));
    if class == Class::Member || given.links() {
        invocation.push("-Cllvm-args=-disable-nounwind-inference");
    }
    if !invocation.optimises() {
        // Otherwise it is among the passes already.
        invocation.push("-Cpasses=forceattrs");
    }
    quietly(&invocation)
}

/// Functions of the scheduler are compiled into crates that use it, too.
fn is_runtime(name: &str) -> bool {
    matches!(name, "morestack" | "morestack_asm" | "morestack_stacks")
}

/// rustc splits LLVM's arguments at blanks.
fn list_path(path: PathBuf) -> Result<PathBuf, String> {
    if path.to_str().is_some_and(|path| !path.contains(char::is_whitespace)) {
        Ok(path)
    } else {
        Err(format!(
            "{} has a blank in it, which rustc does not pass on to LLVM: set TMPDIR to a directory without",
            path.display()
        ))
    }
}

/// Runs it without [`NOISE`].
fn quietly(invocation: &Invocation) -> Result<ExitStatus, String> {
    let mut child = invocation.command().stderr(Stdio::piped()).spawn().map_err(|error| cannot_start(&error))?;
    let mut said = BufReader::new(child.stderr.take().expect("it was asked for"));
    let mut line = Vec::new();
    let mut stderr = io::stderr().lock();
    while said.read_until(b'\n', &mut line).map_err(|error| error.to_string())? != 0 {
        if !line.starts_with(NOISE.as_bytes()) {
            stderr.write_all(&line).map_err(|error| error.to_string())?;
        }
        line.clear();
    }
    child.wait().map_err(|error| error.to_string())
}
