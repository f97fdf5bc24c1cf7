//! How launcher pods look, rendered from their VMI. Source: `pkg/virt-controller/services/template.go`, and pods seen
//! live (`docs/design/0001-kubevirt-facts.md`, "Launcher pod").

use super::names::{OBSOLETE_HOST_MODEL, TRANSPORT_UNIX};
use crate::observe::convert::quantity::thousandths;
use k8s_openapi::{
    api::core::v1::{Affinity, Node, Pod, PodAffinityTerm, PodAntiAffinity},
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::LabelSelector},
};
use miyako_api::{
    kubevirt::{VirtualMachineInstance, VirtualMachineInstanceMigration},
    names::{descheduler::REQUEST_EVICT_ONLY, kubernetes::HOSTNAME, kubevirt::*},
};
use miyako_core::model::Bytes;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The CPU model of VMs that do not name one: the node's own.
const HOST_MODEL: &str = "host-model";
const MACHINE_TYPE: &str = "q35";

/// Why no launcher can be rendered.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The VMI lacks something that every stored VMI has.
    #[error("the VMI has no {0}")]
    Missing(&'static str),
    /// A part of the VMI does not fit into a pod.
    #[error("the VMI does not make a pod: {0}")]
    Shape(#[from] serde_json::Error),
}

/// Guest memory of a VMI: what the guest sees, else what it requests.
#[must_use]
pub fn guest_memory(vmi: &VirtualMachineInstance) -> Bytes {
    let domain = &vmi.spec.domain;
    let guest = domain.memory.as_ref().and_then(|memory| memory.guest.as_ref());
    guest.or_else(|| domain.resources.requests.get("memory")).and_then(bytes_of).unwrap_or_default()
}

/// Virtual CPUs of a VMI.
#[must_use]
pub fn vcpus(vmi: &VirtualMachineInstance) -> u32 {
    vmi.spec.domain.cpu.as_ref().map_or(1, miyako_api::kubevirt::Cpu::vcpus)
}

/// A quantity of bytes, rounded up; none if it is not one.
#[must_use]
pub fn bytes_of(quantity: &Quantity) -> Option<Bytes> {
    let thousandths = thousandths(&quantity.0).ok()?;
    Some(Bytes(u64::try_from(thousandths.div_ceil(1000)).unwrap_or(u64::MAX)))
}

/// What KubeVirt adds to the guest's memory: page tables, the launcher's processes, QEMU, vCPU threads and graphics
/// (`CalculateMemoryOverhead`; 269 MiB for one vCPU and 512 MiB, as seen live).
#[must_use]
pub fn memory_overhead(memory: Bytes, vcpus: u32) -> Bytes {
    const MONITOR_LAUNCHER_LIBVIRT_QEMU: u64 = 25 + 100 + 25 + 40 + 30;
    const IO_THREAD_AND_GRAPHICS: u64 = 8 + 32;
    Bytes(memory.0 / 512) + Bytes::mib(MONITOR_LAUNCHER_LIBVIRT_QEMU + 8 * u64::from(vcpus) + IO_THREAD_AND_GRAPHICS)
}

/// The launcher that starts a VM.
///
/// # Errors
/// See [`RenderError`].
pub fn launcher(vmi: &VirtualMachineInstance) -> Result<Pod, RenderError> {
    let name = vmi.metadata.name.as_deref().ok_or(RenderError::Missing("name"))?;
    let namespace = vmi.metadata.namespace.as_deref().ok_or(RenderError::Missing("namespace"))?;
    let uid = vmi.metadata.uid.as_deref().ok_or(RenderError::Missing("uid"))?;
    let (memory, vcpus) = (guest_memory(vmi), vcpus(vmi));
    let overhead = memory_overhead(memory, vcpus);
    let mut labels = vmi.metadata.labels.clone().unwrap_or_default();
    // A target is born with the label `kubevirt.io/nodeName` of its source's node.
    labels.remove(MIGRATION_TARGET_NODE);
    labels.insert(APP.into(), LAUNCHER.into());
    labels.insert(CREATED_BY.into(), uid.into());
    labels.insert(DOMAIN_NAME.into(), name.into());
    labels.insert("vmi.kubevirt.io/id".into(), name.into());
    let pod = json!({
        "metadata": {
            "generateName": format!("virt-launcher-{name}-"),
            "namespace": namespace,
            "labels": labels,
            "annotations": {
                DOMAIN: name,
                MEMORY_OVERHEAD: overhead.0.to_string(),
                TRANSPORT_UNIX: "true",
                REQUEST_EVICT_ONLY: "",
                "kubectl.kubernetes.io/default-container": "compute",
            },
            "ownerReferences": [{
                "apiVersion": "kubevirt.io/v1",
                "kind": "VirtualMachineInstance",
                "name": name,
                "uid": uid,
                "controller": true,
                "blockOwnerDeletion": true,
            }],
        },
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 60,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "hostname": name,
            "nodeSelector": node_selector(vmi),
            "affinity": affinity(vmi),
            "tolerations": tolerations(vmi),
            "topologySpreadConstraints": vmi.spec.topology_spread_constraints,
            "schedulerName": vmi.spec.scheduler_name,
            "priorityClassName": vmi.spec.priority_class_name,
            "containers": [compute(vmi, memory + overhead, vcpus), console_log()],
        },
    });
    Ok(serde_json::from_value(without_nulls(pod))?)
}

