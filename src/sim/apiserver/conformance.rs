//! One script of requests that the real API server and this one must answer alike.
//!
//! [`script`] is data; [`run`] sends it through any `kube::Client` and gives what came back with everything that may
//! differ from run to run masked (uids, versions, times, generated names, tokens); [`differences`] compares two runs.
//! The end-to-end tests run it against the real server, the tests of this module against this one.

mod apply_steps;
mod builtin_steps;
mod definitions;
mod mask;
mod read_steps;
mod write_steps;

pub use definitions::crds;

use http::Request;
use http_body_util::BodyExt;
use kube::Client;
use mask::Mask;
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};

/// The API group of the script's own custom resources.
pub const GROUP: &str = "conformance.miyako.dev";

/// One request.
#[derive(Clone, Debug)]
pub struct Step {
    /// What it shows; unique within the script.
    pub name: &'static str,
    method: &'static str,
    path: String,
    content_type: &'static str,
    accept: &'static str,
    body: Option<Value>,
    watches: bool,
}

/// What came back, masked.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The step's name.
    pub step: &'static str,
    /// The HTTP status code.
    pub code: u16,
    /// The body; a list of `[type, object]` for watches.
    pub body: Value,
}

/// Why the script could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub enum ConformanceError {
    /// The step's request cannot be written.
    #[error("step {step:?} is no valid request")]
    Request {
        /// The step's name.
        step: &'static str,
        /// Why.
        #[source]
        source: http::Error,
    },
    /// The server gave no answer.
    #[error("step {step:?} got no answer")]
    NoAnswer {
        /// The step's name.
        step: &'static str,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
}

impl Step {
    fn new(name: &'static str, method: &'static str, path: impl Into<String>) -> Self {
        let content_type = match method {
            "PATCH" => "application/merge-patch+json",
            _ => "application/json",
        };
        Self { name, method, path: path.into(), content_type, accept: "application/json", body: None, watches: false }
    }

    fn get(name: &'static str, path: impl Into<String>) -> Self {
        Self::new(name, "GET", path)
    }

    fn post(name: &'static str, path: impl Into<String>, body: Value) -> Self {
        Self::new(name, "POST", path).body(body)
    }

    fn put(name: &'static str, path: impl Into<String>, body: Value) -> Self {
        Self::new(name, "PUT", path).body(body)
    }

    fn patch(name: &'static str, path: impl Into<String>, body: Value) -> Self {
        Self::new(name, "PATCH", path).body(body)
    }

    fn delete(name: &'static str, path: impl Into<String>) -> Self {
        Self::new(name, "DELETE", path)
    }

    fn watch(name: &'static str, path: impl Into<String>) -> Self {
        Self { watches: true, ..Self::new(name, "GET", path) }
    }

