//! How fresh each watch is: what has never been listed, and what has failed for too long.

use crate::observe::seen::Kind;
use miyako_core::model::{Span, Timestamp};
use std::collections::BTreeMap;

/// A watch that fails for longer leaves the picture incomplete (rule 8). Shorter, it may only have been reconnected.
pub const TOO_LONG: Span = Span::from_secs(30);

#[derive(Debug, Default)]
struct State {
    listed: bool,
    /// Its CRD is not there.
    unknown: bool,
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
        state.failing = None;
        state.alive = Some(now);
    }

    pub(super) fn failed(&mut self, kind: Kind, error: String, now: Timestamp) {
        let state = self.state(kind);
        let since = state.failing.as_ref().map_or(now, |(since, _)| *since);
        state.failing = Some((since.min(now), error));
    }

    /// All kinds have been listed once.
    pub(super) fn synced(&self) -> bool {
        self.0.values().all(|state| state.listed)
    }

    /// Why the picture is not complete.
    pub(super) fn incomplete(&self, now: Timestamp) -> Option<String> {
        let missing = self.0.iter().filter_map(|(kind, state)| match state {
            State { unknown: true, listed: false, .. } => {
                Some(format!("{kind}: the API server does not know it; install Miyako's CRDs"))
            }
            State { listed: false, failing: Some((_, error)), .. } => Some(format!("{kind}: {error}")),
            State { listed: false, .. } => Some(format!("{kind}: not listed yet")),
            State { failing: Some((since, error)), .. } if now.since(*since) > TOO_LONG => {
                Some(format!("{kind}: the watch has failed for {} s: {error}", now.since(*since).as_secs()))
            }
            _ => None,
        });
        let missing: Vec<_> = missing.collect();
        (!missing.is_empty()).then(|| missing.join("; "))
    }

    /// When each watch last gave a sign of life.
    pub(super) fn last_signs(&self) -> BTreeMap<Kind, Option<Timestamp>> {
        self.0.iter().map(|(kind, state)| (*kind, state.alive)).collect()
    }
}
