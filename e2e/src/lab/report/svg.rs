//! The picture of a run: load per node, where each VM is and when it moves, operations and how many of them failed.

use super::canvas::{Canvas, LEFT, Panel, colour, round_up};
use crate::lab::results::{Results, SecondRow, VmRow};

const PANEL: f64 = 160.0;
const ROW: f64 = 19.0;
/// Between panels: a scale and the next title.
const GAP: f64 = 54.0;
/// More migrations than these would be a grey picture.
const BANDS: usize = 30;

/// Draws a run.
#[must_use]
pub fn picture(run: &Results) -> String {
    let mut canvas = Canvas::new(run.seconds.len());
    let Some(first) = run.seconds.first() else { return canvas.finish(10.0) };
    let nodes: Vec<&String> = first.nodes.keys().collect();
    let vms: Vec<&String> = first.vms.keys().collect();
    canvas.heading(30.0, 17, &title(run));
    canvas.words((LEFT, 49.0), 12, "start", &run.scenario.about);

    let load = Panel { top: 88.0, height: PANEL, most: 1.0 };
    bands(&mut canvas, run, (load.top, load.height));
    canvas.frame(load, "Load of each node, as a share of its core; dashed: overloaded from here");
    canvas.level(load, run.scenario.detection().threshold);
    for (index, node) in nodes.iter().enumerate() {
        canvas.line(load, colour(index), run.seconds.iter().map(|row| row.nodes[*node] / run.scenario.core));
        canvas.legend(load.top, index, colour(index), node);
    }

    let places = load.top + PANEL + GAP;
    canvas.heading(places - 9.0, 12, "Where each VM runs; framed: it is being migrated, from request to end");
    for (row, vm) in vms.iter().enumerate() {
        let y = places + ROW * row as f64;
        canvas.words((LEFT - 8.0, y + 13.5), 11, "end", vm);
        for (node, span) in stays(&run.seconds, vm) {
            if let Some(node) = nodes.iter().position(|name| *name == node) {
                canvas.bar(span, (y + 2.5, ROW - 5.0), colour(node));
            }
        }
        for migration in run.migrations.iter().filter(|migration| migration.vm == **vm) {
            canvas.outline(span(run, migration), (y + 0.5, ROW - 1.0));
        }
    }
    let bottom = places + ROW * vms.len() as f64;
    canvas.scale(bottom);

    // Loads that answer to the operator target more than there is, so what fails says nothing.
    let end = if run.scenario.swinging.is_some() { bottom } else { operations(&mut canvas, run, bottom + GAP) };
    let foot = end + GAP - 12.0;
    let machine = &run.machine;
    let words = format!(
        "{} × {}, Linux {}, {}, load average {:.1}; seed {}",
        machine.cpus, machine.cpu, machine.kernel, machine.qemu, machine.load_average, run.scenario.seed
    );
    canvas.words((LEFT, foot), 9, "start", &words);
    canvas.words((LEFT, foot + 13.0), 9, "start", &run.command);
    canvas.finish(foot + 26.0)
}

/// Operations that were targeted, achieved and failed. Returns where they end.
fn operations(canvas: &mut Canvas, run: &Results, top: f64) -> f64 {
    let Some(first) = run.seconds.first() else { return top };
    let vms: Vec<&String> = first.vms.keys().collect();
    let sum = |row: &SecondRow, value: fn(&VmRow) -> f64| row.vms.values().map(value).sum::<f64>();
    let both = |row: &SecondRow| sum(row, |vm| vm.target).max(sum(row, |vm| vm.achieved));
    let most = round_up(run.seconds.iter().map(both).fold(1.0, f64::max));
    let operations = Panel { top, height: PANEL, most };
    bands(canvas, run, (operations.top, PANEL));
    canvas.frame(operations, "Operations a second, all VMs");
    for (index, (name, colour, value)) in
        [("target", "#999999", (|vm| vm.target) as fn(&VmRow) -> f64), ("achieved", "#222222", |vm| vm.achieved)]
            .into_iter()
            .enumerate()
    {
        canvas.line(operations, colour, run.seconds.iter().map(|row| sum(row, value)));
        canvas.legend(operations.top, index, colour, name);
    }

    let failed = |row: &SecondRow, vm: &str| (row.vms[vm].target - row.vms[vm].achieved).max(0.0);
    let all = |row: &SecondRow| vms.iter().map(|vm| failed(row, vm)).sum::<f64>();
    let most = round_up(run.seconds.iter().map(all).fold(1.0, f64::max));
    let failures = Panel { top: operations.top + PANEL + GAP, height: PANEL, most };
    bands(canvas, run, (failures.top, PANEL));
    canvas.frame(failures, "Failed operations a second");
    let mut below = vec![0.0; run.seconds.len()];
    for (index, vm) in vms.iter().enumerate() {
        let bounds: Vec<(f64, f64)> =
            below.iter().zip(&run.seconds).map(|(low, row)| (*low, low + failed(row, vm))).collect();
        canvas.area(failures, colour(index), &bounds);
        canvas.legend(failures.top, index, colour(index), vm);
        below = bounds.into_iter().map(|(_, high)| high).collect();
    }
    failures.top + PANEL
}

fn title(run: &Results) -> String {
    let by = match run.mode {
        crate::lab::scenario::RunMode::None => "without consolidation".to_owned(),
        mode => mode.to_string(),
    };
    let name = &run.scenario.name;
    if run.scenario.swinging.is_some() {
        return format!("{name}, {by}: {} migrations", run.totals.migrations);
    }
    format!("{name}, {by}: {:.1} % of operations failed", run.totals.failed_percent)
}

/// The node of a VM and from when to when it was there, in order.
fn stays<'a>(seconds: &'a [SecondRow], vm: &str) -> Vec<(&'a String, (f64, f64))> {
    let mut stays: Vec<(&String, (f64, f64))> = Vec::new();
    for (second, row) in seconds.iter().enumerate() {
        let (node, end) = (&row.vms[vm].node, second as f64 + 1.0);
        match stays.last_mut() {
            Some((last, span)) if *last == node => span.1 = end,
            _ => stays.push((node, (second as f64, end))),
        }
    }
    stays
}

/// From when to when a VM was being migrated.
fn span(run: &Results, migration: &crate::lab::results::MigrationRow) -> (f64, f64) {
    let end = migration.ended.unwrap_or(run.seconds.len() as f64);
    (migration.requested.unwrap_or(migration.handed_off), end)
}

/// Shades the time of each migration.
fn bands(canvas: &mut Canvas, run: &Results, place: (f64, f64)) {
    if run.migrations.len() <= BANDS {
        for migration in &run.migrations {
            canvas.band(span(run, migration), place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_vms_stays_follow_each_other() {
        let row = |node: &str| SecondRow {
            nodes: BTreeMap::new(),
            vms: BTreeMap::from([("vm".into(), VmRow { node: node.into(), achieved: 0.0, target: 0.0 })]),
        };
        let seconds = [row("a"), row("a"), row("b")];
        let found: Vec<(&str, (f64, f64))> =
            stays(&seconds, "vm").into_iter().map(|(node, span)| (node.as_str(), span)).collect();
        assert_eq!(found, [("a", (0.0, 2.0)), ("b", (2.0, 3.0))]);
    }
}
