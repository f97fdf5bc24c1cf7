//! What the API server answers when it says no: `Status` objects with the real server's code, reason, message and details.

use super::registry::Resource;
use serde_json::{Value, json};

/// A refusal, shaped as the real API server shapes it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// The HTTP status code.
    pub code: u16,
    /// The machine-readable reason, such as `NotFound`; empty where the real server gives none.
    pub reason: &'static str,
    /// The sentence for people.
    pub message: String,
    /// `details` of the Status: name, group, kind, causes, `retryAfterSeconds`.
    pub details: Option<Value>,
    /// The answer is no Status: the message alone, as plain text.
    pub plain: bool,
}

/// One field that is wrong, as in the `causes` of an `Invalid` answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// The reason, such as `FieldValueInvalid`.
    pub reason: &'static str,
    /// The field's path, such as `spec.vmiName`.
    pub field: String,
    /// What is wrong, without the path.
    pub message: String,
}

impl FieldError {
    /// A value that may not be.
    pub fn invalid(field: impl Into<String>, value: &Value, what: impl std::fmt::Display) -> Self {
        let shown = match value {
            Value::Object(_) | Value::Array(_) | Value::Null => value.to_string(),
            Value::String(text) => format!("{text:?}"),
            other => other.to_string(),
        };
        Self { reason: "FieldValueInvalid", field: field.into(), message: format!("Invalid value: {shown}: {what}") }
    }

    /// A field that must be there.
    pub fn required(field: impl Into<String>, what: &str) -> Self {
        let message = if what.is_empty() { "Required value".to_owned() } else { format!("Required value: {what}") };
        Self { reason: "FieldValueRequired", field: field.into(), message }
    }

    /// A change that may not be made.
    pub fn forbidden(field: impl Into<String>, what: &str) -> Self {
        Self { reason: "FieldValueForbidden", field: field.into(), message: format!("Forbidden: {what}") }
    }
}

