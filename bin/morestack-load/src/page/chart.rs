//! A line chart, as SVG inside of a page.
//!
//! ```text
//!         title
//!         subtitle
//!     1ms ┤· · · · · · · · · · · · ·╱── tokio         every line is named at its end;
//!         │                       ╱ ──── morestack    names keep apart
//!   100us ┤· · · · · · · · · ·╱· ╱· ·
//!         └──┬────┬────┬────┬────┬──
//!            what, in which unit
//! ```
//!
//! A line that is left for good, because who it is of could not keep up, goes up to a cross at the upper edge. Its name says
//! where, since its end is far from the names.
//!
//! Colours are the page's: a line has a class, and the page says what that looks like in light and in dark.

use std::fmt::Write;

use super::escape;
use super::scale::Domain;

const WIDTH: f64 = 694.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 166.0;
const TOP: f64 = 62.0;
const BOTTOM: f64 = 52.0;

/// Between the names of two lines, in pixels.
const APART: f64 = 15.0;

/// Between the ranges of two lines at the same place, in pixels: they would cover each other.
const BESIDE: f64 = 3.0;

/// A line.
pub struct Series {
    /// Its name.
    pub name: String,
    /// Its look.
    pub class: String,
    /// Through these points, from left to right.
    pub points: Vec<Point>,
}

/// A point.
pub struct Point {
    /// Where.
    pub x: f64,
    /// Where.
    pub y: f64,
    /// The least and the most that were measured.
    pub range: Option<(f64, f64)>,
    /// What is said about it, if it is marked.
    pub note: Option<String>,
    /// Whether the contender could not keep up: then the value says how long that was measured, and nothing else.
    pub saturated: bool,
}

/// A tick: where, and what it says.
pub type Tick = (f64, Option<String>);

/// A chart.
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// What to know about that.
    pub subtitle: String,
    /// What is to the right.
    pub x: Domain,
    /// Its ticks.
    pub x_ticks: Vec<Tick>,
    /// Its name and unit.
    pub x_label: String,
    /// What is upwards.
    pub y: Domain,
    /// Its ticks.
    pub y_ticks: Vec<Tick>,
    /// Its name and unit.
    pub y_label: String,
    /// The lines.
    pub series: Vec<Series>,
}

