//! The functions of a crate: the first of the two passes.
//!
//! The compiler is asked for the crate's code as LLVM gets it, before any pass, and each `define` names a function: generic
//! ones that were instantiated here, closures and drop glue among them.
//!
//! # Where nothing may come between
//!
//! The program's allocator is called where the scheduler holds its locks, and it may hold a lock of its own. If it is preempted, who
//! runs next waits for that lock, on the same OS thread, for ever; and so does the scheduler, if it allocates while it grows the
//! stack. Nor does anybody expect a panic there. So the allocator has no checks, nor has what an implementation of `GlobalAlloc` calls
//! within its crate, by name and over any number of steps: that is found in the crate's code.

use std::collections::{HashMap, HashSet};
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
    /// Callers are prepared for a panic: its ABI allows for one, and the panic strategy.
    pub(crate) unwinds: bool,
    /// It is of the program's allocator, or is called by that.
    pub(crate) allocates: bool,
}

impl Function {
    /// The crate in which it is written, where its name says so.
    pub(crate) fn defining_crate(&self) -> Option<&str> {
        symbols::defining_crate(&self.symbol)
    }

    /// Whether it is of an implementation of `GlobalAlloc`.
    fn is_allocator(&self) -> bool {
        // The path of `core::alloc::GlobalAlloc`, which the name of a function in an implementation of it has within.
        self.symbol.contains("5alloc6global11GlobalAlloc")
    }
}

/// The functions that this file of LLVM's code defines, and that may have a check.
pub(crate) fn read(path: &Path) -> io::Result<Vec<Function>> {
    let (mut functions, mut groups, mut nounwind) = (Vec::<Function>::new(), Vec::new(), HashSet::new());
    // The function is one of the list.
    let mut inside = false;
    each_line(path, |line| {
        if line.starts_with("define ") {
            let definition = defined(line);
            inside = definition.is_some();
            if let Some(Definition { symbol, group }) = definition {
                functions.push(Function { symbol: symbol.to_owned(), locals: 0, unwinds: true, allocates: false });
                groups.push(group);
            }
        } else if inside
            && let Some(bytes) = local(line)
            && let Some(function) = functions.last_mut()
        {
            function.locals = function.locals.saturating_add(bytes);
        } else if let Some((group, attributes)) = line.strip_prefix("attributes #").and_then(|l| l.split_once(' '))
            && attributes.split_whitespace().any(|attribute| attribute == "nounwind")
        {
            nounwind.extend(group.parse::<u32>());
        }
    })?;
    for (function, group) in functions.iter_mut().zip(groups) {
        function.unwinds = group.is_none_or(|group| !nounwind.contains(&group));
    }
    if functions.iter().any(Function::is_allocator) {
        find_allocating(path, &mut functions)?;
    }
    Ok(functions)
}

/// Follows the allocator's calls.
fn find_allocating(path: &Path, functions: &mut [Function]) -> io::Result<()> {
    let index: HashMap<String, usize> =
        functions.iter().enumerate().map(|(at, function)| (function.symbol.clone(), at)).collect();
    let mut named = vec![Vec::new(); functions.len()];
    let mut within = None;
    each_line(path, |line| {
        if line.starts_with("define ") {
            within = defined(line).and_then(|definition| index.get(definition.symbol).copied());
        } else if line.starts_with('}') {
            within = None;
        } else if let Some(within) = within {
            let symbols = line.split('@').skip(1).filter_map(|rest| symbol(rest).map(|(symbol, _)| symbol));
            named[within].extend(symbols.filter_map(|symbol| index.get(symbol).copied()));
        }
    })?;
    let mut ahead: Vec<usize> = (0..functions.len()).filter(|&at| functions[at].is_allocator()).collect();
    while let Some(at) = ahead.pop() {
        if !std::mem::replace(&mut functions[at].allocates, true) {
            ahead.extend(&named[at]);
        }
    }
    Ok(())
}

fn each_line(path: &Path, mut f: impl FnMut(&str)) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(1 << 20, File::open(path)?);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? != 0 {
        // Strings of the program may be anything; functions are not named so.
        if let Ok(line) = std::str::from_utf8(&line) {
            f(line);
        }
        line.clear();
    }
    Ok(())
}

/// The size of a local: `  %name = alloca [16 x i8], align 8`.
fn local(line: &str) -> Option<usize> {
    let (_, what) = line.strip_prefix("  %")?.split_once(" = alloca [")?;
    let (bytes, kind) = what.split_once(" x ")?;
    kind.starts_with("i8]").then(|| bytes.parse().ok())?
}

