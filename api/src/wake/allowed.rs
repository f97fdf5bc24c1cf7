//! Which hosts a BMC's account may be shown to. Whoever may write a NodePowerClass names a Secret and an address: without
//! this list he could have any account of the waker's namespaces shown to any host.

use super::endpoint::ip;
use std::{fmt, net::IpAddr, str::FromStr};
use thiserror::Error;

/// The most entries of a list.
const MOST: usize = 1024;

/// Host names, patterns of them, addresses and networks, as in `*.bmc.example.org, 10.7.0.0/24, fd00:7::/64`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedHosts(Vec<Allowed>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Allowed {
    /// This name alone, in lower case and without a final dot.
    Name(String),
    /// Every name that ends so: a dot and a domain.
    Below(String),
    /// Addresses whose first bits are these.
    Network(IpAddr, u32),
}

/// An entry that means nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{0:?} is no host: write names, *.DOMAIN, addresses or networks, such as *.bmc.example.org, 10.7.0.0/24 or fd00:7::/64"
)]
pub struct AllowedHostsError(String);

impl AllowedHosts {
    /// Whether nobody wrote anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an account may be shown to this host: a name, or an IP address without brackets. A name is not looked up:
    /// it must be listed as a name.
    #[must_use]
    pub fn allows(&self, host: &str) -> bool {
        let name = normal(host);
        let address = ip(host).map(|address| address.to_canonical());
        self.0.iter().any(|allowed| match (allowed, address) {
            (Allowed::Network(network, bits), Some(address)) => contains(*network, *bits, address),
            (Allowed::Name(allowed), None) => *allowed == name,
            (Allowed::Below(domain), None) => name.len() > domain.len() && name.ends_with(domain.as_str()),
            _ => false,
        })
    }
}

impl FromStr for AllowedHosts {
    type Err = AllowedHostsError;

    /// Entries apart by commas or white space. A text without any allows nothing: [`is_empty`](Self::is_empty) tells.
    fn from_str(text: &str) -> Result<Self, AllowedHostsError> {
        let entries = text.split([',', ' ', '\t', '\n', '\r']).filter(|entry| !entry.is_empty());
        entries.take(MOST).map(entry).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for AllowedHosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, allowed) in self.0.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { ", " })?;
            match allowed {
                Allowed::Name(name) => f.write_str(name)?,
                Allowed::Below(domain) => write!(f, "*{domain}")?,
                Allowed::Network(network, bits) => write!(f, "{network}/{bits}")?,
            }
        }
        Ok(())
    }
}

fn entry(text: &str) -> Result<Allowed, AllowedHostsError> {
    let error = || AllowedHostsError(text.chars().filter(|c| !c.is_control()).take(260).collect());
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Some(address) = ip(bare) {
        return network(address, None).ok_or_else(error);
    }
    if let Some((address, bits)) = text.split_once('/') {
        let (address, bits) = (ip(address).ok_or_else(error)?, bits.parse().map_err(|_| error())?);
        return network(address, Some(bits)).ok_or_else(error);
    }
    let name = normal(text);
    let (pattern, domain) = match name.strip_prefix('*') {
        Some(domain) => (true, domain.strip_prefix('.').ok_or_else(error)?),
        None => (false, name.as_str()),
    };
    let sound =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    // An address that is none, such as 10.0.0.300, would be a name that nothing has.
    let numeric = domain.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    if numeric || !domain.split('.').all(sound) {
        return Err(error());
    }
    Ok(if pattern { Allowed::Below(format!(".{domain}")) } else { Allowed::Name(domain.to_owned()) })
}

fn network(address: IpAddr, bits: Option<u32>) -> Option<Allowed> {
    let (mapped, address) = (address.to_canonical() != address, address.to_canonical());
    let most = if address.is_ipv4() { 32 } else { 128 };
    // The 96 bits before a mapped IPv4 address are always the same.
    let bits = match bits {
        Some(bits) if mapped => bits.checked_sub(96)?,
        Some(bits) => bits,
        None => most,
    };
    (bits <= most).then_some(Allowed::Network(address, bits))
}

fn contains(network: IpAddr, bits: u32, address: IpAddr) -> bool {
    let prefix = |bytes: u128, width: u32| bytes.checked_shr(width - bits).unwrap_or(0);
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            prefix(u128::from(network.to_bits()), 32) == prefix(u128::from(address.to_bits()), 32)
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => prefix(network.to_bits(), 128) == prefix(address.to_bits(), 128),
        _ => false,
    }
}

fn normal(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_list_allows_what_it_names_and_nothing_else() {
        let list: AllowedHosts =
            "*.bmc.example.org, BMC-7 10.7.0.0/24\n[fd00:7::]/64 fd00::9".parse().unwrap_or_default();
        assert!(list.is_empty(), "brackets around a network alone are a mistake");
        let list: AllowedHosts = "*.bmc.example.org, BMC-7 10.7.0.0/24\nfd00:7::/64 [fd00::9]".parse().unwrap();
        for (host, allowed) in [
            ("n1.bmc.example.org", true),
            ("N1.BMC.example.org.", true),
            ("bmc.example.org", false),
            ("evilbmc.example.org", false),
            ("n1.bmc.example.org.evil.example", false),
            ("bmc-7", true),
            ("bmc-77", false),
            ("10.7.0.255", true),
            ("::ffff:10.7.0.1", true),
            ("10.7.1.0", false),
            ("fd00:7::1:2", true),
            ("fd00:7:0:1::1", false),
            ("fd00::9", true),
            ("fd00::a", false),
            ("", false),
        ] {
            assert_eq!(list.allows(host), allowed, "{host}");
        }
        assert_eq!(list.to_string().parse(), Ok(list));
        assert!("0.0.0.0/0".parse::<AllowedHosts>().unwrap().allows("1.2.3.4"));
        for wrong in
            ["*", "*bmc.example.org", "a.*.b", "10.0.0.300", "10.0.0.0/33", "fd00::/129", "https://bmc", "bmc:443", "."]
        {
            let error = wrong.parse::<AllowedHosts>().unwrap_err().to_string();
            assert!(error.contains("is no host: write names"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_list_or_an_error(text in "\\PC{0,40}", near in "[a-z0-9.:/*, ]{0,30}", host in "[a-z0-9.:]{0,20}") {
            for text in [text, near] {
                if let Ok(list) = text.parse::<AllowedHosts>() {
                    let _ = list.allows(&host);
                    prop_assert_eq!(list.to_string().parse(), Ok(list));
                }
            }
        }
    }
}
