//! The cluster that most scenarios of the operator begin with: two shared nodes and a dedicated one, KubeVirt, the
//! chart, replicas of the operator, agents, and quiet VMs on the first shared node.

use anyhow::ensure;
use kube::Api;
use kube::api::ListParams;
use miyako::sim::kubevirt::ClockSettings;
use miyako::sim::kubevirt::create::VmSpec;
use miyako_api::consolidation_plan::PlanPhase;
use miyako_api::kubevirt::{VirtualMachineInstance, VirtualMachineInstanceMigration};
use miyako_api::{ConsolidationPlan, ConsolidationPolicy};
use miyako_core::model::Bytes;
use miyako_e2e::control_plane::nodes::NewNode;
use miyako_e2e::control_plane::objects;
use miyako_e2e::installation::{Agents, Chart, OPERATOR, Replica, wait_for_leader};
use miyako_e2e::kubevirt::KubeVirt;
use miyako_e2e::scene::Scene;
use miyako_e2e::wait::{Look, until};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long the operator, KubeVirt and Kubernetes may take together for one move on a busy machine.
pub(crate) const SOON: Duration = Duration::from_mins(2);
/// The policy's name.
pub(crate) const POLICY: &str = "main";
/// All nodes.
pub(crate) const NODES: [&str; 3] = ["shared-0", "shared-1", "dedicated-0"];
/// CPUs of each shared node.
const SHARED_CPUS: u32 = 4;
/// VMs on the first shared node.
const VMS: usize = 4;

/// The cluster and who plays in it.
pub(crate) struct World {
    scene: Arc<Scene>,
    pub(crate) replicas: Vec<Replica>,
    agents: Option<Agents>,
}

/// How KubeVirt is set up.
pub(crate) struct Setting {
    /// The KubeVirt CR's `spec.configuration.migrations`.
    pub(crate) migrations: Value,
    /// The migration network, in bytes per second.
    pub(crate) bandwidth: f64,
    /// The chart's values, as `name=value`.
    pub(crate) values: &'static [&'static str],
}

impl Default for Setting {
    fn default() -> Self {
        // Ten gigabit: a VM moves within seconds.
        Self { migrations: json!({}), bandwidth: 1.1e9, values: &[] }
    }
}

/// Nodes, KubeVirt, our chart and the VMs; nobody plays the operator and its agents yet.
pub(crate) async fn furnish(scene: &Scene, setting: Setting) -> anyhow::Result<KubeVirt> {
    scene.install_our_crds().await?;
    let pool = |name: &str, pool: &str| NewNode::new(name).label("miyako.dev/pool", pool);
    scene
        .add_nodes(&[
            pool("shared-0", "shared").cpus(SHARED_CPUS),
            pool("shared-1", "shared").cpus(SHARED_CPUS),
            pool("dedicated-0", "dedicated").cpus(8),
        ])
        .await?;
    let network = ClockSettings { bandwidth: setting.bandwidth, ..ClockSettings::default() };
    let kubevirt = KubeVirt::install(scene, setting.migrations, network, |_| {}).await?;
    Chart::Miyako.install(scene, setting.values).await?;
    kubevirt.wait_for_handlers(&NODES).await?;
    scene.wait_for_default_account().await?;
    for index in 0..VMS {
        let vm = VmSpec::new(scene.namespace(), &format!("vm-{index}"), 2, Bytes::mib(1024));
        kubevirt.running_vm(&vm, "shared-0").await?;
    }
    Ok(kubevirt)
}

impl World {
    /// Everything but a policy.
    pub(crate) async fn begin(scene: &Arc<Scene>, replicas: usize) -> anyhow::Result<Self> {
        Self::begin_with(scene, replicas, Setting::default()).await
    }

    /// The same with another KubeVirt.
    pub(crate) async fn begin_with(scene: &Arc<Scene>, replicas: usize, setting: Setting) -> anyhow::Result<Self> {
        furnish(scene, setting).await?;
        let mut running = Vec::new();
        for index in 0..replicas {
            running.push(start_replica(scene, &format!("replica-{index}")).await?);
        }
        let all: Vec<&Replica> = running.iter().collect();
        wait_for_leader(scene, &all).await?;
        let agents = Agents::play(scene, &NODES, &all).await?;
        for replica in &running {
            replica.wait_ready().await?;
        }
        Ok(Self { scene: Arc::clone(scene), replicas: running, agents: Some(agents) })
    }

    /// A world of these replicas in which nobody plays the agents.
    pub(crate) fn without_agents(scene: &Arc<Scene>, replicas: Vec<Replica>) -> Self {
        Self { scene: Arc::clone(scene), replicas, agents: None }
    }

    /// From now on a VM uses so many cores.
    pub(crate) fn set_load(&self, vm: &str, cores: f64) {
        if let Some(agents) = &self.agents {
            agents.set(vm, cores);
        }
    }

