//! Whether a whole holds its parts: what a node uses is no less than what its VMs use.

use super::{
    PrometheusProblem,
    answer::Series,
    figures::Learnt,
    query::{Query, Unit},
};
use crate::observe::load::{inventory::Inventory, store::Subject};
use miyako_core::model::{NodeName, Timestamp};
use std::collections::BTreeMap;

/// VMs may seem to use so many times what their node does, and a little more: node and VMs are scraped at different moments,
/// and what began in between shows in one of them first.
const TIMES: f64 = 1.5;

/// See [`TIMES`]; in cores.
const MORE: f64 = 0.25;

/// Takes the nodes out of `nodes` whose VMs use more than they do: nobody knows which figure is wrong, so nobody knows the
/// node's load. Says which is the first of them.
pub(super) fn cast(
    nodes: &mut Learnt<Series>,
    vms: &Learnt<Series>,
    (node_query, vm_query): (&Query, &Query),
    inventory: &Inventory,
) -> Option<PrometheusProblem> {
    let mut of_node: BTreeMap<&NodeName, Vec<&Series>> = BTreeMap::new();
    for (subject, series) in &vms.of {
        let Subject::Vm(key) = subject else { continue };
        if let Some(node) = inventory.vms.get(key).and_then(|place| place.node.as_ref()) {
            of_node.entry(node).or_default().push(series);
        }
    }
    let mut doubted: Vec<(NodeName, f64, f64)> = Vec::new();
    for (node, vms) in of_node {
        let Some(whole) = nodes.of.get(&Subject::Node(node.clone())) else { continue };
        let compared = vms.iter().filter_map(|vm| {
            let (from, to) = common(whole, vm)?;
            Some((average(whole, node_query.unit(), from, to)?, average(vm, vm_query.unit(), from, to)?))
        });
        let (mut used, mut parts) = (0.0_f64, 0.0);
        for (by_node, by_vm) in compared {
            used = used.max(by_node);
            parts += by_vm;
        }
        if parts > used * TIMES + MORE {
            doubted.push((node.clone(), used, parts));
        }
    }
    for (node, ..) in &doubted {
        nodes.of.remove(&Subject::Node(node.clone()));
    }
    let others = doubted.len().saturating_sub(1);
    let (node, used, vms) = doubted.into_iter().next()?;
    let (node_query, vm_query) = (node_query.to_string(), vm_query.to_string());
    Some(PrometheusProblem::Contradiction { node_query, vm_query, node, used, vms, others })
}

/// The time that both were watched.
fn common(one: &Series, other: &Series) -> Option<(Timestamp, Timestamp)> {
    let ends = |series: &Series| Some((series.samples.first()?.0, series.samples.last()?.0));
    let ((one_from, one_to), (other_from, other_to)) = (ends(one)?, ends(other)?);
    let (from, to) = (one_from.max(other_from), one_to.min(other_to));
    (from < to).then_some((from, to))
}

/// Cores in use on average between two moments within the series.
fn average(series: &Series, unit: Unit, from: Timestamp, to: Timestamp) -> Option<f64> {
    let span = to.since(from).as_secs_f64();
    let mut used = 0.0;
    for pair in series.samples.windows(2) {
        let [(begin, before), (end, after)] = *pair else { continue };
        let whole = end.since(begin).as_secs_f64();
        let within = end.min(to).since(begin.max(from)).as_secs_f64();
        if within <= 0.0 || whole <= 0.0 {
            continue;
        }
        let cores = match unit {
            Unit::CpuSeconds => (if after < before { after } else { after - before }) / whole,
            Unit::Cores => after,
        };
        used += cores * within;
    }
    let average = used / span;
    average.is_finite().then_some(average)
}
