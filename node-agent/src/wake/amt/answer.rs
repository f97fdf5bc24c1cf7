//! What AMT's answers mean. Pure: bytes in, values out. Elements are matched by namespace and name, because prefixes and
//! order differ from answer to answer.

use super::envelope::ns;
use crate::wake::{DriverError, PowerState, Reading, excerpt};
use roxmltree::{Document, Node};

/// A SOAP body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Soap {
    /// `CIM_AssociatedPowerManagementService`, got or pulled.
    Power(Power),
    /// The context of an enumeration.
    Enumeration(String),
    /// `OSPowerSavingState`, which is missing while the machine is off.
    OsPowerSaving(Option<u32>),
    /// The `ReturnValue` of a method.
    Returned(u32),
    /// A SOAP fault.
    Fault(Fault),
}

/// The fields of `CIM_AssociatedPowerManagementService` that count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Power {
    /// `PowerState`.
    pub(super) state: u32,
    /// `AvailableRequestedPowerStates`, filtered by the firmware for the current state.
    pub(super) available: Vec<u32>,
}

/// A SOAP fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// The subcode without its prefix, such as `AccessDenied`.
    pub(super) subcode: String,
    /// The reason and the detail, cut short.
    pub(super) text: String,
    /// The firmware's own status, if the detail names it.
    pub(super) amt_status: Option<u32>,
}

/// Reads a SOAP envelope.
///
/// # Errors
///
/// No XML, no envelope, or a body that answers none of our questions.
pub(super) fn read(bytes: &[u8]) -> Result<Soap, DriverError> {
    let garbled = |what: &str| DriverError::Garbled(what.to_owned());
    let text = std::str::from_utf8(bytes).map_err(|_| garbled("not UTF-8"))?;
    let text = text.trim_start_matches('\u{feff}');
    let document = Document::parse(text).map_err(|error| garbled(&format!("no XML: {error}")))?;
    let body = child(document.root_element(), ns::SOAP, "Body").ok_or_else(|| garbled("no SOAP body"))?;
    let content = body.children().find(Node::is_element).ok_or_else(|| garbled("an empty SOAP body"))?;
    let name = content.tag_name();
    match (name.namespace().unwrap_or_default(), name.name()) {
        (ns::SOAP, "Fault") => Ok(Soap::Fault(fault(content))),
        (ns::ENUMERATION, "EnumerateResponse") => {
            let context = child(content, ns::ENUMERATION, "EnumerationContext").map(text_of);
            Ok(Soap::Enumeration(context.ok_or_else(|| garbled("an enumeration without context"))?.to_owned()))
        }
        (ns::ENUMERATION, "PullResponse") => {
            let items = child(content, ns::ENUMERATION, "Items").ok_or_else(|| garbled("a pull without items"))?;
            power(items.children().find(Node::is_element).ok_or_else(|| garbled("a pull without an item"))?)
        }
        (_, "CIM_AssociatedPowerManagementService") => power(content),
        (class, "IPS_PowerManagementService") => {
            Ok(Soap::OsPowerSaving(child(content, class, "OSPowerSavingState").and_then(number)))
        }
        (class, "RequestPowerStateChange_OUTPUT" | "RequestOSPowerSavingStateChange_OUTPUT") => {
            let value = child(content, class, "ReturnValue").and_then(number);
            Ok(Soap::Returned(value.ok_or_else(|| garbled("no ReturnValue"))?))
        }
        (_, other) => Err(garbled(&format!("an unexpected {}", excerpt(other, 60)))),
    }
}

fn power(instance: Node<'_, '_>) -> Result<Soap, DriverError> {
    let class = instance.tag_name().namespace().unwrap_or_default();
    let state = child(instance, class, "PowerState").and_then(number);
    let state = state.ok_or_else(|| DriverError::Garbled("no PowerState".to_owned()))?;
    let available = instance.children().filter(|node| node.has_tag_name((class, "AvailableRequestedPowerStates")));
    Ok(Soap::Power(Power { state, available: available.filter_map(number).take(32).collect() }))
}

fn fault(fault: Node<'_, '_>) -> Fault {
    let code = child(fault, ns::SOAP, "Code");
    let subcode = code.and_then(|code| child(code, ns::SOAP, "Subcode"));
    let value = subcode.and_then(|subcode| child(subcode, ns::SOAP, "Value")).map(text_of).unwrap_or_default();
    let all = |node: Option<Node<'_, '_>>| {
        node.map(|node| node.descendants().filter_map(|part| part.text()).collect::<Vec<_>>().join(" "))
            .unwrap_or_default()
    };
    let detail = all(child(fault, ns::SOAP, "Detail"));
    let status = detail.split_once("AMT-STATUS").and_then(|(_, after)| after.split_whitespace().next()?.parse().ok());
    let text = format!("{} {detail}", all(child(fault, ns::SOAP, "Reason")));
    Fault {
        subcode: excerpt(value.rsplit(':').next().unwrap_or_default(), 60),
        text: excerpt(&text, 200),
        amt_status: status,
    }
}

