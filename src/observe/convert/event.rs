//! Events that say that a pod of a VM can't be created. virt-controller tells of a migration's target pod nowhere else: the
//! migration stays Pending, as one that only waits does (`docs/design/0001-kubevirt-facts.md`).

use super::objects;
use k8s_openapi::api::core::v1::Event;
use miyako_core::model::{Timestamp, Uid, VmKey};

/// Which Events are watched: those of VMIs, for this reason.
pub const FIELDS: &str = "involvedObject.kind=VirtualMachineInstance,reason=FailedCreate";
const KIND: &str = "VirtualMachineInstance";
const REASON: &str = "FailedCreate";
/// What virt-controller says of pods that plug volumes in: they are no targets.
const ATTACHMENT: &str = "attachment pod";
/// What virt-controller puts before the API server's own words, and what its recorder puts before the sum of several.
const PREFIXES: [&str; 2] = ["(combined from similar events): ", "Error creating pod: "];
/// As much of the words as a plan keeps.
const LONGEST: usize = 800;

/// A pod of a VM was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotCreated {
    /// The VM.
    pub vm: VmKey,
    /// Its VMI's uid.
    pub uid: Uid,
    /// When it was refused last.
    pub at: Timestamp,
    /// The API server's own words.
    pub words: String,
}

/// Converts an Event; none if it tells of something else.
#[must_use]
pub fn convert(event: &Event) -> Option<NotCreated> {
    let about = &event.involved_object;
    let message = event.message.as_deref().unwrap_or_default();
    if about.kind.as_deref() != Some(KIND) || event.reason.as_deref() != Some(REASON) || message.contains(ATTACHMENT) {
        return None;
    }
    let words = PREFIXES.iter().fold(message, |words, prefix| words.strip_prefix(prefix).unwrap_or(words));
    Some(NotCreated {
        vm: VmKey::new(about.namespace.as_deref()?, about.name.as_deref()?),
        uid: Uid::new(about.uid.as_deref()?),
        at: last(event),
        words: words.chars().take(LONGEST).collect(),
    })
}

/// When it happened last: an Event is written again for what happens again. virt-controller says when by its own clock,
/// and the API server notes when it was told, by the clock that also dates migrations. The earlier one counts, so that no
/// clock that is ahead makes old news look new.
fn last(event: &Event) -> Timestamp {
    let said = [
        event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|time| time.0),
        event.last_timestamp.as_ref().map(|time| time.0),
        event.event_time.as_ref().map(|time| time.0),
        event.first_timestamp.as_ref().map(|time| time.0),
    ];
    let said = said.into_iter().flatten().max().map(|time| Timestamp::from_millis(time.as_millisecond()));
    let writes = event.metadata.managed_fields.iter().flatten().filter_map(|entry| entry.time.as_ref());
    let written = writes.map(objects::timestamp).max();
    match (said, written) {
        (Some(said), Some(written)) => said.min(written),
        (said, written) => said.or(written).unwrap_or_else(|| objects::created(&event.metadata)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(change: impl FnOnce(&mut Value)) -> Option<NotCreated> {
        let mut event = json!({
            "metadata": {"name": "vm1.1", "namespace": "shop", "creationTimestamp": "2026-01-05T00:00:00Z"},
            "involvedObject": {"kind": "VirtualMachineInstance", "namespace": "shop", "name": "vm1", "uid": "u"},
            "reason": "FailedCreate",
            "message": "Error creating pod: pods \"virt-launcher-vm1-x\" is forbidden: maximum memory usage per Pod is 256Mi",
            "firstTimestamp": "2026-01-05T00:00:00Z",
            "lastTimestamp": "2026-01-05T00:00:10Z",
        });
        change(&mut event);
        convert(&serde_json::from_value(event).unwrap())
    }

    #[test]
    fn the_api_servers_own_words_are_kept() {
        let read = read(|_| {}).unwrap();
        assert_eq!((read.vm, read.uid), (VmKey::new("shop", "vm1"), Uid::new("u")));
        assert_eq!(read.words, "pods \"virt-launcher-vm1-x\" is forbidden: maximum memory usage per Pod is 256Mi");
        let combined = |event: &mut Value| {
            event["message"] = json!("(combined from similar events): Error creating pod: no");
        };
        assert_eq!(super::tests::read(combined).unwrap().words, "no");
    }

    #[test]
    fn other_events_say_nothing_of_targets() {
        assert_eq!(read(|event| event["reason"] = json!("SyncFailed")), None);
        assert_eq!(read(|event| event["involvedObject"]["kind"] = json!("ReplicaSet")), None);
        assert_eq!(read(|event| event["message"] = json!("Error creating attachment pod: no")), None);
    }

    #[test]
    fn the_last_time_counts_and_no_clock_that_is_ahead() {
        let second = |moment: NotCreated| moment.at.second() % 60;
        assert_eq!(second(read(|_| {}).unwrap()), 10);
        let written = |seconds: &'static str| {
            move |event: &mut Value| {
                event["metadata"]["managedFields"] = json!([{"manager": "virt-controller", "time": seconds}]);
            }
        };
        assert_eq!(second(read(written("2026-01-05T00:00:04Z")).unwrap()), 4);
        assert_eq!(second(read(written("2026-01-05T00:00:20Z")).unwrap()), 10);
        let series = |event: &mut Value| {
            event["series"] = json!({"count": 3, "lastObservedTime": "2026-01-05T00:00:30.5Z"});
        };
        assert_eq!(second(read(series).unwrap()), 30);
    }
}
