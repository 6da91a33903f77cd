//! `#[prologue]` and `with_prologue!`: the stack check of Morestack, put into a function or a closure by hand. And `#[main]`
//! and `#[test]`, which run a function as a green thread (`entry.rs`).
//!
//! A function that carries the check can grow the stack it runs on and can be preempted; one that does not runs in the
//! room that `STACK_GUARD` keeps for it. The check itself is `morestack::__private::prologue!`. This crate decides only
//! where it goes:
//!
//! ```text
//!   #[prologue]            #[prologue(frame = N)]         #[prologue(loops)]
//!   fn f(a: A) -> R {      fn f(a: A) -> R {              fn f(a: A) -> R {
//!       prologue!();           prologue!(frame = N);          prologue!();
//!       body                   Outline::run(|| body)          while step(a) { prologue!(); .. }
//!   }                      }                              }
//! ```
//!
//! On the left the check runs inside the function's frame. That is right while the frame fits into the room below the
//! guard. A frame with a large array in it does not: its first write would come before any check could help. So in the
//! middle the frame moves to a closure that is never inlined, and a shell with next to no frame of its own asks
//! for N bytes before it calls (`expand/framed.rs`). On the right loops that may run long are checked at each turn
//! (`expand/loops.rs`).
//!
//! # What holds for every expansion
//!
//! - The body's tokens are not parsed, but for `loops`. They keep their spans, so errors in them point where the author
//!   wrote them.
//! - Attributes and documentation stay on the function that others see.
//! - A recursive call in the body resolves to the outer function. Every level is checked, with `frame` as without.
//! - An error keeps the function as it was written beside the message. Its callers do not report it missing.
//! - `morestack` is found under whatever name the calling crate gave it in its `Cargo.toml`. Inside the crate
//!   `morestack` the path is `::morestack`, which `extern crate self as morestack` provides.
//!
//! An attribute and a function-like macro cannot both be `morestack::prologue`: one module has one name for macros of either
//! kind. Hence the second name.

mod args;
mod closure;
mod entry;
mod expand;
mod function;

use proc_macro::TokenStream;
use proc_macro_crate::{FoundCrate, crate_name};
use proc_macro2::{Ident, Span};
use quote::quote;

/// Puts a stack check at the entry of a function: there the stack may grow, and the green thread may be preempted.
///
/// It goes on free functions, associated functions, methods and trait methods with a body: generic or not, `unsafe`,
/// `extern "C"`. It cannot go on a `const fn`, which has no stack to check at compile time, nor on an `async fn`, whose
/// body runs in another function's frame. For closures there is [`with_prologue!`].
///
/// Being preempted means that another green thread of the same OS thread may run before the function does. Where that is
/// one too many, as while a `std::sync` lock is held or a thread-local is being initialised, call it in
/// `morestack::without_preemption`; the documentation of `morestack::spawn` lists such places. In an `extern "C" fn` a stack
/// overflow ends the process, since such a function does not unwind.
///
/// # `frame = BYTES`
///
/// For functions whose frame is large, mostly because of arrays on the stack. `BYTES` is a constant expression, and at
/// least the size of the frame: the sum of the locals and of the arguments that are passed by value, and some room for
/// temporaries and saved registers. It may not name generic parameters.
///
/// The body moves to a closure that is called behind the check. It means there what it meant before, with four exceptions:
///
/// - Arguments that are not `Copy`, and what the body moves out of `self`, may have 4 KiB together: they pass through the
///   frame of the function that checks. More is an error at compile time: take them by reference, or boxed.
/// - `#[track_caller]` is refused.
/// - A closure that is returned as `impl Fn(&T)` has to name the types of its arguments.
/// - Backtraces show a frame or two more.
///
/// # `loops`
///
/// Checks at each turn of a loop too, if the loop contains a call, a macro or another loop. Others are too fast to be
/// checked: a check in a loop over an array takes several times as long as the rest of it.
///
/// Calls that look like constructors do not count, loops inside macros are not found, and operators are not taken for
/// calls. Where that is not enough, `morestack::checkpoint()` checks by hand.
///
/// # Examples
///
/// ```
/// # extern crate self as morestack;
/// # #[doc(hidden)]
/// # pub mod __private {
/// #     macro_rules! prologue { ($($_arg:tt)*) => {}; }
/// #     pub(crate) use prologue;
/// #     pub struct Outline<R>(std::marker::PhantomData<R>);
/// #     impl<R> Outline<R> {
/// #         pub fn new() -> Self { Outline(std::marker::PhantomData) }
/// #         pub fn returned(&self) -> R { unreachable!() }
/// #         pub fn run(self, body: impl FnOnce() -> R) -> R { body() }
/// #     }
/// # }
/// # mod demo {
/// use morestack_macros::prologue;
///
/// #[prologue]
/// fn ackermann(m: u64, n: u64) -> u64 {
///     match (m, n) {
///         (0, n) => n + 1,
///         (m, 0) => ackermann(m - 1, 1),
///         (m, n) => ackermann(m - 1, ackermann(m, n - 1)),
///     }
/// }
///
/// struct Page([u8; 64 << 10]);
///
/// impl Page {
///     #[prologue(frame = 2 * size_of::<Page>() + 512)]
///     fn filled(fill: u8) -> Self {
///         let mut page = Self([0; 64 << 10]);
///         page.0.fill(fill);
///         page
///     }
///
///     #[prologue(loops)]
///     fn checksum(&self) -> u64 {
///         let mut sum = 0;
///         for line in self.0.chunks(64) {
///             for &byte in line {
///                 sum += byte as u64; // not checked: a turn is one addition
///             }
///         }
///         sum
///     }
/// }
/// # pub fn main() {
/// assert_eq!(ackermann(2, 3), 9);
/// assert_eq!(Page::filled(1).checksum(), 65536);
/// # }
/// # }
/// # fn main() { demo::main() }
/// ```
#[proc_macro_attribute]
pub fn prologue(args: TokenStream, item: TokenStream) -> TokenStream {
    expand::function(args.into(), item.into(), &morestack()).into()
}

