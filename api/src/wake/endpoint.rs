//! Where a BMC is spoken to, as people write it: `bmc.example.org`, `https://10.0.0.7:8443`, `[fd00::7]:16993`. The only
//! parser of such addresses: classes, `miyako lint` and the drivers all read them here.

use crate::node_power_class::WakeProtocol;
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};
use thiserror::Error;

/// As much of an address as an error quotes.
const QUOTED: usize = 260;
/// The longest host name, and the longest part of one between two dots (RFC 1035 §2.3.4).
const LONGEST_NAME: usize = 253;
const LONGEST_PART: usize = 63;
/// The longest name of a network interface on Linux, without its final zero.
const LONGEST_INTERFACE: usize = 15;

/// Host, port and whether TLS is spoken; for Redfish also a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Whether TLS is spoken.
    pub tls: bool,
    /// A name, an IPv4 address or an IPv6 address without brackets.
    pub host: String,
    /// The network interface through which a link-local IPv6 address is reached: `eth0` of `[fe80::7%eth0]`.
    pub zone: Option<String>,
    /// The TCP or UDP port.
    pub port: u16,
    /// What follows, beginning with a slash, or nothing.
    pub path: String,
}

/// What is wrong with an address.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the address {address:?} {what}: write {example}")]
pub struct EndpointError {
    address: String,
    what: &'static str,
    example: String,
}

/// What a protocol assumes where an address doesn't say.
#[derive(Debug, Clone, Copy)]
struct Defaults {
    /// TLS if there is no scheme.
    tls: bool,
    /// The port with TLS.
    tls_port: u16,
    /// The port without.
    plain_port: u16,
    /// Which schemes mean something.
    schemes: &'static [&'static str],
    /// Whether a path means something.
    paths: bool,
    /// A good address, for the error.
    example: &'static str,
}

impl Defaults {
    /// `tls`: whether AMT speaks TLS where its address doesn't say.
    fn of(protocol: WakeProtocol, tls: bool) -> Self {
        match protocol {
            WakeProtocol::Redfish => Self {
                tls: true,
                tls_port: 443,
                plain_port: 80,
                // The login is a password in clear within TLS.
                schemes: &["https"],
                paths: true,
                example: "https://HOST[:PORT], such as https://{node}.bmc.example.org",
            },
            WakeProtocol::Amt => Self {
                tls,
                tls_port: 16993,
                plain_port: 16992,
                schemes: &["https", "http"],
                paths: false,
                example: "HOST, https://HOST:16993 or http://HOST:16992, such as {node}.amt.example.org",
            },
            WakeProtocol::Ipmi | WakeProtocol::Wol => Self {
                tls: false,
                tls_port: 623,
                plain_port: 623,
                schemes: &[],
                paths: false,
                example: "HOST or HOST:623, such as {node}.bmc.example.org",
            },
        }
    }
}

impl Endpoint {
    /// Reads `[http://|https://]HOST[:PORT][/PATH]` as this protocol means it. `tls` says whether AMT speaks TLS where
    /// its address has no scheme.
    ///
    /// # Errors
    ///
    /// Anything else. Quotes no password that somebody wrote into the address.
    pub fn parse(protocol: WakeProtocol, address: &str, tls: bool) -> Result<Self, EndpointError> {
        let defaults = Defaults::of(protocol, tls);
        let error = |what| EndpointError {
            address: without_login(address).chars().filter(|c| !c.is_control()).take(QUOTED).collect(),
            what,
            example: defaults.example.to_owned(),
        };
        let (tls, rest) = match address.split_once("://") {
            Some(_) if defaults.schemes.is_empty() => return Err(error("has a scheme, which has no meaning here")),
            Some((scheme, rest)) => {
                let scheme = scheme.to_ascii_lowercase();
                match scheme.as_str() {
                    "http" if !defaults.schemes.contains(&"http") => {
                        return Err(error("begins with http://, which would show the password to the network"));
                    }
                    known if defaults.schemes.contains(&known) => (known == "https", rest),
                    _ if defaults.schemes.len() == 1 => return Err(error("has a scheme other than https")),
                    _ => return Err(error("has a scheme other than http and https")),
                }
            }
            None => (defaults.tls, address),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(error("holds a user name, which belongs into the Secret"));
        }
        let (host, zone, port) = split(authority).map_err(error)?;
        let port = match port {
            None if tls => defaults.tls_port,
            None => defaults.plain_port,
            Some(port) => match port.parse() {
                Ok(number) if number > 0 && port.bytes().all(|byte| byte.is_ascii_digit()) => number,
                _ => return Err(error("has a port that is no number from 1 to 65535")),
            },
        };
        if !defaults.paths && !matches!(path, "" | "/") {
            return Err(error("has a path, which has no meaning here"));
        }
        if !path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._~:%@+=,-".contains(&byte)) {
            return Err(error("has a path with characters that don't belong there"));
        }
        Ok(Self { tls, host: host.to_owned(), zone: zone.map(str::to_owned), port, path: path.to_owned() })
    }

    /// Host and port, as a URL's authority. A zone is no business of the other side (RFC 6874 §1).
    #[must_use]
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// What the resolver is asked for: the host, with its zone if it has one.
    #[must_use]
    pub fn to_resolve(&self) -> String {
        match &self.zone {
            Some(zone) => format!("{}%{zone}", self.host),
            None => self.host.clone(),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        match &self.zone {
            Some(zone) => write!(f, "{scheme}://[{}%{zone}]:{}{}", self.host, self.port, self.path),
            None => write!(f, "{scheme}://{}{}", self.authority(), self.path),
        }
    }
}

