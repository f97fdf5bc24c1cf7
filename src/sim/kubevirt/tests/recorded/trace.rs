//! What happened, as lines of text: one for each object that came or went and for each field that changed. Recordings
//! of the real KubeVirt and the stand-in's doings come out alike, so that one expectation can be held against both.

use super::super::*;
use futures::{FutureExt, StreamExt, stream::BoxStream};
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, WatchEvent, WatchParams};
use std::collections::BTreeMap;

/// One change of one object.
#[derive(Debug)]
pub(super) struct Change {
    /// Who made it, where that is known.
    pub(super) by: Option<String>,
    /// What it comes to.
    pub(super) lines: Vec<String>,
}

/// Names and uids that chance gave, replaced by what they stand for.
#[derive(Default)]
struct Names {
    /// The name that chance gave → the one to show.
    shown: BTreeMap<String, String>,
    counts: BTreeMap<String, u32>,
    uids: BTreeMap<String, String>,
    /// The recordings show such names already.
    recorded: bool,
}

/// Short names of the kinds that are compared.
const KINDS: [(&str, &str); 5] = [
    ("Pod", "pod"),
    ("VirtualMachine", "vm"),
    ("VirtualMachineInstance", "vmi"),
    ("VirtualMachineInstanceMigration", "vmim"),
    ("ResourceQuota", "quota"),
];

/// Fields that differ from run to run.
const NOISE: [&str; 4] = ["managedFields", "resourceVersion", "Timestamps", "creationTimestamp"];

fn short(kind: &str) -> &str {
    KINDS.iter().find(|(long, _)| *long == kind).map_or(kind, |(_, short)| short)
}

impl Names {
    /// Numbers a generated name by its place among those of the same beginning.
    fn number(&mut self, name: &str) -> String {
        if self.recorded {
            return name.to_owned();
        }
        if let Some(shown) = self.shown.get(name) {
            return shown.clone();
        }
        let generated = ["virt-launcher-", "kubevirt-evacuation-", "kubevirt-workload-update-"];
        let shown = match name.rsplit_once('-') {
            Some((stem, _)) if generated.iter().any(|beginning| name.starts_with(beginning)) => {
                let count = self.counts.entry(stem.to_owned()).or_default();
                *count += 1;
                format!("{stem}-{count}")
            }
            _ => name.to_owned(),
        };
        self.shown.insert(name.to_owned(), shown.clone());
        shown
    }

    /// A text with names and uids replaced. A launcher's name that no pod ever had stands for one that was refused.
    fn clean(&self, text: &str) -> String {
        if self.recorded {
            return text.to_owned();
        }
        let mut cleaned = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("virt-launcher-") {
            let (before, from) = rest.split_at(at);
            let end = from.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(from.len());
            let (name, after) = from.split_at(end);
            cleaned.push_str(before);
            match (self.shown.get(name), name.rsplit_once('-')) {
                (Some(shown), _) => cleaned.push_str(shown),
                // A webhook's name, not a launcher's.
                (None, _) if name.ends_with("-interceptor") => cleaned.push_str(name),
                (None, Some((stem, _))) => cleaned.push_str(&format!("{stem}-never-made")),
                (None, None) => cleaned.push_str(name),
            }
            rest = after;
        }
        cleaned.push_str(rest);
        for (uid, shown) in &self.uids {
            cleaned = cleaned.replace(uid, shown);
        }
        cleaned
    }
}

/// The object's fields by path; conditions by their type.
fn flat(value: &Value, path: String, into: &mut BTreeMap<String, String>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Null => {}
        _ if NOISE.iter().any(|noise| path.ends_with(noise)) => {}
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                flat(value, below(key), into);
            }
        }
        Value::Array(list) if path.ends_with("conditions") => {
            for condition in list {
                let kind = condition["type"].as_str().unwrap_or_default();
                for field in ["status", "reason", "message"] {
                    let end = if field == "status" { kind.to_owned() } else { format!("{kind}.{field}") };
                    flat(&condition[field], below(&end), into);
                }
            }
        }
        Value::String(text) => drop(into.insert(path, text.clone())),
        other => drop(into.insert(path, in_order(other).to_string())),
    }
}

/// The same value, with the keys of its objects in order.
fn in_order(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<&String, Value> = map.iter().map(|(key, value)| (key, in_order(value))).collect();
            json!(sorted)
        }
        Value::Array(list) => list.iter().map(in_order).collect(),
        other => other.clone(),
    }
}

/// What happened so far.
#[derive(Default)]
pub(super) struct Trace {
    pub(super) changes: Vec<Change>,
    names: Names,
    objects: BTreeMap<(String, String), BTreeMap<String, String>>,
}

impl Trace {
    /// For a recording, whose names are clean already.
    pub(super) fn of_recording() -> Self {
        Self { names: Names { recorded: true, ..Names::default() }, ..Self::default() }
    }

