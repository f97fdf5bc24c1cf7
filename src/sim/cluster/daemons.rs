//! The DaemonSet controller: one pod for every node whose taints it tolerates, and rollouts that replace the pods of
//! nodes that don't answer at once and the others one by one (Kubernetes: `pkg/controller/daemon/{daemon_controller,
//! update}.go`). A pod whose node has a `NoSchedule` taint that it does not tolerate stays where it is, and is not
//! replaced once it is gone. One that is deleted on a node that sleeps goes at once, where the real one goes when its
//! kubelet is back.

use super::ClusterStandIn;
use crate::sim::watched::ObjectKey;
use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{Node, Pod, Taint, Toleration},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Of which version of its set's template a pod is.
const REVISION: &str = "pod-template-generation";

/// What the controller adds to every pod: these taints, with these effects, it tolerates.
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];

/// The uid of the DaemonSet that a pod belongs to.
fn set_of(pod: &Pod) -> Option<&str> {
    let owners = pod.metadata.owner_references.iter().flatten();
    owners.into_iter().find(|owner| owner.kind == "DaemonSet").map(|owner| owner.uid.as_str())
}

fn revision(set: &DaemonSet) -> String {
    set.metadata.generation.unwrap_or(1).to_string()
}

fn is_updated(set: &DaemonSet, pod: &Pod) -> bool {
    pod.labels().get(REVISION).is_some_and(|made| *made == revision(set))
}

/// Everything that a set's pods tolerate.
fn tolerations(set: &DaemonSet) -> Vec<Toleration> {
    let template = set.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let own = template.and_then(|spec| spec.tolerations.clone()).unwrap_or_default();
    let added = TOLERATED.map(|(key, effect)| Toleration {
        key: Some(key.into()),
        operator: Some("Exists".into()),
        effect: Some(effect.into()),
        ..Toleration::default()
    });
    own.into_iter().chain(added).collect()
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let any = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|it| it.is_empty() || it == found);
    any(&toleration.effect, &taint.effect)
        && any(&toleration.key, &taint.key)
        && (toleration.operator.as_deref() == Some("Exists")
            || toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default())
}

/// Whether a node has no taint of these effects that is not tolerated.
fn admits(node: &Node, tolerations: &[Toleration], effects: &[&str]) -> bool {
    let mut taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    taints.all(|taint| {
        !effects.contains(&taint.effect.as_str()) || tolerations.iter().any(|toleration| tolerates(toleration, taint))
    })
}

fn is_ready(conditions: impl Iterator<Item = (String, String)>) -> bool {
    conditions.into_iter().any(|(kind, status)| kind == "Ready" && status == "True")
}

/// Whether a node's kubelet answers.
pub(super) fn answers(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    is_ready(conditions.map(|condition| (condition.type_.clone(), condition.status.clone())))
}

fn runs(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    is_ready(conditions.map(|condition| (condition.type_.clone(), condition.status.clone())))
}

/// The node that a pod is on or is meant for.
fn node_of(pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    if let Some(node) = spec.node_name.as_ref().filter(|node| !node.is_empty()) {
        return Some(node.clone());
    }
    let required =
        spec.affinity.as_ref()?.node_affinity.as_ref()?.required_during_scheduling_ignored_during_execution.as_ref()?;
    let mut fields = required.node_selector_terms.iter().flat_map(|term| term.match_fields.iter().flatten());
    fields.find(|field| field.key == "metadata.name")?.values.as_ref()?.first().cloned()
}

/// A set's pod for a node, as the controller makes it.
pub(super) fn pod_for(set: &DaemonSet, node: &str) -> Value {
    let template = set.spec.as_ref().map(|spec| json!(spec.template)).unwrap_or_default();
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "namespace": set.namespace(),
            "name": format!("{}-{node}-{}", set.name_any(), revision(set)),
            "labels": template["metadata"]["labels"],
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "DaemonSet", "name": set.name_any(), "uid": set.uid(),
                "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "spec": template["spec"],
    });
    pod["metadata"]["labels"][REVISION] = json!(revision(set));
    pod["spec"]["tolerations"] = json!(tolerations(set));
    let here = json!({"key": "metadata.name", "operator": "In", "values": [node]});
    pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] =
        json!({"nodeSelectorTerms": [{"matchFields": [here]}]});
    pod
}

/// What one set lacks and has too much.
#[derive(Debug, Default)]
struct Work {
    /// Pods to be made.
    make: Vec<Value>,
    /// Names of pods to be deleted.
    delete: Vec<String>,
    /// Nodes that are to have a pod, that have one, that have one though they should not, one that runs, a new one.
    counts: [usize; 5],
}

