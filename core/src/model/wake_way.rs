//! What the ways to wake nodes take from each node: a class names addresses for many nodes in one line.

use super::{Node, NodeName};
use std::collections::{BTreeMap, BTreeSet};

/// One way to wake the nodes of a class.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WakeWay {
    /// The driver, as the class names it.
    pub driver: String,
    /// The address of all nodes that have none of their own.
    pub address: WakeAddress,
    /// Nodes with an address of their own.
    pub own: BTreeMap<NodeName, WakeAddress>,
}

/// What an address needs until it is one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WakeAddress {
    /// Labels of the node whose values it holds.
    pub labels: BTreeSet<String>,
    /// It is such a label's value, which must be the MAC address of a network card.
    pub is_mac: bool,
    /// It can't be an address whatever the node is like, and why.
    pub wrong: Option<String>,
}

impl WakeWay {
    /// Why this way does not lead to `node`, with what to do about it; nothing if it does.
    #[must_use]
    pub fn problem(&self, node: &Node) -> Option<String> {
        let address = self.own.get(&node.name).unwrap_or(&self.address);
        let what = address.wrong.clone().or_else(|| {
            address.labels.iter().find_map(|key| match node.labels.get(key).map(String::as_str) {
                None => Some(format!("the node has no label {key}, which its address needs")),
                Some("") => Some(format!("its address needs the label {key}, which is empty")),
                Some(value) if address.is_mac && !is_mac(value) => {
                    Some(format!("label {key} is {value:?} and no MAC address such as 52-54-00-12-34-56"))
                }
                Some(_) => None,
            })
        })?;
        Some(format!("{}: {what}", self.driver))
    }
}

/// Six bytes in hex, apart by dashes or nothing: a label's value holds no colon. Neither nobody's nor a group's.
fn is_mac(text: &str) -> bool {
    let apart = text.split('-').count() == 6 && text.split('-').all(|byte| byte.len() == 2);
    let digits = if apart { text.replace('-', "") } else { text.to_owned() };
    let group = digits.get(..2).and_then(|first| u8::from_str_radix(first, 16).ok()).is_none_or(|first| first & 1 == 1);
    digits.len() == 12
        && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        && !group
        && digits.bytes().any(|b| b != b'0')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Resources;

    #[test]
    fn an_address_is_filled_or_says_what_it_lacks() {
        let needs = |key: &str, is_mac| WakeAddress { labels: [key.to_owned()].into(), is_mac, wrong: None };
        let mut way = WakeWay { driver: "wol".into(), address: needs("mac", true), own: BTreeMap::new() };
        let mut node = Node::new("n1", Resources::default());
        let mut said = |way: &WakeWay, mac: Option<&str>| {
            node.labels.remove("mac");
            node.labels.extend(mac.map(|mac| ("mac".to_owned(), mac.to_owned())));
            way.problem(&node).unwrap_or_default()
        };
        assert_eq!(said(&way, Some("52-54-00-12-34-56")), "");
        assert_eq!(said(&way, Some("525400123456")), "");
        assert_eq!(said(&way, None), "wol: the node has no label mac, which its address needs");
        assert_eq!(said(&way, Some("")), "wol: its address needs the label mac, which is empty");
        for wrong in ["eth0", "00-00-00-00-00-00", "01-00-5e-00-00-01", "52-54-00-12-34"] {
            assert!(said(&way, Some(wrong)).contains("no MAC address"), "{wrong}");
        }
        way.own.insert(NodeName::new("n1"), WakeAddress::default());
        assert_eq!(said(&way, None), "", "its own address needs nothing");
        way.own
            .insert(NodeName::new("n1"), WakeAddress { wrong: Some("it is no address".into()), ..Default::default() });
        assert_eq!(said(&way, None), "wol: it is no address");
    }
}
