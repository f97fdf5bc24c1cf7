//! What Redfish answers mean (DMTF DSP0266 1.20 and the schemas of DSP8010). Pure: JSON in, decisions out.

use crate::wake::{DriverError, PowerState, Reading, excerpt};
use serde_json::Value;

/// The resource that a link leads to: a path on the same server.
///
/// # Errors
///
/// No link there, or one to another server.
pub(super) fn link(resource: &Value, pointer: &str) -> Result<String, DriverError> {
    path(resource.pointer(pointer).and_then(|link| link.get("@odata.id")), pointer)
}

/// A path on the same server.
pub(super) fn path(link: Option<&Value>, what: &str) -> Result<String, DriverError> {
    let link = link
        .and_then(Value::as_str)
        .ok_or_else(|| DriverError::Garbled(format!("Redfish without a link at {what}")))?;
    let clean = link.starts_with('/') && !link.starts_with("//") && link.bytes().all(|byte| byte.is_ascii_graphic());
    if clean {
        Ok(link.to_owned())
    } else {
        Err(DriverError::Garbled(format!("the link at {what} is no path on this server: {}", excerpt(link, 80))))
    }
}

/// The path of a `Location` header, which may hold a whole URL of whatever the BMC calls itself, or a path below `base`.
/// The server that it names is not spoken to.
pub(super) fn location_path(location: &str, base: &str) -> Option<String> {
    let path = match location.split_once("://") {
        Some((_, rest)) => rest.get(rest.find('/')?..)?.to_owned(),
        None if location.starts_with('/') => location.to_owned(),
        None if location.is_empty() => return None,
        None => format!("{base}/{location}"),
    };
    let clean = path.starts_with('/') && !path.starts_with("//") && path.bytes().all(|byte| byte.is_ascii_graphic());
    clean.then_some(path)
}

/// `PowerState` of a ComputerSystem. There is none for S3: what a BMC says then is its vendor's choice.
pub(super) fn power_state(system: &Value) -> Reading {
    let word = system.get("PowerState").and_then(Value::as_str);
    let state = match word {
        Some("On") => PowerState::On,
        Some("Off") => PowerState::Off,
        Some("PoweringOn") => PowerState::Starting,
        _ => PowerState::Unknown,
    };
    Reading::main_power(
        state,
        format!("PowerState {}", word.map_or_else(|| "missing".to_owned(), |word| excerpt(word, 40))),
    )
}

/// How to turn a system on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ResetAction {
    /// Where the request goes.
    pub(super) target: String,
    /// The values it takes, if the system itself lists them.
    pub(super) allowed: Option<Vec<String>>,
    /// The resource that lists them otherwise.
    pub(super) action_info: Option<String>,
}

/// The action `ComputerSystem.Reset` of a system.
///
/// # Errors
///
/// It has none.
pub(super) fn reset_action(system: &Value) -> Result<ResetAction, DriverError> {
    let action = system
        .pointer("/Actions/#ComputerSystem.Reset")
        .ok_or_else(|| DriverError::NotSupported("the system has no action ComputerSystem.Reset".to_owned()))?;
    Ok(ResetAction {
        target: path(action.get("target"), "Actions.#ComputerSystem.Reset.target")?,
        allowed: words(action.get("ResetType@Redfish.AllowableValues")),
        action_info: path(action.get("@Redfish.ActionInfo"), "@Redfish.ActionInfo").ok(),
    })
}

/// The values of `ResetType` that an ActionInfo lists.
pub(super) fn allowed_by_action_info(info: &Value) -> Option<Vec<String>> {
    let parameters = info.get("Parameters")?.as_array()?;
    let reset_type =
        parameters.iter().find(|parameter| parameter.get("Name").and_then(Value::as_str) == Some("ResetType"))?;
    words(reset_type.get("AllowableValues"))
}

fn words(list: Option<&Value>) -> Option<Vec<String>> {
    Some(list?.as_array()?.iter().filter_map(|word| Some(word.as_str()?.to_owned())).collect())
}

/// The only request that is ever sent is `On`. Where a system lists what it takes, `On` must be among it.
///
/// # Errors
///
/// It isn't.
pub(super) fn may_turn_on(allowed: Option<&[String]>) -> Result<(), DriverError> {
    match allowed {
        Some(allowed) if !allowed.iter().any(|word| word == "On") => {
            Err(DriverError::NotSupported(format!("the system takes {} but not On", excerpt(&allowed.join(", "), 160))))
        }
        _ => Ok(()),
    }
}

/// What the service says in its own words, from `error.@Message.ExtendedInfo` or `error.message`.
pub(super) fn message(body: &[u8]) -> String {
    let Ok(body) = serde_json::from_slice::<Value>(body) else { return String::new() };
    let extended = body.pointer("/error/@Message.ExtendedInfo").and_then(Value::as_array);
    let mut messages: Vec<&str> =
        extended.into_iter().flatten().filter_map(|info| info.get("Message")?.as_str()).collect();
    if messages.is_empty() {
        messages.extend(body.pointer("/error/message").and_then(Value::as_str));
    }
    excerpt(&messages.join(" "), 200)
}

/// What a status other than success means.
pub(super) fn refusal(status: u16, what: &str, body: &[u8]) -> DriverError {
    let said = message(body);
    let text =
        if said.is_empty() { format!("{what}: HTTP {status}") } else { format!("{what}: HTTP {status}, {said}") };
    match status {
        401 => DriverError::WrongCredentials(text),
        403 => DriverError::NotPermitted(text),
        404 => DriverError::NotProvisioned(text),
        405 | 501 => DriverError::NotSupported(text),
        408 | 425 | 429 | 500 | 502..=599 => DriverError::Busy(text),
        300..=399 => DriverError::Garbled(format!("{text} (a redirection)")),
        _ => DriverError::Refused(text),
    }
}

