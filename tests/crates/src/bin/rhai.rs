//! Scripts: recursion, closures, maps; functions, types and iterators of the program's own, called back both ways.

use std::cell::RefCell;
use std::rc::Rc;

use rhai::{Array, Dynamic, Engine, EvalAltResult, FnPtr, NativeCallContext, Scope};

use crates::source::{Source, hash};

const SCRIPT: &str = r#"
    fn fib(n) { if n < 2 { n } else { fib(n - 1) + fib(n - 2) } }
    fn hanoi(n, a, b, c) { if n == 0 { 0 } else { hanoi(n - 1, a, c, b) + 1 + hanoi(n - 1, c, b, a) } }
    fn sort(list) {
        if list.len <= 1 { return list; }
        let first = list.shift();
        let left = list.filter(|x| x < first);
        let right = list.filter(|x| x >= first);
        sort(left) + [first] + sort(right)
    }
    let sorted = sort(numbers);
    let add = |x| sum + x;
    let totals = sorted.map(|x| x * 2).reduce(|a, b| if a == () { b } else { a + b });
    let map = #{ fib: fib(9), hanoi: hanoi(5, "a", "b", "c"), text: "" };
    for i in 0..6 { map.text += `${i}:${add.call(i)} `; log(map.text); }
    let p = point(3, 4);
    p.x = 6;
    for step in p { sum += step; }
    try { fail(sum); } catch (error) { map.caught = `${error}`; }
    map.each = each(sorted, |x| x + p.length);
    switch sum % 3 { 0 => map.kind = "zero", 1..=2 => map.kind = "more" }
    [map.fib, map.hanoi, map.text, map.caught, map.each, map.kind, totals, sum, p.length]
"#;

#[derive(Clone, Debug)]
struct Point {
    x: i64,
    y: i64,
}

impl IntoIterator for Point {
    type Item = i64;
    type IntoIter = std::array::IntoIter<i64, 2>;
    fn into_iter(self) -> Self::IntoIter {
        [self.x, self.y].into_iter()
    }
}

fn each(context: NativeCallContext, list: Array, function: FnPtr) -> Result<i64, Box<EvalAltResult>> {
    list.into_iter().try_fold(0, |sum, item| Ok(sum + function.call_within_context::<i64>(&context, (item,))?))
}

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let mut engine = Engine::new();
    let log = Rc::new(RefCell::new(Vec::new()));
    let said = log.clone();
    engine
        .register_type_with_name::<Point>("Point")
        .register_fn("point", |x: i64, y: i64| Point { x, y })
        .register_get_set("x", |p: &mut Point| p.x, |p: &mut Point, x: i64| p.x = x)
        .register_get("length", |p: &mut Point| ((p.x * p.x + p.y * p.y) as f64).sqrt() as i64)
        .register_iterator::<Point>()
        .register_fn("log", move |text: &str| said.borrow_mut().push(text.len()))
        .register_fn("fail", |n: i64| -> Result<(), Box<EvalAltResult>> { Err(format!("failed at {n}").into()) })
        .register_fn("each", each);
    let mut scope = Scope::new();
    let numbers: Array = (0..12).map(|_| Dynamic::from(source.below(50) as i64)).collect();
    scope.push("numbers", numbers).push("sum", source.below(100) as i64);
    let result: Array = engine.eval_with_scope(&mut scope, SCRIPT).unwrap();
    let errors: Vec<String> = ["1 +", "missing(3)", "let x = 1; x.y.z", "fn f(n) { f(n + 1) } f(0)", "[1, 2][7]"]
        .iter()
        .map(|text| engine.eval::<Dynamic>(text).unwrap_err().to_string())
        .map(|error| error.chars().take(80).collect())
        .collect();
    let functions = SCRIPT.split_once("let sorted").map_or("", |(functions, _)| functions);
    let ast = engine.compile(functions).unwrap();
    let moves: i64 = engine.call_fn(&mut Scope::new(), &ast, "hanoi", (4i64, 'a', 'b', 'c')).unwrap();
    let logged = format!("{:?}", log.borrow());
    format!("{result:?}\n{errors:#?}\n{moves} {:x}", hash(logged.as_bytes()))
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
