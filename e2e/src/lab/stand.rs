//! The whole lab: nodes, VMs, KubeVirt with real hands, the operator and the agents.

use super::energy::Power;
use super::hands::{Log, QemuHands};
use super::kubelets;
use super::machines::{Machines, Vm};
use super::sleep::{self, SleepLog};
use crate::child::{Child, Program};
use crate::control_plane::nodes::NewNode;
use crate::control_plane::objects;
use crate::installation::{Chart, Replica, agents, wait_for_leader};
use crate::kubevirt::KubeVirt;
use crate::scene::Scene;
use crate::wait::{Look, until};
use anyhow::Context as _;
use kube::Api;
use miyako::sim::kubevirt::create::VmSpec;
use miyako_api::ConsolidationPolicy;
use miyako_api::kubevirt::{VirtualMachineInstance, VirtualMachineInstanceMigration};
use miyako_core::model::Bytes;
use miyako_lab::guest::{Boot, Guest, Image};
use miyako_lab::node::{Lab, Node, NodeSpec};
use miyako_lab::qemu::Spec;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The policy's name.
pub const POLICY: &str = "lab";
/// The chart's values where nodes sleep. The operator's pods keep nodes awake like any others, so they are where VMs are.
const SLEEPS: &[&str] =
    &["agent.power.enabled=true", "waker.enabled=true", r"operator.nodeSelector.kubernetes\.io/hostname=shared-0"];
/// The node label by which a class knows its nodes.
const POOL: &str = "miyako.dev/pool";
/// How long a guest may take to boot while others boot too.
const BOOTED_WITHIN: Duration = Duration::from_mins(2);
/// How long the operator and KubeVirt may take to see everything.
const SEEN_WITHIN: Duration = Duration::from_mins(2);

/// The programs that the lab runs besides those of the control plane.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The operator.
    pub operator: PathBuf,
    /// `miyako-agent`.
    pub agent: PathBuf,
    /// `lab-node` of miyako-lab.
    pub node: PathBuf,
}

/// What a node is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// Many idle VMs.
    Shared,
    /// A core for each busy VM.
    Dedicated,
}

/// A node to be.
#[derive(Debug, Clone)]
pub struct NodePlan {
    /// The machine.
    pub spec: NodeSpec,
    /// What it is for.
    pub role: Role,
}

/// A VM to be.
#[derive(Debug, Clone)]
pub struct VmPlan {
    /// Its name.
    pub name: String,
    /// Where it begins.
    pub node: String,
    /// Its benchmark.
    pub boot: Boot,
}

/// What the lab is made of.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Nodes.
    pub nodes: Vec<NodePlan>,
    /// VMs.
    pub vms: Vec<VmPlan>,
    /// The KubeVirt CR's `spec.configuration.migrations`.
    pub migrations: Value,
    /// What nodes draw, where they may sleep.
    pub sleep: Option<Power>,
}

/// The running lab.
pub struct LabStand {
    scene: Arc<Scene>,
    /// The machines.
    pub machines: Machines,
    /// The migrations so far.
    pub log: Log,
    /// The sleeps so far.
    pub sleeps: SleepLog,
    /// The operator.
    pub operator: Replica,
    agents: BTreeMap<String, Arc<Child>>,
    plan: Plan,
    lab: Lab,
    /// Everything's files. They stay when something failed, until the next lab begins.
    folder: PathBuf,
}