/// The launcher that takes a VM over.
///
/// # Errors
/// See [`RenderError`].
pub fn target(
    vmi: &VirtualMachineInstance,
    migration: &VirtualMachineInstanceMigration,
    source_node: Option<&Node>,
) -> Result<Pod, RenderError> {
    let mut pod = launcher(vmi)?;
    let (uid, name) = (migration.metadata.uid.as_deref(), migration.metadata.name.as_deref());
    let uid = uid.ok_or(RenderError::Missing("migration uid"))?;
    pod.metadata.labels.get_or_insert_default().insert(MIGRATION_JOB_UID.into(), uid.into());
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(MIGRATION_JOB_NAME.into(), name.unwrap_or_default().into());
    let spec = pod.spec.get_or_insert_default();
    keep_off_own_node(spec.affinity.get_or_insert_default(), vmi.metadata.uid.as_deref().unwrap_or_default());
    // The VM's own keys win over the migration's.
    let mut selector = migration.spec.added_node_selector.clone();
    selector.append(&mut spec.node_selector.take().unwrap_or_default());
    let labels = source_node.and_then(|node| node.metadata.labels.clone()).unwrap_or_default();
    if cpu_model(vmi) == HOST_MODEL {
        selector.extend(labels.iter().filter_map(|(key, value)| {
            let model = key.strip_prefix(HOST_MODEL_CPU_PREFIX);
            let feature = key.strip_prefix(HOST_MODEL_REQUIRED_PREFIX);
            let key = model
                .map(|model| format!("{CPU_MODEL_MIGRATION_PREFIX}{model}"))
                .or_else(|| feature.map(|feature| format!("{CPU_FEATURE_PREFIX}{feature}")))?;
            Some((key, value.clone()))
        }));
    }
    if !selector.keys().any(|key| key.starts_with(CPU_VENDOR_PREFIX))
        && let Some(vendor) = labels.keys().find(|key| key.starts_with(CPU_VENDOR_PREFIX))
    {
        selector.insert(vendor.clone(), "true".into());
    }
    spec.node_selector = Some(selector);
    Ok(pod)
}

fn cpu_model(vmi: &VirtualMachineInstance) -> &str {
    vmi.spec.domain.cpu.as_ref().and_then(|cpu| cpu.model.as_deref()).unwrap_or(HOST_MODEL)
}

/// Whether its CPUs are its own.
pub(super) fn is_dedicated(vmi: &VirtualMachineInstance) -> bool {
    vmi.spec.domain.cpu.as_ref().and_then(|cpu| cpu.dedicated_cpu_placement).unwrap_or(false)
}

