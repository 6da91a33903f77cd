//! What a program needs that has stack checks and no scheduler: a library of our own, compiled when it is first needed.
//!
//! The checks call `__morestack`. In a program with the crate `morestack` that is there; in the others the weak symbol of this
//! library stands in. (`libgcc` has one, too, for gcc's split stacks, and would be linked otherwise.)

use std::path::PathBuf;
use std::process::Command;

use ar_archive_writer::{ArchiveKind, DEFAULT_OBJECT_READER, NewArchiveMember, write_archive_to_stream};

use crate::settings::Settings;

const SOURCE: &str = include_str!("../support/support.rs");

/// Where it is, and what the linker calls it.
pub(crate) struct Library {
    pub(crate) dir: PathBuf,
    pub(crate) name: &'static str,
}

const NAME: &str = "morestack_support";

/// Compiles it, if it is not there.
pub(crate) fn library(settings: &Settings) -> Result<Library, String> {
    let dir = settings.dir.join("support");
    let path = dir.join(format!("lib{NAME}.a"));
    let source = dir.join("support.rs");
    // The source is put beside it when it is done.
    if !std::fs::read(&source).is_ok_and(|text| text == SOURCE.as_bytes()) || !path.exists() {
        compile(&dir, &path, &source)
            .map_err(|error| format!("cannot compile its support library in {}: {error}", dir.display()))?;
    }
    Ok(Library { dir, name: NAME })
}

/// Others may do the same at the same time: all is put in place by renaming.
fn compile(dir: &PathBuf, path: &PathBuf, source: &PathBuf) -> Result<(), String> {
    let said = |error: std::io::Error| error.to_string();
    std::fs::create_dir_all(dir).map_err(said)?;
    let scratch = tempfile::Builder::new().prefix("compile-").tempdir_in(dir).map_err(said)?;
    let (text, object) = (scratch.path().join("support.rs"), scratch.path().join("support.o"));
    std::fs::write(&text, SOURCE).map_err(said)?;
    let output = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
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
        .map_err(said)?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
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