impl Work {
    fn of(set: &DaemonSet, nodes: &[&Node], pods: &BTreeMap<String, Vec<&Pod>>) -> Self {
        let tolerations = tolerations(set);
        let mut work = Self::default();
        let mut unavailable = 0_usize;
        let mut replaceable = Vec::new();
        for node in nodes {
            let pods = pods.get(&node.name_any()).map(Vec::as_slice).unwrap_or_default();
            let failed = |pod: &&&Pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Failed");
            work.delete.extend(pods.iter().filter(failed).map(|pod| pod.name_any()));
            let pod = pods.iter().find(|pod| !failed(pod));
            let wanted = admits(node, &tolerations, &["NoSchedule", "NoExecute"]);
            let available = pod.is_some_and(|pod| runs(pod) && answers(node));
            match pod {
                None if pods.is_empty() && wanted => work.make.push(pod_for(set, &node.name_any())),
                None => {}
                Some(pod) if !admits(node, &tolerations, &["NoExecute"]) => work.delete.push(pod.name_any()),
                Some(pod) if is_updated(set, pod) => {}
                // It does nothing for anybody, so it is replaced whatever else is unavailable.
                Some(pod) if !available => work.delete.push(pod.name_any()),
                Some(pod) => replaceable.push(pod.name_any()),
            }
            unavailable += usize::from(pods.iter().any(|pod| is_updated(set, pod)) && !available);
            unavailable += usize::from(pods.is_empty() && wanted);
            let updated = pod.is_some_and(|pod| is_updated(set, pod));
            let counted =
                [wanted, wanted && pod.is_some(), !wanted && pod.is_some(), wanted && available, wanted && updated];
            for (count, counts) in work.counts.iter_mut().zip(counted) {
                *count += usize::from(counts);
            }
        }
        // `maxUnavailable` is 1 unless somebody says otherwise, and nobody here does.
        work.delete.extend(replaceable.into_iter().take(1_usize.saturating_sub(unavailable)));
        work
    }

    fn status(&self, set: &DaemonSet) -> Value {
        let [desired, current, too_much, ready, updated] = self.counts;
        json!({
            "desiredNumberScheduled": desired, "currentNumberScheduled": current, "numberMisscheduled": too_much,
            "numberReady": ready, "updatedNumberScheduled": updated, "observedGeneration": set.metadata.generation,
        })
    }
}

impl ClusterStandIn {
    /// Makes and deletes pods of DaemonSets, if anything changed that they depend on.
    pub(super) async fn keep_daemons(&mut self) {
        if !std::mem::take(&mut self.daemons_changed) {
            return;
        }
        let nodes: Vec<&Node> = self.nodes.all().collect();
        let mut pods: BTreeMap<&str, BTreeMap<String, Vec<&Pod>>> = BTreeMap::new();
        for pod in self.daemons.iter().filter_map(|key| self.pods.get(&key.0, &key.1)) {
            if let (Some(set), Some(node)) = (set_of(pod), node_of(pod)) {
                pods.entry(set).or_default().entry(node).or_default().push(pod);
            }
        }
        let none = BTreeMap::new();
        let mut todo: Vec<(DaemonSet, Work)> = Vec::new();
        for set in self.daemon_sets.all() {
            let own = set.metadata.uid.as_deref().and_then(|uid| pods.get(uid)).unwrap_or(&none);
            todo.push((set.clone(), Work::of(set, &nodes, own)));
        }
        for (set, work) in todo {
            if let Err(error) = self.work_on(&set, work).await {
                tracing::debug!(%error, set = %set.name_any(), "the DaemonSet controller tries again");
                self.daemons_changed = true;
            }
        }
    }

    async fn work_on(&mut self, set: &DaemonSet, work: Work) -> kube::Result<()> {
        let namespace = set.namespace().unwrap_or_default();
        let api: Api<Pod> = Api::namespaced(self.clients.daemon_sets.clone(), &namespace);
        let status = work.status(set);
        for name in work.delete {
            match api.delete(&name, &DeleteParams::default()).await {
                Err(error) if miyako_api::answer::is_absent(&error) => {}
                answer => drop(answer?),
            }
        }
        for pod in work.make {
            let pod: Pod = serde_json::from_value(pod).map_err(kube::Error::SerdeError)?;
            match api.create(&PostParams::default(), &pod).await {
                Err(kube::Error::Api(answer)) if answer.is_already_exists() => {}
                answer => self.pods.put(answer?),
            }
        }
        // A set that nobody ever changed keeps the status that it was made with: nobody reads it.
        if set.metadata.generation.unwrap_or(1) > 1 {
            let known = set.status.as_ref().map(|status| json!(status)).unwrap_or_default();
            let told =
                status.as_object().is_some_and(|all| all.iter().all(|(key, value)| known.get(key) == Some(value)));
            if !told {
                let sets: Api<DaemonSet> = Api::namespaced(self.clients.daemon_sets.clone(), &namespace);
                let patch = Patch::Merge(json!({ "status": status }));
                let told = sets.patch_status(&set.name_any(), &PatchParams::default(), &patch).await?;
                self.daemon_sets.put(told);
            }
        }
        Ok(())
    }

    /// Notes what changed, as far as DaemonSets depend on it.
    pub(super) fn note_daemons(&mut self, nodes_changed: bool, changed: &BTreeSet<ObjectKey>) {
        self.daemons_changed |= nodes_changed || !self.daemon_sets.take_changed().is_empty();
        for key in changed {
            let was = self.daemons.remove(key);
            let is = self.pods.get(&key.0, &key.1).is_some_and(|pod| set_of(pod).is_some());
            if is {
                self.daemons.insert(key.clone());
            }
            self.daemons_changed |= was || is;
        }
    }
}
