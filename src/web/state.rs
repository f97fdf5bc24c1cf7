//! What the page is told, as JSON.

use crate::controller::{Move, MoveKind, Picture, Point, PowerChange, PowerCounts, View};
use serde::Serialize;
use std::sync::Arc;

/// Moves in each message.
const MOVES: usize = 60;
/// Changes of power in each message.
const CHANGES: usize = 60;
/// Points in each message but the first: more than pass between two at any speed.
const NEW_POINTS: usize = 30;

/// How much of the past is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Past {
    /// All that is remembered: for a page that opens.
    All,
    /// What is new: for a page that follows.
    New,
}

#[derive(Serialize)]
struct Total<'a> {
    #[serde(flatten)]
    kind: &'a MoveKind,
    count: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Told<'a> {
    at: i64,
    leading: bool,
    incomplete: Option<&'a str>,
    /// Simulated seconds in a real one, if this is a demo.
    speed: Option<u32>,
    #[serde(flatten)]
    picture: &'a Picture,
    moves: Vec<&'a Move>,
    totals: Vec<Total<'a>>,
    power_changes: Vec<&'a PowerChange>,
    power_counts: PowerCounts,
    points: Vec<&'a Point>,
}

/// The view as JSON; none while it carries no picture.
pub(super) fn json(view: &View, speed: Option<u32>, past: Past) -> Option<String> {
    let picture = view.picture.as_deref()?;
    let history = &view.history;
    let points = match past {
        Past::All => history.points.len(),
        Past::New => history.points.len().min(NEW_POINTS),
    };
    let told = Told {
        at: view.at.millis(),
        leading: view.leading,
        incomplete: view.incomplete.as_deref(),
        speed,
        picture,
        moves: history.moves.iter().take(MOVES).map(Arc::as_ref).collect(),
        totals: history.totals.iter().map(|(kind, count)| Total { kind, count: *count }).collect(),
        power_changes: history.power_changes.iter().take(CHANGES).map(Arc::as_ref).collect(),
        power_counts: history.power_counts,
        points: history.points.range(history.points.len() - points..).collect(),
    };
    serde_json::to_string(&told).inspect_err(|error| tracing::error!(%error, "the page's state is no JSON")).ok()
}
