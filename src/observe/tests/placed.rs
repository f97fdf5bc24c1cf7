//! Where a VM's next launcher, or a pod without a node, may go.

use super::joined::{at_rest, changed, db, vm, vmi};
use super::{NOW, apply, cluster, look, object, remove, world_of};
use crate::observe::world::World;
use miyako_core::fit::{Candidate, Misfit, Moment, Occupancy};
use miyako_core::model::{
    Bytes, MigrationName, MilliCpu, NodeName, PodKey, PodOwner, Selector, Span, TaintEffect, TolerationOperator, Uid,
};
use serde_json::{Value, json};

/// A node like node-a, with other labels.
fn node(name: &str, labels: &[(&str, &str)], without: &[&str]) -> Value {
    let mut node = object("Node", "node-a");
    node["metadata"]["name"] = json!(name);
    node["metadata"]["uid"] = json!(format!("{name}-uid"));
    let all = node["metadata"]["labels"].as_object_mut().unwrap();
    all.insert("kubernetes.io/hostname".into(), json!(name));
    all.insert("kubernetes.io/os".into(), json!("linux"));
    for key in without {
        all.remove(*key);
    }
    all.extend(labels.iter().map(|(key, value)| ((*key).to_owned(), json!(value))));
    node
}

fn takes(world: &mut World, name: &str) -> Result<(), Misfit> {
    let (snapshot, _) = look(world);
    let occupancy = Occupancy::new(snapshot);
    occupancy.probe(Candidate::target_of(&snapshot.vms[&db()])).fits(&NodeName::new(name), Moment::Now)
}

