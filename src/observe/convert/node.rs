//! Nodes.

use super::neighbours::{self, NodeSays};
use super::{Converted, Problems, objects, quantity, scheduling};
use k8s_openapi::{
    api::core::v1::{Node as KubeNode, Taint as KubeTaint},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use miyako_api::control_plane;
use miyako_api::names::{GROUP, kubevirt, marks};
use miyako_core::fit::goes_by_itself;
use miyako_core::model::{Labels, Node, NodeCondition, Taint, TaintEffect, Timestamp};
use std::collections::BTreeSet;

/// Taints that mean "is being drained, upgraded or taken away", by the programs that set them.
const MAINTENANCE: [&str; 7] = [
    kubevirt::DRAIN_TAINT,
    "node.kubernetes.io/out-of-service",
    "medik8s.io/drain",
    "ToBeDeletedByClusterAutoscaler",
    "DeletionCandidateOfClusterAutoscaler",
    "karpenter.sh/disrupted",
    "UpdateInProgress",
];

/// Stands for a cordon, which has its own field.
const CORDON: &str = "node.kubernetes.io/unschedulable";

/// Annotations that mean the same.
const MAINTENANCE_ANNOTATIONS: [(&str, &[&str]); 3] = [
    // The machine-config operator of OpenShift and OKD.
    ("machineconfiguration.openshift.io/state", &["Working", "Degraded"]),
    ("harvesterhci.io/maintain-status", &["running", "completed"]),
    ("weave.works/kured-reboot-in-progress", &[]),
];

/// Words in the names of labels that people put on nodes through which other nodes' traffic goes: Cilium's egress
/// policies, Antrea's pools and OVN's gateways all select nodes by labels, which nothing else marks.
const GATEWAYS: [&str; 3] = ["egress", "gateway", "route-reflector"];

/// Labels and annotations of network plugins that say the same in other words.
const GATEWAY_KEYS: [&str; 3] = [
    // Calico: the node is a BGP route reflector.
    "projectcalico.org/RouteReflectorClusterID",
    // OVN-Kubernetes: egress addresses may be assigned to the node.
    "k8s.ovn.org/egress-assignable",
    // Kube-OVN: the node is a gateway to the outside.
    "ovn.kubernetes.io/external-gw",
];

/// A node and what else its object told.
#[derive(Debug, Clone, PartialEq)]
pub struct ObservedNode {
    /// The node as the planner sees it, but for the maintenance that only taints tell of.
    pub node: Node,
    /// Keys of the taints that tell of maintenance, unless the node's class knows better.
    pub maintenance_taints: Vec<String>,
    /// Its kubelet's version: several of them in one cluster mean an upgrade.
    pub kubelet: String,
    /// What it says to programs of others.
    pub says: NodeSays,
    /// Since when it has not been ready; none while it is, or where nobody says.
    pub down_since: Option<Timestamp>,
}

impl ObservedNode {
    /// The node, of whose taints its class says that these pass with its sleep.
    #[must_use]
    pub fn with_passing(&self, passing: &BTreeSet<String>) -> Node {
        let mut node = self.node.clone();
        let taint = self.maintenance_taints.iter().find(|key| !passing.contains(*key));
        node.maintenance = node.maintenance.or_else(|| taint.map(|key| format!("taint {key}")));
        node.passing_taints.clone_from(passing);
        node
    }
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
    let ready = conditions().find(|condition| condition.type_ == "Ready" && condition.status != "True");
    let down_since = ready.and_then(|condition| condition.last_transition_time.as_ref()).map(objects::timestamp);
    converted.power_condition = conditions().find(|condition| condition.type_ == NodeCondition::TYPE).and_then(|own| {
        let since = own.last_transition_time.as_ref().map(objects::timestamp).unwrap_or_default();
        Some((NodeCondition::of_reason(own.reason.as_deref()?)?, since))
    });
    converted.boot_id = status.and_then(|status| status.node_info.as_ref()).map(|info| info.boot_id.clone());
    let label = labels.iter().find(|(key, value)| control_plane::is_role(key, value));
    let label = label.map(|(key, _)| format!("label {key}"));
    let taint = || {
        let keys = spec.and_then(|spec| spec.taints.as_ref()).into_iter().flatten().map(|taint| &taint.key);
        keys.into_iter().find(|key| control_plane::is_role(key, "")).map(|key| format!("taint {key}"))
    };
    converted.control_plane = label.or_else(taint);
    converted.keep_awake = objects::mark(metadata, marks::KEEP_AWAKE).map(|reason| match reason {
        "" => "no reason given".to_owned(),
        reason => reason.to_owned(),
    });
    converted.attached_volumes = attached_volumes(node);
    let addresses = status.and_then(|status| status.addresses.as_ref()).into_iter().flatten();
    let ips = addresses.filter(|address| matches!(address.type_.as_str(), "InternalIP" | "ExternalIP"));
    converted.addresses = ips.map(|address| address.address.clone()).collect();
    converted.maintenance = maintenance(node, &converted);
    converted.virt_handler_ready = false;
    converted.gateway = gateway(&labels, metadata);
    converted.labels = labels;
    let maintenance_taints = converted.taints.iter().filter(|taint| is_maintenance(taint));
    let maintenance_taints = maintenance_taints.map(|taint| taint.key.clone()).collect();
    let kubelet = status.and_then(|status| status.node_info.as_ref()).map(|info| info.kubelet_version.clone());
    let (kubelet, says) = (kubelet.unwrap_or_default(), neighbours::node_says(node));
    let observed = ObservedNode { node: converted, maintenance_taints, kubelet, says, down_since };
    Converted::new(observed, problems)
}

/// What says that other nodes' traffic goes through this one, so that its network pods serve not it alone.
fn gateway(labels: &Labels, metadata: &ObjectMeta) -> Option<String> {
    let on = |value: &str| !value.eq_ignore_ascii_case("false");
    let word = |key: &str| {
        let name = key.rsplit_once('/').map_or(key, |(_, name)| name).to_ascii_lowercase();
        let bounded = |word: &&str| {
            name.match_indices(*word).any(|(at, _)| {
                let (before, after) = (&name[..at], &name[at + word.len()..]);
                let apart = ['-', '.', '_'];
                (before.is_empty() || before.ends_with(apart)) && (after.is_empty() || after.starts_with(apart))
            })
        };
        GATEWAYS.iter().any(bounded)
    };
    let label = labels.iter().find(|(key, value)| on(value) && (GATEWAY_KEYS.contains(&key.as_str()) || word(key)));
    let annotation = || {
        let key = GATEWAY_KEYS.iter().find(|key| objects::annotation(metadata, key).is_some_and(on))?;
        Some(format!("annotation {key}"))
    };
    label.map(|(key, _)| format!("label {key}")).or_else(annotation)
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

/// Who works on the node, as far as cordon and annotations tell.
fn maintenance(node: &KubeNode, converted: &Node) -> Option<String> {
    if node.metadata.deletion_timestamp.is_some() {
        return Some("the Node is being deleted".into());
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

/// Whether somebody works on the node, as this taint tells. A permanent one such as `dedicated=db:NoSchedule` is a
/// constraint, not maintenance; our own taints are neither, and so is what controllers say of a node that does not answer.
fn is_maintenance(taint: &Taint) -> bool {
    let key = taint.key.as_str();
    let group = key.split('/').next().unwrap_or_default();
    let ours = group == GROUP || group.ends_with(&format!(".{GROUP}"));
    let word = |word: &str| key.to_ascii_lowercase().contains(word);
    !ours
        && key != CORDON
        && !goes_by_itself(key)
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
        converted.value.with_passing(&BTreeSet::new())
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
            (taint("node.cloudprovider.kubernetes.io/shutdown", "NoSchedule"), None),
            (taint("node.kubernetes.io/out-of-service", "NoExecute"), Some("taint node.kubernetes.io/out-of-service")),
        ];
        for (spec, expected) in cases {
            assert_eq!(node(spec.clone(), json!({})).maintenance.as_deref(), expected, "{spec}");
        }
        let upgrading = node(json!({}), json!({"machineconfiguration.openshift.io/state": "Working"}));
        assert!(upgrading.maintenance.is_some());
    }

    #[test]
    fn a_taint_that_the_class_knows_to_pass_is_no_maintenance_and_hides_none() {
        let taint = |key: &str| json!({"key": key, "effect": "NoExecute"});
        let object =
            json!({"metadata": {"name": "n1"}, "spec": {"taints": [taint("ours.example/silent"), taint("b/c")]}});
        let observed = convert(&from_value(object).unwrap()).value;
        let maintenance =
            |passing: &[&str]| observed.with_passing(&passing.iter().map(ToString::to_string).collect()).maintenance;
        assert_eq!(maintenance(&[]).as_deref(), Some("taint ours.example/silent"));
        assert_eq!(maintenance(&["ours.example/silent"]).as_deref(), Some("taint b/c"));
        assert_eq!(maintenance(&["ours.example/silent", "b/c"]), None);
    }

    #[test]
    fn nodes_that_carry_the_traffic_of_others_say_so() {
        let by = |labels: Value, annotations: Value| {
            let object = json!({"metadata": {"name": "n1", "labels": labels, "annotations": annotations}});
            convert(&from_value(object).unwrap()).value.node.gateway
        };
        for key in [
            "egress-node",
            "example.org/egress-gateway",
            "node-role.kubernetes.io/gateway",
            "route-reflector",
            "k8s.ovn.org/egress-assignable",
            "ovn.kubernetes.io/external-gw",
        ] {
            assert_eq!(by(json!({key: "true"}), json!({})), Some(format!("label {key}")));
            assert_eq!(by(json!({key: "false"}), json!({})), None, "{key}");
        }
        let reflector = "projectcalico.org/RouteReflectorClusterID";
        assert_eq!(by(json!({}), json!({reflector: "224.0.0.1"})), Some(format!("annotation {reflector}")));
        let others = json!({"gateway.example.org/zone": "a", "egresses": "x", "kubernetes.io/hostname": "gateway-1"});
        assert_eq!(by(others, json!({"k8s.ovn.org/l3-gateway-config": "{}"})), None);
    }

    #[test]
    fn every_way_of_saying_control_plane_is_understood() {
        let by = |labels: Value, spec: Value| {
            let object = json!({"metadata": {"name": "n1", "labels": labels}, "spec": spec});
            convert(&from_value(object).unwrap()).value.node.control_plane
        };
        for role in ["control-plane", "master", "etcd", "controlplane"] {
            let key = format!("node-role.kubernetes.io/{role}");
            for value in ["", "true", "false"] {
                assert_eq!(by(json!({&key: value}), json!({})), Some(format!("label {key}")));
            }
            for effect in ["NoSchedule", "NoExecute", "An effect of a later day"] {
                let spec = json!({"taints": [{"key": &key, "effect": effect}]});
                assert_eq!(by(json!({}), spec), Some(format!("taint {key}")));
            }
        }
        let worker = json!({"node-role.kubernetes.io/worker": "true", "example.org/etcd": "none"});
        assert_eq!(
            by(worker, json!({"taints": [{"key": "dedicated", "value": "etcd", "effect": "NoSchedule"}]})),
            None
        );
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
