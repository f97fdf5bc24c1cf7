//! The KubeVirt types against KubeVirt's own CRDs: every field we read or write exists there by that name, and whatever
//! else an object holds does not keep us from reading it.

use miyako_api::kubevirt::{
    KubeVirt, MigrationPolicy, VirtualMachine, VirtualMachineInstance, VirtualMachineInstanceMigration,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::{fs, path::Path};

const TIME: &str = "2026-01-02T03:04:05Z";

fn migration_state() -> Value {
    json!({
        "migrationUid": "u", "sourceNode": "a", "targetNode": "b", "sourcePod": "p", "targetPod": "q",
        "startTimestamp": TIME, "endTimestamp": TIME, "completed": true, "failed": true, "abortRequested": true,
        "abortStatus": "Aborting", "mode": "PreCopy", "failureReason": "r", "migrationPolicyName": "m",
        "migrationConfiguration": migrations(), "targetNodeAddress": "10.0.0.1", "targetNodeDomainDetected": true,
        "targetNodeDomainReadyTimestamp": TIME, "targetDirectMigrationNodePorts": {"33000": 0},
    })
}

fn migrations() -> Value {
    json!({
        "parallelMigrationsPerCluster": 5, "parallelOutboundMigrationsPerNode": 2, "bandwidthPerMigration": "64Mi",
        "completionTimeoutPerGiB": 150, "progressTimeout": 150, "allowPostCopy": true, "allowAutoConverge": true,
        "allowWorkloadDisruption": true, "maxDowntimeMs": 900, "disableTLS": true, "network": "n",
        "nodeDrainTaintKey": "kubevirt.io/drain",
    })
}

fn condition(kind: &str) -> Value {
    json!({"type": kind, "status": "True", "reason": "R", "message": "m", "lastTransitionTime": TIME, "lastProbeTime": TIME})
}

fn vmi() -> Value {
    json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": {"name": "web-1"},
        "spec": {
            "domain": {
                "cpu": {"cores": 2, "sockets": 3, "threads": 1, "dedicatedCpuPlacement": true, "isolateEmulatorThread": true,
                    "model": "host-model", "features": [{"name": "vmx", "policy": "require"}],
                    "numa": {"guestMappingPassthrough": {}}, "realtime": {"mask": "0"}},
                "memory": {"guest": "4Gi", "maxGuest": "8Gi", "hugepages": {"pageSize": "2Mi"}},
                "resources": {"requests": {"memory": "4Gi"}, "limits": {"cpu": "2"}, "overcommitGuestOverhead": true},
                "devices": {"hostDevices": [{"name": "h", "deviceName": "v/d"}], "gpus": [{"name": "g", "deviceName": "v/g"}],
                    "interfaces": [{"name": "i", "sriov": {}}], "filesystems": [{"name": "f"}], "clientPassthrough": {}},
                "launchSecurity": {"sev": {}},
            },
            "volumes": [
                {"name": "a", "persistentVolumeClaim": {"claimName": "c", "hotpluggable": true}},
                {"name": "b", "dataVolume": {"name": "d"}}, {"name": "c", "containerDisk": {"image": "i"}},
                {"name": "d", "ephemeral": {"persistentVolumeClaim": {"claimName": "e"}}},
                {"name": "e", "hostDisk": {"path": "/d", "type": "Disk"}}, {"name": "f", "emptyDisk": {"capacity": "1Gi"}},
                {"name": "g", "memoryDump": {"claimName": "m"}},
            ],
            "nodeSelector": {"a": "b"}, "evictionStrategy": "LiveMigrate", "affinity": {"nodeAffinity": {}},
            "tolerations": [{"key": "k", "operator": "Exists"}],
            "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "k", "whenUnsatisfiable": "DoNotSchedule"}],
            "architecture": "amd64", "schedulerName": "s", "priorityClassName": "p", "startStrategy": "Paused",
            "resourceClaims": [{"name": "r"}],
        },
        "status": {
            "phase": "Running", "nodeName": "a", "conditions": [condition("LiveMigratable")],
            "migrationState": migration_state(), "evacuationNodeName": "a", "activePods": {"u": "a"},
            "migrationMethod": "LiveMigration", "migrationTransport": "Unix",
            "volumeStatus": [{"name": "a", "phase": "Ready", "hotplugVolume": {}}], "migratedVolumes": [{"volumeName": "a"}],
            "launcherContainerImageVersion": "v", "selinuxContext": "none",
            "memory": {"guestAtBoot": "4Gi", "guestCurrent": "4Gi", "guestRequested": "8Gi"},
            "currentCPUTopology": {"cores": 2, "sockets": 3, "threads": 1}, "fsFreezeStatus": "frozen",
            "changedBlockTracking": {"backupStatus": {}}, "qosClass": "Burstable",
            "phaseTransitionTimestamps": [{"phase": "Running", "phaseTransitionTimestamp": TIME}],
        },
    })
}

