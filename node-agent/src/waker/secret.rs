//! The BMCs' accounts, from an API server that may be busy for a moment.

use k8s_openapi::api::core::v1::{Secret, SecretReference};
use kube::{Api, Client};
use miyako_api::names::ours::ALLOWED_HOSTS;
use std::{collections::BTreeMap, time::Duration};

/// How often a read is tried that fails without need.
const TRIES: usize = 5;

/// A Secret's content, with the hosts that it lists under the annotation's name, which no key of its data can have; none
/// where no Secret is named.
pub(super) type Data = Option<BTreeMap<String, Vec<u8>>>;

/// Reads each Secret once. Kept for as long as one look takes: passwords change.
pub(super) struct Secrets {
    client: Client,
    read: BTreeMap<(String, String), Result<Data, String>>,
}

impl Secrets {
    /// Nothing is read yet.
    pub(super) fn new(client: Client) -> Self {
        Self { client, read: BTreeMap::new() }
    }

    /// The Secret's content.
    ///
    /// # Errors
    ///
    /// Why it can't be read, in words for the class's owner.
    pub(super) async fn get(&mut self, reference: Option<&SecretReference>) -> Result<Data, String> {
        let Some(reference) = reference else { return Ok(None) };
        let (Some(namespace), Some(name)) = (&reference.namespace, &reference.name) else {
            return Err("secretRef needs a namespace and a name".into());
        };
        let key = (namespace.clone(), name.clone());
        if let Some(read) = self.read.get(&key) {
            return read.clone();
        }
        let secrets = Api::<Secret>::namespaced(self.client.clone(), namespace);
        let secret = patiently(|| secrets.get(name)).await;
        let data = match secret {
            Ok(secret) => {
                let hosts = secret.metadata.annotations.and_then(|mut annotations| annotations.remove(ALLOWED_HOSTS));
                let data = secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
                Ok(Some(data.chain(hosts.map(|hosts| (ALLOWED_HOSTS.to_owned(), hosts.into_bytes()))).collect()))
            }
            Err(error) => Err(format!("cannot read Secret {namespace}/{name}: {error}")),
        };
        self.read.insert(key, data.clone());
        data
    }
}

/// Reads from an API server that may be busy for a moment: a failure that is told quarantines the node.
pub(super) async fn patiently<T, F: Future<Output = kube::Result<T>>>(read: impl Fn() -> F) -> kube::Result<T> {
    let lasts = |error: &kube::Error| matches!(error, kube::Error::Api(status) if (400..500).contains(&status.code) && status.code != 429);
    for _ in 1..TRIES {
        match read().await {
            Err(error) if !lasts(&error) => tokio::time::sleep(Duration::from_secs(1)).await,
            answer => return answer,
        }
    }
    read().await
}
