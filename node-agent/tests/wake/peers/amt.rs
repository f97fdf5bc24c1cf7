//! An AMT that is as strict as the firmware and plays its awkward moods. No emulator of AMT exists that others wrote, so
//! this one is checked with a client that others wrote (the Python package `amt`, in `amt.rs` beside this folder).
//!
//! Its answers are shaped after recorded ones: chunks with four-digit sizes, an HTML page on every 401, faults with
//! status 400, prefixes that differ from request to request, and no algorithm in the challenge.

use super::{PASSWORD, Received, Scripted, USER};
use md5::{Digest as _, Md5};
use roxmltree::{Document, Node};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

const SOAP: &str = "http://www.w3.org/2003/05/soap-envelope";
const ADDRESSING: &str = "http://schemas.xmlsoap.org/ws/2004/08/addressing";
const WSMAN: &str = "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd";
const ENUMERATION: &str = "http://schemas.xmlsoap.org/ws/2004/09/enumeration";
const TRANSFER: &str = "http://schemas.xmlsoap.org/ws/2004/09/transfer";
const CIM: &str = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/";
const IPS: &str = "http://intel.com/wbem/wscim/1/ips-schema/1/";

/// How it behaves, and what happened.
#[derive(Debug, Clone)]
pub(crate) struct Amt {
    /// `PowerState`.
    pub(crate) power: u32,
    /// `OSPowerSavingState`; missing while off.
    pub(crate) os_power_saving: Option<u32>,
    pub(crate) realm: String,
    /// How often a nonce is good for.
    pub(crate) nonce_uses: u32,
    /// Whether a forgotten nonce is called stale.
    pub(crate) says_stale: bool,
    pub(crate) qop: &'static str,
    /// How many wrong passwords lock the account.
    pub(crate) lock_after: u32,
    pub(crate) locked: bool,
    /// How many connections the dozing firmware misses.
    pub(crate) dozes: u32,
    /// What the next power requests return instead of success.
    pub(crate) returns: Vec<u32>,
    /// How many reads a power change takes.
    pub(crate) slow: u32,
    /// Whether it refuses a direct Get.
    pub(crate) only_enumerates: bool,
    /// The power states that were requested.
    pub(crate) requested: Vec<u32>,
    /// `OSPowerSavingState`s that were requested.
    pub(crate) os_requested: Vec<u32>,
    pub(crate) unauthorized: u32,
    pub(crate) requests: u32,
    /// What a strict firmware would have refused.
    pub(crate) violations: Vec<String>,
    /// How often each nonce was used.
    pub(crate) nonces: BTreeMap<String, u32>,
    pub(crate) made: u32,
    pub(crate) wrong: u32,
    /// The next power state, after so many reads.
    pub(crate) becoming: Option<(u32, u32)>,
}

impl Amt {
    /// A machine in S3 under a firmware in a good mood.
    pub(crate) fn asleep() -> Self {
        Self {
            power: 4,
            os_power_saving: None,
            realm: "Digest:A3829B3827DE4D33D4449B366831FD01".into(),
            nonce_uses: u32::MAX,
            says_stale: false,
            qop: "auth",
            lock_after: 5,
            locked: false,
            dozes: 0,
            returns: Vec::new(),
            slow: 1,
            only_enumerates: false,
            requested: Vec::new(),
            os_requested: Vec::new(),
            unauthorized: 0,
            requests: 0,
            violations: Vec::new(),
            nonces: BTreeMap::new(),
            made: 0,
            wrong: 0,
            becoming: None,
        }
    }

    /// Puts it on the network.
    pub(crate) async fn serve(self, tls: Option<Arc<rustls::ServerConfig>>) -> (Scripted, Arc<Mutex<Self>>) {
        let amt = Arc::new(Mutex::new(self));
        let answering = amt.clone();
        (Scripted::start(tls, move |request| answering.lock().unwrap().answer(request)).await, amt)
    }

