//! Everything that the stand-in writes has the types that KubeVirt's own CRDs give it.

use super::*;
use miyako_api::kubevirt::fields::kinds;
use serde::Deserialize as _;
use std::path::{Path, PathBuf};

/// KubeVirt's own CRDs, where they are at hand.
fn crds() -> Option<Vec<Value>> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let folder = std::env::var_os("MIYAKO_SHARED").map_or(beside, PathBuf::from).join("kubevirt-crds");
    let mut files: Vec<_> = std::fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).unwrap();
        let documents = serde_yaml::Deserializer::from_str(&text);
        documents.map(|document| Value::deserialize(document).unwrap()).collect::<Vec<_>>()
    };
    Some(files.iter().flat_map(read).collect())
}

#[tokio::test(start_paused = true)]
async fn a_vms_whole_life_fits_what_is_known_of_kubevirts_schemas() {
    fits(&kinds().iter().map(|kind| kind.crd()).collect::<Vec<_>>()).await;
}

#[tokio::test(start_paused = true)]
async fn a_vms_whole_life_fits_kubevirts_own_schemas() {
    match crds() {
        Some(crds) => fits(&crds).await,
        None => eprintln!("skipped: KubeVirt's own CRDs are not at hand; MIYAKO_SHARED names the folder above them"),
    }
}

async fn fits(crds: &[Value]) {
    let world = world(3).await;
    for crd in crds {
        world.server.add_crd(crd).unwrap();
    }
    world.add_vm(&VmSpec { owned: true, ..vm("vm") }, "n1").await.unwrap();
    moved(&world, "m1", "vm", "n2").await;
    ask(&world, "m2", "vm", Some("n3")).await.unwrap();
    until_phase(&world, "m2", "Running").await;
    cancel(&world, "m2").await;
    until_gone(&world, "m2").await;
    let told = state(&world, "vm").await;
    assert!(told.failed && told.abort_status.is_some() && told.target_node_address.is_some());
    assert!(!told.target_direct_migration_node_ports.is_empty());
    let vmi = vmi(&world, "vm").await;
    assert_eq!(vmi.metadata.owner_references.unwrap()[0].kind, "VirtualMachine");
    vmis(&world).delete("vm", &DeleteParams::default()).await.unwrap();
    until("gone", || async { vmis(&world).get_opt("vm").await.unwrap().is_none().then_some(()) }).await;
}