fn child<'a, 'input>(parent: Node<'a, 'input>, namespace: &str, name: &str) -> Option<Node<'a, 'input>> {
    parent.children().find(|node| node.has_tag_name((namespace, name)))
}

fn text_of<'a>(node: Node<'a, '_>) -> &'a str {
    node.text().unwrap_or_default().trim()
}

fn number(node: Node<'_, '_>) -> Option<u32> {
    text_of(node).parse().ok()
}

/// What a `PowerState` means (DMTF `CIM_PowerManagementService`; client libraries name some values differently).
pub(super) fn power_state(power: &Power, version: &str) -> Reading {
    let state = match power.state {
        2 => PowerState::On,
        3 | 4 => PowerState::Sleeping,
        6..=8 | 12 | 13 => PowerState::Off,
        _ => PowerState::Unknown,
    };
    let note = if power.state == 7 { ", hibernated" } else { "" };
    Reading::sure(state, format!("PowerState {}{note}{version}", power.state))
}

/// What the `ReturnValue` of a power request means.
///
/// # Errors
///
/// Everything but "done" and "job started".
pub(super) fn returned(value: u32, power: &Power) -> Result<(), DriverError> {
    let now = format!("from PowerState {}, where AMT offers {:?}", power.state, power.available);
    match value {
        0 | 4096 => Ok(()),
        1 => Err(DriverError::NotSupported(format!("AMT has no power-on {now} (ReturnValue 1)"))),
        // Not only "unknown error" as DMTF has it, but the firmware's catch-all for "not now".
        2 => Err(DriverError::Busy(format!(
            "AMT can't turn it on now {now}: a remote console, serial or media session may be open (ReturnValue 2)"
        ))),
        3 | 4 | 6 | 4099 => Err(DriverError::Busy(format!("AMT could not do it just now (ReturnValue {value})"))),
        4097 => Err(DriverError::Refused(format!("AMT calls it an invalid transition {now} (ReturnValue 4097)"))),
        status @ 32_768.. => Err(amt_status(status - 32_768)),
        other => Err(DriverError::Refused(format!("AMT refused the request (ReturnValue {other})"))),
    }
}

/// What a status of the firmware means (Intel AMT SDK, "PT_STATUS").
fn amt_status(status: u32) -> DriverError {
    match status {
        1 => DriverError::Busy("AMT has an internal error (AMT-STATUS 1)".to_owned()),
        16 => DriverError::NotPermitted("AMT does not permit this account power control (AMT-STATUS 16)".to_owned()),
        2069 => DriverError::WrongCredentials("AMT calls the credentials invalid (AMT-STATUS 2069)".to_owned()),
        2076 => DriverError::Busy("a part of AMT blocks the request (AMT-STATUS 2076)".to_owned()),
        2081 => DriverError::NotProvisioned(
            "AMT wants a person at the machine to consent: set it up in admin control mode, or turn user consent off (AMT-STATUS 2081)"
                .to_owned(),
        ),
        2082 => DriverError::Busy("AMT carries out another request (AMT-STATUS 2082)".to_owned()),
        other => DriverError::Refused(format!("AMT refused the request (AMT-STATUS {other})")),
    }
}

/// What a fault means.
pub(super) fn fault_error(fault: &Fault) -> DriverError {
    if let Some(status) = fault.amt_status {
        return amt_status(status);
    }
    let text = format!("{} {}", fault.subcode, fault.text);
    match fault.subcode.as_str() {
        "AccessDenied" => DriverError::NotPermitted(text),
        "DestinationUnreachable" | "ActionNotSupported" | "EndpointUnavailable" => DriverError::NotSupported(text),
        "TimedOut" | "InternalError" | "QuotaLimit" | "Concurrency" => DriverError::Busy(text),
        _ => DriverError::Refused(text),
    }
}