#[test]
fn what_a_running_vm_is_told_anew_counts_and_not_what_its_launcher_was_made_of() {
    let mut world = at_rest();
    for (name, labels) in
        [("plain", &[][..]), ("licensed", &[("licence", "db")]), ("both", &[("licence", "db"), ("disk", "nvme")])]
    {
        apply(&mut world, &node(name, labels, &[]));
    }
    let mut tainted = node("tainted", &[("licence", "db"), ("disk", "nvme")], &[]);
    tainted["spec"]["taints"] = json!([{"key": "gpu", "effect": "NoSchedule"}]);
    apply(&mut world, &tainted);
    assert_eq!(takes(&mut world, "plain"), Ok(()));
    // Tightened: KubeVirt has carried all three into the VMI, and the launcher that runs is from before.
    let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["nvme"]}]}]}}});
    let tolerations = json!([{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]);
    apply(
        &mut world,
        &vmi(&[
            ("/spec/nodeSelector", json!({"licence": "db"})),
            ("/spec/affinity", affinity),
            ("/spec/tolerations", tolerations),
        ]),
    );
    assert!(matches!(takes(&mut world, "plain"), Err(Misfit::NodeSelector { .. })));
    assert_eq!(takes(&mut world, "licensed"), Err(Misfit::NodeAffinity));
    assert_eq!(takes(&mut world, "both"), Ok(()));
    assert_eq!(takes(&mut world, "tainted"), Ok(()));
    let target = vm(&mut world).target;
    assert!(target.anti_affinity.is_empty(), "the VMI no longer asks for it");
    assert_eq!(target.requests.cpu, MilliCpu(405), "what it requests, only the launcher says");
    // Loosened: the launcher's selector, affinity and tolerations are those of a VM that asked for more.
    let mut launcher = object("Pod", "virt-launcher-db-1");
    launcher["spec"]["nodeSelector"]["licence"] = json!("db");
    launcher["spec"]["tolerations"].as_array_mut().unwrap().push(json!({"key": "gpu", "operator": "Exists"}));
    launcher["spec"]["affinity"]["nodeAffinity"] = json!({"requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{"matchExpressions": [{"key": "disk", "operator": "Exists"}]}]}});
    apply(&mut world, &launcher);
    apply(&mut world, &vmi(&[("/spec/nodeSelector", json!({})), ("/spec/affinity", Value::Null)]));
    assert_eq!(takes(&mut world, "plain"), Ok(()));
    assert!(matches!(takes(&mut world, "tainted"), Err(Misfit::Taint { .. })));
}

#[test]
fn a_constraint_without_a_word_counts_where_the_next_launcher_has_it() {
    let unsupported = |world: &mut World| vm(world).unsupported.map(|unsupported| unsupported.field);
    let spread = json!([{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {}, "matchLabelKeys": ["rev"]}]);
    let mut world = at_rest();
    apply(
        &mut world,
        &changed(object("Pod", "virt-launcher-db-1"), &[("/spec/topologySpreadConstraints", spread.clone())]),
    );
    assert_eq!(unsupported(&mut world), None, "the next one will not have it");
    apply(&mut world, &vmi(&[("/spec/topologySpreadConstraints", spread)]));
    assert_eq!(unsupported(&mut world).as_deref(), Some("spec.topologySpreadConstraints[0].matchLabelKeys"));
    apply(&mut world, &vmi(&[("/spec/schedulerName", json!("mine"))]));
    assert_eq!(unsupported(&mut world).as_deref(), Some("spec.schedulerName"));
}

#[test]
fn what_the_installation_and_the_namespace_add_is_added() {
    let mut world = at_rest();
    let settings = json!({"nodeSelectors": {"virt": "yes", "kubernetes.io/os": "windows"}});
    apply(
        &mut world,
        &changed(object("KubeVirt", "kubevirt"), &[("/spec/configuration/developerConfiguration", settings)]),
    );
    let annotations = json!({"scheduler.alpha.kubernetes.io/node-selector": "team=web"});
    apply(&mut world, &changed(object("Namespace", "shop"), &[("/metadata/annotations", annotations)]));
    let target = vm(&mut world).target;
    assert_eq!((target.node_selector["virt"].as_str(), target.node_selector["team"].as_str()), ("yes", "web"));
    assert_eq!(target.node_selector["kubernetes.io/os"], "linux", "the VM's own word wins");
    let kept: Vec<_> = target.tolerations.iter().filter_map(|one| one.key.as_deref()).collect();
    assert_eq!(kept, ["node.kubernetes.io/not-ready"], "every pod's");
    assert_eq!(target.tolerations[0].operator, TolerationOperator::Exists);
    remove(&mut world, &object("KubeVirt", "kubevirt"));
    assert_eq!(vm(&mut world).target.node_selector.get("virt"), None);
}

#[test]
fn the_next_launchers_labels_are_the_vmis() {
    let mut world = at_rest();
    let labels = json!({"tier": "web", "kubevirt.io/nodeName": "node-a"});
    apply(&mut world, &vmi(&[("/metadata/labels", labels)]));
    let labels = vm(&mut world).launcher_labels;
    assert_eq!(labels["tier"], "web", "as the next launcher will be labelled");
    assert_eq!(labels["kubevirt.io/created-by"], "vmi-db");
    assert_eq!(labels.get("kubevirt.io/migrationJobUID"), None, "that was its last migration's");
}

#[test]
fn a_hotplug_under_way_asks_for_more_than_the_launcher_has() {
    let conditions =
        |kind: &str| json!([{"type": "LiveMigratable", "status": "True"}, {"type": kind, "status": "True"}]);
    let requests = |changes: &[(&str, Value)]| {
        let mut world = at_rest();
        apply(&mut world, &vmi(changes));
        let target = vm(&mut world).target;
        (target.requests.cpu, target.requests.memory)
    };
    let (cpu, memory) = requests(&[]);
    let sockets = ("/spec/domain/cpu/sockets", json!(3));
    let more = requests(&[sockets.clone(), ("/status/conditions", conditions("HotVCPUChange"))]);
    assert_eq!(
        more,
        (MilliCpu(cpu.0 + 200), Bytes(memory.0 + Bytes::mib(16).0)),
        "two vCPUs at a tenth of a core each"
    );
    assert_eq!(requests(&[sockets]), (cpu, memory), "KubeVirt has not taken it up");
    let guest = ("/spec/domain/memory/guest", json!("6Gi"));
    let more = requests(&[guest, ("/status/conditions", conditions("HotMemoryChange"))]);
    assert_eq!(more.1, Bytes(memory.0 + Bytes::gib(2).0 + Bytes::mib(4).0));
}

#[test]
fn a_guest_that_sees_its_hosts_own_processor_goes_to_the_same_one_only() {
    const FEATURE: &str = "host-model-required-features.node.kubevirt.io/vmx";
    const MODEL: &str = "host-model-cpu.node.kubevirt.io/Skylake-Server";
    let passthrough = vmi(&[("/spec/domain/cpu/model", json!("host-passthrough"))]);
    let mut world = at_rest();
    apply(&mut world, &passthrough);
    apply(&mut world, &node("same", &[], &[]));
    apply(&mut world, &node("older", &[], &[FEATURE]));
    apply(&mut world, &node("newer", &[("host-model-required-features.node.kubevirt.io/amx", "true")], &[]));
    apply(&mut world, &node("other", &[("host-model-cpu.node.kubevirt.io/Icelake-Server", "true")], &[MODEL]));
    apply(&mut world, &node("silent", &[], &[MODEL, FEATURE]));
    assert_eq!(vm(&mut world).unsupported, None);
    assert_eq!(takes(&mut world, "same"), Ok(()));
    for name in ["older", "newer", "other", "silent"] {
        assert!(matches!(takes(&mut world, name), Err(Misfit::OtherCpu { .. })), "{name}");
    }
    // A VM that starts again elsewhere is counted on by the failover proof: the same answer.
    let (snapshot, _) = look(&mut world);
    let occupancy = Occupancy::new(snapshot);
    let restart = occupancy.probe(Candidate::restart_of(&snapshot.vms[&db()]));
    assert!(matches!(restart.fits(&NodeName::new("other"), Moment::Now), Err(Misfit::OtherCpu { .. })));
    assert_eq!(miyako_core::fit::CPU_LABEL, miyako_api::names::marks::CPU);
    // Where nobody knows the processor, as on arm64, whose VMs see it by default, people may say it.
    apply(&mut world, &node("node-a", &[], &[MODEL, FEATURE]));
    let arm = |architecture: &str| {
        let mut vmi = vmi(&[("/spec/architecture", json!(architecture))]);
        vmi["spec"]["domain"]["cpu"].as_object_mut().unwrap().remove("model");
        vmi
    };
    apply(&mut world, &arm("arm64"));
    let why = vm(&mut world).unsupported.map(|unsupported| unsupported.field).unwrap_or_default();
    assert!(why.contains("host-passthrough") && why.contains("miyako.dev/cpu"), "{why}");
    apply(&mut world, &arm("amd64"));
    assert_eq!(vm(&mut world).unsupported, None, "host-model");
    apply(&mut world, &arm("arm64"));
    apply(&mut world, &node("node-a", &[("miyako.dev/cpu", "n1")], &[MODEL, FEATURE]));
    apply(&mut world, &node("same", &[("miyako.dev/cpu", "n1")], &[MODEL, FEATURE]));
    assert_eq!(vm(&mut world).unsupported, None);
    assert_eq!(takes(&mut world, "same"), Ok(()));
    assert!(matches!(takes(&mut world, "silent"), Err(Misfit::OtherCpu { .. })));
}

#[test]
fn a_host_name_is_a_label_and_not_the_nodes_name() {
    let mut migration = object("VirtualMachineInstanceMigration", "miyako-def");
    migration["spec"]["addedNodeSelector"] = json!({"kubernetes.io/hostname": "b.example.org"});
    let target = |world: &mut World| {
        look(world).0.migrations[&MigrationName::new("shop", "miyako-def")].target.as_ref().map(ToString::to_string)
    };
    let mut world = world_of(&cluster());
    apply(&mut world, &migration);
    assert_eq!(target(&mut world), None, "no node is called so yet");
    let label = |hostname: &str| {
        changed(object("Node", "node-b"), &[("/metadata/labels/kubernetes.io~1hostname", json!(hostname))])
    };
    apply(&mut world, &label("b.example.org"));
    assert_eq!(target(&mut world).as_deref(), Some("node-b"));
    // KubeVirt's own word is a node's name.
    migration["status"]["migrationState"] = json!({"targetNode": "node-a"});
    apply(&mut world, &migration);
    assert_eq!(target(&mut world).as_deref(), Some("node-a"));
    // A node that no migration can name, or that shares its host name, is no target.
    let mut world = at_rest();
    apply(&mut world, &node("short", &[("kubernetes.io/hostname", "s1")], &[]));
    assert_eq!(takes(&mut world, "short"), Ok(()));
    apply(&mut world, &node("twin", &[("kubernetes.io/hostname", "s1")], &[]));
    assert_eq!(takes(&mut world, "short"), Err(Misfit::HostnameOfTwo { value: "s1".into() }));
    apply(&mut world, &node("nameless", &[], &["kubernetes.io/hostname"]));
    assert_eq!(takes(&mut world, "nameless"), Err(Misfit::NoHostname));
}

/// A pod that finds no node, with this claim.
fn pending(claim: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web-0", "namespace": "shop", "uid": "web-0-uid", "resourceVersion": "90"},
        "spec": {"containers": [{"name": "c"}],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]},
        "status": {"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes"}]},
    })
}

