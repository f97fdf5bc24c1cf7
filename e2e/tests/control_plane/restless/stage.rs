//! The cluster: six nodes on machines that sleep, one that never does, operators, wakers and agents as processes.

use super::bmc::Bmcs;
use super::machines::{self, AgentFlags, Machine};
use super::verdict::Verdict;
use super::witness::{Marked, Witness};
use crate::world::start_replica;
use anyhow::ensure;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use miyako::sim::kubevirt::ClockSettings;
use miyako::sim::simulation::Watchdog;
use miyako_agent::generator::{Node as Speaker, Scenario, Step, Vm};
use miyako_api::NodePower;
use miyako_api::kubevirt::VirtualMachineInstance;
use miyako_api::names::ours;
use miyako_e2e::child::{Child, Program};
use miyako_e2e::control_plane::nodes::NewNode;
use miyako_e2e::control_plane::objects;
use miyako_e2e::https;
use miyako_e2e::installation::{AGENT, Chart, OPERATOR, Replica, WAKER, agents, wait_for_leader};
use miyako_e2e::kubevirt::KubeVirt;
use miyako_e2e::scene::Scene;
use miyako_e2e::wait::{Look, until};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The shared nodes.
pub(super) const SHARED: [&str; 2] = ["shared-0", "shared-1"];
/// The dedicated nodes.
pub(super) const DEDICATED: [&str; 4] = ["dedicated-0", "dedicated-1", "dedicated-2", "dedicated-3"];
/// The label of the nodes that take VMs.
pub(super) const WORK: &str = "e2e.miyako.dev/work";
/// Cores of each of them.
pub(super) const CPUS: u32 = 4;
/// What a VM uses until somebody says otherwise, in cores.
const QUIET: f64 = 0.1;
/// Guest memory that a VM is said to use.
const MEMORY: u64 = 1 << 30;
/// How often the agents are told where the VMs are.
const FOLLOW: Duration = Duration::from_millis(500);

/// The cluster and who plays in it.
pub(super) struct Stage {
    pub(super) scene: Arc<Scene>,
    pub(super) replicas: Vec<Replica>,
    pub(super) wakers: Vec<Arc<Child>>,
    pub(super) machines: Vec<Machine>,
    pub(super) bmcs: Bmcs,
    pub(super) marked: Marked,
    pub(super) verdict: Arc<Verdict>,
    loads: Arc<Mutex<BTreeMap<String, f64>>>,
    waker_kubeconfig: PathBuf,
    log_begins: usize,
}

impl Stage {
    /// Sets everything up and starts everybody.
    pub(super) async fn set(scene: &Arc<Scene>) -> anyhow::Result<Self> {
        scene.install_our_crds().await?;
        let worker =
            |name: &str, pool: &str| NewNode::new(name).cpus(CPUS).label("miyako.dev/pool", pool).label(WORK, "true");
        let home = NewNode::new("home")
            .label("node-role.kubernetes.io/control-plane", "")
            .label("kubevirt.io/schedulable", "false");
        let mut nodes = vec![home];
        nodes.extend(SHARED.map(|name| worker(name, "shared")));
        nodes.extend(DEDICATED.map(|name| worker(name, "dedicated")));
        scene.add_nodes(&nodes).await?;
        let network = ClockSettings { bandwidth: 1.1e9, ..ClockSettings::default() };
        let kubevirt = KubeVirt::install(scene, json!({}), network, |_| {}).await?;
        let values = [
            "agent.power.enabled=true",
            "waker.enabled=true",
            "waker.replicas=1",
            // Its pods keep nodes awake like any others.
            r"operator.nodeSelector.kubernetes\.io/hostname=home",
        ];
        Chart::Miyako.install(scene, &values).await?;
        let workers: Vec<&str> = SHARED.into_iter().chain(DEDICATED).collect();
        kubevirt.wait_for_handlers(&workers).await?;
        scene.wait_for_default_account().await?;

        let mut replicas = Vec::new();
        for index in 0..2 {
            replicas.push(start_replica(scene, &format!("replica-{index}")).await?);
        }
        wait_for_leader(scene, &replicas.iter().collect::<Vec<_>>()).await?;
        let machines: Vec<Machine> = workers.iter().map(|node| Machine::new(node)).collect();
        let bmcs = Bmcs::of(machines.iter().map(|machine| (machine.node.clone(), Arc::clone(&machine.host))));
        let waker_kubeconfig = scene.stand().kubeconfig_for_service_account(scene.namespace(), WAKER).await?;
        let mut stage = Self {
            scene: Arc::clone(scene),
            replicas,
            wakers: Vec::new(),
            machines,
            bmcs,
            marked: Marked::default(),
            verdict: Arc::default(),
            loads: Arc::default(),
            waker_kubeconfig,
            log_begins: scene.stand().audit()?.len(),
        };
        stage.watch();
        stage.start_agents().await?;
        for index in 0..2 {
            let waker = stage.waker(index)?;
            stage.wakers.push(waker);
        }
        let authority = scene.stand().authority();
        let (address, answering) = https::listen(authority, stage.bmcs.router()).await?;
        scene.play(answering);
        let wishes = wishes(scene.namespace(), &format!("https://{address}"), &authority.pem());
        objects::apply(&scene.admin(), &wishes).await?;
        for replica in &stage.replicas {
            replica.wait_ready().await?;
        }
        Ok(stage)
    }