// Writing to a string cannot fail.
impl Chart {
    /// The SVG.
    pub fn svg(&self) -> String {
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n<text class=\"title\" x=\"{LEFT}\" \
             y=\"22\">{}</text>\n<text class=\"quiet\" x=\"{LEFT}\" y=\"42\">{}</text>\n",
            escape(&self.title),
            escape(&self.title),
            escape(&self.subtitle)
        );
        self.axes(&mut svg);
        let middle = (self.series.len() as f64 - 1.0) / 2.0;
        for (index, series) in self.series.iter().enumerate() {
            self.line(&mut svg, series, (index as f64 - middle) * BESIDE);
        }
        self.names(&mut svg);
        svg.push_str("</svg>\n");
        svg
    }

    fn at_x(&self, x: f64) -> f64 {
        LEFT + self.x.place(x) * (WIDTH - LEFT - RIGHT)
    }

    fn at_y(&self, y: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.place(y) * (HEIGHT - TOP - BOTTOM)
    }

    fn at(&self, point: &Point) -> (f64, f64) {
        (self.at_x(point.x), if point.saturated { TOP } else { self.at_y(point.y) })
    }

    fn axes(&self, svg: &mut String) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for (value, label) in &self.y_ticks {
            let y = self.at_y(*value);
            let class = if label.is_some() { "grid" } else { "grid minor" };
            let _ = writeln!(svg, "<path class=\"{class}\" d=\"M{LEFT} {y:.1}H{right}\"/>");
            if let Some(label) = label {
                let (x, y) = (LEFT - 8.0, y + 4.0);
                let _ = writeln!(svg, "<text class=\"tick end\" x=\"{x}\" y=\"{y:.1}\">{}</text>", escape(label));
            }
        }
        for (value, label) in &self.x_ticks {
            let x = self.at_x(*value);
            let _ = writeln!(svg, "<path class=\"axis\" d=\"M{x:.1} {bottom}v5\"/>");
            if let Some(label) = label {
                let y = bottom + 19.0;
                let _ = writeln!(svg, "<text class=\"tick middle\" x=\"{x:.1}\" y=\"{y}\">{}</text>", escape(label));
            }
        }
        let _ = writeln!(svg, "<path class=\"axis\" d=\"M{LEFT} {bottom}H{right}\"/>");
        let (middle, low) = ((LEFT + right) / 2.0, HEIGHT - 10.0);
        let _ =
            writeln!(svg, "<text class=\"label middle\" x=\"{middle}\" y=\"{low}\">{}</text>", escape(&self.x_label));
        let across = (TOP + bottom) / 2.0;
        let _ = writeln!(
            svg,
            "<text class=\"label middle\" transform=\"translate(14 {across}) rotate(-90)\">{}</text>",
            escape(&self.y_label)
        );
    }

    fn line(&self, svg: &mut String, series: &Series, beside: f64) {
        let _ = writeln!(svg, "<g class=\"series {}\">", series.class);
        let mut path = String::new();
        for (index, point) in series.points.iter().enumerate() {
            let (x, y) = self.at(point);
            if let Some((low, high)) = point.range.filter(|_| !point.saturated) {
                let (low, high) = (self.at_y(low), self.at_y(high));
                let _ = writeln!(svg, "<path class=\"range\" d=\"M{:.1} {low:.1}V{high:.1}\"/>", x + beside);
            }
            if point.saturated {
                if let Some(before) = index.checked_sub(1).map(|before| &series.points[before]) {
                    let (from_x, from_y) = self.at(before);
                    let _ = writeln!(svg, "<path class=\"away\" d=\"M{from_x:.1} {from_y:.1}L{x:.1} {y:.1}\"/>");
                }
            } else {
                let _ = write!(path, "{}{x:.1} {y:.1}", if path.is_empty() { 'M' } else { 'L' });
            }
        }
        if !path.is_empty() {
            let _ = writeln!(svg, "<path class=\"line\" d=\"{path}\"/>");
        }
        for point in &series.points {
            let Some(note) = &point.note else { continue };
            let ((x, y), note) = (self.at(point), escape(note));
            let _ = match point.saturated {
                // A cross, where there is no latency to tell.
                true => writeln!(
                    svg,
                    "<path class=\"cross\" d=\"M{:.1} {:.1}l8 8m-8 0l8 -8\"><title>{note}</title></path>",
                    x - 4.0,
                    y - 4.0
                ),
                false => writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.2\"><title>{note}</title></circle>"),
            };
        }
        svg.push_str("</g>\n");
    }

    /// The names of the lines, at their ends and apart from each other.
    fn names(&self, svg: &mut String) {
        let last = |series: &Series| series.points.last().map(|last| (self.at(last), last.saturated, last.x));
        let mut ends: Vec<_> = self.series.iter().filter_map(|series| Some((last(series)?, series))).collect();
        // At the upper edge first who left last.
        ends.sort_by(|(((_, a), _, a_x), _), (((_, b), _, b_x), _)| a.total_cmp(b).then(b_x.total_cmp(a_x)));
        let wanted: Vec<f64> = ends.iter().map(|(((_, y), ..), _)| *y).collect();
        for ((((x, y), saturated, at_x), series), place) in ends.iter().zip(apart(&wanted, TOP, HEIGHT - BOTTOM)) {
            let (from, to) = (x + 5.0, WIDTH - RIGHT + 12.0);
            let class = &series.class;
            let mut name = escape(&series.name);
            if *saturated {
                let _ = write!(name, " \u{d7} {at_x}%");
            } else {
                let _ = writeln!(svg, "<path class=\"leader {class}\" d=\"M{from:.1} {y:.1}L{to} {place:.1}\"/>");
            }
            let (x, y) = (to + 4.0, place + 4.0);
            let _ = writeln!(svg, "<text class=\"name {class}\" x=\"{x}\" y=\"{y:.1}\">{name}</text>");
        }
    }
}

/// Places near the wanted ones, which rise, that keep apart and stay between two bounds while they fit.
fn apart(wanted: &[f64], low: f64, high: f64) -> Vec<f64> {
    let mut places = wanted.to_vec();
    for i in 1..places.len() {
        places[i] = places[i].max(places[i - 1] + APART);
    }
    // Back up from the end, where they were pushed beyond it.
    let mut limit = high;
    for place in places.iter_mut().rev() {
        *place = place.min(limit).max(low);
        limit = *place - APART;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_apart() {
        let check = |wanted: &[f64]| {
            let places = apart(wanted, 0.0, 100.0);
            assert!(places.windows(2).all(|pair| pair[1] - pair[0] >= APART - 1e-9), "{places:?}");
            assert!(places.iter().all(|place| (0.0..=100.0).contains(place)), "{places:?}");
            places
        };
        assert_eq!(check(&[10.0, 50.0]), [10.0, 50.0]);
        check(&[50.0, 50.0, 50.0]);
        check(&[98.0, 99.0, 100.0]);
        check(&[0.0, 0.0, 1.0, 100.0, 100.0]);
        assert!(apart(&[], 0.0, 100.0).is_empty());
    }
}
