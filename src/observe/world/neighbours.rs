//! Programs of others that turn nodes on, wait for them or spread what we pack: which node, and whether now.

use super::super::convert::neighbours::{NodeSays, PoweredHost};
use super::super::seen::{Kind, ObjectKey};
use miyako_core::model::{Name, Neighbour, Node, NodeName, PodKey, Selector, Uid};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of them.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    hosts: BTreeMap<ObjectKey, PoweredHost>,
    /// Pools that change their nodes' configuration, with those nodes.
    rollouts: BTreeMap<Name, Selector>,
    /// What nodes say that say anything.
    says: BTreeMap<NodeName, NodeSays>,
    /// Pods of a cluster autoscaler that removes nodes which do not answer.
    autoscalers: BTreeSet<PodKey>,
    /// Pods of a descheduler.
    deschedulers: BTreeSet<PodKey>,
    /// CronJobs that start one now and then.
    scheduled: BTreeSet<ObjectKey>,
    /// Pods of a descheduler that are over and still there.
    finished: BTreeSet<PodKey>,
    /// The API server shows no CronJobs: whether such a pod comes again nobody can say.
    no_cron_jobs: bool,
}

impl Neighbours {
    pub(super) fn put_host(&mut self, key: &ObjectKey, host: Option<PoweredHost>) {
        match host {
            Some(host) => self.hosts.insert(key.clone(), host),
            None => self.hosts.remove(key),
        };
    }

    pub(super) fn put_rollout(&mut self, key: &ObjectKey, nodes: Option<Selector>) {
        match nodes {
            Some(nodes) => self.rollouts.insert(key.name.clone(), nodes),
            None => self.rollouts.remove(&key.name),
        };
    }

    pub(super) fn put_node(&mut self, node: &NodeName, says: NodeSays) {
        if says == NodeSays::default() {
            self.says.remove(node);
        } else {
            self.says.insert(node.clone(), says);
        }
    }

    pub(super) fn forget_node(&mut self, node: &NodeName) {
        self.says.remove(node);
    }

    pub(super) fn put_autoscaler(&mut self, pod: &PodKey, is_one: bool) {
        if is_one {
            self.autoscalers.insert(pod.clone());
        } else {
            self.autoscalers.remove(pod);
        }
    }

    pub(super) fn put_descheduler(&mut self, pod: &PodKey, is_one: bool) {
        if is_one {
            self.deschedulers.insert(pod.clone());
        } else {
            self.deschedulers.remove(pod);
        }
    }

    pub(super) fn put_finished_descheduler(&mut self, pod: &PodKey, is_one: bool) {
        if is_one {
            self.finished.insert(pod.clone());
        } else {
            self.finished.remove(pod);
        }
    }

    pub(super) fn finished(&self) -> impl Iterator<Item = &PodKey> {
        self.finished.iter()
    }

    pub(super) fn show_cron_jobs(&mut self, shown: bool) {
        self.no_cron_jobs = !shown;
    }

    pub(super) fn put_scheduled_descheduler(&mut self, job: &ObjectKey, is_one: bool) {
        if is_one {
            self.scheduled.insert(job.clone());
        } else {
            self.scheduled.remove(job);
        }
    }

    pub(super) fn remove(&mut self, kind: Kind, key: &ObjectKey) {
        match kind {
            Kind::BareMetalHost => self.put_host(key, None),
            Kind::MachineConfigPool => self.put_rollout(key, None),
            _ => self.put_scheduled_descheduler(key, false),
        }
    }

    /// The objects of a kind that matter.
    pub(super) fn known(&self, kind: Kind) -> Vec<ObjectKey> {
        let cluster = |name: &Name| ObjectKey { namespace: Name::from(""), name: name.clone() };
        match kind {
            Kind::BareMetalHost => self.hosts.keys().cloned().collect(),
            Kind::MachineConfigPool => self.rollouts.keys().map(cluster).collect(),
            _ => self.scheduled.iter().cloned().collect(),
        }
    }

    /// A descheduler that runs, or that will run again.
    pub(super) fn descheduler(&self) -> Option<String> {
        let scheduled = || self.scheduled.first().map(|job| format!("of CronJob {job}"));
        let finished = || self.finished.first().filter(|_| self.no_cron_jobs);
        let again =
            || finished().map(|pod| format!("{pod}, which is over and may come again (CronJobs can't be read),"));
        self.deschedulers.first().map(ToString::to_string).or_else(scheduled).or_else(again)
    }

    /// Who keeps which node from sleeping now.
    pub(super) fn refresh(&self, nodes: &BTreeMap<NodeName, Node>, found: &mut BTreeMap<NodeName, Neighbour>) {
        found.clear();
        let removes = self.says.values().any(|says| says.karpenter.is_some()) || !self.autoscalers.is_empty();
        if self.hosts.is_empty() && self.rollouts.is_empty() && !removes {
            return;
        }
        let (silent, autoscaler) = (NodeSays::default(), self.autoscalers.first());
        let hosts = HostIndex::of(&self.hosts);
        for node in nodes.values() {
            let pool = self.rollouts.iter().find(|(_, pool)| pool.matches(&node.labels));
            let pool = pool.map(|(name, _)| Neighbour::MachineConfigPool { pool: name.clone() });
            let says = self.says.get(&node.name).unwrap_or(&silent);
            let id = says.provider_id.as_deref();
            // A host stays in the way when the rollout is over, so it is named first.
            let host = hosts.of_node(&node.name, id);
            let host = host.map(|host| Neighbour::Metal3 { host: Name::from(host.to_string().as_str()) });
            let karpenter = || says.karpenter.clone().map(|pool| Neighbour::Karpenter { pool });
            let autoscaler = || {
                let pod = autoscaler.filter(|_| !says.scale_down_disabled)?;
                Some(Neighbour::ClusterAutoscaler { pod: Name::from(pod.to_string().as_str()) })
            };
            if let Some(neighbour) = host.or_else(karpenter).or_else(autoscaler).or(pool) {
                found.insert(node.name.clone(), neighbour);
            }
        }
    }
}

