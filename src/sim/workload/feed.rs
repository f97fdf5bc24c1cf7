//! The agents of a simulated cluster: sees where VMs are, measures, and tells the operator's load store.

use super::meter::{Measured, Meter, PlacedNode, PlacedVm, Placement};
use crate::{
    observe::{
        convert::quantity,
        load::{SharedLoadStore, StreamId},
    },
    sim::{
        kubevirt::launcher,
        watched::{Index, Watched},
    },
};
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client, ResourceExt};
use miyako_api::kubevirt::VirtualMachineInstance;
use miyako_core::model::{NodeName, Timestamp, Uid, VmKey};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Feeds a load store once a second, as agents on every node would.
pub struct Feeder {
    meter: Meter,
    nodes: Watched<Node>,
    vmis: Watched<VirtualMachineInstance>,
    /// Where VMs were at the last look.
    placement: Arc<Placement>,
    streams: BTreeMap<NodeName, StreamId>,
    sequence: u64,
}

impl Feeder {
    /// A feeder that looks at the cluster through this client.
    #[must_use]
    pub fn new(client: Client, meter: Meter) -> Self {
        Self {
            meter,
            nodes: Watched::new(Api::all(client.clone()), None, Index { tags: |_| Vec::new(), prune: |_| {} }),
            vmis: Watched::new(Api::all(client), None, Index { tags: |_| Vec::new(), prune: |_| {} }),
            placement: Arc::default(),
            streams: BTreeMap::new(),
            sequence: 0,
        }
    }

    /// What VMs want; may be changed while it runs.
    pub fn meter(&mut self) -> &mut Meter {
        &mut self.meter
    }

    /// Where VMs are now.
    ///
    /// # Errors
    /// When the cluster can't be seen.
    pub async fn placement(&mut self) -> kube::Result<Arc<Placement>> {
        self.nodes.refresh().await?;
        self.vmis.refresh().await?;
        // Most seconds bring no news.
        let (nodes, vmis) = (self.nodes.take_changed(), self.vmis.take_changed());
        if !nodes.is_empty() || !vmis.is_empty() {
            self.placement = Arc::new(self.look());
        }
        Ok(Arc::clone(&self.placement))
    }

    fn look(&self) -> Placement {
        let mut placement: Placement =
            self.nodes.all().map(|node| (NodeName::new(node.name_any()), placed_node(node))).collect();
        for vmi in self.vmis.all() {
            for (node, dormant) in launchers(vmi) {
                if let Some(node) = placement.get_mut(&NodeName::new(node)) {
                    node.vms.push(PlacedVm { dormant, ..placed_vm(vmi) });
                }
            }
        }
        placement
    }

    /// Measures the second that ends at `at` and tells the store. What was measured comes back, for reports.
    ///
    /// # Errors
    /// When the cluster can't be seen.
    pub async fn feed(&mut self, store: &SharedLoadStore, at: Timestamp) -> kube::Result<Measured> {
        let placement = self.placement().await?;
        let measured = self.meter.measure(&placement, at);
        self.sequence += 1;
        let mut store = store.lock();
        self.streams.retain(|node, stream| {
            let speaks = placement.get(node).is_some_and(|placed| placed.awake);
            if !speaks {
                store.close_stream(node, *stream);
            }
            speaks
        });
        for sample in measured.samples(self.sequence) {
            let node = NodeName::new(&sample.node);
            let stream = *self.streams.entry(node.clone()).or_insert_with(|| store.open_stream(&node));
            let verdict = store.accept(stream, &node, &sample, at);
            for refusal in verdict.refusals() {
                tracing::debug!(%node, %refusal, "the load store refuses what the simulated agent says");
            }
        }
        drop(store);
        Ok(measured)
    }
}

fn placed_node(node: &Node) -> PlacedNode {
    let status = node.status.as_ref();
    let cpu = status.and_then(|status| status.allocatable.as_ref()).and_then(|amounts| amounts.get("cpu"));
    let millis = cpu.and_then(|cpu| quantity::thousandths(&cpu.0).ok()).unwrap_or(0);
    let mut conditions = status.into_iter().flat_map(|status| status.conditions.iter().flatten());
    PlacedNode {
        cores: millis as f64 / 1000.0,
        awake: conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True"),
        vms: Vec::new(),
    }
}