    /// Takes in one event of a watch, or of a recording.
    pub(super) fn take(&mut self, event: &str, object: &Value, by: Option<String>) {
        let kind = object["kind"].as_str().unwrap_or_default();
        let given = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        let name = self.names.number(given);
        let shown = name.strip_prefix("virt-launcher-").unwrap_or(&name).to_owned();
        let about = format!("{} {shown}", short(kind));
        if let Some(uid) = object.pointer("/metadata/uid").and_then(Value::as_str) {
            self.names.uids.insert(uid.to_owned(), format!("uid-{}-{shown}", short(kind)));
        }
        let mut lines = match event {
            "ADDED" => vec![format!("{about} added")],
            "DELETED" => vec![format!("{about} deleted")],
            _ => Vec::new(),
        };
        let mut fields = BTreeMap::new();
        if event != "DELETED" {
            for (path, value) in [("", &object["metadata"]), ("spec", &object["spec"]), ("status", &object["status"])] {
                flat(value, path.to_owned(), &mut fields);
            }
            let clean = |(path, value): (String, String)| (self.names.clean(&path), self.names.clean(&value));
            fields = fields.into_iter().map(clean).collect();
        }
        let key = (kind.to_owned(), name);
        let before = self.objects.remove(&key).unwrap_or_default();
        if event != "DELETED" {
            let changed = fields.iter().filter(|(path, value)| before.get(*path) != Some(value));
            lines.extend(changed.map(|(path, value)| format!("{about} {path}={value}")));
            let gone = before.keys().filter(|path| !fields.contains_key(*path));
            lines.extend(gone.map(|path| format!("{about} {path} gone")));
            self.objects.insert(key, fields);
        }
        self.changes.push(Change { by, lines });
    }

    /// Takes in an Event: about which kind and name, its reason, message and count.
    pub(super) fn tell(&mut self, about: (&str, &str), reason: &str, message: &str, count: i64) {
        let name = self.names.number(about.1);
        let name = name.strip_prefix("virt-launcher-").unwrap_or(&name);
        let head = format!("event {} {name} {reason}", short(about.0));
        let message = self.names.clean(message);
        let lines = vec![head.clone(), format!("{head}: {message}"), format!("{head} x{count}")];
        self.changes.push(Change { by: None, lines });
    }

    /// A refusal's text as it is compared.
    pub(super) fn clean(&self, text: &str) -> String {
        self.names.clean(text)
    }

    /// The name that stands behind a shown one.
    pub(super) fn given(&self, shown: &str) -> String {
        let found = self.names.shown.iter().find(|(_, one)| one.as_str() == shown);
        found.map_or_else(|| shown.to_owned(), |(given, _)| given.clone())
    }

    /// The first change from `from` on that has this line, and is not known to be somebody else's.
    pub(super) fn find(&self, line: &str, from: usize) -> Option<usize> {
        let (by, line) = match line.split_once(": ") {
            Some((by, rest)) if by.starts_with("virt-") => (Some(by), rest),
            _ => (None, line),
        };
        let of = |change: &Change| by.is_none() || change.by.is_none() || change.by.as_deref() == by;
        let has = |change: &Change| change.lines.iter().any(|one| one == line) && of(change);
        self.changes.iter().skip(from).position(has).map(|at| at + from)
    }
}

type Events = BoxStream<'static, kube::Result<WatchEvent<DynamicObject>>>;

/// Follows a world.
pub(super) struct Follower {
    streams: Vec<Events>,
    pub(super) trace: Trace,
}

impl Follower {
    pub(super) async fn of(world: &World, namespace: &str) -> Self {
        let kinds = [
            ("kubevirt.io", "v1", "VirtualMachine"),
            ("kubevirt.io", "v1", "VirtualMachineInstance"),
            ("kubevirt.io", "v1", "VirtualMachineInstanceMigration"),
            ("", "v1", "Pod"),
            ("", "v1", "Event"),
        ];
        let mut streams = Vec::new();
        for (group, version, kind) in kinds {
            let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
            let api: Api<DynamicObject> = Api::namespaced_with(world.admin.clone(), namespace, &resource);
            streams.push(api.watch(&WatchParams::default().timeout(290), "0").await.unwrap().boxed());
        }
        Self { streams, trace: Trace::default() }
    }

    /// Takes in what has happened since, in the order in which the API server stored it.
    pub(super) fn catch_up(&mut self) {
        let mut news = Vec::new();
        for stream in &mut self.streams {
            while let Some(Some(Ok(event))) = stream.next().now_or_never() {
                let (what, object) = match event {
                    WatchEvent::Added(object) => ("ADDED", object),
                    WatchEvent::Modified(object) => ("MODIFIED", object),
                    WatchEvent::Deleted(object) => ("DELETED", object),
                    WatchEvent::Bookmark(_) => continue,
                    WatchEvent::Error(error) => panic!("the watch broke: {error}"),
                };
                let version: u64 = object.resource_version().unwrap_or_default().parse().unwrap();
                news.push((version, what, json!(object)));
            }
        }
        news.sort_by_key(|(version, ..)| *version);
        for (_, what, object) in news {
            if object["kind"] == "Event" {
                let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
                let about = (text("/involvedObject/kind"), text("/involvedObject/name"));
                let count = object["count"].as_i64().unwrap_or(1);
                self.trace.tell(about, text("/reason"), text("/message"), count);
            } else {
                self.trace.take(what, &object, None);
            }
        }
    }
}
