//! A list and watch that its owner reads when it wants to: no task, no random back-off, no hash order.

use futures::{FutureExt, Stream, StreamExt, stream::BoxStream};
use kube::{
    Api, Resource, ResourceExt,
    api::{ListParams, WatchEvent, WatchParams},
};
use serde::de::DeserializeOwned;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    pin::Pin,
    task::{Context, Poll},
};

/// Namespace (empty for cluster-scoped objects) and name.
pub(crate) type ObjectKey = (String, String);

/// The key of an object.
pub(crate) fn key_of<K: Resource>(object: &K) -> ObjectKey {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// How a watch finds its objects again, and what it drops of them.
pub(crate) struct Index<K> {
    /// Words under which an object can be found.
    pub(crate) tags: fn(&K) -> Vec<String>,
    /// Drops what nobody reads.
    pub(crate) prune: fn(&mut K),
}

/// All objects of one kind, as last seen, found by key or by tag, in order.
pub(crate) struct Watched<K> {
    api: Api<K>,
    labels: Option<String>,
    index: Index<K>,
    objects: BTreeMap<ObjectKey, K>,
    tags: BTreeMap<String, BTreeSet<ObjectKey>>,
    changed: BTreeSet<ObjectKey>,
    version: String,
    stream: Option<BoxStream<'static, kube::Result<WatchEvent<K>>>>,
}

impl<K> Watched<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    /// Will hold the objects that `api` sees and that match this label selector.
    pub(crate) fn new(api: Api<K>, labels: Option<&str>, index: Index<K>) -> Self {
        Self {
            api,
            labels: labels.map(str::to_owned),
            index,
            objects: BTreeMap::new(),
            tags: BTreeMap::new(),
            changed: BTreeSet::new(),
            version: String::new(),
            stream: None,
        }
    }

    /// Takes in all that has happened. Lists first, and again whenever the watch broke or expired.
    pub(crate) async fn refresh(&mut self) -> kube::Result<()> {
        loop {
            let Some(stream) = self.stream.as_mut() else {
                if self.version.is_empty() {
                    self.relist().await?;
                }
                let params = WatchParams { label_selector: self.labels.clone(), ..WatchParams::default() };
                let opened = self.api.watch(&params, &self.version).await.map(StreamExt::boxed);
                // Whether the version expired or the server is away, the next try lists anew.
                self.stream = Some(opened.inspect_err(|_| self.version.clear())?);
                continue;
            };
            match stream.next().now_or_never() {
                None => return Ok(()),
                Some(event) => self.take(event),
            }
        }
    }

    fn take(&mut self, event: Option<kube::Result<WatchEvent<K>>>) {
        match event {
            Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) => {
                self.version = object.resource_version().unwrap_or_default();
                self.put(object);
            }
            Some(Ok(WatchEvent::Deleted(object))) => {
                self.version = object.resource_version().unwrap_or_default();
                self.remove(&key_of(&object));
            }
            Some(Ok(WatchEvent::Bookmark(bookmark))) => self.version = bookmark.metadata.resource_version,
            // Whatever went wrong, the next list tells the truth.
            Some(Ok(WatchEvent::Error(_)) | Err(_)) => {
                self.stream = None;
                self.version.clear();
            }
            // The server ends watches now and then; the next one goes on from the same version.
            None => self.stream = None,
        }
    }

    async fn relist(&mut self) -> kube::Result<()> {
        let params = ListParams { label_selector: self.labels.clone(), ..ListParams::default() };
        let list = self.api.list(&params).await?;
        let present: BTreeSet<ObjectKey> = list.items.iter().map(key_of).collect();
        let gone: Vec<ObjectKey> = self.objects.keys().filter(|key| !present.contains(*key)).cloned().collect();
        gone.iter().for_each(|key| self.remove(key));
        list.items.into_iter().for_each(|object| self.put(object));
        self.version = list.metadata.resource_version.unwrap_or_default();
        Ok(())
    }

    /// Notes an object, for example the answer to a write of our own, unless a newer one is known already.
    pub(crate) fn put(&mut self, mut object: K) {
        let key = key_of(&object);
        if let Some(known) = self.objects.get(&key) {
            let newer = revision(known) > revision(&object) && known.uid() == object.uid();
            if newer {
                return;
            }
            self.untag(&key);
        }
        (self.index.prune)(&mut object);
        for tag in (self.index.tags)(&object) {
            self.tags.entry(tag).or_default().insert(key.clone());
        }
        self.objects.insert(key.clone(), object);
        self.changed.insert(key);
    }

    fn remove(&mut self, key: &ObjectKey) {
        self.untag(key);
        self.objects.remove(key);
        self.changed.insert(key.clone());
    }

    fn untag(&mut self, key: &ObjectKey) {
        for tag in self.objects.get(key).map(self.index.tags).unwrap_or_default() {
            if let Some(keys) = self.tags.get_mut(&tag) {
                keys.remove(key);
                if keys.is_empty() {
                    self.tags.remove(&tag);
                }
            }
        }
    }

    /// One object.
    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<&K> {
        self.objects.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// All objects, in order of their keys.
    pub(crate) fn all(&self) -> impl Iterator<Item = &K> {
        self.objects.values()
    }

    /// The objects with a tag, in order of their keys.
    pub(crate) fn tagged<'a>(&'a self, tag: &str) -> impl Iterator<Item = &'a K> + use<'a, K> {
        self.tags.get(tag).into_iter().flatten().filter_map(|key| self.objects.get(key))
    }

    /// Keys of objects that changed, came or went since the last call.
    pub(crate) fn take_changed(&mut self) -> BTreeSet<ObjectKey> {
        std::mem::take(&mut self.changed)
    }

    /// Ready when the watch has something to say (or must be renewed), so that waiting costs nothing.
    pub(crate) fn poll_news(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(stream) = self.stream.as_mut() else { return Poll::Ready(()) };
        match Pin::new(stream).poll_next(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(event) => {
                self.take(event);
                Poll::Ready(())
            }
        }
    }
}

/// The resourceVersion as a number. Since Kubernetes 1.35 its order is promised; before, it was so all the same.
fn revision<K: Resource>(object: &K) -> u64 {
    object.resource_version().and_then(|version| version.parse().ok()).unwrap_or(0)
}
