//! `frame = BYTES`: a shell that checks, around an inner function that has the frame.
//!
//! The shell forwards its arguments, so each must have a name there: a pattern becomes one, and moves to the inner
//! function. Types and constants are forwarded by name, since nothing else may determine them (`fn zero<T: Zero>() -> T`);
//! lifetimes are not, since rustc refuses late-bound ones and infers all of them.
//!
//! Most attributes describe the function to others and stay outside. Two describe how the body is compiled, and go on both:
//!
//! | attribute | why the inner function needs it |
//! |---|---|
//! | `#[target_feature(..)]` | the body may call functions that need the feature |
//! | `#[track_caller]` | `Location::caller()` in the body is then the caller of the shell |
//!
//! Lint levels hold for what is inside a function, inner functions too.

use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use quote::{format_ident, quote_spanned};
use syn::{Attribute, Error, Expr, FnArg, GenericParam, Pat, PatIdent, Result, Signature};

use crate::function::Function;

/// The shell and its inner function.
pub(super) fn framed(function: &Function, bytes: &Expr, morestack: &TokenStream) -> Result<TokenStream> {
    check(function)?;
    let Function { attrs, inner_attrs, body, body_span, .. } = function;
    let site = Span::mixed_site();
    let inner = Ident::new("__prologue_body", site);

    let mut shell_sig = function.sig.clone();
    let arguments = name_arguments(&mut shell_sig);
    let inner_sig = Signature {
        ident: inner.clone(),
        // The calling convention is the shell's: nobody else calls the inner function.
        abi: None,
        ..function.sig.clone()
    };
    let inner_only = attrs.iter().filter(|attr| compiles_body(attr));
    let inner_block = quote_spanned! { *body_span => { #(#inner_attrs)* #body } };
    let generics = turbofish(&function.sig);
    let call = quote_spanned! { site => #inner #generics (#(#arguments),*) };
    let call = match function.sig.unsafety {
        // What the caller promised for the shell holds for the inner function: same arguments, same contract.
        Some(_) => quote_spanned! { site => unsafe { #call } },
        None => call,
    };
    let shell_body = quote_spanned! { site =>
        #[inline(never)]
        #(#inner_only)*
        #inner_sig #inner_block

        #morestack::__private::prologue!(frame = #bytes);
        #call
    };
    Ok(function.write(&shell_sig, shell_body))
}

/// Refuses what an inner function item cannot express.
fn check(function: &Function) -> Result<()> {
    let sig = &function.sig;
    if let Some(receiver) = sig.receiver() {
        let message = "`#[prologue(frame = ..)]` cannot go on a method: move the body to a free function that takes `self` as \
                       an argument, and mark that one";
        return Err(Error::new_spanned(receiver, message));
    }
    if let Some(variadic) = &sig.variadic {
        let message = "`#[prologue(frame = ..)]` cannot forward variadic arguments";
        return Err(Error::new_spanned(variadic, message));
    }
    let conditional = sig.inputs.iter().flat_map(|argument| match argument {
        FnArg::Receiver(receiver) => &receiver.attrs,
        FnArg::Typed(typed) => &typed.attrs,
    });
    if let Some(attr) =
        conditional.into_iter().find(|attr| attr.path().is_ident("cfg") || attr.path().is_ident("cfg_attr"))
    {
        let message = "`#[prologue(frame = ..)]` cannot forward a conditional argument: put the `cfg` on the function";
        return Err(Error::new_spanned(attr, message));
    }
    let tokens = quote::quote!(#sig);
    if let Some(span) = find_self(tokens).or_else(|| find_self(function.body.clone())) {
        let message =
            "`#[prologue(frame = ..)]` moves the body to an inner function, where `Self` has no meaning: name the type";
        return Err(Error::new(span, message));
    }
    Ok(())
}

/// The first `Self` that is not inside an item with a `Self` of its own.
fn find_self(tokens: TokenStream) -> Option<Span> {
    // Whether the next brace group is the body of an impl, a trait or a type: there `Self` is that item's.
    let mut in_item = false;
    for token in tokens {
        match token {
            TokenTree::Ident(ident) if ident == "Self" && !in_item => return Some(ident.span()),
            TokenTree::Ident(ident)
                if ["impl", "trait", "struct", "enum", "union"].iter().any(|word| ident == word) =>
            {
                in_item = true;
            }
            TokenTree::Group(group) if group.delimiter() == proc_macro2::Delimiter::Brace && in_item => {
                in_item = false;
            }
            TokenTree::Group(group) => {
                if let Some(span) = find_self(group.stream()) {
                    return Some(span);
                }
            }
            TokenTree::Punct(punct) if punct.as_char() == ';' => in_item = false,
            _ => {}
        }
    }
    None
}

/// Gives each argument of the shell a plain name, and returns the names.
fn name_arguments(sig: &mut Signature) -> Vec<Ident> {
    let arguments = sig.inputs.iter_mut().filter_map(|argument| match argument {
        FnArg::Receiver(_) => None,
        FnArg::Typed(typed) => Some(typed),
    });
    arguments
        .enumerate()
        .map(|(index, typed)| {
            let name = match &*typed.pat {
                // A name is part of the documentation. Keep it where there is one.
                Pat::Ident(PatIdent { ident, subpat: None, by_ref: None, .. }) => ident.clone(),
                _ => format_ident!("__argument{index}", span = Span::mixed_site()),
            };
            *typed.pat = Pat::Ident(PatIdent {
                attrs: Vec::new(),
                by_ref: None,
                mutability: None,
                ident: name.clone(),
                subpat: None,
            });
            name
        })
        .collect()
}

/// `::<T, N>`, or nothing where there is nothing to name.
fn turbofish(sig: &Signature) -> Option<TokenStream> {
    let mut names = sig.generics.params.iter().filter_map(|param| match param {
        GenericParam::Type(param) => Some(&param.ident),
        GenericParam::Const(param) => Some(&param.ident),
        GenericParam::Lifetime(_) => None,
    });
    let first = names.next()?;
    Some(quote_spanned! { Span::mixed_site() => ::<#first #(, #names)*> })
}

/// Whether the attribute says how the body is compiled.
fn compiles_body(attr: &Attribute) -> bool {
    attr.path().is_ident("target_feature") || attr.path().is_ident("track_caller")
}
