//! Errors as `k8s.io/apimachinery/pkg/util/validation/field` words them.

use super::go;
use serde_json::Value;
use std::fmt;

/// The class of an error, which decides how it is worded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ErrorKind {
    /// Of the right type, but not allowed.
    Invalid,
    /// Of the wrong type.
    TypeInvalid,
    /// None of the allowed values.
    NotSupported,
    /// Absent.
    Required,
    /// There twice.
    Duplicate,
    /// A text of too many characters.
    TooLong,
    /// A list or map of too many items.
    TooMany,
    /// The object can't be decoded at all.
    Decode,
}

/// One thing that the API server does not like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// The class.
    pub kind: ErrorKind,
    /// The field, such as `spec.wake[0].driver`; `<nil>` for the object itself.
    pub field: String,
    /// What is wrong, without the field.
    pub body: String,
}

const RULES_NOT_CHECKED: &str = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            ErrorKind::Decode => f.write_str(&self.body),
            _ => write!(f, "{}: {}", self.field, self.body),
        }
    }
}

impl FieldError {
    fn new(kind: ErrorKind, field: &str, body: String) -> Self {
        let field = if field.is_empty() { "<nil>" } else { field };
        Self { kind, field: field.to_owned(), body }
    }

    pub(super) fn invalid(field: &str, value: &Value, detail: &str) -> Self {
        Self::new(ErrorKind::Invalid, field, format!("Invalid value: {}: {detail}", go::value(value)))
    }

    /// A rule failed on an object or list, whose value is left out.
    pub(super) fn invalid_without_value(field: &str, detail: &str) -> Self {
        Self::new(ErrorKind::Invalid, field, format!("Invalid value: {detail}"))
    }

    /// `found` is the name of the type that was found, which the API server gives as the value.
    pub(super) fn type_invalid(field: &str, expected: &str, found: &str) -> Self {
        let found = go::quoted(found);
        let body = format!("Invalid value: {found}: {field} in body must be of type {expected}: {found}");
        Self::new(ErrorKind::TypeInvalid, field, body)
    }

    /// A text of the wrong format.
    pub(super) fn type_invalid_text(field: &str, text: &str, detail: &str) -> Self {
        Self::new(ErrorKind::TypeInvalid, field, format!("Invalid value: {}: {detail}", go::quoted(text)))
    }

    pub(super) fn not_supported(field: &str, value: &Value, supported: &[Value]) -> Self {
        let supported: Vec<_> = supported
            .iter()
            .map(|value| go::quoted(value.as_str().map_or_else(|| value.to_string(), str::to_owned).as_str()))
            .collect();
        let body = format!("Unsupported value: {}: supported values: {}", go::value(value), supported.join(", "));
        Self::new(ErrorKind::NotSupported, field, body)
    }

    pub(super) fn required(field: &str, detail: &str) -> Self {
        let colon = if detail.is_empty() { "" } else { ": " };
        Self::new(ErrorKind::Required, field, format!("Required value{colon}{detail}"))
    }

    pub(super) fn duplicate(field: &str, value: &Value) -> Self {
        Self::new(ErrorKind::Duplicate, field, format!("Duplicate value: {}", go::value(value)))
    }

    pub(super) fn too_long(field: &str, most: u64) -> Self {
        let unit = if most == 1 { "byte" } else { "bytes" };
        Self::new(ErrorKind::TooLong, field, format!("Too long: may not be more than {most} {unit}"))
    }

    pub(super) fn too_many(field: &str, count: usize, most: u64) -> Self {
        let unit = if most == 1 { "item" } else { "items" };
        Self::new(ErrorKind::TooMany, field, format!("Too many: {count}: must have at most {most} {unit}"))
    }

    pub(super) fn unknown_field(field: &str) -> Self {
        let body = format!("strict decoding error: unknown field {}", go::quoted(field));
        Self::new(ErrorKind::Decode, field, body)
    }

    pub(super) fn undecodable(field: &str, body: String) -> Self {
        Self::new(ErrorKind::Decode, field, body)
    }

    pub(super) fn rules_not_checked() -> Self {
        Self::invalid("", &Value::Null, RULES_NOT_CHECKED)
    }

    /// It only tells that other errors kept the rules from being checked.
    #[must_use]
    pub fn is_about_rules_alone(&self) -> bool {
        self.body.ends_with(RULES_NOT_CHECKED)
    }

    /// With this error the CEL rules are not evaluated: they could not rely on what they are about.
    pub(super) fn blocks_rules(&self) -> bool {
        matches!(
            self.kind,
            ErrorKind::NotSupported
                | ErrorKind::Required
                | ErrorKind::TooLong
                | ErrorKind::TooMany
                | ErrorKind::TypeInvalid
        )
    }
}
