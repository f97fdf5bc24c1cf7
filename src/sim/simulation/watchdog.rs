//! Looks at the truth, with no eye on what operators think, and notes every rule that was broken: once a second in
//! simulations, and on a real control plane over what its watches show.

use super::sleepers::Sleepers;
use super::{Scenario, scenario::CLASS_LABEL};
use crate::sim::apiserver::ClusterView;
use crate::sim::at::{at, text};
use crate::sim::cluster::Machines;
use miyako_api::names::ours;
use miyako_core::model::{Timestamp, VmKey};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// KubeVirt's slots that may be used by us with its defaults: five less two in reserve.
const OUR_SLOTS: usize = 3;
/// The `Reactive` profile's settle time in milliseconds (Reactive Cloud §5.2.4), less a second for clocks that differ.
const SETTLE_MILLIS: i64 = 19_000;
/// The `Reactive` profile's moves per VM and day.
const MOVES_PER_DAY: usize = 10;
const DAY_MILLIS: i64 = 24 * 3600 * 1000;

/// Where the watchdog sees the cluster's objects.
pub trait Objects {
    /// One object by group, plural, namespace (empty for cluster-scoped ones) and name.
    fn get(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<&Value>;

    /// All objects of a resource in all namespaces.
    fn all<'a>(&'a self, group: &str, plural: &str) -> Box<dyn Iterator<Item = &'a Value> + 'a>;
}

impl Objects for ClusterView<'_> {
    fn get(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<&Value> {
        ClusterView::get(self, group, plural, namespace, name)
    }

    fn all<'a>(&'a self, group: &str, plural: &str) -> Box<dyn Iterator<Item = &'a Value> + 'a> {
        Box::new(self.list(group, plural, ""))
    }
}

/// Looks and notes.
#[derive(Debug, Default)]
pub struct Watchdog {
    cores: BTreeMap<String, u64>,
    classes: BTreeMap<String, String>,
    seen: BTreeSet<String>,
    moves: BTreeMap<VmKey, u32>,
    begun: BTreeMap<VmKey, Vec<i64>>,
    ended: BTreeMap<VmKey, i64>,
    broken: Vec<String>,
    told: BTreeSet<String>,
    sleepers: Sleepers,
}

/// A VM as it is.
struct Vm<'a> {
    node: &'a str,
    vcpus: u64,
    never: bool,
}

pub(super) fn millis(object: &Value, pointer: &str) -> Option<i64> {
    text(object, pointer).parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond)
}

impl Watchdog {
    /// A watchdog that knows the nodes: by name, with their cores and their class, `shared` or `dedicated`.
    #[must_use]
    pub fn new(nodes: impl IntoIterator<Item = (String, u64, String)>) -> Self {
        let mut watchdog = Self::default();
        for (name, cores, class) in nodes {
            watchdog.cores.insert(name.clone(), cores);
            watchdog.classes.insert(name, class);
        }
        watchdog
    }

    /// A watchdog that knows the scenario's nodes.
    #[must_use]
    pub(super) fn of(scenario: &Scenario) -> Self {
        Self::new(scenario.nodes.iter().map(|node| {
            let class = node.labels.get(CLASS_LABEL).cloned().unwrap_or_default();
            (node.name.clone(), u64::from(node.cores), class)
        }))
    }

    /// What was broken so far.
    #[must_use]
    pub fn broken(&self) -> &[String] {
        &self.broken
    }

    /// How often each VM was asked to move.
    #[must_use]
    pub fn moves(&self) -> &BTreeMap<VmKey, u32> {
        &self.moves
    }

    fn note(&mut self, what: String, now: Timestamp) {
        if self.told.insert(what.clone()) {
            self.broken.push(format!("{now}: {what}"));
        }
    }

