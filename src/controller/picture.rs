//! The cluster as one pass saw it, for pages: names, sizes, loads. It costs a walk over all VMs, so it is made only
//! while somebody looks ([`Onlookers`]).

use super::energy::Ledger;
use super::history::PowerNow;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use miyako_api::names::kubernetes;
use miyako_core::model::{
    LoadHistory, NodeName, Policies, Policy, PolicyMode, PowerState, Role, Snapshot, Timestamp, VmKey,
};
use miyako_core::plan::{NodeReport, RankedBlocker, Report, StayReason, VmVerdict};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// More VMs than this no page can show; the rest is counted.
const MOST_VMS: usize = 2000;

/// Counts who looks.
#[derive(Debug, Clone, Default)]
pub struct Onlookers(Arc<AtomicUsize>);

/// Somebody looks until this is dropped.
#[derive(Debug)]
pub struct Onlooker(Arc<AtomicUsize>);

impl Onlookers {
    /// One more.
    #[must_use]
    pub fn join(&self) -> Onlooker {
        self.0.fetch_add(1, Ordering::Relaxed);
        Onlooker(self.0.clone())
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Onlooker {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A node.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodePicture {
    /// Its name.
    pub name: NodeName,
    /// Its zone, if it has one.
    pub zone: Option<String>,
    /// What it is for, if a class says so.
    pub role: Option<Role>,
    /// Cores for pods.
    pub cores: f64,
    /// Cores in use in the newest fresh sample.
    pub used: Option<f64>,
    /// The share of the cores, in percent, from which it counts as overloaded; shared nodes only.
    pub threshold: Option<f64>,
    /// Its average over the policy's window is beyond the threshold.
    pub overloaded: bool,
    /// Nothing keeps it awake.
    pub can_sleep: bool,
    /// Where it is between awake and asleep.
    pub power: PowerState,
    /// Since when, in milliseconds since 1970, if that is recorded.
    pub since: Option<i64>,
    /// Why it is so: what its NodePower says of a node that is not awake, what keeps an awake one from sleeping.
    pub why: Option<String>,
    /// Watts now; ruled nodes only.
    pub watts: Option<f64>,
}

/// A VM.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VmPicture {
    /// `namespace/name`.
    pub key: String,
    /// Where it runs.
    pub node: Option<NodeName>,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Guest memory in bytes.
    pub memory: u64,
    /// Cores in use in the newest fresh sample.
    pub used: Option<f64>,
    /// The share of the CPU it wanted within about the last hour that it got, if its agent tells what it wants.
    pub served: Option<f64>,
    /// Where it is being moved to.
    pub moving: Option<NodeName>,
    /// It is never moved: somebody says so, or it can't be.
    pub stays: bool,
}

/// A condition of a policy, as it is written to its status.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConditionPicture {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Its reason.
    pub reason: String,
    /// Its message.
    pub message: String,
}

/// A policy.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyPicture {
    /// Its name.
    pub name: String,
    /// Its mode.
    pub mode: &'static str,
    /// What keeps it from starting moves.
    pub gate: Option<String>,
    /// VMs it rules.
    pub vms: u32,
    /// What keeps its nodes awake, most nodes first.
    pub blockers: Vec<RankedBlocker>,
    /// Its conditions, while this replica leads.
    pub conditions: Vec<ConditionPicture>,
    /// Plans that wait for approval.
    pub waiting: Vec<String>,
}

/// The cluster as one pass saw it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Picture {
    /// The nodes, by name.
    pub nodes: Vec<NodePicture>,
    /// The first two thousand VMs, by namespace and name.
    pub vms: Vec<VmPicture>,
    /// VMs beyond those.
    pub vms_left_out: usize,
    /// The policies, by name.
    pub policies: Vec<PolicyPicture>,
    /// `miyako pause`: who and why.
    pub paused: Option<String>,
    /// `miyako hold`: who and why.
    pub held: Option<String>,
    /// What the ruled nodes draw.
    pub power: PowerNow,
}

