//! kube-scheduler, as far as launchers see it: the hard filters of [`miyako_core::fit`], and of the scores that which
//! spreads pods (`LeastAllocated`) and that which minds `PreferNoSchedule`.

use super::{ClusterStandIn, queue_key};
use crate::observe::convert;
use crate::sim::{kubevirt::time, watched::ObjectKey};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node as KubeNode, Pod as KubePod};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use miyako_core::{
    fit::{Candidate, Moment, NodeUse, Occupancy},
    model::{Node, NodeName, Pod, PodKey, PodOwner, Snapshot, TaintEffect},
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What the scheduler knows: nodes, and pods with what they ask for.
#[derive(Debug, Default)]
pub(super) struct Picture {
    snapshot: Snapshot,
    look_again: bool,
}

impl Picture {
    pub(super) fn take_nodes<'a>(&mut self, nodes: impl Iterator<Item = &'a KubeNode>) {
        self.snapshot.nodes = nodes
            .map(|node| {
                let node = Node { virt_handler_ready: true, ..convert::node::convert(node).value.node };
                (node.name.clone(), node)
            })
            .collect();
    }

    /// Notes a pod, or that it is gone. Says whether room may have become free.
    pub(super) fn take_pod(&mut self, key: &ObjectKey, pod: Option<&KubePod>) -> bool {
        let name = PodKey::new(&key.0, &key.1);
        match pod.map(|pod| convert::pod::convert(pod).value.pod) {
            Some(pod) if pod.is_active() => {
                self.snapshot.pods.insert(name, pod);
                false
            }
            _ => self.snapshot.pods.remove(&name).is_some(),
        }
    }

    pub(super) fn look_again(&mut self) {
        self.look_again = true;
    }

    /// Something failed and is to be tried again.
    pub(super) fn wants_another_look(&self) -> bool {
        self.look_again
    }

    /// The node for a pod, or what the scheduler says when there is none.
    fn place(&self, key: &ObjectKey) -> Option<Result<NodeName, String>> {
        let pod = self.snapshot.pods.get(&PodKey::new(&key.0, &key.1))?;
        let occupancy = Occupancy::new(&self.snapshot);
        // A launcher's anti-affinity towards its VM's others is kept apart from its constraints.
        let source = self.other_launcher(pod);
        let candidate = Candidate { leaves: source.as_ref(), ..Candidate::pod(pod) };
        let probe = occupancy.probe(candidate);
        let mut misfits = BTreeMap::<String, u32>::new();
        let mut best: Option<((usize, u128), &NodeUse<'_>)> = None;
        for on in occupancy.nodes() {
            match probe.fits(&on.node().name, Moment::Now) {
                Ok(()) => {
                    let score = (deterred(on.node()), fullness(on));
                    if best.is_none_or(|(other, _)| score < other) {
                        best = Some((score, on));
                    }
                }
                Err(misfit) => *misfits.entry(misfit.to_string()).or_default() += 1,
            }
        }
        Some(match best {
            Some((_, on)) => Ok(on.node().name.clone()),
            None => {
                let reasons: Vec<String> = misfits.iter().map(|(why, count)| format!("{count} {why}")).collect();
                let total = self.snapshot.nodes.len();
                Err(format!("0/{total} nodes are available: {}.", reasons.join(", ")))
            }
        })
    }

    fn other_launcher(&self, pod: &Pod) -> Option<NodeName> {
        let PodOwner::Vm { uid, target_of: Some(_), .. } = &pod.owner else { return None };
        let is_other = |other: &&Pod| {
            other.key != pod.key && matches!(&other.owner, PodOwner::Vm { uid: theirs, .. } if theirs == uid)
        };
        self.snapshot.pods.values().filter(is_other).find_map(|other| other.node.clone())
    }

    fn bind(&mut self, key: &ObjectKey, node: &NodeName) {
        if let Some(pod) = self.snapshot.pods.get_mut(&PodKey::new(&key.0, &key.1)) {
            pod.node = Some(node.clone());
        }
    }
}

fn deterred(node: &Node) -> usize {
    node.taints.iter().filter(|taint| taint.effect == TaintEffect::PreferNoSchedule).count()
}

/// How full a node's memory is by requests, in parts of a million: the emptiest is taken.
fn fullness(on: &NodeUse<'_>) -> u128 {
    u128::from(on.memory.0) * 1_000_000 / u128::from(on.node().allocatable.memory.0.max(1))
}

impl ClusterStandIn {
    /// Binds every waiting pod that fits somewhere, and tells of the others why they do not.
    pub(super) async fn schedule(&mut self, now: Timestamp) {
        if !self.picture.look_again {
            return;
        }
        let mut queue: Vec<KubePod> =
            self.waiting.keys().filter_map(|key| self.pods.get(&key.0, &key.1).cloned()).collect();
        queue.sort_by_key(queue_key);
        let mut failed = false;
        for pod in queue {
            let key = (pod.namespace().unwrap_or_default(), pod.name_any());
            let outcome = match self.picture.place(&key) {
                Some(Ok(node)) => self.bind(&key, &node).await,
                Some(Err(why)) => self.tell_unschedulable(&key, &pod, why, now).await,
                None => Ok(()),
            };
            if let Err(error) = outcome {
                tracing::debug!(%error, pod = %key.1, "the scheduler tries again");
                failed = true;
            }
        }
        self.picture.look_again = failed;
    }

    async fn bind(&mut self, key: &ObjectKey, node: &NodeName) -> kube::Result<()> {
        let api: Api<KubePod> = Api::namespaced(self.clients.scheduler.clone(), &key.0);
        let binding = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"namespace": key.0, "name": key.1},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        });
        let _: Value = api.create_subresource("binding", &key.1, &PostParams::default(), &binding).await?;
        self.waiting.remove(key);
        self.picture.bind(key, node);
        Ok(())
    }

    async fn tell_unschedulable(
        &mut self,
        key: &ObjectKey,
        pod: &KubePod,
        why: String,
        now: Timestamp,
    ) -> kube::Result<()> {
        if self.waiting.get(key) == Some(&why) {
            return Ok(());
        }
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
        let mut conditions: Vec<Value> =
            conditions.iter().filter(|one| one.type_ != "PodScheduled").map(|one| json!(one)).collect();
        conditions.push(json!({
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": why,
            "lastTransitionTime": time(now),
        }));
        let patch = Patch::Merge(json!({"status": {"phase": "Pending", "conditions": conditions}}));
        let api: Api<KubePod> = Api::namespaced(self.clients.scheduler.clone(), &key.0);
        api.patch_status(&key.1, &PatchParams::default(), &patch).await?;
        self.waiting.insert(key.clone(), why);
        Ok(())
    }
}
