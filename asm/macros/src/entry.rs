//! `#[main]` and `#[test]`: a function that runs as a green thread.
//!
//! ```text
//!   #[main(workers = 2)]               fn main() -> ::std::process::ExitCode {
//!   fn main() -> T { body }   ──►          fn main() -> T { body }
//!                                          morestack::__private::main(|builder| builder.workers(2), main)
//!                                      }
//! ```
//!
//! The inner function keeps the name, for backtraces. Its result is turned into an exit code on the green thread, since it need
//! not be `Send`. The options are methods of `RuntimeBuilder`; what they may be is checked here as far as it can be read off
//! the tokens, and else by that builder when the runtime starts. An `async fn` runs in `block_on`.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned;
use syn::{Error, Expr, ExprLit, Ident, ItemFn, Lit, Result, ReturnType, Token};

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    Main,
    Test,
}

impl Entry {
    fn name(self) -> &'static str {
        match self {
            Entry::Main => "#[morestack::main]",
            Entry::Test => "#[morestack::test]",
        }
    }
}

/// What a value of an option is.
enum Kind {
    /// Any expression of the method's type.
    Any,
    /// A string: a duration, or `off`.
    Duration,
}

const OPTIONS: [(&str, Kind); 8] = [
    ("workers", Kind::Any),
    ("time_slice", Kind::Duration),
    ("stack_size", Kind::Any),
    ("max_stack_size", Kind::Any),
    ("freeze_after", Kind::Duration),
    ("max_threads", Kind::Any),
    ("pin_workers", Kind::Any),
    ("thread_name", Kind::Any),
];

/// The calls of the builder's methods.
struct Options(TokenStream);

impl Parse for Options {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut calls = TokenStream::new();
        let mut given: Vec<Ident> = Vec::new();
        while !input.is_empty() {
            let name: Ident =
                input.parse().map_err(|error| Error::new(error.span(), "expected an option, as `workers = 2`"))?;
            let Some((_, kind)) = OPTIONS.iter().find(|(option, _)| name == option) else {
                let options: Vec<String> = OPTIONS.iter().map(|(option, _)| format!("`{option}`")).collect();
                return Err(Error::new(
                    name.span(),
                    format!("unknown option `{name}`: there are {}", options.join(", ")),
                ));
            };
            if given.contains(&name) {
                return Err(Error::new(name.span(), format!("`{name}` is given twice")));
            }
            input
                .parse::<Token![=]>()
                .map_err(|_| Error::new(name.span(), format!("`{name}` needs a value: `{name} = ..`")))?;
            let value: Expr = input.parse()?;
            let value = match kind {
                Kind::Any => value.to_token_stream(),
                Kind::Duration => duration(&name, &value)?,
            };
            calls.extend(quote_spanned! { name.span() => .#name(#value) });
            given.push(name);
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(Options(calls))
    }
}

/// The duration that a string says, as an `Option<Duration>`.
fn duration(name: &Ident, value: &Expr) -> Result<TokenStream> {
    let bad = || {
        let message = format!("`{name}` is a string: a whole number of ns, us, ms or s, as \"100us\", or \"off\"");
        Error::new(value.span(), message)
    };
    let Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) = value else {
        return Err(bad());
    };
    let text = text.value();
    if text == "off" {
        return Ok(quote!(::core::option::Option::None));
    }
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let nanos = match &text[digits..] {
        "ns" => 1,
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        _ => return Err(bad()),
    };
    let nanos = text[..digits].parse::<u64>().ok().and_then(|n| n.checked_mul(nanos)).ok_or_else(bad)?;
    Ok(quote!(::core::option::Option::Some(::core::time::Duration::from_nanos(#nanos))))
}

/// Expands the attribute, or gives the error beside the function as it was.
pub(crate) fn expand(entry: Entry, args: TokenStream, item: TokenStream, morestack: &TokenStream) -> TokenStream {
    match try_expand(entry, args, item.clone(), morestack) {
        Ok(tokens) => tokens,
        Err(error) => {
            let mut tokens = error.into_compile_error();
            tokens.extend(item);
            tokens
        }
    }
}

fn try_expand(entry: Entry, args: TokenStream, item: TokenStream, morestack: &TokenStream) -> Result<TokenStream> {
    let what = entry.name();
    let function: ItemFn =
        syn::parse2(item).map_err(|error| Error::new(error.span(), format!("`{what}` goes on a function: {error}")))?;
    let sig = &function.sig;
    check(entry, &function)?;
    let Options(calls) = syn::parse2(args)?;

    let ItemFn { attrs, vis, block, .. } = &function;
    let (name, output, generics) = (&sig.ident, &sig.output, &sig.generics);
    let asyncness = &sig.asyncness;
    let site = Span::mixed_site();
    let (test, run) = match entry {
        Entry::Main => (None, quote!(main)),
        Entry::Test => (Some(quote!(#[::core::prelude::v1::test])), quote!(test)),
    };
    let body = match asyncness {
        Some(_) => quote_spanned! { site => || #morestack::block_on(#name()) },
        None => quote!(#name),
    };
    // `#[should_panic]` wants to see that nothing is returned.
    let (exit_code, semicolon) = match (entry, output) {
        (Entry::Test, ReturnType::Default) => (None, Some(quote!(;))),
        _ => (Some(quote!(-> ::std::process::ExitCode)), None),
    };
    Ok(quote_spanned! { site =>
        #(#attrs)*
        #test
        #vis fn #name #generics () #exit_code {
            #asyncness fn #name () #output #block
            #morestack::__private::#run(|builder| builder #calls, #body) #semicolon
        }
    })
}

/// Refuses what cannot be called without arguments.
fn check(entry: Entry, function: &ItemFn) -> Result<()> {
    let (what, sig) = (entry.name(), &function.sig);
    if entry == Entry::Main && sig.ident != "main" {
        let message = format!("`{what}` goes on `fn main`; elsewhere, `morestack::Runtime::run` runs a function");
        return Err(Error::new(sig.ident.span(), message));
    }
    if let Some(argument) = sig.inputs.first() {
        return Err(Error::new_spanned(argument, format!("a function with `{what}` takes no arguments")));
    }
    if !sig.generics.params.is_empty() {
        return Err(Error::new_spanned(&sig.generics, format!("a function with `{what}` cannot be generic")));
    }
    let refused: [Option<&dyn ToTokens>; 3] = [
        sig.constness.as_ref().map(|token| token as _),
        sig.unsafety.as_ref().map(|token| token as _),
        sig.abi.as_ref().map(|token| token as _),
    ];
    if let Some(token) = refused.into_iter().flatten().next() {
        let word = token.to_token_stream();
        return Err(Error::new_spanned(token, format!("a function with `{what}` cannot be `{word}`")));
    }
    let is_test = |attr: &&syn::Attribute| attr.path().segments.last().is_some_and(|last| last.ident == "test");
    if let Some(attr) = function.attrs.iter().find(is_test).filter(|_| entry == Entry::Test) {
        return Err(Error::new_spanned(attr, format!("`{what}` makes it a test already")));
    }
    Ok(())
}
