//! Our own certificate, kept in a Secret and its CA published in a ConfigMap.
//!
//! Every replica shows what the Secret holds; only a replica that may write renews it. Writes carry the version that
//! was read, so two that renew at once do not undo each other's work.

use super::{
    identity::{Identity, IdentityError},
    presented::Presented,
};
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
use miyako_core::model::Timestamp;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time::{MissedTickBehavior, interval};

/// The Secret's name.
pub const SECRET: &str = "miyako-wire-tls";

/// The ConfigMap's name; its key is [`CA_FILE`].
pub const CONFIG_MAP: &str = "miyako-wire-ca";

/// The one key in the Secret.
const IDENTITY: &str = "identity.json";

/// How often the dates are looked at when nothing else happens.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);

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
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// Whether this replica may write, asked before each write: the leader may.
    pub may_write: Arc<dyn Fn() -> bool + Send + Sync>,
}

enum Seen {
    Secret(Option<Box<Secret>>),
    ConfigMap(Option<Box<ConfigMap>>),
    Tick,
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
        let mut ticks = interval(LOOK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = stream::select_all([
            secrets
                .default_backoff()
                .filter_map(async |seen| Some(Seen::Secret(note(seen, SECRET)?.map(Box::new))))
                .boxed(),
            config_maps
                .default_backoff()
                .filter_map(async |seen| Some(Seen::ConfigMap(note(seen, CONFIG_MAP)?.map(Box::new))))
                .boxed(),
            stream::unfold(ticks, async |mut ticks| {
                ticks.tick().await;
                Some((Seen::Tick, ticks))
            })
            .boxed(),
        ]);
        let mut world = World::default();
        while let Some(event) = seen.next().await {
            match event {
                Seen::Secret(secret) => world.secret = Some(secret),
                Seen::ConfigMap(config_map) => world.config_map = Some(config_map),
                Seen::Tick => {}
            }
            if let Err(error) = self.act(&world).await {
                tracing::error!(%error, "could not keep the wire's certificate; trying again");
            }
        }
    }

    async fn act(&self, world: &World) -> Result<(), KeptError> {
        let Some(secret) = &world.secret else { return Ok(()) };
        // What can't be shown is no better than what is not there.
        let current = secret.as_deref().and_then(read_identity).filter(|identity| {
            let (certificate, key) = identity.server_pem();
            self.presented
                .show(certificate.as_bytes(), key.as_bytes())
                .inspect_err(|error| tracing::warn!(secret = SECRET, %error, "can't be shown; to be written anew"))
                .is_ok()
        });
        if !(self.may_write)() {
            return Ok(());
        }
        if let Some(renewed) = Identity::renewed(current.as_ref(), (self.clock)())? {
            tracing::info!("renewing the wire's certificate");
            // The watch brings it back, and then it is shown and published.
            return self.write_secret(secret.as_deref(), &renewed).await;
        }
        if let (Some(identity), Some(config_map)) = (current, &world.config_map) {
            self.publish(config_map.as_deref(), &identity.authorities_pem()).await?;
        }
        Ok(())
    }

    async fn write_secret(&self, before: Option<&Secret>, identity: &Identity) -> Result<(), KeptError> {
        let data = BTreeMap::from([(IDENTITY.to_owned(), ByteString(serde_json::to_vec(identity)?))]);
        let metadata = self.metadata(SECRET, before.map(|secret| &secret.metadata));
        let secret = Secret { metadata, data: Some(data), type_: Some("Opaque".to_owned()), ..Secret::default() };
        write(&self.client, &self.namespace, SECRET, &secret, before.is_some()).await
    }

    async fn publish(&self, before: Option<&ConfigMap>, authorities_pem: &str) -> Result<(), KeptError> {
        let published = before.and_then(|before| before.data.as_ref()?.get(CA_FILE));
        if published.is_some_and(|published| published == authorities_pem) {
            return Ok(());
        }
        let data = BTreeMap::from([(CA_FILE.to_owned(), authorities_pem.to_owned())]);
        let metadata = self.metadata(CONFIG_MAP, before.map(|before| &before.metadata));
        let config_map = ConfigMap { metadata, data: Some(data), ..ConfigMap::default() };
        write(&self.client, &self.namespace, CONFIG_MAP, &config_map, before.is_some()).await
    }

    /// What is there keeps its labels and annotations: they belong to whoever made it, as a rule to Helm.
    fn metadata(&self, name: &str, before: Option<&ObjectMeta>) -> ObjectMeta {
        match before {
            Some(before) => ObjectMeta { managed_fields: None, ..before.clone() },
            None => ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some(self.namespace.clone()),
                labels: Some(BTreeMap::from([(ours::MANAGED_BY.to_owned(), ours::MIYAKO.to_owned())])),
                ..ObjectMeta::default()
            },
        }
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
