//! What agents would measure, second by second.

use super::{pattern::Workload, share::share_capacity};
use miyako_api::wire::load::{NodeSample, Usage, VmSample};
use miyako_core::model::{Bytes, Cores, LoadTable, NodeName, Span, Timestamp, Uid, VmKey};
use std::collections::BTreeMap;

/// A VM where it is now.
#[derive(Debug, Clone, PartialEq)]
pub struct PlacedVm {
    /// Namespace and name.
    pub vm: VmKey,
    /// The VMI's uid.
    pub uid: Uid,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Guest memory.
    pub memory: Bytes,
    /// Its launcher is one of two, and the guest runs in the other.
    pub dormant: bool,
}

/// A node and what is on it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PlacedNode {
    /// Cores for pods.
    pub cores: f64,
    /// Whether its agent can speak.
    pub awake: bool,
    /// Its VMs.
    pub vms: Vec<PlacedVm>,
}

/// Who is where.
pub type Placement = BTreeMap<NodeName, PlacedNode>;

/// What one VM wanted and got.
#[derive(Debug, Clone, PartialEq)]
pub struct MeasuredVm {
    /// The VM.
    pub placed: PlacedVm,
    /// The cores it wanted.
    pub wanted: f64,
    /// The cores it got.
    pub got: f64,
}

/// What one node gave.
#[derive(Debug, Clone, PartialEq)]
pub struct MeasuredNode {
    /// The node.
    pub node: NodeName,
    /// Cores in use, the system's own included.
    pub used: f64,
    /// Cores wanted, the system's own included.
    pub wanted: f64,
    /// Cores there are.
    pub capacity: f64,
    /// Its VMs.
    pub vms: Vec<MeasuredVm>,
}

/// One second of the cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// When it was measured: at the end of the second.
    pub at: Timestamp,
    /// The nodes that are awake, by name.
    pub nodes: Vec<MeasuredNode>,
}

/// Measures a workload on a placement.
#[derive(Debug, Clone)]
pub struct Meter {
    /// What VMs want.
    pub workload: Workload,
    /// What a node needs for itself (kubelet, virt-handler, …), in cores.
    pub system: f64,
}

impl Meter {
    /// What is in use in the second that ends at `at`.
    #[must_use]
    pub fn measure(&self, placement: &Placement, at: Timestamp) -> Measured {
        let nodes = placement.iter().filter(|(_, placed)| placed.awake).map(|(node, placed)| {
            let wants: Vec<f64> = placed.vms.iter().map(|vm| self.wants(vm, at)).collect();
            let system = self.system.min(placed.cores);
            let gets = share_capacity(&wants, placed.cores - system);
            MeasuredNode {
                node: node.clone(),
                used: system + gets.iter().sum::<f64>(),
                wanted: system + wants.iter().sum::<f64>(),
                capacity: placed.cores,
                vms: placed
                    .vms
                    .iter()
                    .zip(wants.iter().zip(gets))
                    .map(|(vm, (wanted, got))| MeasuredVm { placed: vm.clone(), wanted: *wanted, got })
                    .collect(),
            }
        });
        Measured { at, nodes: nodes.collect() }
    }

    fn wants(&self, vm: &PlacedVm, at: Timestamp) -> f64 {
        if vm.dormant { 0.0 } else { self.workload.demand(&vm.vm, at) * f64::from(vm.vcpus) }
    }
}

fn usage(got: f64, wanted: f64, memory: Bytes) -> Usage {
    let (memory_bytes, cpu_wait_cores) = (Some(memory.0), Some((wanted - got).max(0.0)));
    Usage { cpu_cores: got, memory_bytes, cpu_wait_cores, ..Usage::default() }
}

