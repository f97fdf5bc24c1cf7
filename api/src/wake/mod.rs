//! Who is woken and measured how: from the classes and a node's name and labels, and from what was recorded when it was
//! ordered to sleep, to the drivers with their addresses, pure.

mod address;
mod allowed;
mod endpoint;
mod mac;
mod ways;

pub use address::{Template, TemplateError};
pub use allowed::{AllowedHosts, AllowedHostsError};
pub use endpoint::{Endpoint, EndpointError};
pub use mac::{MacAddress, MacAddressError, hex_bytes};
pub use ways::{NoWay, Way, Ways, class_of, meter, ways, ways_of_class, ways_without_node};

use crate::node_power_class::{WakeAddress, WakeDriver, WakeProtocol};
use std::collections::BTreeMap;

/// What is known of a node.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
}

/// Where a driver speaks to for one node: the node's own address, or the class's pattern filled in. It is an address
/// that the driver takes.
///
/// # Errors
///
/// A bad placeholder, a label that the node lacks, or no address of this driver's kind.
pub fn address_of(spec: &WakeDriver, node: Node<'_>) -> Result<String, TemplateError> {
    let address = Template::parse(pattern_of(spec, node))?.expand(node.name, node.labels)?;
    check_address(spec.driver, &address)?;
    Ok(address)
}

/// The text that [`address_of`] fills in: the node's own address, or the class's pattern.
#[must_use]
pub fn pattern_of<'a>(spec: &'a WakeDriver, node: Node<'_>) -> &'a str {
    own(spec, node).and_then(|own| own.address.as_deref()).unwrap_or(&spec.address)
}

/// Whether a driver of this protocol takes this address.
///
/// # Errors
///
/// What is wrong with it, and what to write.
pub fn check_address(protocol: WakeProtocol, address: &str) -> Result<(), TemplateError> {
    match protocol {
        WakeProtocol::Wol => address.parse::<MacAddress>().map(drop).map_err(TemplateError::from),
        _ => Endpoint::parse(protocol, address, true).map(drop).map_err(TemplateError::from),
    }
}

/// Whether a pattern could be an address of this protocol, whatever node it is filled in for: `miyako lint` has no nodes.
///
/// # Errors
///
/// What is wrong with it whatever the placeholders stand for.
pub fn check_pattern(protocol: WakeProtocol, pattern: &str) -> Result<(), TemplateError> {
    // Part of a name as well as of an IPv6 address, of an IPv4 address, a port's number, a card's address.
    let values = ["a1", "1", "10.0.0.1", "525400123456"];
    let mut first = None;
    for sample in Template::parse(pattern)?.samples("a1", &values) {
        match check_address(protocol, &sample) {
            Ok(()) => return Ok(()),
            Err(error) => first = first.or(Some(error)),
        }
    }
    first.map_or(Ok(()), Err)
}

/// What a class says of this node alone.
#[must_use]
pub fn own<'a>(spec: &'a WakeDriver, node: Node<'_>) -> Option<&'a WakeAddress> {
    spec.nodes.iter().find(|own| own.name == node.name)
}

/// The name that a class's `driver` field has for a protocol.
#[must_use]
pub fn protocol_name(protocol: WakeProtocol) -> &'static str {
    match protocol {
        WakeProtocol::Amt => "amt",
        WakeProtocol::Redfish => "redfish",
        WakeProtocol::Ipmi => "ipmi",
        WakeProtocol::Wol => "wol",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_pattern_is_judged_whatever_its_placeholders_stand_for() {
        use WakeProtocol::{Amt, Ipmi, Redfish, Wol};
        for (protocol, pattern) in [
            (Redfish, "https://{node}.bmc.example.org:{label:port}/redfish/v1/Systems/{label:id}"),
            (Redfish, "https://[2001:db8::{label:last}]"),
            (Redfish, "https://[fe80::{label:last}%25eth1]:8443"),
            (Amt, "{label:host}:{label:port}"),
            (Ipmi, "10.7.0.{label:last}"),
            (Wol, "{label:mac}"),
            (Wol, "52-54-00-12-34-56"),
        ] {
            assert_eq!(check_pattern(protocol, pattern), Ok(()), "{pattern}");
        }
        for (protocol, pattern, what) in [
            (Redfish, "https://2001:db8:100::482", "has an IPv6 address without brackets"),
            (Redfish, "http://{node}.bmc", "would show the password"),
            (Redfish, "https://[2001:db8::{label:last}", "has no closing bracket"),
            (Ipmi, "https://{node}.bmc", "has a scheme"),
            (Amt, "{node}.bmc/redfish", "has a path"),
            (Wol, "{node}", "is no MAC address"),
            (Wol, "ff:ff:ff:ff:ff:ff", "is a group address"),
            (Redfish, "https://{node", "has no closing brace"),
        ] {
            let error = check_pattern(protocol, pattern).unwrap_err().to_string();
            assert!(error.contains(what), "{pattern}: {error}");
        }
    }

    #[test]
    fn a_nodes_own_address_follows_the_same_rules_as_the_pattern() {
        let spec: WakeDriver = serde_json::from_value(serde_json::json!({
            "driver": "redfish", "address": "https://{node}.bmc.example.org", "nodes": [
                {"name": "clear", "address": "http://10.0.0.7"}, {"name": "v6", "address": "https://[fd00::7]"}],
        }))
        .unwrap();
        let of = |name: &str| address_of(&spec, Node { name, labels: &BTreeMap::new() });
        assert!(of("clear").unwrap_err().to_string().contains("would show the password to the network"));
        assert_eq!(of("v6").unwrap(), "https://[fd00::7]");
        assert_eq!(of("other").unwrap(), "https://other.bmc.example.org");
    }

    proptest! {
        #[test]
        fn what_a_node_may_be_filled_in_with_its_pattern_allows(
            pattern in "(https://)?(\\[fd00::(\\{label:a\\}|7)\\]|\\{node\\}|10\\.0\\.0\\.7)(:\\{label:b\\}|:443)?",
            a in "[0-9a-f]{1,4}", b in "[1-9][0-9]{0,3}",
        ) {
            for protocol in [WakeProtocol::Redfish, WakeProtocol::Amt, WakeProtocol::Ipmi] {
                let labels = BTreeMap::from([("a".to_owned(), a.clone()), ("b".to_owned(), b.clone())]);
                let filled = Template::parse(&pattern).unwrap().expand("n1", &labels).unwrap();
                if check_address(protocol, &filled).is_ok() {
                    prop_assert_eq!(check_pattern(protocol, &pattern), Ok(()));
                }
            }
        }
    }
}
