//! The calls that wake one machine, as commands for a shell. No password is in them: they read it from a file or from
//! the environment.

use miyako_api::node_power_class::{WakeDriver, WakeProtocol, WakeTls, WakeTlsVersion};
use miyako_api::wake::{Endpoint, Node, Way, own, protocol_name};

/// What the file with an AMT request is called.
pub(super) const AMT_REQUEST_FILE: &str = "amt-power-on.xml";

/// WS-Man's RequestPowerStateChange to 2 (on), which AMT takes for a resume when the machine sleeps.
pub(super) const AMT_REQUEST: &str = r#"<?xml version="1.0" encoding="utf-8"?>
<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing" xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd" xmlns:p="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_PowerManagementService">
<s:Header>
<a:Action>http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_PowerManagementService/RequestPowerStateChange</a:Action>
<a:To>/wsman</a:To>
<w:ResourceURI>http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_PowerManagementService</w:ResourceURI>
<a:MessageID>1</a:MessageID>
<a:ReplyTo><a:Address>http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</a:Address></a:ReplyTo>
<w:OperationTimeout>PT60S</w:OperationTimeout>
</s:Header>
<s:Body><p:RequestPowerStateChange_INPUT><p:PowerState>2</p:PowerState><p:ManagedElement><a:Address>http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</a:Address><a:ReferenceParameters><w:ResourceURI>http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ComputerSystem</w:ResourceURI><w:SelectorSet><w:Selector Name="CreationClassName">CIM_ComputerSystem</w:Selector><w:Selector Name="Name">ManagedSystem</w:Selector></w:SelectorSet></a:ReferenceParameters></p:ManagedElement></p:RequestPowerStateChange_INPUT></s:Body>
</s:Envelope>
"#;

/// The file that holds the account of a Secret, for `miyako-agent`.
pub(super) fn credentials_file(spec: &WakeDriver) -> Option<String> {
    let secret = spec.secret_ref.as_ref()?;
    Some(format!("{}-{}.yaml", secret.namespace.as_deref()?, secret.name.as_deref()?))
}

/// The file that holds a class's CA certificates.
pub(super) fn ca_file(class: &str, spec: &WakeDriver) -> Option<String> {
    let tls = spec.tls.as_ref()?;
    tls.ca_certificates.as_ref()?;
    Some(format!("{class}-{}-ca.pem", protocol_name(spec.driver)))
}

/// The fingerprints that are trusted for this node.
pub(super) fn fingerprints(spec: &WakeDriver, node: Node<'_>) -> Vec<String> {
    let of_class = spec.tls.iter().flat_map(|tls| tls.certificate_sha256.iter().cloned());
    of_class.chain(own(spec, node).and_then(|own| own.certificate_sha256.clone())).collect()
}

/// The call through `miyako-agent`, which speaks every protocol, reads the state first and watches until it is on.
pub(super) fn by_agent(class: &str, way: &Way, node: Node<'_>, sleeps_in_s3: bool) -> String {
    let spec = &way.spec;
    let mut call =
        format!("miyako-agent wake wake --driver {} --address {}", protocol_name(spec.driver), quoted(&way.address));
    let mut flag = |name: &str, value: &str| call.push_str(&format!(" --{name} {}", quoted(value)));
    if spec.driver != WakeProtocol::Wol
        && let Some(file) = credentials_file(spec)
    {
        flag("credentials-file", &file);
    }
    for fingerprint in fingerprints(spec, node) {
        flag("certificate-sha256", &fingerprint);
    }
    if let Some(file) = ca_file(class, spec) {
        flag("ca-file", &file);
    }
    if let Some(WakeTls { max_version: Some(version), .. }) = &spec.tls {
        flag("tls-max", if *version == WakeTlsVersion::Tls12 { "1.2" } else { "1.3" });
    }
    if let Some(broadcast) = &spec.broadcast {
        flag("broadcast", broadcast);
    }
    if sleeps_in_s3 {
        call.push_str(" --asleep");
    }
    call
}