fn node_selector(vmi: &VirtualMachineInstance) -> BTreeMap<String, String> {
    let mut selector = vmi.spec.node_selector.clone();
    selector.insert(SCHEDULABLE.into(), "true".into());
    let architecture = vmi.spec.architecture.as_deref().unwrap_or("amd64");
    selector.insert("kubernetes.io/arch".into(), architecture.into());
    selector.insert(format!("{MACHINE_TYPE_PREFIX}{MACHINE_TYPE}"), "true".into());
    let model = cpu_model(vmi);
    if model != HOST_MODEL && model != "host-passthrough" {
        selector.insert(format!("{CPU_MODEL_PREFIX}{model}"), "true".into());
    }
    for feature in vmi.spec.domain.cpu.iter().flat_map(|cpu| &cpu.features) {
        if matches!(feature.policy.as_deref(), None | Some("" | "require")) {
            selector.insert(format!("{CPU_FEATURE_PREFIX}{}", feature.name), "true".into());
        }
    }
    if is_dedicated(vmi) {
        selector.insert(CPU_MANAGER.into(), "true".into());
    }
    selector
}

/// The VM's own; a host-model VM keeps off nodes whose model is obsolete, in every one of its terms.
fn affinity(vmi: &VirtualMachineInstance) -> Value {
    let mut affinity = json!(vmi.spec.affinity);
    if cpu_model(vmi) != HOST_MODEL {
        return affinity;
    }
    let current = json!({"key": OBSOLETE_HOST_MODEL, "operator": "DoesNotExist"});
    let required = &mut affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    match required["nodeSelectorTerms"].as_array_mut() {
        Some(terms) if !terms.is_empty() => {
            for term in terms {
                match term["matchExpressions"].as_array_mut() {
                    Some(expressions) => expressions.push(current.clone()),
                    None => term["matchExpressions"] = json!([current]),
                }
            }
        }
        _ => required["nodeSelectorTerms"] = json!([{"matchExpressions": [current]}]),
    }
    affinity
}

/// The VM's own, and the two that the API server's `DefaultTolerationSeconds` admission adds.
fn tolerations(vmi: &VirtualMachineInstance) -> Vec<Value> {
    let for_300_seconds = |condition: &str| {
        let key = format!("node.kubernetes.io/{condition}");
        json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300})
    };
    let own = vmi.spec.tolerations.iter().map(|toleration| json!(toleration));
    own.chain(["not-ready", "unreachable"].map(for_300_seconds)).collect()
}

fn compute(vmi: &VirtualMachineInstance, memory: Bytes, vcpus: u32) -> Value {
    let resources = &vmi.spec.domain.resources;
    // One vCPU requests 100m: the default allocation ratio is 10.
    let cpu = if is_dedicated(vmi) { vcpus.to_string() } else { format!("{}m", 100 * vcpus) };
    let mut requests = BTreeMap::from([
        ("cpu".to_owned(), resources.requests.get("cpu").map_or(cpu.clone(), |own| own.0.clone())),
        ("memory".to_owned(), memory.0.to_string()),
        ("ephemeral-storage".to_owned(), "50M".to_owned()),
    ]);
    let mut limits: BTreeMap<String, String> =
        resources.limits.iter().map(|(name, own)| (name.clone(), own.0.clone())).collect();
    if is_dedicated(vmi) {
        limits.extend([("cpu".to_owned(), cpu), ("memory".to_owned(), memory.0.to_string())]);
    }
    for device in ["kvm", "tun", "vhost-net"] {
        let name = format!("devices.kubevirt.io/{device}");
        requests.insert(name.clone(), "1".into());
        limits.insert(name, "1".into());
    }
    json!({
        "name": "compute",
        "image": "quay.io/kubevirt/virt-launcher:v1.9.0",
        "command": ["/usr/bin/virt-launcher-monitor"],
        "resources": {"requests": requests, "limits": limits},
    })
}

fn console_log() -> Value {
    json!({
        "name": "guest-console-log",
        "image": "quay.io/kubevirt/virt-launcher:v1.9.0",
        "command": ["/usr/bin/virt-tail"],
        "resources": {"requests": {"cpu": "5m", "memory": "35M"}, "limits": {"cpu": "15m", "memory": "60M"}},
    })
}

