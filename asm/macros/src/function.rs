//! A function as the attribute sees it: what is in front of the body, and the body as it was written.

use proc_macro2::{Delimiter, Group, Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::parse::{Parse, ParseStream, Parser};
use syn::{AttrStyle, Attribute, Error, Result, Signature, Token, Visibility};

/// A function with a body.
pub(crate) struct Function {
    /// Those inside the body too: what `#![..]` says there, `#[..]` says outside.
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) vis: Visibility,
    pub(crate) defaultness: Option<Token![default]>,
    pub(crate) sig: Signature,
    /// The body without its braces.
    pub(crate) body: TokenStream,
    /// The span of the body's braces.
    pub(crate) body_span: Span,
}

impl Parse for Function {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut attrs = input.call(Attribute::parse_outer)?;
        let vis = input.parse()?;
        let defaultness = input.parse()?;
        let sig: Signature = input.parse().map_err(|error| {
            let message = "`#[prologue]` goes on a function with a body: a free one, a method, an associated function; \
                           around a closure goes `with_prologue!(|..| ..)`";
            Error::new(error.span(), message)
        })?;
        if input.peek(Token![;]) {
            let message = "`#[prologue]` needs a body to put the check into: mark the implementations";
            return Err(Error::new_spanned(&sig, message));
        }
        // One token tree, whatever is in it: the body may use syntax that syn does not know.
        let body = braces(input.parse()?)?;
        let (inner, rest): (Vec<Attribute>, TokenStream) =
            (|content: ParseStream<'_>| Ok((content.call(Attribute::parse_inner)?, content.parse()?)))
                .parse2(body.stream())?;
        attrs.extend(inner.into_iter().map(|attr| Attribute { style: AttrStyle::Outer, ..attr }));
        Ok(Function { attrs, vis, defaultness, sig, body: rest, body_span: body.span() })
    }
}

/// The group in braces that the token is, or that a `$body:block` of a declarative macro holds.
fn braces(token: TokenTree) -> Result<Group> {
    let span = token.span();
    if let TokenTree::Group(group) = token {
        if group.delimiter() == Delimiter::Brace {
            return Ok(group);
        }
        let mut inner = group.stream().into_iter();
        if let (Delimiter::None, Some(token), None) = (group.delimiter(), inner.next(), inner.next()) {
            return braces(token);
        }
    }
    Err(Error::new(span, "expected the body of a function"))
}

impl Function {
    /// Refuses what can carry no check, whatever the arguments.
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(token) = &self.sig.constness {
            let message = "`#[prologue]` cannot go on a `const fn`, which has no stack to check when it runs at compile \
                           time: mark the functions that call it, or drop the `const`";
            return Err(Error::new_spanned(token, message));
        }
        if let Some(token) = &self.sig.asyncness {
            let message = "`#[prologue]` cannot go on an `async fn`, whose body runs in the frame of `poll`: mark the \
                           functions it calls, or call `morestack::checkpoint()` in its loops";
            return Err(Error::new_spanned(token, message));
        }
        Ok(())
    }

    /// The function again, with another signature and body.
    pub(crate) fn write(&self, sig: &Signature, body: TokenStream) -> TokenStream {
        let mut block = Group::new(Delimiter::Brace, body);
        block.set_span(self.body_span);
        let mut tokens = TokenStream::new();
        for attr in &self.attrs {
            attr.to_tokens(&mut tokens);
        }
        self.vis.to_tokens(&mut tokens);
        self.defaultness.to_tokens(&mut tokens);
        sig.to_tokens(&mut tokens);
        block.to_tokens(&mut tokens);
        tokens
    }
}
