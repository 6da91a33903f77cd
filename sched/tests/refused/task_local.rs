use std::cell::Cell;

morestack::task_local! {
    static ANOTHER_TYPE: Cell<u32> = Cell::new("text");
    static NOT_CONST: String = const { String::from("text") };
}

morestack::task_local! {
    static NO_VALUE: Cell<u32>;
}

morestack::task_local! {
    static BORROWS: &'static str = &String::new();
}

morestack::task_local! {
    static CELL: Cell<String> = const { Cell::new(String::new()) };
}

fn uses() {
    // Not a copy, and not beyond the closure.
    CELL.get();
    let kept = CELL.with(|cell| cell);
    drop(kept);
}

fn main() {}
