//! Pods: whose they are, what they ask for, and what a launcher pod says about its VM's next target.

use super::{Converted, Problems, neighbours, objects, scheduling};
use k8s_openapi::api::core::v1::{Pod as KubePod, PodCondition, PodSpec, PodStatus, Volume};
use miyako_api::control_plane;
use miyako_api::names::{kubernetes, kubevirt};
use miyako_core::model::{
    Name, NodeName, Pod, PodKey, PodOwner, PodPhase, Scheduling, Selector, Timestamp, Uid, Unsupported, VmKey,
};
use std::{collections::BTreeSet, sync::Arc};

/// A pod and what else its object told.
#[derive(Debug, Clone, PartialEq)]
pub struct ObservedPod {
    /// The pod as the planner sees it. Of a bound pod only those constraints are kept that other pods feel:
    /// requests, host ports and anti-affinity.
    pub pod: Pod,
    /// Of a launcher: what matters for its VM.
    pub launcher: Option<Launcher>,
    /// Of a pod without a node: the claims it mounts.
    pub claims: BTreeSet<Name>,
    /// A ready virt-handler.
    pub ready_handler: bool,
    /// A descheduler that evicts.
    pub descheduler: bool,
    /// A cluster autoscaler that removes nodes which do not answer.
    pub autoscaler: bool,
}

/// What a launcher pod tells about its VM.
#[derive(Debug, Clone, PartialEq)]
pub struct Launcher {
    /// All its constraints, volumes and the anti-affinity towards its VM's other launchers not included.
    pub scheduling: Arc<Scheduling>,
    /// A constraint that we do not understand and that its next pod has too. What a pod copies from its VMI is judged
    /// there: the VMI may say something else by now.
    pub unsupported: Option<Unsupported>,
    /// The claims it mounts.
    pub claims: BTreeSet<Name>,
    /// When it was created.
    pub created: Timestamp,
    /// Why the scheduler finds no place for it.
    pub unschedulable: Option<String>,
}

/// Converts a pod.
#[must_use]
pub fn convert(pod: &KubePod) -> Converted<ObservedPod> {
    let mut problems = Problems::default();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let nothing = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or_else(|| {
        problems.note("spec", "is missing; the pod is taken to ask for nothing");
        &nothing
    });
    let status = pod.status.as_ref();
    let owner = owner(pod, &mut problems);
    let (mut all, unsupported) = scheduling::of(spec, status, namespace, &mut problems);
    if let PodOwner::Vm { uid, .. } = &owner {
        // KubeVirt keeps the launchers of one VM on different nodes. That a migration leaves its node is known anyway
        // (`Candidate::leaves`), and without the uid thousands of launchers share a few values.
        let own = Selector::label(kubevirt::CREATED_BY, uid.as_str());
        all.anti_affinity.retain(|term| term.selector != own);
    }
    let all = Arc::new(all);
    let node = spec.node_name.as_deref().filter(|node| !node.is_empty()).map(NodeName::new);
    let unschedulable = unschedulable(status);
    let claims = || spec.volumes.iter().flatten().filter_map(|volume| claim(volume, name)).collect();
    let launcher = matches!(owner, PodOwner::Vm { .. }).then(|| Launcher {
        scheduling: Arc::clone(&all),
        unsupported: unsupported.into_iter().find(|unknown| !is_copied_from_vmi(&unknown.field)),
        claims: claims(),
        created: objects::created(&pod.metadata),
        unschedulable: unschedulable.clone(),
    });
    let waits_for = if node.is_none() { claims() } else { BTreeSet::new() };
    let scheduling = if node.is_some() { Arc::new(felt_by_others(&all)) } else { all };
    let converted = Pod {
        key: PodKey::new(namespace, name),
        uid: objects::uid(&pod.metadata),
        node,
        phase: match status.and_then(|status| status.phase.as_deref()) {
            Some("Succeeded" | "Failed") => PodPhase::Finished,
            Some("Running" | "Unknown") => PodPhase::Running,
            _ => PodPhase::Pending,
        },
        terminating: pod.metadata.deletion_timestamp.is_some(),
        labels: pod.metadata.labels.clone().unwrap_or_default(),
        owner,
        ready: condition(status, "Ready").is_some_and(|condition| condition.status == "True"),
        unschedulable: unschedulable.is_some(),
        scheduling,
    };
    let ready_handler = converted.labels.get(kubevirt::APP).is_some_and(|app| app == kubevirt::HANDLER)
        && !converted.terminating
        && converted.ready;
    let descheduler = neighbours::is_descheduler(&converted.labels, spec);
    let autoscaler = neighbours::is_autoscaler(&converted.labels, spec);
    let observed = ObservedPod { pod: converted, launcher, claims: waits_for, ready_handler, descheduler, autoscaler };
    Converted::new(observed, problems)
}

