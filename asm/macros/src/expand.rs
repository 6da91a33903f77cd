//! The expansion, over `proc_macro2` tokens so that it can be tested without a compiler around it.

mod framed;
mod loops;
#[cfg(test)]
mod tests;

use proc_macro2::{Span, TokenStream};
use quote::quote_spanned;
use syn::Result;
use syn::parse::{ParseStream, Parser};

use crate::args::Args;
use crate::closure::Closure;
use crate::function::Function;

/// Expands the attribute, or gives the error beside the function as it was.
pub(crate) fn function(args: TokenStream, item: TokenStream, morestack: &TokenStream) -> TokenStream {
    match try_function(args, item.clone(), morestack) {
        Ok(tokens) => tokens,
        Err(error) => {
            let mut tokens = error.into_compile_error();
            tokens.extend(item);
            tokens
        }
    }
}

fn try_function(args: TokenStream, item: TokenStream, morestack: &TokenStream) -> Result<TokenStream> {
    let mut function: Function = syn::parse2(item)?;
    function.check()?;
    let args: Args = syn::parse2(args)?;
    if args.loops {
        function.body = loops::polled(function.body, morestack)?;
    }
    Ok(match &args.frame {
        None => function.write(&function.sig, checked(&function.body, morestack)),
        Some(bytes) => framed::function(&function, bytes, morestack)?,
    })
}

/// Expands `with_prologue!`.
pub(crate) fn closure(input: TokenStream, morestack: &TokenStream) -> TokenStream {
    try_closure(input, morestack).unwrap_or_else(|error| error.into_compile_error())
}

fn try_closure(input: TokenStream, morestack: &TokenStream) -> Result<TokenStream> {
    let parser = |input: ParseStream<'_>| Ok((Args::before_closure(input)?, input.parse::<Closure>()?));
    let (args, mut closure) = parser.parse2(input)?;
    if args.loops {
        closure.body = loops::polled(closure.body, morestack)?;
    }
    Ok(match &args.frame {
        None => closure.write(&closure.inputs, checked(&closure.body, morestack)),
        Some(bytes) => framed::closure(&closure, bytes, morestack),
    })
}

/// The check as the first statement of the body.
fn checked(body: &TokenStream, morestack: &TokenStream) -> TokenStream {
    quote_spanned! { Span::mixed_site() =>
        #morestack::__private::prologue!();
        #body
    }
}
