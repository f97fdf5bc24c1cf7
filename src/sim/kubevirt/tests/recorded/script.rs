//! The scripts: what people, guests and outages do, step by step.

use super::{super::*, trace::Follower};
use crate::sim::kubevirt::{Dirtying, Fault, Timing};
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use miyako_core::model::VmKey;
use serde::Deserialize;

/// A script and what must come of it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Expectation {
    /// The recording that it was taken from.
    pub(super) recording: String,
    /// What happens in it.
    pub(super) what: String,
    /// The namespace, as the recording's texts name it.
    pub(super) namespace: String,
    /// How many nodes there are: n000, n001, …
    #[serde(default = "six")]
    nodes: usize,
    /// Labels that all of them have.
    #[serde(default)]
    node_labels: std::collections::BTreeMap<String, String>,
    /// The CPU model that all of them have.
    host_model: Option<String>,
    /// How many seconds a guest takes to shut down.
    #[serde(default)]
    shutdown: u64,
    /// `spec.configuration.migrations` of the KubeVirt CR.
    #[serde(default)]
    migrations: std::collections::BTreeMap<String, Value>,
    script: Vec<Step>,
    /// Lines that come one after the other, perhaps with others between them; each list for itself.
    pub(super) in_order: Vec<Vec<String>>,
    /// Lines that never come.
    #[serde(default)]
    pub(super) never: Vec<String>,
    /// Pairs of lines of which the second does not come before the first.
    #[serde(default)]
    pub(super) not_before: Vec<[String; 2]>,
    /// Requests that are refused, in order: code and text.
    #[serde(default)]
    pub(super) refused: Vec<(u64, String)>,
}

fn six() -> usize {
    6
}

fn yes() -> bool {
    true
}

/// One step.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
enum Step {
    /// A VM that runs on a node.
    Vm {
        name: String,
        node: String,
        eviction: Option<String>,
        #[serde(default = "yes")]
        migratable: bool,
        /// A VirtualMachine keeps it alive.
        #[serde(default)]
        owned: bool,
        /// In MiB.
        memory: Option<u64>,
        #[serde(default)]
        labels: std::collections::BTreeMap<String, String>,
        #[serde(default)]
        more: Value,
    },
    /// A VMIM.
    Move {
        name: String,
        vm: String,
        to: Option<String>,
        #[serde(default)]
        annotations: std::collections::BTreeMap<String, String>,
    },
    /// Any object.
    Create(Value),
    /// A merge patch by a cluster admin: apiVersion, kind, name, patch.
    Patch(String, String, String, Value),
    /// apiVersion, kind, name.
    Delete(String, String, String),
    /// A launcher is evicted: `vm1-1`.
    Evict(String),
    /// Until a line has come.
    Until(String),
    /// Seconds.
    Sleep(f64),
    /// The next copy of a VM hangs for ever.
    Hang(String),
    /// The next copy of a VM fails after a second, with this reason.
    Fail(String, String),
    /// The next copy of a VM fails in post-copy, with this reason.
    Lose(String, String),
    /// The target of a VM's next move does not get ready.
    Deaf(String),
    /// What hangs or is deaf works from now on.
    Heal(String),
    /// The VM writes so fast that a copy by pre-copy does not end.
    Busy(String),
    /// A part of KubeVirt goes: `virt-controller`, `virt-api`.
    Away(String),
    /// It is back.
    Back(String),
    /// `true`: the node takes no more pods.
    Cordon(String, bool),
    /// The node's kubelet and virt-handler fall silent (`false`), or are back.
    Answers(String, bool),
}

/// A played script.
pub(super) struct Played {
    pub(super) follower: Follower,
    pub(super) refusals: Vec<(u64, String)>,
}

struct Player<'a> {
    world: World,
    namespace: &'a str,
    played: Played,
}

/// Plays a script in memory. All chance follows from the seed.
pub(super) async fn play(expected: &Expectation, seed: u64) -> Played {
    let timing = Timing { shutdown: Duration::from_secs(expected.shutdown), ..Timing::default() };
    let settings = WorldSettings {
        seed,
        kubevirt: timing,
        configuration: expected.migrations.clone(),
        ..WorldSettings::default()
    };
    let world = World::start(settings).await.unwrap();
    for index in 0..expected.nodes {
        let mut node = NodeSpec::new(&format!("n{index:03}"), 16, Bytes::gib(64));
        node.labels.clone_from(&expected.node_labels);
        if let Some(model) = &expected.host_model {
            node.cpu_model.clone_from(model);
        }
        world.add_node(&node).await.unwrap();
    }
    let follower = Follower::of(&world, &expected.namespace).await;
    let played = Played { follower, refusals: Vec::new() };
    let mut player = Player { world, namespace: &expected.namespace, played };
    for step in &expected.script {
        player.step(step).await;
        player.played.follower.catch_up();
    }
    player.played
}

