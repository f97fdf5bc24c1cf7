//! The KubeVirt types against KubeVirt's own CRDs: every field we read or write exists there by that name, and whatever
//! else an object holds does not keep us from reading it.

use miyako_api::kubevirt::fields::kinds;
use miyako_api::kubevirt::{
    KubeVirt, MigrationPolicy, VirtualMachine, VirtualMachineInstance, VirtualMachineInstanceMigration,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

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

/// The fields of an object that KubeVirt does not have. What an object without listed fields holds is anybody's.
fn unknown(value: &Value, path: &str, fields: &BTreeMap<&str, &str>, found: &mut Vec<String>) {
    match value {
        Value::Object(children)
            if path.is_empty() || fields.get(path).is_some_and(|kind| is_open(path, kind, fields)) =>
        {
            for (name, value) in children {
                let is_map = fields.get(path).is_some_and(|kind| kind.starts_with("map"));
                let name = if is_map { "*" } else { name.as_str() };
                let child = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
                if ["apiVersion", "kind", "metadata"].contains(&child.as_str()) {
                    continue;
                }
                if fields.contains_key(child.as_str()) {
                    unknown(value, &child, fields, found);
                } else {
                    found.push(child);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| unknown(item, &format!("{path}[]"), fields, found)),
        _ => {}
    }
}

/// Whether it is listed what is below this field.
fn is_open(path: &str, kind: &str, fields: &BTreeMap<&str, &str>) -> bool {
    kind.starts_with("map")
        || fields.keys().any(|field| field.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

/// The object has every field of the type: what we write of it is all of it. And KubeVirt knows every field.
fn check<T: Serialize + DeserializeOwned>(object: &Value) {
    let read: T = serde_json::from_value(object.clone()).expect("it reads");
    assert_eq!(serde_json::to_value(&read).expect("it writes"), *object);
    let kind = kinds().into_iter().find(|kind| object["kind"] == kind.kind).expect("a kind of KubeVirt's");
    let mut found = Vec::new();
    unknown(object, "", &kind.fields.into_iter().collect(), &mut found);
    assert_eq!(found, Vec::<String>::new(), "{} does not have these fields", object["kind"]);
}

#[test]
fn kubevirt_has_every_field_that_we_use() {
    check::<VirtualMachineInstance>(&vmi());
    check::<VirtualMachineInstanceMigration>(&migration());
    check::<MigrationPolicy>(&migration_policy());
    check::<KubeVirt>(&kubevirt());
    check::<VirtualMachine>(&vm());
}

/// The type of a field in one of KubeVirt's own schemas, in the words of the list.
fn word(schema: &Value) -> String {
    let kind = match schema["type"].as_str() {
        _ if schema["x-kubernetes-int-or-string"] == true => "int-or-string",
        Some("object") if schema["additionalProperties"].is_object() && schema["properties"].is_null() => "map",
        Some("string") if schema["format"] == "date-time" => "time",
        Some(kind) => kind,
        None => "any",
    };
    let null = if schema["nullable"] == true { "?" } else { "" };
    format!("{kind}{null}")
}

fn field<'a>(schema: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(schema, |schema, name| {
        let (name, items) = name.split_once("[]").map_or((name, false), |(name, _)| (name, true));
        let found = if name == "*" { &schema["additionalProperties"] } else { &schema["properties"][name] };
        if items { &found["items"] } else { found }
    })
}

/// The list of fields says what KubeVirt's own CRDs say, where they are at hand.
#[test]
fn the_list_of_fields_is_true() {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let folder = std::env::var_os("MIYAKO_SHARED").map_or(beside, PathBuf::from).join("kubevirt-crds");
    if !folder.is_dir() {
        eprintln!(
            "skipped: KubeVirt's own CRDs are not at hand. Put those of its release into FOLDER/kubevirt-crds, \
             a file each, and set MIYAKO_SHARED=FOLDER"
        );
        return;
    }
    for kind in kinds() {
        let path = folder.join(format!("{}.yaml", kind.plural));
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let crd: Value = serde_yaml::from_str(&text).expect("a CRD in YAML");
        let versions = crd["spec"]["versions"].as_array().expect("versions");
        let version = versions.iter().find(|found| found["name"] == kind.version).expect("the version");
        let schema = &version["schema"]["openAPIV3Schema"];
        let wrong: Vec<String> = (kind.fields.iter())
            .filter(|(path, listed)| word(field(schema, path)) != *listed)
            .map(|(path, listed)| format!("{path} is {}, not {listed}", word(field(schema, path))))
            .collect();
        assert_eq!(wrong, Vec::<String>::new(), "{}", kind.kind);
        assert_eq!(kind.has_status, version["subresources"]["status"].is_object(), "{}", kind.kind);
        assert_eq!(kind.scope, crd["spec"]["scope"], "{}", kind.kind);
    }
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
