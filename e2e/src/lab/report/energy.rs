//! A scenario's energy on a page of its own: what all modes drew beside each other, as tables and a picture, and beside
//! what the paper and the simulated cluster say.

use super::canvas::{Canvas, LEFT, Panel, colour, round_up};
use crate::lab::energy::{seconds_asleep, watts};
use crate::lab::results::{MigrationRow, Results, SleepRow};
use crate::lab::scenario::RunMode;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

const PANEL: f64 = 150.0;
/// Between panels: a scale and the next title.
const GAP: f64 = 54.0;
/// The seconds before a migration that tell what its nodes draw without it.
const BEFORE: usize = 8;

/// What is another than in the paper, whatever the figures.
const DIFFERENCES: &str = "\
**What differs.** Miyako lets a node sleep only when it has been empty for ten seconds, as long as a sleep takes to pay for
itself, and then for four more under its taint; the paper's nodes slept at once. Miyako keeps so much awake that a node may
fail, unless its policy says otherwise; as the paper has nothing of it, the lab's policies do (`keepAwake.failures: 0`). The
paper measured up to 20 W more while a migration lasted; here that is only what QEMU's threads use of the lab's core. A guest
that writes all over its memory stands still for most of the ten seconds in which its pages follow it by post-copy, so more of
its operations fail than by pre-copy: nobody needs its CPU meanwhile. Where others do, it is the other way round (`fig6-alpha` in
[README.md](README.md)). The paper gives no such figure for this scenario. Of two VMs with the same load the operator moves
whichever used more in the last ten seconds, so from 185 s on it may be VM 1, where the paper's was VM 0.
";

/// The runs of one scenario in all modes, the one without consolidation first.
pub(super) struct Modes<'a> {
    runs: Vec<&'a Results>,
}

impl<'a> Modes<'a> {
    /// The scenarios among these runs that say what nodes draw.
    pub(super) fn among(runs: &'a [Results]) -> Vec<Self> {
        let mut scenarios: BTreeMap<&str, Vec<&Results>> = BTreeMap::new();
        for run in runs.iter().filter(|run| run.scenario.power.is_some() && !run.seconds.is_empty()) {
            scenarios.entry(&run.scenario.name).or_default().push(run);
        }
        let sorted = scenarios.into_values().map(|mut runs| {
            runs.sort_by_key(|run| (run.mode != RunMode::None, run.mode as u8));
            Self { runs }
        });
        sorted.collect()
    }

    /// What its files are called.
    pub(super) fn name(&self) -> &str {
        self.runs.first().map_or("", |run| &run.scenario.name)
    }

