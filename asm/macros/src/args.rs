//! What stands in the parentheses of `#[prologue(..)]`, and in front of the closure of `with_prologue!`.

use syn::parse::{Parse, ParseStream};
use syn::{Error, Expr, Ident, Result, Token};

/// The arguments.
#[derive(Default)]
pub(crate) struct Args {
    /// `frame = BYTES`: the size to check for before the frame exists.
    pub(crate) frame: Option<Expr>,
    /// `loops`: loops that may run long are checked too.
    pub(crate) loops: bool,
}

impl Args {
    /// Parses one argument.
    fn one(&mut self, input: ParseStream<'_>) -> Result<()> {
        let name: Ident = input
            .parse()
            .map_err(|error| Error::new(error.span(), "expected `frame = BYTES`, `loops`, both, or nothing"))?;
        let given = match name.to_string().as_str() {
            "frame" => {
                let message = "`frame` needs a size: `frame = BYTES`";
                input.parse::<Token![=]>().map_err(|_| Error::new(name.span(), message))?;
                if input.is_empty() {
                    return Err(Error::new(name.span(), message));
                }
                self.frame.replace(input.parse()?).is_some()
            }
            "loops" => {
                if input.peek(Token![=]) {
                    return Err(Error::new(name.span(), "`loops` takes no value"));
                }
                std::mem::replace(&mut self.loops, true)
            }
            _ => {
                let message = format!("unknown argument `{name}`: there are `frame = BYTES` and `loops`");
                return Err(Error::new(name.span(), message));
            }
        };
        if given {
            return Err(Error::new(name.span(), format!("`{name}` is given twice")));
        }
        Ok(())
    }

    /// Parses those in front of a closure.
    pub(crate) fn before_closure(input: ParseStream<'_>) -> Result<Self> {
        let mut args = Args::default();
        while input.peek(Ident) {
            args.one(input)?;
            input
                .parse::<Token![,]>()
                .map_err(|error| Error::new(error.span(), "expected a comma, and a closure after it"))?;
        }
        Ok(args)
    }
}

impl Parse for Args {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut args = Args::default();
        while !input.is_empty() {
            args.one(input)?;
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(args)
    }
}