impl LabStand {
    /// Builds it up to the point where all guests run, the operator is ready and every agent speaks to it. There is no
    /// policy yet, so nothing moves.
    ///
    /// # Errors
    /// When any part of it does not come up.
    pub async fn begin(scene: &Arc<Scene>, programs: &Programs, plan: Plan) -> anyhow::Result<Self> {
        // Sockets have room for 107 bytes, so the folder can't be deep below the stand's.
        let folder = new_folder()?;
        let image = tokio::task::spawn_blocking(Image::make).await??;
        let mut lab = Lab::begin(&programs.node, &folder.join("nodes"))?;
        let mut nodes = Vec::new();
        for node in &plan.nodes {
            nodes.push(Arc::new(lab.add_node(&node.spec)?));
        }
        let vms = plan.vms.iter().map(|vm| (vm.name.clone(), Vm { boot: vm.boot, vcpus: 1 })).collect();
        let machines = Machines::new(image, nodes, vms);
        let log = Log::default();

        scene.install_our_crds().await?;
        scene.add_nodes(&plan.nodes.iter().map(cluster_node).collect::<Vec<_>>()).await?;
        let hands = QemuHands::new(machines.clone(), log.clone());
        let kubevirt = KubeVirt::install_with(scene, plan.migrations.clone(), hands).await?;
        Chart::Miyako.install(scene, if plan.sleep.is_some() { SLEEPS } else { &[] }).await?;
        let names: Vec<&str> = plan.nodes.iter().map(|node| node.spec.name.as_str()).collect();
        kubevirt.wait_for_handlers(&names).await?;
        scene.wait_for_default_account().await?;
        machines.tell_agents()?;
        scene.play(kubelets::run(scene.admin(), scene.namespace().to_owned(), machines.clone()));
        let operator = Replica::start_at(scene, &programs.operator, "replica-0", lab.host_address(), &[]).await?;
        wait_for_leader(scene, &[&operator]).await?;
        let mut stand = Self {
            scene: Arc::clone(scene),
            machines,
            log,
            operator,
            agents: BTreeMap::new(),
            sleeps: SleepLog::default(),
            plan,
            lab,
            folder,
        };
        for name in stand.machines.nodes().keys().cloned().collect::<Vec<_>>() {
            let agent = stand.start_agent(&name, &programs.agent).await?;
            stand.agents.insert(name, agent);
        }
        stand.operator.wait_ready().await?;
        if let Some(power) = stand.plan.sleep {
            stand.sleeps = sleep::begin(scene, stand.machines.nodes().values(), power.resume()).await?;
            // Before there are VMs, while all nodes for busy ones are empty.
            stand.show_that_nodes_wake().await?;
        }
        stand.start_vms(&kubevirt).await?;
        Ok(stand)
    }

    async fn start_vms(&self, kubevirt: &KubeVirt) -> anyhow::Result<()> {
        // Booting is not what is measured, so nobody waits for quotas.
        let all = std::thread::available_parallelism().map_or(1.0, |cpus| cpus.get() as f64);
        for node in self.machines.nodes().values() {
            node.set_cores(all)?;
        }
        for vm in &self.plan.vms {
            // One after the other: those that boot at once disturb each other's measurements.
            let memory = Bytes::mib(u64::from(self.memory_mib(vm)));
            let spec = VmSpec::new(self.scene.namespace(), &vm.name, 1, memory);
            kubevirt.running_vm(&spec, &vm.node).await?;
            let guest = &self.machines.guests()[&vm.name];
            guest.booted(BOOTED_WITHIN).await.with_context(|| self.last_words(&vm.name))?;
        }
        for NodePlan { spec, .. } in &self.plan.nodes {
            self.node(&spec.name)?.set_cores(spec.cores)?;
        }
        Ok(())
    }

    fn memory_mib(&self, vm: &VmPlan) -> u32 {
        let nowhere = Image { kernel: PathBuf::new(), initramfs: PathBuf::new() };
        Spec::new(&vm.name, &self.folder, nowhere, vm.boot).memory_mib
    }

    /// Starts one more replica of the operator.
    ///
    /// # Errors
    /// When it does not start or see the cluster in time.
    pub async fn another_operator(&self, programs: &Programs, identity: &str) -> anyhow::Result<Replica> {
        let replica =
            Replica::start_at(&self.scene, &programs.operator, identity, self.lab.host_address(), &[]).await?;
        wait_for_leader(&self.scene, &[&replica]).await?;
        Ok(replica)
    }