    fn of(&self, mode: RunMode) -> Option<&'a Results> {
        self.runs.iter().find(|run| run.mode == mode).copied()
    }

    /// Nodes on which a VM ever was, in any mode.
    fn used(&self) -> BTreeSet<&'a str> {
        let rows = self.runs.iter().flat_map(|run| &run.seconds);
        rows.flat_map(|row| row.vms.values().map(|vm| vm.node.as_str())).filter(|node| !node.is_empty()).collect()
    }

    /// What is saved against the run without consolidation, in percent of it.
    fn saved(&self, run: &Results, nodes: Option<&BTreeSet<&str>>) -> Option<f64> {
        let baseline = self.of(RunMode::None).filter(|baseline| baseline.mode != run.mode)?;
        Some(100.0 * (1.0 - joules(run, nodes) / joules(baseline, nodes)))
    }

    /// The picture: the nodes' power over time, stacked, in one panel for each mode.
    pub(super) fn picture(&self) -> String {
        let Some(first) = self.runs.first() else { return Canvas::new(1).finish(10.0) };
        let mut canvas = Canvas::new(first.seconds.len());
        canvas.heading(30.0, 17, &format!("{}: power of all nodes over time", self.name()));
        canvas.words((LEFT, 49.0), 12, "start", &first.scenario.about);
        let all: Vec<BTreeMap<String, Vec<f64>>> = self.runs.iter().map(|run| watts(run)).collect();
        let most = all.iter().flat_map(|nodes| (0..first.seconds.len()).map(|second| total(nodes, second)));
        let most = round_up(most.fold(1.0, f64::max));
        let mut top = 88.0;
        for (run, nodes) in self.runs.iter().zip(&all) {
            let panel = Panel { top, height: PANEL, most };
            for migration in &run.migrations {
                canvas.band(span(run, migration), (top, PANEL));
            }
            canvas.frame(panel, &self.panel_title(run));
            let mut below = vec![0.0; run.seconds.len()];
            for (index, (node, watts)) in nodes.iter().enumerate() {
                let bounds: Vec<(f64, f64)> = below.iter().zip(watts).map(|(low, watts)| (*low, low + watts)).collect();
                canvas.area(panel, colour(index), &bounds);
                canvas.legend(top, index, colour(index), node);
                below = bounds.into_iter().map(|(_, high)| high).collect();
            }
            top += PANEL + GAP;
        }
        let machine = &first.machine;
        let words = format!("{} × {}, Linux {}, {}", machine.cpus, machine.cpu, machine.kernel, machine.qemu);
        canvas.words((LEFT, top - 12.0), 9, "start", &words);
        canvas.finish(top + 4.0)
    }

    fn panel_title(&self, run: &Results) -> String {
        let saved = self.saved(run, None).map(|saved| format!(", {saved:.1} % saved")).unwrap_or_default();
        format!("{}: watts, {:.1} kJ in all{saved}; grey: a migration", name(run.mode), joules(run, None) / 1e3)
    }

    /// The page. `simulated` is the page of the same scenario in the simulated cluster.
    pub(super) fn page(&self, simulated: &str) -> String {
        let mut text = String::from(
            "<!-- Written by `lab run` and `lab summarize` (e2e/src/lab/report/energy.rs) from the .json files beside it. -->\n\n",
        );
        let Some(first) = self.runs.first() else { return text };
        let Some(power) = first.scenario.power else { return text };
        let _ = write!(
            text,
            "# What post-copy saves, with real VMs\n\n\
             ```sh\ncargo run --package miyako-e2e --bin lab -- run e2e/lab/scenarios/{name}.yaml\n```\n\n\
             The simple scenario of the Energy paper (section IV-B, Figs. 5 to 7) in the QEMU lab: real VMs under real load, moved\n\
             by the real operator and QEMU's own migrations. [The scenario's file](../../e2e/lab/scenarios/{name}.yaml) says how it is\n\
             scaled, [docs/lab.md](../lab.md) what is real. The lab's nodes are no machines, so no meter can be read: watts are the\n\
             CPU time that each node's VMs really used in each second, on the paper's line from {} W idle to {} W full, and {} W while\n\
             the node slept. Falling asleep ({} s) and waking ({} s from the button) count as idle. Where\n\
             nodes sleep, those that nobody needs sleep already at second 0.\n\n\
             ![Node power over time]({name}.svg)\n\n",
            power.idle_watts,
            power.full_watts,
            power.asleep_watts,
            power.suspend_seconds,
            power.resume_seconds,
            name = self.name(),
        );
        self.energies(&mut text);
        self.migrations(&mut text);
        self.sleeps(&mut text);
        self.beside_the_paper(&mut text, simulated);
        text
    }

    fn energies(&self, text: &mut String) {
        let used = self.used();
        let names: Vec<&str> = used.iter().copied().collect();
        let _ = writeln!(
            text,
            "| | energy of all {} nodes | saved | of {} | saved | failed operations | migrations | seconds asleep, of all nodes | of {} |\n\
             |---|---:|---:|---:|---:|---:|---:|---:|---:|",
            self.runs.first().and_then(|run| run.seconds.first()).map_or(0, |row| row.nodes.len()),
            names.join(" and "),
            names.join(" and "),
        );
        for run in &self.runs {
            let percent = |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.1} %"));
            let asleep =
                run.seconds[0].nodes.keys().map(|node| seconds_asleep(run, node)).fold(0.0, |sum, one| sum + one);
            let _ = writeln!(
                text,
                "| [{}]({}.svg) | {:.0} J | {} | {:.0} J | {} | {:.1} % | {} | {asleep:.0} s | {:.0} s |",
                name(run.mode),
                run.name(),
                joules(run, None),
                percent(self.saved(run, None)),
                joules(run, Some(&used)),
                percent(self.saved(run, Some(&used))),
                run.totals.failed_percent,
                run.totals.migrations,
                used.iter().map(|node| seconds_asleep(run, node)).sum::<f64>(),
            );
        }
        text.push('\n');
    }

    fn migrations(&self, text: &mut String) {
        text.push_str(
            "## Migrations\n\n\
             *More watts* is what both its nodes drew while it lasted, less what they drew in the seconds before: what the load did\n\
             meanwhile is in it.\n\n\
             | mode | asked for at | VM | from | to | how | running there after | over after | sent | more watts |\n\
             |---|---:|---|---|---|---|---:|---:|---:|---:|\n",
        );
        for run in &self.runs {
            for row in &run.migrations {
                let seconds = |span: Option<f64>| span.map_or("–".to_owned(), |span| format!("{span:.1} s"));
                let _ = writeln!(
                    text,
                    "| {} | {:.1} s | {} | {} | {} | {} | {} | {} | {:.0} MB | {} |",
                    name(run.mode),
                    begin(row),
                    row.vm,
                    row.source,
                    row.target,
                    row.outcome,
                    seconds(row.parts().until_running),
                    seconds(lasts(row)),
                    row.sent as f64 / 1e6,
                    more_watts(run, row).map_or("–".to_owned(), |watts| format!("{watts:+.1} W")),
                );
            }
        }
        text.push('\n');
    }

    fn sleeps(&self, text: &mut String) {
        text.push_str(
            "## Sleeps of nodes that VMs left, and what waited for them\n\n\
             The operator asks for a wake when the overload's window is full, and for the migration when the node is usable: its\n\
             kubelet Ready, its virt-handler ready, its taint gone. No process of a VM was on a node that slept, and none of its VMs'\n\
             CPU time was used: the runs end with an error otherwise.\n\n\
             | mode | node | asleep from | to | empty before | overload → button | button → awake | awake → migration asked for |\n\
             |---|---|---:|---:|---:|---:|---:|---:|\n",
        );
        for run in &self.runs {
            let end = run.seconds.len() as f64;
            for sleep in
                run.sleeps.iter().filter(|sleep| sleep.asleep >= 0.0 || sleep.awake.is_some_and(|at| at >= 0.0))
            {
                let span = |from: Option<f64>, to: Option<f64>| {
                    from.zip(to).map_or("–".to_owned(), |(from, to)| format!("{:.1} s", to - from))
                };
                let left = run.migrations.iter().filter(|row| row.source == sleep.node).filter_map(|row| row.ended);
                let left = left.filter(|ended| *ended <= sleep.asleep).reduce(f64::max);
                let waited = waited_for(run, sleep);
                let _ = writeln!(
                    text,
                    "| {} | {} | {:.1} s | {} | {} | {} | {} | {} |",
                    name(run.mode),
                    sleep.node,
                    sleep.asleep,
                    sleep.awake.map_or(format!("after {end:.0} s"), |awake| format!("{awake:.1} s")),
                    span(left, Some(sleep.asleep)),
                    span(waited.and_then(|row| row.overloaded), sleep.pressed),
                    span(sleep.pressed, sleep.awake),
                    span(sleep.awake, waited.map(begin)),
                );
            }
        }
        text.push('\n');
    }

    fn beside_the_paper(&self, text: &mut String, simulated: &str) {
        let (Some(post), Some(pre)) = (self.of(RunMode::PostCopy), self.of(RunMode::PreCopy)) else { return };
        let used = self.used();
        let slept = |run: &Results| used.iter().map(|node| seconds_asleep(run, node)).sum::<f64>();
        let first = |run: &Results| {
            let row = run.migrations.first()?;
            Some((begin(row), lasts(row).unwrap_or(run.seconds.len() as f64 - begin(row))))
        };
        let (Some((post_at, post_lasts)), Some((pre_at, pre_lasts))) = (first(post), first(pre)) else { return };
        let share = if slept(post) > 0.0 { 100.0 * slept(pre) / slept(post) } else { 0.0 };
        let _ = write!(
            text,
            "## Beside the paper and the simulation\n\n\
             **The paper** begins to move VM 0 back at 85 s (here {post_at:.0} s and {pre_at:.0} s). By post-copy that took about 15 s (here\n\
             {post_lasts:.0} s), and PM 1 slept about 80 s (here {:.0} s); by pre-copy it took 75 s (here {pre_lasts:.0} s), and PM 1 slept 20 s\n\
             (here {:.0} s), about 25 % of that (here {share:.0} %). It gives no energy for this scenario; in its complex one (section IV-C)\n\
             post-copy saves 11.8 % and pre-copy 5.2 %.\n\n",
            slept(post),
            slept(pre),
        );
        for (run, mode) in [(post, "post-copy"), (pre, "pre-copy")] {
            let (Some(saved), Some(busy)) = (self.saved(run, None), self.saved(run, Some(&used))) else { continue };
            if let Some(said) = Simulated::of(simulated, mode) {
                let _ = writeln!(
                    text,
                    "**The simulation** ([energy-simple.md](energy-simple.md)) saves {:.1} % by {mode} (here {saved:.1} %), {:.1} % on the two nodes whose\n\
                     VMs move (here {busy:.1} %), and lets PM 1 sleep for {:.0} s (here {:.0} s).\n",
                    said.saved,
                    said.saved_busy,
                    said.asleep,
                    slept(run),
                );
            }
        }
        text.push_str(DIFFERENCES);
    }
}

