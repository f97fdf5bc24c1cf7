//! One copy of equal constraints: of twenty thousand launchers most differ in nothing that decides where they run.

use miyako_core::model::Scheduling;
use std::{
    collections::{HashMap, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    sync::{Arc, Weak},
};

/// How many new values come in before the ones that nobody uses any more are swept out.
const SWEEP_EVERY: usize = 4096;

/// Shares equal values. Nothing ever iterates over it but the sweep, so its order reaches no result.
#[derive(Debug, Default)]
pub(super) struct Pool {
    shared: HashMap<u64, Vec<Weak<Scheduling>>>,
    added: usize,
}

impl Pool {
    /// How many values are kept, those included that nobody uses any more and the next sweep takes.
    pub(super) fn len(&self) -> usize {
        self.shared.values().map(Vec::len).sum()
    }

    /// The one copy of this value.
    pub(super) fn share(&mut self, value: Arc<Scheduling>) -> Arc<Scheduling> {
        let bucket = self.shared.entry(digest(&value)).or_default();
        if let Some(same) = bucket.iter().filter_map(Weak::upgrade).find(|same| **same == *value) {
            return same;
        }
        bucket.push(Arc::downgrade(&value));
        self.added += 1;
        if self.added >= SWEEP_EVERY {
            self.added = 0;
            self.shared.retain(|_, bucket| {
                bucket.retain(|weak| weak.strong_count() > 0);
                !bucket.is_empty()
            });
        }
        value
    }
}

/// Values that are equal have equal digests; what is left out only makes buckets longer.
fn digest(value: &Scheduling) -> u64 {
    let mut hasher = DefaultHasher::new();
    let requests = &value.requests;
    (requests.cpu.0, requests.memory.0, requests.ephemeral_storage.0, requests.pods).hash(&mut hasher);
    requests.extended.hash(&mut hasher);
    value.node_selector.hash(&mut hasher);
    value.host_ports.hash(&mut hasher);
    let terms = value.affinity.iter().chain(&value.anti_affinity);
    for requirement in terms.flat_map(|term| &term.selector.requirements) {
        (&requirement.key, &requirement.values).hash(&mut hasher);
    }
    value.volume_topology.len().hash(&mut hasher);
    for requirement in value.volume_topology.iter().flat_map(|place| &place.terms).flat_map(|term| &term.labels) {
        (&requirement.key, &requirement.values).hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use miyako_core::model::{Bytes, MilliCpu, Resources};

    fn asking(cpu: u64) -> Arc<Scheduling> {
        Arc::new(Scheduling { requests: Resources::new(MilliCpu(cpu), Bytes::gib(1), 1), ..Scheduling::default() })
    }

    #[test]
    fn equal_values_are_one_and_unused_ones_are_swept() {
        let mut pool = Pool::default();
        let first = pool.share(asking(100));
        assert!(Arc::ptr_eq(&first, &pool.share(asking(100))));
        assert!(!Arc::ptr_eq(&first, &pool.share(asking(200))));
        for cpu in 1000..10_000 {
            pool.share(asking(cpu));
        }
        assert!(pool.shared.len() <= SWEEP_EVERY + 2);
    }
}