    /// The bytes that answer a request.
    pub(crate) fn answer(&mut self, request: &Received) -> Vec<u8> {
        self.requests += 1;
        if self.dozes > 0 {
            self.dozes -= 1;
            return Vec::new();
        }
        if request.line != "POST /wsman" {
            return html("404 Not Found", "", "no such page");
        }
        if let Err(stale) = self.authorize(request) {
            self.unauthorized += 1;
            self.made += 1;
            let nonce = format!("p3cAAAB4{:08}", self.made);
            let challenge = format!(
                "WWW-Authenticate: Digest realm=\"{}\", nonce=\"{nonce}\",stale=\"{stale}\",qop=\"{}\"\r\n",
                self.realm, self.qop
            );
            self.nonces.insert(nonce, 0);
            return html(
                "401 Unauthorized",
                &challenge,
                "Log on failed. Incorrect user name or password, or user account temporarily locked.",
            );
        }
        let document = match Document::parse(&request.body) {
            Ok(document) => document,
            Err(error) => {
                self.violations.push(error.to_string());
                return html("400 Bad Request", "", "400");
            }
        };
        match self.act(&document) {
            Ok(body) => soap("200 OK", self.requests, &body),
            Err((subcode, text)) => soap("400 Bad Request", self.requests, &fault(subcode, &text)),
        }
    }

    /// RFC 2617, computed on this side's own.
    fn authorize(&mut self, request: &Received) -> Result<(), bool> {
        let header =
            request.headers.get("authorization").and_then(|value| value.strip_prefix("Digest ")).ok_or(false)?;
        let fields: BTreeMap<&str, &str> = header
            .split(',')
            .filter_map(|field| field.trim().split_once('='))
            .map(|(k, v)| (k, v.trim_matches('"')))
            .collect();
        let field = |name: &str| fields.get(name).copied().unwrap_or_default();
        if field("qop") != "auth"
            || field("uri") != "/wsman"
            || fields.contains_key("algorithm") && !header.contains("algorithm=\"MD5\"")
        {
            self.violations.push(format!("Authorization: {header}"));
        }
        let count = u32::from_str_radix(field("nc"), 16).unwrap_or_default();
        let (uses, says_stale) = (self.nonce_uses, self.says_stale);
        let used = self.nonces.get_mut(field("nonce")).ok_or(says_stale)?;
        if count <= *used || count > uses {
            return Err(says_stale);
        }
        *used = count;
        let hash = |text: String| format!("{:x}", Md5::digest(text));
        let a1 = hash(format!("{USER}:{}:{PASSWORD}", self.realm));
        let a2 = hash("POST:/wsman".into());
        let expected = hash(format!("{a1}:{}:{}:{}:auth:{a2}", field("nonce"), field("nc"), field("cnonce")));
        if field("response") != expected || field("username") != USER {
            self.wrong += 1;
            self.locked |= self.wrong >= self.lock_after;
            return Err(false);
        }
        if self.locked { Err(false) } else { Ok(()) }
    }

