//! What happens: loads come and go, processes are killed, BMCs have moods, people do things to nodes.

use super::bmc::{Bmcs, Mood};
use super::machines::Machine;
use super::stage::{DEDICATED, SHARED, Stage, WORK};
use super::verdict::Verdict;
use super::witness::{Marked, Put, TAINT, version_of};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, EvictParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use miyako::sim::kubevirt::create::VmSpec;
use miyako_api::NodePower;
use miyako_api::kubevirt::VirtualMachineInstance;
use miyako_api::names::marks;
use miyako_api::node_power::PowerPhase;
use miyako_core::model::Bytes;
use miyako_e2e::control_plane::objects;
use rand::RngExt as _;
use rand::seq::IndexedRandom as _;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The most VMs and the least.
const VMS: std::ops::Range<usize> = 3..8;
/// How often BMCs change their mood.
const MOODS_LAST: u64 = 90;
/// A killed operator or waker is started again after this time.
const RESTART: Duration = Duration::from_secs(3);

/// Something that ends.
struct Passing<T> {
    what: T,
    over: Instant,
}

/// Does it all, from one seed.
pub(super) struct Mishaps {
    random: ChaCha8Rng,
    bmcs: Bmcs,
    marked: Marked,
    verdict: Arc<Verdict>,
    pods: Vec<Passing<String>>,
    marks: Vec<Passing<(Put, String)>>,
    dead: Vec<Passing<Dead>>,
    frozen: Vec<Passing<usize>>,
    vms: Vec<String>,
    made: u32,
}

/// Who was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dead {
    Operator(usize),
    Waker(usize),
}

impl Mishaps {
    pub(super) fn new(seed: u64, stage: &Stage) -> Self {
        Self {
            random: ChaCha8Rng::seed_from_u64(seed),
            bmcs: stage.bmcs.clone(),
            marked: stage.marked.clone(),
            verdict: Arc::clone(&stage.verdict),
            pods: Vec::new(),
            marks: Vec::new(),
            dead: Vec::new(),
            frozen: Vec::new(),
            vms: Vec::new(),
            made: 0,
        }
    }

    /// Whether something happens that does so once in so many seconds.
    fn once_in(&mut self, seconds: u32) -> bool {
        self.random.random_ratio(1, seconds)
    }

    fn after(&mut self, seconds: std::ops::Range<u64>) -> Instant {
        Instant::now() + Duration::from_secs(self.random.random_range(seconds))
    }

    /// VMs to begin with.
    pub(super) async fn begin(&mut self, stage: &Stage) -> anyhow::Result<()> {
        for _ in 0..5 {
            self.make_vm(stage).await?;
        }
        Ok(())
    }

    /// One second of it.
    pub(super) async fn second(&mut self, stage: &mut Stage, second: u64) -> anyhow::Result<()> {
        self.end_what_is_over(stage).await?;
        if second.is_multiple_of(MOODS_LAST) {
            self.change_moods(stage);
        }
        self.kill(stage)?;
        self.load(stage).await?;
        let falling = falling_asleep(stage).await?;
        self.people(stage, falling.as_deref()).await?;
        if let Some(node) = falling
            && self.once_in(60)
        {
            self.verdict.done("pods that landed on a node falling asleep");
            self.make_pod(stage, json!({ "nodeName": node })).await?;
        }
        Ok(())
    }

    /// Whatever goes wrong ends, and people take back what they did. Loads stay.
    pub(super) async fn end(&mut self, stage: &mut Stage) -> anyhow::Result<()> {
        for machine in &stage.machines {
            self.bmcs.set(&machine.node, Mood::Works);
            machine.obeys(true);
        }
        let now = Instant::now();
        self.marks.iter_mut().for_each(|mark| mark.over = now);
        self.dead.iter_mut().for_each(|dead| dead.over = now);
        self.frozen.iter_mut().for_each(|frozen| frozen.over = now);
        self.pods.iter_mut().for_each(|pod| pod.over = now + Duration::from_hours(24));
        self.end_what_is_over(stage).await
    }

    async fn end_what_is_over(&mut self, stage: &mut Stage) -> anyhow::Result<()> {
        let pods: Api<Pod> = Api::namespaced(stage.scene.admin(), stage.scene.namespace());
        for name in over(&mut self.pods) {
            // A drain may have been there first.
            if pods.get_opt(&name).await?.is_some() {
                pods.delete(&name, &DeleteParams::default()).await?;
            }
        }
        for (what, node) in over(&mut self.marks) {
            put(stage, &node, what, false, &self.marked).await?;
        }
        for index in over(&mut self.frozen) {
            // It may have been killed meanwhile.
            let _ = stage.replicas[index].process().resume();
        }
        for dead in over(&mut self.dead) {
            match dead {
                Dead::Operator(index) => {
                    let scene = Arc::clone(&stage.scene);
                    stage.replicas[index].start_again(&scene)?;
                }
                Dead::Waker(index) => stage.start_waker(index)?,
            }
        }
        Ok(())
    }

