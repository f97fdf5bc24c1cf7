//! Sets of field paths, in the form `FieldsV1` writes them.
//!
//! A path's steps are kept as their texts: `f:NAME` for a field, `k:{"KEY":VALUE}` for a list's item found by its keys,
//! `v:VALUE` for an item that is its own key. Source: `structured-merge-diff/fieldpath`.

use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A set of paths below one point.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldSet {
    pub(crate) entries: BTreeMap<String, Entry>,
}

/// What a set holds at and below one step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Whether the path that ends here is in the set.
    pub(crate) member: bool,
    pub(crate) below: FieldSet,
}

impl FieldSet {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn insert(&mut self, path: &[String]) {
        let Some((first, rest)) = path.split_first() else { return };
        let entry = match self.entries.get_mut(first) {
            Some(entry) => entry,
            None => self.entries.entry(first.clone()).or_default(),
        };
        if rest.is_empty() {
            entry.member = true;
        } else {
            entry.below.insert(rest);
        }
    }

    pub(crate) fn union(&self, other: &Self) -> Self {
        let mut all = self.clone();
        for (step, entry) in &other.entries {
            let mine = all.entries.entry(step.clone()).or_default();
            mine.member |= entry.member;
            mine.below = mine.below.union(&entry.below);
        }
        all
    }

    pub(crate) fn difference(&self, other: &Self) -> Self {
        self.combine(other, |mine, theirs| mine && !theirs, Self::difference)
    }

    pub(crate) fn intersection(&self, other: &Self) -> Self {
        self.combine(other, |mine, theirs| mine && theirs, Self::intersection)
    }

    fn combine(
        &self,
        other: &Self,
        member: impl Fn(bool, bool) -> bool + Copy,
        below: fn(&Self, &Self) -> Self,
    ) -> Self {
        static NOTHING: Entry = Entry { member: false, below: FieldSet { entries: BTreeMap::new() } };
        let mut left = BTreeMap::new();
        for (step, mine) in &self.entries {
            let theirs = other.entries.get(step).unwrap_or(&NOTHING);
            let entry = Entry { member: member(mine.member, theirs.member), below: below(&mine.below, &theirs.below) };
            if entry.member || !entry.below.is_empty() {
                left.insert(step.clone(), entry);
            }
        }
        Self { entries: left }
    }

    /// Removes what `other` names, and everything below it.
    pub(crate) fn without_trees(&self, other: &Self) -> Self {
        let mut left = BTreeMap::new();
        for (step, mine) in &self.entries {
            let entry = match other.entries.get(step) {
                Some(theirs) if theirs.member => continue,
                Some(theirs) => Entry { member: mine.member, below: mine.below.without_trees(&theirs.below) },
                None => mine.clone(),
            };
            if entry.member || !entry.below.is_empty() {
                left.insert(step.clone(), entry);
            }
        }
        Self { entries: left }
    }

    /// Whether `fields`, a set in the form of `FieldsV1`, has any path of this one.
    pub(crate) fn overlaps(&self, fields: &Value) -> bool {
        self.entries.iter().any(|(step, entry)| {
            let Some(theirs) = fields.get(step) else { return false };
            (entry.member && is_member(theirs)) || entry.below.overlaps(theirs)
        })
    }

    /// Whether `fields`, a set in the form of `FieldsV1`, has every path of this one.
    pub(crate) fn is_within(&self, fields: &Value) -> bool {
        self.entries.iter().all(|(step, entry)| {
            let theirs = fields.get(step);
            theirs.is_some_and(|theirs| (!entry.member || is_member(theirs)) && entry.below.is_within(theirs))
        })
    }

    /// All paths, as error messages write them.
    pub(crate) fn paths(&self) -> Vec<String> {
        let mut paths = vec![];
        self.collect_paths("", &mut paths);
        paths
    }

    fn collect_paths(&self, prefix: &str, paths: &mut Vec<String>) {
        let members = self.entries.iter().filter(|(_, entry)| entry.member);
        paths.extend(members.map(|(step, _)| format!("{prefix}{}", shown(step))));
        for (step, entry) in &self.entries {
            entry.below.collect_paths(&format!("{prefix}{}", shown(step)), paths);
        }
    }

    /// As `FieldsV1`.
    pub(crate) fn encode(&self) -> Value {
        let mut fields = Map::new();
        for (step, entry) in &self.entries {
            let mut below = Map::new();
            if entry.member && !entry.below.is_empty() {
                below.insert(".".into(), Value::Object(Map::new()));
            }
            if let Value::Object(inner) = entry.below.encode() {
                below.extend(inner);
            }
            fields.insert(step.clone(), Value::Object(below));
        }
        Value::Object(fields)
    }

    /// From `FieldsV1`; anything malformed counts as empty.
    pub(crate) fn decode(fields: &Value) -> Self {
        let mut entries = BTreeMap::new();
        for (step, inner) in fields.as_object().into_iter().flatten().filter(|(step, _)| *step != ".") {
            entries.insert(step.clone(), Entry { member: is_member(inner), below: Self::decode(inner) });
        }
        Self { entries }
    }
}

/// Whether a path that ends in this entry of a `FieldsV1` is in the set.
fn is_member(entry: &Value) -> bool {
    entry.as_object().is_none_or(|inner| inner.is_empty() || inner.contains_key("."))
}

/// A step as `fieldpath.PathElement` prints it: `.name`, `[key="value"]`, `[="value"]`.
fn shown(step: &str) -> String {
    if let Some(name) = step.strip_prefix("f:") {
        return format!(".{name}");
    }
    if let Some(keys) = step.strip_prefix("k:") {
        let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
        let keys: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
        return format!("[{}]", keys.join(","));
    }
    if let Some(value) = step.strip_prefix("v:") {
        return format!("[={value}]");
    }
    format!("[{}]", step.trim_start_matches("i:"))
}
