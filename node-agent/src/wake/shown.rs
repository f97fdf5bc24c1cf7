//! Whom a BMC's account may be shown to.

use super::setup::{SetupError, secret_name};
use super::{AllowedHosts, Endpoint, Node, Template, protocol_name};
use miyako_api::{names::ours::ALLOWED_HOSTS, node_power_class::WakeDriver, wake::pattern_of};
use std::collections::BTreeMap;

/// Whether the account may be shown to the address's host: whoever writes a class, or a node's labels, must not be able to
/// have it shown to a host of his own.
pub(super) fn may_be_shown(
    spec: &WakeDriver,
    node: Node<'_>,
    address: &str,
    secret: Option<&BTreeMap<String, Vec<u8>>>,
    installation: &AllowedHosts,
) -> Result<(), SetupError> {
    let protocol = protocol_name(spec.driver);
    let host =
        Endpoint::parse(spec.driver, address, true).map_err(|source| SetupError::Endpoint { protocol, source })?.host;
    let own = secret.and_then(|data| data.get(ALLOWED_HOSTS)).map(|list| String::from_utf8_lossy(list).parse());
    let own: Option<AllowedHosts> =
        own.transpose().map_err(|source| SetupError::AllowedHosts { secret: secret_name(spec), source })?;
    let of_installation = Some(installation).filter(|list| !list.is_empty());
    let lists = [
        (own.as_ref(), "its annotation miyako.dev/allowed-hosts"),
        (of_installation, "the installation (the chart's waker.allowedHosts)"),
    ];
    for (list, said_by) in lists {
        if let Some(list) = list.filter(|list| !list.allows(&host)) {
            let allowed = if list.is_empty() { "no host".to_owned() } else { list.to_string() };
            return Err(SetupError::HostNotAllowed {
                protocol,
                secret: secret_name(spec),
                host,
                list: said_by,
                allowed,
            });
        }
    }
    if own.is_some() || of_installation.is_some() {
        return Ok(());
    }
    let pattern =
        Template::parse(pattern_of(spec, node)).map_err(|source| SetupError::Template { protocol, source })?;
    match pattern.steering_labels().first() {
        Some(key) => Err(SetupError::Steered { protocol, secret: secret_name(spec), key: (*key).to_owned() }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wake::driver_for;
    use serde_json::json;

    fn secret() -> BTreeMap<String, Vec<u8>> {
        [("username", "admin"), ("password", "hunter2")].map(|(key, value)| (key.to_owned(), value.into())).into()
    }

    fn listing(hosts: &str) -> BTreeMap<String, Vec<u8>> {
        let mut secret = secret();
        secret.insert(ALLOWED_HOSTS.to_owned(), hosts.into());
        secret
    }

    #[test]
    fn an_account_is_shown_to_the_hosts_that_its_secret_or_the_installation_lists() {
        let made = |address: &str, secret: &BTreeMap<String, Vec<u8>>, installation: &str| {
            let secret_ref = json!({ "namespace": "miyako-system", "name": "bmc" });
            let spec = json!({ "driver": "ipmi", "address": "{node}.bmc.example.org", "secretRef": secret_ref,
                "nodes": [{ "name": "n1", "address": address }] });
            let spec: WakeDriver = serde_json::from_value(spec).unwrap();
            let labels = BTreeMap::from([("bmc".to_owned(), "evil.example".to_owned())]);
            let node = Node { name: "n1", labels: &labels };
            driver_for(&spec, node, Some(secret), &installation.parse().unwrap())
                .map_err(|error| error.to_string())
                .err()
        };
        let refused = |address: &str, secret: &BTreeMap<String, Vec<u8>>, installation: &str, why: &str| {
            let error = made(address, secret, installation).expect(address);
            assert!(error.contains(why) && error.contains("miyako-system/bmc"), "{error}");
        };
        assert_eq!(made("10.0.0.7", &secret(), ""), None, "nobody lists anything");
        assert_eq!(made("[fd00::7]:623", &listing("fd00::/64"), ""), None);
        refused("evil.example", &listing("*.bmc.example.org"), "", "evil.example: its annotation");
        refused("10.0.0.7", &listing(""), "", "allows no host alone");
        refused("10.0.0.7", &listing("https://x"), "", "is no host");
        refused(
            "10.0.0.8",
            &secret(),
            "10.0.0.7/32",
            "the installation (the chart's waker.allowedHosts) allows 10.0.0.7/32",
        );
        refused("10.0.0.7", &listing("10.0.0.7"), "*.bmc.example.org", "the installation");
        // A node that labels itself must not be shown the account of its BMC, and of all others.
        refused("{label:bmc}", &secret(), "", "a node may label itself");
        refused("{label:bmc}", &listing("*.bmc.example.org"), "", "evil.example: its annotation");
        assert_eq!(made("{label:bmc}", &listing("evil.example"), ""), None);
        assert_eq!(made("{label:bmc}.bmc.example.org", &secret(), ""), None);
    }
}
