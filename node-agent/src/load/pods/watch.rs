//! Launchers from the API server: the metadata of this node's own, followed by a watch.

use super::{Launcher, Launchers, launcher_of};
use crate::{load::cgroups::PodUid, stream::BackOff};
use futures::{StreamExt as _, pin_mut};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::ListParams,
    core::PartialObjectMeta,
    runtime::watcher::{self, Event, watcher},
};
use miyako_api::names::kubevirt;
use std::{collections::BTreeMap, path::PathBuf};
use tokio::time::sleep;

/// Why there are no launchers from the API server.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// Nothing says where the API server is.
    #[error("found no API server: {0}; run in a pod with a ServiceAccount, set KUBECONFIG, or use --pods-file")]
    Config(#[from] kube::config::InferConfigError),
    /// The kubeconfig can't be used.
    #[error("--kubeconfig {}: {source}", .path.display())]
    Kubeconfig {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        source: kube::config::KubeconfigError,
    },
    /// A client could not be made, or the API server refused.
    #[error("could not list this node's launcher pods: {0}")]
    Api(#[from] kube::Error),
}

/// Launchers on `node` whose containers may run. Those that ended stay for long: KubeVirt keeps them with their
/// finished migrations.
fn selectors(node: &str) -> (String, String) {
    let fields = format!("spec.nodeName={node},status.phase!=Succeeded,status.phase!=Failed");
    (fields, format!("{}={}", kubevirt::APP, kubevirt::LAUNCHER))
}

async fn client(kubeconfig: Option<&PathBuf>) -> Result<Client, WatchError> {
    let config = match kubeconfig {
        None => kube::Config::infer().await?,
        Some(path) => {
            let failed = |source| WatchError::Kubeconfig { path: path.clone(), source };
            let file = kube::config::Kubeconfig::read_from(path).map_err(failed)?;
            kube::Config::from_custom_kubeconfig(file, &Default::default()).await.map_err(failed)?
        }
    };
    Ok(Client::try_from(config)?)
}

/// The launchers of `node` as of now, once.
///
/// # Errors
/// When the API server can't be found, or refuses.
pub async fn list_api_server(
    node: &str,
    kubeconfig: Option<&PathBuf>,
) -> Result<BTreeMap<PodUid, Launcher>, WatchError> {
    let (fields, labels) = selectors(node);
    let pods = Api::<PartialObjectMeta<Pod>>::all(client(kubeconfig).await?);
    let list = pods.list(&ListParams::default().fields(&fields).labels(&labels)).await?;
    Ok(list.items.iter().filter_map(|pod| launcher_of(&pod.metadata)).collect())
}

/// Follows the launchers of `node`, for ever. While the API server is away, what is known stays.
pub async fn follow_api_server(node: String, kubeconfig: Option<PathBuf>, launchers: Launchers, seed: u64) {
    let mut back_off = BackOff::new(seed);
    let mut said = None;
    let mut say_once = |text: String| {
        if said.as_ref() != Some(&text) {
            tracing::warn!(error = text, "can't see this node's launcher pods; the VMs that are known go on");
            said = Some(text);
        }
    };
    let client = loop {
        match client(kubeconfig.as_ref()).await {
            Ok(client) => break client,
            Err(error) => say_once(error.to_string()),
        }
        sleep(back_off.after_failure()).await;
    };
    let (fields, labels) = selectors(&node);
    let config = watcher::Config::default().fields(&fields).labels(&labels);
    let events = watcher(Api::<PartialObjectMeta<Pod>>::all(client), config);
    pin_mut!(events);
    let mut known = Known { launchers, listing: BTreeMap::new() };
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                back_off.reset();
                known.take(event);
            }
            Err(error) => {
                say_once(error.to_string());
                sleep(back_off.after_failure()).await;
            }
        }
    }
}

/// What the watch has brought.
struct Known {
    launchers: Launchers,
    /// A list that is not complete yet; what was known before stays until then.
    listing: BTreeMap<PodUid, Launcher>,
}

impl Known {
    fn take(&mut self, event: Event<PartialObjectMeta<Pod>>) {
        match event {
            Event::Init => self.listing.clear(),
            Event::InitApply(pod) => self.listing.extend(launcher_of(&pod.metadata)),
            Event::InitDone => self.launchers.set(std::mem::take(&mut self.listing)),
            Event::Apply(pod) => {
                let Some((uid, launcher)) = launcher_of(&pod.metadata) else { return };
                let known = self.launchers.now();
                if known.get(&uid) != Some(&launcher) {
                    let mut known = (*known).clone();
                    known.insert(uid, launcher);
                    self.launchers.set(known);
                }
            }
            Event::Delete(pod) => {
                let mut known = (*self.launchers.now()).clone();
                if pod.metadata.uid.as_ref().and_then(|uid| known.remove(uid)).is_some() {
                    self.launchers.set(known);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(uid: &str, vm: &str) -> PartialObjectMeta<Pod> {
        serde_json::from_value(json!({
            "apiVersion": "meta.k8s.io/v1",
            "kind": "PartialObjectMetadata",
            "metadata": {
                "name": uid,
                "namespace": "shop",
                "uid": uid,
                "labels": {"kubevirt.io": "virt-launcher", "kubevirt.io/created-by": vm},
                "annotations": {"kubevirt.io/domain": vm},
            },
        }))
        .unwrap()
    }

    #[test]
    fn what_is_known_stays_until_a_new_list_is_complete() {
        let mut known = Known { launchers: Launchers::default(), listing: BTreeMap::new() };
        let uids = |known: &Known| known.launchers.now().keys().cloned().collect::<Vec<_>>();
        known.take(Event::Init);
        known.take(Event::InitApply(pod("a", "db")));
        assert!(uids(&known).is_empty());
        known.take(Event::InitDone);
        known.take(Event::Apply(pod("b", "web")));
        assert_eq!(uids(&known), ["a", "b"]);
        known.take(Event::Init);
        assert_eq!(uids(&known), ["a", "b"]);
        known.take(Event::InitApply(pod("b", "web")));
        known.take(Event::InitDone);
        assert_eq!(uids(&known), ["b"]);
        known.take(Event::Delete(pod("b", "web")));
        assert!(uids(&known).is_empty());
    }
}
