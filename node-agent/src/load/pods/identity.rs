//! What a launcher pod's metadata tells.

use crate::load::cgroups::PodUid;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use miyako_api::names::kubevirt;
use std::fmt;

/// A VirtualMachineInstance.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct VmIdentity {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

impl fmt::Display for VmIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A launcher pod: whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launcher {
    /// The VM.
    pub vm: VmIdentity,
    /// When the pod was created, in seconds since the Unix epoch: of two launchers of one VM the later one runs it.
    pub created: i64,
}

/// The pod's uid and what it runs; none if it is no launcher, or does not say whose. KubeVirt writes the VMI's uid
/// as a label, and its name as an annotation, an owner and a label.
#[must_use]
pub fn launcher_of(metadata: &ObjectMeta) -> Option<(PodUid, Launcher)> {
    let value = |text: Option<&String>| text.filter(|text| !text.is_empty()).cloned();
    let label = |key: &str| value(metadata.labels.as_ref().and_then(|labels| labels.get(key)));
    if label(kubevirt::APP)? != kubevirt::LAUNCHER {
        return None;
    }
    let uid = label(kubevirt::CREATED_BY)?;
    let owners = metadata.owner_references.iter().flatten();
    let owner = owners.into_iter().find(|owner| owner.uid == uid).map(|owner| owner.name.clone());
    let name = value(metadata.annotations.as_ref().and_then(|annotations| annotations.get(kubevirt::DOMAIN)))
        .or(owner)
        .or_else(|| label(kubevirt::DOMAIN_NAME))?;
    let namespace = value(metadata.namespace.as_ref())?;
    let created = metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second());
    Some((value(metadata.uid.as_ref())?, Launcher { vm: VmIdentity { namespace, name, uid }, created }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn metadata() -> Value {
        json!({
            "name": "virt-launcher-db-x7k2p",
            "namespace": "shop",
            "uid": "0e9c6e1a-4a0a-4f57-8d0b-0c7e3c1c9a11",
            "creationTimestamp": "2026-07-01T10:00:00Z",
            "labels": {"kubevirt.io": "virt-launcher", "kubevirt.io/created-by": "vmi-1", "vm.kubevirt.io/name": "from-label"},
            "annotations": {"kubevirt.io/domain": "db"},
            "ownerReferences": [{"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "name": "from-owner", "uid": "vmi-1"}],
        })
    }

    fn of(metadata: Value) -> Option<(PodUid, Launcher)> {
        launcher_of(&serde_json::from_value(metadata).unwrap())
    }

    #[test]
    fn a_launcher_says_whose_it_is() {
        let vm = VmIdentity { namespace: "shop".into(), name: "db".into(), uid: "vmi-1".into() };
        let expected = Launcher { vm, created: 1_782_900_000 };
        assert_eq!(of(metadata()), Some(("0e9c6e1a-4a0a-4f57-8d0b-0c7e3c1c9a11".into(), expected)));
    }

    #[test]
    fn the_name_is_taken_from_where_it_is() {
        let mut pod = metadata();
        pod["annotations"] = json!({});
        assert_eq!(of(pod.clone()).unwrap().1.vm.name, "from-owner");
        pod["ownerReferences"] = json!([]);
        assert_eq!(of(pod.clone()).unwrap().1.vm.name, "from-label");
        pod["labels"].as_object_mut().unwrap().remove("vm.kubevirt.io/name");
        assert_eq!(of(pod), None);
    }

    #[test]
    fn what_is_no_launcher_or_nobodys_is_left_alone() {
        for (field, value) in
            [("uid", json!("")), ("namespace", json!(null)), ("labels", json!({"kubevirt.io": "virt-handler"}))]
        {
            let mut pod = metadata();
            pod[field] = value;
            assert_eq!(of(pod), None, "{field}");
        }
        let mut pod = metadata();
        pod["labels"].as_object_mut().unwrap().remove("kubevirt.io/created-by");
        assert_eq!(of(pod), None);
    }
}
