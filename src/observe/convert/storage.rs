//! PersistentVolumes, PersistentVolumeClaims, StorageClasses and CSINodes: where a VM's volumes can be used.

use super::{Converted, Problems, objects, selector};
use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1::{CSINode, CSINodeDriver, StorageClass},
};
use miyako_core::model::{Name, NodeSelector, NodeSelectorTerm, Operator, Requirement};
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
}

/// Converts a PersistentVolumeClaim.
#[must_use]
pub fn claim(claim: &PersistentVolumeClaim) -> Claim {
    let spec = claim.spec.as_ref();
    let name = |name: Option<&String>| name.filter(|name| !name.is_empty()).map(|name| Name::from(name.as_str()));
    Claim {
        volume: name(spec.and_then(|spec| spec.volume_name.as_ref())),
        class: name(spec.and_then(|spec| spec.storage_class_name.as_ref())),
    }
}

/// A PersistentVolume, as far as it decides where it can be used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Volume {
    /// All of these must match a node; none means anywhere.
    pub places: Vec<NodeSelector>,
    /// The CSI driver that attaches it.
    pub driver: Option<String>,
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
    let csi = volume.spec.as_ref().and_then(|spec| spec.csi.as_ref());
    Converted::new(Volume { places, driver: csi.map(|csi| csi.driver.clone()) }, problems)
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

/// A StorageClass's name, and whether its claims are bound only when a pod that uses them is placed.
#[must_use]
pub fn waits_for_consumer(class: &StorageClass) -> (Name, bool) {
    (objects::name(&class.metadata), class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"))
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
