//! The picture of a run: load per node, where each VM is, operations and how many of them failed. Made of a few shapes
//! only, so written by hand.

use crate::lab::results::{Results, SecondRow};
use std::fmt::Write as _;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 150.0;
const PANEL: f64 = 170.0;
const ROW: f64 = 18.0;
const GAP: f64 = 46.0;
/// Okabe and Ito's colours, which people tell apart whatever their eyes.
const COLOURS: [&str; 8] = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999"];

fn colour(index: usize) -> &'static str {
    COLOURS[index % COLOURS.len()]
}

struct Picture {
    text: String,
    seconds: f64,
}

/// Draws a run.
#[must_use]
pub fn picture(run: &Results) -> String {
    let Some(first) = run.seconds.first() else {
        return r#"<svg xmlns="http://www.w3.org/2000/svg"/>"#.to_owned();
    };
    let nodes: Vec<&String> = first.nodes.keys().collect();
    let vms: Vec<&String> = first.vms.keys().collect();
    let mut picture = Picture { text: String::new(), seconds: run.seconds.len() as f64 };
    let title = format!(
        "{}, {}: {:.1} % of operations failed",
        run.scenario.name,
        run.mode,
        run.totals.failed_percent
    );
    picture.words(LEFT, 24.0, 16, &title);
    let mut top = 50.0;

    // Load of each node, as a share of its core.
    picture.frame(top, PANEL, "load of each node (share of its core)", 1.0, "");
    picture.level(top, PANEL, 0.9);
    for (index, node) in nodes.iter().enumerate() {
        let load = |row: &SecondRow| row.nodes[*node] / run.scenario.core;
        picture.line(top, PANEL, 1.0, colour(index), run.seconds.iter().map(load));
        picture.legend(top, index, colour(index), node);
    }
    top += PANEL + GAP;

    // Where each VM is.
    let rows = ROW * vms.len() as f64;
    picture.words(LEFT, top - 8.0, 12, "where each VM runs; outlined: it is being migrated");
    for (row, vm) in vms.iter().enumerate() {
        let y = top + ROW * row as f64;
        picture.words(8.0, y + 13.0, 11, vm);
        for (second, at) in run.seconds.iter().enumerate() {
            if let Some(node) = nodes.iter().position(|node| **node == at.vms[*vm].node) {
                picture.block(second as f64, 1.0, y + 2.0, ROW - 4.0, colour(node));
            }
        }
        for migration in run.migrations.iter().filter(|migration| migration.vm == **vm) {
            let from = migration.requested.unwrap_or(migration.handed_off);
            picture.outline(from, migration.ended.unwrap_or(picture.seconds), y, ROW);
        }
    }
    top += rows + GAP;

    // Operations of all VMs.
    let sum = |row: &SecondRow, value: fn(&crate::lab::results::VmRow) -> f64| row.vms.values().map(value).sum::<f64>();
    let most = run.seconds.iter().map(|row| sum(row, |vm| vm.target)).fold(1.0, f64::max) * 1.15;
    picture.frame(top, PANEL, "operations a second, all VMs", most, "");
    picture.line(top, PANEL, most, "#999999", run.seconds.iter().map(|row| sum(row, |vm| vm.target)));
    picture.line(top, PANEL, most, "#000000", run.seconds.iter().map(|row| sum(row, |vm| vm.achieved)));
    picture.legend(top, 0, "#999999", "target");
    picture.legend(top, 1, "#000000", "achieved");
    top += PANEL + GAP;

    // Failed operations of each VM, stacked.
    let failed = |row: &SecondRow, vm: &str| (row.vms[vm].target - row.vms[vm].achieved).max(0.0);
    let all = |row: &SecondRow| vms.iter().map(|vm| failed(row, vm)).sum::<f64>();
    let most = run.seconds.iter().map(all).fold(1.0, f64::max) * 1.1;
    picture.frame(top, PANEL, "failed operations a second", most, "seconds");
    for (index, vm) in vms.iter().enumerate() {
        for (second, row) in run.seconds.iter().enumerate() {
            let below: f64 = vms[..index].iter().map(|vm| failed(row, vm)).sum();
            let height = failed(row, vm) / most * PANEL;
            let y = top + PANEL - below / most * PANEL - height;
            if height > 0.05 {
                picture.block(second as f64, 1.0, y, height, colour(index));
            }
        }
        picture.legend(top, index, colour(index), vm);
    }
    top += PANEL + GAP;
    let machine = &run.machine;
    let foot = format!(
        "{} × {}, Linux {}, {}; seed {}",
        machine.cpus, machine.cpu, machine.kernel, machine.qemu, run.scenario.seed
    );
    picture.words(LEFT, top, 10, &foot);
    picture.words(LEFT, top + 14.0, 10, &run.command);
    let height = top + 26.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n{}</svg>\n",
        picture.text
    )
}

