//! How fresh each watch is: what has never been listed, and what has failed for too long.

use crate::observe::seen::Kind;
use miyako_core::model::{Span, Timestamp};
use std::collections::BTreeMap;

/// A watch that fails for longer leaves the picture incomplete (rule 8). Shorter, it may only have been reconnected.
pub const TOO_LONG: Span = Span::from_secs(30);

/// A watch without any sign of life for longer leaves the picture incomplete. It is begun anew before (`watch`), so this
/// tells that nothing came of that.
const SILENT_FOR: Span = Span::from_secs(120);

#[derive(Debug, Default)]
struct State {
    listed: bool,
    /// Its CRD is not there.
    unknown: bool,
    /// The caller may not list it.
    refused: bool,
    /// Since when nothing but failures came, and the last of them.
    failing: Option<(Timestamp, String)>,
    alive: Option<Timestamp>,
}

/// How fresh each watch is.
#[derive(Debug, Default)]
pub(super) struct Freshness(BTreeMap<Kind, State>);

impl Freshness {
    pub(super) fn new() -> Self {
        Self(Kind::ALL.into_iter().map(|kind| (kind, State::default())).collect())
    }

    fn state(&mut self, kind: Kind) -> &mut State {
        self.0.entry(kind).or_default()
    }

    pub(super) fn listed(&mut self, kind: Kind, now: Timestamp) {
        *self.state(kind) = State { listed: true, alive: Some(now), ..State::default() };
    }

    pub(super) fn unknown(&mut self, kind: Kind) {
        *self.state(kind) = State { listed: kind.may_be_unknown(), unknown: true, ..State::default() };
    }

    pub(super) fn alive(&mut self, kind: Kind, now: Timestamp) {
        let state = self.state(kind);
        (state.failing, state.refused) = (None, false);
        state.alive = Some(now);
    }

    pub(super) fn failed(&mut self, kind: Kind, error: String, now: Timestamp) {
        let state = self.state(kind);
        state.refused = false;
        let since = state.failing.as_ref().map_or(now, |(since, _)| *since);
        state.failing = Some((since.min(now), error));
    }

    pub(super) fn refused(&mut self, kind: Kind, error: String, now: Timestamp) {
        self.failed(kind, error, now);
        self.state(kind).refused = true;
    }

    /// The kinds that the caller may not list, once nothing else is missing: to wait longer is no use then.
    pub(super) fn hopeless(&self) -> Vec<Kind> {
        let missing = || self.0.iter().filter(|(_, state)| !state.listed);
        if missing().all(|(_, state)| state.refused) { missing().map(|(kind, _)| *kind).collect() } else { Vec::new() }
    }

    /// All kinds have been listed once.
    pub(super) fn synced(&self) -> bool {
        self.0.values().all(|state| state.listed)
    }

    /// Why the picture is not complete.
    pub(super) fn incomplete(&self, now: Timestamp) -> Option<String> {
        // What is wrong with many kinds is mostly one thing: it is said once.
        let mut missing: Vec<(String, Vec<Kind>)> = Vec::new();
        for (kind, state) in &self.0 {
            let why = match state {
                State { unknown: true, listed: false, .. } => {
                    "the API server does not know it; install Miyako's CRDs".to_owned()
                }
                State { listed: false, failing: Some((_, error)), .. } => error.clone(),
                State { listed: false, .. } => "not listed yet".to_owned(),
                State { failing: Some((since, error)), .. } if now.since(*since) > TOO_LONG => {
                    format!("the watch has failed for {} s: {error}", now.since(*since).as_secs())
                }
                State { unknown: false, alive: Some(alive), .. } if now.since(*alive) > SILENT_FOR => {
                    format!("the watch has given no sign of life for {} s", now.since(*alive).as_secs())
                }
                _ => continue,
            };
            match missing.iter_mut().find(|(known, _)| *known == why) {
                Some((_, kinds)) => kinds.push(*kind),
                None => missing.push((why, vec![*kind])),
            }
        }
        let told: Vec<_> = missing.iter().map(|(why, kinds)| format!("{}: {why}", some(kinds))).collect();
        (!told.is_empty()).then(|| told.join("; "))
    }

    /// When each watch last gave a sign of life.
    pub(super) fn last_signs(&self) -> BTreeMap<Kind, Option<Timestamp>> {
        self.0.iter().map(|(kind, state)| (*kind, state.alive)).collect()
    }
}

/// The first few kinds, and how many more there are.
pub(crate) fn some(kinds: &[Kind]) -> String {
    const NAMED: usize = 3;
    let named = kinds.iter().take(NAMED).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match kinds.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more kinds"),
    }
}
