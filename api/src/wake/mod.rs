//! Who is woken and measured how: from the classes and a node's name and labels to the drivers with their addresses, pure.

mod address;
mod ways;

pub use address::{Template, TemplateError};
pub use ways::{NoWay, Way, meter, ways};

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

/// Where a driver speaks to for one node: the node's own address, or the class's pattern filled in.
///
/// # Errors
///
/// A bad placeholder, or a label that the node lacks.
pub fn address_of(spec: &WakeDriver, node: Node<'_>) -> Result<String, TemplateError> {
    let address = own(spec, node).and_then(|own| own.address.as_deref()).unwrap_or(&spec.address);
    Template::parse(address)?.expand(node.name, node.labels)
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
