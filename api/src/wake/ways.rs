//! The ways to wake one node and to measure what it draws, as a pure function of the classes, of the node's name and
//! labels, and of what its NodePower recorded when it was ordered to sleep.
//!
//! **What the class says now comes first, then the record.** The class is its owner's newest word: an address that was
//! corrected while the node slept is tried before the one that was wrong, and no account is shown to an address that the
//! owner has taken out before every address that the owner stands by has failed. The record comes next rather than not
//! at all, because a node that nobody can wake is the worse end, and all that a driver can do to a machine is switch it on.
//! Where the class can't be told any more, the record is all there is, and it is enough.

use super::{TemplateError, address_of, protocol_name};
use crate::{NodePower, NodePowerClass, node_power::RecordedWay, node_power_class::WakeDriver};
use k8s_openapi::api::core::v1::Node;
use kube::{
    ResourceExt as _,
    core::{Selector, SelectorExt as _},
};
use std::collections::BTreeMap;

/// One way to wake a node.
#[derive(Debug, Clone, PartialEq)]
pub struct Way {
    /// The class's words for it.
    pub spec: WakeDriver,
    /// Where this node's BMC or network card is.
    pub address: String,
    /// The labels that the class's words are to be read with: the node's, or those that were recorded.
    pub labels: BTreeMap<String, String>,
    /// It comes from the node's NodePower, not from its class.
    pub recorded: bool,
}

/// All ways to wake one node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ways {
    /// They are tried in this order.
    pub ways: Vec<Way>,
    /// What its class does not tell, and why. The ways above stand without it.
    pub problems: Vec<NoWay>,
}

/// Why there is no way to wake a node, or one way less.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoWay {
    /// The Node is gone, and its labels with it.
    #[error("there is no Node {0} any more, so no NodePowerClass can select it")]
    NoNode(String),
    /// No class selects it.
    #[error("no NodePowerClass selects node {0}: write one whose nodeSelector matches its labels")]
    NoClass(String),
    /// Several classes select it.
    #[error("the NodePowerClasses {} all select node {node}: narrow their nodeSelectors to one", .classes.join(", "))]
    SeveralClasses {
        /// The node.
        node: String,
        /// The classes.
        classes: Vec<String>,
    },
    /// Its class has no drivers.
    #[error("NodePowerClass {0} names no wake driver: add one under spec.wake")]
    NoDriver(String),
    /// Its class measures by a BMC that it does not name.
    #[error("NodePowerClass {class} measures by {driver} and names no such driver: add one under spec.wake")]
    NoMeter {
        /// The class.
        class: String,
        /// The driver.
        driver: &'static str,
    },
    /// An address can't be made.
    #[error("NodePowerClass {class}, spec.wake of driver {driver}: {source}")]
    Address {
        /// The class.
        class: String,
        /// The driver.
        driver: &'static str,
        /// What is wrong.
        source: TemplateError,
    },
}

/// The ways to wake `node` by its class alone, in the class's order, and what the class does not tell. Each driver stands
/// alone: one whose address can't be made is a problem, and the others are there all the same.
#[must_use]
pub fn ways_of_class(node: &Node, classes: &[NodePowerClass]) -> Ways {
    let class = match class_of(node, classes) {
        Ok(class) => class,
        Err(no_way) => return Ways { ways: Vec::new(), problems: vec![no_way] },
    };
    if class.spec.wake.is_empty() {
        return Ways { ways: Vec::new(), problems: vec![NoWay::NoDriver(class.name_any())] };
    }
    let mut found = Ways::default();
    for driver in &class.spec.wake {
        match way(driver, node, class) {
            Ok(way) => found.ways.push(way),
            Err(no_way) => found.problems.push(no_way),
        }
    }
    found
}

/// The ways to wake `node`: those of its class, then those that were recorded when it was ordered to sleep and that the
/// class does not name any more.
#[must_use]
pub fn ways(node: &Node, classes: &[NodePowerClass], power: Option<&NodePower>) -> Ways {
    let mut found = ways_of_class(node, classes);
    let name = node.name_any();
    let known = super::Node { name: &name, labels: node.labels() };
    let named: Vec<RecordedWay> = found.ways.iter().map(|way| RecordedWay::of(way, known)).collect();
    let recorded = power.map(|power| power.spec.wake_ways.as_slice()).unwrap_or_default();
    found.ways.extend(recorded.iter().filter(|way| !named.contains(way)).filter_map(|way| way.way(&name)));
    found
}

/// The ways to wake a node whose Node object is gone: those that were recorded.
#[must_use]
pub fn ways_without_node(name: &str, power: &NodePower) -> Ways {
    let ways = power.spec.wake_ways.iter().filter_map(|way| way.way(name)).collect();
    Ways { ways, problems: vec![NoWay::NoNode(name.to_owned())] }
}

