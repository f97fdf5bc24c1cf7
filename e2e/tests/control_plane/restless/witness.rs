//! Watches the cluster from the outside and judges what it sees by the safety rules (`SPECIFICATION.md`).
//!
//! Watches of different kinds are not in step with each other, but every change has a resourceVersion, and the API server
//! gives them out in one order for all kinds. So what arrives is held back for a moment and then gone through in that order:
//! an order to sleep is judged by exactly the cluster in which it was written.

use super::bmc::Bmcs;
use super::stage::{CPUS, DEDICATED};
use super::verdict::Verdict;
use futures::StreamExt as _;
use jiff::Timestamp as Moment;
use kube::api::{ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use miyako::sim::simulation::{Objects, Watchdog};
use miyako_api::names::{marks, ours};
use miyako_core::model::Timestamp;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// What is watched: group, version, kind, plural.
const KINDS: [(&str, &str, &str, &str); 6] = [
    ("", "v1", "Node", "nodes"),
    ("", "v1", "Pod", "pods"),
    ("kubevirt.io", "v1", "VirtualMachineInstance", "virtualmachineinstances"),
    ("kubevirt.io", "v1", "VirtualMachineInstanceMigration", "virtualmachineinstancemigrations"),
    ("miyako.dev", "v1alpha1", "NodePower", "nodepowers"),
    ("miyako.dev", "v1alpha1", "ConsolidationPlan", "consolidationplans"),
];
/// So long a change is held back: others that came before it have arrived by then.
const HELD_BACK: Duration = Duration::from_secs(2);
/// The operator's last look before an order is at most three seconds old when it gives the order, and a pod's binding
/// is dated to the second.
const LOOK_MILLIS: i64 = 4_000;

/// Whether a pod keeps its node awake: not a DaemonSet's, not a static one, and not over.
pub(super) fn keeps_awake(pod: &Value) -> bool {
    let owners = pod.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    let serves_its_node = owners.is_some_and(|owners| owners.iter().any(|owner| owner["kind"] == "DaemonSet"));
    let is_static = pod.pointer("/metadata/annotations/kubernetes.io~1config.mirror").is_some();
    let over = matches!(pod.pointer("/status/phase").and_then(Value::as_str), Some("Succeeded" | "Failed"));
    !serves_its_node && !is_static && !over
}

/// What people have put on nodes, by node and by the resourceVersions between which it is there.
#[derive(Debug, Clone, Default)]
pub(super) struct Marked(Arc<Mutex<Vec<Mark>>>);

#[derive(Debug, Clone)]
struct Mark {
    node: String,
    what: Put,
    from: u64,
    until: Option<u64>,
}

/// What people put on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Put {
    /// A cordon.
    Cordon,
    /// The annotation that keeps it awake.
    Pin,
    /// A taint of theirs.
    Taint,
}

/// The key of the taint that people put on nodes.
pub(super) const TAINT: &str = "example.org/maintenance";

impl Put {
    const ALL: [Self; 3] = [Self::Cordon, Self::Pin, Self::Taint];

    fn is_on(self, node: &Value) -> bool {
        match self {
            Self::Cordon => node.pointer("/spec/unschedulable") == Some(&json!(true)),
            Self::Pin => {
                node.pointer(&format!("/metadata/annotations/{}", marks::KEEP_AWAKE.replace('/', "~1"))).is_some()
            }
            Self::Taint => {
                let taints = node.pointer("/spec/taints").and_then(Value::as_array);
                taints.is_some_and(|taints| taints.iter().any(|taint| taint["key"] == TAINT))
            }
        }
    }
}

impl Marked {
    /// It is there since this version of the node.
    pub(super) fn put(&self, node: &str, what: Put, version: u64) {
        let mark = Mark { node: node.to_owned(), what, from: version, until: None };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(mark);
    }

    /// It is gone with this version of the node.
    pub(super) fn take(&self, node: &str, what: Put, version: u64) {
        for mark in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            if mark.node == node && mark.what == what && mark.until.is_none() {
                mark.until = Some(version);
            }
        }
    }

    fn stands(&self, node: &str, what: Put, version: u64) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|mark| {
            mark.node == node
                && mark.what == what
                && mark.from <= version
                && mark.until.is_none_or(|until| version < until)
        })
    }
}

type Key = (String, String);

