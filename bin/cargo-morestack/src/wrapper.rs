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
//! | the scheduler | side stacks, and a mark at each function: they move, and have no check |
//! | what the scheduler stands on | nothing: it calls that where a stack must not move |
//! | excluded, or third-party with `--workspace-only` | nothing |
//! | what the program's own allocator calls within its crate | nothing |
//! | third-party | the check: stacks grow there; side stacks |
//! | of the workspace | the check, and a mark at what it defines itself: there it may be preempted |
//!
//! Attributes come from a list of symbols, since LLVM has no option that sets one of this kind on every function. If the first pass
//! fails, rustc is called as it was asked for, and reports the error as it always does.
//!
//! The list is the standard input of the second pass, in a file without a name.
//!
//! # Fingerprints
//!
//! Cargo does not know what a wrapper does, and would keep what was built with other settings. But it asks rustc for its version,
//! through the wrapper, and builds everything anew when the answer differs: [`version`] adds a line.
//!
//! # Incremental builds
//!
//! Each pass keeps what it knows, in a directory of its own. The second may take all of a crate's code from there, and it is right:
//! the code is one unit, which is taken only if the very same functions are in it and none has changed; what makes a list of
//! them is in the fingerprint, which is in the crate's identity, and by that in the name of what is kept.
//!
//! # What unwinds
//!
//! A stack overflow unwinds out of a function of the workspace. LLVM does not know of it, and must not infer that such a function
//! never unwinds: its callers would have no way to catch it. Nor is one raised in a function whose ABI does not unwind (`extern "C"`):
//! its callers have no destructors to run, as far as LLVM knows. It has the check, and no mark.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus, Stdio};

use crate::listing;
use crate::rustc::Invocation;
use crate::settings::{Class, Settings};
use crate::support::{self, Library};

/// The check.
pub(crate) const SPLIT_STACK: &str = "split-stack=1";

/// Marks: so many bytes before the function, and their address in a section of the program. The scheduler knows them by their number.
pub(crate) mod mark {
    /// It may be preempted.
    pub(crate) const OPEN: usize = 1;
    /// Its frame does not move.
    pub(crate) const FIXED: usize = 2;
    /// It is the scheduler's own.
    pub(crate) const OWN: usize = 16;
    /// By their sum.
    pub(crate) const ATTRIBUTES: [(usize, &str); 4] = [
        (OPEN, "patchable-function-prefix=1"),
        (FIXED, "patchable-function-prefix=2"),
        (OPEN + FIXED, "patchable-function-prefix=3"),
        (OWN, "patchable-function-prefix=16"),
    ];
}

/// Bytes of locals that a function may have on a side stack. The scheduler has the same number, and the reason.
const SIDE_LOCALS: usize = 4 << 10;

/// What is added to each crate that has side stacks.
const SIDE_STACKS: &str = "-Cllvm-args=-force-attribute=safestack";

/// What is inlined into a function with a side stack has 8 KiB of locals at most, so that it takes many of them to jump over the 128 KiB
/// below a side stack that fault.
const SIDE_INLINED: &str = "inline-max-stacksize=8192";

/// What shared libraries look for in the program.
const EXPORTED: [&str; 6] = [
    "__safestack_unsafe_stack_ptr",
    "morestack_split_entry",
    "morestack_register_image",
    "morestack_unregister_image",
    "pthread_create",
    "pthread_getattr_np",
];

/// rustc's own linker rewrites checks; and the support library names the section of marks, which would keep every marked function.
pub(crate) const LINKING: [&str; 2] = ["-Clinker-features=-lld", "-Clink-arg=-Wl,-z,start-stop-gc"];

/// Where the second pass finds the list: rustc splits LLVM's arguments at blanks, and what is in the arguments is in the crate's hash,
/// so a path of a file will not do.
const LIST: &str = "/proc/self/fd/0";

/// What LLVM says of each function in the list that a unit does not have: the shim of the allocator has none of them.
const NOISE: [&[u8]; 2] = [b"Function in CSV file at line ", b" does not exist.\n"];

/// The crate that cargo has compiled, for messages.
fn package() -> String {
    std::env::var("CARGO_PKG_NAME").unwrap_or_else(|_| "this crate".to_owned())
}