fn migration() -> Value {
    json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstanceMigration", "metadata": {"name": "m"},
        "spec": {"vmiName": "web-1", "addedNodeSelector": {"kubernetes.io/hostname": "b"}, "priority": "user-triggered"},
        "status": {"phase": "Running", "migrationState": migration_state(), "conditions": [condition("migrationAbortRequested")],
            "phaseTransitionTimestamps": [{"phase": "Running", "phaseTransitionTimestamp": TIME}]},
    })
}

fn migration_policy() -> Value {
    json!({
        "apiVersion": "migrations.kubevirt.io/v1alpha1", "kind": "MigrationPolicy", "metadata": {"name": "m"},
        "spec": {"selectors": {"namespaceSelector": {"a": "b"}, "virtualMachineInstanceSelector": {"c": "d"}},
            "allowAutoConverge": true, "bandwidthPerMigration": "1Gi", "completionTimeoutPerGiB": 1, "allowPostCopy": true,
            "allowWorkloadDisruption": true, "maxDowntimeMs": 300},
    })
}

fn kubevirt() -> Value {
    json!({
        "apiVersion": "kubevirt.io/v1", "kind": "KubeVirt", "metadata": {"name": "kubevirt", "namespace": "kubevirt"},
        "spec": {"configuration": {"migrations": migrations(), "evictionStrategy": "LiveMigrate",
            "developerConfiguration": {"featureGates": ["Snapshot"], "cpuAllocationRatio": 10}}},
        "status": {"phase": "Deployed", "observedKubeVirtVersion": "v1.9.0", "targetKubeVirtVersion": "v1.9.0",
            "outdatedVirtualMachineInstanceWorkloads": 3, "conditions": [condition("Available")]},
    })
}

fn vm() -> Value {
    json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": "web-1"},
        "spec": {"runStrategy": "Always"},
        "status": {"printableStatus": "Running", "snapshotInProgress": "s", "restoreInProgress": "r",
            "memoryDumpRequest": {"claimName": "c", "phase": "InProgress"}},
    })
}

/// The schema of a version of one of KubeVirt's CRDs.
fn schema(file: &str, version: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/kubevirt-crds").join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let crd: Value = serde_yaml::from_str(&text).expect("a CRD in YAML");
    let versions = crd["spec"]["versions"].as_array().expect("versions");
    let version = versions.iter().find(|found| found["name"] == version).expect("the version");
    version["schema"]["openAPIV3Schema"].clone()
}

