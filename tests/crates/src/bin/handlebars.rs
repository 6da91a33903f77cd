//! Templates: partials that recurse, blocks, helpers and decorators of the program's own.

use handlebars::{
    Context, Handlebars, Helper, HelperResult, Output, RenderContext, RenderError, Renderable, handlebars_helper,
};
use serde_json::{Value, json};

use crates::source::Source;

handlebars_helper!(join: |{sep: str = ","}, *args| args.iter().map(ToString::to_string).collect::<Vec<_>>().join(sep));

/// Renders what is in it so often, one call in another.
fn nest<'reg, 'rc>(
    helper: &Helper<'rc>,
    registry: &'reg Handlebars<'reg>,
    context: &'rc Context,
    render: &mut RenderContext<'reg, 'rc>,
    out: &mut dyn Output,
) -> HelperResult {
    fn level<'reg, 'rc>(
        n: u64,
        helper: &Helper<'rc>,
        registry: &'reg Handlebars<'reg>,
        context: &'rc Context,
        render: &mut RenderContext<'reg, 'rc>,
        out: &mut dyn Output,
    ) -> HelperResult {
        out.write(&format!("<{n}>"))?;
        match helper.template() {
            Some(template) if n > 0 => {
                template.render(registry, context, render, out)?;
                level(n - 1, helper, registry, context, render, out)
            }
            _ => Ok(()),
        }
    }
    let n = helper
        .param(0)
        .and_then(|n| n.value().as_u64())
        .ok_or_else(|| RenderError::from(handlebars::RenderErrorReason::Other("no number".into())))?;
    level(n, helper, registry, context, render, out)
}

fn tree(source: &mut Source, depth: u64) -> Value {
    let children: Vec<Value> =
        if depth == 0 { Vec::new() } else { (0..source.below(4)).map(|_| tree(source, depth - 1)).collect() };
    json!({ "name": source.words(1), "children": children, "odd": source.below(2) == 1 })
}

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let mut registry = Handlebars::new();
    registry.register_helper("join", Box::new(join));
    registry.register_helper("nest", Box::new(nest));
    registry.register_partial("tree", "({{name}}{{#each children}}{{@index}}{{> tree this}}{{/each}})").unwrap();
    registry.register_partial("layout", "<h1>{{title}}</h1>{{> @partial-block}}").unwrap();
    registry
        .register_template_string(
            "page",
            "{{#> layout}}{{> tree root}}{{/layout}} {{#with root}}{{#if odd}}odd{{else}}even{{/if}} {{../title}} {{lookup children 0}}{{/with}}
            {{#nest 4}}{{join 1 title sep=\"|\"}}{{/nest}} {{{raw}}} {{raw}} {{#each pairs as |v k|}}{{k}}={{v}};{{/each}}{{len pairs}} {{eq 1 1}} {{~#unless missing}} x {{~/unless}}",
        )
        .unwrap();
    let data =
        json!({ "root": tree(source, 4), "title": source.words(2), "raw": "<&\">", "pairs": { "a": 1, "ß": [2, 3] } });
    let text = registry.render("page", &data).unwrap();
    registry.set_strict_mode(true);
    let errors: Vec<String> = ["{{missing.x}}", "{{#if}}", "{{#nest}}{{/nest}}", "{{unknown 1}}", "{{> nothing}}"]
        .iter()
        .map(|text| registry.render_template(text, &data).unwrap_err().to_string())
        .collect();
    format!("{text}\n{errors:#?}")
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