fn claim(name: &str, class: &str, volume: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": "shop", "uid": name, "resourceVersion": "91"},
        "spec": {"storageClassName": class, "volumeName": volume, "resources": {"requests": {"storage": "10Gi"}}},
    })
}

fn class(name: &str, mode: &str, provisioner: &str, zones: &[&str]) -> Value {
    let mut class = json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
        "metadata": {"name": name, "uid": name, "resourceVersion": "92"},
        "provisioner": provisioner, "volumeBindingMode": mode,
    });
    if !zones.is_empty() {
        class["allowedTopologies"] =
            json!([{"matchLabelExpressions": [{"key": "topology.kubernetes.io/zone", "values": zones}]}]);
    }
    class
}

#[test]
fn a_waiting_pods_claims_say_which_nodes_could_take_it() {
    let could_go = |world: &mut World| -> Vec<String> {
        let (snapshot, _) = look(world);
        let occupancy = Occupancy::new(snapshot);
        let probe = occupancy.probe(Candidate::pod(&snapshot.pods[&PodKey::new("shop", "web-0")]));
        let fits = |name: &&NodeName| probe.fits(name, Moment::Now).is_ok();
        snapshot.nodes.keys().filter(fits).map(ToString::to_string).collect()
    };
    let mut world = at_rest();
    for (name, zone) in [("east-1", "east"), ("west-1", "west")] {
        apply(&mut world, &node(name, &[("topology.kubernetes.io/zone", zone)], &[]));
    }
    remove(&mut world, &object("Node", "node-a"));
    remove(&mut world, &object("Node", "node-b"));
    // The claim is bound to a volume of the east.
    apply(&mut world, &pending("db-disk"));
    assert_eq!(could_go(&mut world), ["east-1"]);
    // The volume moves with its object, and so does the answer.
    let zone = "/spec/nodeAffinity/required/nodeSelectorTerms/0/matchExpressions/0/values";
    apply(&mut world, &changed(object("PersistentVolume", "vol-1"), &[(zone, json!(["west"]))]));
    assert_eq!(could_go(&mut world), ["west-1"]);
    // Not bound yet, and bound only when the pod is placed: where the class allows it, which may be anywhere.
    apply(&mut world, &pending("data"));
    assert_eq!(could_go(&mut world), [""; 0], "the claim is not there yet");
    apply(&mut world, &claim("data", "zonal", ""));
    apply(&mut world, &class("zonal", "WaitForFirstConsumer", "disks.example", &["west"]));
    assert_eq!(could_go(&mut world), ["west-1"]);
    apply(&mut world, &class("zonal", "WaitForFirstConsumer", "disks.example", &[]));
    assert_eq!(could_go(&mut world), ["east-1", "west-1"]);
    // Bound before the pod is placed: no node helps.
    apply(&mut world, &class("zonal", "Immediate", "disks.example", &[]));
    assert_eq!(could_go(&mut world), [""; 0]);
    // Nobody makes volumes: one that is there and free must do.
    apply(&mut world, &class("zonal", "WaitForFirstConsumer", "kubernetes.io/no-provisioner", &[]));
    assert_eq!(could_go(&mut world), [""; 0]);
    let local = |size: &str, phase: &str| {
        let mut volume = object("PersistentVolume", "vol-1");
        volume["metadata"]["name"] = json!("local");
        volume["spec"]["storageClassName"] = json!("zonal");
        volume["spec"]["capacity"] = json!({"storage": size});
        volume["status"] = json!({"phase": phase});
        volume
    };
    apply(&mut world, &local("20Gi", "Available"));
    assert_eq!(could_go(&mut world), ["east-1"]);
    apply(&mut world, &local("20Gi", "Bound"));
    assert_eq!(could_go(&mut world), [""; 0]);
    apply(&mut world, &local("5Gi", "Available"));
    assert_eq!(could_go(&mut world), [""; 0], "too small");
}