/// The same without anything of ours: with tools that every distribution has. The account is in `BMC_USER` and
/// `BMC_PASSWORD`.
pub(super) fn by_hand(class: &str, way: &Way, node: Node<'_>) -> Vec<String> {
    let spec = &way.spec;
    let pinned = !fingerprints(spec, node).is_empty();
    let trusted = pinned || ca_file(class, spec).is_some();
    let endpoint = match Endpoint::parse(spec.driver, &way.address, trusted) {
        Err(error) if spec.driver != WakeProtocol::Wol => return vec![format!("# {error}")],
        endpoint => endpoint.ok(),
    };
    match (spec.driver, endpoint) {
        (WakeProtocol::Redfish, Some(endpoint)) => {
            let port = if endpoint.port == 443 { String::new() } else { format!(":{}", endpoint.port) };
            let base = format!("https://{}{port}", in_url(&endpoint));
            let system = match endpoint.path.trim_end_matches('/') {
                "" | "/redfish" | "/redfish/v1" => "/redfish/v1/Systems/ID",
                system => system,
            };
            let trust = trust(class, spec, pinned);
            let curl = format!("curl --fail-with-body{trust} --user \"$BMC_USER:$BMC_PASSWORD\"");
            let mut calls = check(&endpoint, pinned);
            if system.ends_with("/ID") {
                calls.push(format!(
                    "{curl} {}  # shows the ID to put below",
                    quoted(&format!("{base}/redfish/v1/Systems"))
                ));
            }
            let reset = quoted(&format!("{base}{system}/Actions/ComputerSystem.Reset"));
            calls.push(format!("{curl} --json '{{\"ResetType\":\"On\"}}' {reset}"));
            calls
        }
        (WakeProtocol::Amt, Some(endpoint)) => {
            let trust = if endpoint.tls { trust(class, spec, pinned) } else { String::new() };
            let mut calls = if endpoint.tls { check(&endpoint, pinned) } else { Vec::new() };
            let scheme = if endpoint.tls { "https" } else { "http" };
            calls.push(format!(
                "curl --fail-with-body{trust} --digest --user \"$BMC_USER:$BMC_PASSWORD\" --header 'Content-Type: application/soap+xml;charset=UTF-8' --data-binary @{AMT_REQUEST_FILE} {}  # ReturnValue 0 is success; a dozing AMT misses the first call",
                quoted(&format!("{scheme}://{}:{}/wsman", in_url(&endpoint), endpoint.port))
            ));
            calls
        }
        (WakeProtocol::Ipmi, Some(endpoint)) => {
            vec![format!(
                "IPMI_PASSWORD=\"$BMC_PASSWORD\" ipmitool -I lanplus -H {} -p {} -U \"$BMC_USER\" -E chassis power on",
                quoted(&endpoint.to_resolve()),
                endpoint.port
            )]
        }
        _ => {
            let broadcast = spec.broadcast.as_deref().unwrap_or("255.255.255.255");
            let (to, port) = broadcast.split_once(':').unwrap_or((broadcast, "9"));
            let mac = mac(&way.address);
            let mut calls =
                vec![format!("wakeonlan -i {to} -p {port} {mac}  # from the node's own segment, three to five times")];
            if spec.secret_ref.is_some() {
                calls.push(format!(
                    "ether-wake -b -p \"$SECURE_ON\" {mac}  # where the card has a SecureOn password (key secureOn of the Secret)"
                ));
            }
            calls
        }
    }
}

/// The host as it stands in a URL.
fn in_url(endpoint: &Endpoint) -> String {
    match (&endpoint.zone, endpoint.host.contains(':')) {
        (Some(zone), _) => format!("[{}%25{zone}]", endpoint.host),
        (None, true) => format!("[{}]", endpoint.host),
        (None, false) => endpoint.host.clone(),
    }
}

/// curl knows no fingerprints of certificates: they are compared by hand first.
fn check(endpoint: &Endpoint, pinned: bool) -> Vec<String> {
    if !pinned {
        return Vec::new();
    }
    let host = if endpoint.host.contains(':') { format!("[{}]", endpoint.to_resolve()) } else { endpoint.host.clone() };
    vec![format!(
        "openssl s_client -connect {} </dev/null 2>/dev/null | openssl x509 -noout -fingerprint -sha256  # go on only if it is one of the fingerprints above",
        quoted(&format!("{host}:{}", endpoint.port))
    )]
}

fn trust(class: &str, spec: &WakeDriver, pinned: bool) -> String {
    match ca_file(class, spec) {
        _ if pinned => " --insecure".to_owned(),
        Some(file) => format!(" --cacert {}", quoted(&file)),
        None => String::new(),
    }
}

/// As the tools want it: with colons.
fn mac(text: &str) -> String {
    let digits: Vec<char> = text.chars().filter(char::is_ascii_hexdigit).collect();
    let pairs: Vec<String> = digits.chunks(2).map(|pair| pair.iter().collect()).collect();
    quoted(&pairs.join(":"))
}