/// Puts a stack check at the entry of a closure, as [`#[prologue]`](macro@prologue) does for functions.
///
/// `with_prologue!(|x| ..)` is the closure, with what it captures, `move` or not, and the types it names. In front of it
/// stand the options of `#[prologue]`: `with_prologue!(frame = 64 << 10, loops, move |x| ..)`. `async` closures are refused.
///
/// ```
/// # extern crate self as morestack;
/// # #[doc(hidden)]
/// # pub mod __private {
/// #     macro_rules! prologue { ($($_arg:tt)*) => {}; }
/// #     pub(crate) use prologue;
/// # }
/// # mod demo {
/// use morestack_macros::with_prologue;
///
/// # pub fn main() {
/// let limit = 10_u64;
/// let collatz = with_prologue!(loops, |mut n: u64| -> u64 {
///     let mut steps = 0;
///     while n > limit {
///         n = if n.is_multiple_of(2) { n / 2 } else { 3 * n + 1 };
///         steps += 1;
///     }
///     steps
/// });
/// assert_eq!(collatz(27), 105);
/// # }
/// # }
/// # fn main() { demo::main() }
/// ```
#[proc_macro]
pub fn with_prologue(input: TokenStream) -> TokenStream {
    expand::closure(input.into(), &morestack()).into()
}

/// Runs `main` as the first green thread of the global runtime.
///
/// It goes on `fn main()` with any result that std allows there, and on `async fn main()`, which is driven by
/// `morestack::block_on`. When it returns the process ends, as without the attribute, and with the same exit code; other green
/// threads that are still running are not waited for.
///
/// # Options
///
/// Those of `morestack::RuntimeBuilder`, for the global runtime. What is not given comes from the environment
/// (`MORESTACK_WORKERS` and so on), else it is the default.
///
/// | option | value |
/// |---|---|
/// | `workers`, `max_threads`, `stack_size`, `max_stack_size` | an expression: a number, sizes in bytes |
/// | `time_slice`, `freeze_after` | a string: a whole number of `ns`, `us`, `ms` or `s`, as `"100us"`, or `"off"` |
/// | `pin_workers` | `true` or `false` |
/// | `thread_name` | a string |
///
/// If the runtime cannot start with them, the process ends with one line that says why, and exit code 2.
#[proc_macro_attribute]
pub fn main(args: TokenStream, item: TokenStream) -> TokenStream {
    entry::expand(entry::Entry::Main, args.into(), item.into(), &morestack()).into()
}

/// Makes a test of a function, which runs as the first green thread of a runtime of its own.
///
/// It takes what `#[test]` does, `async fn`s, and the options of `#[morestack::main]`. `#[ignore]` and `#[should_panic]` go
/// beside it.
#[proc_macro_attribute]
pub fn test(args: TokenStream, item: TokenStream) -> TokenStream {
    entry::expand(entry::Entry::Test, args.into(), item.into(), &morestack()).into()
}

/// The path of the crate `morestack` as the calling crate knows it.
fn morestack() -> proc_macro2::TokenStream {
    let name = match crate_name("morestack") {
        Ok(FoundCrate::Name(name)) => name,
        Ok(FoundCrate::Itself) => "morestack".to_owned(),
        // Not built by cargo, or not a direct dependency. Where the plain name is wrong too, rustc says what is missing.
        Err(_) => "morestack".to_owned(),
    };
    let name = Ident::new(&name, Span::mixed_site());
    quote!(::#name)
}