    /// Starts the agent of a node, again if it was killed.
    ///
    /// # Errors
    /// When its token or the operator's certificate can't be had, or it does not start.
    pub async fn start_agent(&self, node: &str, binary: &Path) -> anyhow::Result<Arc<Child>> {
        let machine = self.node(node)?;
        let program = Program::new(format!("agent-{node}"), binary)
            .arg("run")
            .flag("node-name", node)
            .flag("operator", self.operator.wire())
            .flag("ca-file", agents::trusted(&self.scene).await?)
            .flag("token-file", agents::token(&self.scene, node).await?)
            .flag("node-cgroup", machine.cgroup())
            .flag("pods-file", machine.folder().join("pods.json"))
            .flag("interface", "eth0")
            .behind(machine.daemon_prefix());
        self.scene.start(&program)
    }

    /// A node by name.
    ///
    /// # Errors
    /// When there is none.
    pub fn node(&self, name: &str) -> anyhow::Result<&Arc<Node>> {
        self.machines.nodes().get(name).with_context(|| format!("no node {name}"))
    }

    /// A guest by the name of its VM.
    ///
    /// # Errors
    /// When there is none.
    pub fn guest(&self, vm: &str) -> anyhow::Result<&Guest> {
        self.machines.guests().get(vm).with_context(|| format!("no VM {vm}"))
    }

    /// The agent of a node, to be killed.
    ///
    /// # Errors
    /// When there is none.
    pub fn agent(&self, node: &str) -> anyhow::Result<&Child> {
        self.agents.get(node).map(AsRef::as_ref).with_context(|| format!("no agent of {node}"))
    }

    /// What it was made of.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Applies the two classes and a policy; `spec` is merged into the policy's. Waits until the operator knows the load
    /// of every VM, so that the run begins with eyes open.
    ///
    /// # Errors
    /// When the API server refuses, or the operator does not become ready.
    pub async fn apply_policy(&self, spec: Value) -> anyhow::Result<()> {
        self.put_policy(spec).await?;
        let policies: Api<ConsolidationPolicy> = Api::all(self.scene.admin());
        until("the operator knows every VM's load", SEEN_WITHIN, || async {
            let policy = policies.get(POLICY).await?;
            let status = policy.status.unwrap_or_default();
            let ready = status.conditions.iter().any(|one| {
                one.type_ == "Ready" && one.status == "True" && one.observed_generation == policy.metadata.generation
            });
            let known = status.vms.as_ref().is_some_and(|vms| vms.load_unknown == 0);
            Ok(Look::holds(ready && known, format!("{:?} {:?}", status.vms, status.conditions)))
        })
        .await
    }

    /// Applies the two classes and a policy, without waiting for anything.
    pub(super) async fn put_policy(&self, spec: Value) -> anyhow::Result<()> {
        let class = |name: &str, role: Role| {
            let mut spec = json!({
                "role": format!("{role:?}"),
                "nodeSelector": { "matchLabels": { POOL: name } },
            });
            if let Some(cpu) = self.cpu_of(role) {
                spec["capacity"] = json!({ "cpu": cpu });
            }
            let power = self.plan.sleep.map(|power| power.class());
            if let (Some(spec), Some(power)) = (spec.as_object_mut(), power.as_ref().and_then(Value::as_object)) {
                spec.extend(power.clone());
            }
            json!({ "apiVersion": "miyako.dev/v1alpha1", "kind": "NodePowerClass", "metadata": { "name": name }, "spec": spec })
        };
        // The papers' nodes do not fail.
        let mut policy = json!({
            "apiVersion": "miyako.dev/v1alpha1", "kind": "ConsolidationPolicy", "metadata": { "name": POLICY },
            "spec": {
                "profile": "Reactive", "nodeClasses": ["shared", "dedicated"], "keepAwake": { "failures": 0 },
            },
        });
        if let (Some(all), Some(more)) = (policy["spec"].as_object_mut(), spec.as_object()) {
            all.extend(more.clone());
        }
        // A run takes minutes: shared nodes take VMs by the averages of the moment, as in the papers.
        let window = &mut policy["spec"]["thresholds"]["admissionWindow"];
        if window.is_null() {
            *window = json!("5s");
        }
        let wanted = [class("shared", Role::Shared), class("dedicated", Role::Dedicated), policy];
        objects::apply(&self.scene.admin(), &wanted).await?;
        Ok(())
    }

