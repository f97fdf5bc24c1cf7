//! What an object's coming and going does to the rest of the picture, kind by kind.

use super::{World, storage};
use crate::observe::{
    convert::{node::ObservedNode, pod::ObservedPod},
    seen::ObjectKey,
};
use miyako_core::model::{
    KubeVirt, KubeVirtProblem, Name, Namespace, Node, NodeName, PlanRecord, PodKey, PodOwner, PodPhase, Quota,
};
use std::collections::{BTreeMap, BTreeSet};

impl World {
    pub(super) fn put_namespace(&mut self, name: &Name, mut namespace: Namespace) {
        let same =
            |before: &Namespace| before.labels == namespace.labels && before.node_selector == namespace.node_selector;
        if !self.snapshot.namespaces.get(name).is_some_and(same) {
            self.vms.touch_all(|vm, _| vm.namespace == *name);
        }
        namespace.quotas = self.quotas.get(name).into_iter().flat_map(BTreeMap::values).cloned().collect();
        self.snapshot.namespaces.insert(name.clone(), namespace);
    }

    /// Quotas may come before their namespace, and outlive it: the two watches are independent.
    pub(super) fn put_quota(&mut self, key: &ObjectKey, quota: Option<Quota>) {
        let quotas = self.quotas.entry(key.namespace.clone()).or_default();
        match quota {
            Some(quota) => quotas.insert(key.name.clone(), quota),
            None => quotas.remove(&key.name),
        };
        if let Some(namespace) = self.snapshot.namespaces.get_mut(&key.namespace) {
            namespace.quotas = quotas.values().cloned().collect();
        }
        if quotas.is_empty() {
            self.quotas.remove(&key.namespace);
        }
    }

    pub(super) fn put_node(&mut self, observed: ObservedNode) {
        let mut node = observed.with_passing(&self.passing_taints(&observed.node));
        if observed.maintenance_taints.is_empty() {
            self.tainted.remove(&node.name);
        } else {
            self.tainted.insert(node.name.clone(), observed);
        }
        if let Some(power) = self.snapshot.powers.get(&node.name) {
            (node.power, node.wake_tested) = (power.phase, power.wake_tested);
        }
        node.attach_limits = self.attach_limits.get(&node.name).cloned().unwrap_or_default();
        node.virt_handler_ready = self.handlers.contains_key(&node.name);
        let before = self.snapshot.nodes.get(&node.name);
        if before.is_none_or(|before| before.labels != node.labels) {
            self.vms.touch_all(|_, own| own.node.as_ref() == Some(&node.name));
            self.migrations.touch_asking();
        }
        self.snapshot.nodes.insert(node.name.clone(), node);
    }

    /// Keys of the taints that pass with this node's sleep, as its class says.
    fn passing_taints(&self, node: &Node) -> BTreeSet<String> {
        self.policies.class_of(node).ok().flatten().map(|class| class.passing_taints.clone()).unwrap_or_default()
    }

    /// A class came, changed or went: nodes are judged by another one's word.
    pub(super) fn judge_taints(&mut self) {
        let passing: Vec<_> = self.snapshot.nodes.values().map(|node| self.passing_taints(node)).collect();
        for (node, passing) in self.snapshot.nodes.values_mut().zip(passing) {
            if let Some(observed) = self.tainted.get(&node.name) {
                node.maintenance = observed.with_passing(&passing).maintenance;
            }
            node.passing_taints = passing;
        }
    }

    pub(super) fn put_pod(&mut self, observed: ObservedPod) {
        let ObservedPod { mut pod, launcher, claims, ready_handler, descheduler, autoscaler } = observed;
        let key = pod.key.clone();
        let same =
            self.snapshot.pods.get(&key).is_some_and(|before| before.uid == pod.uid && before.owner == pod.owner);
        if pod.phase == PodPhase::Finished || !same {
            self.remove_pod(&key);
        }
        if pod.phase == PodPhase::Finished {
            self.neighbours.put_finished_descheduler(&key, descheduler);
            return;
        }
        if let (PodOwner::Vm { vm, target_of, .. }, Some(mut launcher)) = (&pod.owner, launcher) {
            launcher.scheduling = self.pool.share(launcher.scheduling);
            self.vms.put_launcher(vm, &key, launcher);
            if let Some(migration) = target_of {
                self.migrations.target(migration, Some(&key));
            }
        }
        self.put_handler(&key, pod.node.as_ref().filter(|_| ready_handler));
        if descheduler {
            self.neighbours.put_descheduler(&key, true);
        }
        if autoscaler {
            self.neighbours.put_autoscaler(&key, true);
        }
        pod.scheduling = self.pool.share(pod.scheduling);
        self.waiting.put(&pod, claims);
        self.snapshot.pods.insert(key, pod);
    }