/// A change as a watch brought it.
enum Change {
    Put(Value),
    Gone(Key),
    /// A new list: whatever is not in it is gone.
    Only(BTreeSet<Key>),
}

struct Arrived {
    version: u64,
    plural: &'static str,
    at: Moment,
    seen: Instant,
    change: Change,
}

/// The cluster as of one version.
#[derive(Debug, Default)]
struct Cluster(BTreeMap<&'static str, BTreeMap<Key, Value>>);

impl Objects for Cluster {
    fn get(&self, _: &str, plural: &str, namespace: &str, name: &str) -> Option<&Value> {
        self.0.get(plural)?.get(&(namespace.to_owned(), name.to_owned()))
    }

    fn all<'a>(&'a self, _: &str, plural: &str) -> Box<dyn Iterator<Item = &'a Value> + 'a> {
        Box::new(self.0.get(plural).into_iter().flat_map(BTreeMap::values))
    }
}

/// Watches and judges until dropped.
pub(super) struct Witness {
    pub(super) client: Client,
    pub(super) watchdog: Watchdog,
    pub(super) marked: Marked,
    pub(super) bmcs: Bmcs,
    pub(super) verdict: Arc<Verdict>,
}

/// What is remembered of each node and pod.
#[derive(Default)]
struct Memory {
    cluster: Cluster,
    /// The newest order of each node, by the NodePower's uid.
    orders: BTreeMap<Key, i64>,
    phases: BTreeMap<String, String>,
    failed: BTreeSet<(String, i64)>,
    tests: BTreeSet<(String, String)>,
    /// When each pod came to its node, in milliseconds.
    bound: BTreeMap<String, i64>,
    /// Since when a node has a person's taint, in milliseconds. Cordons and pins are the watchdog's.
    tainted: BTreeMap<String, i64>,
    waited: BTreeSet<String>,
    /// Where each VM is and since when, in milliseconds.
    vms: BTreeMap<String, (String, i64)>,
    moves: BTreeSet<String>,
    told: usize,
    looked_at: i64,
}

