//! Random programs, run three ways: on an OS thread, on a reserved stack, on a copying stack. The results must agree.
//!
//! ```text
//!   seed ── generate ──► tree of nodes, in the heap ── execute ──► Digest
//!                                                        │  on an OS thread          what is expected
//!                                                        │  by morestack::spawn      must be the same
//!                                                        └  by morestack::go         must be the same
//! ```
//!
//! A program is an interpreter's tree, but a node is a Rust function with real locals: it calls its children with
//! references to them, so that a random tree makes a random mix of frames with pointers between them. Every node writes
//! through the references it was given, calls what is below it, and then reads its locals directly. A reference that was
//! left behind when the stack moved writes to the old stack, and the local lacks the write.
//!
//! | file | what |
//! |---|---|
//! | `generate` | a seed becomes a tree |
//! | `state` | what a node sees: the locals of the frames above it |
//! | `node` | how a child is called: through which functions, with or without a check |
//! | `nodes` | what nodes do, one file for each kind of pointer |
//! | `execute` | a tree becomes a digest |
//! | `compare` | many seeds, at the same time, compared and counted |
//! | `watch` | names the program when the process dies or hangs |
//!
//! # The contract of `go`
//!
//! The nodes keep it: the heap holds the tree and values that nodes own (strings, vectors, boxes), never a pointer to a
//! local, and no thread-local is borrowed. While a green thread unwinds its stack does not grow, so destructors do little.
//!
//! # Lent locals
//!
//! In a program built by `cargo morestack`, `spawn` gives copying stacks whatever the code does. So there are nodes that break the
//! contract as safe code may (`nodes::lent`): with these, a program runs on an OS thread and by `spawn` only.

mod compare;
mod execute;
mod generate;
mod node;
mod nodes;
mod state;
mod watch;

pub use compare::{Counts, Mismatch, Settings, compare};
pub use execute::{Digest, silence_panics};
pub use generate::program;
pub use node::Node;