    /// Applies the two classes and the policy, in the papers' profile; `spec` is merged into the policy's.
    pub(crate) async fn apply_policy(&self, spec: Value) -> anyhow::Result<()> {
        let class = |name: &str, role: &str| {
            json!({
                "apiVersion": "miyako.dev/v1alpha1", "kind": "NodePowerClass", "metadata": { "name": name },
                "spec": { "role": role, "nodeSelector": { "matchLabels": { "miyako.dev/pool": name } } },
            })
        };
        let mut policy = json!({
            "apiVersion": "miyako.dev/v1alpha1", "kind": "ConsolidationPolicy", "metadata": { "name": POLICY },
            "spec": { "profile": "Reactive", "nodeClasses": ["shared", "dedicated"] },
        });
        if let (Some(all), Some(more)) = (policy["spec"].as_object_mut(), spec.as_object()) {
            all.extend(more.clone());
        }
        // A run takes minutes: shared nodes take VMs by the averages of the moment, as in the papers.
        policy["spec"]["thresholds"]["admissionWindow"] = json!("5s");
        let wanted = [class("shared", "Shared"), class("dedicated", "Dedicated"), policy];
        objects::apply(&self.scene.admin(), &wanted).await?;
        Ok(())
    }

    /// Makes a VM so busy, with the others' help, that its shared node is overloaded.
    pub(crate) fn overload(&self, vm: &str) {
        for index in 0..VMS {
            self.set_load(&format!("vm-{index}"), 0.6);
        }
        self.set_load(vm, 1.9);
    }

    /// Makes every VM quiet.
    pub(crate) fn calm(&self) {
        for index in 0..VMS {
            self.set_load(&format!("vm-{index}"), 0.1);
        }
    }

    /// Waits until a VM runs on a node and nothing moves it any more.
    pub(crate) async fn wait_for_vm(&self, vm: &str, node: &str) -> anyhow::Result<()> {
        until(&format!("{vm} runs on {node}"), SOON, || async {
            let status = self.vms().get(vm).await?.status.unwrap_or_default();
            let there = status.node_name.as_deref() == Some(node);
            Ok(Look::holds(there, format!("on {:?}, {:?}", status.node_name, status.migration_state)))
        })
        .await
    }

    /// Waits until a plan for which `wanted` holds is in a phase.
    pub(crate) async fn wait_for_plan(
        &self,
        phase: PlanPhase,
        wanted: impl Fn(&ConsolidationPlan) -> bool,
    ) -> anyhow::Result<ConsolidationPlan> {
        until(&format!("a plan is {phase:?}"), SOON, || async {
            let plans = self.plans().list(&ListParams::default()).await?.items;
            let found = plans.iter().find(|plan| phase_of(plan) == Some(phase) && wanted(plan)).cloned();
            let others: Vec<_> = plans.iter().map(|plan| (&plan.spec.summary, phase_of(plan))).collect();
            Ok(Look::some(found, format!("{others:?}")))
        })
        .await
    }

    pub(crate) fn vms(&self) -> Api<VirtualMachineInstance> {
        Api::namespaced(self.scene.admin(), self.scene.namespace())
    }

    pub(crate) fn migrations(&self) -> Api<VirtualMachineInstanceMigration> {
        Api::namespaced(self.scene.admin(), self.scene.namespace())
    }

    pub(crate) fn plans(&self) -> Api<ConsolidationPlan> {
        Api::all(self.scene.admin())
    }

    pub(crate) fn policies(&self) -> Api<ConsolidationPolicy> {
        Api::all(self.scene.admin())
    }

    /// The chart's rights were enough: RBAC and admission never said no to the operator.
    pub(crate) fn nothing_was_forbidden(&self, scene: &Scene) -> anyhow::Result<()> {
        let log = scene.stand().audit()?;
        let forbidden: Vec<_> = log.of(scene.namespace(), OPERATOR, 0).filter(|request| request.forbidden()).collect();
        ensure!(forbidden.is_empty(), "forbidden to the operator: {forbidden:#?}");
        ensure!(log.of(scene.namespace(), OPERATOR, 0).next().is_some(), "the operator asked for nothing");
        Ok(())
    }
}

/// How far a plan is.
pub(crate) fn phase_of(plan: &ConsolidationPlan) -> Option<PlanPhase> {
    plan.status.as_ref().and_then(|status| status.phase)
}

/// Whether a plan moves this VM.
pub(crate) fn moves(plan: &ConsolidationPlan, vm: &str) -> bool {
    plan.spec.steps.iter().any(|step| step.vm.as_ref().is_some_and(|moved| moved.name == vm))
}

/// One more replica of the operator.
pub(crate) async fn start_replica(scene: &Scene, identity: &str) -> anyhow::Result<Replica> {
    Replica::start(scene, Path::new(env!("CARGO_BIN_EXE_miyako-under-test")), identity).await
}
