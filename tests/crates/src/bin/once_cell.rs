//! Cells that are filled once, by closures that fill others, fail or panic.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use once_cell::race::OnceBox;
use once_cell::{sync, unsync};

use crates::source::Source;

static WORDS: sync::Lazy<Vec<String>> =
    sync::Lazy::new(|| Source::new(7).words(9).split(' ').map(str::to_owned).collect());

/// Who is preempted while it makes them would have the others of its OS thread wait for it there.
fn words() -> &'static [String] {
    morestack::without_preemption(|| &**sync::Lazy::force(&WORDS))
}

/// Each is the sum of the two before, and is asked for once.
struct Memo<'a> {
    cells: Vec<unsync::OnceCell<u64>>,
    log: &'a RefCell<Vec<usize>>,
}

impl Memo<'_> {
    fn get(&self, i: usize) -> u64 {
        *self.cells[i].get_or_init(|| {
            self.log.borrow_mut().push(i);
            if i < 2 { i as u64 } else { self.get(i - 1) + self.get(i - 2) }
        })
    }
}

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let log = RefCell::new(Vec::new());
    let memo = Memo { cells: vec![unsync::OnceCell::new(); 60], log: &log };
    let fib = memo.get(40 + source.below(19) as usize);
    let cell = sync::OnceCell::new();
    let failed: Result<&String, String> = cell.get_or_try_init(|| Err(source.words(2)));
    let panicked = catch_unwind(AssertUnwindSafe(|| cell.get_or_init(|| panic!("not yet")).len()));
    let length = cell.get_or_init(|| source.words(3)).len();
    let again = cell.set("other".to_owned()).map_err(|back| back.len());
    let poisoned = unsync::Lazy::new(|| -> u64 { panic!("never") });
    let tries: Vec<bool> = (0..2).map(|_| catch_unwind(AssertUnwindSafe(|| *poisoned)).is_ok()).collect();
    let raced = OnceBox::new();
    let first = raced.get_or_init(|| Box::new(source.below(100)));
    let second = raced.get_or_init(|| unreachable!("it is there"));
    let once: &str = words().iter().map(String::as_str).max_by_key(|word| word.len()).unwrap_or("");
    format!(
        "{fib} {failed:?} {} {length} {again:?} {tries:?} {} {once} {:?}",
        panicked.is_err(),
        first == second,
        log.into_inner()
    )
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
