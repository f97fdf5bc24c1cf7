//! Everything the planner may look at, at one moment.

use super::{
    HealthCheck, Hold, KubeVirt, Labels, LoadTable, Migration, MigrationName, MoveHistory, Name, Neighbour, Node,
    NodeName, PlanName, PlanRecord, Pod, PodKey, PowerHistory, PowerRecord, Uid, Vm, VmKey,
};
use std::collections::BTreeMap;

/// A namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Its labels.
    pub labels: Labels,
    /// Node labels that admission makes each of its pods ask for.
    pub node_selector: BTreeMap<String, String>,
    /// Its quotas.
    pub quotas: Vec<Quota>,
}

/// A ResourceQuota, in thousandths of each resource's unit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Quota {
    /// Its name.
    pub name: String,
    /// The most of each resource (`requests.cpu`, `requests.memory`, `pods`, `limits.memory`, …).
    pub hard: BTreeMap<String, u128>,
    /// What is used of it.
    pub used: BTreeMap<String, u128>,
}

/// The two switches that people have (`miyako pause`, `miyako hold`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Switches {
    /// No new move and no suspend; who and why.
    pub paused: Option<String>,
    /// Everything is to be awake and stay so; who and why.
    pub held: Option<String>,
    /// The object that they were last seen in.
    pub of: Option<Uid>,
}

impl Switches {
    /// One of them is on.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.paused.is_some() || self.held.is_some()
    }
}

/// The cluster at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Nodes.
    pub nodes: BTreeMap<NodeName, Node>,
    /// Pods that matter: all that are bound or pending. Finished ones are left out.
    pub pods: BTreeMap<PodKey, Pod>,
    /// VirtualMachineInstances.
    pub vms: BTreeMap<VmKey, Vm>,
    /// VirtualMachineInstanceMigrations, our own writes that the cache does not show yet included.
    pub migrations: BTreeMap<MigrationName, Migration>,
    /// Namespaces with their quotas.
    pub namespaces: BTreeMap<Name, Namespace>,
    /// The KubeVirt installation.
    pub kubevirt: KubeVirt,
    /// ConsolidationPlans that are not over, our own writes that the cache does not show yet included.
    pub plans: BTreeMap<PlanName, PlanRecord>,
    /// What we did before, folded from all ConsolidationPlans.
    pub history: MoveHistory,
    /// NodePowers by node.
    pub powers: BTreeMap<NodeName, PowerRecord>,
    /// What plans did to the power of nodes, folded from all ConsolidationPlans.
    pub power_history: PowerHistory,
    /// What repairs nodes that do not answer, by name.
    pub health_checks: BTreeMap<Name, HealthCheck>,
    /// By node, the MachineHealthCheck (namespace/name) that would replace its machine if it did not answer.
    pub machine_checks: BTreeMap<NodeName, Name>,
    /// By node, somebody else's program that does not let it sleep now.
    pub neighbours: BTreeMap<NodeName, Neighbour>,
    /// What was measured.
    pub load: LoadTable,
    /// People's switches.
    pub switches: Switches,
    /// VMs that KubeVirt wants to evacuate and that still wait for a migration slot.
    pub evacuations_waiting: u32,
    /// What holds, for now or for too long already.
    pub holds: Vec<Hold>,
    /// Why the picture is not complete (a cache not synced, …): then nothing is done that can't be undone (rule 8).
    pub incomplete: Option<String>,
}

impl Snapshot {
    /// The pods on a node that still use it.
    pub fn pods_on<'a>(&'a self, node: &'a NodeName) -> impl Iterator<Item = &'a Pod> {
        self.pods.values().filter(move |pod| pod.is_active() && pod.node.as_ref() == Some(node))
    }

    /// The migration of ours or others that is under way for a VM.
    pub fn unfinished_migration(&self, vm: &VmKey) -> Option<&Migration> {
        self.migrations.values().find(|migration| migration.is_unfinished() && migration.vm == *vm)
    }

    /// The VM with this uid, if it is still that one.
    #[must_use]
    pub fn vm(&self, key: &VmKey, uid: &Uid) -> Option<&Vm> {
        self.vms.get(key).filter(|vm| vm.uid == *uid)
    }
}
