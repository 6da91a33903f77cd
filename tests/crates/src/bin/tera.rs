//! Templates: inheritance, components of loops and filters; functions, filters and tests of the program's own.

use serde::Serialize;
use tera::{Context, Kwargs, State, Tera, TeraResult};

use crates::source::Source;

#[derive(Serialize)]
struct Item {
    name: String,
    price: f64,
    children: Vec<Item>,
}

const BASE: &str = "<{% block title %}base{% endblock title %}>\n{% block body %}{% endblock body %}";
const PAGE: &str = "\
{% extends \"base\" %}{% block title %}{{ super() }} {{ title | upper }}{% endblock title %}
{% block body %}{% for item in items %}{% set name = item.name %}
{{ loop.index }}{% if loop.first %}!{% endif %} {{ name | shout(times=loop.index) }} {{ item.price * 2 + 1 }}
{% for child in item.children %}{% include \"part\" %}{% else %}none{% endfor %}
{% endfor %}{{ square(n=7) }} {% if 12 is divisible(by=4) %}yes{% endif %} {{ '<a&b>' }} {{ '<b>' | safe }}
{{ [3, 1, 2] | sort | join(sep='-') }} {% filter upper %}{{ title ~ 1 }}{% endfilter %}{% endblock body %}";

fn items(source: &mut Source, depth: u64) -> Vec<Item> {
    (0..1 + source.below(4))
        .map(|_| Item {
            name: source.words(2),
            price: source.below(100) as f64 / 4.0,
            children: if depth == 0 { Vec::new() } else { items(source, depth - 1) },
        })
        .collect()
}

fn shout(text: &str, arguments: Kwargs, _: &State) -> TeraResult<String> {
    Ok([text.to_uppercase(), "!".repeat(arguments.must_get::<usize>("times")?)].concat())
}

fn square(arguments: Kwargs, _: &State) -> TeraResult<i64> {
    let n: i64 = arguments.must_get("n")?;
    Ok(n * n)
}

fn divisible(n: i64, arguments: Kwargs, _: &State) -> TeraResult<bool> {
    Ok(n % arguments.must_get::<i64>("by")? == 0)
}

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let mut tera = Tera::default();
    tera.register_filter("shout", shout);
    tera.register_function("square", square);
    tera.register_test("divisible", divisible);
    tera.add_raw_templates(vec![
        ("base", BASE),
        ("page", PAGE),
        ("part", "[{{ child.name }} {{ child.price }} of {{ name }}]"),
    ])
    .unwrap();
    tera.autoescape_on(vec!["page"]);
    let mut context = Context::new();
    context.insert("title", &source.words(2));
    context.insert("items", &items(source, 1));
    let text = tera.render("page", &context).unwrap();
    let errors: Vec<String> =
        ["{{ missing.x }}", "{% for x in 3 %}{% endfor %}", "{{ title | shout }}", "{% if %}", "{{ 1 / title }}"]
            .iter()
            .map(|text| Tera::one_off(text, &context, true).unwrap_err().to_string())
            .collect();
    format!("{text}\n{}", errors.join("\n"))
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
