//! What is wrong with an object that was read. Bad input yields a value and its problems, never a failed pass.

use std::fmt;

/// One thing wrong with one object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The field, as a person would write it (`spec.thresholds.overload`).
    pub field: String,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// Collects the problems of one object while it is converted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Notes what is wrong with a field.
    pub fn note(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem { field: field.into(), message: message.into() });
    }

    /// The value, or the default with the error noted.
    pub fn or_default<T: Default, E: fmt::Display>(&mut self, field: &str, value: Result<T, E>) -> T {
        value.unwrap_or_else(|error| {
            self.note(field, error.to_string());
            T::default()
        })
    }

    /// All that was noted.
    #[must_use]
    pub fn into_vec(self) -> Vec<Problem> {
        self.0
    }

    /// Nothing was noted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
