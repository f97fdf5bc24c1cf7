//! VirtualMachineInstanceMigrations.

use super::{Converted, Problems, objects, vmi};
use miyako_api::{
    kubevirt::{VirtualMachineInstanceMigration, VirtualMachineInstanceMigrationStatus},
    names::{kubernetes, kubevirt, ours},
};
use miyako_core::model::{Migration, MigrationName, MigrationPhase, Node, NodeName, PlanName, TargetTrouble, VmKey};

/// The condition by which virt-controller tells that a quota refuses the target pod.
const REFUSED_BY_QUOTA: &str = "migrationRejectedByResourceQuota";

/// A VMIM and what else its object told.
#[derive(Debug, Clone, PartialEq)]
pub struct ObservedMigration {
    /// The migration; its target only if KubeVirt has chosen one.
    pub migration: Migration,
    /// The host name that it asks for (`addedNodeSelector`), which need not be a node's name.
    pub hostname: Option<String>,
}

impl ObservedMigration {
    /// The migration, whose target is the node of the host name that it asks for, until KubeVirt has chosen one.
    #[must_use]
    pub fn to<'a>(&self, nodes: impl IntoIterator<Item = &'a Node>) -> Migration {
        let asked = self.hostname.as_deref().filter(|_| self.migration.target.is_none());
        let found = asked.and_then(|asked| nodes.into_iter().find(|node| node.hostname() == Some(asked)));
        let target = self.migration.target.clone().or_else(|| found.map(|node| node.name.clone()));
        Migration { target, ..self.migration.clone() }
    }
}

/// Converts a VMIM. What the scheduler says about its target pod is joined later.
#[must_use]
pub fn convert(migration: &VirtualMachineInstanceMigration) -> Converted<ObservedMigration> {
    let mut problems = Problems::default();
    let metadata = &migration.metadata;
    let nothing = VirtualMachineInstanceMigrationStatus::default();
    let status = migration.status.as_ref().unwrap_or(&nothing);
    let state = status.migration_state.as_ref();
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let node = |name: Option<&String>| name.filter(|name| !name.is_empty()).map(NodeName::new);
    if migration.spec.vmi_name.is_empty() {
        problems.note("spec.vmiName", "is missing; the migration belongs to no VM");
    }
    let refused = status.conditions.iter().find(|condition| condition.kind == REFUSED_BY_QUOTA && condition.is_true());
    let asked = migration.spec.added_node_selector.get(kubernetes::HOSTNAME);
    let plan = metadata.labels.as_ref().and_then(|labels| labels.get(ours::PLAN));
    let priority = migration.spec.priority.as_deref();
    let converted = Migration {
        name: MigrationName::new(namespace, objects::name(metadata).as_str()),
        uid: objects::uid(metadata),
        vm: VmKey::new(namespace, &migration.spec.vmi_name),
        phase: phase(status.phase.as_deref(), &mut problems),
        plan: plan.map(PlanName::new),
        system: priority.is_some_and(|priority| priority != "user-triggered")
            || objects::mark(metadata, kubevirt::EVACUATION_MIGRATION).is_some()
            || objects::mark(metadata, kubevirt::WORKLOAD_UPDATE_MIGRATION).is_some(),
        source: node(state.and_then(|state| state.source_node.as_ref())),
        target: node(state.and_then(|state| state.target_node.as_ref())),
        mode: state.and_then(|state| vmi::mode(state.mode.as_deref())),
        created: objects::created(metadata),
        trouble: refused.map(|condition| {
            TargetTrouble::QuotaRefused(condition.message.clone().unwrap_or_else(|| "a quota is used up".into()))
        }),
        deleting: metadata.deletion_timestamp.is_some(),
    };
    let hostname = asked.filter(|hostname| !hostname.is_empty()).cloned();
    Converted::new(ObservedMigration { migration: converted, hostname }, problems)
}

fn phase(name: Option<&str>, problems: &mut Problems) -> MigrationPhase {
    match name.unwrap_or_default() {
        "" | "Unset" | "Pending" => MigrationPhase::Pending,
        "Scheduling" | "Scheduled" | "PreparingTarget" | "TargetReady" | "WaitingForSync" | "Synchronizing" => {
            MigrationPhase::Preparing
        }
        "Running" => MigrationPhase::Running,
        "Succeeded" => MigrationPhase::Succeeded,
        "Failed" => MigrationPhase::Failed,
        other => {
            // It may hold a slot, so it counts as holding one.
            problems.note("status.phase", format!("unknown phase {other:?}; taken as under way"));
            MigrationPhase::Preparing
        }
    }
}
