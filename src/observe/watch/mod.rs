//! The watches: list page by page, then follow, and tell the one owner.
//!
//! kube-runtime's `watcher` hides bookmarks and the version of a list, which tell how fresh the picture is and
//! whether an own write can be in it, so this small loop does the same job and tells them. Each object is pruned
//! before it leaves the loop: no whole Pod or VMI is kept anywhere.

mod back_off;
mod lenient;

use super::{
    pool::Pool,
    seen::{ObjectKey, Seen, Update, Version, Watched},
};
use back_off::BackOff;
use futures::StreamExt;
use kube::{
    Api, Client,
    api::{ListParams, WatchEvent, WatchParams},
};
pub(crate) use lenient::Lenient;
use miyako_api::answer;
use std::time::Duration;
use tokio::{
    sync::mpsc,
    time::{self, Instant},
};

/// Objects per page of the initial list.
const PAGE: u32 = 500;
/// The API server ends a watch after this long. kube-runtime's value: API servers never allow less than 5 minutes.
const WATCH_SECONDS: u32 = 290;
/// API servers send a bookmark every minute. A watch that is silent for longer may be dead, and is begun anew from the last
/// version: that costs one request, and tells.
const SILENCE: Duration = Duration::from_secs(100);
/// A watch that ends sooner is no watch, and is not begun again without a wait.
const AT_ONCE: Duration = Duration::from_secs(1);
/// A list or a direct read that takes longer failed.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a kind that the API server does not know is left alone: somebody may install it later, …
const UNKNOWN_AGAIN: Duration = Duration::from_secs(30);
/// … and of most clusters nobody ever installs what is not KubeVirt's.
const SELDOM_INSTALLED: Duration = Duration::from_secs(300);

/// What of a kind is watched.
#[derive(Debug, Clone, Default)]
pub(super) struct Scope {
    /// In one namespace only.
    pub(super) namespace: Option<String>,
    /// Field selector.
    pub(super) fields: Option<&'static str>,
    /// One object, by name.
    pub(super) name: Option<&'static str>,
    /// Label selector.
    pub(super) labels: Option<String>,
}

/// One watch: a kind, what of it, and where its news goes.
pub(super) struct Watch<K> {
    api: Api<Lenient<K>>,
    list: ListParams,
    watch: WatchParams,
    news: mpsc::Sender<Update>,
    back_off: BackOff,
}

/// Why following ended.
enum Ended {
    /// What was known is too old: list anew.
    Expired,
    /// Nobody listens any more.
    Deaf,
}

/// How many updates may wait for the owner. When it is full the watch waits, and at worst expires and lists anew.
pub(super) const PENDING: usize = 16 * 1024;