/// What the simulated cluster's page says of a mode.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Simulated {
    saved: f64,
    saved_busy: f64,
    asleep: f64,
}

impl Simulated {
    /// Its row of the page's table: energy, saved, energy of the two nodes, seconds asleep.
    fn of(page: &str, mode: &str) -> Option<Self> {
        let row = |mode: &str| -> Option<Vec<f64>> {
            let row = page.lines().find_map(|line| line.strip_prefix(&format!("| {mode} | ")))?;
            let number = |cell: &str| cell.split_whitespace().next()?.parse().ok();
            Some(row.split(" | ").map(|cell| number(cell).unwrap_or_default()).collect())
        };
        let (none, row) = (row("no consolidation")?, row(mode)?);
        let (&[_, saved, busy, asleep, ..], &[_, _, busy_none, ..]) = (row.as_slice(), none.as_slice()) else {
            return None;
        };
        Some(Self { saved, saved_busy: 100.0 * (1.0 - busy / busy_none), asleep })
    }
}

fn name(mode: RunMode) -> String {
    match mode {
        RunMode::None => "no consolidation".to_owned(),
        RunMode::PostCopyAwake => "post-copy, nobody sleeps".to_owned(),
        mode => mode.to_string(),
    }
}

/// What these nodes, or all, drew.
fn joules(run: &Results, nodes: Option<&BTreeSet<&str>>) -> f64 {
    let counts = |node: &str| nodes.is_none_or(|nodes| nodes.contains(node));
    let all = watts(run);
    all.iter().filter(|(node, _)| counts(node)).flat_map(|(_, watts)| watts).sum()
}

