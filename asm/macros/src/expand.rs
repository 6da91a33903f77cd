//! The expansion, over `proc_macro2` tokens so that it can be tested without a compiler around it.

mod framed;
#[cfg(test)]
mod tests;

use proc_macro2::{Span, TokenStream};
use quote::quote_spanned;
use syn::Result;

use crate::args::Args;
use crate::function::Function;

/// Expands the attribute, or gives the error beside the function as it was.
pub(crate) fn expand(args: TokenStream, item: TokenStream, morestack: &TokenStream) -> TokenStream {
    match try_expand(args, item.clone(), morestack) {
        Ok(tokens) => tokens,
        Err(error) => {
            let mut tokens = error.into_compile_error();
            tokens.extend(item);
            tokens
        }
    }
}

fn try_expand(args: TokenStream, item: TokenStream, morestack: &TokenStream) -> Result<TokenStream> {
    let function: Function = syn::parse2(item)?;
    function.check()?;
    let args: Args = syn::parse2(args)?;
    match &args.frame {
        None => Ok(checked(&function, morestack)),
        Some(bytes) => framed::framed(&function, bytes, morestack),
    }
}

/// The check as the first statement of the body.
fn checked(function: &Function, morestack: &TokenStream) -> TokenStream {
    let Function { inner_attrs, body, .. } = function;
    let body = quote_spanned! { Span::mixed_site() =>
        #(#inner_attrs)*
        #morestack::__private::prologue!();
        #body
    };
    function.write(&function.sig, body)
}
