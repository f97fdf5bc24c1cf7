//! From a class's `wake` list and a Secret to a driver. Pure; every error names the field and what to write.

use super::shown::may_be_shown;
use super::{
    AllowedHosts, AllowedHostsError, Amt, Careful, Credentials, CredentialsError, Driver, EndpointError,
    FingerprintError, Ipmi, MacAddressError, Node, Redfish, SecureOn, SecureOnError, TemplateError, TlsVersion, Trust,
    Wol, address_of, protocol_name,
};
use miyako_api::node_power_class::{WakeDriver, WakeProtocol, WakeTls, WakeTlsVersion};
use miyako_api::wake::own;
use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
};
use thiserror::Error;

/// Why a node's driver can't be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SetupError {
    /// The address or its placeholders.
    #[error("wake driver {protocol}: {source}")]
    Template {
        /// Which driver.
        protocol: &'static str,
        /// Why.
        source: TemplateError,
    },
    /// The address, filled in.
    #[error("wake driver {protocol}: {source}")]
    Endpoint {
        /// Which driver.
        protocol: &'static str,
        /// Why.
        source: EndpointError,
    },
    /// The MAC address.
    #[error("wake driver wol: {0}")]
    Mac(#[from] MacAddressError),
    /// Where magic packets go.
    #[error(
        "wake driver wol: broadcast {0:?} is no IPv4 address with or without a port: write 192.0.2.255 or 192.0.2.255:9"
    )]
    Broadcast(String),
    /// The Secret's content.
    #[error("the Secret {secret} of wake driver {protocol}: {source}")]
    Credentials {
        /// Which driver.
        protocol: &'static str,
        /// Namespace and name.
        secret: String,
        /// Why.
        source: CredentialsError,
    },
    /// There is no Secret, or it could not be read.
    #[error("wake driver {protocol} needs the Secret {secret}: create it with the keys username and password")]
    NoSecret {
        /// Which driver.
        protocol: &'static str,
        /// Namespace and name.
        secret: String,
    },
    /// The Secret's list of hosts.
    #[error("the annotation miyako.dev/allowed-hosts of the Secret {secret}: {source}")]
    AllowedHosts {
        /// Namespace and name.
        secret: String,
        /// Why.
        source: AllowedHostsError,
    },
    /// The account is not for this host.
    #[error(
        "wake driver {protocol}: the Secret {secret} may not be shown to {host}: {list} allows {allowed} alone; correct the address, or add the host there"
    )]
    HostNotAllowed {
        /// Which driver.
        protocol: &'static str,
        /// Namespace and name.
        secret: String,
        /// The address's host.
        host: String,
        /// Where the list stands.
        list: &'static str,
        /// What it allows.
        allowed: String,
    },
    /// The node itself could choose who is shown the account.
    #[error(
        "wake driver {protocol}: the node's label {key} alone decides which host the Secret {secret} is shown to, and a node may label itself: list the hosts in the Secret's annotation miyako.dev/allowed-hosts, such as *.bmc.example.org, or write {{label:{key}}}.DOMAIN"
    )]
    Steered {
        /// Which driver.
        protocol: &'static str,
        /// Namespace and name.
        secret: String,
        /// The label.
        key: String,
    },
    /// The SecureOn password.
    #[error("the key secureOn of the Secret {secret}: {source}")]
    SecureOn {
        /// Namespace and name.
        secret: String,
        /// Why.
        source: SecureOnError,
    },
    /// A fingerprint.
    #[error("wake driver {protocol}: certificateSha256 {text:?}: {source}")]
    Fingerprint {
        /// Which driver.
        protocol: &'static str,
        /// What is written.
        text: String,
        /// Why.
        source: FingerprintError,
    },
    /// The CA certificates.
    #[error("wake driver {protocol}: caCertificates: {why}")]
    CaCertificates {
        /// Which driver.
        protocol: &'static str,
        /// Why.
        why: String,
    },
}