#[test]
fn a_static_pod_is_known_by_the_name_in_its_file() {
    let owner = |name: &str| {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "kube-system", "uid": name, "resourceVersion": "93",
                "annotations": {"kubernetes.io/config.mirror": "1"}},
            "spec": {"nodeName": "node-a", "containers": [{"name": "c"}]},
            "status": {"phase": "Running"},
        });
        let mut world = at_rest();
        apply(&mut world, &pod);
        look(&mut world).0.pods[&PodKey::new("kube-system", name)].owner.clone()
    };
    let is = |manifest: &str, control_plane: bool| PodOwner::Static { manifest: manifest.into(), control_plane };
    assert_eq!(owner("etcd-node-a"), is("etcd", true));
    assert_eq!(owner("kube-scheduler-node-a"), is("kube-scheduler", true));
    assert_eq!(owner("nginx-proxy-node-a"), is("nginx-proxy", false));
}

#[test]
fn a_class_says_which_taints_pass_with_the_sleep_of_its_nodes() {
    let mut world = at_rest();
    let mut sleeper = node("sleeper", &[], &[]);
    sleeper["spec"]["taints"] = json!([{"key": "acme.example/silent", "effect": "NoExecute"}]);
    apply(&mut world, &sleeper);
    let judged = |world: &mut World| {
        let (snapshot, _) = look(world);
        let node = &snapshot.nodes[&NodeName::new("sleeper")];
        let occupancy = Occupancy::new(snapshot);
        let probe = occupancy.probe(Candidate::target_of(&snapshot.vms[&db()]));
        let at = |moment| probe.fits(&node.name, moment).is_ok();
        (node.maintenance.is_some(), at(Moment::Now), at(Moment::OnceAwake))
    };
    assert_eq!(judged(&mut world), (true, false, false));
    let class = |taints: Value| changed(object("NodePowerClass", "shared"), &[("/spec/suspend", taints)]);
    apply(&mut world, &class(json!({"ignoreTaints": ["acme.example/silent"]})));
    assert_eq!(judged(&mut world), (false, false, true));
    apply(&mut world, &sleeper);
    assert_eq!(judged(&mut world), (false, false, true), "whichever came last");
    apply(&mut world, &class(json!({})));
    assert_eq!(judged(&mut world), (true, false, false));
    // What controllers say of a node that is not there passes by itself; a person's cordon does not.
    for (key, passes) in [
        ("node.cilium.io/agent-not-ready", true),
        ("node.cloudprovider.kubernetes.io/shutdown", true),
        ("node.kubernetes.io/unreachable", true),
        ("node.kubernetes.io/unschedulable", false),
        ("example.org/reserved", false),
    ] {
        sleeper["spec"]["taints"] = json!([{"key": key, "effect": "NoSchedule"}]);
        apply(&mut world, &sleeper);
        assert_eq!(judged(&mut world), (false, false, passes), "{key}");
    }
    let effects = |world: &mut World| look(world).0.nodes[&NodeName::new("sleeper")].taints[0].effect;
    assert_eq!(effects(&mut world), TaintEffect::NoSchedule);
    assert_eq!(vm(&mut world).target.anti_affinity[0].selector, Selector::label("tier", "db"));
}

