//! Expansions and errors as token streams.

use proc_macro2::TokenStream;
use quote::quote;

use super::{closure, function};

/// Expands with `::morestack` as the path.
fn expansion(args: TokenStream, item: TokenStream) -> String {
    text(function(args, item, &quote!(::morestack)))
}

/// The tokens as text. Two bars are one token to `quote!` and two to syn.
fn text(tokens: TokenStream) -> String {
    tokens.to_string().replace("| |", "||")
}

/// Checks one expansion.
#[track_caller]
fn expands(args: TokenStream, item: TokenStream, to: TokenStream) {
    assert_eq!(expansion(args, item), to.to_string());
}

/// Checks that an expansion is this error, followed by the function as it was.
#[track_caller]
fn refused(args: TokenStream, item: TokenStream, message: &str) {
    let found = expansion(args, item.clone());
    assert!(found.starts_with(":: core :: compile_error !"), "no error: {found}");
    assert!(found.contains(message), "{found}");
    assert!(found.ends_with(&item.to_string()), "the function is gone: {found}");
}

#[test]
fn check_is_the_first_statement() {
    expands(
        quote!(),
        quote! { pub fn f(x: u32) -> u32 { x + 1 } },
        quote! { pub fn f(x: u32) -> u32 { ::morestack::__private::prologue!(); x + 1 } },
    );
}

#[test]
fn attributes_and_inner_attributes_stay_in_front() {
    expands(
        quote!(),
        quote! { #[doc = "d"] #[inline] unsafe extern "C" fn f() { #![allow(unused)] let x = 1; } },
        quote! {
            #[doc = "d"] #[inline] #[allow(unused)] unsafe extern "C" fn f() {
                ::morestack::__private::prologue!();
                let x = 1;
            }
        },
    );
}

#[test]
fn methods_and_generics() {
    expands(
        quote!(),
        quote! { fn f<'a, T: Ord, const N: usize>(&'a mut self, x: impl Fn(T)) -> [T; N] where T: Copy { x(1) } },
        quote! {
            fn f<'a, T: Ord, const N: usize>(&'a mut self, x: impl Fn(T)) -> [T; N] where T: Copy {
                ::morestack::__private::prologue!();
                x(1)
            }
        },
    );
}

#[test]
fn body_is_not_parsed() {
    expands(
        quote!(),
        quote! { fn f() { what 1 is => this } },
        quote! { fn f() { ::morestack::__private::prologue!(); what 1 is => this } },
    );
}

#[test]
fn renamed_dependency() {
    let found = function(
        quote!(),
        quote!(
            fn f() {}
        ),
        &quote!(::green),
    )
    .to_string();
    assert_eq!(
        found,
        quote!(
            fn f() {
                ::green::__private::prologue!();
            }
        )
        .to_string()
    );
}

