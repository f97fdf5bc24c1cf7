//! What the API server means by its refusals.
//!
//! A missing object is told by a `Status` that names it. A missing kind (its CustomResourceDefinition is not installed, or
//! not served yet) is told in two ways: below the groups of CRDs by the plain text "404 page not found", below Kubernetes'
//! own by a `Status` that names nothing. Any other page with the code 404 is that of a proxy on the way: it says nothing
//! about the cluster, and must not be taken for "there are no VMs".

use kube::Error;

/// The whole answer where no API is registered for a path.
const NO_ROUTE: &str = "404 page not found";

/// What is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// The object; its kind is known.
    Object,
    /// The kind, and so every object of it.
    Kind,
}

/// What is not there, if that is what an error says.
#[must_use]
pub fn absent(error: &Error) -> Option<Absent> {
    let Error::Api(status) = error else { return None };
    if status.reason == "NotFound" {
        let named = status.details.as_ref().is_some_and(|details| !details.name.is_empty());
        return Some(if named { Absent::Object } else { Absent::Kind });
    }
    (status.code == 404 && status.message.trim() == NO_ROUTE).then_some(Absent::Kind)
}

/// Neither the object nor, maybe, its kind is there.
#[must_use]
pub fn is_absent(error: &Error) -> bool {
    absent(error).is_some()
}

/// The kind itself is not there.
#[must_use]
pub fn is_unknown_kind(error: &Error) -> bool {
    absent(error) == Some(Absent::Kind)
}

/// A list's or watch's place is too old to go on from: begin anew.
#[must_use]
pub fn is_expired(error: &Error) -> bool {
    matches!(error, Error::Api(status) if status.code == 410)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    fn error(code: u16, text: &str) -> Error {
        // As kube reads an answer: a Status, or whatever text came.
        let status = serde_json::from_str::<Status>(text)
            .unwrap_or_else(|_| Status::failure(text.trim(), "Failed to parse error data").with_code(code));
        Error::Api(Box::new(status))
    }

    #[test]
    fn every_form_of_not_there_is_understood() {
        let object = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","reason":"NotFound","code":404,
            "message":"nodes \"a\" not found","details":{"name":"a","kind":"nodes"}}"#;
        let built_in = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","reason":"NotFound","code":404,
            "message":"the server could not find the requested resource","details":{}}"#;
        for (text, expected) in [
            (object, Some(Absent::Object)),
            (built_in, Some(Absent::Kind)),
            ("404 page not found\n", Some(Absent::Kind)),
            ("<html>default backend - 404</html>", None),
        ] {
            assert_eq!(absent(&error(404, text)), expected, "{text}");
        }
    }

    #[test]
    fn other_refusals_are_something_else() {
        for code in [400, 401, 403, 405, 409, 410, 422, 429, 500, 503] {
            assert_eq!(absent(&error(code, "page not found")), None, "{code}");
        }
        assert!(is_expired(&error(410, "too old")) && !is_expired(&error(404, "404 page not found")));
    }
}
