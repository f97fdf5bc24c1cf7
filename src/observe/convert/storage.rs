//! PersistentVolumes, PersistentVolumeClaims, StorageClasses and CSINodes: where a VM's volumes can be used.

use super::{Converted, Problems, quantity, selector};
use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1::{CSINode, CSINodeDriver, StorageClass},
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use miyako_core::model::{Bytes, Name, NodeSelector, NodeSelectorTerm, Operator, Requirement};
use std::collections::BTreeMap;

/// Node labels that a PersistentVolume's own labels of the same name tie it to (the scheduler's VolumeZone plugin).
const ZONE_LABELS: [&str; 4] = [
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
];

/// A claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The volume it is bound to.
    pub volume: Option<Name>,
    /// Its class.
    pub class: Option<Name>,
    /// How large its volume must be.
    pub size: Bytes,
}

/// Converts a PersistentVolumeClaim.
#[must_use]
pub fn claim(claim: &PersistentVolumeClaim) -> Claim {
    let spec = claim.spec.as_ref();
    let name = |name: Option<&String>| name.filter(|name| !name.is_empty()).map(|name| Name::from(name.as_str()));
    Claim {
        volume: name(spec.and_then(|spec| spec.volume_name.as_ref())),
        class: name(spec.and_then(|spec| spec.storage_class_name.as_ref())),
        size: size(spec.and_then(|spec| spec.resources.as_ref()).and_then(|resources| resources.requests.as_ref())),
    }
}

/// A size that can't be read asks for nothing: it only makes a prediction coarser.
fn size(amounts: Option<&BTreeMap<String, Quantity>>) -> Bytes {
    let size = amounts.and_then(|amounts| amounts.get("storage"));
    size.and_then(|size| quantity::bytes(&size.0).ok()).unwrap_or_default()
}

/// A PersistentVolume, as far as it decides where it can be used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Volume {
    /// All of these must match a node; none means anywhere.
    pub places: Vec<NodeSelector>,
    /// The CSI driver that attaches it.
    pub driver: Option<String>,
    /// Its class.
    pub class: Option<Name>,
    /// No claim has it.
    pub free: bool,
    /// How large it is.
    pub size: Bytes,
}

/// Converts a PersistentVolume.
#[must_use]
pub fn volume(volume: &PersistentVolume) -> Converted<Volume> {
    let mut problems = Problems::default();
    let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| affinity.required.as_ref());
    let mut places: Vec<_> = required
        .map(|required| selector::nodes(required, "spec.nodeAffinity.required", &mut problems))
        .into_iter()
        .collect();
    let labels = volume.metadata.labels.iter().flatten();
    for (key, value) in labels.filter(|(key, _)| ZONE_LABELS.contains(&key.as_str())) {
        let values = value.split("__").map(ToOwned::to_owned).collect();
        let labels = vec![Requirement { key: key.clone(), operator: Operator::In, values }];
        places.push(NodeSelector { terms: vec![NodeSelectorTerm { labels, names: Vec::new() }] });
    }
    let spec = volume.spec.as_ref();
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
    let class = spec.and_then(|spec| spec.storage_class_name.as_deref()).filter(|class| !class.is_empty());
    let converted = Volume {
        places,
        driver: spec.and_then(|spec| spec.csi.as_ref()).map(|csi| csi.driver.clone()),
        class: class.map(Name::from),
        free: phase == Some("Available") && spec.is_some_and(|spec| spec.claim_ref.is_none()),
        size: size(spec.and_then(|spec| spec.capacity.as_ref())),
    };
    Converted::new(converted, problems)
}

/// How many volumes of each CSI driver a node takes, where it says so.
#[must_use]
pub fn attach_limits(node: &CSINode) -> BTreeMap<String, u64> {
    let limit = |driver: &CSINodeDriver| {
        let count = driver.allocatable.as_ref()?.count?;
        Some((driver.name.clone(), u64::try_from(count).unwrap_or(0)))
    };
    node.spec.drivers.iter().filter_map(limit).collect()
}

/// A StorageClass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Class {
    /// Its claims are bound only when a pod that uses them is placed.
    pub waits_for_consumer: bool,
    /// Volumes are made for its claims; else one that is there already must do.
    pub provisions: bool,
    /// Where its volumes can be made; none means anywhere.
    pub places: Option<NodeSelector>,
}

/// Converts a StorageClass.
#[must_use]
pub fn class(class: &StorageClass) -> Class {
    let places = class.allowed_topologies.as_ref().filter(|allowed| !allowed.is_empty()).map(|allowed| {
        let terms = allowed.iter().map(|term| NodeSelectorTerm {
            labels: (term.match_label_expressions.iter().flatten())
                .map(|one| Requirement { key: one.key.clone(), operator: Operator::In, values: one.values.clone() })
                .collect(),
            names: Vec::new(),
        });
        NodeSelector { terms: terms.collect() }
    });
    Class {
        waits_for_consumer: class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"),
        provisions: class.provisioner != "kubernetes.io/no-provisioner",
        places,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use miyako_core::model::Labels;
    use serde_json::{from_value, json};

    #[test]
    fn a_volume_is_tied_by_its_affinity_and_by_its_zone_labels() {
        let object = json!({"metadata": {"name": "pv", "labels": {"topology.kubernetes.io/zone": "a__b"}},
            "spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["fast"]}]}]}}}});
        let places = volume(&from_value(object).unwrap()).value.places;
        let fits = |pairs: [(&str, &str); 2]| {
            let labels: Labels = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
            places.iter().all(|place| place.matches("n", &labels))
        };
        assert!(fits([("disk", "fast"), ("topology.kubernetes.io/zone", "b")]));
        assert!(!fits([("disk", "slow"), ("topology.kubernetes.io/zone", "b")]));
        assert!(!fits([("disk", "fast"), ("topology.kubernetes.io/zone", "c")]));
    }

    #[test]
    fn a_node_says_how_many_volumes_of_a_driver_it_takes() {
        let object = json!({"metadata": {"name": "n"}, "spec": {"drivers": [
            {"name": "disks.example", "nodeID": "n", "allocatable": {"count": 24}},
            {"name": "shares.example", "nodeID": "n"},
            {"name": "odd.example", "nodeID": "n", "allocatable": {"count": -1}}]}});
        let limits = attach_limits(&from_value(object).unwrap());
        assert_eq!(limits, [("disks.example".to_owned(), 24), ("odd.example".to_owned(), 0)].into());
    }
}