pub(crate) fn main(mut words: Vec<OsString>) -> ExitCode {
    let name = words.remove(0);
    let status = Settings::beside(&name).and_then(|settings| run(&settings, &name, Invocation::new(words)));
    match status {
        Ok(status) => exit_code(status),
        Err(error) => {
            // Nobody may be reading.
            let _ = writeln!(io::stderr(), "error: cargo morestack: {}: {error}", package());
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

fn run(settings: &Settings, name: &OsStr, mut invocation: Invocation) -> Result<ExitStatus, String> {
    if invocation.has("-vV") {
        return version(settings, &invocation);
    }
    if let Some(file) = invocation.argument_file() {
        return Err(format!("cargo has put the arguments into a file, {file}, and cannot be followed there"));
    }
    let for_host = !invocation.has("--target") || invocation.crate_types().any(|kind| kind == "proc-macro");
    if for_host || !invocation.makes_code() {
        return replace(&invocation);
    }
    if let Some(target) = invocation.values("--target").find(|target| *target != crate::TARGET) {
        return Err(format!("target {target}: allowed: {}, where green threads run", crate::TARGET));
    }
    if invocation.links() {
        link(settings, &mut invocation)?;
    }
    let dir = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
    match settings.class(&package(), &dir, invocation.crate_name().unwrap_or_default()) {
        Class::Untouched => replace(&invocation),
        class => {
            let dir = Path::new(name).parent().and_then(Path::parent).unwrap_or(Path::new("."));
            instrumented(settings, &invocation, class, dir)
        }
    }
}

/// rustc's own version, and a line for cargo's fingerprints: of this program and its settings.
fn version(settings: &Settings, invocation: &Invocation) -> Result<ExitStatus, String> {
    let output = invocation.command().stderr(Stdio::inherit()).output().map_err(|error| cannot_start(&error))?;
    let mut text = output.stdout;
    writeln!(text, "morestack: {} {}", env!("CARGO_PKG_VERSION"), settings.fingerprint).expect("memory takes it");
    io::stdout().write_all(&text).map_err(|error| error.to_string())?;
    Ok(output.status)
}

fn cannot_start(error: &io::Error) -> String {
    format!("cannot start rustc: {error}")
}

/// rustc, as it was asked for.
fn replace(invocation: &Invocation) -> Result<ExitStatus, String> {
    Err(cannot_start(&invocation.command().exec()))
}

/// What every program needs: `__morestack` where nobody else brings it, and a linker that leaves the checks as they are.
fn link(settings: &Settings, invocation: &mut Invocation) -> Result<(), String> {
    if let Some(linker) = invocation.rewriting_linker() {
        return Err(format!(
            "the linker {linker:?} rewrites the stack checks of functions that call precompiled code, so that they always fail: \
             use GNU ld or mold"
        ));
    }
    if settings.side_stacks && invocation.has_static_c() {
        return Err("target-feature=+crt-static: threads get no side stacks where the C library is in the program: \
                    leave it out, or build with --no-side-stack"
            .to_owned());
    }
    for argument in LINKING {
        invocation.push(argument);
    }
    let shared = !invocation.has("--test") && invocation.crate_types().any(|kind| kind == "cdylib" || kind == "dylib");
    if settings.side_stacks && !invocation.has("--test") && invocation.crate_types().any(|kind| kind == "cdylib") {
        eprintln!(
            "note: {}: its shared library needs a program that cargo morestack has built with side stacks; \
             for any other build it with --no-side-stack",
            package()
        );
    }
    let name = if shared {
        Library::SHARED
    } else {
        for symbol in EXPORTED {
            invocation.push(format!("-Clink-arg=-Wl,--export-dynamic-symbol={symbol}"));
        }
        Library::NAME
    };
    invocation.push("-L");
    invocation.push(settings.support.search());
    invocation.push("-l");
    invocation.push(format!("static:+whole-archive={name}"));
    Ok(())
}

fn instrumented(settings: &Settings, given: &Invocation, class: Class, dir: &Path) -> Result<ExitStatus, String> {
    let mut invocation = given.in_one_unit();
    invocation.push("-Csymbol-mangling-version=v0");
    if class == Class::Own {
        invocation.push("--cfg");
        invocation.push("morestack_side_stacks");
        if settings.leaves_out() {
            invocation.push("--cfg");
            invocation.push("morestack_unchecked");
        }
    }
    invocation.push(format!("-Cmetadata={}", settings.fingerprint));
    let functions = match functions(&invocation, dir)? {
        Ok(functions) => functions,
        Err(reason) => {
            let status = given.command().status().map_err(|error| cannot_start(&error))?;
            // What rustc has made has no checks.
            return if status.success() {
                Err(format!("rustc does not list the functions: {reason}"))
            } else {
                Ok(status)
            };
        }
    };
    let compiled = given.crate_name().unwrap_or_default();
    let is_checked =
        |f: &&listing::Function| class != Class::Own && settings.is_checked(f.defining_crate()) && !f.allocates;
    // A stack overflow is raised where a function is marked as open: callers must be prepared, or the panic must not get that far.
    let aborts = invocation.codegen("panic").last() == Some("abort");
    let checked = functions.iter().filter(is_checked);
    let marked = functions.iter().filter_map(|f| {
        let own = class == Class::Own || settings.is_own(f.defining_crate());
        let open =
            is_checked(&f) && (f.unwinds || aborts) && settings.is_preemptible(f.defining_crate(), class, compiled);
        let sum = match () {
            () if is_fixed(settings, f) => mark::FIXED + if open { mark::OPEN } else { 0 },
            () if own => mark::OWN,
            () if open => mark::OPEN,
            () => return None,
        };
        let (_, attribute) = mark::ATTRIBUTES.iter().find(|(mark, _)| *mark == sum)?;
        Some((f, *attribute))
    });
    let limited = functions.iter().filter(|f| settings.side_stacks && !is_fixed(settings, f));
    let limited = limited.map(|f| (f, SIDE_INLINED));
    let list = list(dir, checked.map(|f| (f, SPLIT_STACK)).chain(marked).chain(limited))
        .map_err(|error| format!("cannot write the list of functions in {}: {error}", dir.display()))?;
    invocation.push(list_argument());
    if settings.side_stacks {
        invocation.push(SIDE_STACKS);
        for function in functions.iter().filter(|f| is_fixed(settings, f)) {
            // LLVM inlines only what agrees in the first, so its locals do not become those of a function with a side stack; but
            // what has the second it always inlines.
            for attribute in ["safestack", "alwaysinline"] {
                invocation.push(format!("-Cllvm-args=-force-remove-attribute={}:{attribute}", function.symbol));
            }
        }
    }
    if class == Class::Member || given.links() {
        invocation.push("-Cllvm-args=-disable-nounwind-inference");
    }
    if !invocation.optimises() {
        // Otherwise it is among the passes already.
        invocation.push("-Cpasses=forceattrs");
    }
    quietly(&invocation, list)
}

/// Whether the locals of a function are too large for a side stack.
fn is_fixed(settings: &Settings, function: &listing::Function) -> bool {
    settings.side_stacks && function.locals > SIDE_LOCALS
}

/// What tells LLVM where the list is.
pub(crate) fn list_argument() -> String {
    format!("-Cllvm-args=-forceattrs-csv-path={LIST}")
}

/// The functions that this will compile, or in a line why rustc does not say.
fn functions(invocation: &Invocation, dir: &Path) -> Result<Result<Vec<listing::Function>, String>, String> {
    // Of one name for one crate, so that what a killed build leaves is not left for long: cargo compiles it once at a time.
    let unit = invocation.codegen("extra-filename").last().unwrap_or_default();
    let scratch = dir.join(format!("functions-{}{unit}", invocation.crate_name().unwrap_or_default()));
    std::fs::create_dir_all(&scratch).map_err(|error| format!("{}: {error}", scratch.display()))?;
    let code = scratch.join("functions.ll");
    let listed = list_functions(invocation.listing(&code, &dir.join("incremental")), &code);
    std::fs::remove_dir_all(&scratch).map_err(|error| format!("{}: {error}", scratch.display()))?;
    listed
}

fn list_functions(listing: Invocation, code: &Path) -> Result<Result<Vec<listing::Function>, String>, String> {
    let mut command = listing.command();
    let output = command.stdin(Stdio::null()).stdout(Stdio::null()).output().map_err(|error| cannot_start(&error))?;
    if !output.status.success() {
        return Ok(Err(support::reason(&output)));
    }
    listing::read(code).map(Ok).map_err(|error| format!("cannot read the list of functions: {error}"))
}

/// The list for LLVM, in a file that has no name.
fn list<'a>(dir: &Path, functions: impl Iterator<Item = (&'a listing::Function, &'a str)>) -> io::Result<File> {
    let mut file = io::BufWriter::new(tempfile::tempfile_in(dir)?);
    listing::write_attributes(&mut file, functions)?;
    Ok(file.into_inner()?)
}

/// Runs it without [`NOISE`].
fn quietly(invocation: &Invocation, list: File) -> Result<ExitStatus, String> {
    let mut command = invocation.command();
    let mut child = command.stdin(list).stderr(Stdio::piped()).spawn().map_err(|error| cannot_start(&error))?;
    let mut said = BufReader::new(child.stderr.take().expect("it was asked for"));
    let mut line = Vec::new();
    let mut stderr = io::stderr().lock();
    while said.read_until(b'\n', &mut line).map_err(|error| error.to_string())? != 0 {
        // What another thread was saying goes on in the next line.
        without_noise(&mut line);
        stderr.write_all(&line).map_err(|error| error.to_string())?;
        line.clear();
    }
    child.wait().map_err(|error| error.to_string())
}

/// Takes the noise from the end of a line, and the line's end with it.
fn without_noise(line: &mut Vec<u8>) {
    let [start, end] = NOISE;
    let Some(front) = line.strip_suffix(end) else { return };
    let digits = front.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let front = &front[..front.len() - digits];
    if let Some(front) = front.strip_suffix(start) {
        line.truncate(front.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_taken_out_of_lines() {
        for (line, left) in [
            ("Function in CSV file at line 12 does not exist.\n", ""),
            ("{\"a\":Function in CSV file at line 1 does not exist.\n", "{\"a\":"),
            ("warning: x does not exist.\n", "warning: x does not exist.\n"),
            ("Function in CSV file at line 3", "Function in CSV file at line 3"),
        ] {
            let mut line = line.as_bytes().to_vec();
            without_noise(&mut line);
            assert_eq!(String::from_utf8(line).unwrap(), left);
        }
    }
}
