//! Everything of Morestack that is assembly, and nothing else.
//!
//! | module | what |
//! |---|---|
//! | [`layout`](crate::GHead) | what assembly knows of a green thread and of an OS thread |
//! | [`tls`](crate::getg) | the words of each OS thread: `g`, the live `stackguard0`, and whose thread it is |
//! | [`switch`](crate::gogo) | `gogo`, `mcall`, `switch`, `systemstack`, `on_stack`, the first frame |
//! | [`prologue`](crate::prologue!) | the check, its four frame classes, its constants |
//! | [`morestack`](crate::morestack()) | what a failed check calls |
//! | `segment` | running a function on another stack than its caller's |
//! | `side` | the second stack of programs that `cargo morestack` built |
//! | [`split`](crate::detect_vectors) | the same for checks that the compiler puts everywhere |
//! | [`pending`](crate::Pending) | how such a check goes on fast that cannot answer a request |
//! | [`signal`](crate::Signals) | how such a check is known to be a signal handler's |
//!
//! This crate knows nothing of scheduling and allocates nothing. It needs Linux on x86-64 with glibc: the check reads
//! the slot of glibc's thread control block that is kept for split stacks.

#[cfg(not(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu")))]
compile_error!("morestack runs on x86_64-unknown-linux-gnu only");

mod layout;
mod morestack;
mod pending;
mod prologue;
mod segment;
mod side;
mod signal;
mod split;
mod switch;
mod tls;

#[cfg(morestack_side_stacks)]
pub use layout::Link;
pub use layout::{GHead, Gobuf, MHead, McallFn, Morebuf, Stack};
pub use morestack::{Raise, is_morestack, morestack};
pub use pending::Pending;
pub use prologue::{STACK_BIG, STACK_FRAME_MAX, STACK_GUARD, STACK_PREEMPT, STACK_SMALL, prologue_for, slow_path};
pub use segment::is_segment_call;
#[cfg(morestack_side_stacks)]
pub use side::side_pointer;
pub use side::{SignalFn, on_signal, set_signal_handler};
pub use signal::Signals;
pub use split::{AUTOMATIC, SEGMENT, detect_vectors, is_split};
pub use switch::{Mcall, gogo, is_start, mcall, on_stack, switch, switch_publishing, systemstack};
pub use tls::{getg, on_system_stack, set_stackguard, setg, stackguard, stackguard_slot};