    /// The CPU of a shared node is what its quota says; a dedicated node has one of the lab's cores, whose part of a real
    /// one is the vCPU's whole.
    fn cpu_of(&self, role: Role) -> Option<String> {
        let first = self.plan.nodes.iter().find(|node| node.role == role)?;
        Some(match role {
            Role::Shared => format!("{:.0}m", first.spec.cores * 1000.0),
            Role::Dedicated => "1".to_owned(),
        })
    }

    /// VMIs.
    #[must_use]
    pub fn vms(&self) -> Api<VirtualMachineInstance> {
        Api::namespaced(self.scene.admin(), self.scene.namespace())
    }

    /// VMIMs.
    #[must_use]
    pub fn migrations(&self) -> Api<VirtualMachineInstanceMigration> {
        Api::namespaced(self.scene.admin(), self.scene.namespace())
    }

    /// The scene that it plays in.
    #[must_use]
    pub fn scene(&self) -> &Arc<Scene> {
        &self.scene
    }

    /// What the QEMU and the guest's kernel of a VM said last.
    #[must_use]
    pub fn last_words(&self, vm: &str) -> String {
        let Ok(home) = self.machines.home(vm) else { return format!("{vm} runs nowhere") };
        let folder = home.launcher().folder().join("qemu");
        ["qemu.log", "console.log"]
            .map(|file| format!("{file} of {vm}:\n{}\n", crate::child::tail(&folder.join(file), 20)))
            .concat()
    }

    /// Ends everything and looks for leftovers.
    ///
    /// # Errors
    /// When something stays.
    pub fn end(self) -> anyhow::Result<()> {
        for agent in self.agents.values() {
            agent.kill()?;
        }
        drop(self.machines);
        self.lab.end()?;
        let left = crate::child::survivors_below(&self.folder)?;
        anyhow::ensure!(left.is_empty(), "processes outlive the lab: {left:?}");
        std::fs::remove_dir_all(&self.folder).with_context(|| self.folder.display().to_string())
    }
}

fn cluster_node(node: &NodePlan) -> NewNode {
    let pool = match node.role {
        Role::Shared => "shared",
        Role::Dedicated => "dedicated",
    };
    // Requests say little about load (KubeVirt asks for a tenth of a core for each vCPU), so a core too many is harmless;
    // for a dedicated node it leaves room for the daemons' requests.
    NewNode::new(&node.spec.name).label(POOL, pool).cpus(2)
}

/// A new folder with a short path, because sockets have room for 107 bytes. Those of labs whose runner is gone are removed.
fn new_folder() -> anyhow::Result<PathBuf> {
    const PREFIX: &str = "mlab-";
    for entry in std::fs::read_dir(std::env::temp_dir())? {
        let path = entry?.path();
        let ours = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
        let owner = std::fs::read_to_string(path.join("owner")).ok();
        if ours && owner.is_some_and(|pid| !Path::new("/proc").join(pid.trim()).exists()) {
            std::fs::remove_dir_all(&path).with_context(|| format!("removing {}", path.display()))?;
        }
    }
    let folder = tempfile::Builder::new().prefix(PREFIX).tempdir()?.keep();
    std::fs::write(folder.join("owner"), std::process::id().to_string())?;
    Ok(folder)
}
