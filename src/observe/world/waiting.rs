//! Pods that have no node yet: where their claims let them run decides which sleeping node would help.

use super::storage::Storage;
use crate::observe::pool::Pool;
use miyako_core::model::{Name, Pod, PodKey, Scheduling};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a pod said itself, before its claims were joined to it.
#[derive(Debug)]
struct Own {
    scheduling: Arc<Scheduling>,
    claims: BTreeSet<Name>,
}

/// Pods with claims and without a node.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pods: BTreeMap<PodKey, Own>,
    dirty: bool,
}

impl Waiting {
    /// Takes in a pod as it is now.
    pub(super) fn put(&mut self, pod: &Pod, claims: BTreeSet<Name>) {
        if pod.node.is_some() || claims.is_empty() {
            self.remove(&pod.key);
            return;
        }
        self.pods.insert(pod.key.clone(), Own { scheduling: Arc::clone(&pod.scheduling), claims });
        self.dirty = true;
    }

    pub(super) fn remove(&mut self, pod: &PodKey) {
        self.pods.remove(pod);
    }

    /// A claim, a volume or a class changed.
    pub(super) fn touch(&mut self) {
        self.dirty = !self.pods.is_empty();
    }

    /// Joins them anew if anything changed: few pods wait at once.
    pub(super) fn refresh(&mut self, pods: &mut BTreeMap<PodKey, Pod>, storage: &Storage, pool: &mut Pool) {
        if !std::mem::take(&mut self.dirty) {
            return;
        }
        for (key, own) in &self.pods {
            let Some(pod) = pods.get_mut(key) else { continue };
            let disks = storage.places_for_waiting(&key.namespace, &own.claims);
            let scheduling = Scheduling {
                volume_topology: disks.places,
                csi_volumes: disks.by_driver,
                ..Scheduling::clone(&own.scheduling)
            };
            pod.scheduling = pool.share(Arc::new(scheduling));
        }
    }
}
