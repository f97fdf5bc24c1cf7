//! Where a service leads a request: paths of the same server, however it writes them. Pure.

use crate::wake::{DriverError, Endpoint, excerpt};
use miyako_api::node_power_class::WakeProtocol;
use std::net::IpAddr;

/// The path that a redirection leads to, from a request for `from`.
///
/// # Errors
///
/// Another host, another port, no TLS, or no path.
pub(super) fn redirected(endpoint: &Endpoint, from: &str, location: &str) -> Result<String, DriverError> {
    let said = || excerpt(location, 80);
    let elsewhere = |why: &str| {
        let text = format!(
            "{from} is a redirection to {}, {why}: it is not followed, because the password would go there; if that is \
             the BMC, write it into the address",
            said()
        );
        Err(DriverError::Garbled(text))
    };
    let path = match location.split_once("//") {
        Some((scheme, _)) if scheme.is_empty() || scheme.ends_with(':') && !scheme.contains('/') => {
            if !scheme.is_empty() && !scheme.eq_ignore_ascii_case("https:") {
                return elsewhere("which is no https");
            }
            let rest = location.get(scheme.len() + 2..).unwrap_or_default();
            let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
            let Ok(other) = Endpoint::parse(WakeProtocol::Redfish, authority, true) else {
                return elsewhere("which is no host");
            };
            if !is_same(endpoint, &other) {
                return elsewhere("another host");
            }
            if path.is_empty() { "/".to_owned() } else { path.to_owned() }
        }
        _ if location.starts_with('/') => location.to_owned(),
        // Relative to the folder of what was asked for.
        _ => {
            let folder =
                from.split(['?', '#']).next().unwrap_or_default().rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{folder}/{location}")
        }
    };
    let path = path.split('#').next().unwrap_or_default();
    if path.starts_with('/') && !path.starts_with("//") && path.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(path.to_owned())
    } else {
        Err(DriverError::Garbled(format!("{from} is a redirection to no path: {}", said())))
    }
}

fn is_same(endpoint: &Endpoint, other: &Endpoint) -> bool {
    let name = |endpoint: &Endpoint| endpoint.host.trim_end_matches('.').to_ascii_lowercase();
    let address = |endpoint: &Endpoint| endpoint.host.parse::<IpAddr>().ok().map(|address| address.to_canonical());
    let same_host = match (address(endpoint), address(other)) {
        (None, None) => name(endpoint) == name(other),
        (ours, theirs) => ours == theirs,
    };
    same_host && endpoint.port == other.port && endpoint.tls == other.tls
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn endpoint(text: &str) -> Endpoint {
        Endpoint::parse(WakeProtocol::Redfish, text, true).unwrap()
    }

    #[test]
    fn only_the_same_server_is_followed() {
        let bmc = endpoint("https://bmc.example.org");
        for (location, path) in [
            ("/redfish/v1/Systems/1/", "/redfish/v1/Systems/1/"),
            ("https://bmc.example.org/redfish/v1/", "/redfish/v1/"),
            ("HTTPS://BMC.example.org.:443/a?b=c#d", "/a?b=c"),
            ("//bmc.example.org/x", "/x"),
            ("https://bmc.example.org", "/"),
            ("1/", "/redfish/v1/Systems/1/"),
        ] {
            assert_eq!(redirected(&bmc, "/redfish/v1/Systems/1", location), Ok(path.to_owned()), "{location}");
        }
        for (location, why) in [
            ("https://elsewhere/", "another host"),
            ("//elsewhere/", "another host"),
            ("https://bmc.example.org:8443/", "another host"),
            ("https://bmc.example.org.evil.example/", "another host"),
            ("https://bmc.example.org@evil.example/", "which is no host"),
            ("http://bmc.example.org/", "which is no https"),
            ("ftp://bmc.example.org/", "which is no https"),
            ("https://10.0.0.7/", "another host"),
            ("/a b", "to no path"),
            ("", "/redfish/v1/Systems/"),
        ] {
            let said = redirected(&bmc, "/redfish/v1/Systems/1", location).unwrap_or_else(|error| error.to_string());
            assert!(said.contains(why), "{location}: {said}");
        }
        let v6 = endpoint("https://[fd00::7]");
        assert_eq!(redirected(&v6, "/a", "https://[FD00:0::7]:443/b"), Ok("/b".to_owned()));
        assert!(redirected(&v6, "/a", "https://[fd00::8]/b").is_err());
    }

    proptest! {
        #[test]
        fn no_text_leads_elsewhere(text in "\\PC*", near in "(https?:)?/{0,3}[a-z.@:\\[\\]]{0,12}(/[a-z?#%. ]{0,6})?") {
            for text in [text, near] {
                if let Ok(path) = redirected(&endpoint("https://bmc"), "/redfish/v1/", &text) {
                    prop_assert!(path.starts_with('/') && !path.starts_with("//"));
                }
            }
        }
    }
}