/// What a shell does, around the closure's body.
fn shell(bytes: TokenStream, body: TokenStream) -> TokenStream {
    quote! {
        ::morestack::__private::prologue!(frame = #bytes);
        let outline = ::morestack::__private::Outline::new();
        if false {
            #[allow(clippy::diverging_sub_expression)]
            return outline.returned();
        }
        outline.run(|| { #body })
    }
}

#[test]
fn frame_makes_a_shell() {
    let body = shell(
        quote!(64 << 10),
        quote! {
            let mut x = x;
            let __argument1 = __argument1;
            let (a, b) = __argument1;
            f(x, (a, b))
        },
    );
    expands(
        quote!(frame = 64 << 10),
        quote! { #[doc = "d"] pub fn f(mut x: u32, (a, b): (u8, u8)) -> u32 { #![allow(unused)] f(x, (a, b)) } },
        quote! { #[doc = "d"] #[allow(unused)] pub fn f(x: u32, __argument1: (u8, u8)) -> u32 { #body } },
    );
}

#[test]
fn frame_leaves_the_signature() {
    let body = shell(quote!(SIZE), quote! { let x = x; body() });
    expands(
        quote!(frame = SIZE,),
        quote! {
            #[unsafe(no_mangle)]
            unsafe extern "C" fn f<'a, T: Default, const N: usize>(mut self: Box<Self>, x: &'a T) -> [T; N] where T: Copy { body() }
        },
        quote! {
            #[unsafe(no_mangle)]
            unsafe extern "C" fn f<'a, T: Default, const N: usize>(mut self: Box<Self>, x: &'a T) -> [T; N] where T: Copy { #body }
        },
    );
}

#[test]
fn conditional_arguments() {
    let body = shell(quote!(1), quote! { #[cfg(unix)] let x = x; x });
    expands(
        quote!(frame = 1),
        quote! { fn f(#[cfg(unix)] x: u8) -> u8 { x } },
        quote! { fn f(#[cfg(unix)] x: u8) -> u8 { #body } },
    );
}

/// Checks where polls go into a body.
#[track_caller]
fn polls(body: TokenStream, polled: TokenStream) {
    let head = quote!(::morestack::__private::prologue!(););
    let find = |tokens: TokenStream| tokens.to_string().replace("POLL ;", &head.to_string());
    let found = expansion(quote!(loops), quote! { fn f() { #body } });
    assert_eq!(found, find(quote! { fn f() { POLL; #polled } }));
}

#[test]
fn loops_that_call_are_polled() {
    polls(quote! { loop { f() } }, quote! { loop { POLL; f() } });
    polls(quote! { while f() { x += 1; } }, quote! { while f() { POLL; x += 1; } });
    polls(quote! { while let Some(x) = y.next() {} }, quote! { while let Some(x) = y.next() { POLL; } });
    polls(quote! { for x in y { x.f(); } }, quote! { for x in y { POLL; x.f(); } });
    polls(quote! { for x in y { assert!(x); } }, quote! { for x in y { POLL; assert!(x); } });
    polls(quote! { for x in y { x.await; } }, quote! { for x in y { POLL; x.await; } });
    polls(
        quote! { 'a: for x in y { if x { continue 'a; } f(); break 'a; } },
        quote! { 'a: for x in y { POLL; if x { continue 'a; } f(); break 'a; } },
    );
    polls(quote! { let x = loop { break f(); }; x }, quote! { let x = loop { POLL; break f(); }; x });
    polls(quote! { for x in y.map(|x| f(x)) {} }, quote! { for x in y.map(|x| f(x)) { POLL; } });
}

#[test]
fn loops_around_loops_are_polled() {
    polls(quote! { for x in y { for z in x { s += z; } } }, quote! { for x in y { POLL; for z in x { s += z; } } });
    polls(
        quote! { g(|| while a { if b { loop { f(); } } }) },
        quote! { g(|| while a { POLL; if b { loop { POLL; f(); } } }) },
    );
}

#[test]
fn other_loops_are_not() {
    for body in [
        quote! { for x in y.iter() { s += x * 2; } },
        quote! { for x in y.f(g(1)) { s[x] = Some(x); } },
        quote! { while i < n { i += 1; } },
        quote! { for x in y { fn g() { h() } s += const { h() }; } },
        quote! { fn g() { loop { h() } } },
        quote! { impl A { fn g() { loop { h() } } } },
        quote! { const { loop { h() } } },
        quote! { m! { loop { h() } } },
    ] {
        polls(body.clone(), body);
    }
}

#[test]
fn loops_in_a_frame() {
    let body = shell(quote!(1), quote! { loop { ::morestack::__private::prologue!(); f() } });
    expands(quote!(loops, frame = 1), quote! { fn f() { loop { f() } } }, quote! { fn f() { #body } });
}

#[test]
fn closures() {
    let of = |input: TokenStream| text(closure(input, &quote!(::morestack)));
    let check = quote!(::morestack::__private::prologue!(););
    assert_eq!(of(quote!(|| 1 + 1)), quote!(|| { #check 1 + 1 }).to_string());
    assert_eq!(
        of(quote!(move |mut x: Vec<u8>, (y, z), &w| -> Result<A, B> {
            x?;
            w
        })),
        quote!(move |mut x: Vec<u8>, (y, z), &w| -> Result<A, B> { #check x?; w }).to_string()
    );
    assert_eq!(
        of(quote!(loops, |x| loop {
            f(x)
        },)),
        quote!(|x| { #check loop { #check f(x) } }).to_string()
    );
    let body = shell(quote!(N), quote! { let mut x = x; let __argument1 = __argument1; let (y, z) = __argument1; x });
    assert_eq!(of(quote!(frame = N, |mut x: u8, (y, z)| x)), quote!(|x: u8, __argument1| { #body }).to_string());
}

#[test]
fn what_is_no_closure() {
    let refused = |input: TokenStream, message: &str| {
        let found = closure(input, &quote!(::morestack)).to_string();
        assert!(found.contains("compile_error !") && found.contains(message), "{found}");
    };
    refused(quote!(async || ()), "no `async` closure");
    refused(quote!(async move |x| x), "no `async` closure");
    refused(quote!(1 + 1), "takes a closure");
    refused(quote!(), "takes a closure");
    refused(quote!(||), "expected the body");
    refused(quote!(|| -> u8 1), "braces");
    refused(quote!(frame = 1), "expected a comma");
    refused(quote!(frames = 1, || ()), "unknown argument `frames`");
}

#[test]
fn functions_that_have_no_stack_to_check() {
    refused(
        quote!(),
        quote!(
            const fn f() {}
        ),
        "`const fn`",
    );
    refused(
        quote!(),
        quote!(
            async fn f() {}
        ),
        "`async fn`",
    );
    refused(
        quote!(),
        quote!(
            fn f();
        ),
        "needs a body",
    );
    refused(
        quote!(),
        quote!(
            struct S;
        ),
        "goes on a function",
    );
}

#[test]
fn arguments_that_are_not_known() {
    refused(
        quote!(depth = 1),
        quote!(
            fn f() {}
        ),
        "unknown argument `depth`",
    );
    refused(
        quote!(frame),
        quote!(
            fn f() {}
        ),
        "`frame` needs a size",
    );
    refused(
        quote!(frame = 1, frame = 2),
        quote!(
            fn f() {}
        ),
        "`frame` is given twice",
    );
    refused(
        quote!("frame"),
        quote!(
            fn f() {}
        ),
        "expected `frame = BYTES`, `loops`, both, or nothing",
    );
    refused(
        quote!(loops = 1),
        quote!(
            fn f() {}
        ),
        "`loops` takes no value",
    );
    refused(
        quote!(loops, loops),
        quote!(
            fn f() {}
        ),
        "`loops` is given twice",
    );
    refused(
        quote!(frame =),
        quote!(
            fn f() {}
        ),
        "`frame` needs a size",
    );
}

#[test]
fn frame_that_sees_its_caller() {
    refused(
        quote!(frame = 1),
        quote!(
            #[track_caller]
            fn f() {}
        ),
        "does not see the caller",
    );
}

#[test]
fn loops_that_cannot_be_read() {
    refused(quote!(loops), quote! { fn f() { what 1 is => this } }, "`loops` has to find the loops");
}
