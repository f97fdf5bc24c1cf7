//! The objects, their versions, and the history that watches read.

use super::{
    admission::Admission,
    clock::seconds_text,
    history::{Change, ChangeKind, History, HistoryLimit},
    lifetime::{EVENTS, Lifetimes},
    registry::{Registry, Resource},
    signal::Signal,
};
use crate::clock::Clock;
use bytes::Bytes;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, OnceLock},
};
use tokio::time::Instant;

/// Namespace and name; the namespace is empty for cluster-scoped objects.
pub(crate) type Key = (String, String);

/// One version of one object. Its JSON text is made once and shared by every answer and watch.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) value: Value,
    pub(crate) version: u64,
    json: OnceLock<Bytes>,
}

impl Stored {
    pub(crate) fn new(value: Value, version: u64) -> Self {
        Self { value, version, json: OnceLock::new() }
    }

    /// The object's JSON text.
    pub(crate) fn json(&self) -> &Bytes {
        self.json.get_or_init(|| Bytes::from(self.value.to_string()))
    }

    pub(crate) fn uid(&self) -> &str {
        self.value["metadata"]["uid"].as_str().unwrap_or_default()
    }
}

/// The objects of one resource.
#[derive(Debug)]
pub(crate) struct Collection {
    pub(crate) objects: BTreeMap<Key, Arc<Stored>>,
    pub(crate) history: History,
    /// Wakes the watches.
    pub(crate) newest: Signal,
}

impl Collection {
    fn new(forgotten: u64) -> Self {
        Self { objects: BTreeMap::new(), history: History::from(forgotten), newest: Signal::default() }
    }
}

/// All objects that one paged list shows.
pub(crate) type Snapshot = Arc<Vec<Arc<Stored>>>;

/// Everything the server remembers.
pub(crate) struct State {
    pub(crate) registry: Registry,
    pub(crate) admission: Vec<Arc<dyn Admission>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) version: u64,
    pub(crate) history_limit: HistoryLimit,
    /// The version up to which all history is forgotten.
    forgotten: u64,
    collections: BTreeMap<String, Collection>,
    /// Which objects name an owner: owner's uid → (storage, key).
    dependents: BTreeMap<String, BTreeSet<(String, Key)>>,
    /// What paged lists have still to show: storage, version, objects.
    snapshots: VecDeque<(String, u64, Snapshot)>,
    lifetimes: Lifetimes,
    rng: ChaCha8Rng,
}

/// How many unfinished paged lists are kept before the oldest expires.
const SNAPSHOTS: usize = 64;

impl State {
    pub(crate) fn new(registry: Registry, clock: Arc<dyn Clock>, seed: u64, history_limit: HistoryLimit) -> Self {
        Self {
            registry,
            admission: vec![],
            clock,
            version: 1,
            history_limit,
            forgotten: 0,
            collections: BTreeMap::new(),
            dependents: BTreeMap::new(),
            snapshots: VecDeque::new(),
            lifetimes: Lifetimes::default(),
            rng: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    /// The time as `metav1.Time` writes it.
    pub(crate) fn now_text(&self) -> String {
        seconds_text(self.clock.now())
    }

    /// A new uid in the form of a random UUID.
    pub(crate) fn new_uid(&mut self) -> String {
        let (high, low): (u64, u64) = (self.rng.random(), self.rng.random());
        let (time_low, time_mid, time_high) = (high >> 32, (high >> 16) & 0xffff, high & 0x0fff);
        let (sequence, node) = ((low >> 48) & 0x3fff | 0x8000, low & 0xffff_ffff_ffff);
        format!("{time_low:08x}-{time_mid:04x}-4{time_high:03x}-{sequence:04x}-{node:012x}")
    }

    /// Five characters that `generateName` appends, from the real server's alphabet without vowels and look-alikes.
    pub(crate) fn name_suffix(&mut self) -> String {
        const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        (0..5).map(|_| char::from(ALPHABET[self.rng.random_range(0..ALPHABET.len())])).collect()
    }

    /// All collections by their names.
    pub(crate) fn collections(&self) -> impl Iterator<Item = (&String, &Collection)> {
        self.collections.iter()
    }

    pub(crate) fn collection(&self, storage: &str) -> Option<&Collection> {
        self.collections.get(storage)
    }

    pub(crate) fn collection_mut(&mut self, storage: &str) -> &mut Collection {
        let forgotten = self.forgotten;
        if !self.collections.contains_key(storage) {
            self.collections.insert(storage.to_owned(), Collection::new(forgotten));
        }
        self.collections.entry(storage.to_owned()).or_insert_with(|| Collection::new(forgotten))
    }

    pub(crate) fn get(&self, resource: &Resource, key: &Key) -> Option<&Arc<Stored>> {
        self.collections.get(&resource.storage)?.objects.get(key)
    }

    /// The objects of a resource, of one namespace or (where it is empty) of all.
    pub(crate) fn objects<'a>(
        &'a self,
        storage: &str,
        namespace: &'a str,
    ) -> impl Iterator<Item = (&'a Key, &'a Arc<Stored>)> + use<'a> {
        let from: Key = (namespace.to_owned(), String::new());
        let objects = self.collections.get(storage).map(|collection| collection.objects.range(from..));
        objects.into_iter().flatten().take_while(move |(key, _)| namespace.is_empty() || key.0 == namespace)
    }