    pub(super) fn remove_pod(&mut self, key: &PodKey) {
        self.put_handler(key, None);
        self.waiting.remove(key);
        self.neighbours.put_descheduler(key, false);
        self.neighbours.put_finished_descheduler(key, false);
        self.neighbours.put_autoscaler(key, false);
        let Some(pod) = self.snapshot.pods.remove(key) else { return };
        if let PodOwner::Vm { vm, target_of, .. } = &pod.owner {
            self.vms.remove_launcher(vm, key);
            if let Some(migration) = target_of {
                self.migrations.target(migration, None);
            }
        }
    }

    /// A virt-handler pod is ready on this node, or is no longer ready anywhere.
    fn put_handler(&mut self, pod: &PodKey, node: Option<&NodeName>) {
        if self.handler_nodes.get(pod) == node {
            return;
        }
        if let Some(before) = self.handler_nodes.remove(pod) {
            if let Some(pods) = self.handlers.get_mut(&before) {
                pods.remove(pod);
                if pods.is_empty() {
                    self.handlers.remove(&before);
                }
            }
            self.judge_handler(&before);
        }
        if let Some(node) = node {
            self.handler_nodes.insert(pod.clone(), node.clone());
            self.handlers.entry(node.clone()).or_default().insert(pod.clone());
            self.judge_handler(node);
        }
    }

    fn judge_handler(&mut self, node: &NodeName) {
        if let Some(known) = self.snapshot.nodes.get_mut(node) {
            known.virt_handler_ready = self.handlers.contains_key(node);
        }
    }

    /// KubeVirt allows one CR; of several the first that works counts.
    pub(super) fn judge_kubevirt(&mut self) {
        let working = self.kubevirts.values().find(|kubevirt| kubevirt.problem.is_none());
        let missing = || KubeVirt { problem: Some(KubeVirtProblem::Missing), ..KubeVirt::default() };
        let mut kubevirt = working.or(self.kubevirts.values().next()).cloned().unwrap_or_else(missing);
        // Whether anything is rolled out is judged with its age.
        kubevirt.rolling_out = self.snapshot.kubevirt.rolling_out;
        let before = &self.snapshot.kubevirt;
        let renders_alike = before.node_selectors == kubevirt.node_selectors
            && before.cpu_allocation_ratio == kubevirt.cpu_allocation_ratio;
        if !renders_alike {
            self.vms.touch_all(|_, _| true);
        }
        self.snapshot.kubevirt = kubevirt;
    }

    pub(super) fn put_plan(&mut self, plan: PlanRecord) {
        if plan.phase.is_final() {
            self.over.insert(plan.name.clone(), plan.ended.unwrap_or(plan.decided));
        }
        self.history.put(&plan);
        self.power_steps.put(&plan);
        if plan.phase.is_final() {
            self.snapshot.plans.remove(&plan.name);
        } else {
            self.snapshot.plans.insert(plan.name.clone(), plan);
        }
    }

    pub(super) fn touch_users_of(&mut self, claim: &storage::ClaimKey) {
        let users: Vec<_> = self.storage.users_of(claim).cloned().collect();
        users.iter().for_each(|vm| self.vms.touch(vm));
    }

    pub(super) fn touch_users_of_volume(&mut self, volume: &Name) {
        // Before everything is listed all VMs are joined anyway.
        if self.freshness.synced() {
            let users: Vec<_> = self.storage.users_of_volume(volume).cloned().collect();
            users.iter().for_each(|vm| self.vms.touch(vm));
        }
    }
}
