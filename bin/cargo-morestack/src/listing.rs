//! The functions of a crate: the first of the two passes.
//!
//! The compiler is asked for the crate's code as LLVM gets it, before any pass, and each `define` names a function: generic
//! ones that were instantiated here, closures and drop glue among them.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use crate::symbols;

/// A function that the crate's object file will have.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) symbol: String,
    /// Bytes of its locals, before any pass: of those that are arrays of bytes, as all larger ones are.
    pub(crate) locals: usize,
}

impl Function {
    /// The crate in which it is written, where its name says so.
    pub(crate) fn defining_crate(&self) -> Option<&str> {
        symbols::defining_crate(&self.symbol)
    }

    /// Whether it is the program's allocator: the scheduler calls that with its locks held.
    pub(crate) fn is_allocator(&self) -> bool {
        // The path of `core::alloc::GlobalAlloc`, which the name of a function in an implementation of it has within.
        self.symbol.contains("5alloc6global11GlobalAlloc")
    }
}

/// The functions that this file of LLVM's code defines.
pub(crate) fn read(path: &Path) -> io::Result<Vec<Function>> {
    let mut reader = BufReader::with_capacity(1 << 20, File::open(path)?);
    let mut functions: Vec<Function> = Vec::new();
    // The function is one of the list.
    let mut inside = false;
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            return Ok(functions);
        }
        if line.starts_with(b"define ") {
            inside = false;
            if let Some(symbol) = std::str::from_utf8(&line).ok().and_then(defined) {
                functions.push(Function { symbol, locals: 0 });
                inside = true;
            }
        } else if inside
            && line.starts_with(b"  %")
            && let Some(bytes) = local(&line)
            && let Some(function) = functions.last_mut()
        {
            function.locals = function.locals.saturating_add(bytes);
        }
    }
}

/// The size of a local: `  %name = alloca [16 x i8], align 8`.
fn local(line: &[u8]) -> Option<usize> {
    let (_, what) = std::str::from_utf8(line).ok()?.split_once(" = alloca [")?;
    let (bytes, kind) = what.split_once(" x ")?;
    kind.starts_with("i8]").then(|| bytes.parse().ok())?
}

/// The symbol of a `define`. None where the check cannot be: a function with variable arguments, and a name that LLVM's list cannot
/// hold.
fn defined(line: &str) -> Option<String> {
    let (_, rest) = line.split_once('@')?;
    let (name, rest) = match rest.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"')?,
        None => rest.split_at(rest.find('(')?),
    };
    let plain = name.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b',' | b'\\' | b'"' | b'#'));
    (plain && !rest.contains("...)")).then(|| name.to_owned())
}

/// LLVM's list of attributes: a line for each function and attribute.
pub(crate) fn write_attributes<'a>(
    mut to: impl Write,
    functions: impl Iterator<Item = (&'a Function, &'a str)>,
) -> io::Result<()> {
    for (function, attribute) in functions {
        writeln!(to, "{},{attribute}", function.symbol)?;
    }
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_name_functions() {
        let of = |line: &str| defined(line);
        assert_eq!(of("define internal { i64, ptr } @_RNvC1a(ptr %x) #5 {").as_deref(), Some("_RNvC1a"));
        assert_eq!(of("define i32 @main(i32 %0, ptr %1) {").as_deref(), Some("main"));
        assert_eq!(of("define void @\"_ZN1a17h0E$LT$\"() {").as_deref(), Some("_ZN1a17h0E$LT$"));
        assert_eq!(of("define void @\"a,b\"() {"), None);
        assert_eq!(of("define i32 @printf(ptr %0, ...) {"), None);
    }

    #[test]
    fn a_list_is_written_and_read() {
        let dir = tempfile::tempdir().unwrap();
        let code = dir.path().join("a.ll");
        std::fs::write(&code, "declare void @x()\ndefine void @y() {\n}\n@z = global i8 0\n").unwrap();
        let functions = read(&code).unwrap();
        assert_eq!(functions, [Function { symbol: "y".to_owned(), locals: 0 }]);
        let mut list = Vec::new();
        write_attributes(&mut list, functions.iter().map(|f| (f, "split-stack=1"))).unwrap();
        assert_eq!(list, b"y,split-stack=1\n");
    }
}
