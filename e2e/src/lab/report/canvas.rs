//! The few shapes that the pictures are made of, as SVG. Written by hand: it is less than learning to ask a library.

use std::fmt::Write as _;

/// The picture's width.
pub(super) const WIDTH: f64 = 980.0;
/// Where panels begin; left of it are their scales.
pub(super) const LEFT: f64 = 100.0;
/// Right of panels are their legends.
pub(super) const RIGHT: f64 = 130.0;
const INK: &str = "#222";
const FAINT: &str = "#e4e4e4";
/// Okabe and Ito's colours, which people tell apart whatever their eyes.
const COLOURS: [&str; 8] = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999"];

/// The colour of the `index`th thing.
pub(super) fn colour(index: usize) -> &'static str {
    COLOURS[index % COLOURS.len()]
}

/// A picture over so many seconds.
pub(super) struct Canvas {
    text: String,
    seconds: f64,
}

/// A part of the picture with a scale of its own, from 0 to `most`.
#[derive(Clone, Copy)]
pub(super) struct Panel {
    /// Its upper edge.
    pub(super) top: f64,
    /// Its height.
    pub(super) height: f64,
    /// The value at its upper edge.
    pub(super) most: f64,
}

impl Panel {
    fn y(&self, value: f64) -> f64 {
        self.top + self.height * (1.0 - (value / self.most).clamp(0.0, 1.0))
    }
}

/// A round number not below this one, for a scale: 1, 2 or 5 times a power of ten, or what lies between in quarters.
pub(super) fn round_up(value: f64) -> f64 {
    let power = 10f64.powf(value.max(1e-9).log10().floor());
    [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0]
        .iter()
        .map(|step| step * power)
        .find(|round| *round >= value)
        .unwrap_or(power * 10.0)
}

impl Canvas {
    pub(super) fn new(seconds: usize) -> Self {
        Self { text: String::new(), seconds: seconds.max(1) as f64 }
    }