impl Witness {
    pub(super) async fn run(mut self) {
        let (sender, mut arriving) = mpsc::unbounded_channel();
        let mut watches = tokio::task::JoinSet::new();
        for (group, version, kind, plural) in KINDS {
            let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
            let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource);
            watches.spawn(watch(api, plural, sender.clone()));
        }
        let mut waiting: BTreeMap<(u64, usize), Arrived> = BTreeMap::new();
        let (mut memory, mut number) = (Memory::default(), 0);
        loop {
            tokio::select! {
                Some(arrived) = arriving.recv() => {
                    number += 1;
                    waiting.insert((arrived.version, number), arrived);
                }
                () = tokio::time::sleep(Duration::from_millis(200)) => {}
            }
            // What came late to one watch holds back what is newer, never what is older.
            while waiting.first_key_value().is_some_and(|(_, first)| first.seen.elapsed() >= HELD_BACK) {
                if let Some((_, arrived)) = waiting.pop_first() {
                    self.take(&mut memory, arrived);
                }
            }
        }
    }

    fn take(&mut self, memory: &mut Memory, arrived: Arrived) {
        let Arrived { version, plural, at, change, .. } = arrived;
        let objects = memory.cluster.0.entry(plural).or_default();
        let mut ordered = false;
        match change {
            Change::Only(keys) => objects.retain(|key, _| keys.contains(key)),
            Change::Gone(key) => drop(objects.remove(&key)),
            Change::Put(object) => {
                let key = key_of(&object);
                objects.insert(key.clone(), object);
                let object = memory.cluster.0[plural][&key].clone();
                match plural {
                    "nodes" => {
                        self.judge_marks(&object, version);
                        note_taint(memory, &object, at);
                    }
                    "pods" => self.note_pod(memory, &object, at),
                    "nodepowers" => ordered = self.judge_power(memory, &object),
                    "virtualmachineinstances" => note_vm(memory, &object, at),
                    "virtualmachineinstancemigrations" => self.judge_move(memory, &object, at),
                    _ => {}
                }
            }
        }
        let now = at.as_millisecond();
        if ordered || now - memory.looked_at >= 1_000 {
            memory.looked_at = now;
            self.watchdog.look(&memory.cluster, Timestamp::from_millis(now));
            for broken in &self.watchdog.broken()[memory.told..] {
                self.verdict.broken(broken.clone());
            }
            memory.told = self.watchdog.broken().len();
            let moves = self.watchdog.moves().values().sum();
            self.verdict.count(|figures| figures.moves = moves);
        }
    }

    /// What people put on a node is there, and nobody else put any.
    fn judge_marks(&self, node: &Value, version: u64) {
        let name = text(node, "/metadata/name");
        for what in Put::ALL {
            match (what.is_on(node), self.marked.stands(name, what, version)) {
                (false, true) => self.verdict.broken(format!("somebody took a person's {what:?} off {name}")),
                (true, false) => self.verdict.broken(format!("somebody else put a {what:?} on {name}")),
                _ => {}
            }
        }
    }

    fn note_pod(&self, memory: &mut Memory, pod: &Value, at: Moment) {
        let uid = text(pod, "/metadata/uid");
        if pod.pointer("/spec/nodeName").is_some() && !memory.bound.contains_key(uid) {
            memory.bound.insert(uid.to_owned(), at.as_millisecond());
        }
        let runs = text(pod, "/status/phase") == "Running";
        if runs && text(pod, "/metadata/name").starts_with("work-") && memory.waited.insert(uid.to_owned()) {
            let created = millis(pod, "/metadata/creationTimestamp").unwrap_or_default();
            let wait = u64::try_from(at.as_millisecond() - created).unwrap_or_default();
            self.verdict.count(|figures| figures.waits.push(Duration::from_millis(wait)));
        }
    }

    /// Rule 5 for what is ours to answer for: a dedicated node has a core for each vCPU when we bring a VM to it. The
    /// scheduler and evacuations may bring more.
    fn judge_move(&self, memory: &mut Memory, migration: &Value, at: Moment) {
        let ours = migration.pointer(&format!("/metadata/labels/{}", ours::PLAN.replace('/', "~1"))).is_some();
        let target = text(migration, "/spec/addedNodeSelector/kubernetes.io~1hostname");
        let uid = text(migration, "/metadata/uid");
        if !ours || !DEDICATED.contains(&target) || !memory.moves.insert(uid.to_owned()) {
            return;
        }
        let moved = text(migration, "/spec/vmiName");
        let mut vcpus = 0;
        for vm in memory.cluster.all("kubevirt.io", "virtualmachineinstances") {
            let there = memory.vms.get(text(vm, "/metadata/uid"));
            let known = there.is_some_and(|(node, since)| node == target && since + LOOK_MILLIS < at.as_millisecond());
            if known || text(vm, "/metadata/name") == moved {
                vcpus += vm.pointer("/spec/domain/cpu/cores").and_then(Value::as_u64).unwrap_or(1);
            }
        }
        if vcpus > u64::from(CPUS) {
            self.verdict
                .broken(format!("rule 5: {moved} was moved to {target}, whose {CPUS} cores are for {vcpus} vCPUs"));
        }
    }

    /// Returns whether it brings an order to sleep.
    fn judge_power(&self, memory: &mut Memory, power: &Value) -> bool {
        let name = text(power, "/metadata/name").to_owned();
        let phase = text(power, "/status/phase").to_owned();
        let mood = self.bmcs.mood(&name);
        let before = memory.phases.insert(name.clone(), phase.clone());
        if phase == "Quarantined" && before.as_deref() != Some("Quarantined") {
            self.verdict.count(|figures| *figures.quarantined.entry(mood).or_default() += 1);
        }
        let told = number(power, "/status/waker/generation");
        if text(power, "/status/waker/outcome") == "Failed" && memory.failed.insert((name.clone(), told)) {
            self.verdict.count(|figures| *figures.failed.entry(mood).or_default() += 1);
        }
        let tested = text(power, "/status/lastWakeTest/at").to_owned();
        if !tested.is_empty() && memory.tests.insert((name.clone(), tested)) {
            let passed = power.pointer("/status/lastWakeTest/succeeded") == Some(&json!(true));
            self.verdict.count(|figures| {
                figures.tests.0 += 1;
                figures.tests.1 += u32::from(passed);
            });
        }
        let generation = number(power, "/spec/generation");
        let key = (name.clone(), text(power, "/metadata/uid").to_owned());
        let newest = memory.orders.insert(key, generation);
        if newest.is_some_and(|newest| newest > generation) {
            self.verdict.broken(format!("the orders of {name} went back from {newest:?} to {generation}"));
        }
        if newest == Some(generation) {
            return false;
        }
        if text(power, "/spec/desired") != "Suspended" {
            self.verdict.count(|figures| figures.wake_orders += 1);
            return false;
        }
        self.verdict.count(|figures| figures.orders += 1);
        if phase != "Suspending" {
            self.verdict.broken(format!("{name} was ordered to sleep while it is {phase}"));
        }
        let issued = millis(power, "/spec/issuedAt").unwrap_or_default();
        if memory.tainted.get(&name).is_some_and(|since| since + LOOK_MILLIS < issued) {
            self.verdict.broken(format!("rule 3: {name} was ordered to sleep while a person's taint is on it"));
        }
        for pod in memory.cluster.all("", "pods").filter(|pod| text(pod, "/spec/nodeName") == name) {
            let there = memory.bound.get(text(pod, "/metadata/uid")).is_some_and(|at| at + LOOK_MILLIS < issued);
            if there && keeps_awake(pod) {
                let pod = text(pod, "/metadata/name");
                self.verdict.broken(format!("rule 3: {name} was ordered to sleep with {pod} on it"));
            }
        }
        true
    }
}