impl Player<'_> {
    fn api(&self, api_version: &str, kind: &str) -> Api<DynamicObject> {
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        match kind {
            "MigrationPolicy" | "Node" => {
                Api::all_with(self.world.server.client("script"), &ApiResource { plural: plural(kind), ..resource })
            }
            _ => Api::namespaced_with(self.world.server.client("script"), self.namespace, &resource),
        }
    }

    fn note<T>(&mut self, answer: kube::Result<T>) {
        self.played.follower.catch_up();
        match answer {
            Err(kube::Error::Api(status)) => {
                let text = self.played.follower.trace.clean(&status.message);
                self.played.refusals.push((u64::from(status.code), text));
            }
            Err(other) => panic!("not the API server's: {other}"),
            Ok(_) => {}
        }
    }

    async fn create(&mut self, object: Value) {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let api = self.api(&text("/apiVersion"), &text("/kind"));
        let answer = api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await;
        self.note(answer);
    }

    fn key(&self, vm: &str) -> VmKey {
        VmKey::new(self.namespace, vm)
    }

    fn fault(&self, vm: &str, fault: Fault) {
        self.world.hands.lock().unwrap().break_vm(self.key(vm), fault);
    }

    async fn step(&mut self, step: &Step) {
        let soon = Duration::from_secs(1);
        match step {
            Step::Vm { name, node, eviction, migratable, owned, memory, labels, more } => {
                let mut spec = VmSpec::new(self.namespace, name, 1, Bytes::mib(memory.unwrap_or(512)));
                spec.eviction_strategy = Some(eviction.clone().unwrap_or_else(|| "LiveMigrate".into()));
                (spec.migratable, spec.owned, spec.cpu_model) = (*migratable, *owned, None);
                spec.labels.clone_from(labels);
                if !more.is_null() {
                    spec.more = more.clone();
                }
                self.world.add_vm(&spec, node).await.unwrap();
            }
            Step::Move { name, vm, to, annotations } => {
                let mut spec = json!({"vmiName": vm});
                if let Some(to) = to {
                    spec["addedNodeSelector"] = json!({HOSTNAME: to});
                }
                let object = json!({
                    "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstanceMigration",
                    "metadata": {"name": name, "annotations": annotations}, "spec": spec,
                });
                self.create(object).await;
            }
            Step::Create(object) => self.create(object.clone()).await,
            Step::Patch(version, kind, name, patch) => {
                let given = self.given(kind, name);
                let api = self.api(version, kind);
                let answer = api.patch(&given, &PatchParams::default(), &Patch::Merge(patch)).await;
                self.note(answer);
            }
            Step::Delete(version, kind, name) => {
                let given = self.given(kind, name);
                let answer = self.api(version, kind).delete(&given, &DeleteParams::default()).await;
                self.note(answer);
            }
            Step::Evict(pod) => {
                let name = self.played.follower.trace.given(&format!("virt-launcher-{pod}"));
                let api: Api<Pod> = Api::namespaced(self.world.server.client("script"), self.namespace);
                let answer = api.evict(&name, &kube::api::EvictParams::default()).await;
                self.note(answer);
            }
            Step::Until(line) => self.until(line).await,
            Step::Sleep(seconds) => {
                // In small steps, so that a watch is read before it ends.
                let end = tokio::time::Instant::now() + Duration::from_secs_f64(*seconds);
                while tokio::time::Instant::now() < end {
                    tokio::time::sleep(Duration::from_millis(100).min(end - tokio::time::Instant::now())).await;
                    self.played.follower.catch_up();
                }
            }
            Step::Hang(vm) => self.fault(vm, Fault::Hang),
            Step::Fail(vm, reason) => self.fault(vm, Fault::Fail { after: soon, reason: reason.clone() }),
            Step::Lose(vm, reason) => {
                let after = Duration::from_millis(200);
                self.fault(vm, Fault::FailInPostCopy { after, reason: reason.clone() });
            }
            Step::Deaf(vm) => self.fault(vm, Fault::TargetNeverReady),
            Step::Heal(vm) => self.world.hands.lock().unwrap().heal(&self.key(vm), (self.world.now)()),
            Step::Busy(vm) => {
                let dirtying = Dirtying { rate: 500e6, working_set: Bytes::gib(1) };
                self.world.hands.lock().unwrap().set_dirtying(self.key(vm), dirtying);
            }
            Step::Away(part) | Step::Back(part) => {
                let away = matches!(step, Step::Away(_));
                match part.as_str() {
                    "virt-controller" => self.world.outages.set_virt_controller_away(away),
                    "virt-api" => self.world.outages.set_virt_api_away(away),
                    other => panic!("{other} is no part of KubeVirt"),
                }
            }
            Step::Cordon(node, cordoned) => {
                let patch = json!({"spec": {"unschedulable": cordoned}});
                let answer = self.api("v1", "Node").patch(node, &PatchParams::default(), &Patch::Merge(patch)).await;
                self.note(answer);
            }
            Step::Answers(node, answers) => {
                let status = if *answers { "True" } else { "Unknown" };
                let patch = json!({"status": {"conditions": [{"type": "Ready", "status": status}]}});
                let api: Api<k8s_openapi::api::core::v1::Node> = Api::all(self.world.admin.clone());
                api.patch_status(node, &PatchParams::default(), &Patch::Strategic(patch)).await.unwrap();
            }
        }
    }

    /// The name that stands behind the one in a script.
    fn given(&self, kind: &str, name: &str) -> String {
        let name = if kind == "Pod" { format!("virt-launcher-{name}") } else { name.to_owned() };
        self.played.follower.trace.given(&name)
    }

    async fn until(&mut self, line: &str) {
        // Twenty minutes of the world's time.
        for _ in 0..60_000 {
            self.played.follower.catch_up();
            if self.played.follower.trace.find(line, 0).is_some() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("never came to pass: {line}\n{}", self.played.follower.trace);
    }
}

fn plural(kind: &str) -> String {
    match kind {
        "MigrationPolicy" => "migrationpolicies".into(),
        other => format!("{}s", other.to_lowercase()),
    }
}