impl Picture {
    /// Paints it.
    pub(super) fn of(
        snapshot: &Snapshot,
        policies: &Policies,
        report: &Report,
        ledger: &Ledger,
        now: Timestamp,
        conditions: impl Fn(&Policy) -> Vec<Condition>,
        served: impl Fn(&VmKey) -> Option<f64>,
    ) -> Self {
        let unfinished = snapshot.migrations.values().filter(|migration| migration.is_unfinished());
        let moving: BTreeMap<&VmKey, &NodeName> =
            unfinished.filter_map(|migration| Some((&migration.vm, migration.target.as_ref()?))).collect();
        let vms = snapshot.vms.values().take(MOST_VMS).map(|vm| VmPicture {
            key: vm.key.to_string(),
            node: vm.node.clone(),
            vcpus: vm.vcpus,
            memory: vm.memory.0,
            used: snapshot.load.vms.get(&vm.key).and_then(|load| fresh(load, now)),
            served: served(&vm.key),
            moving: moving.get(&vm.key).map(|target| (*target).clone()),
            stays: report.vms.get(&vm.key).is_some_and(|vm| never_moves(&vm.verdict)),
        });
        Self {
            nodes: nodes(snapshot, policies, report, ledger, now),
            vms: vms.collect(),
            vms_left_out: snapshot.vms.len().saturating_sub(MOST_VMS),
            policies: policies.policies.values().map(|one| policy(one, snapshot, report, conditions(one))).collect(),
            paused: snapshot.switches.paused.clone(),
            held: snapshot.switches.held.clone(),
            power: PowerNow::of(ledger),
        }
    }
}

fn fresh(load: &LoadHistory, now: Timestamp) -> Option<f64> {
    load.latest().filter(|_| load.is_fresh(now)).map(|cores| cores.value())
}

fn never_moves(verdict: &VmVerdict) -> bool {
    let VmVerdict::Stays { reason } = verdict else { return false };
    matches!(
        reason,
        StayReason::OptedOut
            | StayReason::PrefersNoEviction
            | StayReason::NotMigratable { .. }
            | StayReason::HostDevice
            | StayReason::Unsupported { .. }
    )
}

fn nodes(
    snapshot: &Snapshot,
    policies: &Policies,
    report: &Report,
    ledger: &Ledger,
    now: Timestamp,
) -> Vec<NodePicture> {
    let one = |(name, node): (&NodeName, &miyako_core::model::Node)| {
        let found = report.nodes.get(name);
        let policy = found.and_then(|found| policies.policies.get(found.policy.as_ref()?));
        let role = found.and_then(|found| found.role);
        NodePicture {
            name: name.clone(),
            zone: node.labels.get(kubernetes::ZONE).map(ToString::to_string),
            role,
            cores: node.allocatable.cpu.cores().value(),
            used: snapshot.load.nodes.get(name).and_then(|load| fresh(load, now)),
            threshold: policy.filter(|_| role == Some(Role::Shared)).map(|policy| policy.thresholds.overload.value()),
            overloaded: found.is_some_and(super::history::is_overloaded),
            can_sleep: found.is_some_and(NodeReport::can_sleep),
            power: node.power,
            since: snapshot.powers.get(name).and_then(|record| record.since).map(Timestamp::millis),
            why: why(snapshot, found, node),
            watts: ledger.nodes().get(name).map(|energy| energy.draw.now.value()),
        }
    };
    snapshot.nodes.iter().map(one).collect()
}

/// Why a node is awake, or what its NodePower says of one that is not.
fn why(snapshot: &Snapshot, found: Option<&NodeReport>, node: &miyako_core::model::Node) -> Option<String> {
    if node.power != PowerState::Awake {
        return snapshot.powers.get(&node.name)?.message.clone();
    }
    let found = found.filter(|found| found.policy.is_some())?;
    let first = found.blockers.first().map(ToString::to_string);
    first.or_else(|| found.awake_because.as_ref().map(ToString::to_string))
}

fn policy(policy: &Policy, snapshot: &Snapshot, report: &Report, conditions: Vec<Condition>) -> PolicyPicture {
    let found = report.policies.get(&policy.name);
    let waits = snapshot.plans.values().filter(|plan| plan.policy == policy.name && !plan.is_cleared());
    PolicyPicture {
        name: policy.name.to_string(),
        mode: match policy.mode {
            PolicyMode::Off => "Off",
            PolicyMode::Recommend => "Recommend",
            PolicyMode::Automatic => "Automatic",
        },
        gate: found.and_then(|found| found.gate.as_ref()).map(ToString::to_string),
        vms: found.map_or(0, |found| found.vms),
        blockers: found.map(|found| found.blockers.clone()).unwrap_or_default(),
        conditions: conditions.into_iter().map(ConditionPicture::from).collect(),
        waiting: waits.map(|plan| plan.name.to_string()).collect(),
    }
}

impl From<Condition> for ConditionPicture {
    fn from(condition: Condition) -> Self {
        let Condition { type_: kind, status, reason, message, .. } = condition;
        Self { kind, status, reason, message }
    }
}
