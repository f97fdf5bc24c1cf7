//! Tests of what is believed and kept.

mod hostile;
mod past;
mod prometheus;
mod samples;

use super::{Inventory, LoadStore, VmPlace};
use miyako_api::wire::load::{NodeSample, Usage, VmSample};
use miyako_core::model::{Cores, NodeName, Span, Timestamp, Uid, VmKey, WindowAverage};

/// When the tests begin, by everybody's clock.
const START: Timestamp = Timestamp::from_secs(1_800_000_000);

const SECOND: Span = Span::from_secs(1);

fn at(seconds: u64) -> Timestamp {
    START + Span::from_secs(seconds)
}

fn node(name: &str) -> NodeName {
    NodeName::new(name)
}

fn vm(name: &str) -> VmKey {
    VmKey::new("default", name)
}

/// Nodes of 8 cores, and VMs as (name, uid, node).
fn inventory(nodes: &[&str], vms: &[(&str, &str, &str)]) -> Inventory {
    Inventory {
        nodes: nodes.iter().map(|name| (node(name), Cores::new(8.0).unwrap())).collect(),
        vms: vms
            .iter()
            .map(|(name, uid, on)| (vm(name), VmPlace { uid: Uid::new(uid), node: Some(node(on)) }))
            .collect(),
        ..Inventory::default()
    }
}

/// Nodes `a` and `b`, VM `web` with uid `u1` on `a`.
fn store() -> LoadStore {
    let mut store = LoadStore::new();
    store.set_inventory(inventory(&["a", "b"], &[("web", "u1", "a")]), START);
    store
}

fn usage(cpu_cores: f64) -> Option<Usage> {
    Some(Usage { cpu_cores, memory_bytes: Some(1 << 30), ..Usage::default() })
}

/// A sample of node `a` with VM `web`, taken and sent at `moment`.
fn sample(sequence: u64, moment: Timestamp, node_cores: f64, vm_cores: f64) -> NodeSample {
    NodeSample {
        node: "a".to_owned(),
        sequence,
        sampled_unix_ms: moment.millis(),
        sent_unix_ms: moment.millis(),
        usage: usage(node_cores),
        vms: vec![VmSample {
            namespace: "default".to_owned(),
            name: "web".to_owned(),
            uid: "u1".to_owned(),
            usage: usage(vm_cores),
            ..VmSample::default()
        }],
        ..NodeSample::default()
    }
}

fn node_window(store: &mut LoadStore, name: &str, now: Timestamp, window: Span) -> WindowAverage {
    let table = store.lend();
    let average = table.nodes.get(&node(name)).map_or(WindowAverage::Never, |history| history.average(now, window));
    store.take_back(table);
    average
}

fn vm_window(store: &mut LoadStore, name: &str, now: Timestamp, window: Span) -> WindowAverage {
    let table = store.lend();
    let average = table.vms.get(&vm(name)).map_or(WindowAverage::Never, |history| history.average(now, window));
    store.take_back(table);
    average
}

fn full(average: WindowAverage) -> f64 {
    average.full().unwrap_or_else(|| panic!("{average:?} is not full")).value()
}