/// The driver for one node as its class has it. `secret` is the data of the Secret that the class names, if there is
/// one, with its list of hosts, if it has one, under that annotation's name. No account is shown to a host that neither this
/// list nor `allowed`, the installation's, allows. The driver keeps nonces and refused passwords in mind: keep it
/// between calls.
///
/// # Errors
///
/// What is wrong, where, and what to write.
pub fn driver_for(
    spec: &WakeDriver,
    node: Node<'_>,
    secret: Option<&BTreeMap<String, Vec<u8>>>,
    allowed: &AllowedHosts,
) -> Result<Box<dyn Driver>, SetupError> {
    let protocol = protocol_name(spec.driver);
    let address = address_of(spec, node).map_err(|source| SetupError::Template { protocol, source })?;
    if spec.driver != WakeProtocol::Wol {
        may_be_shown(spec, node, &address, secret, allowed)?;
    }
    let endpoint = |source| SetupError::Endpoint { protocol, source };
    let pin = own(spec, node).and_then(|own| own.certificate_sha256.as_deref());
    let trust = || trust(protocol, spec.tls.as_ref(), pin);
    Ok(match spec.driver {
        WakeProtocol::Amt => {
            Box::new(Careful::new(Amt::new(&address, credentials(spec, secret)?, trust()?).map_err(endpoint)?))
        }
        WakeProtocol::Redfish => {
            Box::new(Careful::new(Redfish::new(&address, credentials(spec, secret)?, trust()?).map_err(endpoint)?))
        }
        WakeProtocol::Ipmi => {
            Box::new(Careful::new(Ipmi::new(&address, credentials(spec, secret)?).map_err(endpoint)?))
        }
        WakeProtocol::Wol => {
            let targets = spec.broadcast.as_deref().map(broadcast).transpose()?;
            let secure_on = secure_on(spec, secret)?;
            Box::new(Careful::new(Wol::new(address.parse()?, secure_on, targets.into_iter().collect())))
        }
    })
}

/// Where the Secret of a driver lies, for messages.
pub(super) fn secret_name(spec: &WakeDriver) -> String {
    let part = |part: fn(&k8s_openapi::api::core::v1::SecretReference) -> Option<&String>| {
        spec.secret_ref.as_ref().and_then(part).map_or("?", String::as_str)
    };
    format!("{}/{}", part(|secret| secret.namespace.as_ref()), part(|secret| secret.name.as_ref()))
}

fn credentials(spec: &WakeDriver, secret: Option<&BTreeMap<String, Vec<u8>>>) -> Result<Credentials, SetupError> {
    let protocol = protocol_name(spec.driver);
    let data = secret.ok_or_else(|| SetupError::NoSecret { protocol, secret: secret_name(spec) })?;
    Credentials::from_secret(data).map_err(|source| SetupError::Credentials {
        protocol,
        secret: secret_name(spec),
        source,
    })
}

fn secure_on(spec: &WakeDriver, secret: Option<&BTreeMap<String, Vec<u8>>>) -> Result<Option<SecureOn>, SetupError> {
    let Some(bytes) = secret.and_then(|data| data.get("secureOn")) else { return Ok(None) };
    let text = std::str::from_utf8(bytes).map_err(|_| SecureOnError);
    let password = text.and_then(|text| text.trim_end().parse());
    password.map(Some).map_err(|source| SetupError::SecureOn { secret: secret_name(spec), source })
}

fn trust(protocol: &'static str, tls: Option<&WakeTls>, own: Option<&str>) -> Result<Trust, SetupError> {
    let pins = tls.iter().flat_map(|tls| &tls.certificate_sha256).map(String::as_str).chain(own);
    let pins = pins
        .map(|text| text.parse().map_err(|source| SetupError::Fingerprint { protocol, text: text.to_owned(), source }));
    let mut trust = Trust::pinned(pins.collect::<Result<_, _>>()?);
    if let Some(pem) = tls.and_then(|tls| tls.ca_certificates.as_deref()) {
        trust = trust.and_ca(pem).map_err(|why| SetupError::CaCertificates { protocol, why })?;
    }
    Ok(match tls.and_then(|tls| tls.max_version) {
        Some(WakeTlsVersion::Tls12) => trust.up_to(TlsVersion::Tls12),
        Some(WakeTlsVersion::Tls13) | None => trust,
    })
}

