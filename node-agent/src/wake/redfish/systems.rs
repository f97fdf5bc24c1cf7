//! Which of the systems behind one address is the node. Pure.

use super::answers::path;
use crate::wake::{DriverError, excerpt};
use serde_json::Value;

/// The systems of a collection.
pub(super) fn members(collection: &Value) -> Vec<String> {
    let members = collection.pointer("/Members").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    members.iter().filter_map(|member| path(member.get("@odata.id"), "Members").ok()).collect()
}

/// The only one of several systems, or that a person must say which.
///
/// # Errors
///
/// None, or several.
pub(super) fn only_system(members: &[String]) -> Result<String, DriverError> {
    match members {
        [] => Err(DriverError::NotProvisioned("the Redfish service lists no system".to_owned())),
        [one] => Ok(one.clone()),
        [first, ..] => Err(DriverError::WhichSystem(format!(
            "the Redfish service has {} systems; write the node's into the address, as https://HOST{}",
            members.len(),
            excerpt(first, 80),
        ))),
    }
}

/// What people call a system by, besides its path: its id, name, serial number, host name and UUID.
const NAMES: [&str; 6] = ["Id", "Name", "SerialNumber", "HostName", "UUID", "AssetTag"];

/// Whether a system is called so. Case does not count.
pub(super) fn is_called(system: &Value, wanted: &str) -> bool {
    let names = NAMES.iter().filter_map(|name| system.get(name)?.as_str());
    let mut known = names.filter(|name| !name.trim().is_empty());
    known.any(|name| name.trim().eq_ignore_ascii_case(wanted.trim()))
}

/// A system as an error lists it: its path, and what else tells it from others.
pub(super) fn described(path: &str, system: &Value) -> String {
    let said = |name: &str| Some(excerpt(system.get(name)?.as_str()?, 40)).filter(|text| !text.is_empty());
    let parts = [("name", "Name"), ("serial number", "SerialNumber"), ("host name", "HostName")];
    let parts: Vec<_> = parts.iter().filter_map(|(word, name)| Some(format!("{word} {}", said(name)?))).collect();
    let path = excerpt(path, 80);
    if parts.is_empty() { path } else { format!("{path} ({})", parts.join(", ")) }
}

/// What an address asks for by the last part of its path: a system's id, serial number or name, with `%20` for a space.
pub(super) fn wanted(path: &str) -> Option<String> {
    let last = path.trim_end_matches('/').rsplit('/').next().filter(|last| !last.is_empty())?;
    let (mut bytes, mut rest) = (Vec::new(), last.as_bytes());
    while let [first, more @ ..] = rest {
        let digit = |at: usize| more.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push(u8::try_from(high * 16 + low).unwrap_or_default());
                rest = &more[2..];
            }
            _ => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_system_is_found_by_what_people_call_it() {
        let system =
            json!({ "Id": "1", "Name": "System", "SerialNumber": "CZ3 4711", "HostName": "d1", "AssetTag": "" });
        for (path, found) in [
            ("/redfish/v1/Systems/cz3%204711", true),
            ("/redfish/v1/Systems/D1/", true),
            ("/redfish/v1/Systems/1", true),
            ("/redfish/v1/Systems/2", false),
        ] {
            assert_eq!(is_called(&system, &wanted(path).unwrap()), found, "{path}");
        }
        assert!(!is_called(&system, " "), "an empty tag is no name");
        assert_eq!(described("/s/1", &system), "/s/1 (name System, serial number CZ3 4711, host name d1)");
        assert_eq!(described("/s/1", &json!(null)), "/s/1");
    }

    #[test]
    fn of_several_systems_a_person_chooses() {
        let one = json!({ "Members": [{ "@odata.id": "/redfish/v1/Systems/a" }] });
        assert_eq!(only_system(&members(&one)).unwrap(), "/redfish/v1/Systems/a");
        let two =
            json!({ "Members": [{ "@odata.id": "/redfish/v1/Systems/a" }, { "@odata.id": "/redfish/v1/Systems/b" }] });
        assert!(only_system(&members(&two)).unwrap_err().to_string().ends_with("as https://HOST/redfish/v1/Systems/a"));
        assert!(matches!(only_system(&members(&json!({}))), Err(DriverError::NotProvisioned(_))));
    }
}