impl Picture {
    fn x(&self, second: f64) -> f64 {
        LEFT + second.clamp(0.0, self.seconds) / self.seconds * (WIDTH - LEFT - RIGHT)
    }

    fn words(&mut self, x: f64, y: f64, size: u32, words: &str) {
        let words = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let _ = writeln!(self.text, r#"<text x="{x:.1}" y="{y:.1}" font-size="{size}">{words}</text>"#);
    }

    fn frame(&mut self, top: f64, height: f64, title: &str, most: f64, below: &str) {
        self.words(LEFT, top - 8.0, 12, title);
        let width = WIDTH - LEFT - RIGHT;
        let _ = writeln!(
            self.text,
            r##"<rect x="{LEFT}" y="{top:.1}" width="{width}" height="{height}" fill="none" stroke="#888"/>"##
        );
        let digits = usize::from(most < 10.0);
        for part in [0.0, 0.5, 1.0] {
            self.words(LEFT - 42.0, top + height * (1.0 - part) + 4.0, 10, &format!("{:.digits$}", most * part));
        }
        let step = [10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0].into_iter().find(|step| self.seconds / step <= 12.0);
        let step = step.unwrap_or(3600.0);
        let mut second = 0.0;
        while second <= self.seconds {
            let x = self.x(second);
            let _ = writeln!(
                self.text,
                r##"<line x1="{x:.1}" x2="{x:.1}" y1="{top:.1}" y2="{:.1}" stroke="#ddd"/>"##,
                top + height
            );
            self.words(x - 8.0, top + height + 14.0, 10, &format!("{second:.0}"));
            second += step;
        }
        self.words(WIDTH - RIGHT + 8.0, top + height + 14.0, 10, below);
    }

    fn level(&mut self, top: f64, height: f64, share: f64) {
        let (y, end) = (top + height * (1.0 - share), WIDTH - RIGHT);
        let _ = writeln!(
            self.text,
            r##"<line x1="{LEFT}" x2="{end}" y1="{y:.1}" y2="{y:.1}" stroke="#c00" stroke-dasharray="4 4"/>"##
        );
    }

    fn line(&mut self, top: f64, height: f64, most: f64, colour: &str, values: impl Iterator<Item = f64>) {
        let mut points = String::new();
        for (second, value) in values.enumerate() {
            let y = top + height * (1.0 - (value / most).clamp(0.0, 1.0));
            let _ = write!(points, "{:.1},{y:.1} ", self.x(second as f64 + 0.5));
        }
        let _ = writeln!(
            self.text,
            r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="1.5"/>"#,
            points.trim()
        );
    }

    fn block(&mut self, second: f64, seconds: f64, y: f64, height: f64, colour: &str) {
        let (from, to) = (self.x(second), self.x(second + seconds));
        let _ = writeln!(
            self.text,
            r#"<rect x="{from:.1}" y="{y:.1}" width="{:.1}" height="{height:.1}" fill="{colour}"/>"#,
            to - from + 0.2
        );
    }

    fn outline(&mut self, from: f64, to: f64, y: f64, height: f64) {
        let (from, to) = (self.x(from), self.x(to));
        let _ = writeln!(
            self.text,
            r#"<rect x="{from:.1}" y="{y:.1}" width="{:.1}" height="{height}" fill="none" stroke="black" stroke-width="1.5"/>"#,
            (to - from).max(1.0)
        );
    }

    fn legend(&mut self, top: f64, index: usize, colour: &str, words: &str) {
        let (x, y) = (WIDTH - RIGHT + 10.0, top + 12.0 + 16.0 * index as f64);
        let _ = writeln!(self.text, r#"<rect x="{x}" y="{:.1}" width="12" height="10" fill="{colour}"/>"#, y - 9.0);
        self.words(x + 18.0, y, 11, words);
    }
}
