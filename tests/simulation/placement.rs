//! Where VMs are sent: by what KubeVirt will ask for, and in the words that it understands.

use super::{begin, moves, node_of, one_busy_vm, run, unfinished};
use kube::api::{Api, ListParams, Patch, PatchParams};
use miyako::sim::simulation::{Simulation, USER};
use miyako_api::kubevirt::{VirtualMachineInstance, VirtualMachineInstanceMigration};
use miyako_api::names::kubernetes::HOSTNAME;
use serde_json::{Value, json};

/// virt-controller, which carries a VirtualMachine's new node selector, affinity and tolerations into its VMI.
const VIRT_CONTROLLER: &str = "system:serviceaccount:kubevirt:kubevirt-controller";

async fn change_spec(world: &Simulation, vm: &str, spec: Value) {
    let vmis: Api<VirtualMachineInstance> = Api::namespaced(world.world.server.client(VIRT_CONTROLLER), "vms");
    let patch = Patch::Merge(json!({"spec": spec}));
    vmis.patch(vm, &PatchParams::default(), &patch).await.expect("KubeVirt may change a VMI");
}

async fn asked_for(world: &Simulation) -> Vec<String> {
    let api: Api<VirtualMachineInstanceMigration> = Api::namespaced(world.world.server.client(USER), "vms");
    let all = api.list(&ListParams::default()).await.expect("migrations are listed").items;
    all.iter().map(|migration| migration.spec.added_node_selector[HOSTNAME].clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_vm_goes_where_it_asks_to_be_by_now_and_not_where_its_launcher_once_could() {
    let mut scenario = one_busy_vm(1);
    for node in scenario.nodes.iter_mut().filter(|node| node.name == "dedicated-1") {
        node.labels.extend([("licence".to_owned(), "db".to_owned()), ("disk".to_owned(), "nvme".to_owned())]);
    }
    let mut world = begin(scenario).await;
    // dedicated-0 would be the first choice.
    let disk = json!({"key": "disk", "operator": "In", "values": ["nvme"]});
    let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{"matchExpressions": [disk]}]}}});
    change_spec(&world, "vm0", json!({"nodeSelector": {"licence": "db"}, "affinity": affinity})).await;
    run(&mut world, 120).await;
    assert_eq!(node_of(&world, "vm0"), "dedicated-1");
    assert_eq!((moves(&world), unfinished(&world)), (1, 0), "nothing was asked in vain");
    assert_eq!(world.broken_rules(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_target_is_named_by_its_host_name_which_need_not_be_the_nodes() {
    let mut scenario = one_busy_vm(1);
    for node in &mut scenario.nodes {
        node.labels.insert(HOSTNAME.to_owned(), format!("{}.example.org", node.name));
    }
    let mut world = begin(scenario).await;
    run(&mut world, 120).await;
    assert_eq!(asked_for(&world).await, ["dedicated-0.example.org"]);
    assert_eq!(node_of(&world, "vm0"), "dedicated-0");
    assert_eq!((moves(&world), unfinished(&world)), (1, 0));
    assert_eq!(world.broken_rules(), [""; 0]);
}