fn unknown(value: &Value, schema: &Value, path: &str, found: &mut Vec<String>) {
    if schema["x-kubernetes-preserve-unknown-fields"] == true {
        return;
    }
    match value {
        Value::Object(fields) if path != ".metadata" => {
            for (name, value) in fields {
                let path = format!("{path}.{name}");
                match schema["properties"].get(name).or_else(|| schema.get("additionalProperties")) {
                    Some(schema) => unknown(value, schema, &path, found),
                    None => found.push(path),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| unknown(item, &schema["items"], path, found)),
        _ => {}
    }
}

/// The object has every field of the type: what we write of it is all of it. And KubeVirt knows every field.
fn check<T: Serialize + DeserializeOwned>(object: &Value, file: &str, version: &str) {
    let read: T = serde_json::from_value(object.clone()).expect("it reads");
    assert_eq!(serde_json::to_value(&read).expect("it writes"), *object);
    let mut found = Vec::new();
    unknown(object, &schema(file, version), "", &mut found);
    assert_eq!(found, Vec::<String>::new(), "{file} does not have these fields");
}

#[test]
fn kubevirt_has_every_field_that_we_use() {
    check::<VirtualMachineInstance>(&vmi(), "virtualmachineinstances.yaml", "v1");
    check::<VirtualMachineInstanceMigration>(&migration(), "virtualmachineinstancemigrations.yaml", "v1");
    check::<MigrationPolicy>(&migration_policy(), "migrationpolicies.yaml", "v1alpha1");
    check::<KubeVirt>(&kubevirt(), "kubevirts.yaml", "v1");
    check::<VirtualMachine>(&vm(), "virtualmachines.yaml", "v1");
}

/// Replaces, one at a time, every value below `status` by shapes nobody expects.
fn with_odd_values(object: &Value, pointer: &str, visit: &mut dyn FnMut(&Value, &str)) {
    let children: Vec<String> = match object.pointer(pointer) {
        Some(Value::Object(fields)) => {
            fields.keys().map(|key| format!("{pointer}/{}", key.replace('/', "~1"))).collect()
        }
        Some(Value::Array(items)) => (0..items.len()).map(|index| format!("{pointer}/{index}")).collect(),
        _ => Vec::new(),
    };
    for odd in [json!(null), json!(7), json!(-1.5), json!("odd"), json!([1]), json!({"odd": {}}), json!(true)] {
        let mut changed = object.clone();
        if let Some(value) = changed.pointer_mut(pointer) {
            *value = odd;
        }
        visit(&changed, pointer);
    }
    children.iter().for_each(|child| with_odd_values(object, child, visit));
}

fn reads_whatever_a_status_holds<T: DeserializeOwned>(object: &Value) {
    let fields: Vec<_> = object["status"].as_object().expect("a status").keys().cloned().collect();
    for field in fields {
        with_odd_values(object, &format!("/status/{field}"), &mut |changed, pointer| {
            let read: Result<T, _> = serde_json::from_value(changed.clone());
            if let Err(error) = read {
                panic!("{pointer} as {}: {error}", changed.pointer(pointer).unwrap_or(&Value::Null));
            }
        });
    }
}

#[test]
fn an_odd_status_is_read_as_far_as_it_goes() {
    reads_whatever_a_status_holds::<VirtualMachineInstance>(&vmi());
    reads_whatever_a_status_holds::<VirtualMachineInstanceMigration>(&migration());
    reads_whatever_a_status_holds::<KubeVirt>(&kubevirt());
    reads_whatever_a_status_holds::<VirtualMachine>(&vm());
    let mut odd = vmi();
    odd["status"]["migrationState"]["startTimestamp"] = json!("yesterday");
    let read: VirtualMachineInstance = serde_json::from_value(odd).expect("it reads");
    let state = read.status.and_then(|status| status.migration_state).expect("the rest of it is kept");
    assert_eq!((state.start_timestamp, state.target_node.as_deref()), (None, Some("b")));
}

#[test]
fn quantities_come_with_and_without_quotes() {
    let mut bare = vmi();
    bare["spec"]["domain"]["memory"]["guest"] = json!(4_294_967_296_u64);
    bare["spec"]["domain"]["resources"]["requests"]["cpu"] = json!(2);
    let read: VirtualMachineInstance = serde_json::from_value(bare).expect("it reads");
    let guest = read.spec.domain.memory.and_then(|memory| memory.guest).expect("guest memory");
    assert_eq!((guest.0.as_str(), read.spec.domain.resources.requests["cpu"].0.as_str()), ("4294967296", "2"));
}

#[test]
fn vcpus_are_sockets_times_cores_times_threads() {
    let read: VirtualMachineInstance = serde_json::from_value(vmi()).expect("it reads");
    assert_eq!(read.spec.domain.cpu.map(|cpu| cpu.vcpus()), Some(6));
    assert_eq!(miyako_api::kubevirt::Cpu::default().vcpus(), 1);
}