/// Who is behind a pod. A launcher without a readable VM is nobody's: it keeps its node awake, and nothing moves it.
fn owner(pod: &KubePod, problems: &mut Problems) -> PodOwner {
    let metadata = &pod.metadata;
    if objects::annotation(metadata, kubernetes::MIRROR_POD).is_some() {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
        let manifest = control_plane::manifest(metadata.name.as_deref().unwrap_or_default(), node);
        let control_plane = control_plane::is_static_pod(manifest);
        return PodOwner::Static { manifest: Name::from(manifest), control_plane };
    }
    let label =
        |key: &str| metadata.labels.as_ref().and_then(|labels| labels.get(key)).filter(|value| !value.is_empty());
    if label(kubevirt::APP).is_some_and(|app| app == kubevirt::LAUNCHER) {
        let vm = objects::annotation(metadata, kubevirt::DOMAIN)
            .or_else(|| objects::controller(metadata, "VirtualMachineInstance"))
            .or_else(|| label(kubevirt::DOMAIN_NAME).map(String::as_str));
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        if let (Some(vm), Some(uid)) = (vm, label(kubevirt::CREATED_BY)) {
            let target_of = label(kubevirt::MIGRATION_JOB_UID).map(Uid::new);
            return PodOwner::Vm { vm: VmKey::new(namespace, vm), uid: Uid::new(uid), target_of };
        }
        problems.note(
            format!("metadata.labels[{}]", kubevirt::CREATED_BY),
            "a launcher pod that does not say whose it is; it is taken for an ordinary pod",
        );
    }
    match objects::controller(metadata, "DaemonSet") {
        Some(daemon_set) => PodOwner::DaemonSet(Name::from(daemon_set)),
        None => PodOwner::Other,
    }
}

fn is_copied_from_vmi(field: &str) -> bool {
    ["spec.affinity", "spec.tolerations", "spec.topologySpreadConstraints"]
        .iter()
        .any(|copied| field.starts_with(copied))
}

/// Of a bound pod's constraints those that decide where *others* may run.
fn felt_by_others(all: &Scheduling) -> Scheduling {
    Scheduling {
        requests: all.requests.clone(),
        anti_affinity: all.anti_affinity.clone(),
        host_ports: all.host_ports.clone(),
        ..Scheduling::default()
    }
}

fn claim(volume: &Volume, pod: &str) -> Option<Name> {
    if let Some(claim) = &volume.persistent_volume_claim {
        return Some(Name::from(claim.claim_name.as_str()));
    }
    volume.ephemeral.as_ref().map(|_| Name::from(format!("{pod}-{}", volume.name).as_str()))
}

fn condition<'a>(status: Option<&'a PodStatus>, kind: &str) -> Option<&'a PodCondition> {
    status?.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

fn unschedulable(status: Option<&PodStatus>) -> Option<String> {
    let scheduled = condition(status, "PodScheduled")?;
    let nowhere = scheduled.status == "False" && scheduled.reason.as_deref() == Some("Unschedulable");
    nowhere.then(|| scheduled.message.clone().unwrap_or_else(|| "the scheduler gives no reason".into()))
}