/// How far a task is that an action became (`TaskState` of a Task, or the status of its monitor).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Task {
    /// Not yet done.
    Running,
    /// Done.
    Done,
    /// Given up.
    Failed(String),
}

/// Reads a task monitor's answer.
pub(super) fn task(status: u16, body: &[u8]) -> Task {
    let parsed: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let said = parsed.pointer("/Messages/0/Message").and_then(Value::as_str).unwrap_or_default();
    match (status, parsed.get("TaskState").and_then(Value::as_str)) {
        (200..=299, Some(state @ ("Exception" | "Killed" | "Cancelled" | "Interrupted"))) => {
            Task::Failed(format!("the task ended as {state}: {}", excerpt(said, 160)))
        }
        (200..=299, Some("Completed")) | (200 | 201 | 204, None) => Task::Done,
        (200..=299, _) => Task::Running,
        // The monitor is gone once it was read to its end.
        (404 | 410, _) => Task::Done,
        _ => Task::Failed(format!("the task's monitor answers HTTP {status}")),
    }
}

/// Whether a 401 to Basic means that only sessions are allowed here: a service that offers Basic says so
/// (RFC 9110 §11.6.1), one where it is turned off doesn't.
pub(super) fn basic_is_offered<'a>(mut challenges: impl Iterator<Item = &'a str>) -> bool {
    challenges.any(|challenge| {
        challenge
            .split(',')
            .any(|part| part.trim_start().get(..5).is_some_and(|word| word.eq_ignore_ascii_case("basic")))
    })
}

#[cfg(test)]
mod tests {
    use super::super::{
        login::{grant, login_refusal},
        systems::{described, is_called, members, only_system, wanted},
    };
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn only_on_is_sent_and_only_where_it_is_allowed() {
        let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert!(may_turn_on(None).is_ok());
        assert!(may_turn_on(Some(&list(&["On", "ForceRestart"]))).is_ok());
        let error = may_turn_on(Some(&list(&["ForceRestart", "PushPowerButton"]))).unwrap_err();
        assert_eq!(error.to_string(), "not supported: the system takes ForceRestart, PushPowerButton but not On");
    }

    #[test]
    fn links_stay_on_this_server() {
        for link in ["http://elsewhere/", "//elsewhere/", "Systems", "/a b", "/a\r\nHost: x"] {
            assert!(super::link(&json!({ "Systems": { "@odata.id": link } }), "/Systems").is_err(), "{link}");
        }
        assert_eq!(
            super::link(&json!({ "Systems": { "@odata.id": "/redfish/v1/Systems" } }), "/Systems").unwrap(),
            "/redfish/v1/Systems"
        );
    }

    #[test]
    fn every_status_has_its_meaning() {
        let body = json!({ "error": { "@Message.ExtendedInfo": [{ "Message": "The system is\nbusy." }] } }).to_string();
        assert_eq!(
            refusal(503, "reset", body.as_bytes()),
            DriverError::Busy("reset: HTTP 503, The system is busy.".into())
        );
        assert!(matches!(refusal(401, "x", b"<html>"), DriverError::WrongCredentials(_)));
        assert!(matches!(refusal(403, "x", b""), DriverError::NotPermitted(_)));
        assert!(matches!(refusal(400, "x", b""), DriverError::Refused(_)));
        assert!(matches!(refusal(501, "x", b""), DriverError::NotSupported(_)));
        assert!(basic_is_offered(["Digest realm=\"a\", Basic realm=\"b\""].into_iter()));
        assert!(!basic_is_offered(["X-Auth-Token"].into_iter()));
    }

    #[test]
    fn tasks_run_end_and_fail() {
        assert_eq!(task(202, b""), Task::Running);
        assert_eq!(task(200, br#"{"TaskState":"Running"}"#), Task::Running);
        assert_eq!(task(200, br#"{"TaskState":"Completed"}"#), Task::Done);
        assert_eq!(task(204, b""), Task::Done);
        assert!(matches!(task(200, br#"{"TaskState":"Exception","Messages":[{"Message":"no"}]}"#), Task::Failed(_)));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "\\PC{0,12}".prop_map(Value::from)
        ];
        leaf.prop_recursive(5, 40, 5, |inner| {
            let key = prop_oneof!["\\PC{0,6}", "(Actions|#ComputerSystem.Reset|target|Members|@odata.id|Parameters|Name|AllowableValues|error|code|Id|MessageId|@Message.ExtendedInfo|SerialNumber|PowerState|TaskState|Messages)"];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(key, inner, 0..4).prop_map(Value::from_iter),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_json_has_a_meaning_or_an_error(json in any_json(), bytes in prop::collection::vec(any::<u8>(), 0..64), status in 100u16..1000) {
            let _ = (only_system(&members(&json)), is_called(&json, "x"), described("/x", &json), reset_action(&json), allowed_by_action_info(&json), power_state(&json));
            let text = json.to_string();
            for body in [text.as_bytes(), &bytes] {
                let _ = (login_refusal(status, "/s", body), wanted(&text));
                for header in [None, Some(text.as_str())] {
                    if let Some(path) = grant(header, body, "/s") {
                        prop_assert!(path.starts_with('/') && !path.starts_with("//"), "{}", path);
                    }
                }
            }
            let _ = (refusal(status, "x", text.as_bytes()), task(status, text.as_bytes()), refusal(status, "x", &bytes), task(status, &bytes));
        }
    }
}
