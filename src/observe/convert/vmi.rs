//! VirtualMachineInstances. What their pods, nodes and VirtualMachines add is joined later.

use super::{Converted, Problems, objects, quantity, scheduling};
use k8s_openapi::{
    api::core::v1::PodSpec,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use miyako_api::{
    kubevirt::{MigrationState, VirtualMachineInstance, VirtualMachineInstanceStatus},
    names::{descheduler, kubevirt, marks, ours},
};
use miyako_core::model::{
    AppliedPolicy, Bytes, Labels, LastMigration, Marks, MigrationMode, Name, NodeName, NodeSelector, Operator,
    PostCopyMark, Requirement, Scheduling, Timestamp, Uid, Unsupported, Vm, VmActivity, VmKey,
};
use std::{collections::BTreeSet, sync::Arc};

/// A VM as its VMI alone tells it.
#[derive(Debug, Clone, PartialEq)]
pub struct ObservedVmi {
    /// The VM; `target`, `launcher_labels` and `user_migration_policy` are still empty.
    pub vm: Vm,
    /// What it asks of nodes and volumes.
    pub asks: Asks,
}

/// What a VMI asks of nodes and volumes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asks {
    /// What its launchers copy from its spec: node selector, affinity, tolerations, spread. KubeVirt may change it while
    /// the VM runs, and then the launcher that runs asks for something else.
    pub terms: Arc<Scheduling>,
    /// Its CPU model.
    pub cpu: CpuModel,
    /// What a hot-plug that is under way adds to it.
    pub plugged: Plugged,
    /// The claims behind its volumes, hot-plugged ones included.
    pub claims: BTreeSet<Name>,
    /// KubeVirt wants it off this node.
    pub evacuating_from: Option<NodeName>,
    /// What an eviction of it does (`spec.evictionStrategy`), if the VMI itself says.
    pub eviction: Option<String>,
    /// The migration that its status tells of and that has no end there.
    pub migrating: Option<Uid>,
    /// What else must end before it may move.
    pub besides: Option<VmActivity>,
    /// When the backup by changed blocks began that runs.
    pub backup_began: Option<Timestamp>,
}

/// The model of a VM's processor, as far as it decides where the VM may go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CpuModel {
    /// The host's model, so a target must offer the source's.
    #[default]
    Host,
    /// The host's own processor, so a target must have the same.
    Passthrough,
    /// A model by name, which the launcher's node selector names.
    Named,
}

/// What a VM's next launcher has and the one that runs has not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Plugged {
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Each of them requests a whole CPU.
    pub dedicated: bool,
    /// Guest memory.
    pub memory: Bytes,
}

/// Converts a VMI.
#[must_use]
pub fn convert(vmi: &VirtualMachineInstance) -> Converted<ObservedVmi> {
    let mut problems = Problems::default();
    let nothing = VirtualMachineInstanceStatus::default();
    let status = vmi.status.as_ref().unwrap_or(&nothing);
    let metadata = &vmi.metadata;
    let labels = metadata.labels.clone().unwrap_or_default();
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let phase = status.phase.as_deref().unwrap_or_default();
    let named = |name: &Option<String>| name.as_deref().filter(|name| !name.is_empty()).map(NodeName::new);
    let cpu = cpu_model(vmi);
    let (terms, unknown) = terms(vmi, cpu, namespace, &mut problems);
    let besides = activity(metadata, phase, status);
    let migrating = status.migration_state.as_ref().filter(|state| is_under_way(state));
    let migrating = migrating.and_then(|state| state.migration_uid.as_deref()).map(Uid::new);
    let vm = Vm {
        key: VmKey::new(namespace, objects::name(metadata).as_str()),
        uid: objects::uid(metadata),
        node: named(&status.node_name),
        running: phase == "Running",
        vcpus: vcpus(vmi, status, &mut problems),
        memory: memory(vmi, status, &mut problems),
        not_migratable: not_migratable(vmi, status),
        activity: match besides {
            Some(VmActivity::Stopping) => besides,
            _ if migrating.is_some() => Some(VmActivity::Migrating),
            _ => besides,
        },
        host_device: host_device(vmi),
        marks: read_marks(metadata, &mut problems),
        last_migration: status.migration_state.as_ref().and_then(last_migration),
        target: Arc::default(),
        unsupported: unsupported(vmi).or(unknown),
        launcher_labels: Labels::new(),
        mode_label: labels.get(ours::MIGRATION_MODE).and_then(|mode| match mode.as_str() {
            ours::POST_COPY => Some(MigrationMode::PostCopy),
            ours::PRE_COPY => Some(MigrationMode::PreCopy),
            _ => None,
        }),
        labels,
        user_migration_policy: None,
        equal_migration_policies: Vec::new(),
    };
    let asks = Asks {
        terms: Arc::new(terms),
        cpu,
        plugged: plugged(vmi, status, &mut problems),
        claims: vmi.spec.volumes.iter().filter_map(|volume| volume.claim()).map(Name::from).collect(),
        evacuating_from: named(&status.evacuation_node_name),
        eviction: vmi.spec.eviction_strategy.clone(),
        migrating,
        besides,
        backup_began: backup_began(status),
    };
    Converted::new(ObservedVmi { vm, asks }, problems)
}

