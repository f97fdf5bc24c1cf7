//! Our own certificate, kept in a Secret and its CA published in a ConfigMap.
//!
//! Every replica shows what the Secret holds; only a replica that may write renews it. Writes carry the version that
//! was read, so two that renew at once do not undo each other's work.

use super::{
    identity::{Identity, IdentityError},
    presented::Presented,
};
use crate::clock::Clock;
use futures::{StreamExt, stream};
use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client,
    api::PostParams,
    runtime::{WatchStreamExt, watcher},
};
use miyako_api::{
    names::{manager, ours},
    wire::CA_FILE,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time::timeout;

/// The Secret's name.
pub const SECRET: &str = "miyako-wire-tls";

/// The ConfigMap's name; its key is [`CA_FILE`].
pub const CONFIG_MAP: &str = "miyako-wire-ca";

/// The one key in the Secret.
const IDENTITY: &str = "identity.json";

/// How often the dates are looked at when all is well.
const LOOK_INTERVAL: Duration = Duration::from_secs(600);

/// How soon to look again when something is missing: nobody leads yet, or a write failed.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Why the certificate could not be kept.
#[derive(Debug, thiserror::Error)]
enum KeptError {
    #[error(transparent)]
    Issue(#[from] IdentityError),
    #[error("could not write {what}: {source}")]
    Write { what: &'static str, source: kube::Error },
    #[error("could not write the identity as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Keeps our own certificate.
pub struct Keeper {
    /// Speaks to the API server.
    pub client: Client,
    /// The operator's own namespace.
    pub namespace: String,
    /// Where the certificate is shown.
    pub presented: Presented,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Whether this replica may write, asked before each write: the leader may.
    pub may_write: Arc<dyn Fn() -> bool + Send + Sync>,
}

enum Seen {
    Secret(Option<Box<Secret>>),
    ConfigMap(Option<Box<ConfigMap>>),
}

/// What the API server shows; none before the first look.
#[derive(Default)]
struct World {
    secret: Option<Option<Box<Secret>>>,
    config_map: Option<Option<Box<ConfigMap>>>,
}

impl Keeper {
    /// Shows, renews and publishes, for ever.
    pub async fn keep(self) {
        let secrets = watcher::watch_object(Api::<Secret>::namespaced(self.client.clone(), &self.namespace), SECRET);
        let config_maps =
            watcher::watch_object(Api::<ConfigMap>::namespaced(self.client.clone(), &self.namespace), CONFIG_MAP);
        let mut seen = stream::select_all([
            secrets
                .default_backoff()
                .filter_map(async |seen| Some(Seen::Secret(note(seen, SECRET)?.map(Box::new))))
                .boxed(),
            config_maps
                .default_backoff()
                .filter_map(async |seen| Some(Seen::ConfigMap(note(seen, CONFIG_MAP)?.map(Box::new))))
                .boxed(),
        ]);
        let mut world = World::default();
        let mut complete = false;
        loop {
            match timeout(if complete { LOOK_INTERVAL } else { LOOK_AGAIN }, seen.next()).await {
                Ok(Some(Seen::Secret(secret))) => world.secret = Some(secret),
                Ok(Some(Seen::ConfigMap(config_map))) => world.config_map = Some(config_map),
                Ok(None) => return,
                Err(_) => {}
            }
            complete = self.act(&world).await.unwrap_or_else(|error| {
                tracing::error!(
                    error = crate::error_chain(&error),
                    "could not keep the wire's certificate; trying again"
                );
                false
            });
        }
    }

    /// Shows what there is and does what is missing, if this replica may. Tells whether nothing was missing.
    async fn act(&self, world: &World) -> Result<bool, KeptError> {
        let (Some(secret), Some(config_map)) = (&world.secret, &world.config_map) else { return Ok(false) };
        // What can't be shown is no better than what is not there.
        let current = secret.as_deref().and_then(read_identity).filter(|identity| {
            let (certificate, key) = identity.server_pem();
            self.presented
                .show(certificate.as_bytes(), key.as_bytes())
                .inspect_err(|error| tracing::warn!(secret = SECRET, %error, "can't be shown; to be written anew"))
                .is_ok()
        });
        let due = Identity::renewed(current.as_ref(), self.clock.now())?;
        let published = config_map.as_deref().and_then(|published| published.data.as_ref()?.get(CA_FILE));
        match (due, current) {
            (Some(due), _) => {
                if (self.may_write)() {
                    tracing::info!("renewing the wire's certificate");
                    // The watch brings it back, and then it is shown and published.
                    self.write_secret(secret.as_deref(), &due).await?;
                }
                Ok(false)
            }
            (None, Some(identity)) if published != Some(&identity.authorities_pem()) => {
                if (self.may_write)() {
                    self.publish(config_map.as_deref(), &identity.authorities_pem()).await?;
                }
                Ok(false)
            }
            (None, _) => Ok(true),
        }
    }

    async fn write_secret(&self, before: Option<&Secret>, identity: &Identity) -> Result<(), KeptError> {
        let mut secret = before.cloned().unwrap_or_default();
        secret.metadata = self.metadata(SECRET, secret.metadata);
        secret.data.get_or_insert_default().insert(IDENTITY.to_owned(), ByteString(serde_json::to_vec(identity)?));
        write(&self.client, &self.namespace, SECRET, &secret, before.is_some()).await
    }

    async fn publish(&self, before: Option<&ConfigMap>, authorities_pem: &str) -> Result<(), KeptError> {
        let mut config_map = before.cloned().unwrap_or_default();
        config_map.metadata = self.metadata(CONFIG_MAP, config_map.metadata);
        config_map.data.get_or_insert_default().insert(CA_FILE.to_owned(), authorities_pem.to_owned());
        write(&self.client, &self.namespace, CONFIG_MAP, &config_map, before.is_some()).await
    }

    /// What an object carries beside its data: what it carried before, which is the chart's where the chart made it.
    fn metadata(&self, name: &str, mut metadata: ObjectMeta) -> ObjectMeta {
        if metadata.name.is_none() {
            let labels = BTreeMap::from([(ours::MANAGED_BY.to_owned(), ours::MIYAKO.to_owned())]);
            metadata.name = Some(name.to_owned());
            metadata.namespace = Some(self.namespace.clone());
            metadata.labels = Some(labels);
        }
        metadata.managed_fields = None;
        metadata
    }
}

/// An error of the watch is told and passed over; the watch goes on by itself.
fn note<T>(seen: Result<T, watcher::Error>, what: &str) -> Option<T> {
    seen.inspect_err(|error| tracing::warn!(what, %error, "watch failed; trying again")).ok()
}

/// What a Secret holds. One that was edited into nonsense counts as empty, so that it is written anew.
fn read_identity(secret: &Secret) -> Option<Identity> {
    let bytes = secret.data.as_ref()?.get(IDENTITY)?;
    serde_json::from_slice(&bytes.0)
        .inspect_err(|error| tracing::warn!(secret = SECRET, %error, "not understood; to be written anew"))
        .ok()
}

async fn write<K>(
    client: &Client,
    namespace: &str,
    name: &'static str,
    object: &K,
    exists: bool,
) -> Result<(), KeptError>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::Serialize
        + serde::de::DeserializeOwned,
    K::DynamicType: Default,
{
    let api = Api::<K>::namespaced(client.clone(), namespace);
    let params = PostParams { field_manager: Some(manager::OPERATOR.to_owned()), ..PostParams::default() };
    let written = if exists { api.replace(name, &params, object).await } else { api.create(&params, object).await };
    match written {
        Ok(_) => Ok(()),
        // Somebody else wrote meanwhile; the watch shows what, and the next look decides again.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(source) => Err(KeptError::Write { what: name, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SimClock;
    use crate::sim::apiserver::{ApiServer, Options};
    use miyako_core::model::Timestamp;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tokio::{
        task::JoinHandle,
        time::{Duration, sleep},
    };

    /// A replica of the operator that keeps the certificate.
    struct Replica {
        presented: Presented,
        leads: Arc<AtomicBool>,
        keeping: JoinHandle<()>,
    }

    impl Drop for Replica {
        fn drop(&mut self) {
            self.keeping.abort();
        }
    }

    struct Stand {
        server: ApiServer,
        clock: SimClock,
    }

    impl Stand {
        fn new() -> Self {
            let clock = SimClock::starting_at(Timestamp::from_secs(1_800_000_000));
            Self { server: ApiServer::new(Options::default()), clock }
        }

        fn replica(&self, leads: bool) -> Replica {
            let (presented, leads) = (Presented::default(), Arc::new(AtomicBool::new(leads)));
            let (clock, may_write) = (self.clock, Arc::clone(&leads));
            let keeper = Keeper {
                client: self.server.client("operator"),
                namespace: "default".to_owned(),
                presented: presented.clone(),
                clock: Arc::new(clock),
                may_write: Arc::new(move || may_write.load(Ordering::SeqCst)),
            };
            Replica { presented, leads, keeping: tokio::spawn(keeper.keep()) }
        }

        fn secrets(&self) -> Api<Secret> {
            Api::namespaced(self.server.client("test"), "default")
        }

        fn config_maps(&self) -> Api<ConfigMap> {
            Api::namespaced(self.server.client("test"), "default")
        }

        async fn kept(&self) -> Option<Identity> {
            self.secrets().get_opt(SECRET).await.unwrap().as_ref().and_then(read_identity)
        }

        async fn published(&self) -> Option<String> {
            self.config_maps().get_opt(CONFIG_MAP).await.unwrap()?.data?.remove(CA_FILE)
        }
    }

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn the_leader_writes_and_all_show_the_same() {
        let stand = Stand::new();
        let (leader, follower) = (stand.replica(true), stand.replica(false));
        sleep(MINUTE).await;
        let identity = stand.kept().await.unwrap();
        assert_eq!(stand.published().await, Some(identity.authorities_pem()));
        assert!(leader.presented.is_ready() && follower.presented.is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_leader_nothing_is_written() {
        let stand = Stand::new();
        let follower = stand.replica(false);
        sleep(MINUTE * 5).await;
        assert_eq!((stand.kept().await, stand.published().await), (None, None));
        follower.leads.store(true, Ordering::SeqCst);
        sleep(MINUTE * 2).await;
        assert!(follower.presented.is_ready() && stand.published().await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn the_charts_empty_objects_are_filled_and_keep_what_they_carry() {
        let stand = Stand::new();
        let metadata = |name: &str| ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(BTreeMap::from([("app.kubernetes.io/managed-by".to_owned(), "Helm".to_owned())])),
            annotations: Some(BTreeMap::from([("meta.helm.sh/release-name".to_owned(), "miyako".to_owned())])),
            ..ObjectMeta::default()
        };
        let secret = Secret { metadata: metadata(SECRET), ..Secret::default() };
        stand.secrets().create(&PostParams::default(), &secret).await.unwrap();
        let config_map = ConfigMap { metadata: metadata(CONFIG_MAP), ..ConfigMap::default() };
        stand.config_maps().create(&PostParams::default(), &config_map).await.unwrap();
        let _leader = stand.replica(true);
        sleep(MINUTE).await;
        assert!(stand.kept().await.is_some() && stand.published().await.is_some());
        let secret = stand.secrets().get(SECRET).await.unwrap();
        let config_map = stand.config_maps().get(CONFIG_MAP).await.unwrap();
        for (object, name) in [(secret.metadata, SECRET), (config_map.metadata, CONFIG_MAP)] {
            assert_eq!((object.labels, object.annotations), (metadata(name).labels, metadata(name).annotations));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_edited_or_deleted_by_hand_is_mended() {
        let stand = Stand::new();
        let leader = stand.replica(true);
        sleep(MINUTE).await;
        for nonsense in ["{}", "not even JSON"] {
            let mut secret = stand.secrets().get(SECRET).await.unwrap();
            secret.data = Some(BTreeMap::from([(IDENTITY.to_owned(), ByteString(nonsense.as_bytes().to_vec()))]));
            stand.secrets().replace(SECRET, &PostParams::default(), &secret).await.unwrap();
            sleep(MINUTE).await;
            let identity = stand.kept().await.unwrap();
            assert_eq!(stand.published().await, Some(identity.authorities_pem()));
        }
        stand.config_maps().delete(CONFIG_MAP, &kube::api::DeleteParams::default()).await.unwrap();
        sleep(MINUTE).await;
        assert!(stand.published().await.is_some());
        assert!(leader.presented.is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn three_weeks_later_the_certificate_is_another_by_the_same_authority() {
        let stand = Stand::new();
        let _leader = stand.replica(true);
        sleep(MINUTE).await;
        let before = stand.kept().await.unwrap();
        sleep(MINUTE * 60 * 24 * 21).await;
        let after = stand.kept().await.unwrap();
        assert_eq!(before.authorities_pem(), after.authorities_pem());
        assert_ne!(before.server_pem(), after.server_pem());
    }
}
