//! All runs on one page.

use crate::lab::results::{MigrationRow, Parts, Results};
use crate::lab::scenario::{Kind, VmLoad};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

const INTRODUCTION: &str =
    "<!-- Written by `lab run` and `lab summarize` (e2e/src/lab/report/summary.rs) from the .json files beside it. -->

# What the QEMU lab showed

[docs/lab.md](../lab.md) says what is real in it, how it is scaled, and what the figures mean;
[README.md](README.md) what follows from them.

";

/// The page.
#[must_use]
pub(super) fn summary(runs: &[Results]) -> String {
    let mut runs: Vec<&Results> = runs.iter().collect();
    runs.sort_by_key(|run| (run.scenario.name.clone(), run.mode as u8));
    let mut text = INTRODUCTION.to_owned();
    outcomes(&mut text, &runs);
    times(&mut text, &runs);
    kinds(&mut text, &runs);
    commands(&mut text, &runs);
    text
}

fn outcomes(text: &mut String, runs: &[&Results]) {
    text.push_str(
        "## Outcomes\n\n\
         Memory is checked page by page: of every guest at the end, and where the scenario says so after each migration.\n\
         *Rules* are safety rules that were broken, as the lab itself saw it; *refused* are steps that the operator's own\n\
         check refused before anything was done.\n\n\
         | run | mode | failed operations | node-seconds in use | migrations | failed migrations | memory checks, all whole | rules | refused |\n\
         |---|---|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for run in runs {
        let totals = &run.totals;
        // Loads that answer to the operator target as much as they like.
        let failed =
            if run.scenario.swinging.is_some() { "–".to_owned() } else { format!("{:.1} %", totals.failed_percent) };
        let checks = totals.guests_whole + totals.hops_whole;
        let broken = totals.guests_broken.len();
        let under_way = run.migrations.iter().filter(|row| row.is_under_way()).count();
        let migrations = match under_way {
            0 => totals.migrations.to_string(),
            more => format!("{} and {more} under way at the end", totals.migrations),
        };
        let checks = if broken == 0 { checks.to_string() } else { format!("{checks}, but {broken} not") };
        let _ = writeln!(
            text,
            "| [{}]({}.svg) | {} | {failed} | {} | {} | {} | {checks} | {} | {} |",
            run.scenario.name,
            run.name(),
            run.mode,
            totals.node_seconds,
            migrations,
            totals.failures.saturating_sub(under_way),
            totals.broken_rules.len(),
            totals.refused,
        );
    }
    text.push('\n');
}

/// Why a VM was moved, by its direction.
fn reason(row: &MigrationRow) -> &'static str {
    if row.source.starts_with("shared") { "relief" } else { "return" }
}

fn times(text: &mut String, runs: &[&Results]) {
    text.push_str(
        "## Where a migration's time goes\n\n\
         Medians of those that arrived, in seconds; the longest in brackets. The agents read once a second and the operator\n\
         decides once a second, so *overload → request* is up to one second until the agent's next reading and up to one\n\
         tick until the operator's next decision.\n\n\
         | run | mode | why | how | count | overload → request | queue | target start | pre-copy | downtime | rest | request → running at the target | MB sent |\n\
         |---|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for run in runs {
        let mut groups: BTreeMap<(&str, &str), Vec<&MigrationRow>> = BTreeMap::new();
        for row in run.migrations.iter().filter(|row| row.arrived()) {
            groups.entry((reason(row), &row.outcome)).or_default().push(row);
        }
        for ((reason, outcome), rows) in groups {
            let part = |part: fn(Parts) -> Option<f64>| spread(rows.iter().filter_map(|row| part(row.parts())));
            let _ = writeln!(
                text,
                "| {} | {} | {reason} | {outcome} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                run.scenario.name,
                run.mode,
                rows.len(),
                // What an idle VM's node uses is no overload.
                if reason == "relief" { part(|parts| parts.reaction) } else { "–".to_owned() },
                part(|parts| parts.queue),
                part(|parts| parts.target_start),
                part(|parts| parts.pre_copy),
                part(|parts| parts.downtime),
                part(|parts| parts.rest),
                part(|parts| parts.until_running),
                spread(rows.iter().map(|row| row.sent as f64 / 1e6)),
            );
        }
    }
    text.push('\n');
}

/// Median and maximum, as `1.2 (3.4)`.
fn spread(values: impl Iterator<Item = f64>) -> String {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match (values.get(values.len() / 2), values.last()) {
        (Some(median), Some(longest)) => format!("{median:.2} ({longest:.2})"),
        _ => "–".to_owned(),
    }
}

/// Migrations by kind of guest and way, where there is more than one kind.
fn kinds(text: &mut String, runs: &[&Results]) {
    for run in runs {
        let kind_of = |vm: &VmLoad| if vm.alpha.is_some() { "α" } else { name(vm.kind) };
        let kinds: BTreeMap<&str, &str> = run.scenario.vms.iter().map(|vm| (vm.name.as_str(), kind_of(vm))).collect();
        if kinds.values().collect::<BTreeSet<_>>().len() < 2 {
            continue;
        }
        let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for row in run.migrations.iter().filter(|row| row.arrived()) {
            *counts.entry((kinds.get(row.vm.as_str()).copied().unwrap_or_default(), &row.outcome)).or_default() += 1;
        }
        let _ = writeln!(
            text,
            "## Kinds of guest in {}, {}\n\n| kind | how | migrations |\n|---|---|---:|",
            run.scenario.name, run.mode
        );
        for ((kind, outcome), count) in counts {
            let _ = writeln!(text, "| {kind} | {outcome} | {count} |");
        }
        text.push('\n');
    }
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::BusyLoop => "busy loop",
        Kind::ReadMostly => "read-mostly",
        Kind::WriteHeavy => "write-heavy",
        Kind::Mixed => "mixed",
    }
}

fn commands(text: &mut String, runs: &[&Results]) {
    text.push_str("## How to repeat them\n\n");
    let mut machines: BTreeMap<String, Vec<&Results>> = BTreeMap::new();
    for run in runs {
        let machine = &run.machine;
        let words = format!("{} × {}, Linux {}, {}", machine.cpus, machine.cpu, machine.kernel, machine.qemu);
        machines.entry(words).or_default().push(run);
    }
    for (machine, runs) in machines {
        let _ = writeln!(
            text,
            "On {machine}. The load average is what else the machine did when the run began: builds of the lowest\n\
             priority (`SCHED_IDLE`), before which the lab's cgroups go. The seed of random loads and of memory, and what\n\
             operations were sized by, are in the commands.\n"
        );
        for run in runs {
            let _ = writeln!(
                text,
                "* [{}]({}.json), load average {:.1}:\n  `{}`",
                run.name(),
                run.name(),
                run.machine.load_average,
                run.command
            );
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_the_middle_and_the_end() {
        assert_eq!(spread([3.0, 1.0, 2.0].into_iter()), "2.00 (3.00)");
        assert_eq!(spread([].into_iter()), "–");
    }
}