impl Measured {
    /// What the nodes' agents would send. `sequence` counts the seconds of their streams.
    #[must_use]
    pub fn samples(&self, sequence: u64) -> Vec<NodeSample> {
        let millis = self.at.millis();
        let sample = |node: &MeasuredNode| NodeSample {
            node: node.node.to_string(),
            sequence,
            sampled_unix_ms: millis,
            sent_unix_ms: millis,
            usage: Some(usage(node.used, node.wanted, node.vms.iter().map(|vm| vm.placed.memory).sum())),
            vms: node
                .vms
                .iter()
                .map(|vm| VmSample {
                    namespace: vm.placed.vm.namespace.to_string(),
                    name: vm.placed.vm.name.to_string(),
                    uid: vm.placed.uid.to_string(),
                    usage: Some(usage(vm.got, vm.wanted, vm.placed.memory)),
                    ..VmSample::default()
                })
                .collect(),
            ..NodeSample::default()
        };
        self.nodes.iter().map(sample).collect()
    }

    /// Notes it straight in the planner's histories.
    pub fn push_into(&self, table: &mut LoadTable) {
        let second = Span::from_secs(1);
        let cores = |value: f64| Cores::new(value).unwrap_or_default();
        for node in &self.nodes {
            table.nodes.entry(node.node.clone()).or_default().push(self.at, second, cores(node.used));
            for vm in node.vms.iter().filter(|vm| !vm.placed.dormant) {
                table.vms.entry(vm.placed.vm.clone()).or_default().push(self.at, second, cores(vm.got));
            }
        }
    }

    /// Cores that VMs wanted and did not get, in the whole cluster.
    #[must_use]
    pub fn missing(&self) -> f64 {
        self.nodes.iter().map(|node| (node.wanted - node.used).max(0.0)).sum()
    }

    /// Nodes that are in use at or beyond this share of their capacity.
    pub fn at_or_above(&self, share: f64) -> impl Iterator<Item = &MeasuredNode> {
        self.nodes.iter().filter(move |node| node.used >= share * node.capacity)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::pattern::Pattern, *};

    fn placed(name: &str, vcpus: u32) -> PlacedVm {
        PlacedVm { vm: VmKey::new("ns", name), uid: Uid::new(name), vcpus, memory: Bytes::gib(1), dormant: false }
    }

    fn measured() -> Measured {
        let patterns =
            [("a", 1.0), ("b", 0.5)].map(|(name, share)| (VmKey::new("ns", name), Pattern::Constant(share))).into();
        let meter = Meter { workload: Workload { seed: 1, patterns, noise: 0.0 }, system: 0.5 };
        let node = |cores: f64, awake: bool, vms: Vec<PlacedVm>| PlacedNode { cores, awake, vms };
        let placement = Placement::from([
            (NodeName::new("n1"), node(2.0, true, vec![placed("a", 2), placed("b", 2)])),
            (NodeName::new("n2"), node(2.0, true, vec![])),
            (NodeName::new("n3"), node(2.0, false, vec![])),
        ]);
        meter.measure(&placement, Timestamp::from_secs(100))
    }

    #[test]
    fn a_node_saturates_and_its_vms_get_their_part() {
        let measured = measured();
        assert_eq!(measured.nodes.len(), 2, "a sleeping node measures nothing");
        let node = &measured.nodes[0];
        assert!((node.used - 2.0).abs() < 1e-9 && (node.wanted - 3.5).abs() < 1e-9);
        let got: Vec<f64> = node.vms.iter().map(|vm| vm.got).collect();
        assert!((got[0] - 1.0).abs() < 1e-9 && (got[1] - 0.5).abs() < 1e-9, "{got:?}");
        assert!((measured.missing() - 1.5).abs() < 1e-9);
        assert_eq!(measured.at_or_above(0.9).count(), 1);
        assert!((measured.nodes[1].used - 0.5).abs() < 1e-9);
    }

    #[test]
    fn samples_and_histories_say_the_same() {
        let measured = measured();
        let samples = measured.samples(3);
        assert_eq!((samples[0].node.as_str(), samples[0].sequence, samples[0].sampled_unix_ms), ("n1", 3, 100_000));
        let vm = &samples[0].vms[0];
        assert_eq!((vm.name.as_str(), vm.uid.as_str()), ("a", "a"));
        let mut table = LoadTable::default();
        measured.push_into(&mut table);
        let latest = table.vms[&VmKey::new("ns", "a")].latest().unwrap().value();
        assert!((latest - vm.usage.as_ref().unwrap().cpu_cores).abs() < 1e-6);
    }
}
