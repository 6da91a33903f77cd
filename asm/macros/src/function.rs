//! A function as the attribute sees it: what is in front of the body, and the body as it was written.

use proc_macro2::{Group, Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::parse::{Parse, ParseStream, Parser};
use syn::{Attribute, Error, Result, Signature, Token, Visibility};

/// A function with a body.
pub(crate) struct Function {
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) vis: Visibility,
    pub(crate) defaultness: Option<Token![default]>,
    pub(crate) sig: Signature,
    /// `#![..]` at the start of the body. They must stay in front of the first statement.
    pub(crate) inner_attrs: Vec<Attribute>,
    /// The rest of the body.
    pub(crate) body: TokenStream,
    /// The span of the body's braces.
    pub(crate) body_span: Span,
}

impl Parse for Function {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let attrs = input.call(Attribute::parse_outer)?;
        let vis = input.parse()?;
        let defaultness = input.parse()?;
        let sig: Signature =
            input.parse().map_err(|error| Error::new(error.span(), "`#[prologue]` goes on a function"))?;
        if input.peek(Token![;]) {
            let message = "`#[prologue]` needs a body to put the check into: mark the implementations";
            return Err(Error::new_spanned(&sig, message));
        }
        // One token tree, whatever is in it: the body may use syntax that syn does not know.
        let body: Group = match input.parse()? {
            TokenTree::Group(group) => group,
            other => return Err(Error::new(other.span(), "expected the body of a function")),
        };
        let (inner_attrs, rest) =
            (|content: ParseStream<'_>| Ok((content.call(Attribute::parse_inner)?, content.parse()?)))
                .parse2(body.stream())?;
        Ok(Function { attrs, vis, defaultness, sig, inner_attrs, body: rest, body_span: body.span() })
    }
}

impl Function {
    /// Refuses what can carry no check, whatever the arguments.
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(token) = &self.sig.constness {
            let message =
                "`#[prologue]` cannot go on a `const fn`: it has no stack to check when it runs at compile time";
            return Err(Error::new_spanned(token, message));
        }
        if let Some(token) = &self.sig.asyncness {
            let message = "`#[prologue]` cannot go on an `async fn`: its body runs in the frame of `poll`; mark the functions it calls";
            return Err(Error::new_spanned(token, message));
        }
        Ok(())
    }

    /// The function again, with other attributes, arguments and body.
    pub(crate) fn write(&self, sig: &Signature, body: TokenStream) -> TokenStream {
        let mut block = Group::new(proc_macro2::Delimiter::Brace, body);
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