/// The address without a login that somebody wrote into it.
fn without_login(address: &str) -> &str {
    address.rsplit_once('@').map_or(address, |(_, after)| after)
}

/// Host, zone and port of an authority.
fn split(authority: &str) -> Result<(&str, Option<&str>, Option<&str>), &'static str> {
    let Some(bracketed) = authority.strip_prefix('[') else {
        let bare = authority.split_once('%').map_or(authority, |(host, _)| host);
        if bare.matches(':').count() > 1 {
            return Err("has an IPv6 address without brackets");
        }
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        };
        return name(host).map(|()| (host, None, port));
    };
    let (inside, after) = bracketed.split_once(']').ok_or("has no closing bracket")?;
    let (host, zone) = match inside.split_once('%') {
        // A URL writes the percent sign as %25 (RFC 6874 §2), people often as it is.
        Some((host, zone)) => (host, Some(zone.strip_prefix("25").filter(|rest| !rest.is_empty()).unwrap_or(zone))),
        None => (inside, None),
    };
    let address: Ipv6Addr = host.parse().map_err(|_| "has no IPv6 address in its brackets")?;
    match zone {
        None if address.is_unicast_link_local() => {
            return Err("is link-local and lacks the interface of the waker's node, as in [fe80::7%eth0]");
        }
        Some(_) if !address.is_unicast_link_local() => {
            return Err("has a zone, which only link-local addresses (fe80::) have");
        }
        Some(zone) if !is_interface(zone) => return Err("has a zone that is no interface's name"),
        _ => {}
    }
    match after.strip_prefix(':') {
        Some(port) => Ok((host, zone, Some(port))),
        None if after.is_empty() => Ok((host, zone, None)),
        None => Err("has something other than a port after its brackets"),
    }
}

fn is_interface(zone: &str) -> bool {
    let characters = zone.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte));
    (1..=LONGEST_INTERFACE).contains(&zone.len()) && characters
}

/// Whether a host is a name or an IPv4 address.
fn name(host: &str) -> Result<(), &'static str> {
    let dotless = host.strip_suffix('.').unwrap_or(host);
    let mut parts = dotless.split('.');
    let part_is_sound = |part: &str| {
        let characters = part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        (1..=LONGEST_PART).contains(&part.len()) && characters && !part.starts_with('-') && !part.ends_with('-')
    };
    if dotless.len() > LONGEST_NAME || !parts.all(part_is_sound) {
        return Err("has no valid host");
    }
    // What ends in a number is an address to a resolver, which may read 010 as eight.
    let numeric = dotless.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    if numeric && (dotless.len() != host.len() || host.parse::<Ipv4Addr>().is_err()) {
        return Err("has no valid IPv4 address");
    }
    Ok(())
}

