//! Where a BMC is spoken to, as people write it: `bmc.example.org`, `https://10.0.0.7:8443`, `[fd00::7]:16993`.

use std::fmt;
use thiserror::Error;

/// Host, port and whether TLS is spoken; for Redfish also a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Whether TLS is spoken.
    pub tls: bool,
    /// A name, an IPv4 address or an IPv6 address without brackets.
    pub host: String,
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
    example: &'static str,
}

/// What is assumed where an address doesn't say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Defaults {
    /// TLS if there is no scheme.
    pub(crate) tls: bool,
    /// The port with TLS.
    pub(crate) tls_port: u16,
    /// The port without.
    pub(crate) plain_port: u16,
    /// Whether `http://` and `https://` mean something.
    pub(crate) schemes: bool,
    /// Whether a path means something.
    pub(crate) paths: bool,
    /// A good address, for the error.
    pub(crate) example: &'static str,
}

impl Endpoint {
    /// Reads `[http://|https://]HOST[:PORT][/PATH]`.
    ///
    /// # Errors
    ///
    /// Anything else.
    pub(crate) fn parse(address: &str, defaults: Defaults) -> Result<Self, EndpointError> {
        let error =
            |what| EndpointError { address: super::super::excerpt(address, 260), what, example: defaults.example };
        let (tls, rest) = match address.split_once("://") {
            Some(_) if !defaults.schemes => return Err(error("has a scheme, which has no meaning here")),
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            Some(_) => return Err(error("has a scheme other than http and https")),
            None => (defaults.tls, address),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = if let Some(bracketed) = authority.strip_prefix('[') {
            let (host, after) = bracketed.split_once(']').ok_or_else(|| error("has no closing bracket"))?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| error("has no IPv6 address in its brackets"))?;
            (host, after.strip_prefix(':').or(if after.is_empty() { None } else { Some("x") }))
        } else {
            match authority.split_once(':') {
                Some((_, port)) if port.contains(':') => return Err(error("has an IPv6 address without brackets")),
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            }
        };
        if host.is_empty() || !host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_:".contains(&b)) {
            return Err(error("has no valid host"));
        }
        let port = match port {
            None if tls => defaults.tls_port,
            None => defaults.plain_port,
            Some(port) => match port.parse() {
                Ok(0) | Err(_) => return Err(error("has a port that is no number from 1 to 65535")),
                Ok(port) => port,
            },
        };
        if !defaults.paths && !matches!(path, "" | "/") {
            return Err(error("has a path, which has no meaning here"));
        }
        if !path.bytes().all(|b| b.is_ascii_graphic() && !b"?#\\".contains(&b)) {
            return Err(error("has a path with characters that don't belong there"));
        }
        Ok(Self { tls, host: host.to_owned(), port, path: path.to_owned() })
    }

    /// Host and port, as a URL's authority.
    #[must_use]
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", if self.tls { "https" } else { "http" }, self.authority(), self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DEFAULTS: Defaults =
        Defaults { tls: true, tls_port: 443, plain_port: 80, schemes: true, paths: true, example: EXAMPLE };
    const EXAMPLE: &str = "https://{node}.bmc.example.org";

    #[test]
    fn addresses_are_read_as_people_write_them() {
        for (text, display) in [
            ("bmc.example.org", "https://bmc.example.org:443"),
            ("http://bmc", "http://bmc:80"),
            ("https://10.0.0.7:8443/redfish/v1/Systems/1", "https://10.0.0.7:8443/redfish/v1/Systems/1"),
            ("[fd00::7]:16993", "https://[fd00::7]:16993"),
            ("[fd00::7]", "https://[fd00::7]:443"),
        ] {
            assert_eq!(Endpoint::parse(text, DEFAULTS).unwrap().to_string(), display);
        }
        for (text, what) in [
            ("ftp://bmc", "has a scheme other than http and https"),
            ("fd00::7", "has an IPv6 address without brackets"),
            ("[fd00::7", "has no closing bracket"),
            ("[bmc]:1", "has no IPv6 address in its brackets"),
            ("bmc:", "has a port that is no number from 1 to 65535"),
            ("bmc:0", "has a port that is no number from 1 to 65535"),
            ("[fd00::7]x", "has a port that is no number from 1 to 65535"),
            ("https://", "has no valid host"),
            ("user@bmc", "has no valid host"),
            ("bmc/a b", "has a path with characters that don't belong there"),
        ] {
            let error = Endpoint::parse(text, DEFAULTS).unwrap_err().to_string();
            assert_eq!(error, format!("the address {text:?} {what}: write https://{{node}}.bmc.example.org"));
        }
        let bare = Defaults { schemes: false, paths: false, ..DEFAULTS };
        assert!(Endpoint::parse("https://bmc", bare).unwrap_err().to_string().contains("has a scheme"));
        assert!(Endpoint::parse("bmc/ipmi", bare).unwrap_err().to_string().contains("has a path"));
    }

    proptest! {
        #[test]
        fn any_text_is_an_address_or_an_error(text in "\\PC*", near in "(https?://)?[a-z.\\[\\]:0-9/é-]{0,20}") {
            for text in [text, near] {
                if let Ok(endpoint) = Endpoint::parse(&text, DEFAULTS) {
                    prop_assert_eq!(Endpoint::parse(&endpoint.to_string(), DEFAULTS).unwrap(), endpoint);
                }
            }
        }
    }
}