/// What people wrote on a VMI or a VirtualMachine, as label or annotation.
pub fn read_marks(metadata: &ObjectMeta, problems: &mut Problems) -> Marks {
    let odd = |problems: &mut Problems, key: &str, value: &str, allowed: &str| {
        problems.note(format!("metadata.annotations[{key}]"), format!("{value:?} means nothing; write {allowed}"));
    };
    let never_consolidate = objects::mark(metadata, marks::CONSOLIDATE).is_some_and(|value| {
        if value != marks::NEVER && value != "always" {
            odd(problems, marks::CONSOLIDATE, value, marks::NEVER);
        }
        // A mark we can't read was still meant to restrain us.
        value != "always"
    });
    let post_copy = objects::mark(metadata, marks::POST_COPY).map(|value| match value {
        marks::ALLOW => PostCopyMark::Allow,
        marks::NEVER => PostCopyMark::Never,
        other => {
            odd(problems, marks::POST_COPY, other, "allow or never");
            PostCopyMark::Never
        }
    });
    let prefer_no_eviction =
        objects::mark(metadata, marks::PREFER_NO_EVICTION).is_some_and(|value| !value.eq_ignore_ascii_case("false"));
    Marks { never_consolidate, prefer_no_eviction, post_copy }
}

fn cpu_model(vmi: &VirtualMachineInstance) -> CpuModel {
    match vmi.spec.domain.cpu.as_ref().and_then(|cpu| cpu.model.as_deref()).filter(|model| !model.is_empty()) {
        Some("host-model") => CpuModel::Host,
        Some("host-passthrough") => CpuModel::Passthrough,
        Some(_) => CpuModel::Named,
        // What virt-api writes into a VMI that does not say.
        None if vmi.spec.architecture.as_deref() == Some("arm64") => CpuModel::Passthrough,
        None => CpuModel::Host,
    }
}

/// What virt-controller copies into each launcher, with the node affinities that it adds for the processor
/// (`pkg/virt-controller/services/template.go`), and the first thing there that we do not understand.
fn terms(
    vmi: &VirtualMachineInstance,
    cpu: CpuModel,
    namespace: &str,
    problems: &mut Problems,
) -> (Scheduling, Option<Unsupported>) {
    let own = &vmi.spec;
    let spec = PodSpec {
        node_selector: Some(own.node_selector.clone()),
        affinity: own.affinity.clone(),
        tolerations: Some(own.tolerations.clone()),
        topology_spread_constraints: Some(own.topology_spread_constraints.clone()),
        scheduler_name: own.scheduler_name.clone(),
        ..PodSpec::default()
    };
    let (mut terms, unknown) = scheduling::of(&spec, None, namespace, problems);
    let features = own.domain.cpu.iter().flat_map(|cpu| &cpu.features);
    let forbidden = features.filter(|feature| feature.policy.as_deref() == Some("forbid"));
    let mut rejected: Vec<_> =
        forbidden.map(|feature| format!("{}{}", kubevirt::CPU_FEATURE_PREFIX, feature.name)).collect();
    if cpu == CpuModel::Host {
        rejected.push(kubevirt::HOST_MODEL_OBSOLETE.to_owned());
    }
    for key in rejected {
        let required = terms.node_affinity.get_or_insert_with(|| NodeSelector { terms: vec![Default::default()] });
        for term in &mut required.terms {
            term.labels.push(Requirement { key: key.clone(), operator: Operator::DoesNotExist, values: Vec::new() });
        }
    }
    (terms, unknown.into_iter().next())
}

