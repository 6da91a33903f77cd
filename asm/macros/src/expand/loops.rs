//! `loops`: a check at the start of each turn of the loops that may run long.
//!
//! A check keeps LLVM from vectorising the loop it is in: innermost loops over arrays take up to seven times as long with
//! one. So a loop is polled if a turn of it is long enough to pay for a check, as far as its text says:
//!
//! | contains | polled |
//! |---|---|
//! | another loop | yes |
//! | a call, also in the condition of a `while`, or in a closure in the iterator of a `for` | yes |
//! | a macro, which may hide a call | yes |
//! | `.await` | yes |
//! | none of these | no |
//!
//! A call by a name that begins with a capital letter is a constructor, `Some(x)`, and counts for nothing. Operators that
//! are calls do not look it.
//!
//! `continue` goes to the head of the loop, and from there to the check. Closures and `async` blocks are part of the
//! function; items in it and `const` blocks are not, and neither is what macros are given, which nobody can parse.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote_spanned};
use syn::parse::Parser;
use syn::visit::{self, Visit};
use syn::visit_mut::{self, VisitMut};
use syn::{
    Block, Error, Expr, ExprAwait, ExprCall, ExprClosure, ExprConst, ExprForLoop, ExprLoop, ExprMethodCall, ExprWhile,
    Item, Macro, Result, Stmt,
};

/// The body with its loops polled.
pub(super) fn polled(body: TokenStream, morestack: &TokenStream) -> Result<TokenStream> {
    let mut stmts = Block::parse_within.parse2(body).map_err(|error| {
        let message = format!("`loops` has to find the loops, and cannot read this: {error}");
        Error::new(error.span(), message)
    })?;
    let poll = quote_spanned! { Span::mixed_site() => #morestack::__private::prologue!(); };
    let mut poller = Poller { poll: syn::parse2(poll)? };
    for stmt in &mut stmts {
        poller.visit_stmt_mut(stmt);
    }
    Ok(stmts.into_iter().map(ToTokens::into_token_stream).collect())
}

/// Puts checks into loops.
struct Poller {
    poll: Stmt,
}

impl Poller {
    fn poll(&self, body: &mut Block) {
        body.stmts.insert(0, self.poll.clone());
    }
}

impl VisitMut for Poller {
    fn visit_expr_for_loop_mut(&mut self, expr: &mut ExprForLoop) {
        let long = of(|found| {
            found.visit_block(&expr.body);
            InClosures(found).visit_expr(&expr.expr);
        });
        visit_mut::visit_expr_for_loop_mut(self, expr);
        if long {
            self.poll(&mut expr.body);
        }
    }

    fn visit_expr_while_mut(&mut self, expr: &mut ExprWhile) {
        let long = of(|found| {
            found.visit_expr(&expr.cond);
            found.visit_block(&expr.body);
        });
        visit_mut::visit_expr_while_mut(self, expr);
        if long {
            self.poll(&mut expr.body);
        }
    }

    fn visit_expr_loop_mut(&mut self, expr: &mut ExprLoop) {
        let long = of(|found| found.visit_block(&expr.body));
        visit_mut::visit_expr_loop_mut(self, expr);
        if long {
            self.poll(&mut expr.body);
        }
    }

    fn visit_item_mut(&mut self, _: &mut Item) {}

    fn visit_expr_const_mut(&mut self, _: &mut ExprConst) {}
}

/// Whether what is visited contains what takes long.
#[derive(Default)]
struct Found(bool);

fn of(look: impl FnOnce(&mut Found)) -> bool {
    let mut found = Found::default();
    look(&mut found);
    found.0
}

impl Visit<'_> for Found {
    fn visit_expr_call(&mut self, expr: &ExprCall) {
        self.0 |= !is_constructor(&expr.func);
        visit::visit_expr_call(self, expr);
    }

    fn visit_expr_method_call(&mut self, _: &ExprMethodCall) {
        self.0 = true;
    }

    fn visit_macro(&mut self, _: &Macro) {
        self.0 = true;
    }

    fn visit_expr_await(&mut self, _: &ExprAwait) {
        self.0 = true;
    }

    fn visit_expr_for_loop(&mut self, _: &ExprForLoop) {
        self.0 = true;
    }

    fn visit_expr_while(&mut self, _: &ExprWhile) {
        self.0 = true;
    }

    fn visit_expr_loop(&mut self, _: &ExprLoop) {
        self.0 = true;
    }

    fn visit_item(&mut self, _: &Item) {}

    fn visit_expr_const(&mut self, _: &ExprConst) {}
}

/// Looks into closures only: what is around them runs once.
struct InClosures<'a>(&'a mut Found);

impl Visit<'_> for InClosures<'_> {
    fn visit_expr_closure(&mut self, expr: &ExprClosure) {
        self.0.visit_expr(&expr.body);
    }
}

/// Whether this is called to make a value of a tuple struct or of a variant, by the names of it.
fn is_constructor(function: &Expr) -> bool {
    let Expr::Path(path) = function else { return false };
    path.path.segments.last().is_some_and(|last| last.ident.to_string().starts_with(char::is_uppercase))
}
