//! Programs that compute a text, the same wherever they run.
//!
//! Each leans on something that a moving stack could break: references to the locals of callers, closures that capture
//! them, trait objects, iterators with end pointers, std's own code between two of the program's frames, unwinding. A
//! pointer that was missed shows up as a wrong text, a failed assertion or a fault.
//!
//! They keep the contract of [`morestack::go`]: nothing in the heap or in a thread-local points to a local.

mod btree;
mod deep64;
mod fmt;
mod hashmap;
mod iter;
mod json;
mod panic;
mod recursion;
mod ring;
mod sort;
mod source;

use source::Source;

/// How much a program does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// As much as makes stacks grow by themselves.
    Full,
    /// For runs under `MORESTACK_STRESS`: a move at every prologue costs as much as the stack is deep, so the work is
    /// prologues times depth.
    Small,
}

impl Size {
    /// One of two numbers.
    fn pick<T>(self, full: T, small: T) -> T {
        match self {
            Size::Full => full,
            Size::Small => small,
        }
    }
}

/// A program by name.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// Its name on the command line.
    pub name: &'static str,
    /// Computes its text.
    pub run: fn(Size) -> String,
}

/// All programs.
pub const PROGRAMS: &[Program] = &[
    Program { name: "recursion", run: recursion::run },
    Program { name: "sort", run: sort::run },
    Program { name: "fmt", run: fmt::run },
    Program { name: "json", run: json::run },
    Program { name: "panic", run: panic::run },
    Program { name: "deep64", run: deep64::run },
    Program { name: "iter", run: iter::run },
    Program { name: "btree", run: btree::run },
    Program { name: "hashmap", run: hashmap::run },
    Program { name: "ring", run: ring::run },
];

/// FNV-1a, 64 bits: short, and every byte of the text counts.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