    /// One look.
    pub fn look(&mut self, view: &dyn Objects, now: Timestamp) {
        let mut vms = BTreeMap::new();
        for vmi in view.all("kubevirt.io", "virtualmachineinstances") {
            let key = VmKey::new(text(vmi, "/metadata/namespace"), text(vmi, "/metadata/name"));
            let cpu = |field: &str| at(vmi, field).and_then(Value::as_u64).unwrap_or(1);
            if let Some(ended) = millis(vmi, "/status/migrationState/endTimestamp") {
                self.ended.insert(key.clone(), ended);
            }
            vms.insert(
                key,
                Vm {
                    node: text(vmi, "/status/nodeName"),
                    vcpus: cpu("/spec/domain/cpu/cores")
                        * cpu("/spec/domain/cpu/sockets")
                        * cpu("/spec/domain/cpu/threads"),
                    never: text(vmi, "/metadata/labels/miyako.dev~1consolidate") == "never"
                        || text(vmi, "/metadata/annotations/miyako.dev~1consolidate") == "never",
                },
            );
        }
        self.judge_dedicated(&vms, now);
        for broken in self.sleepers.look(view, now) {
            self.note(broken, now);
        }
        let mut ours_unfinished = 0;
        let mut moving: BTreeMap<&str, usize> = BTreeMap::new();
        let mut present = BTreeSet::new();
        for migration in view.all("kubevirt.io", "virtualmachineinstancemigrations") {
            let phase = text(migration, "/status/phase");
            let unfinished = !matches!(phase, "Succeeded" | "Failed");
            let plan = at(migration, "/metadata/labels").and_then(|labels| labels.get(ours::PLAN));
            if plan.is_none() {
                continue;
            }
            let key = VmKey::new(text(migration, "/metadata/namespace"), text(migration, "/spec/vmiName"));
            let target = text(migration, "/spec/addedNodeSelector/kubernetes.io~1hostname");
            if unfinished {
                ours_unfinished += 1;
                *moving.entry(target).or_default() += 1;
                if let Some(vm) = vms.get(&key).filter(|vm| vm.node != target) {
                    *moving.entry(vm.node).or_default() += 1;
                }
            }
            let aborted = at(migration, "/metadata/deletionTimestamp").is_some();
            if aborted && unfinished && text(migration, "/status/migrationState/mode") == "PostCopy" {
                self.note(format!("rule 7: the post-copy migration of {key} was deleted"), now);
            }
            let uid = text(migration, "/metadata/uid");
            present.insert(uid);
            if !self.seen.contains(uid) {
                self.seen.insert(uid.to_owned());
                let created = millis(migration, "/metadata/creationTimestamp").unwrap_or_else(|| now.millis());
                self.judge_new(&key, vms.get(&key), target, created, now);
            }
        }
        if self.seen.len() > present.len() {
            self.seen.retain(|uid| present.contains(uid.as_str()));
        }
        if ours_unfinished > OUR_SLOTS {
            self.note(format!("rule 4: {ours_unfinished} migrations of ours at once"), now);
        }
        for (node, count) in moving {
            if count > 1 && self.classes.get(node).is_some_and(|class| class == "shared") {
                self.note(format!("rule 6: {count} migrations at once from and to {node}"), now);
            }
        }
    }

    /// One look at what no API server shows.
    pub(super) fn look_at_machines(&mut self, machines: &Machines, now: Timestamp) {
        for slept in machines.slept_with_work() {
            self.note(format!("rule 3: {slept}"), now);
        }
    }

    fn judge_dedicated(&mut self, vms: &BTreeMap<VmKey, Vm<'_>>, now: Timestamp) {
        let mut owned: BTreeMap<&str, u64> = BTreeMap::new();
        for vm in vms.values() {
            *owned.entry(vm.node).or_default() += vm.vcpus;
        }
        for (node, vcpus) in owned {
            let dedicated = self.classes.get(node).is_some_and(|class| class == "dedicated");
            let cores = self.cores.get(node).copied().unwrap_or(0);
            if dedicated && vcpus > cores {
                self.note(format!("rule 5: {vcpus} vCPUs on the {cores} cores of {node}"), now);
            }
        }
    }

    fn judge_new(&mut self, key: &VmKey, vm: Option<&Vm<'_>>, target: &str, created: i64, now: Timestamp) {
        *self.moves.entry(key.clone()).or_default() += 1;
        if vm.is_some_and(|vm| vm.never) {
            self.note(format!("rule 2: {key} opted out and was moved"), now);
        }
        let roles = vm.and_then(|vm| Some((self.classes.get(vm.node)?, self.classes.get(target)?)));
        if roles.is_some_and(|(from, to)| from == to && vm.is_some_and(|vm| vm.node != target)) {
            self.note(format!("{key} was moved to {target}, a node of the same role"), now);
        }
        if let Some(ended) = self.ended.get(key).filter(|ended| created - **ended < SETTLE_MILLIS && created > **ended)
        {
            let after = created - ended;
            self.note(format!("rule 2: {key} was moved again {after} ms after its last migration"), now);
        }
        let begun = self.begun.entry(key.clone()).or_default();
        begun.retain(|at| created - at < DAY_MILLIS);
        begun.push(created);
        if begun.len() > MOVES_PER_DAY {
            let count = begun.len();
            self.note(format!("rule 4: {key} was moved {count} times within a day"), now);
        }
    }
}