fn total(nodes: &BTreeMap<String, Vec<f64>>, second: usize) -> f64 {
    nodes.values().filter_map(|watts| watts.get(second)).sum()
}

fn begin(row: &MigrationRow) -> f64 {
    row.requested.unwrap_or(row.handed_off)
}

fn lasts(row: &MigrationRow) -> Option<f64> {
    row.ended.map(|ended| ended - begin(row))
}

fn span(run: &Results, row: &MigrationRow) -> (f64, f64) {
    (begin(row), row.ended.unwrap_or(run.seconds.len() as f64))
}

/// The first migration to a node after its button was pressed.
fn waited_for<'a>(run: &'a Results, sleep: &SleepRow) -> Option<&'a MigrationRow> {
    let pressed = sleep.pressed?;
    run.migrations.iter().find(|row| row.target == sleep.node && begin(row) >= pressed)
}

/// What both ends of a migration drew on average while it lasted, more than in the seconds before.
fn more_watts(run: &Results, row: &MigrationRow) -> Option<f64> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // seconds of a run
    let (from, to) = (begin(row).max(0.0) as usize, row.ended?.ceil() as usize);
    let all = watts(run);
    let mean = |seconds: std::ops::Range<usize>| {
        let count = seconds.len();
        let of = |node: &String| {
            all.get(node).and_then(|watts| watts.get(seconds.clone())).map(|some| some.iter().sum::<f64>())
        };
        Some((of(&row.source)? + of(&row.target)?) / count.max(1) as f64)
    };
    Some(mean(from..to.min(run.seconds.len()))? - mean(from.checked_sub(BEFORE)?..from)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_simulations_page_is_understood() {
        let page = "\
| | energy of all six nodes | saved | of PM 0 and PM 1 | PM 1 asleep | VM 0 moves to PM 0 | and back |
| --- | --- |
| no consolidation | 117515 J | – | 45455 J | 0 s | – | – | 0.0 core-seconds |
| post-copy | 50466 J | 57.1 % | 42066 J | 77 s | 82 to 94 s | 192 to 204 s | 0.0 core-seconds |
";
        let said = Simulated::of(page, "post-copy").unwrap();
        assert!((said.saved - 57.1).abs() < 1e-9 && (said.asleep - 77.0).abs() < 1e-9, "{said:?}");
        assert!((said.saved_busy - 7.455).abs() < 1e-2, "{said:?}");
        assert_eq!(Simulated::of(page, "pre-copy"), None);
        assert_eq!(Simulated::of("", "post-copy"), None);
    }
}