    fn act(&mut self, document: &Document<'_>) -> Result<String, (&'static str, String)> {
        let root = document.root_element();
        let header = only(root, SOAP, "Header")?;
        let names: Vec<_> = header.children().filter(Node::is_element).map(|node| node.tag_name().name()).collect();
        if !names.starts_with(&["Action", "To", "ResourceURI", "MessageID", "ReplyTo"]) {
            return Err(self.violation(format!("header {names:?}")));
        }
        let action = text(only(header, ADDRESSING, "Action")?);
        let class = text(only(header, WSMAN, "ResourceURI")?);
        let body = only(root, SOAP, "Body")?;
        let content = body.children().find(Node::is_element);
        let service = format!("{CIM}CIM_AssociatedPowerManagementService");
        let os_service = format!("{IPS}IPS_PowerManagementService");
        if action == format!("{TRANSFER}/Get") && class == service && content.is_none() {
            if self.only_enumerates {
                return Err(("wsman:ActionNotSupported", "The action is not supported".into()));
            }
            return Ok(self.power_service());
        }
        if action == format!("{TRANSFER}/Get") && class == os_service && content.is_none() {
            let state =
                self.os_power_saving.map(|state| format!("<h:OSPowerSavingState>{state}</h:OSPowerSavingState>"));
            let state = state.unwrap_or_default();
            return Ok(format!(
                "<h:IPS_PowerManagementService xmlns:h=\"{os_service}\"><h:Name>Intel(r) AMT Power Management Service</h:Name>{state}</h:IPS_PowerManagementService>"
            ));
        }
        if action == format!("{ENUMERATION}/Enumerate") && class == service {
            only(body, ENUMERATION, "Enumerate")?;
            return Ok(format!(
                "<g:EnumerateResponse xmlns:g=\"{ENUMERATION}\"><g:EnumerationContext>5D000000-0000-0000-0000-000000000000</g:EnumerationContext></g:EnumerateResponse>"
            ));
        }
        if action == format!("{ENUMERATION}/Pull") && class == service {
            let context = text(only(only(body, ENUMERATION, "Pull")?, ENUMERATION, "EnumerationContext")?);
            if context != "5D000000-0000-0000-0000-000000000000" {
                return Err(self.violation(format!("context {context}")));
            }
            let item = self.power_service();
            return Ok(format!(
                "<g:PullResponse xmlns:g=\"{ENUMERATION}\"><g:Items>{item}</g:Items><g:EndOfSequence></g:EndOfSequence></g:PullResponse>"
            ));
        }
        let power_class = format!("{CIM}CIM_PowerManagementService");
        if action == format!("{power_class}/RequestPowerStateChange") && class == power_class {
            let state = requested(body, &power_class, "RequestPowerStateChange_INPUT", "PowerState")
                .map_err(|what| self.violation(what))?;
            self.requested.push(state);
            let value = if self.returns.is_empty() { 0 } else { self.returns.remove(0) };
            // In modern standby "on" is answered with success and changes nothing.
            if value == 0 && state == 2 && self.power != 2 {
                self.becoming = Some((2, self.slow));
            }
            return Ok(returned(&power_class, "RequestPowerStateChange_OUTPUT", value));
        }
        if action == format!("{os_service}/RequestOSPowerSavingStateChange") && class == os_service {
            let state = requested(body, &os_service, "RequestOSPowerSavingStateChange_INPUT", "OSPowerSavingState")
                .map_err(|what| self.violation(what))?;
            self.os_requested.push(state);
            self.os_power_saving = Some(state);
            return Ok(returned(&os_service, "RequestOSPowerSavingStateChange_OUTPUT", 0));
        }
        Err(("wsa:DestinationUnreachable", "No route can be determined to reach the destination role".into()))
    }

    fn power_service(&mut self) -> String {
        if let Some((state, left)) = self.becoming {
            self.becoming = if left == 0 { None } else { Some((state, left - 1)) };
            if left == 0 {
                (self.power, self.os_power_saving) = (state, Some(2));
            }
        }
        let class = format!("{CIM}CIM_AssociatedPowerManagementService");
        let available = if self.power == 2 { vec![8, 5, 10] } else { vec![2] };
        let available: String = available
            .iter()
            .map(|s| format!("<h:AvailableRequestedPowerStates>{s}</h:AvailableRequestedPowerStates>"))
            .collect();
        format!(
            "<h:CIM_AssociatedPowerManagementService xmlns:h=\"{class}\">{available}<h:PowerState>{}</h:PowerState>\
             <h:RequestedPowerState>12</h:RequestedPowerState></h:CIM_AssociatedPowerManagementService>",
            self.power
        )
    }

    fn violation(&mut self, what: String) -> (&'static str, String) {
        self.violations.push(what.clone());
        ("wsman:SchemaValidationError", what)
    }
}