/// Hosts by what a node says of its own.
struct HostIndex<'a> {
    by_uid: BTreeMap<&'a Uid, &'a ObjectKey>,
    by_name: BTreeMap<&'a str, &'a ObjectKey>,
    all: &'a BTreeMap<ObjectKey, PoweredHost>,
}

impl<'a> HostIndex<'a> {
    fn of(all: &'a BTreeMap<ObjectKey, PoweredHost>) -> Self {
        let by_uid = all.iter().map(|(key, host)| (&host.uid, key)).collect();
        let by_name = all.keys().map(|key| (key.name.as_str(), key)).collect();
        Self { by_uid, by_name, all }
    }

    /// The host that a node runs on. Its `providerID` says so: `metal3://NAMESPACE/HOST/MACHINE`, of older releases
    /// `metal3://UID`, on OpenShift `baremetalhost:///NAMESPACE/HOST/UID`. Where a node names no provider that is Metal3's,
    /// a host of its name is taken for its own: it is better not to sleep than to be turned on again and again.
    fn of_node(&self, node: &NodeName, provider_id: Option<&str>) -> Option<&'a ObjectKey> {
        let id =
            provider_id.and_then(|id| id.strip_prefix("metal3://").or_else(|| id.strip_prefix("baremetalhost:///")));
        let Some(id) = id else { return self.by_name.get(node.as_str()).copied() };
        let mut words = id.split('/');
        match (words.next(), words.next()) {
            (Some(uid), None) => self.by_uid.get(&Uid::new(uid)).copied(),
            (Some(namespace), Some(name)) => {
                let key = ObjectKey { namespace: Name::from(namespace), name: Name::from(name) };
                self.all.get_key_value(&key).map(|(key, _)| key)
            }
            (None, _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use miyako_core::model::Resources;

    fn key(namespace: &str, name: &str) -> ObjectKey {
        ObjectKey { namespace: Name::from(namespace), name: Name::from(name) }
    }

    fn nodes(names: &[&str]) -> BTreeMap<NodeName, Node> {
        let node = |name: &&str| (NodeName::new(name), Node::new(name, Resources::default()));
        names.iter().map(node).collect()
    }

    #[test]
    fn a_host_is_found_by_each_form_of_a_nodes_provider_id_and_by_its_name() {
        let mut all = Neighbours::default();
        all.put_host(&key("metal", "host-a"), Some(PoweredHost { uid: Uid::new("uid-a") }));
        all.put_host(&key("metal", "n4"), Some(PoweredHost { uid: Uid::new("uid-4") }));
        let ids = [
            ("n1", Some("metal3://metal/host-a/machine")),
            ("n2", Some("metal3://uid-a")),
            ("n3", Some("baremetalhost:///metal/host-a/uid-a")),
            ("n4", None),
            ("n5", Some("metal3://metal/other/machine")),
            ("n6", Some("metal3://")),
        ];
        for (node, id) in ids {
            all.put_node(&NodeName::new(node), NodeSays { provider_id: id.map(str::to_owned), ..NodeSays::default() });
        }
        let mut found = BTreeMap::new();
        all.refresh(&nodes(&["n1", "n2", "n3", "n4", "n5", "n6"]), &mut found);
        let host = |name: &str| Neighbour::Metal3 { host: Name::from(name) };
        let expected = [("n1", "metal/host-a"), ("n2", "metal/host-a"), ("n3", "metal/host-a"), ("n4", "metal/n4")];
        assert_eq!(found, expected.map(|(node, name)| (NodeName::new(node), host(name))).into());
        for host in [key("metal", "host-a"), key("metal", "n4")] {
            all.remove(Kind::BareMetalHost, &host);
        }
        all.refresh(&nodes(&["n1"]), &mut found);
        assert_eq!(found, BTreeMap::new());
    }

    #[test]
    fn a_scheduled_descheduler_is_one_between_its_runs() {
        let mut all = Neighbours::default();
        let job = key("kube-system", "descheduler");
        all.put_scheduled_descheduler(&job, true);
        assert_eq!(all.descheduler().as_deref(), Some("of CronJob kube-system/descheduler"));
        all.remove(Kind::CronJob, &job);
        assert_eq!(all.descheduler(), None);
        // Between its runs only its finished pods tell of it, where CronJobs can't be read.
        let pod = PodKey { namespace: Name::from("kube-system"), name: Name::from("descheduler-1") };
        all.put_finished_descheduler(&pod, true);
        assert_eq!(all.descheduler(), None, "no CronJob makes it again");
        all.show_cron_jobs(false);
        assert!(all.descheduler().is_some_and(|told| told.starts_with("kube-system/descheduler-1")));
        all.put_finished_descheduler(&pod, false);
        assert_eq!(all.descheduler(), None);
    }
}
