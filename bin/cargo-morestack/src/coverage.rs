//! How many functions of a program begin with the check: counted in the program itself.

use std::collections::HashSet;
use std::io::{BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use cargo_metadata::{CrateType, Message};
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};

use crate::wrapper::mark;

/// Functions of a program or shared library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Coverage {
    /// All of them, precompiled ones too.
    pub(crate) functions: usize,
    /// Those that begin with the check.
    pub(crate) checked: usize,
    /// Those of them that may be preempted.
    pub(crate) preemptible: usize,
}

/// The check of a function with a small frame: `cmp rsp, fs:[0x70]`.
pub(crate) const SMALL: [u8; 9] = [0x64, 0x48, 0x3b, 0x24, 0x25, 0x70, 0, 0, 0];

/// That of the others: `cmp r11, fs:[0x70]`, behind a `lea r11, [rsp - frame]` of at most so many bytes.
const LARGE: [u8; 9] = [0x64, 0x4c, 0x3b, 0x1c, 0x25, 0x70, 0, 0, 0];
const LEA: usize = 8;

/// Whether this code begins with the check.
pub(crate) fn is_checked(code: &[u8]) -> bool {
    // lea r11, [rsp + disp8 or disp32]
    let lea = match code {
        [0x4c, 0x8d, 0x5c, 0x24, ..] => 5,
        [0x4c, 0x8d, 0x9c, 0x24, ..] => LEA,
        _ => 0,
    };
    code.starts_with(&SMALL) || lea > 0 && code.get(lea..).is_some_and(|rest| rest.starts_with(&LARGE))
}

/// Of the file at this path.
pub(crate) fn of(path: &Path) -> Result<Coverage, String> {
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    let file = object::File::parse(&*bytes).map_err(|error| error.to_string())?;
    let mut addresses: Vec<u64> =
        file.symbols().filter(|s| s.kind() == SymbolKind::Text && s.size() > 0).map(|s| s.address()).collect();
    if addresses.is_empty() {
        return Err("it is stripped of its symbols".to_owned());
    }
    addresses.sort_unstable();
    addresses.dedup();
    let sections: Vec<_> = file
        .sections()
        .filter(|s| s.kind() == object::SectionKind::Text)
        .filter_map(|s| Some((s.address(), s.data().ok()?)))
        .collect();
    let code = |address: u64| {
        sections.iter().find_map(|(start, data)| {
            let offset = usize::try_from(address.checked_sub(*start)?).ok()?;
            data.get(offset..).filter(|code| !code.is_empty())
        })
    };
    let marks = marks(&file);
    let is_open = |address: &u64| {
        [mark::OPEN, mark::OPEN + mark::FIXED].iter().any(|bytes| marks.contains(&address.wrapping_sub(*bytes as u64)))
    };
    Ok(Coverage {
        functions: addresses.len(),
        checked: addresses.iter().filter(|address| code(**address).is_some_and(is_checked)).count(),
        preemptible: addresses.iter().filter(|address| is_open(address)).count(),
    })
}

/// The addresses that functions are marked by, so many bytes before them. The program's loader puts them there, or the linker has.
fn marks(file: &object::File) -> HashSet<u64> {
    let Some(section) = file.section_by_name("__patchable_function_entries") else { return HashSet::new() };
    let written = section.data().unwrap_or_default().chunks_exact(8);
    let written = written.filter_map(|word| Some(u64::from_le_bytes(word.try_into().ok()?))).filter(|word| *word != 0);
    let range = section.address()..section.address() + section.size();
    let loaded = file.dynamic_relocations().into_iter().flatten().filter(|(at, _)| range.contains(at));
    written.chain(loaded.filter_map(|(_, relocation)| u64::try_from(relocation.addend()).ok())).collect()
}

/// Asks cargo, which has just built with these arguments, what it made, and says of each program how much is covered.
pub(crate) fn report(cargo: &mut Command) -> Result<(), String> {
    cargo.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = cargo.spawn().map_err(|error| format!("cannot start cargo: {error}"))?;
    let messages = BufReader::new(child.stdout.take().expect("it was asked for"));
    let mut made = Vec::new();
    for message in Message::parse_stream(messages) {
        if let Ok(Message::CompilerArtifact(artifact)) = message {
            let library = artifact.target.crate_types.iter().any(|t| matches!(t, CrateType::CDyLib | CrateType::DyLib));
            let libraries = artifact.filenames.into_iter().filter(|f| library && f.extension() == Some("so"));
            made.extend(artifact.executable.into_iter().chain(libraries));
        }
    }
    // It has told all: how it ends is known from the build.
    let _ = child.wait();
    let mut out = anstream::stderr();
    let bold = anstyle::Style::new().bold();
    for path in made {
        let said = match of(path.as_std_path()) {
            Ok(c) => format!(
                "{} of {} functions begin with the check, {} of them may be preempted",
                c.checked, c.functions, c.preemptible
            ),
            Err(error) => format!("not counted: {error}"),
        };
        // Nobody may be reading.
        let _ = writeln!(out, "{bold}   Morestack{bold:#} {path}: {said}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_known_by_their_code() {
        let large = |lea: &[u8]| [lea, &LARGE].concat();
        assert!(is_checked(&SMALL));
        assert!(is_checked(&large(&[0x4c, 0x8d, 0x9c, 0x24, 0xf8, 0xfe, 0xff, 0xff])));
        assert!(is_checked(&large(&[0x4c, 0x8d, 0x5c, 0x24, 0x80])));
        assert!(!is_checked(&LARGE));
        assert!(!is_checked(&SMALL[..8]));
        assert!(!is_checked(&[0x55, 0x48, 0x89, 0xe5]));
        assert!(!is_checked(&[]));
    }

    #[test]
    fn this_program_has_none() {
        let coverage = of(&std::env::current_exe().unwrap()).unwrap();
        assert!(coverage.functions > 100, "{coverage:?}");
        assert_eq!((coverage.checked, coverage.preemptible), (0, 0));
    }
}
