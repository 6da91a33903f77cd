//! What stands in the parentheses of `#[prologue(..)]`.

use syn::parse::{Parse, ParseStream};
use syn::{Expr, Ident, Result, Token};

/// The arguments of the attribute.
pub(crate) struct Args {
    /// `frame = BYTES`: the size to check for before the frame exists.
    pub(crate) frame: Option<Expr>,
}

impl Parse for Args {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut args = Args { frame: None };
        while !input.is_empty() {
            let name: Ident =
                input.parse().map_err(|error| syn::Error::new(error.span(), "expected `frame = BYTES` or nothing"))?;
            if name != "frame" {
                let message = format!("unknown argument `{name}`: `#[prologue]` takes `frame = BYTES` or nothing");
                return Err(syn::Error::new(name.span(), message));
            }
            if args.frame.is_some() {
                return Err(syn::Error::new(name.span(), "`frame` is given twice"));
            }
            input
                .parse::<Token![=]>()
                .map_err(|_| syn::Error::new(name.span(), "`frame` needs a size: `frame = BYTES`"))?;
            args.frame = Some(input.parse()?);
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(args)
    }
}