impl ApiError {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None, plain: false }
    }

    fn about(mut self, resource: &Resource, name: &str) -> Self {
        let mut details = serde_json::Map::new();
        if !name.is_empty() {
            details.insert("name".into(), name.into());
        }
        if !resource.group.is_empty() {
            details.insert("group".into(), resource.group.clone().into());
        }
        details.insert("kind".into(), resource.plural.clone().into());
        self.details = Some(Value::Object(details));
        self
    }

    /// 400: the request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 404: no such object.
    pub fn not_found(resource: &Resource, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{} {name:?} not found", resource.qualified())).about(resource, name)
    }

    /// 404 in plain text: no such page. So the real server answers below groups that nobody serves and below those of
    /// CRDs, where it has no routes of its own.
    pub fn page_not_found() -> Self {
        Self { plain: true, ..Self::new(404, "", "404 page not found") }
    }

    /// 404: no such path below one of Kubernetes' own groups.
    pub fn unknown_path() -> Self {
        let mut error = Self::new(404, "NotFound", "the server could not find the requested resource");
        error.details = Some(json!({}));
        error
    }

    /// 405: the resource does not know the verb.
    pub fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        let mut error = Self::new(405, "MethodNotAllowed", message);
        error.details = Some(json!({}));
        error
    }

    /// 409: the name is taken.
    pub fn already_exists(resource: &Resource, name: &str) -> Self {
        Self::new(409, "AlreadyExists", format!("{} {name:?} already exists", resource.qualified()))
            .about(resource, name)
    }

    /// 409: somebody else was faster, or a precondition does not hold; `why` says which.
    pub fn conflict(resource: &Resource, name: &str, why: impl std::fmt::Display) -> Self {
        let message = format!("Operation cannot be fulfilled on {} {name:?}: {why}", resource.qualified());
        Self::new(409, "Conflict", message).about(resource, name)
    }

    /// 409: a precondition of a delete does not hold. The real server names the kind here, not the resource.
    pub fn delete_precondition(resource: &Resource, name: &str, why: impl std::fmt::Display) -> Self {
        let named = Resource { plural: resource.kind.clone(), ..resource.clone() };
        Self::conflict(&named, name, why)
    }

    /// 422: a replace must say which version it replaces. The real server names the resource here, not the kind.
    pub fn version_required(resource: &Resource, name: &str) -> Self {
        let what = "Invalid value: 0: must be specified for an update";
        let field = "metadata.resourceVersion";
        let message = format!("{} {name:?} is invalid: {field}: {what}", resource.qualified());
        let mut error = Self::new(422, "Invalid", message).about(resource, name);
        if let Some(details) = &mut error.details {
            details["causes"] = json!([{ "reason": "FieldValueInvalid", "message": what, "field": field }]);
        }
        error
    }

    /// 422: the body is of another kind than the custom resource.
    pub fn wrong_kind(resource: &Resource, name: &str, kind: &str) -> Self {
        let named = Resource { kind: kind.to_owned(), ..resource.clone() };
        let wrong = FieldError::invalid("kind", &kind.into(), format!("must be {}", resource.kind));
        Self::invalid(&named, name, &[wrong])
    }

    /// 409: the object has another resourceVersion than the request.
    pub fn modified(resource: &Resource, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(resource, name, why)
    }

    /// 409: a server-side apply would take fields from other managers.
    pub fn apply_conflict(message: String, causes: Vec<Value>) -> Self {
        let mut error = Self::new(409, "Conflict", message);
        error.details = Some(json!({ "causes": causes }));
        error
    }

    /// 403: the requester may not; `why` says what forbids it.
    pub fn forbidden(resource: &Resource, name: &str, why: impl std::fmt::Display) -> Self {
        let message = format!("{} {name:?} is forbidden: {why}", resource.qualified());
        Self::new(403, "Forbidden", message).about(resource, name)
    }

    /// What the server says when an admission webhook refuses: `code` and `reason` are the webhook's.
    pub fn refused_by_webhook(webhook: &str, code: u16, reason: &'static str, message: &str) -> Self {
        Self::new(code, reason, format!("admission webhook {webhook:?} denied the request: {message}"))
    }

    /// 422: fields of the object are wrong.
    pub fn invalid(resource: &Resource, name: &str, errors: &[FieldError]) -> Self {
        let kind = match resource.group.as_str() {
            "" => resource.kind.clone(),
            group => format!("{}.{group}", resource.kind),
        };
        let mut texts: Vec<String> = vec![];
        for error in errors {
            let text = format!("{}: {}", error.field, error.message);
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        let what = match texts.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let mut error = Self::new(422, "Invalid", format!("{kind} {name:?} is invalid: {what}")).about(resource, name);
        if let Some(details) = &mut error.details {
            details["kind"] = resource.kind.clone().into();
            let cause =
                |error: &FieldError| json!({"reason": error.reason, "message": error.message, "field": error.field});
            details["causes"] = errors.iter().map(cause).collect();
        }
        error
    }

    /// 410: the resourceVersion is older than what the server remembers.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 415: the patch's content type is unknown.
    pub fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// 422: a JSON patch that does not fit the object. The real server does not say why either.
    #[must_use]
    pub fn unprocessable_patch() -> Self {
        let mut error = Self::new(422, "Invalid", "the server rejected our request due to an error in our request");
        error.details = Some(json!({}));
        error
    }

    /// 429: come back later.
    pub fn too_many_requests(retry_after_seconds: u32) -> Self {
        let mut error = Self::new(429, "TooManyRequests", "Too many requests, please try again later.");
        error.details = Some(json!({ "retryAfterSeconds": retry_after_seconds }));
        error
    }

    /// 500: something broke inside the server.
    pub fn internal(message: impl std::fmt::Display) -> Self {
        let mut error = Self::new(500, "InternalError", format!("Internal error occurred: {message}"));
        error.details = Some(json!({ "causes": [{ "message": message.to_string() }] }));
        error
    }

    /// 500 without a reason: an error that the real server's registry passes on as it is.
    pub fn internal_plain(message: &str) -> Self {
        Self::new(500, "", message)
    }

    /// 422: the options of a list or watch contradict each other.
    pub fn invalid_list_options(field: &str, what: &str) -> Self {
        Self::invalid_options("ListOptions", field, what)
    }

    /// 422: the options of a patch do not fit its kind.
    pub fn invalid_patch_options(field: &str, what: &str) -> Self {
        Self::invalid_options("PatchOptions", field, what)
    }

    fn invalid_options(kind: &str, field: &str, what: &str) -> Self {
        let mut error = Self::new(422, "Invalid", format!("{kind}.meta.k8s.io \"\" is invalid: {field}: {what}"));
        let reason = match what.split(':').next() {
            Some("Forbidden") => "FieldValueForbidden",
            Some("Required value") => "FieldValueRequired",
            _ => "FieldValueInvalid",
        };
        error.details = Some(json!({
            "group": "meta.k8s.io", "kind": kind,
            "causes": [{ "reason": reason, "message": what, "field": field }],
        }));
        error
    }

    /// 504: a read asked for a version that does not exist yet.
    pub fn too_large_version(wanted: u64, newest: u64) -> Self {
        let mut error = Self::new(504, "Timeout", format!("Too large resource version: {wanted}, current: {newest}"));
        error.details = Some(json!({
            "causes": [{ "reason": "ResourceVersionTooLarge", "message": "Too large resource version" }],
            "retryAfterSeconds": 1,
        }));
        error
    }

    /// 409 as after a concurrent change, for injected faults.
    pub fn injected_conflict(resource: &str, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::new(409, "Conflict", format!("Operation cannot be fulfilled on {resource} {name:?}: {why}"))
    }

    /// 503: the server is not there.
    pub fn unavailable() -> Self {
        Self::new(503, "ServiceUnavailable", "apiserver not ready")
    }

    /// 504: the server's own deadline passed.
    pub fn timeout() -> Self {
        let mut error = Self::new(504, "Timeout", "Timeout: request did not complete within the allotted timeout");
        error.details = Some(json!({}));
        error
    }

    /// The Status object.
    pub fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {},
            "status": "Failure", "message": self.message,
        });
        if !self.reason.is_empty() {
            status["reason"] = self.reason.into();
        }
        if let Some(details) = &self.details {
            status["details"] = details.clone();
        }
        status["code"] = self.code.into();
        status
    }
}
