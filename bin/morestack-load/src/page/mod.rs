//! A page that a browser shows: charts and tables in one file, with nothing to load and no script.

pub mod chart;
pub mod scale;

use std::fmt::Write;

use crate::executor::{Contender, Kind};
use crate::units::{count, time};

use self::chart::{Series, Tick};
use self::scale::Domain;

/// A page, as it is put together.
pub struct Page {
    text: String,
}

/// Rows of cells, the first of which are names.
pub struct Table {
    /// The columns' heads.
    pub head: Vec<String>,
    /// The rows, and the look of the first cell of each.
    pub rows: Vec<(String, Vec<String>)>,
}

// Writing to a string cannot fail.
impl Page {
    /// One with a title, and the settings of what it shows.
    pub fn new(title: &str, setting: &[(&'static str, String)]) -> Page {
        let title = escape(title);
        let mut text = format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
             content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
             <title>{title}</title>\n<link rel=\"icon\" href=\"data:,\">\n<style>\n{}</style>\n</head>\n<body>\n\
             <main>\n<h1>{title}</h1>\n<dl>\n",
            include_str!("page.css")
        );
        for (name, value) in setting {
            let _ = writeln!(text, "<div><dt>{}</dt><dd>{}</dd></div>", escape(name), escape(value));
        }
        text.push_str("</dl>\n");
        Page { text }
    }

    /// A legend of lines.
    pub fn legend(&mut self, series: &[(String, String)]) {
        self.text.push_str("<ul class=\"legend\">\n");
        for (name, class) in series {
            let _ = writeln!(
                self.text,
                "<li><svg viewBox=\"0 0 28 12\" aria-hidden=\"true\"><g class=\"series {class}\"><path class=\"line\" \
                 d=\"M1 6H27\"/><circle cx=\"14\" cy=\"6\" r=\"3.2\"/></g></svg>{}</li>",
                escape(name)
            );
        }
        self.text.push_str("</ul>\n");
    }

    /// Charts, side by side where there is room.
    pub fn charts(&mut self, charts: &[chart::Chart]) {
        self.text.push_str("<div class=\"charts\">\n");
        for chart in charts {
            let _ = write!(self.text, "<figure>\n{}</figure>\n", chart.svg());
        }
        self.text.push_str("</div>\n");
    }

    /// A table under a heading.
    pub fn table(&mut self, heading: &str, table: &Table) {
        let _ = write!(self.text, "<h2>{}</h2>\n<div class=\"scroll\"><table>\n<thead><tr>", escape(heading));
        for cell in &table.head {
            let _ = write!(self.text, "<th>{}</th>", escape(cell));
        }
        self.text.push_str("</tr></thead>\n<tbody>\n");
        for (class, cells) in &table.rows {
            let _ = write!(self.text, "<tr class=\"{class}\">");
            for (index, cell) in cells.iter().enumerate() {
                let tag = if index == 0 { "th" } else { "td" };
                let _ = write!(self.text, "<{tag}>{}</{tag}>", escape(cell));
            }
            self.text.push_str("</tr>\n");
        }
        self.text.push_str("</tbody></table></div>\n");
    }

    /// A paragraph.
    pub fn note(&mut self, text: &str) {
        let _ = writeln!(self.text, "<p>{}</p>", escape(text));
    }

    /// The whole of it.
    pub fn finish(mut self) -> String {
        self.text.push_str("</main>\n</body>\n</html>\n");
        self.text
    }
}

/// The names and looks of lines.
pub fn legend_of(series: &[Series]) -> Vec<(String, String)> {
    series.iter().map(|series| (series.name.clone(), series.class.clone())).collect()
}

/// The look of a contender: a colour per executor, and for Morestack's time slices shades of one.
pub fn class(contender: &Contender, among: &[Contender]) -> String {
    /// Shades that can be told apart.
    const SHADES: usize = 4;
    match (contender.kind, contender.slice) {
        (Kind::Morestack, None) => "off".into(),
        (Kind::Morestack, Some(slice)) => {
            let slices = || among.iter().filter(|c| c.kind == Kind::Morestack).filter_map(|c| c.slice);
            let shade = slices().filter(|other| *other < slice).count();
            // One alone is neither the darkest nor the lightest.
            format!("slice{}", if slices().count() == 1 { 1 } else { shade % SHADES })
        }
        (peer, _) => peer.name().into(),
    }
}

/// Ticks for times, in nanoseconds.
pub fn time_ticks(domain: &Domain) -> Vec<Tick> {
    // Labels are round: 10us, not 10.0us.
    let label = |value: f64| crate::units::exact_time(value.round() as u64);
    domain.log_ticks().into_iter().map(|(value, labelled)| (value, labelled.then(|| label(value)))).collect()
}

/// Ticks for ratios.
pub fn ratio_ticks(domain: &Domain) -> Vec<Tick> {
    // Labels are round: 10x, not 10.0x.
    let label =
        |value: f64| if value < 1.0 { format!("{value}x") } else { format!("{}x", count(value.round() as u64)) };
    domain.log_ticks().into_iter().map(|(value, labelled)| (value, labelled.then(|| label(value)))).collect()
}

/// A time for a cell; a dash where there was no request.
pub fn time_cell(requests: u64, ns: u64) -> String {
    if requests == 0 { "-".into() } else { time(ns) }
}

/// Text as HTML.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            _ => out.push(c),
        }
    }
    out
}
