//! The power sequence's writes (`miyako_core::power`): NodePowers with their orders, and what Nodes carry meanwhile.
//!
//! Every write to a NodePower is for exactly the version that was looked at: an agent's word, or another operator's
//! write, in between makes it a conflict. A Node is read just before it is written, and written only if it is still
//! the same.

use super::error::Attempt as _;
use super::{ActError, Actor, look};
use crate::observe::convert::{self, objects};
use crate::pages;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use miyako_api::kubevirt::VirtualMachineInstance;
use miyako_api::names::{kubernetes, kubevirt, manager, ours};
use miyako_api::node_power::{DesiredPower, NodePower, NodePowerSpec, RecordedWay};
use miyako_api::node_power_class::{NodePowerClass, SuspendMethod};
use miyako_api::wake::{self, ways_of_class};
use miyako_core::energy::Source;
use miyako_core::model::{
    Blocker, Desired, NodeCondition, NodeMarks, NodeName, Policies, PowerRecord, PowerState, RecordedEnergy,
    SleepMethod, Snapshot, Span, Timestamp, Wakeable, Watts,
};
use miyako_core::plan::SuspendBlockers;
use miyako_core::power::PhaseChange;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// What an order to sleep says besides. An order to be awake says nothing of it, and so leaves the ways as they are.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SleepTerms {
    /// When the node's own clock wakes it if nobody does before.
    pub wake_at: Option<Timestamp>,
    /// The newest sample that came from the node's agent.
    pub sample: Option<u64>,
    /// How it can be woken.
    pub ways: Vec<RecordedWay>,
}

/// What the last look before a suspend came to.
#[derive(Debug, Clone, PartialEq)]
pub enum LastLook {
    /// This keeps the node awake.
    KeptAwake(String),
    /// Nothing does, and these are the ways to wake it.
    MaySleep(Vec<RecordedWay>),
}

/// What a node draws and has drawn, for its NodePower.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EnergyNote {
    /// It draws this now.
    pub watts: Watts,
    /// Where the watts come from.
    pub source: Source,
    /// It has drawn and saved this.
    pub account: RecordedEnergy,
}

impl EnergyNote {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates, and watts are finite")]
    fn status(&self) -> Value {
        json!({
            "watts": (self.watts.value().round() as u32).min(MOST_WATTS),
            "wattsSource": format!("{:?}", self.source),
            "joules": self.account.used,
            "savedJoules": self.account.saved,
        })
    }
}

/// The most watts that a NodePower holds.
const MOST_WATTS: u32 = 100_000;

/// The status with the node's energy: it rides along with what is written anyway.
fn with_energy(mut status: Value, energy: Option<&EnergyNote>) -> Value {
    if let (Some(status), Some(Value::Object(energy))) = (status.as_object_mut(), energy.map(EnergyNote::status)) {
        status.extend(energy);
    }
    status
}

/// As much of a text as the fields of a NodePower take.
const LONGEST: usize = 1000;

/// A look at a node that took longer is none.
const FRESH: Span = Span::from_secs(3);

fn shortened(text: &str) -> String {
    text.chars().take(LONGEST).collect()
}

fn patching() -> PatchParams {
    PatchParams { field_manager: Some(manager::OPERATOR.into()), ..PatchParams::default() }
}

fn time(moment: Timestamp) -> Value {
    serde_json::to_value(crate::time::to_api(moment)).unwrap_or_default()
}

fn phase_name(phase: PowerState) -> &'static str {
    match phase {
        PowerState::Awake => "Awake",
        PowerState::Emptying => "Emptying",
        PowerState::Suspending => "Suspending",
        PowerState::Suspended => "Suspended",
        PowerState::Waking => "Waking",
        PowerState::Quarantined => "Quarantined",
    }
}

