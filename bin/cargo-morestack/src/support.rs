//! What a program needs that has stack checks and no scheduler: a library of our own, compiled when it is first needed.
//!
//! The checks call `__morestack`. In a program with the crate `morestack` that is there; in the others the weak symbol of this
//! library stands in. (`libgcc` has one, too, for gcc's split stacks, and would be linked otherwise.)

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use ar_archive_writer::{ArchiveKind, DEFAULT_OBJECT_READER, NewArchiveMember, write_archive_to_stream};
use serde::{Deserialize, Serialize};

const SOURCE: &str = include_str!("../support/support.rs");

/// The compiled library: one for programs, one for shared libraries.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Library {
    /// The directory that both are in.
    dir: PathBuf,
}

impl Library {
    /// What the linker calls that for programs.
    pub(crate) const NAME: &str = "morestack_support";
    /// And that for shared libraries.
    pub(crate) const SHARED: &str = "morestack_support_shared";

    /// Compiles it, if it is not there.
    pub(crate) fn make(dir: &Path, rustc: &str, side_stacks: bool) -> Result<Library, String> {
        let dir = dir.join(if side_stacks { "side-stacks" } else { "no-side-stacks" });
        for (name, shared) in [(Self::NAME, false), (Self::SHARED, true)] {
            let options = [shared.then_some("shared"), side_stacks.then_some("side_stacks")];
            let path = dir.join(format!("lib{name}.a"));
            let source = dir.join(format!("{name}.rs"));
            // The source is put beside it when it is done.
            if !std::fs::read(&source).is_ok_and(|text| text == SOURCE.as_bytes()) || !path.exists() {
                compile(&dir, rustc, options.into_iter().flatten(), &path, &source)
                    .map_err(|error| format!("cannot make the support library in {}: {error}", dir.display()))?;
            }
        }
        Ok(Library { dir })
    }

    /// The value of `-L`.
    pub(crate) fn search(&self) -> OsString {
        let mut search = OsString::from("native=");
        search.push(&self.dir);
        search
    }
}

/// Others may do the same at the same time: all is put in place by renaming.
fn compile(
    dir: &Path,
    rustc: &str,
    options: impl Iterator<Item = &'static str>,
    path: &Path,
    source: &Path,
) -> Result<(), String> {
    let said = |error: std::io::Error| error.to_string();
    std::fs::create_dir_all(dir).map_err(said)?;
    let scratch = tempfile::Builder::new().prefix("compile-").tempdir_in(dir).map_err(said)?;
    let (text, object) = (scratch.path().join("support.rs"), scratch.path().join("support.o"));
    std::fs::write(&text, SOURCE).map_err(said)?;
    let output = Command::new(rustc)
        .args(options.flat_map(|option| ["--cfg", option]))
        .args([
            "--edition=2024",
            "--crate-type=lib",
            "--emit=obj",
            "-Copt-level=2",
            "-Cpanic=abort",
            "-Ccodegen-units=1",
        ])
        .args(["-Crelocation-model=pic", "--target", crate::TARGET, "-o"])
        .arg(&object)
        .arg(&text)
        .output()
        .map_err(|error| format!("cannot start {rustc}: {error}"))?;
    if !output.status.success() {
        return Err(reason(&output));
    }
    let member = NewArchiveMember {
        buf: Box::new(std::fs::read(&object).map_err(said)?),
        object_reader: &DEFAULT_OBJECT_READER,
        member_name: "support.o".to_owned(),
        mtime: 0,
        uid: 0,
        gid: 0,
        perms: 0o644,
    };
    let mut archive = std::io::Cursor::new(Vec::new());
    write_archive_to_stream(&mut archive, &[member], ArchiveKind::Gnu, false, None).map_err(said)?;
    let made = scratch.path().join("support.a");
    std::fs::write(&made, archive.into_inner()).map_err(said)?;
    std::fs::rename(made, path).map_err(said)?;
    std::fs::rename(text, source).map_err(said)
}

/// In one line, why a program failed: of what it said, the first that it calls an error.
pub(crate) fn reason(output: &std::process::Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    let mut lines = said.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.clone().next();
    match lines.find(|line| line.starts_with("error")).or(first) {
        Some(line) if line.starts_with("error[E0463]: can't find crate for `core`") => {
            format!("{line}: `rustup target add {}`", crate::TARGET)
        }
        Some(line) => line.trim_start_matches("error: ").to_owned(),
        None => output.status.to_string(),
    }
}
