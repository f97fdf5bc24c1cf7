//! One thing that is wrong, or could be meant otherwise.

use super::input::Place;
use serde::{Serialize, Serializer, ser::SerializeStruct};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The API server or the operator will refuse it.
    Error,
    /// It will be taken, but hardly as it is meant.
    Warning,
}

impl Severity {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One thing that is wrong, or could be meant otherwise. Ordered as people read them: by place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Where.
    pub place: Place,
    /// How bad.
    pub severity: Severity,
    /// The object, as `Kind/name`; empty if it is the file.
    pub object: String,
    /// The field, such as `spec.wake[0].driver`; `<nil>` for the object itself, empty for the file.
    pub field: String,
    /// What is wrong.
    pub problem: String,
    /// What to write.
    pub fix: Option<String>,
}

impl Finding {
    pub(super) fn of_file(severity: Severity, place: &Place, problem: &str) -> Self {
        Self {
            place: place.clone(),
            severity,
            object: String::new(),
            field: String::new(),
            problem: problem.to_owned(),
            fix: None,
        }
    }
}

impl Serialize for Finding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Finding", 7)?;
        fields.serialize_field("severity", &self.severity)?;
        fields.serialize_field("file", &self.place.file)?;
        fields.serialize_field("line", &self.place.line)?;
        fields.serialize_field("object", &self.object)?;
        fields.serialize_field("field", &self.field)?;
        fields.serialize_field("problem", &self.problem)?;
        fields.serialize_field("fix", &self.fix)?;
        fields.end()
    }
}