/// The way to the BMC that measures what `node` draws; none where its class, if it has one, measures otherwise.
///
/// # Errors
///
/// When several classes select the node, when its class's meter has no driver, or the address can't be made.
pub fn meter(node: &Node, classes: &[NodePowerClass]) -> Result<Option<Way>, NoWay> {
    let class = match class_of(node, classes) {
        Err(NoWay::NoClass(_)) => return Ok(None),
        found => found?,
    };
    let Some(wanted) = class.spec.power.meter.driver() else { return Ok(None) };
    let driver = class.spec.wake.iter().find(|driver| driver.driver == wanted);
    let missing = || NoWay::NoMeter { class: class.name_any(), driver: protocol_name(wanted) };
    way(driver.ok_or_else(missing)?, node, class).map(Some)
}

/// The only class that selects the node.
///
/// # Errors
///
/// When none does, or several do.
pub fn class_of<'a>(node: &Node, classes: &'a [NodePowerClass]) -> Result<&'a NodePowerClass, NoWay> {
    let name = node.name_any();
    let mut selecting: Vec<&NodePowerClass> = classes
        .iter()
        // A selector that can't be read selects nothing; the operator says so in the class's conditions.
        .filter(|class| {
            Selector::try_from(class.spec.node_selector.clone()).is_ok_and(|selector| selector.matches(node.labels()))
        })
        .collect();
    selecting.sort_by_key(|class| class.name_any());
    match selecting.as_slice() {
        [] => Err(NoWay::NoClass(name)),
        [class] => Ok(class),
        several => {
            let classes = several.iter().map(|class| class.name_any()).collect();
            Err(NoWay::SeveralClasses { node: name, classes })
        }
    }
}