    fn change_moods(&mut self, stage: &Stage) {
        for machine in &stage.machines {
            let mood = match self.random.random_range(0..20) {
                0 => Mood::Slow,
                1 => Mood::Boots,
                2 => Mood::Fails,
                3 => Mood::Hangs,
                4 => Mood::Lies,
                5 => Mood::WrongPassword,
                _ => Mood::Works,
            };
            self.bmcs.set(&machine.node, mood);
            machine.obeys(self.random.random_range(0..12) > 0);
        }
    }

    fn kill(&mut self, stage: &mut Stage) -> anyhow::Result<()> {
        let over = Instant::now() + RESTART;
        if self.once_in(100) {
            let index = self.random.random_range(0..stage.replicas.len());
            if !self.dead.iter().any(|dead| dead.what == Dead::Operator(index)) {
                stage.replicas[index].process().kill()?;
                self.dead.push(Passing { what: Dead::Operator(index), over });
                self.verdict.done("kills of an operator");
            }
        }
        if self.once_in(300) {
            let index = self.random.random_range(0..stage.replicas.len());
            if stage.replicas[index].process().pause().is_ok() {
                let over = self.after(5..25);
                self.frozen.push(Passing { what: index, over });
                self.verdict.done("operators frozen for a while");
            }
        }
        if self.once_in(80) {
            let index = self.random.random_range(0..stage.wakers.len());
            if !self.dead.iter().any(|dead| dead.what == Dead::Waker(index)) {
                stage.wakers[index].kill()?;
                self.dead.push(Passing { what: Dead::Waker(index), over });
                self.verdict.done("kills of a waker");
            }
        }
        if self.once_in(40)
            && let Some(machine) = self.one_of(&stage.machines)
            && machine.kill_agent()?
        {
            self.verdict.done("kills of an agent");
        }
        if self.once_in(120)
            && let Some(machine) = self.one_of(&stage.machines).filter(|machine| machine.sleeps())
        {
            machine.host.wake();
            self.verdict.done("nodes woken by hand");
        }
        Ok(())
    }

    fn one_of(&mut self, machines: &[Machine]) -> Option<Machine> {
        machines.choose(&mut self.random).cloned()
    }

    /// Pods and VMs come and go, and VMs are busy or not.
    async fn load(&mut self, stage: &Stage) -> anyhow::Result<()> {
        if self.once_in(25) {
            let pool = if self.random.random_bool(0.7) { "dedicated" } else { "shared" };
            self.make_pod(stage, json!({ "nodeSelector": { "miyako.dev/pool": pool } })).await?;
        }
        if self.once_in(60) && self.vms.len() + 1 < VMS.end {
            self.make_vm(stage).await?;
        }
        if self.once_in(60) && self.vms.len() > VMS.start {
            let vm = self.vms.swap_remove(self.random.random_range(0..self.vms.len()));
            let vms: Api<VirtualMachineInstance> = Api::namespaced(stage.scene.admin(), stage.scene.namespace());
            vms.delete(&vm, &DeleteParams::default()).await?;
            self.verdict.done("VMs deleted");
        }
        if self.once_in(8)
            && let Some(vm) = self.vms.choose(&mut self.random)
        {
            let cores = if self.random.random_bool(0.25) { 1.9 } else { 0.1 };
            stage.set_load(vm, cores);
        }
        Ok(())
    }

    async fn make_vm(&mut self, stage: &Stage) -> anyhow::Result<()> {
        self.made += 1;
        let name = format!("vm-{}", self.made);
        let mut vm = VmSpec::new(stage.scene.namespace(), &name, 2, Bytes::mib(1024));
        vm.node_selector.insert(WORK.to_owned(), "true".to_owned());
        objects::apply(&stage.scene.admin(), &[vm.vmi()]).await?;
        self.vms.push(name);
        self.verdict.done("VMs created");
        Ok(())
    }

    async fn make_pod(&mut self, stage: &Stage, place: Value) -> anyhow::Result<()> {
        self.made += 1;
        let name = format!("work-{}", self.made);
        let mut spec = place;
        let requests = json!({ "requests": { "cpu": "2", "memory": "1Gi" } });
        spec["containers"] = json!([{ "name": "main", "image": "none", "resources": requests }]);
        let pod: Pod = serde_json::from_value(json!({ "metadata": { "name": name }, "spec": spec }))?;
        let pods: Api<Pod> = Api::namespaced(stage.scene.admin(), stage.scene.namespace());
        pods.create(&PostParams::default(), &pod).await?;
        let over = self.after(20..70);
        self.pods.push(Passing { what: name, over });
        self.verdict.done("pods created");
        Ok(())
    }