/// A status that says what a change of phase says, and takes away what it no longer says.
fn phase_status(change: &PhaseChange, now: Timestamp) -> Value {
    let mut status = json!({
        "phase": phase_name(change.phase),
        "since": time(change.since),
        "message": shortened(&change.message),
        "purpose": change.purpose.as_ref().map(|purpose| purpose.to_string().chars().take(512).collect::<String>()),
        "earlierPurposes": change.earlier,
        "suspendGeneration": change.suspend_generation,
        "bootId": change.boot_id,
        "asleepSince": change.asleep_since.map(time),
        "lastSleepSeconds": change.last_sleep.map(|span| span.as_secs()),
        "emptySince": null,
        "restless": change.restless.as_ref().map(|restless| {
            json!({ "times": restless.times, "until": restless.until.map(time), "why": restless.why })
        }),
    });
    let condition = |(wakeable, since): (Wakeable, Timestamp)| {
        json!({
            "type": Wakeable::TYPE,
            "status": if wakeable.holds() { "True" } else { "False" },
            "reason": wakeable.reason(),
            "message": shortened(&change.message),
            "lastTransitionTime": time(since),
        })
    };
    status["conditions"] = change.wakeable.map(condition).into_iter().collect();
    if let Some(woke) = change.woke {
        status["lastWakeTest"] = json!({ "at": time(now), "succeeded": woke, "message": shortened(&change.message) });
    }
    status
}

/// The change of a Node that makes it carry these marks, and leaves what people wrote as it is.
fn mark_patch(node: &Node, marks: NodeMarks) -> Value {
    let metadata = &node.metadata;
    let label = |key: &str| metadata.labels.as_ref().and_then(|labels| labels.get(key));
    let marked = label(ours::POWER).is_some()
        || node.spec.iter().flat_map(|spec| spec.taints.iter().flatten()).any(|taint| taint.key == ours::POWER);
    // Our own label is in every note of ours. Without such a note on a marked node somebody took it off or changed it: what
    // looks like ours is ours then, lest it stay for ever.
    let own = objects::annotation(metadata, ours::OWN_LABELS);
    let own = own.filter(|own| own.split(',').any(|one| one == ours::POWER));
    let is_own = |key: &str| {
        let noted = own.map(|own| own.split(',').any(|one| one == key));
        key == ours::POWER || noted.unwrap_or_else(|| marked && label(key).is_some_and(|value| value == "true"))
    };
    let wanted = marks.labels();
    let mut labels = Map::new();
    let mut set = Vec::new();
    for key in [ours::POWER, kubernetes::EXCLUDE_DISRUPTION, kubernetes::EXCLUDE_REMEDIATION] {
        let value = wanted.iter().find(|(one, _)| *one == key).map(|(_, value)| *value);
        match value {
            // A person's own label of the same meaning stays theirs.
            Some(_) if label(key).is_some() && !is_own(key) => {}
            Some(value) => {
                labels.insert(key.to_owned(), json!(value));
                set.push(key);
            }
            None if is_own(key) && label(key).is_some() => {
                labels.insert(key.to_owned(), Value::Null);
            }
            None => {}
        }
    }
    let others = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let mut taints: Vec<Value> = others.filter(|taint| taint.key != ours::POWER).map(|taint| json!(taint)).collect();
    if let Some(taint) = marks.taint() {
        taints.push(json!({ "key": taint.key, "value": taint.value, "effect": format!("{:?}", taint.effect) }));
    }
    let set = (!set.is_empty()).then(|| set.join(","));
    json!({
        "metadata": {
            "uid": metadata.uid,
            "resourceVersion": metadata.resource_version,
            "labels": labels,
            "annotations": { ours::OWN_LABELS: set },
        },
        "spec": { "taints": taints },
    })
}

/// The change of a Node that takes everything of ours off it.
#[must_use]
pub fn unmark(node: &Node) -> Value {
    mark_patch(node, NodeMarks::None)
}