    fn body(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    fn content_type(mut self, content_type: &'static str) -> Self {
        self.content_type = content_type;
        self
    }

    fn accept(mut self, accept: &'static str) -> Self {
        self.accept = accept;
        self
    }
}

const JSON_PATCH: &str = "application/json-patch+json";
const STRATEGIC_PATCH: &str = "application/strategic-merge-patch+json";
const APPLY_PATCH: &str = "application/apply-patch+yaml";

/// The whole script, for a namespace that exists and holds none of its objects. The server must serve [`crds`].
#[must_use]
pub fn script(namespace: &str) -> Vec<Step> {
    let mut steps = write_steps::steps(namespace);
    steps.extend(apply_steps::steps(namespace));
    steps.extend(read_steps::steps(namespace));
    steps.extend(builtin_steps::steps(namespace));
    steps
}

/// Sends a script's requests one after the other.
///
/// A text `$FIELD(STEP)` in a path or body stands for `metadata.FIELD` of that step's answer.
///
/// # Errors
/// When a request gets no answer at all; refusals are answers.
pub async fn run(client: &Client, script: &[Step]) -> Result<Vec<Answer>, ConformanceError> {
    let mut seen: BTreeMap<&'static str, Value> = BTreeMap::new();
    let mut answers = vec![];
    for step in script {
        let path = fill_in(&step.path, &seen).replace(' ', "%20").replace('"', "%22");
        let body = step.body.as_ref().map(|body| fill_in(&body.to_string(), &seen)).unwrap_or_default();
        let request = Request::builder()
            .method(step.method)
            .uri(path)
            .header(http::header::CONTENT_TYPE, step.content_type)
            .header(http::header::ACCEPT, step.accept)
            .body(body.into_bytes().into())
            .map_err(|source| ConformanceError::Request { step: step.name, source })?;
        let no_answer = |source| ConformanceError::NoAnswer { step: step.name, source: Box::new(source) };
        let response = client.send(request).await.map_err(no_answer)?;
        let code = response.status().as_u16();
        let bytes = if step.watches && code == 200 {
            read_for_a_while(response.into_body()).await.map_err(no_answer)?
        } else {
            response.into_body().collect_bytes().await.map_err(no_answer)?.to_vec()
        };
        let body = if step.watches && code == 200 { events(&bytes) } else { parse(&bytes) };
        let mask = Mask::of(&body);
        answers.push(Answer { step: step.name, code, body: mask.apply(&body) });
        seen.insert(step.name, body);
    }
    Ok(answers)
}

/// How long a watch is read: its own `timeoutSeconds` ends it earlier, or it has said all it will.
const WATCHED_FOR: Duration = Duration::from_secs(5);

async fn read_for_a_while(mut body: kube::client::Body) -> Result<Vec<u8>, kube::Error> {
    let mut text = vec![];
    let read = async {
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame?.into_data() {
                text.extend_from_slice(&data);
            }
        }
        Ok(())
    };
    match tokio::time::timeout(WATCHED_FOR, read).await {
        Ok(Err(error)) => Err(error),
        Ok(Ok(())) | Err(_) => Ok(text),
    }
}

fn parse(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(bytes).trim().to_owned()))
}

/// The events of a watch, less the bookmarks that servers may send whenever they like.
fn events(bytes: &[u8]) -> Value {
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let mut events = vec![];
    for event in lines.map(parse) {
        if event["type"] != "BOOKMARK" {
            events.push(json!([event["type"], event["object"]]));
            continue;
        }
        let object = &event["object"];
        let annotations = &object["metadata"]["annotations"];
        if annotations["k8s.io/initial-events-end"] == "true" {
            events.push(json!(["BOOKMARK", {
                "kind": object["kind"], "apiVersion": object["apiVersion"], "metadata": {"annotations": annotations},
            }]));
        }
    }
    Value::Array(events)
}

/// Puts earlier answers in place of `$FIELD(STEP)`.
fn fill_in(text: &str, seen: &BTreeMap<&'static str, Value>) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        filled.push_str(&rest[..at]);
        let reference = rest[at + 1..].split_once(')').and_then(|(inside, after)| {
            let (field, step) = inside.split_once('(')?;
            let found = seen.get(step)?["metadata"].get(field)?.as_str()?;
            Some((found, after))
        });
        match reference {
            Some((found, after)) => {
                filled.push_str(found);
                rest = after;
            }
            None => {
                filled.push('$');
                rest = &rest[at + 1..];
            }
        }
    }
    filled.push_str(rest);
    filled
}

/// Where two runs of one script differ, a few lines per step.
#[must_use]
pub fn differences(left: &[Answer], right: &[Answer]) -> Vec<String> {
    let mut found = vec![];
    for (left, right) in left.iter().zip(right) {
        if left.code != right.code {
            found.push(format!("{}: code {} against {}", left.step, left.code, right.code));
        }
        compare(left.step, "", &left.body, &right.body, &mut found);
    }
    if left.len() != right.len() {
        found.push(format!("{} answers against {}", left.len(), right.len()));
    }
    found
}

fn compare(step: &str, path: &str, left: &Value, right: &Value, found: &mut Vec<String>) {
    match (left, right) {
        (Value::Object(a), Value::Object(b)) => {
            let nothing = Value::String("(absent)".into());
            let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for name in names {
                let (inner_a, inner_b) = (a.get(name).unwrap_or(&nothing), b.get(name).unwrap_or(&nothing));
                compare(step, &format!("{path}.{name}"), inner_a, inner_b, found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (at, (inner_a, inner_b)) in a.iter().zip(b).enumerate() {
                compare(step, &format!("{path}[{at}]"), inner_a, inner_b, found);
            }
        }
        _ if left == right => {}
        _ => found.push(format!("{step}: {path}: {left} against {right}")),
    }
}