/// The nodes with a launcher of this VM, and whether the guest in it stands still: until the switch of a post-copy, or
/// the end of a pre-copy, it runs at the source, and from then on at the target, whatever the VMI's `nodeName` says.
fn launchers(vmi: &VirtualMachineInstance) -> Vec<(&str, bool)> {
    let Some(status) = vmi.status.as_ref().filter(|status| status.phase.as_deref() == Some("Running")) else {
        return Vec::new();
    };
    let Some(home) = status.node_name.as_deref() else { return Vec::new() };
    let moving = status.migration_state.as_ref().filter(|state| {
        let begun = state.start_timestamp.is_some() && state.source_node.as_deref() == Some(home);
        begun && state.end_timestamp.is_none() && !state.completed && !state.failed
    });
    let Some((state, target)) = moving.and_then(|state| Some((state, state.target_node.as_deref()?))) else {
        return vec![(home, false)];
    };
    let switched = state.mode.as_deref() == Some("PostCopy");
    vec![(home, switched), (target, !switched)]
}

fn placed_vm(vmi: &VirtualMachineInstance) -> PlacedVm {
    PlacedVm {
        vm: VmKey::new(vmi.namespace().unwrap_or_default(), vmi.name_any()),
        uid: Uid::new(vmi.uid().unwrap_or_default()),
        vcpus: launcher::vcpus(vmi),
        memory: launcher::guest_memory(vmi),
        dormant: false,
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Pattern, Workload},
        *,
    };
    use crate::{
        observe::load::{Inventory, VmPlace},
        sim::{
            cluster::{self, NodeSpec},
            kubevirt::create::VmSpec,
            world::{World, WorldSettings},
        },
    };
    use miyako_core::model::{Bytes, Cores};

    #[tokio::test(start_paused = true)]
    async fn what_is_measured_reaches_the_planners_histories() {
        let world = World::start(WorldSettings::default()).await.unwrap();
        for name in ["n1", "n2"] {
            world.add_node(&NodeSpec::new(name, 4, Bytes::gib(16))).await.unwrap();
        }
        let vmi = world.add_vm(&VmSpec::new("vms", "vm", 2, Bytes::gib(1)), "n1").await.unwrap();
        let vm = VmKey::new("vms", "vm");
        let patterns = BTreeMap::from([(vm.clone(), Pattern::Constant(0.75))]);
        let meter = Meter { workload: Workload { seed: 1, patterns, noise: 0.0 }, system: 0.25 };
        let mut feeder = Feeder::new(world.server.client("agents"), meter);
        let store = SharedLoadStore::default();
        let now = || Timestamp::from_millis((world.now)().as_millisecond());
        let place = VmPlace { uid: Uid::new(vmi.uid().unwrap()), node: Some(NodeName::new("n1")) };
        let nodes = ["n1", "n2"].map(|name| (NodeName::new(name), Cores::new(4.0).unwrap())).into();
        store.lock().set_inventory(
            Inventory { nodes, vms: BTreeMap::from([(vm.clone(), place)]), ..Inventory::default() },
            now(),
        );
        for _ in 0..10 {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            feeder.feed(&store, now()).await.unwrap();
        }
        let table = store.lock().lend();
        let five = std::time::Duration::from_secs(5);
        let average = |history: &miyako_core::model::LoadHistory| history.average(now(), five).full().unwrap().value();
        assert!((average(&table.vms[&vm]) - 1.5).abs() < 1e-3);
        assert!((average(&table.nodes[&NodeName::new("n1")]) - 1.75).abs() < 1e-3);
        assert!((average(&table.nodes[&NodeName::new("n2")]) - 0.25).abs() < 1e-3);
        store.lock().take_back(table);

        cluster::fall_asleep(&world.admin, "n2", (world.now)()).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        let measured = feeder.feed(&store, now()).await.unwrap();
        assert_eq!(measured.nodes.len(), 1, "a sleeping node's agent is silent");
    }
}