impl Actor {
    /// Creates a node's NodePower, ordered awake, with generation 0. One that is there already is handed back.
    ///
    /// # Errors
    /// See [`ActError::class`].
    pub async fn create_node_power(&self, node: &NodeName) -> Result<NodePower, ActError> {
        let api: Api<NodePower> = Api::all(self.writer()?);
        let now = crate::time::to_api(self.clock.now());
        let power = NodePower {
            metadata: ObjectMeta {
                name: Some(node.to_string()),
                labels: Some(BTreeMap::from([(ours::MANAGED_BY.into(), ours::MIYAKO.into())])),
                ..ObjectMeta::default()
            },
            spec: NodePowerSpec {
                desired: DesiredPower::Awake,
                generation: 0,
                issued_at: now.clone(),
                expires_at: now,
                reason: "nothing was ordered yet".into(),
                wake_by: None,
                method: SuspendMethod::default(),
                wake_at: None,
                despite_failures: false,
                sample: None,
                wake_ways: Vec::new(),
            },
            status: None,
        };
        let params = PostParams { field_manager: Some(manager::OPERATOR.into()), ..PostParams::default() };
        match api.create(&params, &power).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                api.get(node.as_str()).await.attempt(|| format!("read NodePower {node}"))
            }
            created => created.attempt(|| format!("create NodePower {node}")),
        }
    }

    /// Gives an order.
    ///
    /// # Errors
    /// See [`ActError::class`].
    pub async fn order(
        &self,
        node: &NodeName,
        record: &PowerRecord,
        (desired, method): (Desired, SleepMethod),
        (generation, stands): (i64, Span),
        terms: SleepTerms,
        reason: &str,
    ) -> Result<NodePower, ActError> {
        let now = self.clock.now();
        let spec = NodePowerSpec {
            desired: match desired {
                Desired::Awake => DesiredPower::Awake,
                Desired::Suspended => DesiredPower::Suspended,
            },
            generation,
            issued_at: crate::time::to_api(now),
            expires_at: crate::time::to_api(now + stands),
            reason: shortened(reason),
            wake_by: None,
            method: match method {
                SleepMethod::S3 => SuspendMethod::S3,
                SleepMethod::PowerOff => SuspendMethod::PowerOff,
            },
            wake_at: terms.wake_at.map(crate::time::to_api),
            despite_failures: record.request.is_some(),
            sample: terms.sample.and_then(|sequence| i64::try_from(sequence).ok()),
            wake_ways: terms.ways,
        };
        // What an earlier order said of itself does not outlive it, but for the ways to wake the node.
        let mut order = json!({ "wakeBy": null, "wakeAt": null, "despiteFailures": null, "sample": null });
        if let (Some(order), Ok(Value::Object(spec))) = (order.as_object_mut(), serde_json::to_value(&spec)) {
            order.extend(spec);
        }
        self.patch_power(node, record, json!({ "spec": order })).await
    }

    /// Notes a phase.
    ///
    /// # Errors
    /// See [`ActError::class`].
    pub async fn note_phase(
        &self,
        node: &NodeName,
        record: &PowerRecord,
        change: &PhaseChange,
        energy: Option<&EnergyNote>,
    ) -> Result<NodePower, ActError> {
        let status = with_energy(phase_status(change, self.clock.now()), energy);
        self.patch_power_status(node, record, status).await
    }

    /// Notes what a node draws and has drawn.
    ///
    /// # Errors
    /// See [`ActError::class`].
    pub async fn note_energy(
        &self,
        node: &NodeName,
        record: &PowerRecord,
        energy: &EnergyNote,
    ) -> Result<NodePower, ActError> {
        self.patch_power_status(node, record, energy.status()).await
    }

    /// Notes since when nothing keeps a node awake, and in a few words why it is awake all the same.
    ///
    /// # Errors
    /// See [`ActError::class`].
    pub async fn note_empty(
        &self,
        node: &NodeName,
        record: &PowerRecord,
        since: Option<Timestamp>,
        why_awake: Option<&str>,
        energy: Option<&EnergyNote>,
    ) -> Result<NodePower, ActError> {
        let why = why_awake.map(|why| why.chars().take(256).collect::<String>());
        let status = json!({ "emptySince": since.map(time), "whyAwake": why });
        self.patch_power_status(node, record, with_energy(status, energy)).await
    }

    /// Takes a person's request away.
    ///
    /// # Errors
    /// See [`ActError::class`].
    pub async fn answer_request(
        &self,
        node: &NodeName,
        record: &PowerRecord,
        message: &str,
    ) -> Result<NodePower, ActError> {
        let annotations = json!({ ours::REQUEST: null, ours::ANSWER: shortened(message) });
        self.patch_power(node, record, json!({ "metadata": { "annotations": annotations } })).await
    }

    async fn patch_power(
        &self,
        node: &NodeName,
        record: &PowerRecord,
        mut patch: Value,
    ) -> Result<NodePower, ActError> {
        let api: Api<NodePower> = Api::all(self.writer()?);
        (patch["metadata"]["uid"], patch["metadata"]["resourceVersion"]) = (json!(record.uid), json!(record.version));
        let patched = api.patch(node.as_str(), &patching(), &Patch::Merge(&patch)).await;
        patched.attempt(|| format!("write NodePower {node}"))
    }

    async fn patch_power_status(
        &self,
        node: &NodeName,
        record: &PowerRecord,
        status: Value,
    ) -> Result<NodePower, ActError> {
        let api: Api<NodePower> = Api::all(self.writer()?);
        let metadata = json!({ "uid": record.uid, "resourceVersion": record.version });
        let patch = json!({ "metadata": metadata, "status": status });
        let params = PatchParams { field_manager: Some(manager::STATUS.into()), ..PatchParams::default() };
        let patched = api.patch_status(node.as_str(), &params, &Patch::Merge(&patch)).await;
        patched.attempt(|| format!("write the status of NodePower {node}"))
    }

    /// Makes a Node carry these marks.
    ///
    /// # Errors
    /// See [`ActError::class`].
    pub async fn mark_node(&self, node: &NodeName, marks: NodeMarks) -> Result<Node, ActError> {
        let api: Api<Node> = Api::all(self.writer()?);
        let found = api.get(node.as_str()).await.attempt(|| format!("read Node {node}"))?;
        let params = PatchParams { field_manager: Some(manager::NODE_POWER.into()), ..PatchParams::default() };
        let patch = mark_patch(&found, marks);
        let patched = api.patch(node.as_str(), &params, &Patch::Merge(&patch)).await;
        patched.attempt(|| format!("write our taint and labels on Node {node}"))
    }

    /// Makes a Node say why it does not answer, or takes that away. `words` are what is known of a wake that failed.
    ///
    /// # Errors
    /// See [`ActError::class`].
    pub async fn note_condition(
        &self,
        node: &NodeName,
        condition: Option<NodeCondition>,
        words: Option<&str>,
    ) -> Result<Node, ActError> {
        let api: Api<Node> = Api::all(self.writer()?);
        let now = time(self.clock.now());
        let entry = match condition {
            Some(condition) => json!({
                "type": NodeCondition::TYPE,
                "status": condition.status(),
                "reason": condition.reason(),
                "message": match words.filter(|_| condition == NodeCondition::Quarantined) {
                    Some(words) => shortened(&format!("{}: {words}", condition.message())),
                    None => condition.message().to_owned(),
                },
                "lastTransitionTime": now,
                "lastHeartbeatTime": now,
            }),
            None => json!({ "type": NodeCondition::TYPE, "$patch": "delete" }),
        };
        let patch = json!({ "status": { "conditions": [entry] } });
        let params = PatchParams { field_manager: Some(manager::NODE_POWER.into()), ..PatchParams::default() };
        let patched = api.patch_status(node.as_str(), &params, &Patch::Strategic(&patch)).await;
        patched.attempt(|| format!("write our condition on Node {node}"))
    }

    /// Rule 3 by the API server itself, past all caches, immediately before a node is ordered to sleep: what is on it,
    /// and what it says of itself. Hands back the first thing that keeps it awake, or else how it can be woken.
    ///
    /// # Errors
    /// See [`ActError::class`].
    pub async fn look_before_suspend(
        &self,
        node: &NodeName,
        record: &PowerRecord,
        policies: &Policies,
        wake_test: bool,
    ) -> Result<LastLook, ActError> {
        let what = || format!("look at node {node} before it is suspended");
        let began = self.clock.now();
        let client = self.client.clone();
        let found = Api::<Node>::all(client.clone()).get(node.as_str()).await.attempt(what)?;
        let look::OnNode { pods, unreadable } = look::pods_on(&client, node).await.attempt(what)?;
        let here = ListParams::default().labels(&format!("{}={node}", kubevirt::NODE_NAME)).limit(pages::PAGE);
        let vmis = Api::<VirtualMachineInstance>::all(client.clone()).list_metadata(&here).await.attempt(what)?;
        let mut seen = convert::node::convert(&found).value.with_passing(&BTreeSet::new());
        let migrations = look::unfinished_migrations(&client, &seen).await.attempt(what)?;
        let classes = Api::<NodePowerClass>::all(client).list(&ListParams::default()).await;
        let ways = ways_of_class(&found, &classes.attempt(what)?.items);
        (seen.power, seen.wake_tested) = (PowerState::Emptying, record.wake_tested);
        if wake_test {
            seen.wake_tested = Some(self.clock.now());
        }
        if !vmis.items.is_empty() {
            let count = u32::try_from(vmis.items.len()).unwrap_or(u32::MAX);
            return Ok(LastLook::KeptAwake(Blocker::Vms { count }.to_string()));
        }
        // Whoever falls asleep must be woken by what is written here, whatever becomes of the class.
        if let Some(problem) = ways.problems.first() {
            return Ok(LastLook::KeptAwake(problem.to_string()));
        }
        let mut snapshot = Snapshot::default();
        snapshot.nodes.insert(seen.name.clone(), seen.clone());
        snapshot.pods = pods.into_iter().map(|pod| (pod.key.clone(), pod)).collect();
        snapshot.migrations = migrations;
        let blockers = SuspendBlockers::of_snapshot(&snapshot, policies).of(&seen);
        // What was read first may have changed since: then it is looked at anew another time.
        let slow = (self.clock.now().since(began) > FRESH).then(|| "the last look at it took too long".to_owned());
        if let Some(blocker) = blockers.first().map(ToString::to_string).or(unreadable).or(slow) {
            return Ok(LastLook::KeptAwake(blocker));
        }
        let (name, known) = (found.name_any(), found.labels());
        let known = wake::Node { name: &name, labels: known };
        Ok(LastLook::MaySleep(ways.ways.iter().map(|way| RecordedWay::of(way, known)).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::from_value;

    fn patched(node: Value, marks: NodeMarks) -> (Node, Value) {
        let node: Node = from_value(node).expect("a Node");
        let patch = mark_patch(&node, marks);
        let mut object = serde_json::to_value(&node).expect("a Node");
        json_patch::merge(&mut object, &patch);
        (from_value(object).expect("still a Node"), patch)
    }

    fn marks_of(node: &Node) -> Option<NodeMarks> {
        NodeMarks::of(&convert::node::convert(node).value.node)
    }

    #[test]
    fn marks_come_and_go_and_leave_what_people_wrote() {
        let before = json!({
            "metadata": {"name": "n", "resourceVersion": "7", "labels": {"a": "b", kubernetes::EXCLUDE_DISRUPTION: ""}},
            "spec": {"taints": [{"key": "dedicated", "value": "db", "effect": "NoSchedule"}]},
        });
        for marks in [NodeMarks::Emptying, NodeMarks::Asleep, NodeMarks::Quarantined] {
            let (marked, patch) = patched(before.clone(), marks);
            assert_eq!(patch["metadata"]["resourceVersion"], "7");
            let labels = marked.metadata.labels.clone().unwrap_or_default();
            assert_eq!(labels.get(kubernetes::EXCLUDE_DISRUPTION).map(String::as_str), Some(""), "a person's own");
            assert_eq!(labels.contains_key(ours::POWER), marks != NodeMarks::Emptying);
            assert_eq!(labels.contains_key(kubernetes::EXCLUDE_REMEDIATION), marks == NodeMarks::Asleep);
            let (clean, _) = patched(serde_json::to_value(&marked).expect("a Node"), NodeMarks::None);
            assert_eq!(marks_of(&clean), Some(NodeMarks::None));
            let clean = serde_json::to_value(&clean).expect("a Node");
            assert_eq!(
                (&clean["metadata"]["labels"], &clean["spec"]),
                (&before["metadata"]["labels"], &before["spec"])
            );
        }
        let bare = json!({"metadata": {"name": "n"}});
        // Somebody takes the note of our labels off, and perhaps our label or our taint as well.
        for hand in [json!({}), json!({"labels": {ours::POWER: null}})] {
            let (marked, _) = patched(bare.clone(), NodeMarks::Asleep);
            let mut node = serde_json::to_value(&marked).expect("a Node");
            let mut metadata = hand.clone();
            metadata["annotations"] = json!({ ours::OWN_LABELS: null });
            json_patch::merge(&mut node, &json!({ "metadata": metadata }));
            for between in [NodeMarks::None, NodeMarks::Asleep] {
                let (seen, _) = patched(node.clone(), between);
                let (clean, _) = patched(serde_json::to_value(&seen).expect("a Node"), NodeMarks::None);
                assert_eq!(clean.metadata.labels.unwrap_or_default(), BTreeMap::new(), "{hand} {between:?}");
            }
        }
        for marks in NodeMarks::ALL {
            assert_eq!(marks_of(&patched(bare.clone(), marks).0), Some(marks));
        }
    }
}
