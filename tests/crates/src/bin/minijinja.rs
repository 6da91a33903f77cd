//! Templates: inheritance, recursive loops and macros; filters, tests and objects of the program's own.

use std::fmt;
use std::sync::Arc;

use minijinja::value::{Enumerator, Object, Value};
use minijinja::{Environment, Error, ErrorKind, State, context};

use crates::source::Source;

const BASE: &str =
    "<title>{% block title %}base{% endblock %}</title>\n{% block body %}{% endblock %}{{ footer|default('-') }}";
const PAGE: &str = "\
{% extends 'base' %}{% import 'macros' as m %}
{% block title %}{{ super() }} {{ name|upper }}{% endblock %}
{% block body %}
{% for item in tree recursive %}{{ loop.depth }}.{{ loop.index }} {{ item.name|shout(times=2) }}
{% if item.children %}{{ loop(item.children) }}{% endif %}{% endfor %}
{{ m.nest(6) }} {{ range(10)|map('square')|select('divisible', 3)|join(', ') }}
{% set ns = namespace(total=0) %}{% for x in numbers if x is odd %}{% set ns.total = ns.total + x %}{% endfor %}{{ ns.total }}
{{ numbers|sort(reverse=true)|batch(4, 0)|list }} {{ thing.field }} {{ thing.method(3) }} {{ thing }}
{% filter upper %}{% include ['missing', 'part'] %}{% endfilter %}
{% endblock %}";
const MACROS: &str = "{% macro nest(n) %}<{{ n }}>{% if n %}{{ nest(n - 1) }}{% endif %}</{{ n }}>{% endmacro %}";

#[derive(Debug)]
struct Thing(u64);

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_list().entries((0..self.0 % 4).map(|i| i * self.0)).finish()
    }
}

impl Object for Thing {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        Some(Value::from(format!("{key} of {}", self.0)))
    }
    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Str(&["field"])
    }
    fn call_method(self: &Arc<Self>, state: &mut State, method: &str, arguments: &[Value]) -> Result<Value, Error> {
        match method {
            "method" => state.apply_filter("square", arguments),
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result
    where
        Self: Sized + 'static,
    {
        write!(f, "[{self}]")
    }
}

fn tree(source: &mut Source, depth: u64) -> Vec<Value> {
    (0..1 + source.below(3))
        .map(|_| {
            let children = if depth == 0 { Vec::new() } else { tree(source, depth - 1) };
            context! { name => source.words(1), children }
        })
        .collect()
}

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let mut environment = Environment::new();
    for (name, text) in [("base", BASE), ("page", PAGE), ("macros", MACROS), ("part", "part of {{ name }} {{ 1 / 4 }}")]
    {
        environment.add_template(name, text).unwrap();
    }
    environment.add_filter("square", |n: i64| n * n);
    environment.add_filter("shout", |text: String, options: minijinja::value::Kwargs| -> Result<String, Error> {
        Ok([text.to_uppercase(), "!".repeat(options.get("times")?)].concat())
    });
    environment.add_test("divisible", |n: i64, by: i64| n % by == 0);
    let numbers: Vec<u64> = (0..14).map(|_| source.below(100)).collect();
    let page = environment.get_template("page").unwrap();
    let values = context! { name => source.words(2), tree => tree(source, 3), numbers, thing => Value::from_object(Thing(seed + 3)) };
    let text = page.render(&values).unwrap();
    let errors: Vec<String> =
        ["{{ missing.field }}", "{% for x in 3 %}{% endfor %}", "{{ 'a'|square }}", "{% if %}", "{{ 1 // 0 }}"]
            .iter()
            .map(|text| format!("{:#}", environment.render_str(text, &values).unwrap_err()))
            .collect();
    let sum = environment.compile_expression("numbers|sum + [1, 2][1] * 3 ** 2").unwrap().eval(&values).unwrap();
    format!("{text}\n{sum} {errors:#?}")
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
