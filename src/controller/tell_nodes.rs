//! Which Events are worth telling on nodes.

use crate::act::{Event, EventKind, Subject};
use miyako_api::names::reason;
use miyako_core::model::{NodeName, PowerRecord, PowerState, Purpose, Timestamp, Wakeable};
use miyako_core::power::PhaseChange;

/// Which Event a change of a node's phase is worth.
pub(super) fn power_changed(node: &NodeName, record: &PowerRecord, change: &PhaseChange) -> Option<Event> {
    let before = record.phase;
    let once = format!("{:?}/{}", change.phase, change.since.millis());
    if before == change.phase {
        let silent = |wakeable: Option<(Wakeable, Timestamp)>| wakeable.is_some_and(|it| it.0 == Wakeable::WakerSilent);
        let note = (silent(change.wakeable) && !silent(record.wakeable)).then(|| change.message.clone())?;
        return Some(on_node(node, EventKind::Warning, reason::WAKER_SILENT, note, &once));
    }
    let test = change.purpose.as_ref().is_some_and(Purpose::is_wake_test);
    let (kind, why) = match change.phase {
        PowerState::Awake if test && change.woke == Some(true) => (EventKind::Normal, reason::WAKE_TEST_PASSED),
        PowerState::Quarantined if test => (EventKind::Warning, reason::WAKE_TEST_FAILED),
        PowerState::Awake if before == PowerState::Emptying => return None,
        PowerState::Awake => (EventKind::Normal, reason::NODE_AWAKE),
        PowerState::Emptying => (EventKind::Normal, reason::NODE_EMPTYING),
        PowerState::Suspending => (EventKind::Normal, reason::NODE_SUSPENDING),
        PowerState::Suspended => (EventKind::Normal, reason::NODE_SUSPENDED),
        PowerState::Waking => (EventKind::Normal, reason::NODE_WAKING),
        PowerState::Quarantined => (EventKind::Warning, reason::NODE_WAKE_FAILED),
    };
    Some(on_node(node, kind, why, change.message.clone(), &once))
}

/// An Event on a node. `once` keeps apart those of the same reason.
pub(super) fn on_node(node: &NodeName, kind: EventKind, why: &'static str, note: String, once: &str) -> Event {
    Event {
        subject: Subject {
            api_version: "v1".into(),
            kind: "Node".into(),
            namespace: None,
            name: node.to_string(),
            uid: None,
        },
        kind,
        reason: why,
        action: "Power",
        note,
        once: once.to_owned(),
    }
}