/// What a hot-plug under way will add. KubeVirt brings it by a migration, whose target asks for it.
fn plugged(vmi: &VirtualMachineInstance, status: &VirtualMachineInstanceStatus, problems: &mut Problems) -> Plugged {
    let domain = &vmi.spec.domain;
    let holds = |kind: &str| status.condition(kind).is_some_and(|condition| condition.is_true());
    let mut plugged = Plugged::default();
    // A request that the VMI itself names stays what it is.
    if let Some(cpu) = domain.cpu.as_ref().filter(|_| holds("HotVCPUChange"))
        && !domain.resources.requests.contains_key("cpu")
    {
        plugged.vcpus = cpu.vcpus().saturating_sub(vcpus(vmi, status, problems));
        plugged.dedicated = cpu.dedicated_cpu_placement == Some(true);
    }
    let guest = domain.memory.as_ref().and_then(|memory| memory.guest.as_ref());
    if let Some(guest) = guest.filter(|_| holds("HotMemoryChange")) {
        let wanted: Bytes = problems.or_default("spec.domain.memory.guest", quantity::bytes(&guest.0));
        plugged.memory = wanted.saturating_sub(memory(vmi, status, problems));
    }
    plugged
}

fn vcpus(vmi: &VirtualMachineInstance, status: &VirtualMachineInstanceStatus, problems: &mut Problems) -> u32 {
    if let Some(now) = &status.current_cpu_topology {
        let part = |part: u32| part.max(1);
        return part(now.sockets).saturating_mul(part(now.cores)).saturating_mul(part(now.threads));
    }
    if let Some(cpu) = &vmi.spec.domain.cpu
        && (cpu.sockets.is_some() || cpu.cores.is_some() || cpu.threads.is_some())
    {
        return cpu.vcpus();
    }
    // Without a topology KubeVirt gives as many vCPUs as CPUs are allowed or, failing that, requested.
    let resources = &vmi.spec.domain.resources;
    let cpu = resources.limits.get("cpu").or_else(|| resources.requests.get("cpu"));
    let Some(cpu) = cpu else { return 1 };
    let whole = problems.or_default("spec.domain.resources", quantity::whole(&cpu.0));
    u32::try_from(whole).unwrap_or(u32::MAX).max(1)
}

fn memory(vmi: &VirtualMachineInstance, status: &VirtualMachineInstanceStatus, problems: &mut Problems) -> Bytes {
    let domain = &vmi.spec.domain;
    let now = status.memory.as_ref().and_then(|memory| memory.guest_current.as_ref());
    let declared = domain.memory.as_ref().and_then(|memory| memory.guest.as_ref());
    let requested = domain.resources.requests.get("memory").or_else(|| domain.resources.limits.get("memory"));
    let Some(memory) = now.or(declared).or(requested) else {
        problems.note("spec.domain.memory.guest", "is missing, so the VM's memory is not known");
        return Bytes(0);
    };
    problems.or_default("spec.domain.memory.guest", quantity::bytes(&memory.0))
}

fn not_migratable(vmi: &VirtualMachineInstance, status: &VirtualMachineInstanceStatus) -> Option<String> {
    if vmi.spec.domain.launch_security.is_some() {
        return Some("confidential computing (spec.domain.launchSecurity)".into());
    }
    let Some(condition) = status.condition("LiveMigratable") else {
        return Some("KubeVirt has not said yet whether it can migrate (no condition LiveMigratable)".into());
    };
    (!condition.is_true()).then(|| {
        let reason = condition.reason.as_deref().filter(|reason| !reason.is_empty());
        let message = condition.message.as_deref().filter(|message| !message.is_empty());
        match (reason, message) {
            (Some(reason), Some(message)) => format!("{reason}: {message}"),
            (Some(one), None) | (None, Some(one)) => one.to_owned(),
            (None, None) => format!("LiveMigratable is {}", condition.status),
        }
    })
}

/// The weightiest thing besides a migration that must end before the VM may move. An old launcher that has not exited is
/// counted from the pods themselves: `status.activePods` lists finished ones too, which stay for as long as their
/// migration is kept.
fn activity(metadata: &ObjectMeta, phase: &str, status: &VirtualMachineInstanceStatus) -> Option<VmActivity> {
    let holds = |kind: &str| status.condition(kind).is_some_and(|condition| condition.is_true());
    let stopping = metadata.deletion_timestamp.is_some() || matches!(phase, "Succeeded" | "Failed");
    let evacuating = status.evacuation_node_name.as_deref().is_some_and(|node| !node.is_empty())
        || objects::annotation(metadata, descheduler::EVICTION_IN_PROGRESS).is_some();
    let plugging = |phase: &str| !matches!(phase, "Ready" | "VolumeReady" | "MountedToPod");
    let hotplugging = holds("HotVCPUChange")
        || holds("HotMemoryChange")
        || holds("MigrationRequired")
        || status
            .volume_status
            .iter()
            .any(|volume| volume.hotplug_volume.is_some() && volume.phase.as_deref().is_none_or(plugging));
    let changing_volumes = holds("VolumesChange") || !status.migrated_volumes.is_empty();
    // Snapshots and backups freeze the guest's file systems.
    let frozen = status.fs_freeze_status.as_deref() == Some("frozen");
    [
        (stopping, VmActivity::Stopping),
        (evacuating, VmActivity::Evacuating),
        (hotplugging, VmActivity::Hotplugging),
        (changing_volumes, VmActivity::ChangingVolumes),
        (frozen || backing_up(status), VmActivity::BackingUp),
        (holds("Paused"), VmActivity::Paused),
    ]
    .into_iter()
    .find_map(|(is, activity)| is.then_some(activity))
}