fn keep_off_own_node(affinity: &mut Affinity, vmi_uid: &str) {
    let term = PodAffinityTerm {
        label_selector: Some(LabelSelector {
            match_labels: Some(BTreeMap::from([(CREATED_BY.to_owned(), vmi_uid.to_owned())])),
            ..LabelSelector::default()
        }),
        topology_key: HOSTNAME.into(),
        ..PodAffinityTerm::default()
    };
    let anti: &mut PodAntiAffinity = affinity.pod_anti_affinity.get_or_insert_default();
    anti.required_during_scheduling_ignored_during_execution.get_or_insert_default().push(term);
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            Value::Object(map.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, without_nulls(v))).collect())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::create::VmSpec, *};

    fn vmi(spec: &VmSpec) -> VirtualMachineInstance {
        let mut vmi = spec.vmi();
        vmi["metadata"]["uid"] = json!("vmi-uid");
        serde_json::from_value(vmi).unwrap()
    }

    fn migration() -> VirtualMachineInstanceMigration {
        serde_json::from_value(json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstanceMigration",
            "metadata": {"name": "m", "namespace": "ns", "uid": "m-uid"},
            "spec": {"vmiName": "vm", "addedNodeSelector": {"kubernetes.io/hostname": "n2", "tier": "theirs"}},
        }))
        .unwrap()
    }

    fn node() -> Node {
        serde_json::from_value(json!({"metadata": {"name": "n1", "labels": {
            "cpu-vendor.node.kubevirt.io/Intel": "true",
            "host-model-cpu.node.kubevirt.io/Skylake": "true",
            "host-model-required-features.node.kubevirt.io/vmx": "true",
        }}}))
        .unwrap()
    }

    #[test]
    fn a_launcher_asks_for_what_was_seen_live() {
        let pod = launcher(&vmi(&VmSpec::new("ns", "vm", 1, Bytes::mib(512)))).unwrap();
        assert_eq!(pod.metadata.annotations.as_ref().unwrap()[MEMORY_OVERHEAD], Bytes::mib(269).0.to_string());
        let spec = pod.spec.unwrap();
        let requests = spec.containers[0].resources.as_ref().unwrap().requests.as_ref().unwrap();
        assert_eq!(requests["memory"].0, Bytes::mib(512 + 269).0.to_string());
        assert_eq!(requests["cpu"].0, "100m");
        assert_eq!(spec.containers[1].name, "guest-console-log");
        let selector = spec.node_selector.unwrap();
        for key in
            ["kubevirt.io/schedulable", "cpu-model.node.kubevirt.io/Haswell", "machine-type.node.kubevirt.io/q35"]
        {
            assert_eq!(selector.get(key).map(String::as_str), Some("true"), "{key}");
        }
        let seconds: Vec<_> = spec.tolerations.unwrap().iter().map(|one| one.toleration_seconds).collect();
        assert_eq!(seconds, [Some(300), Some(300)]);
    }

    #[test]
    fn a_target_is_kept_off_its_source_and_the_vms_own_selector_wins() {
        let mut spec = VmSpec::new("ns", "vm", 1, Bytes::mib(512));
        spec.node_selector.insert("tier".into(), "ours".into());
        let pod = target(&vmi(&spec), &migration(), Some(&node())).unwrap();
        assert_eq!(pod.metadata.labels.as_ref().unwrap()[MIGRATION_JOB_UID], "m-uid");
        let spec = pod.spec.unwrap();
        let selector = spec.node_selector.unwrap();
        assert_eq!(selector["tier"], "ours");
        assert_eq!(selector["kubernetes.io/hostname"], "n2");
        assert_eq!(selector["cpu-vendor.node.kubevirt.io/Intel"], "true");
        let anti = spec.affinity.unwrap().pod_anti_affinity.unwrap();
        let term = &anti.required_during_scheduling_ignored_during_execution.unwrap()[0];
        let labels = term.label_selector.as_ref().unwrap().match_labels.as_ref().unwrap();
        assert_eq!((labels[CREATED_BY].as_str(), term.topology_key.as_str()), ("vmi-uid", HOSTNAME));
    }

    #[test]
    fn a_host_model_vm_needs_the_sources_model_and_features() {
        let spec = VmSpec { cpu_model: None, ..VmSpec::new("ns", "vm", 1, Bytes::mib(512)) };
        let pod = target(&vmi(&spec), &migration(), Some(&node())).unwrap();
        let selector = pod.spec.unwrap().node_selector.unwrap();
        assert_eq!(selector["cpu-model-migration.node.kubevirt.io/Skylake"], "true");
        assert_eq!(selector["cpu-feature.node.kubevirt.io/vmx"], "true");
    }
}
