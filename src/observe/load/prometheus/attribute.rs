//! Whose each series is. Nothing is guessed: a node or VM with two series at the same time has none.

use super::{
    PrometheusProblem, Questions,
    answer::{Labels, Series, differing, names},
    figures::{About, Learnt},
};
use crate::observe::load::{inventory::Inventory, store::Subject};
use miyako_core::model::{NodeName, VmKey};
use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

/// A label, what it stands for and the flag that changes it.
struct Expected<'a> {
    label: &'a str,
    means: &'static str,
    flag: &'static str,
}

const NODE_FLAG: &str = "--prometheus-node-label";
const NAMESPACE_FLAG: &str = "--prometheus-namespace-label";
const NAME_FLAG: &str = "--prometheus-name-label";

/// The label of every series that says where it was scraped, as host:port.
const INSTANCE: &str = "instance";

/// Where names end up when labels of two sources fall on each other.
const NODE_ADVICE: &str =
    "write a query with one series for each node, such as sum by (node) (…) (--prometheus-node-cpu)";
const VM_ADVICE: &str = "let each virt-handler be scraped once, and drop what replicas of the server add";

/// Whose each series is. A VM's series counts only on the node where the VM runs. A series that ended before another of the
/// same subject began was replaced by it, as with a pod that was; two at the same time are told, and neither counts.
pub(super) fn attribute(
    series: Vec<Series>,
    query: &str,
    about: About,
    questions: &Questions,
    inventory: &Inventory,
) -> Learnt<Series> {
    let mut learnt = Learnt { of: BTreeMap::<Subject, Series>::new(), problems: Vec::new() };
    let (mut missing, mut unmatched, mut ambiguous) = (None, None, None);
    let mut torn: BTreeSet<Subject> = BTreeSet::new();
    let expect_some = match about {
        About::Nodes => !inventory.nodes.is_empty(),
        About::Vms => inventory.vms.values().any(|place| place.node.is_some()),
    };
    if series.is_empty() && expect_some {
        let problem = PrometheusProblem::NoSeries { query: query.to_owned(), target: about.target() };
        learnt.problems.push(problem);
    }
    let by_address = by_address(inventory);
    for one in series {
        match subject(&one.labels, about, questions, (inventory, &by_address)) {
            Ok(Some(subject)) => match learnt.of.entry(subject) {
                Entry::Vacant(free) => {
                    free.insert(one);
                }
                Entry::Occupied(mut other) => match succession(other.get(), &one) {
                    Some(true) => drop(other.insert(one)),
                    Some(false) => {}
                    None => {
                        torn.insert(other.key().clone());
                        let (key, other) = (other.key(), other.get());
                        ambiguous.get_or_insert_with(|| (told(key), differing(&other.labels, &one.labels)));
                    }
                },
            },
            Ok(None) => {}
            Err(Mismatch::Missing(expected)) => {
                missing.get_or_insert_with(|| PrometheusProblem::MissingLabel {
                    query: query.to_owned(),
                    label: expected.label.to_owned(),
                    has: names(&one.labels),
                    means: expected.means,
                    flag: expected.flag,
                });
            }
            Err(Mismatch::Unknown(expected, value)) => {
                unmatched.get_or_insert_with(|| PrometheusProblem::NothingMatches {
                    query: query.to_owned(),
                    label: expected.label.to_owned(),
                    example: value.chars().take(253).collect(),
                    means: expected.means,
                    flag: expected.flag,
                });
            }
        }
    }
    let some_known = !learnt.of.is_empty();
    learnt.of.retain(|subject, _| !torn.contains(subject));
    learnt.problems.extend(ambiguous.map(|(of, series)| PrometheusProblem::Ambiguous {
        query: query.to_owned(),
        of,
        series,
        others: torn.len().saturating_sub(1),
        advice: if about == About::Nodes { NODE_ADVICE } else { VM_ADVICE },
    }));
    learnt.problems.extend(missing);
    // A few strangers are ordinary (what was deleted lingers in Prometheus for minutes); nothing but strangers is not.
    if !some_known && expect_some {
        learnt.problems.extend(unmatched);
    }
    learnt
}