/// The value of a request whose parts stand in the order that the firmware wants.
fn requested(body: Node<'_, '_>, class: &str, input: &str, value: &str) -> Result<u32, String> {
    let wrong = |(_, what): (&str, String)| what;
    let input = only(body, class, input).map_err(wrong)?;
    let names: Vec<_> = input.children().filter(Node::is_element).map(|node| node.tag_name().name()).collect();
    if names != [value, "ManagedElement"] {
        return Err(format!("{names:?}"));
    }
    let element = only(input, class, "ManagedElement").map_err(wrong)?;
    let address = text(only(element, ADDRESSING, "Address").map_err(wrong)?);
    let parameters = only(element, ADDRESSING, "ReferenceParameters").map_err(wrong)?;
    let resource = text(only(parameters, WSMAN, "ResourceURI").map_err(wrong)?);
    let selectors = only(parameters, WSMAN, "SelectorSet").map_err(wrong)?;
    if address != format!("{ADDRESSING}/role/anonymous")
        || resource != format!("{CIM}CIM_ComputerSystem")
        || !selectors.children().any(|selector| text(selector) == "ManagedSystem")
    {
        return Err(format!("{address} {resource}"));
    }
    text(only(input, class, value).map_err(wrong)?).parse().map_err(|_| "no number".to_owned())
}

fn only<'a, 'input>(
    parent: Node<'a, 'input>,
    namespace: &str,
    name: &str,
) -> Result<Node<'a, 'input>, (&'static str, String)> {
    let node = parent.children().find(|node| node.has_tag_name((namespace, name)));
    node.ok_or_else(|| ("wsman:SchemaValidationError", format!("no {name}")))
}

fn text<'a>(node: Node<'a, '_>) -> &'a str {
    node.text().unwrap_or_default().trim()
}

fn returned(class: &str, output: &str, value: u32) -> String {
    format!("<h:{output} xmlns:h=\"{class}\"><h:ReturnValue>{value}</h:ReturnValue></h:{output}>")
}

fn fault(subcode: &str, text: &str) -> String {
    format!(
        "<a:Fault><a:Code><a:Value>a:Sender</a:Value><a:Subcode><a:Value>{subcode}</a:Value></a:Subcode></a:Code>\
         <a:Reason><a:Text xml:lang=\"en-US\">{text}</a:Text></a:Reason><a:Detail></a:Detail></a:Fault>"
    )
}

const SERVER: &str = "Server: Intel(R) Active Management Technology 16.1.25.2124\r\n";

fn html(status: &str, headers: &str, text: &str) -> Vec<u8> {
    let body = format!(
        "<!DOCTYPE HTML PUBLIC \"-//W3C//DTD HTML 4.01//EN\"><html><body><h1>{status}</h1><p>{text}<br></body></html>"
    );
    format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Type: text/html\r\n{SERVER}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Chunks of a size that cuts elements and their names in two.
fn soap(status: &str, number: u32, body: &str) -> Vec<u8> {
    let envelope = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><a:Envelope xmlns:a=\"{SOAP}\" xmlns:b=\"{ADDRESSING}\" xmlns:c=\"{WSMAN}\">\
         <a:Header><b:To>{ADDRESSING}/role/anonymous</b:To><b:RelatesTo>{number}</b:RelatesTo>\
         <b:MessageID>uuid:00000000-8086-8086-8086-{number:012}</b:MessageID></a:Header><a:Body>{body}</a:Body></a:Envelope>"
    );
    let close = if status.starts_with("200") { "" } else { "Connection: close\r\n" };
    let mut bytes = format!(
        "HTTP/1.1 {status}\r\nDate: Sat, 21 Nov 2026 12:00:00 GMT\r\n{SERVER}{close}Content-Type: application/soap+xml; charset=UTF-8\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    .into_bytes();
    for chunk in envelope.as_bytes().chunks(173) {
        bytes.extend(format!("{:04X}\r\n", chunk.len()).as_bytes());
        bytes.extend(chunk);
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"0000\r\n\r\n");
    bytes
}