impl<K: Watched> Watch<K> {
    pub(super) fn new(client: Client, scope: &Scope, seed: u64, news: mpsc::Sender<Update>) -> Self
    where
        K: kube::Resource<Scope: Anywhere<K>>,
    {
        let api = <K::Scope as Anywhere<K>>::api(client, scope.namespace.as_deref());
        let mut list = ListParams { limit: Some(PAGE), ..ListParams::default() };
        let mut watch = WatchParams { timeout: Some(WATCH_SECONDS), bookmarks: true, ..WatchParams::default() };
        let name = scope.name.map(|name| format!("metadata.name={name}"));
        list.field_selector = name.or_else(|| scope.fields.map(ToOwned::to_owned));
        list.label_selector.clone_from(&scope.labels);
        watch.field_selector.clone_from(&list.field_selector);
        watch.label_selector.clone_from(&list.label_selector);
        // Each kind has its own sequence of waits, so that one more kind shifts no other's.
        let seed = seed ^ (K::KIND as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Self { api, list, watch, news, back_off: BackOff::new(seed) }
    }

    /// Lists and follows until nobody listens.
    pub(super) async fn run(mut self) {
        loop {
            match self.list_all().await {
                Ok((all, version)) => {
                    self.back_off.reset();
                    if self.news.send(Update::All(all, Version::read(Some(&version)))).await.is_err() {
                        return;
                    }
                    if matches!(self.follow(version).await, Ended::Deaf) {
                        return;
                    }
                }
                Err(Failure::Unknown) => {
                    if self.news.send(Update::Unknown).await.is_err() {
                        return;
                    }
                    let seldom = K::KIND.is_seldom_installed();
                    time::sleep(if seldom { SELDOM_INSTALLED } else { UNKNOWN_AGAIN }).await;
                }
                Err(Failure::Told(update)) => {
                    if self.told(update).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    async fn list_all(&self) -> Result<(Vec<Seen>, String), Failure> {
        let mut all = Vec::new();
        // A whole list is in memory until the owner takes it in: it should weigh no more than what is kept.
        let mut pool = Pool::default();
        let mut params = self.list.clone();
        loop {
            let page = time::timeout(PATIENCE, self.api.list(&params)).await;
            let page = page
                .map_err(|_| Failure::Told(Update::Failed("the list took too long".into())))?
                .map_err(Failure::of)?;
            all.extend(page.items.iter().map(see).map(|seen| seen.sharing(&mut pool)));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params.continue_token = Some(token),
                None => {
                    let version = page.metadata.resource_version.unwrap_or_default();
                    return Ok((all, version));
                }
            }
        }
    }

    async fn follow(&mut self, mut version: String) -> Ended {
        loop {
            let started = time::timeout(PATIENCE, self.api.watch(&self.watch, &version)).await;
            let mut stream = match started {
                Ok(Ok(stream)) => stream.boxed(),
                Ok(Err(error)) if is_expired(&error) => return Ended::Expired,
                Ok(Err(error)) => {
                    if self.failed(error.to_string()).await.is_err() {
                        return Ended::Deaf;
                    }
                    continue;
                }
                Err(_) => {
                    if self.failed("the watch took too long to begin".into()).await.is_err() {
                        return Ended::Deaf;
                    }
                    continue;
                }
            };
            if self.news.send(Update::Alive).await.is_err() {
                return Ended::Deaf;
            }
            let began = Instant::now();
            let failure = loop {
                let event = match time::timeout(SILENCE, stream.next()).await {
                    // It was silent for too long, or the API server ended it in its time: go on from the last version.
                    Err(_) | Ok(None) => {
                        break (began.elapsed() < AT_ONCE).then(|| "the watch ended at once".to_owned());
                    }
                    Ok(Some(Err(error))) if is_expired(&error) => return Ended::Expired,
                    Ok(Some(Err(error))) => break Some(error.to_string()),
                    Ok(Some(Ok(event))) => event,
                };
                self.back_off.reset();
                let update = match event {
                    WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                        if let Some(newer) = &object.metadata.resource_version {
                            version.clone_from(newer);
                        }
                        Update::Is(Box::new(see(&object)))
                    }
                    WatchEvent::Deleted(object) => {
                        if let Some(newer) = &object.metadata.resource_version {
                            version.clone_from(newer);
                        }
                        let Seen { key, uid, version, .. } = see(&object);
                        Update::Gone(key, uid, version)
                    }
                    WatchEvent::Bookmark(bookmark) => {
                        version = bookmark.metadata.resource_version;
                        Update::Alive
                    }
                    WatchEvent::Error(status) if status.code == 410 => return Ended::Expired,
                    WatchEvent::Error(status) => break Some(status.message.clone()),
                };
                if self.news.send(update).await.is_err() {
                    return Ended::Deaf;
                }
            };
            if let Some(error) = failure
                && self.failed(error).await.is_err()
            {
                return Ended::Deaf;
            }
        }
    }

    async fn failed(&mut self, error: String) -> Result<(), mpsc::error::SendError<Update>> {
        self.told(Update::Failed(error)).await
    }

    /// Tells of a failure, and waits.
    async fn told(&mut self, update: Update) -> Result<(), mpsc::error::SendError<Update>> {
        self.news.send(update).await?;
        time::sleep(self.back_off.next()).await;
        Ok(())
    }
}

/// Reads one object directly and tells what it found. A read that fails tells nothing; whoever waits asks again.
pub(super) async fn read<K>(client: Client, key: ObjectKey, news: mpsc::Sender<Update>)
where
    K: Watched + kube::Resource<Scope: Anywhere<K>>,
{
    let namespace = Some(key.namespace.as_str()).filter(|namespace| !namespace.is_empty());
    let api = <K::Scope as Anywhere<K>>::api(client, namespace);
    let found = match time::timeout(PATIENCE, api.get(key.name.as_str())).await {
        Ok(Ok(found)) => Some(Some(found)),
        // Of a kind that is not served just now nobody knows whether the object is there.
        Ok(Err(error)) if answer::absent(&error) == Some(answer::Absent::Object) => Some(None),
        _ => None,
    };
    if let Some(found) = found {
        let found = found.map(|object| Box::new(see(&object)));
        // A closed channel means that the observer is gone.
        let _ = news.send(Update::Read(key, found)).await;
    }
}

fn see<K: Watched>(object: &Lenient<K>) -> Seen {
    K::seen(&object.metadata, object.object.as_ref().map_err(String::as_str))
}

enum Failure {
    Unknown,
    Told(Update),
}

impl Failure {
    fn of(error: kube::Error) -> Self {
        match &error {
            error if answer::is_absent(error) => Self::Unknown,
            kube::Error::Api(status) if status.code == 403 => Self::Told(Update::Refused(status.message.clone())),
            _ => Self::Told(Update::Failed(error.to_string())),
        }
    }
}

/// The version is too old, or the kind itself is gone: both are found out by listing.
fn is_expired(error: &kube::Error) -> bool {
    answer::is_expired(error) || answer::is_absent(error)
}

/// An API over all namespaces, or one, whatever the kind's scope.
pub(super) trait Anywhere<K> {
    fn api(client: Client, namespace: Option<&str>) -> Api<Lenient<K>>
    where
        K: kube::Resource<Scope = Self, DynamicType = ()>;
}

impl<K> Anywhere<K> for kube::core::ClusterResourceScope {
    fn api(client: Client, _namespace: Option<&str>) -> Api<Lenient<K>>
    where
        K: kube::Resource<Scope = Self, DynamicType = ()>,
    {
        Api::all(client)
    }
}

impl<K> Anywhere<K> for kube::core::NamespaceResourceScope {
    fn api(client: Client, namespace: Option<&str>) -> Api<Lenient<K>>
    where
        K: kube::Resource<Scope = Self, DynamicType = ()>,
    {
        match namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::all(client),
        }
    }
}