/// The IP address that a host is, if it is one.
pub(super) fn ip(host: &str) -> Option<IpAddr> {
    host.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<Endpoint, EndpointError> {
        Endpoint::parse(WakeProtocol::Redfish, text, true)
    }

    fn amt(text: &str) -> Result<Endpoint, EndpointError> {
        Endpoint::parse(WakeProtocol::Amt, text, true)
    }

    fn ipmi(text: &str) -> Result<Endpoint, EndpointError> {
        Endpoint::parse(WakeProtocol::Ipmi, text, true)
    }

    #[test]
    fn addresses_are_read_as_people_write_them() {
        for (text, display) in [
            ("bmc.example.org", "https://bmc.example.org:443"),
            ("bmc.example.org.", "https://bmc.example.org.:443"),
            ("https://10.0.0.7:8443/redfish/v1/Systems/1", "https://10.0.0.7:8443/redfish/v1/Systems/1"),
            ("HTTPS://[2001:db8:100::482]", "https://[2001:db8:100::482]:443"),
            ("[fd00::7]:16993", "https://[fd00::7]:16993"),
            ("https://[::ffff:10.0.0.7]/redfish/v1", "https://[::ffff:10.0.0.7]:443/redfish/v1"),
            ("[fe80::7%eth0]:443", "https://[fe80::7%eth0]:443"),
            ("https://[fe80::7%25eth0]", "https://[fe80::7%eth0]:443"),
            ("https://[fe80::7%2]", "https://[fe80::7%2]:443"),
        ] {
            assert_eq!(read(text).unwrap().to_string(), display);
        }
        assert_eq!(amt("http://bmc").unwrap().to_string(), "http://bmc:16992");
        assert_eq!(ipmi("[fd00:1:2:3::7]:623").unwrap().authority(), "[fd00:1:2:3::7]:623");
        let local = read("https://[fe80::7%25eth0]").unwrap();
        assert_eq!((local.authority().as_str(), local.to_resolve().as_str()), ("[fe80::7]:443", "fe80::7%eth0"));
    }

    #[test]
    fn what_is_no_address_is_refused_with_what_to_write() {
        for (text, what) in [
            ("ftp://bmc", "has a scheme other than https"),
            ("http://bmc", "begins with http://, which would show the password to the network"),
            ("Http://bmc", "begins with http://, which would show the password to the network"),
            ("https://2001:db8:100::482", "has an IPv6 address without brackets"),
            ("fe80::7%eth0", "has an IPv6 address without brackets"),
            ("[fd00::7", "has no closing bracket"),
            ("[bmc]:1", "has no IPv6 address in its brackets"),
            ("[10.0.0.7]", "has no IPv6 address in its brackets"),
            ("[fe80::7]", "is link-local and lacks the interface of the waker's node, as in [fe80::7%eth0]"),
            ("[fd00::7%eth0]", "has a zone, which only link-local addresses (fe80::) have"),
            ("[fe80::7%]", "has a zone that is no interface's name"),
            ("[fe80::7%a b]", "has a zone that is no interface's name"),
            ("bmc:", "has a port that is no number from 1 to 65535"),
            ("bmc:0", "has a port that is no number from 1 to 65535"),
            ("bmc:+1", "has a port that is no number from 1 to 65535"),
            ("bmc:65536", "has a port that is no number from 1 to 65535"),
            ("[fd00::7]x", "has something other than a port after its brackets"),
            ("https://", "has no valid host"),
            ("-bmc", "has no valid host"),
            ("bmc..example", "has no valid host"),
            ("bmc host", "has no valid host"),
            ("10.0.0.256", "has no valid IPv4 address"),
            ("10.0.0", "has no valid IPv4 address"),
            ("010.0.0.7", "has no valid IPv4 address"),
            ("bmc/a b", "has a path with characters that don't belong there"),
            ("bmc/a?b", "has a path with characters that don't belong there"),
        ] {
            let error = read(text).unwrap_err().to_string();
            let example = "https://HOST[:PORT], such as https://{node}.bmc.example.org";
            assert_eq!(error, format!("the address {text:?} {what}: write {example}"));
        }
        assert!(amt("ftp://bmc").unwrap_err().to_string().contains("has a scheme other than http and https"));
        assert!(ipmi("https://bmc").unwrap_err().to_string().contains("has a scheme, which has no meaning here"));
        for path in [amt("bmc/ipmi"), ipmi("bmc/ipmi")] {
            assert!(path.unwrap_err().to_string().contains("has a path"));
        }
    }

    #[test]
    fn a_password_in_an_address_is_not_quoted() {
        for text in ["https://root:calvin@bmc", "root:cal@vin@bmc/x", "https://bmc@calvin:1@[fd00::7]"] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains("belongs into the Secret") && !error.contains("calvin"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_address_or_an_error(
            text in "\\PC*",
            near in "(https?://)?[a-z.\\[\\]:0-9/é%-]{0,20}",
            v6 in "(https://)?\\[(fe80::|[0-9a-f:]{2,9})(%[a-z0-9]{0,6})?\\](:[0-9]{0,6})?(/[a-z]{0,3})?",
        ) {
            for text in [text, near, v6] {
                let _ = ipmi(&text);
                if let Ok(endpoint) = amt(&text) {
                    prop_assert_eq!(amt(&endpoint.to_string()).unwrap(), endpoint);
                }
                if let Ok(endpoint) = read(&text) {
                    prop_assert!(endpoint.tls);
                    prop_assert_eq!(read(&endpoint.to_string()).unwrap(), endpoint);
                }
            }
        }
    }
}
