//! The watchdog's look at sleep: every new order to suspend is judged by what the API server holds at that moment, and
//! what nodes carry by what their NodePowers say.

use super::watchdog::{Objects, millis};
use crate::sim::at::{at, text};
use miyako_api::names::{kubernetes, marks, ours};
use miyako_core::model::{Purpose, Timestamp};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Marks that are still there so long after a node is awake are left behind.
const MARKS_LINGER_MILLIS: i64 = 60_000;
/// The operator's last look before an order is at most three seconds old when it gives the order, and ours one.
const LOOK_MILLIS: i64 = 4_000;

/// What is remembered between looks.
#[derive(Debug, Default)]
pub(super) struct Sleepers {
    /// The newest order that was judged, by node.
    judged: BTreeMap<String, i64>,
    /// Since when somebody has been seen to keep a node as it is, by a cordon or a mark.
    kept: BTreeMap<String, i64>,
    /// The orders to suspend by node and purpose.
    given: BTreeMap<(String, String), BTreeSet<i64>>,
}

fn pointer_of(key: &str) -> String {
    key.replace('/', "~1")
}

fn taints(node: &Value) -> impl Iterator<Item = &Value> {
    at(node, "/spec/taints").and_then(Value::as_array).into_iter().flatten()
}

fn is_usable(node: &Value) -> bool {
    let conditions = at(node, "/status/conditions").and_then(Value::as_array);
    let ready = conditions.is_some_and(|all| all.iter().any(|it| it["type"] == "Ready" && it["status"] == "True"));
    ready && taints(node).all(|taint| taint["effect"] == "PreferNoSchedule")
}

impl Sleepers {
    /// One look; hands back what is broken.
    pub(super) fn look(&mut self, view: &dyn Objects, now: Timestamp) -> Vec<String> {
        let mut broken = Vec::new();
        for power in view.all("miyako.dev", "nodepowers") {
            let name = text(power, "/metadata/name");
            let Some(node) = view.get("", "nodes", "", name) else { continue };
            self.note_kept(name, node, now);
            self.judge_order(view, name, power, node, &mut broken);
            left_behind(name, power, node, now, &mut broken);
        }
        broken
    }

    fn note_kept(&mut self, name: &str, node: &Value, now: Timestamp) {
        let cordoned = at(node, "/spec/unschedulable") == Some(&Value::Bool(true));
        let pinned = at(node, &format!("/metadata/annotations/{}", pointer_of(marks::KEEP_AWAKE))).is_some();
        if cordoned || pinned {
            self.kept.entry(name.to_owned()).or_insert_with(|| now.millis());
        } else {
            self.kept.remove(name);
        }
    }

    fn judge_order(&mut self, view: &dyn Objects, name: &str, power: &Value, node: &Value, broken: &mut Vec<String>) {
        let generation = at(power, "/spec/generation").and_then(Value::as_i64).unwrap_or_default();
        if text(power, "/spec/desired") != "Suspended" || self.judged.get(name) == Some(&generation) {
            return;
        }
        self.judged.insert(name.to_owned(), generation);
        let purpose = text(power, "/status/purpose").to_owned();
        let orders = self.given.entry((name.to_owned(), purpose.clone())).or_default();
        orders.insert(generation);
        if orders.len() > 1 {
            broken.push(format!("{name} was ordered to sleep twice for {purpose}"));
        }
        let issued = millis(power, "/spec/issuedAt").unwrap_or_default();
        let before = |object: &Value| millis(object, "/metadata/creationTimestamp").is_some_and(|at| at < issued);
        for vmi in view.all("kubevirt.io", "virtualmachineinstances") {
            if text(vmi, "/status/nodeName") == name && before(vmi) {
                broken.push(format!("rule 3: {name} was ordered to sleep with VM {}", text(vmi, "/metadata/name")));
            }
        }
        for migration in view.all("kubevirt.io", "virtualmachineinstancemigrations") {
            let unfinished = !matches!(text(migration, "/status/phase"), "Succeeded" | "Failed");
            let target = text(migration, &format!("/spec/addedNodeSelector/{}", pointer_of(kubernetes::HOSTNAME)));
            let source = text(migration, "/status/migrationState/sourceNode");
            if unfinished && (target == name || source == name) && before(migration) {
                broken.push(format!("rule 3: {name} was ordered to sleep at the end of a migration"));
            }
        }
        if self.kept.get(name).is_some_and(|since| since + LOOK_MILLIS <= issued) {
            broken
                .push(format!("rule 3: {name} was ordered to sleep while somebody has cordoned it or keeps it awake"));
        }
        if at(power, "/status/lastWakeTest/succeeded") != Some(&Value::Bool(true))
            && !Purpose::from(purpose.clone()).is_wake_test()
        {
            broken.push(format!("rule 3: {name} was ordered to sleep and never showed that it wakes"));
        }
        if !taints(node).any(|taint| taint["key"] == ours::POWER && taint["effect"] == "NoSchedule") {
            broken.push(format!("{name} was ordered to sleep without our taint"));
        }
        let left = view.all("", "nodes").filter(|node| is_usable(node)).count();
        if left == 0 {
            broken.push(format!("rule 4: no usable node is left once {name} sleeps"));
        }
    }
}

/// What an awake node still carries.
fn left_behind(name: &str, power: &Value, node: &Value, now: Timestamp, broken: &mut Vec<String>) {
    let awake = matches!(text(power, "/status/phase"), "" | "Awake");
    let long = millis(power, "/status/since").is_some_and(|since| now.millis() - since > MARKS_LINGER_MILLIS);
    let marked = taints(node).any(|taint| taint["key"] == ours::POWER)
        || at(node, &format!("/metadata/labels/{}", pointer_of(ours::POWER))).is_some();
    if awake && long && marked {
        broken.push(format!("{name} is awake and still carries our marks"));
    }
}