#[test]
fn a_node_that_refused_a_vm_is_remembered_as_long_as_its_plan() {
    let step = |reason: &str| {
        json!([{"index": 0, "phase": "Failed", "reason": reason, "migrationUID": "mig-0",
            "startedAt": "2026-01-04T23:00:00Z", "endedAt": "2026-01-04T23:00:09Z"}])
    };
    let refused_by = |world: &mut World| {
        let moves = look(world).0.history.of(&Uid::new("vmi-db")).cloned().unwrap_or_default();
        moves.refused_by.into_iter().collect::<Vec<_>>()
    };
    let mut world = at_rest();
    for (reason, refuses) in [("TargetUnschedulable", true), ("MigrationDeleted", true), ("MigrationFailed", false)] {
        let changes = [("/status/steps", step(reason)), ("/status/phase", json!("Failed"))];
        apply(&mut world, &changed(object("ConsolidationPlan", "shop-1"), &changes));
        let ended = NOW - Span::from_secs(3600) + Span::from_secs(9);
        let expected = if refuses { vec![(NodeName::new("node-a"), ended)] } else { Vec::new() };
        assert_eq!(refused_by(&mut world), expected, "{reason}");
    }
    remove(&mut world, &object("ConsolidationPlan", "shop-1"));
    assert_eq!(refused_by(&mut world), []);
}