fn note_vm(memory: &mut Memory, vm: &Value, at: Moment) {
    let (uid, node) = (text(vm, "/metadata/uid").to_owned(), text(vm, "/status/nodeName"));
    if memory.vms.get(&uid).is_none_or(|(before, _)| before != node) {
        memory.vms.insert(uid, (node.to_owned(), at.as_millisecond()));
    }
}

fn note_taint(memory: &mut Memory, node: &Value, at: Moment) {
    let name = text(node, "/metadata/name");
    if Put::Taint.is_on(node) {
        memory.tainted.entry(name.to_owned()).or_insert_with(|| at.as_millisecond());
    } else {
        memory.tainted.remove(name);
    }
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn number(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or_default()
}

fn millis(object: &Value, pointer: &str) -> Option<i64> {
    text(object, pointer).parse::<Moment>().ok().map(Moment::as_millisecond)
}

fn key_of(object: &Value) -> Key {
    (text(object, "/metadata/namespace").to_owned(), text(object, "/metadata/name").to_owned())
}

/// Passes on what one watch brings.
async fn watch(api: Api<DynamicObject>, plural: &'static str, to: mpsc::UnboundedSender<Arrived>) {
    let changes = watcher(api, watcher::Config::default()).default_backoff();
    let mut changes = std::pin::pin!(changes);
    let (mut listed, mut newest) = (BTreeSet::new(), 0);
    while let Some(change) = changes.next().await {
        let change = match change {
            Ok(watcher::Event::Apply(object)) => put(object, &mut newest),
            Ok(watcher::Event::InitApply(object)) => {
                listed.insert((object.namespace().unwrap_or_default(), object.name_any()));
                put(object, &mut newest)
            }
            Ok(watcher::Event::Delete(object)) => {
                newest = newest.max(version_of(&object));
                Some(Change::Gone((object.namespace().unwrap_or_default(), object.name_any())))
            }
            Ok(watcher::Event::Init) => {
                listed.clear();
                None
            }
            Ok(watcher::Event::InitDone) => Some(Change::Only(std::mem::take(&mut listed))),
            Err(error) => {
                tracing::warn!(%error, plural, "the witness's watch begins again");
                None
            }
        };
        let Some(change) = change else { continue };
        let version = match &change {
            Change::Put(object) => text(object, "/metadata/resourceVersion").parse().unwrap_or(newest),
            Change::Gone(_) | Change::Only(_) => newest,
        };
        if to.send(Arrived { version, plural, at: Moment::now(), seen: Instant::now(), change }).is_err() {
            return;
        }
    }
}

fn put(mut object: DynamicObject, newest: &mut u64) -> Option<Change> {
    *newest = (*newest).max(version_of(&object));
    object.metadata.managed_fields = None;
    serde_json::to_value(object).ok().map(Change::Put)
}

/// The resourceVersion as a number. Since Kubernetes 1.35 its order is promised; before, it was so all the same.
pub(super) fn version_of(object: &impl kube::ResourceExt) -> u64 {
    object.resource_version().and_then(|version| version.parse().ok()).unwrap_or_default()
}
