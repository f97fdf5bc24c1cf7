//! Tables of text, which are Markdown too.

use crate::lab::record::{MigrationRow, Results};
use std::fmt::Write as _;

/// One line for each run.
#[must_use]
pub fn comparison(runs: &[Results]) -> String {
    let mut text = String::from(
        "| mode | failed operations | migrations | failed migrations | node-seconds in use | guests whole |\n|---|---:|---:|---:|---:|---:|\n",
    );
    for run in runs {
        let totals = &run.totals;
        let mode = serde_json::to_value(run.mode).ok().and_then(|mode| mode.as_str().map(str::to_owned));
        let _ = writeln!(
            text,
            "| {} | {:.1} % | {} | {} | {} | {} of {} |",
            mode.unwrap_or_default(),
            totals.failed_percent,
            totals.migrations,
            totals.failures,
            totals.node_seconds,
            totals.guests_whole,
            totals.guests_whole + totals.guests_broken.len(),
        );
    }
    text
}

/// One line for each migration, with where its time went.
#[must_use]
pub fn migrations(run: &Results) -> String {
    let mut text = String::from(
        "| at (s) | VM | from | to | how | overload → request | queue | target start | until the switch | rounds | downtime (ms) | rest | sent (MB) |\n\
         |---:|---|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for row in &run.migrations {
        let MigrationRow { vm, source, target, outcome, overloaded, requested, handed_off, .. } = row;
        let begun = requested.unwrap_or(*handed_off);
        let span = |from: Option<f64>, to: Option<f64>| match (from, to) {
            (Some(from), Some(to)) => format!("{:.1} s", to - from),
            _ => "–".to_owned(),
        };
        let downtime = match (row.stopped, row.resumed) {
            (Some(stopped), Some(resumed)) => format!("{:.0}", (resumed - stopped) * 1000.0),
            _ => "–".to_owned(),
        };
        let _ = writeln!(
            text,
            "| {begun:.1} | {vm} | {source} | {target} | {outcome} | {} | {} | {} | {} | {} | {downtime} | {} | {:.1} |",
            span(*overloaded, *requested),
            span(*requested, Some(*handed_off)),
            span(Some(*handed_off), row.ready),
            span(row.started, row.stopped),
            row.rounds,
            span(row.resumed, row.ended),
            row.sent as f64 / 1e6,
        );
    }
    text
}