    /// People ask for a test of each dedicated node, so that there are nodes to be trusted from the beginning on.
    pub(super) async fn prove(&self) -> anyhow::Result<()> {
        const WITHIN: Duration = Duration::from_mins(5);
        let powers: Api<NodePower> = Api::all(self.scene.admin());
        for node in DEDICATED {
            until(&format!("{node} is noted"), WITHIN, || async {
                let status = powers.get(node).await?.status.unwrap_or_default();
                Ok(Look::holds(status.empty_since.is_some(), format!("{status:?}")))
            })
            .await?;
            let ask = json!({ "metadata": { "annotations": { ours::REQUEST: "wake-test alice 1" } } });
            powers.patch(node, &PatchParams::default(), &Patch::Merge(ask)).await?;
        }
        for node in DEDICATED {
            until(&format!("{node} has shown that it wakes"), WITHIN, || async {
                let status = powers.get(node).await?.status.unwrap_or_default();
                let passed = status.last_wake_test.as_ref().is_some_and(|test| test.succeeded);
                Ok(Look::holds(passed, format!("{status:?}")))
            })
            .await?;
        }
        Ok(())
    }

    fn watch(&self) {
        // As many cores as it takes: others place VMs here too, so the witness judges rule 5 by what we move.
        let nodes = |names: &[&str], class: &str| -> Vec<(String, u64, String)> {
            names.iter().map(|name| ((*name).to_owned(), u64::MAX, class.to_owned())).collect()
        };
        let known = nodes(&SHARED, "shared").into_iter().chain(nodes(&DEDICATED, "dedicated"));
        let witness = Witness {
            client: self.scene.admin(),
            watchdog: Watchdog::new(known),
            marked: self.marked.clone(),
            bmcs: self.bmcs.clone(),
            verdict: Arc::clone(&self.verdict),
        };
        self.scene.play(witness.run());
    }

    async fn start_agents(&self) -> anyhow::Result<()> {
        let flags = AgentFlags::of(&self.scene, &self.replicas).await?;
        let mut files = Vec::new();
        for machine in &self.machines {
            let token_file = agents::token(&self.scene, &machine.node).await?;
            let speaker = Speaker {
                name: machine.node.clone(),
                token_file,
                cores: f64::from(CPUS),
                system_cores: 0.1,
                system_memory_bytes: MEMORY,
                faults: Vec::new(),
            };
            let file = machines::loads_of(&self.scene, &machine.node);
            write(&file, &Scenario { nodes: vec![speaker.clone()], vms: Vec::new() })?;
            files.push((file, speaker));
        }
        let (client, loads) = (self.scene.admin(), Arc::clone(&self.loads));
        self.scene.play(async move {
            let vmis: Api<VirtualMachineInstance> = Api::all(client);
            loop {
                if let Ok(vmis) = vmis.list(&ListParams::default()).await {
                    let loads = loads.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    for (file, speaker) in &files {
                        let vms = vmis.items.iter().filter_map(|vmi| vm(vmi, &speaker.name, &loads)).collect();
                        if let Err(error) = write(file, &Scenario { nodes: vec![speaker.clone()], vms }) {
                            tracing::error!(%error, "an agent can't be told");
                        }
                    }
                }
                tokio::time::sleep(FOLLOW).await;
            }
        });
        for machine in &self.machines {
            let (scene, verdict) = (Arc::clone(&self.scene), Arc::clone(&self.verdict));
            self.scene.play(machines::play(scene, machine.clone(), flags.clone(), verdict).await?);
        }
        Ok(())
    }