fn backup_began(status: &VirtualMachineInstanceStatus) -> Option<Timestamp> {
    let backup = status.changed_block_tracking.as_ref()?.get("backupStatus")?;
    let began: Time = serde_json::from_value(backup.get("startTimestamp")?.clone()).ok()?;
    backing_up(status).then(|| objects::timestamp(&began))
}

fn backing_up(status: &VirtualMachineInstanceStatus) -> bool {
    let backup = status.changed_block_tracking.as_ref().and_then(|tracking| tracking.get("backupStatus"));
    let backup = backup.is_some_and(|backup| {
        let says = |field: &str| backup.get(field).and_then(serde_json::Value::as_bool) == Some(true);
        !backup.is_null() && !says("completed") && !says("failed")
    });
    // A memory dump is a volume that passes through phases of its own.
    let dumping =
        |volume: &miyako_api::kubevirt::VolumeStatus| volume.phase.as_deref() == Some("MemoryDumpVolumeInProgress");
    backup || status.volume_status.iter().any(dumping)
}

fn is_under_way(state: &MigrationState) -> bool {
    !state.completed && !state.failed && state.end_timestamp.is_none() && state.migration_uid.is_some()
}

fn last_migration(state: &MigrationState) -> Option<LastMigration> {
    let named = |name: &Option<String>| name.as_deref().filter(|name| !name.is_empty()).map(NodeName::new);
    let moment = |time: &Option<Time>| time.as_ref().map(objects::timestamp);
    let aborted = state.abort_status.as_deref() == Some("Succeeded");
    Some(LastMigration {
        uid: Uid::new(state.migration_uid.as_deref()?),
        source: named(&state.source_node),
        target: named(&state.target_node),
        started: moment(&state.start_timestamp),
        ended: moment(&state.end_timestamp),
        completed: state.completed,
        failed: state.failed || aborted,
        failure: state.failure_reason.clone().or_else(|| aborted.then(|| "aborted".to_owned())),
        mode: mode(state.mode.as_deref()),
        policy: match state.migration_policy_name.as_deref() {
            None | Some("") => AppliedPolicy::None,
            Some(ours::POST_COPY_POLICY) => AppliedPolicy::Ours(MigrationMode::PostCopy),
            Some(ours::PRE_COPY_POLICY) => AppliedPolicy::Ours(MigrationMode::PreCopy),
            Some(other) => AppliedPolicy::Other(other.to_owned()),
        },
    })
}

/// KubeVirt's name of a migration's mode. `Paused` is a pre-copy that stops the VM at the end.
#[must_use]
pub fn mode(name: Option<&str>) -> Option<MigrationMode> {
    match name? {
        "PreCopy" | "Paused" => Some(MigrationMode::PreCopy),
        "PostCopy" => Some(MigrationMode::PostCopy),
        _ => None,
    }
}

fn host_device(vmi: &VirtualMachineInstance) -> bool {
    let devices = &vmi.spec.domain.devices;
    !devices.host_devices.is_empty()
        || !devices.gpus.is_empty()
        || devices.client_passthrough.is_some()
        || devices.interfaces.iter().any(|interface| interface.sriov.is_some())
}

fn unsupported(vmi: &VirtualMachineInstance) -> Option<Unsupported> {
    let cpu = vmi.spec.domain.cpu.as_ref();
    let field = if !vmi.spec.resource_claims.is_empty() {
        "spec.resourceClaims"
    } else if cpu.is_some_and(|cpu| cpu.numa.is_some()) {
        // The kubelet's topology manager may refuse what the scheduler accepts.
        "spec.domain.cpu.numa"
    } else {
        return None;
    };
    Some(Unsupported { field: field.into() })
}