/// Whether `second` took over from `first`; nothing if both are there at the same time.
fn succession(first: &Series, second: &Series) -> Option<bool> {
    let ends = |series: &Series| Some((series.samples.first()?.0, series.samples.last()?.0));
    let ((first_from, first_to), (second_from, second_to)) = (ends(first)?, ends(second)?);
    if first_to < second_from {
        Some(true)
    } else if second_to < first_from {
        Some(false)
    } else {
        None
    }
}

fn told(subject: &Subject) -> String {
    match subject {
        Subject::Node(node) => format!("node {node}"),
        Subject::Vm(vm) => format!("VM {vm}"),
    }
}

/// The nodes by their IP addresses, but for those that two nodes have.
fn by_address(inventory: &Inventory) -> BTreeMap<&str, Option<&NodeName>> {
    let mut nodes: BTreeMap<&str, Option<&NodeName>> = BTreeMap::new();
    for (node, addresses) in inventory.addresses.iter().filter(|(node, _)| inventory.nodes.contains_key(*node)) {
        for address in addresses {
            nodes
                .entry(address.as_str())
                .and_modify(|known| *known = known.filter(|known| *known == node))
                .or_insert(Some(node));
        }
    }
    nodes
}

/// The host of `host:port`, `[v6]:port` or a host alone.
fn host(instance: &str) -> &str {
    if let Some(v6) = instance.strip_prefix('[') {
        return v6.split(']').next().unwrap_or_default();
    }
    match instance.split_once(':') {
        Some((host, port)) if !port.contains(':') => host,
        _ => instance,
    }
}

enum Mismatch<'a> {
    Missing(Expected<'a>),
    Unknown(Expected<'a>, String),
}

/// The subject that labels name; none for a VM's leftovers on a node that it left. A node's series without its name is told
/// by where it was scraped: node-exporter answers at its node's own address.
fn subject<'a>(
    labels: &Labels,
    about: About,
    questions: &'a Questions,
    (inventory, by_address): (&Inventory, &BTreeMap<&str, Option<&NodeName>>),
) -> Result<Option<Subject>, Mismatch<'a>> {
    let value = |expected: Expected<'a>| match labels.get(expected.label) {
        Some(value) => Ok((expected, value)),
        None => Err(Mismatch::Missing(expected)),
    };
    if about == About::Nodes
        && !labels.contains_key(&questions.node_label)
        && let Some(node) = labels.get(INSTANCE).and_then(|instance| *by_address.get(host(instance))?)
    {
        return Ok(Some(Subject::Node(node.clone())));
    }
    let (expected, node) = value(Expected { label: &questions.node_label, means: "Node", flag: NODE_FLAG })?;
    let node = NodeName::new(node);
    if !inventory.nodes.contains_key(&node) {
        return Err(Mismatch::Unknown(expected, node.as_str().to_owned()));
    }
    if about == About::Nodes {
        return Ok(Some(Subject::Node(node)));
    }
    let namespace = Expected { label: &questions.namespace_label, means: "VM's namespace", flag: NAMESPACE_FLAG };
    let (_, namespace) = value(namespace)?;
    let (expected, name) = value(Expected { label: &questions.name_label, means: "VM", flag: NAME_FLAG })?;
    let key = VmKey::new(namespace, name);
    match inventory.vms.get(&key) {
        None => Err(Mismatch::Unknown(expected, name.clone())),
        Some(place) if place.node.as_ref() == Some(&node) => Ok(Some(Subject::Vm(key))),
        Some(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_a_host_with_or_without_a_port() {
        for (instance, wanted) in [
            ("192.0.2.11:9100", "192.0.2.11"),
            ("192.0.2.11", "192.0.2.11"),
            ("[2001:db8::7]:9100", "2001:db8::7"),
            ("2001:db8::7", "2001:db8::7"),
            ("node-1.example.org:9100", "node-1.example.org"),
            ("[", ""),
        ] {
            assert_eq!(host(instance), wanted);
        }
    }
}
