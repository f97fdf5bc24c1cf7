//! Node power over time, run by run, as in Fig. 7 of the Energy paper.

use super::energy::{Mode, Run};
use std::fmt::Write as _;

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 230.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 120.0;
const GAP: f64 = 54.0;
/// The most watts of the axis.
const MOST: f64 = 400.0;
/// Okabe and Ito's colours, which people tell apart whatever their eyes.
const COLOURS: [&str; 6] = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"];

/// The runs below each other: each node's watts stacked on the others'.
pub(super) fn svg(runs: &[Run], command: &str) -> String {
    let mut text = String::new();
    let mut top = 40.0;
    for run in runs {
        panel(&mut text, run, top);
        top += HEIGHT + GAP;
    }
    words(&mut text, LEFT, top - 8.0, 11, command);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {top}\" font-family=\"sans-serif\">\n\
         <rect width=\"{WIDTH}\" height=\"{top}\" fill=\"white\"/>\n{text}</svg>\n"
    )
}

fn words(text: &mut String, x: f64, y: f64, size: u32, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let _ = writeln!(text, r#"<text x="{x:.1}" y="{y:.1}" font-size="{size}">{words}</text>"#);
}

fn panel(text: &mut String, run: &Run, top: f64) {
    let seconds = run.watts.values().map(Vec::len).max().unwrap_or(0);
    let width = WIDTH - LEFT - RIGHT;
    let x = |second: usize| LEFT + second as f64 / seconds.max(1) as f64 * width;
    let y = |watts: f64| top + HEIGHT * (1.0 - watts.clamp(0.0, MOST) / MOST);
    let title = format!("{}: {:.0} kJ in {seconds} s", run.mode.name(), run.joules / 1000.0);
    words(text, LEFT, top - 10.0, 14, &title);
    for watts in [0.0, 100.0, 200.0, 300.0, 400.0] {
        let (y, right) = (y(watts), LEFT + width);
        let _ = writeln!(text, r##"<line x1="{LEFT}" x2="{right:.1}" y1="{y:.1}" y2="{y:.1}" stroke="#ddd"/>"##);
        words(text, LEFT - 44.0, y + 4.0, 11, &format!("{watts:.0} W"));
    }
    for second in (0..=seconds).step_by(50) {
        words(text, x(second) - 8.0, top + HEIGHT + 15.0, 11, &second.to_string());
    }
    let mut below = vec![0.0; seconds];
    for (index, (node, watts)) in run.watts.iter().enumerate() {
        let above: Vec<f64> = below.iter().zip(watts).map(|(below, watts)| below + watts).collect();
        let upper = above.iter().enumerate().flat_map(|(second, watts)| [(second, watts), (second + 1, watts)]);
        let lower = below.iter().enumerate().rev().flat_map(|(second, watts)| [(second + 1, watts), (second, watts)]);
        let points: Vec<String> =
            upper.chain(lower).map(|(second, watts)| format!("{:.1},{:.1}", x(second), y(*watts))).collect();
        let colour = COLOURS[index % COLOURS.len()];
        let _ = writeln!(text, r#"<polygon points="{}" fill="{colour}" fill-opacity="0.75"/>"#, points.join(" "));
        let legend = top + HEIGHT - 16.0 * index as f64;
        let _ = writeln!(
            text,
            r#"<rect x="{:.1}" y="{:.1}" width="10" height="10" fill="{colour}" fill-opacity="0.75"/>"#,
            WIDTH - RIGHT + 14.0,
            legend - 10.0
        );
        let role = if index == 0 { " (shared)" } else { "" };
        words(text, WIDTH - RIGHT + 30.0, legend - 1.0, 12, &format!("{node}{role}"));
        below = above;
    }
    if run.mode != Mode::None {
        for (index, one) in run.moves.iter().enumerate() {
            let from = usize::try_from(one.from).unwrap_or(0).min(seconds);
            let to = one.to.and_then(|to| usize::try_from(to).ok()).unwrap_or(seconds);
            let (left, line) = (x(from), top + 12.0 + 16.0 * (index % 2) as f64);
            let _ = writeln!(
                text,
                r##"<line x1="{left:.1}" x2="{:.1}" y1="{line:.1}" y2="{line:.1}" stroke="#222" stroke-width="3"/>"##,
                x(to)
            );
            words(text, left, line - 4.0, 11, &format!("{}: {} → {}", one.vm, one.source, one.target));
        }
    }
}