/// What a `define` says.
#[derive(Debug, PartialEq, Eq)]
struct Definition<'a> {
    symbol: &'a str,
    /// Its group of attributes.
    group: Option<u32>,
}

/// What follows an `@`: the symbol, and the rest.
fn symbol(text: &str) -> Option<(&str, &str)> {
    match text.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"'),
        None => {
            let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '$' | '-');
            Some(text.split_at(text.find(|c| !is_part(c)).unwrap_or(text.len())))
        }
    }
}

/// None where the check cannot be: a function with variable arguments, one of a calling convention that has callees preserve
/// what `__morestack` does not, and a name that LLVM's list cannot hold.
fn defined(line: &str) -> Option<Definition<'_>> {
    let (before, rest) = line.split_once('@')?;
    let (symbol, rest) = symbol(rest)?;
    let plain = symbol.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b',' | b'\\' | b'"' | b'#'));
    let of_c = before.split_whitespace().all(|word| !word.ends_with("cc") || word == "x86_64_sysvcc");
    let group = rest.split_whitespace().find_map(|word| word.strip_prefix('#')?.parse().ok());
    (plain && of_c && !rest.contains("...)")).then_some(Definition { symbol, group })
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
        let of = |line| defined(line).map(|definition| (definition.symbol, definition.group));
        assert_eq!(of("define internal { i64, ptr } @_RNvC1a(ptr %x) #5 {"), Some(("_RNvC1a", Some(5))));
        assert_eq!(of("define i32 @main(i32 %0, ptr %1) {"), Some(("main", None)));
        assert_eq!(of("define void @\"_ZN1a17h0E$LT$\"() {"), Some(("_ZN1a17h0E$LT$", None)));
        assert_eq!(of("define void @\"a,b\"() {"), None);
        assert_eq!(of("define i32 @printf(ptr %0, ...) {"), None);
    }

    #[test]
    fn conventions_that_preserve_more_than_c_are_left_alone() {
        assert!(defined("define dso_local x86_64_sysvcc i64 @f(i64 %0) unnamed_addr #1 {").is_some());
        for convention in ["win64cc", "preserve_mostcc", "x86_intrcc", "coldcc"] {
            assert_eq!(defined(&format!("define {convention} i64 @f(i64 %0) unnamed_addr #1 {{")), None);
        }
    }

    fn written(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let code = dir.path().join("a.ll");
        std::fs::write(&code, text).unwrap();
        (dir, code)
    }

    #[test]
    fn functions_that_do_not_unwind_are_known_by_their_attributes() {
        let text = "define void @a() #0 {\n}\ndefine void @b() #1 {\n}\ndefine void @c() {\n}\n\
                    attributes #0 = { nounwind uwtable }\nattributes #1 = { uwtable \"x\"=\"nounwind\" }\n";
        let (_dir, code) = written(text);
        let unwinds: Vec<_> = read(&code).unwrap().into_iter().map(|f| (f.symbol, f.unwinds)).collect();
        assert_eq!(unwinds, [("a".to_owned(), false), ("b".to_owned(), true), ("c".to_owned(), true)]);
    }

    #[test]
    fn what_the_allocator_calls_allocates() {
        let alloc = "_RNvXCs1_1aNtB2_1ANtNtNtCs2_4core5alloc6global11GlobalAlloc5alloc";
        let text = format!(
            "define void @{alloc}() {{\n  call void @near(ptr @\"quoted\")\n}}\ndefine void @near() {{\n  br label %x\n  \
             invoke void @far() to label %a unwind label %b\n}}\ndefine void @far() {{\n  call void @near()\n}}\n\
             define void @quoted() {{\n}}\ndefine void @other() {{\n  call void @far()\n}}\n"
        );
        let (_dir, code) = written(&text);
        let functions = read(&code).unwrap();
        let allocating: Vec<_> = functions.iter().filter(|f| f.allocates).map(|f| f.symbol.as_str()).collect();
        assert_eq!(allocating, [alloc, "near", "far", "quoted"]);
    }

    #[test]
    fn a_list_is_written_and_read() {
        let (_dir, code) = written(
            "declare void @x()\ndefine void @y() {\n  %a = alloca [24 x i8], align 8\n  %b = alloca ptr\n}\n@z = global i8 0\n",
        );
        let functions = read(&code).unwrap();
        assert_eq!(functions, [Function { symbol: "y".to_owned(), locals: 24, unwinds: true, allocates: false }]);
        let mut list = Vec::new();
        write_attributes(&mut list, functions.iter().map(|f| (f, "split-stack=1"))).unwrap();
        assert_eq!(list, b"y,split-stack=1\n");
    }
}
