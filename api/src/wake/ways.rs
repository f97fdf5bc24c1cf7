//! The ways to wake one node and to measure what it draws, from the classes and the node's name and labels, as a pure function.

use super::{TemplateError, address_of, protocol_name};
use crate::{NodePowerClass, node_power_class::WakeDriver};
use k8s_openapi::api::core::v1::Node;
use kube::{
    ResourceExt as _,
    core::{Selector, SelectorExt as _},
};

/// One way to wake a node.
#[derive(Debug, Clone, PartialEq)]
pub struct Way {
    /// The class's words for it.
    pub spec: WakeDriver,
    /// Where this node's BMC or network card is.
    pub address: String,
}

/// Why there is no way to wake a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoWay {
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

/// The ways to wake `node`, in the order of its class.
///
/// # Errors
///
/// When no class or several select the node, when its class names no driver, or an address can't be made.
pub fn ways(node: &Node, classes: &[NodePowerClass]) -> Result<Vec<Way>, NoWay> {
    let class = class_of(node, classes)?;
    if class.spec.wake.is_empty() {
        return Err(NoWay::NoDriver(class.name_any()));
    }
    class.spec.wake.iter().map(|driver| way(driver, node, class)).collect()
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
fn class_of<'a>(node: &Node, classes: &'a [NodePowerClass]) -> Result<&'a NodePowerClass, NoWay> {
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
    Ok(Way { spec: driver.clone(), address: address.map_err(bad)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node_power_class::WakeProtocol;
    use serde_json::json;

    fn node() -> Node {
        let labels = json!({"pool": "shared", "example.org/mac": "52:54:00:12:34:56"});
        serde_json::from_value(json!({"metadata": {"name": "n1", "labels": labels}})).unwrap()
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

    #[test]
    fn a_nodes_class_tells_its_ways_in_order() {
        let classes = [class("other", "dedicated", json!([])), class("shared", "shared", amt_and_wol())];
        let found = ways(&node(), &classes).unwrap();
        let seen: Vec<_> = found.iter().map(|way| (way.spec.driver, way.address.as_str())).collect();
        assert_eq!(seen, [(WakeProtocol::Amt, "n1.amt.example.org"), (WakeProtocol::Wol, "52:54:00:12:34:56")]);
        assert_eq!(found[0].spec.secret_ref.as_ref().unwrap().name.as_deref(), Some("amt"));
    }

    #[test]
    fn what_is_missing_is_named_with_what_to_do() {
        let said = |classes: &[NodePowerClass]| ways(&node(), classes).unwrap_err().to_string();
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
