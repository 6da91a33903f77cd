//! A closure as `with_prologue!` sees it: what is in front of the body, and the body as it was written.

use proc_macro2::{Delimiter, Group, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote_spanned};
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Error, Pat, PatType, ReturnType, Token};

/// A closure.
pub(crate) struct Closure {
    capture: Option<Token![move]>,
    or1: Token![|],
    pub(crate) inputs: Punctuated<Pat, Token![,]>,
    or2: Token![|],
    output: ReturnType,
    /// The body: an expression, or what is in the braces.
    pub(crate) body: TokenStream,
    /// The span of the body.
    pub(crate) body_span: Span,
}

impl Parse for Closure {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        if let Some(token) = input.parse::<Option<Token![async]>>()? {
            let message = "`with_prologue!` takes no `async` closure, whose body runs in the frame of `poll`: mark the \
                           functions it calls, or call `morestack::checkpoint()` in its loops";
            return Err(Error::new_spanned(token, message));
        }
        let capture = input.parse()?;
        let or1 = input.parse().map_err(|error| {
            Error::new(error.span(), "`with_prologue!` takes a closure: `|..| ..` or `move |..| ..`")
        })?;
        let mut inputs = Punctuated::new();
        while !input.peek(Token![|]) {
            inputs.push_value(argument(input)?);
            if !input.peek(Token![|]) {
                inputs.push_punct(input.parse()?);
            }
        }
        let or2 = input.parse()?;
        let output: ReturnType = input.parse()?;
        let mut body: Vec<TokenTree> = input.parse::<TokenStream>()?.into_iter().collect();
        if body.len() > 1 && matches!(body.last(), Some(TokenTree::Punct(punct)) if punct.as_char() == ',') {
            body.pop();
        }
        let (body, body_span) = match body.as_slice() {
            [] => return Err(input.error("expected the body of a closure")),
            [TokenTree::Group(group)] if group.delimiter() == Delimiter::Brace => (group.stream(), group.span()),
            [first, ..] if matches!(output, ReturnType::Type(..)) => {
                return Err(Error::new(first.span(), "a closure that names its result needs braces around its body"));
            }
            [first, ..] => {
                let span = first.span();
                (body.into_iter().collect(), span)
            }
        };
        Ok(Closure { capture, or1, inputs, or2, output, body, body_span })
    }
}

/// One argument.
fn argument(input: ParseStream<'_>) -> syn::Result<Pat> {
    let pat = Pat::parse_single(input)?;
    Ok(match input.parse::<Option<Token![:]>>()? {
        Some(colon_token) => {
            Pat::Type(PatType { attrs: Vec::new(), pat: Box::new(pat), colon_token, ty: input.parse()? })
        }
        None => pat,
    })
}

impl Closure {
    /// The closure again, with other arguments and another body.
    pub(crate) fn write(&self, inputs: &Punctuated<Pat, Token![,]>, body: TokenStream) -> TokenStream {
        let Closure { capture, or1, or2, output, body_span, .. } = self;
        let mut block = Group::new(Delimiter::Brace, body);
        block.set_span(*body_span);
        let block = block.into_token_stream();
        quote_spanned! { Span::mixed_site() => #capture #or1 #inputs #or2 #output #block }
    }
}
