//! Expansions and errors as token streams.

use proc_macro2::TokenStream;
use quote::quote;

use super::expand;

/// Expands with `::morestack` as the path.
fn expansion(args: TokenStream, item: TokenStream) -> String {
    expand(args, item, &quote!(::morestack)).to_string()
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
            #[doc = "d"] #[inline] unsafe extern "C" fn f() {
                #![allow(unused)]
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
    let found = expand(
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

#[test]
fn frame_makes_a_shell() {
    expands(
        quote!(frame = 64 << 10),
        quote! { #[doc = "d"] pub fn f(mut x: u32, (a, b): (u8, u8)) -> u32 { #![allow(unused)] f(x, (a, b)) } },
        quote! {
            #[doc = "d"]
            pub fn f(x: u32, __argument1: (u8, u8)) -> u32 {
                #[inline(never)]
                fn __prologue_body(mut x: u32, (a, b): (u8, u8)) -> u32 { #![allow(unused)] f(x, (a, b)) }
                ::morestack::__private::prologue!(frame = 64 << 10);
                __prologue_body(x, __argument1)
            }
        },
    );
}

#[test]
fn frame_forwards_types_and_constants_but_no_lifetimes() {
    expands(
        quote!(frame = SIZE,),
        quote! { fn f<'a, T: Default, const N: usize>(x: &'a T) -> [T; N] where T: Copy { body() } },
        quote! {
            fn f<'a, T: Default, const N: usize>(x: &'a T) -> [T; N] where T: Copy {
                #[inline(never)]
                fn __prologue_body<'a, T: Default, const N: usize>(x: &'a T) -> [T; N] where T: Copy { body() }
                ::morestack::__private::prologue!(frame = SIZE);
                __prologue_body::<T, N>(x)
            }
        },
    );
}

#[test]
fn frame_keeps_the_contract_and_the_convention_of_the_shell() {
    expands(
        quote!(frame = 1),
        quote! { #[track_caller] #[unsafe(no_mangle)] unsafe extern "C" fn f() { body() } },
        quote! {
            #[track_caller]
            #[unsafe(no_mangle)]
            unsafe extern "C" fn f() {
                #[inline(never)]
                #[track_caller]
                unsafe fn __prologue_body() { body() }
                ::morestack::__private::prologue!(frame = 1);
                unsafe { __prologue_body() }
            }
        },
    );
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
        "expected `frame = BYTES` or nothing",
    );
}

#[test]
fn frames_that_cannot_move_to_an_inner_function() {
    refused(
        quote!(frame = 1),
        quote!(
            fn f(&self) {}
        ),
        "cannot go on a method",
    );
    refused(
        quote!(frame = 1),
        quote!(
            fn f(self: Box<u8>) {}
        ),
        "cannot go on a method",
    );
    refused(
        quote!(frame = 1),
        quote!(
            fn f() -> Self {}
        ),
        "`Self` has no meaning",
    );
    refused(
        quote!(frame = 1),
        quote!(
            fn f() {
                g(Self::X)
            }
        ),
        "`Self` has no meaning",
    );
    refused(
        quote!(frame = 1),
        quote!(
            fn f(#[cfg(unix)] x: u8) {}
        ),
        "conditional argument",
    );
}

#[test]
fn a_self_of_an_inner_item_is_its_own() {
    let item = quote! { fn f() { struct A(u8); impl A { fn g(&self) -> Self { Self(1) } } } };
    assert!(!expansion(quote!(frame = 1), item).contains("compile_error"));
    let item = quote! { fn f() { struct A(u8); impl A {} Self::g() } };
    assert!(expansion(quote!(frame = 1), item).contains("compile_error"));
}
