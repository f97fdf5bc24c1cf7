//! Nodes.

use super::{Converted, Problems, objects, quantity, scheduling};
use k8s_openapi::api::core::v1::{Node as KubeNode, Taint as KubeTaint};
use miyako_api::names::{GROUP, kubernetes, kubevirt, marks};
use miyako_core::model::{Node, Taint, TaintEffect};
use miyako_core::power::NodeCondition;

/// Taints that Kubernetes and KubeVirt set by themselves while a node is unwell: they come and go without anybody
/// working on the node. A cordon has its own field.
const OWN_ACCORD: [&str; 8] = [
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
    "node.kubernetes.io/memory-pressure",
    "node.kubernetes.io/disk-pressure",
    "node.kubernetes.io/pid-pressure",
    "node.kubernetes.io/network-unavailable",
    "node.kubernetes.io/unschedulable",
    "node.cloudprovider.kubernetes.io/uninitialized",
];

/// Taints that mean "is being drained, upgraded or taken away", by the programs that set them.
const MAINTENANCE: [&str; 8] = [
    kubevirt::DRAIN_TAINT,
    "node.kubernetes.io/out-of-service",
    "medik8s.io/drain",
    "ToBeDeletedByClusterAutoscaler",
    "DeletionCandidateOfClusterAutoscaler",
    "karpenter.sh/disrupted",
    "node.cloudprovider.kubernetes.io/shutdown",
    "UpdateInProgress",
];

/// Annotations that mean the same.
const MAINTENANCE_ANNOTATIONS: [(&str, &[&str]); 3] = [
    // The machine-config operator of OpenShift and OKD.
    ("machineconfiguration.openshift.io/state", &["Working", "Degraded"]),
    ("harvesterhci.io/maintain-status", &["running", "completed"]),
    ("weave.works/kured-reboot-in-progress", &[]),
];

/// A node and what else its object told.
#[derive(Debug, Clone, PartialEq)]
pub struct ObservedNode {
    /// The node as the planner sees it.
    pub node: Node,
    /// Its kubelet's version: several of them in one cluster mean an upgrade.
    pub kubelet: String,
}

/// Converts a node. Its power, wake test and virt-handler come from other objects.
#[must_use]
pub fn convert(node: &KubeNode) -> Converted<ObservedNode> {
    let mut problems = Problems::default();
    let metadata = &node.metadata;
    let labels = metadata.labels.clone().unwrap_or_default();
    let status = node.status.as_ref();
    let spec = node.spec.as_ref();
    let allocatable = status.and_then(|status| status.allocatable.as_ref());
    let mut converted = Node::new(
        objects::name(metadata).as_str(),
        quantity::resources(allocatable, "status.allocatable", &mut problems),
    );
    converted.taints = spec
        .and_then(|spec| spec.taints.as_ref())
        .into_iter()
        .flatten()
        .enumerate()
        .filter_map(|(index, taint)| read_taint(index, taint, &mut problems))
        .collect();
    converted.unschedulable = spec.and_then(|spec| spec.unschedulable) == Some(true);
    let conditions = || status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
    let held = conditions().filter(|condition| condition.status == "True").map(|condition| condition.type_.clone());
    converted.conditions = held.collect();
    converted.ready = converted.conditions.contains("Ready");
    converted.power_condition = conditions().find(|condition| condition.type_ == NodeCondition::TYPE).and_then(|own| {
        let since = own.last_transition_time.as_ref().map(objects::timestamp).unwrap_or_default();
        Some((NodeCondition::of_reason(own.reason.as_deref()?)?, since))
    });
    converted.boot_id = status.and_then(|status| status.node_info.as_ref()).map(|info| info.boot_id.clone());
    converted.control_plane = [kubernetes::CONTROL_PLANE, "node-role.kubernetes.io/master"]
        .into_iter()
        .any(|role| labels.contains_key(role) || converted.taints.iter().any(|taint| taint.key == role));
    converted.keep_awake = objects::mark(metadata, marks::KEEP_AWAKE).map(|reason| match reason {
        "" => "no reason given".to_owned(),
        reason => reason.to_owned(),
    });
    converted.attached_volumes = attached_volumes(node);
    converted.maintenance = maintenance(node, &converted);
    converted.virt_handler_ready = false;
    converted.labels = labels;
    let kubelet = status.and_then(|status| status.node_info.as_ref()).map(|info| info.kubelet_version.clone());
    Converted::new(ObservedNode { node: converted, kubelet: kubelet.unwrap_or_default() }, problems)
}

