//! What a service says when it is asked for a session. Pure.

use super::answers::{location_path, message, path, refusal};
use crate::wake::DriverError;
use serde_json::Value;

/// Where a new session is given back: the `Location` of its answer, or what the body says it is called. Some services
/// leave out the one, some the other.
pub(super) fn grant(header: Option<&str>, body: &[u8], sessions: &str) -> Option<String> {
    let body: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let collection = sessions.trim_end_matches('/');
    let by_id = || {
        let id = body.get("Id")?;
        let id = id.as_str().map(str::to_owned).or_else(|| id.as_u64().map(|id| id.to_string()))?;
        let clean = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte));
        clean.then(|| format!("{collection}/{id}"))
    };
    // Some name the collection instead of the session.
    let of_session = |path: &String| path.trim_end_matches('/') != collection;
    header
        .and_then(|location| location_path(location, collection))
        .filter(of_session)
        .or_else(|| path(body.get("@odata.id"), "@odata.id").ok().filter(of_session))
        .or_else(by_id)
}

/// Whether a service has no session left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    /// It says so, in one of many ways.
    Reached,
    /// It says something else.
    Other,
}

/// What a refused login means. Services say in many ways that they have no session left: 503, 429 or 507, or 400 and even
/// 401 or 403 with a message of that kind.
pub(super) fn login_refusal(status: u16, sessions: &str, body: &[u8]) -> (DriverError, Limit) {
    let said = message(body);
    let text = if said.is_empty() {
        format!("{sessions}: HTTP {status}")
    } else {
        format!("{sessions}: HTTP {status}, {said}")
    };
    let ids = message_ids(body);
    let says = |word: &str| ids.iter().any(|id| id.contains(word));
    let words = said.to_ascii_lowercase();
    let full = ["limit", "maximum", "max ", "exceed", "no more", "too many", "full", "exhaust", "already open"];
    let by_words = words.contains("session") && full.iter().any(|word| words.contains(word));
    let by_id = says("SessionLimitExceeded")
        || says("CreateLimitReachedForResource")
        || says("MaxSession")
        || says("MaximumSession")
        || says("TooManySessions")
        || says("RAC0218");
    if by_id || by_words || matches!(status, 429 | 503 | 507) {
        return (DriverError::NoSession(text), Limit::Reached);
    }
    let error = match status {
        _ if says("PasswordChangeRequired") => DriverError::NotProvisioned(format!(
            "{text}: the BMC wants another password for this account first; change it in the BMC's own menu"
        )),
        401 | 403 if says("AccountLocked") || words.contains("locked") => DriverError::AccountLocked(text),
        400 | 401 | 403 => DriverError::WrongCredentials(text),
        404 | 405 | 501 => DriverError::WrongCredentials(format!(
            "Basic was refused with HTTP 401, and there are no sessions (HTTP {status} from {sessions})"
        )),
        _ => refusal(status, sessions, body),
    };
    (error, Limit::Other)
}

/// The messages' names, such as `Base.1.8.SessionLimitExceeded`, wherever the service puts them.
fn message_ids(body: &[u8]) -> Vec<String> {
    let Ok(body) = serde_json::from_slice::<Value>(body) else { return Vec::new() };
    let extended = ["/error/@Message.ExtendedInfo", "/@Message.ExtendedInfo"].map(|at| body.pointer(at));
    let messages = extended.into_iter().flatten().flat_map(|info| match info {
        Value::Array(several) => several.iter().collect(),
        one => vec![one],
    });
    let ids = messages.filter_map(|info| info.get("MessageId").or_else(|| info.get("MessageID"))?.as_str());
    ids.chain(body.pointer("/error/code").and_then(Value::as_str)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_session_is_given_back_wherever_its_answer_says() {
        for (header, body, path) in [
            (Some("/redfish/v1/S/7"), "{}", Some("/redfish/v1/S/7")),
            (Some("https://idrac.local/redfish/v1/S/7"), "", Some("/redfish/v1/S/7")),
            (Some("7"), "", Some("/s/7")),
            (None, r#"{"@odata.id":"/redfish/v1/S/8"}"#, Some("/redfish/v1/S/8")),
            (Some("/s/"), r#"{"Id":"9"}"#, Some("/s/9")),
            (None, r#"{"@odata.id":"/s","Id":9}"#, Some("/s/9")),
            (Some("//evil/7"), r#"{"Id":"../x"}"#, None),
            (None, "<html>", None),
        ] {
            assert_eq!(grant(header, body.as_bytes(), "/s/").as_deref(), path, "{header:?} {body}");
        }
    }

    #[test]
    fn no_session_left_is_told_from_a_wrong_password() {
        let info = |id: &str, message: &str| {
            json!({ "error": { "code": "x", "@Message.ExtendedInfo": [{ "MessageId": id, "Message": message }] } })
                .to_string()
        };
        for (status, body, category) in [
            (503, String::new(), "NoSession"),
            (429, "<html>".to_owned(), "NoSession"),
            (400, info("Base.1.8.SessionLimitExceeded", "x"), "NoSession"),
            (400, info("Base.1.4.0.CreateLimitReachedForResource", "The create operation failed."), "NoSession"),
            (403, info("IDRAC.2.1.RAC0218", "x"), "NoSession"),
            (401, info("x", "The maximum number of user sessions is reached."), "NoSession"),
            (500, r#"{"error":{"code":"Base.1.0.SessionLimitExceeded"}}"#.to_owned(), "NoSession"),
            (400, r#"{"@Message.ExtendedInfo":{"MessageId":"iLO.2.14.MaxSessions"}}"#.to_owned(), "NoSession"),
            (400, info("Base.1.8.PropertyMissing", "UserName is missing."), "WrongCredentials"),
            (401, info("Base.1.8.NoValidSession", "There is no valid session."), "WrongCredentials"),
            (401, "<html>no</html>".to_owned(), "WrongCredentials"),
            (403, info("x", "The account is locked."), "AccountLocked"),
            (403, info("Base.1.8.PasswordChangeRequired", "x"), "NotProvisioned"),
            (404, String::new(), "WrongCredentials"),
            (502, String::new(), "Busy"),
        ] {
            assert_eq!(login_refusal(status, "/s", body.as_bytes()).0.category(), category, "{status} {body}");
        }
    }
}