/// Whether an operating system's low-power idle makes an "on" a standby. Missing is unknown, never an error: the
/// property is not there while the machine is off, nor on older firmware.
pub(super) fn with_os_power_saving(reading: Reading, os: Option<u32>) -> Reading {
    match os {
        Some(3) if reading.state == PowerState::On => {
            Reading::sure(PowerState::Standby, format!("{}, OSPowerSavingState 3", reading.evidence))
        }
        _ => reading,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::envelope::Ask, *};
    use proptest::prelude::*;

    fn envelope(body: &str) -> String {
        format!(r#"<x:Envelope xmlns:x="{}"><x:Header/><x:Body>{body}</x:Body></x:Envelope>"#, ns::SOAP)
    }

    #[test]
    fn prefixes_order_and_comments_do_not_matter() {
        let class = format!("{}CIM_AssociatedPowerManagementService", ns::CIM);
        let body = format!(
            r#"<!-- 1 --><q:CIM_AssociatedPowerManagementService xmlns:q="{class}">
            <q:AvailableRequestedPowerStates>2</q:AvailableRequestedPowerStates>
            <q:AvailableRequestedPowerStates>8</q:AvailableRequestedPowerStates>
            <other:PowerState xmlns:other="urn:x">2</other:PowerState>
            <q:PowerState> 4 </q:PowerState></q:CIM_AssociatedPowerManagementService>"#
        );
        let Soap::Power(power) = read(envelope(&body).as_bytes()).unwrap() else { panic!() };
        assert_eq!(power, Power { state: 4, available: vec![2, 8] });
        assert_eq!(power_state(&power, ", AMT 16").to_string(), "asleep (PowerState 4, AMT 16)");
        let pulled = format!(
            r#"<n:PullResponse xmlns:n="{}"><n:Items>{body}</n:Items><n:EndOfSequence/></n:PullResponse>"#,
            ns::ENUMERATION
        );
        assert_eq!(read(envelope(&pulled).as_bytes()).unwrap(), Soap::Power(power));
    }

    #[test]
    fn a_fault_names_its_status() {
        let fault = envelope(
            r#"<x:Fault><x:Code><x:Value>x:Receiver</x:Value><x:Subcode><x:Value>w:InternalError</x:Value></x:Subcode></x:Code>
            <x:Reason><x:Text>The service cannot comply</x:Text></x:Reason><x:Detail><d>AMT-STATUS 2082</d></x:Detail></x:Fault>"#,
        );
        let Soap::Fault(fault) = read(fault.as_bytes()).unwrap() else { panic!() };
        assert_eq!((fault.subcode.as_str(), fault.amt_status), ("InternalError", Some(2082)));
        assert!(matches!(fault_error(&fault), DriverError::Busy(_)));
    }

    #[test]
    fn every_return_value_has_its_meaning() {
        let power = Power { state: 4, available: vec![2] };
        let category = |value| returned(value, &power).err().map(|error| error.category());
        assert_eq!([0, 4096].map(category), [None, None]);
        assert_eq!([2, 4099, 32_768 + 2082].map(category), [Some("Busy"); 3]);
        assert_eq!(category(1), Some("NotSupported"));
        assert_eq!(category(4097), Some("Refused"));
        assert_eq!(category(32_768 + 16), Some("NotPermitted"));
        assert_eq!(category(32_768 + 2081), Some("NotProvisioned"));
    }

    #[test]
    fn a_missing_os_state_changes_nothing() {
        let on = Reading::sure(PowerState::On, "PowerState 2");
        assert_eq!(with_os_power_saving(on.clone(), None), on);
        assert_eq!(with_os_power_saving(on.clone(), Some(2)), on);
        assert_eq!(with_os_power_saving(on, Some(3)).state, PowerState::Standby);
        let off = Reading::sure(PowerState::Off, "PowerState 8");
        assert_eq!(with_os_power_saving(off.clone(), Some(3)), off);
    }

    #[test]
    fn hostile_xml_is_refused_without_harm() {
        let bomb = r#"<!DOCTYPE a [<!ENTITY b "bbbbbbbb"><!ENTITY c "&b;&b;&b;&b;">]><a>&c;&c;</a>"#;
        assert!(matches!(read(bomb.as_bytes()), Err(DriverError::Garbled(_))));
        let deep = "<a>".repeat(100_000);
        assert!(matches!(read(deep.as_bytes()), Err(DriverError::Garbled(_))));
        let deep = format!("{}{}", "<a>".repeat(100_000), "</a>".repeat(100_000));
        assert!(matches!(read(envelope(&deep).as_bytes()), Err(DriverError::Garbled(_))));
    }

    #[test]
    fn an_enumeration_context_cannot_break_out_of_its_element() {
        let text = Ask::PullPowerState { context: "</EnumerationContext><x>&".into() }.envelope(1);
        let document = Document::parse(&text).unwrap();
        let context = document.descendants().find(|node| node.has_tag_name((ns::ENUMERATION, "EnumerationContext")));
        assert_eq!(context.unwrap().text(), Some("</EnumerationContext><x>&"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200), soup in "(<|>|/|x:|Body|Envelope|&|;|\"|=|[a-z ]){0,40}") {
            let _ = read(&bytes);
            let _ = read(soup.as_bytes());
            let _ = read(envelope(&soup).as_bytes());
        }

        /// Real answers with a few bytes changed.
        #[test]
        fn damaged_answers_never_panic(at in 0usize..600, with in any::<u8>(), cut in 0usize..600) {
            let class = format!("{}CIM_AssociatedPowerManagementService", ns::CIM);
            let mut bytes = envelope(&format!(r#"<q:CIM_AssociatedPowerManagementService xmlns:q="{class}"><q:PowerState>4</q:PowerState></q:CIM_AssociatedPowerManagementService>"#)).into_bytes();
            let length = bytes.len();
            bytes[at % length] = with;
            let _ = read(&bytes);
            let _ = read(&bytes[..cut % length]);
        }
    }
}