    async fn people(&mut self, stage: &Stage, falling: Option<&str>) -> anyhow::Result<()> {
        if !self.once_in(45) {
            return Ok(());
        }
        let nodes: Vec<&str> = SHARED.into_iter().chain(DEDICATED).collect();
        let node = match falling {
            Some(node) if self.random.random_bool(0.7) => node.to_owned(),
            _ => nodes.choose(&mut self.random).map(ToString::to_string).unwrap_or_default(),
        };
        // One person at a time does something to a node.
        if self.marks.iter().any(|mark| mark.what.1 == node) {
            return Ok(());
        }
        let (what, drained) = match self.random.random_range(0..4) {
            0 => (Put::Cordon, false),
            1 => (Put::Cordon, true),
            2 => (Put::Pin, false),
            _ => (Put::Taint, false),
        };
        put(stage, &node, what, true, &self.marked).await?;
        let over = self.after(30..90);
        self.marks.push(Passing { what: (what, node.clone()), over });
        self.verdict.done(match (what, drained) {
            (Put::Cordon, false) => "nodes cordoned by a person",
            (Put::Cordon, true) => "nodes drained by a person",
            (Put::Pin, _) => "nodes kept awake by a person",
            (Put::Taint, _) => "nodes tainted by a person",
        });
        if drained {
            drain(stage, &node).await?;
        }
        Ok(())
    }
}

fn over<T>(passing: &mut Vec<Passing<T>>) -> Vec<T> {
    let now = Instant::now();
    let (over, going_on): (Vec<_>, Vec<_>) = std::mem::take(passing).into_iter().partition(|one| one.over <= now);
    *passing = going_on;
    over.into_iter().map(|one| one.what).collect()
}

/// A node that is on its way to sleep, if there is one.
async fn falling_asleep(stage: &Stage) -> anyhow::Result<Option<String>> {
    let powers: Api<NodePower> = Api::all(stage.scene.admin());
    let all = powers.list(&ListParams::default()).await?;
    let falling = all.into_iter().find(|power| {
        let phase = power.status.as_ref().and_then(|status| status.phase);
        matches!(phase, Some(PowerPhase::Emptying | PowerPhase::Suspending))
    });
    Ok(falling.map(|power| power.name_any()))
}

/// A person puts something on a node, or takes it off.
async fn put(stage: &Stage, node: &str, what: Put, on: bool, marked: &Marked) -> anyhow::Result<()> {
    let nodes: Api<Node> = Api::all(stage.scene.admin());
    let patched = loop {
        let patch = match what {
            Put::Cordon => json!({ "spec": { "unschedulable": on.then_some(true) } }),
            Put::Pin => json!({ "metadata": { "annotations": { marks::KEEP_AWAKE: on.then_some("alice looks") } } }),
            // Taints are one list: like `kubectl taint`, look, change, and begin again if somebody else was faster.
            Put::Taint => with_taint(&nodes.get(node).await?, on),
        };
        match nodes.patch(node, &PatchParams::default(), &Patch::Merge(patch)).await {
            Err(kube::Error::Api(status)) if status.is_conflict() => {}
            answer => break answer?,
        }
    };
    if on {
        marked.put(node, what, version_of(&patched));
    } else {
        marked.take(node, what, version_of(&patched));
    }
    Ok(())
}

fn with_taint(node: &Node, on: bool) -> Value {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    let others = taints.iter().filter(|taint| taint.key != TAINT).map(|taint| json!(taint));
    let ours = on.then(|| json!({ "key": TAINT, "value": "alice", "effect": "NoSchedule" }));
    let taints: Vec<Value> = others.chain(ours).collect();
    json!({ "metadata": { "resourceVersion": node.resource_version() }, "spec": { "taints": taints } })
}

/// What `kubectl drain` does after its cordon: evicts everything but DaemonSets' pods, and does not wait for VMs.
async fn drain(stage: &Stage, node: &str) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::namespaced(stage.scene.admin(), stage.scene.namespace());
    let there = pods.list(&ListParams::default().fields(&format!("spec.nodeName={node}"))).await?;
    for pod in there.items.iter().filter(|pod| super::witness::keeps_awake(&json!(pod))) {
        // KubeVirt's webhook answers for VMs with 429 and moves them; a pod may have ended by itself.
        let _ = pods.evict(&pod.name_any(), &EvictParams::default()).await;
    }
    Ok(())
}