fn broadcast(text: &str) -> Result<SocketAddr, SetupError> {
    let with_port = text.parse::<SocketAddrV4>();
    let with_port = with_port.or_else(|_| text.parse::<Ipv4Addr>().map(|address| SocketAddrV4::new(address, 9)));
    with_port.map(SocketAddr::V4).map_err(|_| SetupError::Broadcast(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use miyako_api::node_power_class::WakeAddress;
    use serde_json::{Value, json};

    fn secret() -> BTreeMap<String, Vec<u8>> {
        [("username", "admin"), ("password", "hunter2")].map(|(key, value)| (key.to_owned(), value.into())).into()
    }

    fn made(spec: Value, secret: Option<&BTreeMap<String, Vec<u8>>>) -> Result<Box<dyn Driver>, SetupError> {
        let spec: WakeDriver = serde_json::from_value(spec).unwrap();
        let labels = BTreeMap::from([("mac".to_owned(), "525400123456".to_owned())]);
        driver_for(&spec, Node { name: "n1", labels: &labels }, secret, &AllowedHosts::default())
    }

    #[test]
    fn a_class_and_a_secret_make_a_driver() {
        let secret_ref = json!({ "namespace": "miyako-system", "name": "bmc" });
        for (spec, address) in [
            (json!({ "driver": "redfish", "address": "https://{node}.bmc", "secretRef": secret_ref }), "n1.bmc:443"),
            (json!({ "driver": "amt", "address": "{node}.amt", "secretRef": secret_ref }), "n1.amt:16992"),
            (
                json!({ "driver": "amt", "address": "{node}.amt", "secretRef": secret_ref,
                    "nodes": [{ "name": "n1", "certificateSha256": "ab".repeat(32) }] }),
                "n1.amt:16993",
            ),
            (
                json!({ "driver": "ipmi", "address": "{node}.bmc", "secretRef": secret_ref,
                    "nodes": [{ "name": "n2", "address": "10.0.0.2" }, { "name": "n1", "address": "10.0.0.1" }] }),
                "10.0.0.1:623",
            ),
            (json!({ "driver": "wol", "address": "{label:mac}", "broadcast": "192.0.2.255" }), "52:54:00:12:34:56"),
        ] {
            assert_eq!(made(spec, Some(&secret())).unwrap().address(), address);
        }
    }

    #[test]
    fn what_is_wrong_is_named_and_no_secret_is_quoted() {
        let amt = |more: Value| {
            let mut spec = json!({ "driver": "amt", "address": "a", "secretRef": { "namespace": "s", "name": "bmc" } });
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            spec
        };
        for (spec, message) in [
            (
                amt(json!({ "address": "{label:x}" })),
                "wake driver amt: node n1 has no label x, which the address needs",
            ),
            (amt(json!({ "address": "ftp://a" })), "wake driver amt: the address \"ftp://a\" has a scheme other than"),
            (
                amt(json!({ "tls": { "certificateSha256": ["0f"] } })),
                "wake driver amt: certificateSha256 \"0f\": a certificate's",
            ),
            (
                amt(json!({ "tls": { "caCertificates": "x" } })),
                "wake driver amt: caCertificates: the CA certificates hold no",
            ),
            (json!({ "driver": "wol", "address": "{node}" }), "wake driver wol: \"n1\" is no MAC address"),
            (
                json!({ "driver": "wol", "address": "{label:mac}", "broadcast": "x" }),
                "wake driver wol: broadcast \"x\"",
            ),
        ] {
            let error = made(spec, Some(&secret())).map(|_| ()).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
        let error = made(amt(json!({})), None).map(|_| ()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "wake driver amt needs the Secret s/bmc: create it with the keys username and password"
        );
        let half = BTreeMap::from([("password".to_owned(), b"hunter2".to_vec())]);
        let error = made(amt(json!({})), Some(&half)).map(|_| ()).unwrap_err().to_string();
        assert_eq!(
            error,
            "the Secret s/bmc of wake driver amt: the key username is missing: write `username` and `password`"
        );
        let bad = BTreeMap::from([("secureOn".to_owned(), b"hunter2".to_vec())]);
        let error = made(json!({ "driver": "wol", "address": "{label:mac}" }), Some(&bad)).map(|_| ()).unwrap_err();
        assert!(matches!(error, SetupError::SecureOn { .. }) && !error.to_string().contains("hunter2"));
    }

    #[test]
    fn a_listed_node_keeps_the_pattern_for_what_it_does_not_say() {
        let own = WakeAddress { name: "n1".into(), address: None, certificate_sha256: None };
        let spec = json!({ "driver": "redfish", "address": "https://{node}.bmc", "nodes": [own] });
        assert_eq!(made(spec, Some(&secret())).unwrap().address(), "n1.bmc:443");
    }
}