    fn waker(&self, index: usize) -> anyhow::Result<Arc<Child>> {
        let name = format!("waker-{index}");
        let program = Program::new(&name, env!("CARGO_BIN_EXE_agent-under-test"))
            .arg("waker")
            .flag("name", &name)
            .flag("kubeconfig", &self.waker_kubeconfig)
            .env("RUST_LOG", "info");
        self.scene.start(&program)
    }

    /// Starts a waker again that was killed.
    pub(super) fn start_waker(&mut self, index: usize) -> anyhow::Result<()> {
        self.wakers[index] = self.waker(index)?;
        Ok(())
    }

    /// From now on a VM uses so many cores.
    pub(super) fn set_load(&self, vm: &str, cores: f64) {
        self.loads.lock().unwrap_or_else(PoisonError::into_inner).insert(vm.to_owned(), cores);
    }

    /// Every VM is quiet.
    pub(super) fn calm(&self) {
        self.loads.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The chart's rights were enough for everybody.
    pub(super) fn nothing_was_forbidden(&self) -> anyhow::Result<()> {
        let log = self.scene.stand().audit()?;
        for account in [OPERATOR, AGENT, WAKER] {
            let asked = log.of(self.scene.namespace(), account, self.log_begins);
            let forbidden: Vec<_> = asked.filter(|request| request.forbidden()).take(3).collect();
            ensure!(forbidden.is_empty(), "forbidden to {account}: {forbidden:#?}");
        }
        Ok(())
    }
}

fn vm(vmi: &VirtualMachineInstance, node: &str, loads: &BTreeMap<String, f64>) -> Option<Vm> {
    let there = vmi.status.as_ref()?.node_name.as_deref() == Some(node);
    let name = vmi.name_any();
    there.then(|| Vm {
        namespace: vmi.namespace().unwrap_or_default(),
        uid: vmi.uid().unwrap_or_default(),
        node: node.to_owned(),
        memory_bytes: MEMORY,
        cpu: vec![Step { at: 0.0, cores: loads.get(&name).copied().unwrap_or(QUIET) }],
        name,
    })
}

/// Replaces the file, so that nobody reads half of it; one that says so already is left alone.
fn write(file: &Path, scenario: &Scenario) -> anyhow::Result<()> {
    let text = serde_json::to_string(scenario)?;
    if std::fs::read_to_string(file).is_ok_and(|before| before == text) {
        return Ok(());
    }
    let new = file.with_extension("new");
    std::fs::write(&new, text)?;
    std::fs::rename(&new, file)?;
    Ok(())
}

/// The BMCs' password, classes whose nodes they wake, and a policy that suspends what is empty.
fn wishes(namespace: &str, bmcs: &str, authority: &str) -> Vec<Value> {
    let class = |name: &str, role: &str| {
        json!({
            "apiVersion": "miyako.dev/v1alpha1", "kind": "NodePowerClass", "metadata": { "name": name },
            "spec": {
                "role": role, "nodeSelector": { "matchLabels": { "miyako.dev/pool": name } },
                "wake": [{
                    "driver": "redfish", "address": format!("{bmcs}/redfish/v1/Systems/{{node}}"),
                    "secretRef": { "namespace": namespace, "name": "bmc" },
                    "tls": { "caCertificates": authority },
                }],
            },
        })
    };
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "namespace": namespace, "name": "bmc" },
        "stringData": { "username": "admin", "password": "secret" },
    });
    let policy = json!({
        "apiVersion": "miyako.dev/v1alpha1", "kind": "ConsolidationPolicy", "metadata": { "name": "main" },
        "spec": {
            "mode": "Automatic", "profile": "Reactive", "nodeClasses": ["shared", "dedicated"],
            "thresholds": { "admissionWindow": "5s" },
            "sleep": { "after": "10s", "leastAwake": "5s", "leastAsleep": "5s" },
        },
    });
    vec![secret, class("shared", "Shared"), class("dedicated", "Dedicated"), policy]
}