    /// The whole, so high.
    pub(super) fn finish(self, height: f64) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" font-family=\"Helvetica, Arial, sans-serif\" fill=\"{INK}\">\n\
             <rect width=\"{WIDTH}\" height=\"{height:.0}\" fill=\"white\"/>\n{}</svg>\n",
            self.text
        )
    }

    fn x(&self, second: f64) -> f64 {
        LEFT + second.clamp(0.0, self.seconds) / self.seconds * (WIDTH - LEFT - RIGHT)
    }

    /// Words that begin (`start`), end (`end`) or are centred (`middle`) at a place.
    pub(super) fn words(&mut self, (x, y): (f64, f64), size: u32, anchor: &str, words: &str) {
        let words = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let _ = writeln!(
            self.text,
            r#"<text x="{x:.1}" y="{y:.1}" font-size="{size}" text-anchor="{anchor}">{words}</text>"#
        );
    }

    /// A heading at the left of the panels.
    pub(super) fn heading(&mut self, y: f64, size: u32, words: &str) {
        let words = words.replace('&', "&amp;").replace('<', "&lt;");
        let _ =
            writeln!(self.text, r#"<text x="{LEFT}" y="{y:.1}" font-size="{size}" font-weight="bold">{words}</text>"#);
    }

    /// A panel's title and scale.
    pub(super) fn frame(&mut self, panel: Panel, title: &str) {
        self.heading(panel.top - 9.0, 12, title);
        let end = WIDTH - RIGHT;
        for part in 0..=4 {
            let value = panel.most * f64::from(part) / 4.0;
            let y = panel.y(value);
            let _ = writeln!(self.text, r#"<path d="M{LEFT} {y:.1}H{end}" stroke="{FAINT}"/>"#);
            let digits = if panel.most < 3.0 { 2 } else { usize::from(panel.most < 20.0) };
            self.words((LEFT - 8.0, y + 3.5), 10, "end", &format!("{value:.digits$}"));
        }
        self.scale(panel.top + panel.height);
        let (width, top, height) = (end - LEFT, panel.top, panel.height);
        let _ = writeln!(
            self.text,
            r##"<rect x="{LEFT}" y="{top:.1}" width="{width}" height="{height}" fill="none" stroke="#999"/>"##
        );
    }

    /// Seconds, below a panel that ends here.
    pub(super) fn scale(&mut self, bottom: f64) {
        let steps = [10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0];
        let step = steps.into_iter().find(|step| self.seconds / step <= 13.0).unwrap_or(3600.0);
        let mut second = 0.0;
        while second <= self.seconds {
            let x = self.x(second);
            let _ = writeln!(self.text, r##"<path d="M{x:.1} {bottom:.1}v4" stroke="#999"/>"##);
            let unit = if second == 0.0 { " s" } else { "" };
            self.words((x, bottom + 16.0), 10, "middle", &format!("{second:.0}{unit}"));
            second += step;
        }
    }

    /// A dashed line at a value.
    pub(super) fn level(&mut self, panel: Panel, value: f64) {
        let (y, end) = (panel.y(value), WIDTH - RIGHT);
        let _ = writeln!(self.text, r##"<path d="M{LEFT} {y:.1}H{end}" stroke="#c00" stroke-dasharray="4 4"/>"##);
    }

    /// A band over some seconds, behind what is drawn later.
    pub(super) fn band(&mut self, (from, to): (f64, f64), (top, height): (f64, f64)) {
        let (from, to) = (self.x(from), self.x(to));
        let width = (to - from).max(0.5);
        let _ = writeln!(
            self.text,
            r##"<rect x="{from:.1}" y="{top:.1}" width="{width:.1}" height="{height:.1}" fill="#f1f1f1"/>"##
        );
    }

    /// One value for each second.
    pub(super) fn line(&mut self, panel: Panel, colour: &str, values: impl Iterator<Item = f64>) {
        let mut points = String::new();
        for (second, value) in values.enumerate() {
            let _ = write!(points, "{:.1},{:.1} ", self.x(second as f64 + 0.5), panel.y(value));
        }
        let points = points.trim();
        let _ = writeln!(
            self.text,
            r#"<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6" stroke-linejoin="round"/>"#
        );
    }

    /// A filled area between two values for each second, as steps.
    pub(super) fn area(&mut self, panel: Panel, colour: &str, bounds: &[(f64, f64)]) {
        let mut path = String::new();
        for (second, (low, high)) in bounds.iter().enumerate().filter(|(_, (low, high))| high - low > panel.most * 3e-3)
        {
            let (x, right) = (self.x(second as f64), self.x(second as f64 + 1.0));
            let _ = write!(path, "M{x:.1} {:.1}V{:.1}H{right:.1}V{:.1}Z", panel.y(*low), panel.y(*high), panel.y(*low));
        }
        if !path.is_empty() {
            let _ = writeln!(self.text, r#"<path d="{path}" fill="{colour}" stroke="{colour}" stroke-width="0.3"/>"#);
        }
    }

    /// A bar over some seconds.
    pub(super) fn bar(&mut self, (from, to): (f64, f64), (top, height): (f64, f64), colour: &str) {
        let (from, to) = (self.x(from), self.x(to));
        let width = to - from;
        let _ = writeln!(
            self.text,
            r#"<rect x="{from:.1}" y="{top:.1}" width="{width:.1}" height="{height:.1}" fill="{colour}"/>"#
        );
    }

    /// A frame around some seconds.
    pub(super) fn outline(&mut self, (from, to): (f64, f64), (top, height): (f64, f64)) {
        let (from, to) = (self.x(from), self.x(to));
        let width = (to - from).max(1.0);
        let _ = writeln!(
            self.text,
            r#"<rect x="{from:.1}" y="{top:.1}" width="{width:.1}" height="{height:.1}" rx="2" fill="none" stroke="{INK}" stroke-width="1.4"/>"#
        );
    }

    /// The `index`th entry of a panel's legend.
    pub(super) fn legend(&mut self, top: f64, index: usize, colour: &str, words: &str) {
        let (x, y) = (WIDTH - RIGHT + 12.0, top + 12.0 + 17.0 * index as f64);
        let _ =
            writeln!(self.text, r#"<rect x="{x}" y="{:.1}" width="12" height="10" rx="2" fill="{colour}"/>"#, y - 9.0);
        self.words((x + 18.0, y), 11, "start", words);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_end_at_round_numbers() {
        for (value, round) in [(453.0, 500.0), (1.0, 1.0), (1010.0, 1500.0), (91.0, 100.0), (0.7, 0.8)] {
            assert!((round_up(value) - round).abs() < 1e-9, "{value}: {}", round_up(value));
        }
    }

    #[test]
    fn words_are_no_markup() {
        let mut canvas = Canvas::new(10);
        canvas.words((0.0, 0.0), 10, "start", "a<b & c");
        assert!(canvas.finish(10.0).contains("a&lt;b &amp; c"));
    }
}
