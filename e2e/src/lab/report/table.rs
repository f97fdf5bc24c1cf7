//! Tables of text, which are Markdown too.

use crate::lab::results::{MigrationRow, Results};
use std::fmt::Write as _;

/// One line for each run.
#[must_use]
pub fn comparison(runs: &[Results]) -> String {
    let mut text = String::from(
        "| mode | failed operations | migrations | failed migrations | node-seconds in use | guests whole |\n|---|---:|---:|---:|---:|---:|\n",
    );
    for run in runs {
        let totals = &run.totals;
        let _ = writeln!(
            text,
            "| {} | {:.1} % | {} | {} | {} | {} of {} |",
            run.mode,
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
        "| at (s) | VM | from | to | how | overload → request | queue | target start | pre-copy | rounds | downtime (ms) | rest | sent (MB) |\n\
         |---:|---|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for row in &run.migrations {
        let MigrationRow { vm, source, target, outcome, requested, handed_off, .. } = row;
        let (parts, begun) = (row.parts(), requested.unwrap_or(*handed_off));
        let span = |span: Option<f64>| span.map_or("–".to_owned(), |seconds| format!("{seconds:.1} s"));
        let downtime = parts.downtime.map_or("–".to_owned(), |seconds| format!("{:.0}", seconds * 1000.0));
        let _ = writeln!(
            text,
            "| {begun:.1} | {vm} | {source} | {target} | {outcome} | {} | {} | {} | {} | {} | {downtime} | {} | {:.1} |",
            span(parts.reaction),
            span(parts.queue),
            span(parts.target_start),
            span(parts.pre_copy),
            row.rounds,
            span(parts.rest),
            row.sent as f64 / 1e6,
        );
    }
    text
}
