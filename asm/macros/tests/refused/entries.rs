#[morestack_macros::main]
fn other() {}

#[morestack_macros::test]
fn arguments(n: u32) {}

#[morestack_macros::test]
fn generic<T>() {}

#[morestack_macros::test]
unsafe fn is_unsafe() {}

#[morestack_macros::test]
const fn is_const() {}

#[morestack_macros::test]
#[test]
fn twice() {}

#[morestack_macros::test]
struct Data;

#[morestack_macros::test(threads = 2)]
fn unknown() {}

#[morestack_macros::test(workers = 2, workers = 3)]
fn given_twice() {}

#[morestack_macros::test(workers)]
fn no_value() {}

#[morestack_macros::test(2)]
fn no_option() {}

#[morestack_macros::test(time_slice = 100)]
fn no_string() {}

#[morestack_macros::test(time_slice = "100")]
fn no_unit() {}

#[morestack_macros::test(time_slice = "never")]
fn no_duration() {}

fn main() {}