fn read_taint(index: usize, taint: &KubeTaint, problems: &mut Problems) -> Option<Taint> {
    let effect = scheduling::effect(&taint.effect);
    if effect.is_none() {
        problems.note(format!("spec.taints[{index}].effect"), format!("unknown effect {:?}", taint.effect));
    }
    Some(Taint { key: taint.key.clone(), value: taint.value.clone().unwrap_or_default(), effect: effect? })
}

fn attached_volumes(node: &KubeNode) -> Vec<String> {
    let Some(status) = &node.status else { return Vec::new() };
    let attached = status.volumes_attached.iter().flatten().map(|volume| volume.name.clone());
    let mut volumes: Vec<_> = attached.chain(status.volumes_in_use.iter().flatten().cloned()).collect();
    volumes.sort();
    volumes.dedup();
    volumes
}

/// Who works on the node, as far as cordon, taints and annotations tell. A permanent taint such as
/// `dedicated=db:NoSchedule` is a constraint, not maintenance; our own taints are neither.
fn maintenance(node: &KubeNode, converted: &Node) -> Option<String> {
    if node.metadata.deletion_timestamp.is_some() {
        return Some("the Node is being deleted".into());
    }
    if let Some(taint) = converted.taints.iter().find(|taint| is_maintenance(taint)) {
        return Some(format!("taint {}", taint.key));
    }
    if converted.unschedulable {
        return Some("cordoned".into());
    }
    let says = |(key, states): &(&str, &[&str])| {
        let value = objects::annotation(&node.metadata, key)?;
        (states.is_empty() || states.contains(&value)).then(|| format!("annotation {key}: {value}"))
    };
    MAINTENANCE_ANNOTATIONS.iter().find_map(says)
}

fn is_maintenance(taint: &Taint) -> bool {
    let key = taint.key.as_str();
    let group = key.split('/').next().unwrap_or_default();
    let ours = group == GROUP || group.ends_with(&format!(".{GROUP}"));
    let word = |word: &str| key.to_ascii_lowercase().contains(word);
    !ours
        && !OWN_ACCORD.contains(&key)
        && (taint.effect == TaintEffect::NoExecute
            || MAINTENANCE.contains(&key)
            || word("drain")
            || word("maintenance")
            || word("upgrade"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value, json};

    fn node(spec: Value, annotations: Value) -> Node {
        let object = json!({"metadata": {"name": "n1", "annotations": annotations}, "spec": spec});
        let converted = convert(&from_value(object).unwrap());
        assert_eq!(converted.problems, []);
        converted.value.node
    }

    #[test]
    fn maintenance_is_what_others_do_to_a_node() {
        let taint = |key: &str, effect: &str| json!({"taints": [{"key": key, "effect": effect}]});
        let cases = [
            (taint("kubevirt.io/drain", "NoSchedule"), Some("taint kubevirt.io/drain")),
            (taint("team.example/away", "NoExecute"), Some("taint team.example/away")),
            (json!({"unschedulable": true}), Some("cordoned")),
            (taint("dedicated", "NoSchedule"), None),
            (taint("node.kubernetes.io/unreachable", "NoExecute"), None),
            (taint("miyako.dev/suspending", "NoSchedule"), None),
        ];
        for (spec, expected) in cases {
            assert_eq!(node(spec.clone(), json!({})).maintenance.as_deref(), expected, "{spec}");
        }
        let upgrading = node(json!({}), json!({"machineconfiguration.openshift.io/state": "Working"}));
        assert!(upgrading.maintenance.is_some());
    }

    #[test]
    fn a_node_without_a_status_is_not_ready_and_has_no_room() {
        let node = node(json!({}), json!({"miyako.dev/keep-awake": ""}));
        assert!(!node.ready && node.allocatable.pods == 0);
        assert_eq!(node.keep_awake.as_deref(), Some("no reason given"));
    }

    #[test]
    fn nonsense_in_the_status_is_named_and_counts_as_nothing() {
        let object = json!({"metadata": {"name": "n1"}, "status": {"allocatable": {"cpu": "NaN", "memory": "-5"}},
            "spec": {"taints": [{"key": "a", "effect": "Sometimes"}]}});
        let converted = convert(&from_value(object).unwrap());
        let fields: Vec<_> = converted.problems.iter().map(|problem| problem.field.as_str()).collect();
        assert_eq!(fields, ["status.allocatable.cpu", "status.allocatable.memory", "spec.taints[0].effect"]);
        assert_eq!(converted.value.node.allocatable, Default::default());
    }
}