fn way(driver: &WakeDriver, node: &Node, class: &NodePowerClass) -> Result<Way, NoWay> {
    let address = address_of(driver, super::Node { name: &node.name_any(), labels: node.labels() });
    let bad = |source| NoWay::Address { class: class.name_any(), driver: protocol_name(driver.driver), source };
    let address = address.map_err(bad)?;
    Ok(Way { spec: driver.clone(), address, labels: node.labels().clone(), recorded: false })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node_power_class::WakeProtocol;
    use serde_json::json;

    fn node_with(labels: serde_json::Value) -> Node {
        serde_json::from_value(json!({"metadata": {"name": "n1", "labels": labels}})).unwrap()
    }

    fn node() -> Node {
        node_with(json!({"pool": "shared", "example.org/mac": "52-54-00-12-34-56"}))
    }

    fn class(name: &str, pool: &str, wake: serde_json::Value) -> NodePowerClass {
        let selector = json!({"matchLabels": {"pool": pool}});
        let spec = json!({"role": "Shared", "nodeSelector": selector, "wake": wake});
        NodePowerClass::new(name, serde_json::from_value(spec).unwrap())
    }

    fn amt_and_wol() -> serde_json::Value {
        json!([
            {"driver": "amt", "address": "{node}.amt.example.org", "secretRef": {"name": "amt", "namespace": "miyako"}},
            {"driver": "wol", "address": "{label:example.org/mac}"},
        ])
    }

    /// A NodePower that recorded what these classes said of the node.
    fn asleep(classes: &[NodePowerClass]) -> NodePower {
        let node = node();
        let known = super::super::Node { name: "n1", labels: node.labels() };
        let ways = ways_of_class(&node, classes).ways;
        let recorded: Vec<_> = ways.iter().map(|way| RecordedWay::of(way, known)).collect();
        let spec = json!({
            "desired": "Suspended", "generation": 1, "reason": "", "wakeWays": recorded,
            "issuedAt": "2026-01-01T00:00:00Z", "expiresAt": "2026-01-01T00:00:10Z",
        });
        NodePower::new("n1", serde_json::from_value(spec).unwrap())
    }

    fn seen(ways: &Ways) -> Vec<(WakeProtocol, &str, bool)> {
        ways.ways.iter().map(|way| (way.spec.driver, way.address.as_str(), way.recorded)).collect()
    }

    const AMT: (WakeProtocol, &str, bool) = (WakeProtocol::Amt, "n1.amt.example.org", false);
    const WOL: (WakeProtocol, &str, bool) = (WakeProtocol::Wol, "52-54-00-12-34-56", false);

    fn recorded(way: (WakeProtocol, &str, bool)) -> (WakeProtocol, &str, bool) {
        (way.0, way.1, true)
    }

    #[test]
    fn a_nodes_class_tells_its_ways_in_order() {
        let classes = [class("other", "dedicated", json!([])), class("shared", "shared", amt_and_wol())];
        let found = ways(&node(), &classes, None);
        assert_eq!((seen(&found), found.problems.len()), (vec![AMT, WOL], 0));
        assert_eq!(found.ways[0].spec.secret_ref.as_ref().unwrap().name.as_deref(), Some("amt"));
    }

    #[test]
    fn one_address_that_cannot_be_made_leaves_the_other_drivers() {
        let classes = [class("shared", "shared", amt_and_wol())];
        let unlabelled = node_with(json!({"pool": "shared"}));
        let found = ways(&unlabelled, &classes, None);
        assert_eq!(seen(&found), [AMT]);
        assert!(found.problems[0].to_string().contains("node n1 has no label example.org/mac"));
        for wrong in ["eth0", "00-00-00-00-00-00", "01-00-5e-00-00-01", "52-54-00-12-34"] {
            let found = ways(&node_with(json!({"pool": "shared", "example.org/mac": wrong})), &classes, None);
            assert_eq!(seen(&found), [AMT]);
            let said = found.problems[0].to_string();
            assert!(said.contains("driver wol") && said.contains("address"), "{wrong}: {said}");
        }
    }

    #[test]
    fn what_was_recorded_wakes_a_node_whatever_became_of_its_class() {
        let before = [class("shared", "shared", amt_and_wol())];
        let power = asleep(&before);
        let same = ways(&node(), &before, Some(&power));
        assert_eq!(seen(&same), [AMT, WOL], "nothing is tried twice");
        let both = [recorded(AMT), recorded(WOL)];
        let twice = [before[0].clone(), class("another", "shared", json!([]))];
        for (what, node, classes) in [
            ("the class is gone", node(), &[][..]),
            ("its drivers are", node(), &[class("shared", "shared", json!([]))][..]),
            ("another class overlaps", node(), &twice[..]),
            ("the node lost its labels", node_with(json!({})), &before[..]),
        ] {
            let found = ways(&node, classes, Some(&power));
            assert_eq!(seen(&found), both, "{what}");
            assert_eq!(found.problems.len(), 1, "{what}");
        }
        assert_eq!(seen(&ways_without_node("n1", &power)), both);
    }

    #[test]
    fn an_address_that_was_corrected_since_comes_before_the_recorded_one() {
        let power = asleep(&[class("shared", "shared", amt_and_wol())]);
        let now =
            json!([{"driver": "amt", "address": "10.0.0.7", "secretRef": {"name": "amt", "namespace": "miyako"}}]);
        let found = ways(&node(), &[class("shared", "shared", now)], Some(&power));
        assert_eq!(seen(&found), [(WakeProtocol::Amt, "10.0.0.7", false), recorded(AMT), recorded(WOL)]);
    }

    #[test]
    fn a_nodes_own_certificate_is_recorded_and_no_secret_is() {
        let pin = "ab".repeat(32);
        let wake = json!([{
            "driver": "redfish", "address": "https://{node}.bmc", "secretRef": {"name": "bmc", "namespace": "miyako"},
            "nodes": [{"name": "n1", "certificateSha256": pin}, {"name": "n2", "address": "https://other"}],
        }]);
        let classes = [class("shared", "shared", wake)];
        let power = asleep(&classes);
        let written = serde_json::to_value(&power.spec.wake_ways).unwrap();
        let expected = json!([{
            "driver": "redfish", "address": "https://{node}.bmc", "secretRef": {"name": "bmc", "namespace": "miyako"},
            "tls": {"certificateSha256": [pin]},
        }]);
        assert_eq!(written, expected);
        assert_eq!(ways(&node(), &classes, Some(&power)).ways.len(), 1, "the class says the same");
    }

    #[test]
    fn what_is_missing_is_named_with_what_to_do() {
        let said = |classes: &[NodePowerClass]| {
            let found = ways(&node(), classes, None);
            assert!(found.ways.is_empty());
            found.problems[0].to_string()
        };
        assert!(said(&[]).starts_with("no NodePowerClass selects node n1: write one"));
        let twice = [class("b", "shared", amt_and_wol()), class("a", "shared", amt_and_wol())];
        assert!(said(&twice).starts_with("the NodePowerClasses a, b all select node n1"));
        assert!(said(&[class("a", "shared", json!([]))]).contains("a names no wake driver"));
        let unlabelled = json!([{"driver": "wol", "address": "{label:mac}"}]);
        assert!(said(&[class("a", "shared", unlabelled)]).contains("node n1 has no label mac"));
    }

    #[test]
    fn what_measures_a_node_is_the_driver_that_its_class_names_as_meter() {
        let measured = |wake, meter: serde_json::Value| {
            let mut class = class("c", "shared", wake);
            class.spec.power.meter = serde_json::from_value(meter).unwrap();
            meter_of(&[class])
        };
        fn meter_of(classes: &[NodePowerClass]) -> Result<Option<String>, String> {
            let found = meter(&node(), classes).map_err(|error| error.to_string())?;
            Ok(found.map(|way| format!("{} {}", protocol_name(way.spec.driver), way.address)))
        }
        let both = json!([
            {"driver": "wol", "address": "{label:example.org/mac}"},
            {"driver": "redfish", "address": "https://{node}.bmc", "secretRef": {"name": "bmc", "namespace": "miyako"}},
        ]);
        assert_eq!(measured(both.clone(), json!({"redfish": {}})), Ok(Some("redfish https://n1.bmc".to_owned())));
        assert_eq!(measured(both.clone(), json!({"rapl": {"besidesWatts": 1}})), Ok(None));
        assert_eq!(measured(both.clone(), json!({})), Ok(None));
        assert_eq!(meter_of(&[]), Ok(None), "a node of no class is nobody's business");
        assert!(measured(both, json!({"ipmi": {}})).unwrap_err().contains("measures by ipmi and names no such driver"));
    }
}