/// For a shell. What classes may hold as addresses needs no quotes; whatever does gets them.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._~:/-+@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::collections::BTreeMap;

    fn calls(spec: Value, address: &str) -> (String, Vec<String>) {
        let way = Way {
            spec: serde_json::from_value(spec).expect("a driver"),
            address: address.into(),
            labels: BTreeMap::new(),
            recorded: false,
        };
        let labels = BTreeMap::new();
        let node = Node { name: "n1", labels: &labels };
        (by_agent("shared", &way, node, true), by_hand("shared", &way, node))
    }

    fn with_secret(driver: &str, more: Value) -> Value {
        let mut spec = json!({"driver": driver, "address": "x", "secretRef": {"namespace": "bmc", "name": "all"}});
        spec.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        spec
    }

    #[test]
    fn redfish_with_a_ca_and_with_a_pinned_certificate() {
        let tls = json!({"tls": {"caCertificates": "PEM", "maxVersion": "1.2"}});
        let (agent, hand) = calls(with_secret("redfish", tls), "https://n1.bmc");
        assert_eq!(
            agent,
            "miyako-agent wake wake --driver redfish --address https://n1.bmc --credentials-file bmc-all.yaml --ca-file shared-redfish-ca.pem --tls-max 1.2 --asleep"
        );
        assert_eq!(hand.len(), 2);
        assert!(hand[1].contains("--cacert shared-redfish-ca.pem") && hand[1].contains(r#"'{"ResetType":"On"}'"#));
        assert!(hand[1].ends_with("https://n1.bmc/redfish/v1/Systems/ID/Actions/ComputerSystem.Reset"), "{hand:?}");
        let pin =
            json!({"nodes": [{"name": "n1", "certificateSha256": "ab"}, {"name": "n2", "certificateSha256": "cd"}]});
        let (agent, hand) = calls(with_secret("redfish", pin), "https://n1.bmc:8443/redfish/v1/Systems/7");
        assert!(agent.contains("--certificate-sha256 ab") && !agent.contains("cd"), "{agent}");
        assert!(hand[0].starts_with("openssl s_client -connect n1.bmc:8443 "), "{hand:?}");
        assert!(hand[1].contains("--insecure") && hand[1].ends_with("Systems/7/Actions/ComputerSystem.Reset"));
    }

    #[test]
    fn an_address_is_read_as_the_driver_reads_it() {
        for (address, url) in [
            ("n1.bmc", "https://n1.bmc/redfish/v1/Systems/ID"),
            ("HTTPS://n1.bmc/redfish/v1/", "https://n1.bmc/redfish/v1/Systems/ID"),
            ("https://[2001:db8::7]:8443", "https://[2001:db8::7]:8443/redfish/v1/Systems/ID"),
            ("https://[fe80::7%eth1]", "https://[fe80::7%25eth1]/redfish/v1/Systems/ID"),
        ] {
            let (_, hand) = calls(with_secret("redfish", json!({})), address);
            assert!(hand[1].replace('\'', "").ends_with(&format!("{url}/Actions/ComputerSystem.Reset")), "{hand:?}");
        }
        let (_, hand) = calls(with_secret("ipmi", json!({})), "[fd00::7]");
        assert!(hand[0].contains("-H fd00::7 -p 623 "), "{hand:?}");
        let (_, hand) = calls(with_secret("redfish", json!({})), "http://n1.bmc");
        assert!(hand[0].starts_with("# the address"), "no password in clear: {hand:?}");
    }

    #[test]
    fn amt_speaks_tls_where_somebody_is_trusted() {
        let (_, hand) = calls(with_secret("amt", json!({})), "n1.amt");
        assert!(hand[0].contains("--digest") && hand[0].contains("http://n1.amt:16992/wsman"), "{hand:?}");
        let (_, hand) = calls(with_secret("amt", json!({"tls": {"certificateSha256": ["ab"]}})), "[fd00::7]");
        assert!(hand[1].contains("'https://[fd00::7]:16993/wsman'"), "{hand:?}");
    }

    #[test]
    fn ipmi_and_wake_on_lan() {
        let (agent, hand) = calls(with_secret("ipmi", json!({})), "10.0.0.7:6230");
        assert!(agent.contains("--driver ipmi --address 10.0.0.7:6230"));
        assert_eq!(
            hand,
            [
                r#"IPMI_PASSWORD="$BMC_PASSWORD" ipmitool -I lanplus -H 10.0.0.7 -p 6230 -U "$BMC_USER" -E chassis power on"#
            ]
        );
        let wol = json!({"driver": "wol", "address": "x", "broadcast": "192.0.2.255:7"});
        let (agent, hand) = calls(wol, "52-54-00-12-34-56");
        assert!(agent.contains("--broadcast 192.0.2.255:7") && !agent.contains("credentials"), "{agent}");
        assert!(hand[0].starts_with("wakeonlan -i 192.0.2.255 -p 7 52:54:00:12:34:56 "), "{hand:?}");
    }

    #[test]
    fn nothing_escapes_its_quotes() {
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("a'; rm -rf /"), r"'a'\''; rm -rf /'");
    }
}
