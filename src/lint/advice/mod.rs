//! What the API server can't know: how objects fit together, and whether the operator can serve them.
//!
//! What is said about selectors depends on what is among the given files: without Nodes nothing is said about Nodes.

mod classes;
mod policies;
mod world;

use super::{Finding, Severity, input::Object};
use serde_json::Value;
use std::collections::BTreeMap;
use world::World;

/// An object that the API server would take, and what it would store.
pub(super) type Accepted<'a> = (&'a Object, Value);

/// Whether an object is not ours to judge, but says what selectors match.
pub(super) fn is_context(object: &Object) -> bool {
    world::CONTEXT.contains(&(object.api_version(), object.kind()))
}

/// All that there is to say.
pub(super) fn advise(objects: &[Accepted<'_>]) -> Vec<Finding> {
    let mut findings = given_twice(objects);
    let world = World::new(objects, &mut findings);
    findings.extend(policies::advise(&world));
    findings.extend(classes::advise(&world));
    findings
}

/// Collects what there is to say about one object.
struct Advice<'a> {
    object: &'a Object,
    findings: Vec<Finding>,
}

impl<'a> Advice<'a> {
    fn on(object: &'a Object) -> Self {
        Self { object, findings: Vec::new() }
    }

    fn say(&mut self, severity: Severity, field: &str, problem: impl Into<String>, fix: impl Into<String>) {
        self.findings.push(Finding {
            severity,
            place: self.object.place_of(field),
            object: self.object.title(),
            field: field.to_owned(),
            problem: problem.into(),
            fix: Some(fix.into()),
        });
    }

    fn warn(&mut self, field: &str, problem: impl Into<String>, fix: impl Into<String>) {
        self.say(Severity::Warning, field, problem, fix);
    }

    /// The operator refuses this, in its own words, which may come on several lines.
    fn refuse(&mut self, field: &str, problem: &str) {
        let problem = problem.split_whitespace().collect::<Vec<_>>().join(" ");
        self.findings.push(Finding {
            severity: Severity::Error,
            place: self.object.place_of(field),
            object: self.object.title(),
            field: field.to_owned(),
            problem,
            fix: None,
        });
    }
}

/// Of two objects with the same name only the one applied last would be left.
fn given_twice(objects: &[Accepted<'_>]) -> Vec<Finding> {
    let mut seen: BTreeMap<_, &Object> = BTreeMap::new();
    let mut findings = Vec::new();
    for (object, _) in objects {
        if object.name().is_empty() {
            continue;
        }
        let namespace = object.value.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or_default();
        if let Some(first) = seen.insert((object.api_version(), object.kind(), namespace, object.name()), object) {
            let mut advice = Advice::on(object);
            let problem = format!("is given twice: first in {}:{}", first.place.file, first.place.line);
            advice.say(Severity::Error, "metadata.name", problem, "give one of them another name, or leave it out");
            findings.append(&mut advice.findings);
        }
    }
    findings
}

/// The first few names, and how many more there are.
fn some<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 3;
    let names: Vec<_> = names.into_iter().collect();
    let shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(SHOWN) {
        Some(more @ 1..) => format!("{shown} and {more} more"),
        _ => shown,
    }
}
