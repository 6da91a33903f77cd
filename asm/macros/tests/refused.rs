//! What the attribute refuses: the message, and the place it points at.

#[test]
fn refused() {
    trybuild::TestCases::new().compile_fail("tests/refused/*.rs");
}