    /// Stores an object under a new version and tells the watches.
    pub(crate) fn put(&mut self, resource: &Resource, key: Key, mut value: Value) -> Arc<Stored> {
        self.version += 1;
        let version = self.version;
        value["metadata"]["resourceVersion"] = version.to_string().into();
        let now = Instant::now();
        let stored = Arc::new(Stored::new(in_order(value), version));
        let before = self.collection_mut(&resource.storage).objects.insert(key.clone(), stored.clone());
        self.index_owners(&resource.storage, &key, before.as_deref(), Some(&stored));
        let kind = if before.is_some() { ChangeKind::Modified } else { ChangeKind::Added };
        self.record(
            &resource.storage,
            Change { version, kind, key: key.clone(), object: stored.clone(), before, at: now },
        );
        if resource.storage == EVENTS {
            self.lifetimes.begin(key, version, now);
        }
        self.end_events(now);
        stored
    }

    /// Removes the Events whose time is over. The real server's etcd does so by itself; here the next write of
    /// anything does.
    fn end_events(&mut self, now: Instant) {
        while let Some((key, version)) = self.lifetimes.over(now) {
            let last = self.collection_mut(EVENTS).objects.get(&key).map(|event| event.version);
            if last == Some(version) {
                self.remove(EVENTS, &key);
            }
        }
    }

    /// Removes an object and tells the watches; gives its last state.
    pub(crate) fn remove(&mut self, storage: &str, key: &Key) -> Option<Arc<Stored>> {
        let before = self.collection_mut(storage).objects.remove(key)?;
        self.version += 1;
        let version = self.version;
        let mut value = before.value.clone();
        value["metadata"]["resourceVersion"] = version.to_string().into();
        let object = Arc::new(Stored::new(value, version));
        self.index_owners(storage, key, Some(&before), None);
        let kind = ChangeKind::Deleted;
        let change = Change {
            version,
            kind,
            key: key.clone(),
            object: object.clone(),
            before: Some(before),
            at: Instant::now(),
        };
        self.record(storage, change);
        Some(object)
    }

    fn record(&mut self, storage: &str, change: Change) {
        let limit = self.history_limit;
        let collection = self.collection_mut(storage);
        collection.history.push(change, limit);
        collection.newest.raise();
    }

    /// Forgets the history, as etcd's compaction does: watches that ask for an older version get 410.
    pub(crate) fn forget_history(&mut self) {
        let version = self.version;
        self.forgotten = version;
        for collection in self.collections.values_mut() {
            collection.history.forget(version);
        }
        self.snapshots.clear();
    }

    /// Keeps what a paged list has still to show.
    pub(crate) fn keep_snapshot(&mut self, storage: &str, version: u64, objects: Snapshot) {
        if self.snapshots.iter().any(|(of, at, _)| of == storage && *at == version) {
            return;
        }
        if self.snapshots.len() == SNAPSHOTS {
            self.snapshots.pop_front();
        }
        self.snapshots.push_back((storage.to_owned(), version, objects));
    }

    pub(crate) fn snapshot(&self, storage: &str, version: u64) -> Option<Snapshot> {
        self.snapshots.iter().find(|(of, at, _)| of == storage && *at == version).map(|(_, _, objects)| objects.clone())
    }

    fn index_owners(&mut self, storage: &str, key: &Key, before: Option<&Stored>, after: Option<&Stored>) {
        let owners = |stored: Option<&Stored>| -> Vec<String> {
            let references = stored.and_then(|stored| stored.value["metadata"]["ownerReferences"].as_array());
            references.into_iter().flatten().filter_map(|owner| owner["uid"].as_str()).map(str::to_owned).collect()
        };
        let (before, after) = (owners(before), owners(after));
        if before == after {
            return;
        }
        let entry = (storage.to_owned(), key.clone());
        for owner in before {
            if let Some(dependents) = self.dependents.get_mut(&owner) {
                dependents.remove(&entry);
                if dependents.is_empty() {
                    self.dependents.remove(&owner);
                }
            }
        }
        for owner in after {
            self.dependents.entry(owner).or_default().insert(entry.clone());
        }
    }

    /// The objects that name this uid as an owner.
    pub(crate) fn dependents_of(&self, uid: &str) -> Vec<(Arc<Resource>, Key)> {
        let entries = self.dependents.get(uid).into_iter().flatten();
        entries
            .filter_map(|(storage, key)| {
                let resource = self.registry.iter().find(|resource| resource.storage == *storage)?;
                Some((resource.clone(), key.clone()))
            })
            .collect()
    }
}

/// `kind`, `apiVersion` and `metadata` first, as the real server writes them; lists rely on it.
fn in_order(value: Value) -> Value {
    let Value::Object(mut fields) = value else { return value };
    let mut ordered = Map::new();
    for first in ["kind", "apiVersion", "metadata"] {
        ordered.insert(first.to_owned(), fields.shift_remove(first).unwrap_or_default());
    }
    ordered.append(&mut fields);
    Value::Object(ordered)
}
