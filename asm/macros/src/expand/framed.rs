//! `frame = BYTES`: a shell that checks, around the frame.
//!
//! ```text
//!   fn f(&self, (a, b): T) -> R {                    the shell: a few words of frame
//!       prologue!(frame = BYTES);
//!       let outline = Outline::new();
//!       if false { return outline.returned(); }      Outline<R>: R is what `f` returns
//!       outline.run(|| {                             never inlined: the frame begins here
//!           let (a, b) = __argument1;
//!           body
//!       })
//!   }
//! ```
//!
//! A closure is in the scope of the function around it. `self`, `Self`, generics and `?` mean in it what they meant before,
//! which no inner function can say. What differs, and what is done about it:
//!
//! | | |
//! |---|---|
//! | `return` leaves the closure | its result is the function's: the same |
//! | the result's type cannot always be named: `impl Trait` | it need not be: the `return` in the shell has inference find it, so coercions in the body work too |
//! | arguments move into the closure, through the frame of the shell | the closure captures by reference what is `Copy`, however large; `Outline::run` refuses at compile time what is large and moved |
//! | arguments are dropped after the body's locals, last first | each becomes a local of the closure, in order |
//! | before edition 2021 a closure captures `self` whole, and nothing borrowed from it can be returned | its span is this crate's: it captures as in this crate's edition |
//! | `#[track_caller]` stops at a closure | refused |
//! | `#[target_feature]` | closures inherit it |

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream};
use quote::{ToTokens, format_ident, quote_spanned};
use syn::punctuated::Punctuated;
use syn::{Attribute, Error, Expr, FnArg, Pat, PatIdent, Result, Token};

use crate::closure::Closure;
use crate::function::Function;

/// The function as a shell.
pub(super) fn function(function: &Function, bytes: &Expr, morestack: &TokenStream) -> Result<TokenStream> {
    if let Some(attr) = function.attrs.iter().find(|attr| attr.path().is_ident("track_caller")) {
        let message = "`#[prologue(frame = ..)]` moves the body to a closure, which does not see the caller: put \
                       `#[track_caller]` on a function around this one, and pass `Location::caller()` as an argument";
        return Err(Error::new_spanned(attr, message));
    }
    let mut sig = function.sig.clone();
    let mut bindings = TokenStream::new();
    for (index, argument) in sig.inputs.iter_mut().enumerate() {
        if let FnArg::Typed(typed) = argument {
            bindings.extend(name(&mut typed.pat, &typed.attrs, index));
        }
    }
    let body = outlined(bindings, &function.body, function.body_span, bytes, morestack);
    Ok(function.write(&sig, body))
}

/// The closure as a shell.
pub(super) fn closure(closure: &Closure, bytes: &Expr, morestack: &TokenStream) -> TokenStream {
    let mut inputs: Punctuated<Pat, Token![,]> = closure.inputs.clone();
    let mut bindings = TokenStream::new();
    for (index, argument) in inputs.iter_mut().enumerate() {
        let pat = match argument {
            Pat::Type(typed) => &mut *typed.pat,
            pat => pat,
        };
        bindings.extend(name(pat, &[], index));
    }
    let body = outlined(bindings, &closure.body, closure.body_span, bytes, morestack);
    closure.write(&inputs, body)
}

/// The check, and the body behind it.
fn outlined(
    bindings: TokenStream,
    body: &TokenStream,
    body_span: Span,
    bytes: &Expr,
    morestack: &TokenStream,
) -> TokenStream {
    let mut block = Group::new(Delimiter::Brace, bindings.into_iter().chain(body.clone()).collect());
    block.set_span(body_span);
    let block = block.into_token_stream();
    quote_spanned! { Span::mixed_site() =>
        #morestack::__private::prologue!(frame = #bytes);
        let outline = #morestack::__private::Outline::new();
        if false {
            #[allow(clippy::diverging_sub_expression)]
            return outline.returned();
        }
        outline.run(|| #block)
    }
}

/// Gives an argument of the shell a plain name, and returns the statements that make it what it was for the body.
fn name(pat: &mut Pat, attrs: &[Attribute], index: usize) -> TokenStream {
    let site = Span::mixed_site();
    let (name, moved) = match pat {
        // A name is part of the documentation. Keep it where there is one.
        Pat::Ident(PatIdent { ident, subpat: None, by_ref: None, .. }) => (ident.clone(), None),
        _ => {
            let name = format_ident!("__argument{index}", span = site);
            // A pattern may leave parts where they are. They are dropped with the local.
            let moved = quote_spanned! { site => #(#attrs)* let #name = #name; };
            (name, Some(moved))
        }
    };
    let plain = plain(name.clone());
    let pat = std::mem::replace(pat, plain);
    quote_spanned! { site => #moved #(#attrs)* let #pat = #name; }
}

/// The pattern that is a name and nothing else.
fn plain(ident: Ident) -> Pat {
    Pat::Ident(PatIdent { attrs: Vec::new(), by_ref: None, mutability: None, ident, subpat: None })
}
