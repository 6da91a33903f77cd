use morestack_macros::{prologue, with_prologue};

fn main() {
    with_prologue!(async || ());
    with_prologue!(async move |x: u32| x);
    with_prologue!(|x| -> u32 x);
    with_prologue!(main);
    with_prologue!(depth = 3, || ());
    with_prologue!(loops || ());
    with_prologue!();
    #[prologue]
    || ();
}
